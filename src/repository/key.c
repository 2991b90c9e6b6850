/*
 * key.c - key files: what turns a password into the repository's key
 */
#include "repository/id.h"
#include "repository/json.h"
#include "repository/key.h"
#include "repository/timestamp.h"

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

/* One of the master's parts, of exactly @length bytes. */
static void
read_part(KvssJson *json, uint8_t *out, size_t length)
{
    g_autoptr(GBytes) part = kvss_json_base64(json, length);

    if (part && g_bytes_get_size(part) == length)
        memcpy(out, g_bytes_get_data(part, NULL), length);
    else
        kvss_json_fail(json, "a key has the wrong length");
}

static bool
master_parse(const void *text, size_t length, KvssKey *out_master, GError **error)
{
    bool has_k = false, has_r = false, has_encrypt = false;
    KvssKey master = { 0 };
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (kvss_json_text_is(&key, "encrypt")) {
            read_part(&json, master.encrypt, sizeof master.encrypt);
            has_encrypt = true;
        } else if (kvss_json_text_is(&key, "mac")) {
            kvss_json_object(&json);
            while (kvss_json_key(&json, &key)) {
                bool is_k = kvss_json_text_is(&key, "k");

                if (is_k || kvss_json_text_is(&key, "r"))
                    read_part(&json, is_k ? master.mac_k : master.mac_r, 16);
                else
                    kvss_json_skip(&json);
                has_k |= is_k;
                has_r |= !is_k;
            }
        } else {
            kvss_json_skip(&json);
        }
    }
    if (!has_k || !has_r || !has_encrypt)
        kvss_json_fail(&json, "a part of the key is missing");
    if (!kvss_json_finish(&json, error))
        return false;
    *out_master = master;
    kvss_key_wipe(&master);
    return true;
}

static bool
unseal_master(const KeyFile *file, const KvssKey *user, KvssKey *out_master, GError **error)
{
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(user);
    size_t length = g_bytes_get_size(file->data);
    g_autofree uint8_t *sealed = g_memdup2(g_bytes_get_data(file->data, NULL), length);
    g_autoptr(GError) local_error = NULL;
    bool ok;

    if (length < KVSS_CRYPTO_OVERHEAD)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "its data is too short");
    if (!kvss_crypto_open(crypto, sealed, length, &local_error))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_PASSWORD,
                          "the password does not open it");
    ok = master_parse(sealed + KVSS_CRYPTO_IV_LENGTH, length - KVSS_CRYPTO_OVERHEAD, out_master,
                      error);
    OPENSSL_cleanse(sealed, length);
    return ok;
}

bool
kvss_key_parse(const void *text, size_t length, const char *password, KvssKey *out_master,
               GError **error)
{
    g_auto(KeyFile) file = { 0 };
    KvssKey user;
    gsize salt_length;
    const uint8_t *salt;
    bool ok;

    if (!key_file_read(&file, text, length, error))
        return false;
    salt = g_bytes_get_data(file.salt, &salt_length);
    if (!kvss_crypto_scrypt(password, salt, salt_length, file.n, file.r, file.p, &user, error))
        return false;
    ok = unseal_master(&file, &user, out_master, error);
    kvss_key_wipe(&user);
    return ok;
}

static bool
try_key_file(KvssBackend *backend, const char *name, const char *password, KvssKey *out_master,
             GError **error)
{
    g_autoptr(GBytes) text
        = kvss_backend_read_all(backend, KVSS_FILE_KEY, name, KEY_FILE_MAX, error);
    gsize length;
    const void *data;

    if (!text)
        return false;
    data = g_bytes_get_data(text, &length);
    if (kvss_key_parse(data, length, password, out_master, error))
        return true;
    g_prefix_error(error, "key %.8s: ", name);
    return false;
}

bool
kvss_key_open(KvssBackend *backend, const char *password, KvssKey *out_master, GError **error)
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
        char name[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, name);
        if (try_key_file(backend, name, password, out_master, &local_error))
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

/* {"mac":{"k":...,"r":...},"encrypt":...}, sealed with the user's key. */
static GBytes *
seal_master(const KvssKey *user, const KvssKey *master)
{
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(user);
    g_autoptr(GString) json = g_string_new("{\"mac\":{");
    uint8_t *sealed;
    size_t length;

    append_base64(json, "k", master->mac_k, sizeof master->mac_k);
    g_string_append_c(json, ',');
    append_base64(json, "r", master->mac_r, sizeof master->mac_r);
    g_string_append(json, "},");
    append_base64(json, "encrypt", master->encrypt, sizeof master->encrypt);
    g_string_append_c(json, '}');

    length = json->len + KVSS_CRYPTO_OVERHEAD;
    sealed = g_malloc(length);
    memcpy(sealed + KVSS_CRYPTO_IV_LENGTH, json->str, json->len);
    kvss_crypto_seal(crypto, sealed, json->len);
    OPENSSL_cleanse(json->str, json->len);
    return g_bytes_new_take(sealed, length);
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
kvss_key_add(KvssBackend *backend, const char *password, const KvssKey *master,
             const KvssKeyCost *cost, GError **error)
{
    g_autoptr(GBytes) sealed = NULL;
    g_autoptr(GString) json = NULL;
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint8_t salt[SALT_LENGTH], id[KVSS_ID_LENGTH];
    KvssKey user;

    kvss_crypto_random(salt, sizeof salt);
    if (!kvss_crypto_scrypt(password, salt, sizeof salt, cost->n, cost->r, cost->p, &user, error))
        return false;
    sealed = seal_master(&user, master);
    kvss_key_wipe(&user);

    json = key_file_text(cost, salt, sealed);
    kvss_id_of(json->str, json->len, id);
    kvss_id_to_hex(id, name);
    return kvss_backend_put(backend, KVSS_FILE_KEY, name, json->str, json->len, error);
}
