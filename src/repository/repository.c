/*
 * repository.c - create, open, close
 */
#include "repository/file/document.h"
#include "repository/format/json.h"
#include "repository/format/polynomial.h"
#include "repository/format/snapshot.h"
#include "repository/lock/lock-note.h"
#include "repository/repository-private.h"

#include <string.h>

G_DEFINE_QUARK(kvss-repository-error-quark, kvss_repository_error)

#define VERSION 2

/* How often somebody else's lock is looked at anew, and how soon a cancel is noticed. */
#define WAIT_MIN_US G_USEC_PER_SEC
#define WAIT_MAX_US (10 * G_USEC_PER_SEC)
#define WAIT_CANCEL_US (G_USEC_PER_SEC / 5)

/* ---- the config file: sealed JSON, never compressed ---- */

static bool
config_write(KvssBackend *backend, const KvssKey *key, const char *id, GError **error)
{
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(key);
    g_autofree char *json = g_strdup_printf(
        "{\"version\":%d,\"id\":\"%s\",\"chunker_polynomial\":\"%" G_GINT64_MODIFIER "x\"}",
        VERSION, id, kvss_polynomial_random());
    size_t length = strlen(json);
    g_autofree uint8_t *sealed = g_malloc(length + KVSS_CRYPTO_OVERHEAD);

    memcpy(sealed + KVSS_CRYPTO_IV_LENGTH, json, length);
    kvss_crypto_seal(crypto, sealed, length);
    return kvss_backend_put(backend, KVSS_FILE_CONFIG, "", sealed, length + KVSS_CRYPTO_OVERHEAD,
                            error);
}

static bool
config_check_version(uint64_t version, GError **error)
{
    if (version == VERSION)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                      "config: repository version %" G_GUINT64_FORMAT " is not known to this "
                      "build, which knows version 2 (\"restic migrate upgrade_repo_v2\" makes "
                      "version 2 of version 1)", version);
}

bool
kvss_config_parse(const void *text, size_t length, char out_id[KVSS_ID_HEX_LENGTH + 1],
                  GError **error)
{
    uint8_t id[KVSS_ID_LENGTH];
    bool has_id = false;
    uint64_t version = 0;
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (kvss_json_text_is(&key, "version")) {
            version = kvss_json_uint(&json);
        } else if (kvss_json_text_is(&key, "id")) {
            kvss_json_id(&json, id);
            has_id = true;
        } else {
            kvss_json_skip(&json);
        }
    }
    if (!has_id)
        kvss_json_fail(&json, "the id is missing");
    if (!kvss_json_finish(&json, error)) {
        g_prefix_error(error, "config is damaged: ");
        return false;
    }
    if (!config_check_version(version, error))
        return false;
    kvss_id_to_hex(id, out_id);
    return true;
}

static bool
config_read(KvssBackend *backend, KvssCodecPool *codecs, char out_id[KVSS_ID_HEX_LENGTH + 1],
            GError **error)
{
    g_autoptr(KvssCodec) codec = NULL;
    g_autoptr(GBytes) json = NULL;
    g_autoptr(GBytes) stored
        = kvss_backend_read_all(backend, KVSS_FILE_CONFIG, "", KVSS_CONFIG_MAX, error);

    if (!stored)
        return false;
    codec = kvss_codec_take(codecs);
    json = kvss_codec_open_document(codec, stored, KVSS_CONFIG_MAX, error);
    if (!json) {
        g_prefix_error(error, "config is damaged: ");
        return false;
    }
    return kvss_config_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json), out_id, error);
}

/* ---- create ---- */

/* The config comes last: until it is there, the folder is no repository. */
static bool
fill_new(KvssBackend *backend, const char *password, const KvssKeyCost *cost, const char *id,
         GError **error)
{
    g_autoptr(KvssKey) master = kvss_key_new();

    kvss_key_generate(master);
    return kvss_key_add(backend, password, master, cost, error)
        && config_write(backend, master, id, error);
}

bool
kvss_repository_init_at_cost(const char *location, const char *password, const KvssKeyCost *cost,
                             char **out_id, GError **error)
{
    g_autoptr(KvssBackend) backend = NULL;
    char hex[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];

    g_return_val_if_fail(password && *password, false);
    backend = kvss_backend_create(location, error);
    if (!backend)
        return false;
    kvss_crypto_random(id, sizeof id);
    kvss_id_to_hex(id, hex);
    if (!fill_new(backend, password, cost, hex, error))
        return false; /* freeing the backend takes back what was made */
    if (out_id)
        *out_id = g_strdup(hex);
    return true;
}

bool
kvss_repository_init(const char *location, const char *password, char **out_id, GError **error)
{
    return kvss_repository_init_at_cost(location, password, &kvss_key_cost, out_id, error);
}

/* ---- open ---- */

static bool
open_keys(KvssRepository *repository, const char *password, GError **error)
{
    g_autoptr(KvssKey) master = kvss_key_new();

    if (!kvss_key_find(repository->backend, password, master, repository->key, error))
        return false;
    repository->codecs = kvss_codec_pool_new(master);
    return true;
}

/*
 * Looking at a repository on read-only media needs no lock: nobody removes
 * anything through this mount, and there is no way to make one.
 */
static bool
open_lock(KvssRepository *repository, const char *state_dir, GError **error)
{
    g_autoptr(GError) local_error = NULL;

    if (!kvss_repository_drop_stale_locks(state_dir, false, NULL, error)
        || !kvss_lock_notes_drop_at(state_dir, repository->backend, error))
        return false;
    repository->lock = kvss_lock_take(repository->backend, repository->codecs, state_dir,
                                      repository->mode == KVSS_REPOSITORY_REMOVE, &local_error);
    if (repository->lock)
        return true;
    if (repository->mode == KVSS_REPOSITORY_LOOK
        && kvss_backend_is_read_only(repository->backend)) {
        g_debug("no lock: %s", local_error->message);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local_error));
    return false;
}

