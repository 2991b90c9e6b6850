/*
 * key.c - key files: what turns a password into the repository's key
 */
#include "base/secret.h"
#include "repository/file/key.h"
#include "repository/format/id.h"
#include "repository/format/json.h"
#include "repository/format/timestamp.h"

#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

/*
 * 32 MiB and about a fifth of a second: OWASP's equal of its first choice, and
 * what restic's own calibration comes to on a common machine.
 */
const KvssKeyCost kvss_key_cost = { .n = 32768, .r = 8, .p = 3 };

#define SALT_LENGTH 64u

#define KEY_FILE_MAX (64u << 10)
#define SALT_MAX 1024u
#define SEALED_MAX 4096u

/** A key file as it stands. */
typedef struct {
    char *kdf;
    uint64_t n, r, p;
    GBytes *salt, *data;
} KeyFile;

static void
key_file_clear(KeyFile *file)
{
    g_free(file->kdf);
    g_clear_pointer(&file->salt, g_bytes_unref);
    g_clear_pointer(&file->data, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KeyFile, key_file_clear)

static void
key_file_read_member(KeyFile *file, KvssJson *json, const KvssJsonText *key)
{
    if (kvss_json_text_is(key, "kdf") && !file->kdf)
        file->kdf = kvss_json_string(json);
    else if (kvss_json_text_is(key, "N"))
        file->n = kvss_json_uint(json);
    else if (kvss_json_text_is(key, "r"))
        file->r = kvss_json_uint(json);
    else if (kvss_json_text_is(key, "p"))
        file->p = kvss_json_uint(json);
    else if (kvss_json_text_is(key, "salt") && !file->salt)
        file->salt = kvss_json_base64(json, SALT_MAX);
    else if (kvss_json_text_is(key, "data") && !file->data)
        file->data = kvss_json_base64(json, SEALED_MAX);
    else
        kvss_json_skip(json);
}

static bool
key_file_read(KeyFile *file, const void *text, size_t length, GError **error)
{
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key))
        key_file_read_member(file, &json, &key);
    if (!kvss_json_finish(&json, error))
        return false;
    if (!file->kdf || !file->salt || !file->data)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "it lacks kdf, salt or data");
    if (!g_str_equal(file->kdf, "scrypt"))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                          "its key derivation \"%s\" is not known", file->kdf);
    return true;
}

/*
 * One of the master's parts, of exactly @length bytes. Base64 has no character that
 * JSON must escape, so the text is decoded where it lies, and no copy is left.
 */
static void
read_part(KvssJson *json, uint8_t *out, size_t length)
{
    KvssJsonText text = kvss_json_text(json);
    uint8_t *part = kvss_secret_new(text.length + 3);
    gint state = 0;
    guint save = 0;

    if (!text.has_escapes
        && g_base64_decode_step(text.at, text.length, part, &state, &save) == length)
        memcpy(out, part, length);
    else
        kvss_json_fail(json, "a key has the wrong length");
    OPENSSL_cleanse(&save, sizeof save);
    kvss_secret_free(part);
}

static void
read_mac_part(KvssJson *json, const KvssJsonText *key, KvssKey *master, bool *has_k, bool *has_r)
{
    bool is_k = kvss_json_text_is(key, "k");

    if (!is_k && !kvss_json_text_is(key, "r")) {
        kvss_json_skip(json);
        return;
    }
    read_part(json, is_k ? master->mac_k : master->mac_r, sizeof master->mac_k);
    *(is_k ? has_k : has_r) = true;
}

static bool
master_parse(const void *text, size_t length, KvssKey *out_master, GError **error)
{
    bool has_k = false, has_r = false, has_encrypt = false;
    g_autoptr(KvssKey) master = kvss_key_new();
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (kvss_json_text_is(&key, "encrypt")) {
            read_part(&json, master->encrypt, sizeof master->encrypt);
            has_encrypt = true;
        } else if (kvss_json_text_is(&key, "mac")) {
            kvss_json_object(&json);
            while (kvss_json_key(&json, &key))
                read_mac_part(&json, &key, master, &has_k, &has_r);
        } else {
            kvss_json_skip(&json);
        }
    }
    if (!has_k || !has_r || !has_encrypt)
        kvss_json_fail(&json, "a part of the key is missing");
    if (!kvss_json_finish(&json, error))
        return false;
    *out_master = *master;
    return true;
}

