/*
 * s3.c - a repository in a bucket of an S3 server, as restic lays it out
 *
 *   PREFIX/config  PREFIX/keys/ID  PREFIX/data/1f/1f8a...  and so on
 *
 * An object is there whole or not at all, and durable when the server says so;
 * its hash is signed with the request, so that a server refuses what was
 * changed on its way. Every name but the config's is the hash of its content:
 * storing twice is storing once, and a request whose answer was lost is sent
 * again. Only the config may be overwritten by another's, so it is created
 * with a condition ("if nobody has") where the server keeps it.
 */
#include "repository/backend/read-ahead.h"
#include "repository/backend/remote.h"
#include "repository/backend/s3-listing.h"
#include "repository/backend/s3-server.h"
#include "repository/backend/s3-sign.h"
#include "repository/format/id.h"

#include <string.h>

#define HASH_HEADER "x-amz-content-sha256: "

/* 64 million packs of 16 MiB are 1 PiB: more than that is a server that never ends. */
#define FILES_MAX (64u << 20)

/* Without conditions: how long another's overwriting of a config is waited for. */
#define SETTLE_US (2 * G_USEC_PER_SEC)

typedef struct {
    KvssRemoteBackend remote;
    KvssS3Server *server;
    KvssReadAhead *ahead;
    bool has_conditions;    /* created: the server keeps If-None-Match */
} S3Backend;

/* KvssRemoteOps */
static char *
file_path(KvssRemoteBackend *remote, KvssFileType type, const char *name)
{
    const char *folder = kvss_remote_type_path(type);
    g_autofree char *key = NULL;

    if (type == KVSS_FILE_CONFIG)
        key = g_strdup(folder);
    else if (type == KVSS_FILE_DATA)
        key = g_strdup_printf("%s%.2s/%s", folder, name, name);
    else
        key = g_strconcat(folder, name, NULL);
    return kvss_s3_server_path(((S3Backend *) remote)->server, key, NULL);
}

static bool
send_request(KvssRemoteBackend *remote, const KvssHttpRequest *request, KvssHttpAnswer *answer,
             GError **error)
{
    return kvss_s3_server_send(((S3Backend *) remote)->server, request, answer, error);
}

/* ---- reading ---- */

static bool
s3_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset, void *buffer,
        size_t length, GError **error)
{
    S3Backend *self = (S3Backend *) backend;

    return (type == KVSS_FILE_DATA && length > 0
            && kvss_read_ahead_serve(self->ahead, name, offset, buffer, length))
        || kvss_remote_read(backend, type, name, offset, buffer, length, error);
}

/* KvssReadAheadFetch: a range of which only the beginning need be there. */
static GBytes *
s3_fetch(KvssBackend *backend, const char *name, uint64_t offset, size_t max_length,
         GError **error)
{
    S3Backend *self = (S3Backend *) backend;
    g_autofree char *path = file_path(&self->remote, KVSS_FILE_DATA, name);
    g_autofree char *range
        = g_strdup_printf("range: bytes=%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, offset,
                          offset + max_length - 1);
    g_autofree char *begin = g_strdup_printf("bytes %" G_GUINT64_FORMAT "-", offset);
    const char *const headers[] = { range, NULL };
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = {
        .method = "GET", .path = path, .headers = headers, .max_answer = max_length,
    };
    const char *told;

    if (!kvss_s3_server_send(self->server, &request, &answer, error))
        return NULL;
    told = kvss_http_answer_header(&answer, "content-range");
    if (answer.status == 206 && told && g_str_has_prefix(told, begin))
        return g_steal_pointer(&answer.body);
    kvss_http_throw(&request, &answer, error);
    return NULL;
}

/* ---- listings ---- */

static bool
list_page(S3Backend *self, const char *prefix, const char *token, unsigned max_keys,
          KvssS3Listing *out_page, GError **error)
{
    g_autofree char *limit = g_strdup_printf("%u", max_keys);
    g_autofree char *query = kvss_s3_query("list-type", "2", "encoding-type", "url", "max-keys", limit,
                                           "prefix", prefix, "continuation-token", token, NULL);
    g_autofree char *path = kvss_s3_server_path(self->server, NULL, query);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "GET", .path = path, .max_answer = KVSS_S3_ANSWER_MAX };
    gsize length;
    const void *text;

    if (!kvss_s3_server_send(self->server, &request, &answer, error))
        return false;
    text = g_bytes_get_data(answer.body, &length);
    return kvss_s3_listing_parse(text, length, out_page, error);
}

