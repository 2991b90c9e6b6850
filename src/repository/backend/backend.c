/*
 * backend.c - the wrapper around KvssBackendOps: place in every error, the
 * choice of a backend by location
 */
#include "repository/backend/backend.h"

#include <string.h>

static const char *const type_names[KVSS_FILE_N_TYPES] = {
    [KVSS_FILE_CONFIG] = "config", [KVSS_FILE_KEY] = "key",     [KVSS_FILE_LOCK] = "lock",
    [KVSS_FILE_SNAPSHOT] = "snapshot", [KVSS_FILE_INDEX] = "index", [KVSS_FILE_DATA] = "pack",
};

const char *
kvss_file_type_name(KvssFileType type)
{
    g_assert(type < KVSS_FILE_N_TYPES);
    return type_names[type];
}

typedef KvssBackend *(*BackendNew)(const char *location, GError **error);

/* Locations by their beginning; a path is what begins like none of them. */
static const struct {
    const char *scheme;
    BackendNew open, create; /* NULL: known to restic, not to this build */
} schemes[] = {
    { "rest:", kvss_backend_open_rest, kvss_backend_create_rest },
    { "s3:", kvss_backend_open_s3, kvss_backend_create_s3 },
    { "sftp:", NULL, NULL },
    { "rclone:", NULL, NULL },
    { "b2:", NULL, NULL },
    { "azure:", NULL, NULL },
    { "gs:", NULL, NULL },
    { "swift:", NULL, NULL },
};

static KvssBackend *
throw_unsupported(const char *scheme, GError **error)
{
    kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_UNSUPPORTED,
               "repository %s...: this build knows local folders, rest: and s3: only", scheme);
    return NULL;
}

static KvssBackend *
backend_new(const char *location, bool create, GError **error)
{
    const char *path = g_str_has_prefix(location, "local:") ? location + strlen("local:") : location;

    for (size_t i = 0; i < G_N_ELEMENTS(schemes); i++) {
        BackendNew make = create ? schemes[i].create : schemes[i].open;

        if (g_str_has_prefix(location, schemes[i].scheme))
            return make ? make(location, error) : throw_unsupported(schemes[i].scheme, error);
    }
    return create ? kvss_backend_create_local(path, error) : kvss_backend_open_local(path, error);
}

char *
kvss_repository_location_text(const char *location)
{
    return g_str_has_prefix(location, "rest:") ? kvss_rest_location_text(location)
                                               : g_strdup(location);
}

KvssBackend *
kvss_backend_open(const char *location, GError **error)
{
    return backend_new(location, false, error);
}

KvssBackend *
kvss_backend_create(const char *location, GError **error)
{
    return backend_new(location, true, error);
}

void
kvss_backend_free(KvssBackend *backend)
{
    if (backend)
        backend->ops->free(backend);
}

/* Adds the place; "no room" becomes our own code, with what to do. Returns: @ok. */
static bool
finish_call(KvssBackend *backend, const char *what, const char *name, bool ok, GError **error)
{
    if (ok || !error || !*error)
        return ok;
    if (g_error_matches(*error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE)) {
        g_autofree char *why = g_strdup((*error)->message);

        g_clear_error(error);
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NO_SPACE,
                          "repository %s is full (%s); nothing in it was damaged: make room "
                          "there and run again", backend->location, why);
    }
    if (name && *name)
        g_prefix_error(error, "repository %s: %s %.8s: ", backend->location, what, name);
    else
        g_prefix_error(error, "repository %s: %s: ", backend->location, what);
    return false;
}

GArray *
kvss_backend_list(KvssBackend *backend, KvssFileType type, GError **error)
{
    g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));
    bool ok = backend->ops->list(backend, type, files, error);

    if (!finish_call(backend, kvss_file_type_name(type), NULL, ok, error))
        return NULL;
    return g_steal_pointer(&files);
}

bool
kvss_backend_size(KvssBackend *backend, KvssFileType type, const char *name, uint64_t *out_size,
                  GError **error)
{
    return finish_call(backend, kvss_file_type_name(type), name,
                       backend->ops->size(backend, type, name, out_size, error), error);
}