static bool
unseal_master(const KeyFile *file, const KvssKey *user, KvssKey *out_master, GError **error)
{
    size_t length = g_bytes_get_size(file->data);
    g_autoptr(KvssCrypto) crypto = NULL;
    g_autoptr(GError) local_error = NULL;
    uint8_t *sealed;
    bool ok;

    if (length < KVSS_CRYPTO_OVERHEAD)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "its data is too short");
    crypto = kvss_crypto_new(user);
    sealed = kvss_secret_new(length);
    memcpy(sealed, g_bytes_get_data(file->data, NULL), length);
    ok = kvss_crypto_open(crypto, sealed, length, &local_error);
    if (!ok)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_PASSWORD,
                   "the password does not open it");
    else
        ok = master_parse(sealed + KVSS_CRYPTO_IV_LENGTH, length - KVSS_CRYPTO_OVERHEAD,
                          out_master, error);
    kvss_secret_free(sealed);
    return ok;
}

bool
kvss_key_parse(const void *text, size_t length, const char *password, KvssKey *out_master,
               GError **error)
{
    g_auto(KeyFile) file = { 0 };
    g_autoptr(KvssKey) user = NULL;
    gsize salt_length;
    const uint8_t *salt;

    if (!key_file_read(&file, text, length, error))
        return false;
    user = kvss_key_new();
    salt = g_bytes_get_data(file.salt, &salt_length);
    return kvss_crypto_scrypt(password, salt, salt_length, file.n, file.r, file.p, user, error)
        && unseal_master(&file, user, out_master, error);
}

/* What a file's name says of its content: whether it is still what was written. */
static bool
key_file_is_intact(const char *name, const void *data, size_t length)
{
    uint8_t id[KVSS_ID_LENGTH];
    char hex[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_of(data, length, id);
    kvss_id_to_hex(id, hex);
    return strcmp(hex, name) == 0;
}

static bool
try_key_file(KvssBackend *backend, const char *name, const char *password, KvssKey *out_master,
             GError **error)
{
    g_autoptr(GBytes) text
        = kvss_backend_read_all(backend, KVSS_FILE_KEY, name, KEY_FILE_MAX, error);
    g_autoptr(GError) local_error = NULL;
    gsize length;
    const void *data;

    if (!text)
        return false;
    data = g_bytes_get_data(text, &length);
    if (kvss_key_parse(data, length, password, out_master, &local_error))
        return true;
    /* A bit that turned in the salt or in the sealed part looks like a wrong password. */
    if (!key_file_is_intact(name, data, length))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "key %.8s is damaged: its content does not have the hash that names it, "
                          "and no other key opens with this password", name);
    g_propagate_prefixed_error(error, g_steal_pointer(&local_error), "key %.8s: ", name);
    return false;
}

bool
kvss_key_find(KvssBackend *backend, const char *password, KvssKey *out_master,
              char out_name[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(backend, KVSS_FILE_KEY, error);
    g_autoptr(GError) trouble = NULL; /* the first that is not a wrong password */

    if (!files)
        return false;
    if (files->len == 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "repository %s has no key file", backend->location);
    for (guint i = 0; i < files->len; i++) {
        g_autoptr(GError) local_error = NULL;

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, out_name);
        g_debug("trying key %.8s", out_name);
        if (try_key_file(backend, out_name, password, out_master, &local_error))
            return true;
        if (!trouble && !g_error_matches(local_error, KVSS_REPOSITORY_ERROR,
                                         KVSS_REPOSITORY_ERROR_PASSWORD))
            trouble = g_steal_pointer(&local_error);
    }
    if (trouble) {
        g_propagate_error(error, g_steal_pointer(&trouble));
        return false;
    }
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_PASSWORD,
                      "wrong password for repository %s", backend->location);
}

bool
kvss_key_open(KvssBackend *backend, const char *password, KvssKey *out_master, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];

    return kvss_key_find(backend, password, out_master, name, error);
}

void
kvss_key_generate(KvssKey *out_key)
{
    kvss_crypto_random(out_key, sizeof *out_key);
}

static void
append_base64(GString *out, const char *name, const uint8_t *data, size_t length)
{
    g_autofree char *text = g_base64_encode(data, length);

    g_string_append_printf(out, "\"%s\":\"%s\"", name, text);
}

/* What the master's JSON has at most: 4 characters for 3 bytes, and the words around. */
#define MASTER_TEXT_MAX (sizeof(KvssKey) / 3 * 4 + 100)

static char *
put_text(char *at, const char *text)
{
    size_t length = strlen(text);

    memcpy(at, text, length);
    return at + length;
}

