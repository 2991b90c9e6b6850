/*
 * remote.c - what backends of servers have in common
 */
#include "repository/backend/remote.h"

#include <string.h>

const char *
kvss_remote_type_path(KvssFileType type)
{
    static const char *const paths[KVSS_FILE_N_TYPES] = {
        [KVSS_FILE_CONFIG] = "config", [KVSS_FILE_KEY] = "keys/",
        [KVSS_FILE_LOCK] = "locks/",   [KVSS_FILE_SNAPSHOT] = "snapshots/",
        [KVSS_FILE_INDEX] = "index/",  [KVSS_FILE_DATA] = "data/",
    };

    return paths[type];
}

void
kvss_remote_init(KvssRemoteBackend *remote, const KvssBackendOps *ops,
                 const KvssRemoteOps *server, const char *location)
{
    remote->backend.ops = ops;
    remote->backend.location = g_strdup(location);
    remote->server = server;
    remote->uploads = kvss_uploads_new(&remote->backend);
}

void
kvss_remote_clear(KvssRemoteBackend *remote)
{
    KvssBackend *backend = &remote->backend;

    kvss_uploads_free(remote->uploads);
    for (guint i = 0; remote->new_keys && i < remote->new_keys->len; i++)
        (void) !backend->ops->remove(backend, KVSS_FILE_KEY,
                                     g_ptr_array_index(remote->new_keys, i), NULL);
    g_clear_pointer(&remote->new_keys, g_ptr_array_unref);
    g_clear_pointer(&backend->location, g_free);
}

/* ---- reading ---- */

bool
kvss_remote_size(KvssBackend *backend, KvssFileType type, const char *name, uint64_t *out_size,
                 GError **error)
{
    KvssRemoteBackend *self = (KvssRemoteBackend *) backend;
    g_autofree char *path = self->server->file_path(self, type, name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "HEAD", .path = path };

    if (!self->server->send(self, &request, &answer, error))
        return false;
    if (answer.content_length == G_MAXUINT64)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "the server does not tell the size of %s", path);
    *out_size = answer.content_length;
    return true;
}

bool
kvss_remote_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
                 void *buffer, size_t length, GError **error)
{
    KvssRemoteBackend *self = (KvssRemoteBackend *) backend;
    g_autofree char *path = self->server->file_path(self, type, name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = {
        .method = "GET", .path = path, .into = buffer, .into_length = length, .offset = offset,
    };

    if (length == 0)
        return true;
    if (!self->server->send(self, &request, &answer, error))
        return false;
    return answer.status == 206 || kvss_http_throw(&request, &answer, error);
}

bool
kvss_remote_read_all(KvssBackend *backend, KvssFileType type, const char *name, size_t max_length,
                     GBytes **out_bytes, GError **error)
{
    KvssRemoteBackend *self = (KvssRemoteBackend *) backend;
    g_autofree char *path = self->server->file_path(self, type, name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "GET", .path = path, .max_answer = max_length };

    if (!self->server->send(self, &request, &answer, error))
        return false;
    *out_bytes = g_steal_pointer(&answer.body);
    return true;
}

bool
kvss_remote_config_is(KvssBackend *backend, const void *data, size_t length)
{
    g_autoptr(GBytes) there = NULL;

    return kvss_remote_read_all(backend, KVSS_FILE_CONFIG, "", length, &there, NULL)
        && g_bytes_get_size(there) == length
        && memcmp(g_bytes_get_data(there, NULL), data, length) == 0;
}

/* ---- is it a repository? ---- */

/* What cannot be looked at cannot be opened: MISSING, with the reason. */
static bool
look_for_config(KvssRemoteBackend *self, bool *out_there, GError **error)
{
    g_autoptr(GError) why = NULL;
    uint64_t size;

    *out_there = kvss_remote_size(&self->backend, KVSS_FILE_CONFIG, "", &size, &why);
    if (*out_there || g_error_matches(why, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                      "repository %s: %s", self->backend.location, why->message);
}

bool
kvss_remote_check_there(KvssRemoteBackend *remote, GError **error)
{
    bool there;

    return look_for_config(remote, &there, error)
        && (there
            || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "%s is not a repository: it has no config file",
                          remote->backend.location));
}

bool
kvss_remote_check_absent(KvssRemoteBackend *remote, GError **error)
{
    bool there;

    return look_for_config(remote, &there, error)
        && (!there
            || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                          "%s is a repository already", remote->backend.location));
}

/* ---- creating ---- */

void
kvss_remote_begin_creation(KvssRemoteBackend *remote)
{
    remote->new_keys = g_ptr_array_new_with_free_func(g_free);
}

void
kvss_remote_end_creation(KvssRemoteBackend *remote)
{
    g_clear_pointer(&remote->new_keys, g_ptr_array_unref);
}

void
kvss_remote_note_put(KvssRemoteBackend *remote, KvssFileType type, const char *name)
{
    if (remote->new_keys && type == KVSS_FILE_KEY)
        g_ptr_array_add(remote->new_keys, g_strdup(name));
}