bool
kvss_backend_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
                  void *buffer, size_t length, GError **error)
{
    bool ok = backend->ops->read(backend, type, name, offset, buffer, length, error);

    return finish_call(backend, kvss_file_type_name(type), name, ok, error);
}

static GBytes *
read_all_at_once(KvssBackend *backend, KvssFileType type, const char *name, size_t max_length,
                 GError **error)
{
    GBytes *bytes = NULL;
    bool ok = backend->ops->read_all(backend, type, name, max_length, &bytes, error);

    (void) finish_call(backend, kvss_file_type_name(type), name, ok, error);
    return bytes;
}

GBytes *
kvss_backend_read_all(KvssBackend *backend, KvssFileType type, const char *name,
                      size_t max_length, GError **error)
{
    g_autofree uint8_t *data = NULL;
    uint64_t size;

    if (backend->ops->read_all)
        return read_all_at_once(backend, type, name, max_length, error);
    if (!kvss_backend_size(backend, type, name, &size, error))
        return NULL;
    if (size > max_length) {
        bool ok = kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                             "%" G_GUINT64_FORMAT " bytes are more than such a file may have", size);

        (void) finish_call(backend, kvss_file_type_name(type), name, ok, error);
        return NULL;
    }
    data = g_malloc(size + 1);
    if (!kvss_backend_read(backend, type, name, 0, data, size, error))
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&data), size);
}

bool
kvss_backend_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
                 size_t length, GError **error)
{
    return finish_call(backend, kvss_file_type_name(type), name,
                       backend->ops->put(backend, type, name, data, length, error), error);
}

bool
kvss_backend_remove(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
{
    return finish_call(backend, kvss_file_type_name(type), name,
                       backend->ops->remove(backend, type, name, error), error);
}

bool
kvss_backend_drop(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
{
    g_autoptr(GError) local_error = NULL;

    if (kvss_backend_remove(backend, type, name, &local_error)
        || g_error_matches(local_error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&local_error));
    return false;
}

/* No file has this name. */
bool
kvss_backend_check_may_remove(KvssBackend *backend, KvssFileType type, GError **error)
{
    g_autofree char *name = g_strnfill(KVSS_ID_HEX_LENGTH, '0');

    return kvss_backend_drop(backend, type, name, error);
}

bool
kvss_backend_sync(KvssBackend *backend, GError **error)
{
    return finish_call(backend, "sync", NULL, backend->ops->sync(backend, error), error);
}

void
kvss_backend_count_on(KvssBackend *backend, KvssFileType type, const char *name)
{
    if (backend->ops->count_on)
        backend->ops->count_on(backend, type, name);
}

void
kvss_backend_drop_remains(KvssBackend *backend)
{
    if (backend->ops->drop_remains)
        backend->ops->drop_remains(backend);
}

bool
kvss_backend_is_read_only(KvssBackend *backend)
{
    return backend->ops->is_read_only && backend->ops->is_read_only(backend);
}

bool
kvss_backend_is_remote(KvssBackend *backend)
{
    return backend->ops->is_remote;
}

KvssSpool *
kvss_spool_new(KvssBackend *backend, GError **error)
{
    KvssSpool *spool = backend->ops->spool_new(backend, error);

    (void) finish_call(backend, "new pack", NULL, spool != NULL, error);
    return spool;
}

bool
kvss_spool_append(KvssSpool *spool, const void *data, size_t length, GError **error)
{
    KvssBackend *backend = spool->backend;

    return finish_call(backend, "new pack", NULL,
                       backend->ops->spool_append(spool, data, length, error), error);
}

bool
kvss_spool_store(KvssSpool *spool, KvssFileType type, const char *name, GError **error)
{
    KvssBackend *backend = spool->backend;

    return finish_call(backend, kvss_file_type_name(type), name,
                       backend->ops->spool_store(spool, type, name, error), error);
}

void
kvss_spool_free(KvssSpool *spool)
{
    if (spool)
        spool->backend->ops->spool_free(spool);
}