static char *
put_base64(char *at, const uint8_t *data, size_t length)
{
    gint state = 0, save = 0;

    at += g_base64_encode_step(data, length, FALSE, at, &state, &save);
    return at + g_base64_encode_close(FALSE, at, &state, &save);
}

/* {"mac":{"k":...,"r":...},"encrypt":...}; returns its length. */
static size_t
put_master(char *text, const KvssKey *master)
{
    char *at = put_text(text, "{\"mac\":{\"k\":\"");

    at = put_base64(at, master->mac_k, sizeof master->mac_k);
    at = put_text(at, "\",\"r\":\"");
    at = put_base64(at, master->mac_r, sizeof master->mac_r);
    at = put_text(at, "\"},\"encrypt\":\"");
    at = put_base64(at, master->encrypt, sizeof master->encrypt);
    return (size_t) (put_text(at, "\"}") - text);
}

/* The master's JSON, sealed with the user's key; it is never plain outside memory for secrets. */
static GBytes *
seal_master(const KvssKey *user, const KvssKey *master)
{
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(user);
    uint8_t *text = kvss_secret_new(MASTER_TEXT_MAX + KVSS_CRYPTO_OVERHEAD);
    size_t length = put_master((char *) text + KVSS_CRYPTO_IV_LENGTH, master);
    GBytes *sealed;

    kvss_crypto_seal(crypto, text, length);
    sealed = g_bytes_new(text, length + KVSS_CRYPTO_OVERHEAD);
    kvss_secret_free(text);
    return sealed;
}

static GString *
key_file_text(const KvssKeyCost *cost, const uint8_t *salt, GBytes *sealed)
{
    g_autofree char *created = kvss_time_format(g_get_real_time());
    GString *json = g_string_new("{\"created\":\"");

    g_string_append(json, created);
    g_string_append(json, "\",\"username\":");
    kvss_json_append_string(json, g_get_user_name());
    g_string_append(json, ",\"hostname\":");
    kvss_json_append_string(json, g_get_host_name());
    g_string_append_printf(json, ",\"kdf\":\"scrypt\",\"N\":%u,\"r\":%u,\"p\":%u,", cost->n,
                           cost->r, cost->p);
    append_base64(json, "salt", salt, SALT_LENGTH);
    g_string_append_c(json, ',');
    append_base64(json, "data", g_bytes_get_data(sealed, NULL), g_bytes_get_size(sealed));
    g_string_append_c(json, '}');
    return json;
}

bool
kvss_key_add_named(KvssBackend *backend, const char *password, const KvssKey *master,
                   const KvssKeyCost *cost, char out_name[KVSS_ID_HEX_LENGTH + 1],
                   GError **error)
{
    g_autoptr(KvssKey) user = kvss_key_new();
    g_autoptr(GBytes) sealed = NULL;
    g_autoptr(GString) json = NULL;
    uint8_t salt[SALT_LENGTH], id[KVSS_ID_LENGTH];

    kvss_crypto_random(salt, sizeof salt);
    if (!kvss_crypto_scrypt(password, salt, sizeof salt, cost->n, cost->r, cost->p, user, error))
        return false;
    sealed = seal_master(user, master);
    json = key_file_text(cost, salt, sealed);
    kvss_id_of(json->str, json->len, id);
    kvss_id_to_hex(id, out_name);
    return kvss_backend_put(backend, KVSS_FILE_KEY, out_name, json->str, json->len, error);
}

bool
kvss_key_add(KvssBackend *backend, const char *password, const KvssKey *master,
             const KvssKeyCost *cost, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];

    return kvss_key_add_named(backend, password, master, cost, name, error);
}

/* ---- what it says of itself ---- */

void
kvss_key_note_clear(KvssKeyNote *note)
{
    g_clear_pointer(&note->created, g_free);
    g_clear_pointer(&note->username, g_free);
    g_clear_pointer(&note->hostname, g_free);
}

bool
kvss_key_note_parse(const void *text, size_t length, KvssKeyNote *out_note, GError **error)
{
    g_auto(KvssKeyNote) note = { 0 };
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        char **member = kvss_json_text_is(&key, "created") ? &note.created
            : kvss_json_text_is(&key, "username")          ? &note.username
            : kvss_json_text_is(&key, "hostname")          ? &note.hostname
                                                           : NULL;

        if (member && !*member)
            *member = kvss_json_string(&json);
        else
            kvss_json_skip(&json);
    }
    if (!kvss_json_finish(&json, error))
        return false;
    *out_note = note;
    note = (KvssKeyNote) { 0 };
    return true;
}