/* "data/1f/1f8a...", "keys/1f8a...": anything else below our prefix is somebody else's. */
static bool
key_to_id(KvssFileType type, const char *key, const char *prefix, uint8_t out_id[KVSS_ID_LENGTH])
{
    const char *name;

    if (!g_str_has_prefix(key, prefix))
        return false;
    name = key + strlen(prefix);
    if (type == KVSS_FILE_DATA) {
        if (strlen(name) < 3 || name[2] != '/' || strncmp(name, name + 3, 2) != 0)
            return false;
        name += 3;
    }
    return kvss_id_from_hex(name, strlen(name), out_id);
}

static bool
take_page(KvssFileType type, const char *prefix, const KvssS3Listing *page, GArray *out_files,
          GError **error)
{
    for (guint i = 0; i < page->objects->len; i++) {
        const KvssS3Object *object = &g_array_index(page->objects, KvssS3Object, i);
        KvssStoredFile file = { .size = object->size };

        if (key_to_id(type, object->key, prefix, file.id))
            g_array_append_val(out_files, file);
    }
    return out_files->len <= FILES_MAX
        || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "the listing has more than %u files", FILES_MAX);
}

/* A server that hands out the same place again, or nothing for ever, would keep us for ever. */
static bool
check_progress(const KvssS3Listing *page, const char *token, GError **error)
{
    if (!page->next || (page->objects->len > 0 && g_strcmp0(page->next, token) != 0))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, "the listing does not go on");
}

static bool
s3_list(KvssBackend *backend, KvssFileType type, GArray *out_files, GError **error)
{
    S3Backend *self = (S3Backend *) backend;
    g_autofree char *prefix
        = g_strconcat(kvss_s3_server_prefix(self->server), kvss_remote_type_path(type), NULL);
    g_autofree char *token = NULL;

    do {
        g_auto(KvssS3Listing) page = { 0 };

        if (!list_page(self, prefix, token, 1000, &page, error)
            || !take_page(type, prefix, &page, out_files, error)
            || !check_progress(&page, token, error))
            return false;
        g_free(token);
        token = g_steal_pointer(&page.next);
    } while (token);
    return true;
}

/* ---- writing ---- */

/* Amazon keeps this one, and wants it where objects are locked; it is the same hash in other letters. */
static char *
checksum_header(const char *hex)
{
    uint8_t hash[KVSS_ID_LENGTH];
    g_autofree char *base64 = NULL;

    if (!kvss_id_from_hex(hex, KVSS_ID_HEX_LENGTH, hash))
        g_assert_not_reached();
    base64 = g_base64_encode(hash, sizeof hash);
    return g_strconcat("x-amz-checksum-sha256: ", base64, NULL);
}

/* @hash: of @data, in hex. @condition: (nullable) one more header. */
static bool
put_object(S3Backend *self, const char *path, const void *data, size_t length, const char *hash,
           const char *condition, GError **error)
{
    g_autofree char *hash_header = g_strconcat(HASH_HEADER, hash, NULL);
    g_autofree char *checksum
        = kvss_s3_server_is_amazon(self->server) ? checksum_header(hash) : NULL;
    const char *headers[4] = { hash_header };
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = {
        .method = "PUT", .path = path, .headers = headers, .body = data, .body_length = length,
    };
    unsigned n = 1;

    if (checksum)
        headers[n++] = checksum;
    if (condition)
        headers[n++] = condition;
    return kvss_s3_server_send(self->server, &request, &answer, error);
}

static bool
throw_exists(S3Backend *self, GError **error)
{
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                      "it is a repository already: somebody else has just created it");
}

/*
 * Two may create at once, and one of them wins: by the server's condition, or,
 * where it has none, the one whose config still lies there after a while. That
 * is no proof, but the other would have to sleep through it.
 */
static bool
put_config(S3Backend *self, const char *path, const void *data, size_t length, const char *hash,
           GError **error)
{
    g_autoptr(GError) local_error = NULL;

    if (put_object(self, path, data, length, hash,
                   self->has_conditions ? "if-none-match: *" : NULL, &local_error)) {
        if (self->has_conditions)
            return true;
        g_usleep(SETTLE_US);
        return kvss_remote_config_is(&self->remote.backend, data, length)
            || throw_exists(self, error);
    }
    if (!g_error_matches(local_error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY)) {
        g_propagate_error(error, g_steal_pointer(&local_error));
        return false;
    }
    return kvss_remote_config_is(&self->remote.backend, data, length) || throw_exists(self, error);
}

static bool
s3_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data, size_t length,
       GError **error)
{
    S3Backend *self = (S3Backend *) backend;
    g_autofree char *path = file_path(&self->remote, type, name);
    char hash[KVSS_S3_HASH_LENGTH];

    kvss_remote_note_put(&self->remote, type, name);
    if (type != KVSS_FILE_CONFIG)
        return put_object(self, path, data, length, name, NULL, error);
    kvss_s3_hash(data, length, hash);
    if (!self->remote.new_keys)
        return put_object(self, path, data, length, hash, NULL, error);
    if (!put_config(self, path, data, length, hash, error))
        return false;
    kvss_remote_end_creation(&self->remote);
    return true;
}