/*
 * From one look to the next: longer each time, and a little at random, so that
 * two who gave way to each other do not do so again.
 */
static bool
pause_before_look(gint64 *pause_us, gint64 end_us, GCancellable *cancellable, GError **error)
{
    gint64 pause = *pause_us + g_random_int_range(0, (gint32) (*pause_us / 4));
    gint64 until = MIN(g_get_monotonic_time() + pause, end_us), left;

    while ((left = until - g_get_monotonic_time()) > 0) {
        if (!kvss_check_cancelled(cancellable, error))
            return false;
        g_usleep((gulong) MIN(left, WAIT_CANCEL_US));
    }
    *pause_us = MIN(*pause_us * 2, WAIT_MAX_US);
    return kvss_check_cancelled(cancellable, error);
}

/* As open_lock(); while somebody's lock is in the way, again and again within the limit. */
static bool
wait_for_lock(KvssRepository *repository, const char *state_dir, const KvssLockWait *wait,
              GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64) wait->limit_ms * 1000;
    gint64 pause_us = WAIT_MIN_US;

    for (bool is_first = true;; is_first = false) {
        g_autoptr(GError) trouble = NULL;

        if (open_lock(repository, state_dir, &trouble))
            return true;
        if (!g_error_matches(trouble, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED)
            || g_get_monotonic_time() >= end_us) {
            g_propagate_error(error, g_steal_pointer(&trouble));
            return false;
        }
        if (is_first && wait->begin)
            wait->begin(trouble, wait->data);
        if (!pause_before_look(&pause_us, end_us, wait->cancellable, error)) {
            g_prefix_error(error, "while waiting for others in the repository: ");
            return false;
        }
    }
}

KvssRepository *
kvss_repository_open_patiently(const char *location, const char *password,
                               KvssRepositoryMode mode, const char *cache_dir,
                               const char *state_dir, const KvssLockWait *wait, GError **error)
{
    static const KvssLockWait not_at_all = { 0 };
    g_autoptr(KvssRepository) repository = g_new0(KvssRepository, 1);

    repository->mode = mode;
    repository->state_dir = g_strdup(state_dir);
    repository->snapshots = kvss_snapshot_table_new();
    repository->backend = kvss_backend_open(location, error);
    if (!repository->backend || !open_keys(repository, password, error)
        || !config_read(repository->backend, repository->codecs, repository->id, error)
        || !wait_for_lock(repository, state_dir, wait ? wait : &not_at_all, error))
        return NULL;

    if (mode != KVSS_REPOSITORY_LOOK)
        kvss_backend_drop_remains(repository->backend);
    if (cache_dir)
        repository->cache_dir = g_build_filename(cache_dir, repository->id, NULL);
    repository->index
        = kvss_index_new(repository->backend, repository->codecs, repository->cache_dir);
    if (mode == KVSS_REPOSITORY_LOOK)
        kvss_index_pass_over_damage(repository->index);
    return g_steal_pointer(&repository);
}

KvssRepository *
kvss_repository_open(const char *location, const char *password, KvssRepositoryMode mode,
                     const char *cache_dir, const char *state_dir, GError **error)
{
    return kvss_repository_open_patiently(location, password, mode, cache_dir, state_dir, NULL,
                                          error);
}

/* ---- a config that is damaged ---- */

/* True: it is there, ours to read, and cannot be. */
static bool
config_is_damaged(KvssRepository *repository, GError **error)
{
    g_autoptr(GError) trouble = NULL;

    if (config_read(repository->backend, repository->codecs, repository->id, &trouble))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_REFUSED,
                          "the config is not damaged");
    if (g_error_matches(trouble, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT))
        return true;
    g_propagate_error(error, g_steal_pointer(&trouble));
    return false;
}

/* Locks are sealed with the key and do not need the config. */
bool
kvss_repository_renew_config(const char *location, const char *password, const char *state_dir,
                             char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    g_autoptr(KvssRepository) repository = g_new0(KvssRepository, 1);
    uint8_t id[KVSS_ID_LENGTH];

    repository->mode = KVSS_REPOSITORY_REMOVE;
    repository->backend = kvss_backend_open(location, error);
    if (!repository->backend || !open_keys(repository, password, error)
        || !config_is_damaged(repository, error) || !open_lock(repository, state_dir, error))
        return false;
    kvss_crypto_random(id, sizeof id);
    kvss_id_to_hex(id, out_id);
    return config_write(repository->backend, kvss_codec_pool_key(repository->codecs), out_id,
                        error);
}

void
kvss_repository_free(KvssRepository *repository)
{
    if (!repository)
        return;
    kvss_lock_free(repository->lock);
    kvss_index_free(repository->index);
    kvss_codec_pool_free(repository->codecs);
    kvss_backend_free(repository->backend);
    g_clear_pointer(&repository->snapshots, g_hash_table_unref);
    g_free(repository->cache_dir);
    g_free(repository->state_dir);
    g_free(repository);
}

const char *
kvss_repository_folder(const KvssRepository *repository)
{
    return kvss_backend_is_remote(repository->backend) ? NULL : repository->backend->location;
}

const char *
kvss_repository_key(const KvssRepository *repository)
{
    return repository->key;
}

const char *
kvss_repository_id(const KvssRepository *repository)
{
    return repository->id;
}

const char *
kvss_repository_cache_dir(const KvssRepository *repository)
{
    return repository->cache_dir;
}