/* S3 does not tell whether there was one. */
static bool
s3_remove(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
{
    S3Backend *self = (S3Backend *) backend;
    g_autofree char *path = file_path(&self->remote, type, name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "DELETE", .path = path };

    return kvss_s3_server_send(self->server, &request, &answer, error);
}

/* Credentials that may only read. */
static bool
s3_is_read_only(KvssBackend *backend)
{
    return kvss_s3_server_has_denied(((S3Backend *) backend)->server);
}

/* ---- life ---- */

static void
s3_free(KvssBackend *backend)
{
    S3Backend *self = (S3Backend *) backend;

    kvss_read_ahead_free(self->ahead);
    kvss_remote_clear(&self->remote);
    kvss_s3_server_free(self->server);
    g_free(self);
}

static const KvssBackendOps s3_ops = {
    .name = "s3",
    .is_remote = true,
    .list = s3_list,
    .size = kvss_remote_size,
    .read = s3_read,
    .read_all = kvss_remote_read_all,
    .put = s3_put,
    .remove = s3_remove,
    .spool_new = kvss_remote_spool_new,
    .spool_append = kvss_remote_spool_append,
    .spool_store = kvss_remote_spool_store,
    .spool_free = kvss_remote_spool_free,
    .sync = kvss_remote_sync,
    .is_read_only = s3_is_read_only,
    .free = s3_free,
};

static const KvssRemoteOps s3_remote = { .file_path = file_path, .send = send_request };

/* A location with a key in it was refused before it could be shown. */
static S3Backend *
s3_new(const char *location, GError **error)
{
    g_autoptr(KvssS3Server) server = kvss_s3_server_new(location, error);
    S3Backend *self;

    if (!server)
        return NULL;
    self = g_new0(S3Backend, 1);
    kvss_remote_init(&self->remote, &s3_ops, &s3_remote, location);
    self->ahead = kvss_read_ahead_new(&self->remote.backend, s3_fetch);
    self->server = g_steal_pointer(&server);
    return self;
}

KvssBackend *
kvss_backend_open_s3(const char *location, GError **error)
{
    S3Backend *self = s3_new(location, error);

    if (!self)
        return NULL;
    if (kvss_remote_check_there(&self->remote, error))
        return &self->remote.backend;
    s3_free(&self->remote.backend);
    return NULL;
}

/* The objects that lie below the prefix; a console's mark for the folder itself is none. */
static bool
check_unused(S3Backend *self, GError **error)
{
    const char *prefix = kvss_s3_server_prefix(self->server);
    g_auto(KvssS3Listing) page = { 0 };

    if (!kvss_remote_check_absent(&self->remote, error)
        || !list_page(self, prefix, NULL, 2, &page, error))
        return false;
    for (guint i = 0; i < page.objects->len; i++) {
        const char *key = g_array_index(page.objects, KvssS3Object, i).key;

        if (!g_str_equal(key, prefix))
            return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                              "%s is not empty", self->remote.backend.location);
    }
    return true;
}

/*
 * Does the server keep "if nobody has it"? Some refuse to know it, and some say
 * nothing and overwrite: so it is tried, twice, on an object of its own.
 */
static bool
probe_conditions(S3Backend *self, GError **error)
{
    static const char text[] = "kvss asks whether this server keeps If-None-Match";
    g_autofree char *key = g_strdup_printf("tmp/kvss-probe-%08x%08x", g_random_int(), g_random_int());
    g_autofree char *path = kvss_s3_server_path(self->server, key, NULL);
    KvssHttpRequest removal = { .method = "DELETE", .path = path };
    g_auto(KvssHttpAnswer) answer = { 0 };
    g_autoptr(GError) refused = NULL, left = NULL;
    char hash[KVSS_S3_HASH_LENGTH];

    kvss_s3_hash(text, sizeof text, hash);
    if (!put_object(self, path, text, sizeof text, hash, NULL, error))
        return false;
    self->has_conditions
        = !put_object(self, path, text, sizeof text, hash, "if-none-match: *", &refused)
        && g_error_matches(refused, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
    g_debug("the server %s If-None-Match", self->has_conditions ? "keeps" : "does not keep");
    if (!kvss_s3_server_send(self->server, &removal, &answer, &left))
        g_debug("%s stays: %s", key, left->message);
    return true;
}

KvssBackend *
kvss_backend_create_s3(const char *location, GError **error)
{
    S3Backend *self = s3_new(location, error);

    if (!self)
        return NULL;
    if (check_unused(self, error) && probe_conditions(self, error)) {
        kvss_remote_begin_creation(&self->remote);
        return &self->remote.backend;
    }
    s3_free(&self->remote.backend);
    return NULL;
}
