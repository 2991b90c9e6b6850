/*
 * rest.c - a repository behind a server that speaks restic's REST protocol
 *
 *   POST ?create=true    HEAD, GET, POST, DELETE config and TYPE/NAME    GET TYPE/
 *
 * A stored file never changes, so a POST whose answer was lost has either done
 * its work or not: before it is sent again we look whether the file is there.
 * Content is checked by whoever reads it, by the hashes that name it.
 *
 * The password is in no message: the location of the backend is the URL without
 * it, and so is what lock notes hold.
 *
 * Source: restic's documentation, "REST Backend".
 */
#include "base/secret.h"
#include "repository/backend/remote.h"
#include "repository/format/id.h"
#include "repository/format/json.h"

#include <string.h>

#define SCHEME "rest:"
#define TYPE_V2 "application/vnd.x.restic.rest.v2"

/* Listings of the largest: a million packs are 90 MB. */
#define LISTING_MAX ((size_t) 512 << 20)
#define PASSWORD_MAX 4096

typedef struct {
    KvssRemoteBackend remote;
    KvssHttp *http;
    char *path;              /* of the repository on the server, "/" at both ends */
} RestBackend;

/* ---- the location ---- */

/* What a location says, taken apart. */
typedef struct {
    char *origin, *path, *shown, *user, *password;
} RestPlace;

static void
place_clear(RestPlace *place)
{
    g_free(place->origin);
    g_free(place->path);
    g_free(place->shown);
    g_free(place->user);
    kvss_secret_wipe(place->password);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RestPlace, place_clear)

static bool
is_plain_path(const char *path)
{
    for (; *path; path++)
        if (!g_ascii_isgraph(*path))
            return false;
    return true;
}

static bool
place_fill(RestPlace *place, GUri *uri)
{
    const char *scheme = g_uri_get_scheme(uri), *host = g_uri_get_host(uri);
    const char *path = g_uri_get_path(uri);
    g_autofree char *port = NULL;

    if ((!g_str_equal(scheme, "http") && !g_str_equal(scheme, "https")) || !host || !*host
        || g_uri_get_query(uri) || g_uri_get_fragment(uri) || !is_plain_path(path))
        return false;
    port = g_uri_get_port(uri) > 0 ? g_strdup_printf(":%d", g_uri_get_port(uri)) : g_strdup("");
    place->origin = g_strdup_printf(strchr(host, ':') ? "%s://[%s]%s" : "%s://%s%s", scheme, host,
                                    port);
    place->path = g_strconcat(*path ? path : "/", *path && !g_str_has_suffix(path, "/") ? "/" : "",
                              NULL);
    place->shown = g_strconcat(SCHEME, place->origin, place->path, NULL);
    place->user = g_strdup(g_uri_get_user(uri));
    place->password = g_strdup(g_uri_get_password(uri));
    return true;
}

static GUri *
location_uri(const char *location)
{
    return g_uri_parse(location + strlen(SCHEME),
                       G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_ENCODED_PATH, NULL);
}

/* Of what is no URL, everything that may be a password goes: up to the last '@'. */
char *
kvss_rest_location_text(const char *location)
{
    g_autoptr(GUri) uri = location_uri(location);
    g_auto(RestPlace) place = { 0 };
    const char *at = strrchr(location, '@');

    if (uri && place_fill(&place, uri))
        return g_steal_pointer(&place.shown);
    return at ? g_strconcat(SCHEME "...", at, NULL) : g_strdup(location);
}

/* The parser's own words would show parts of a password that was not escaped. */
static bool
place_parse(const char *location, RestPlace *out_place, GError **error)
{
    g_autoptr(GUri) uri = location_uri(location);

    if (uri && place_fill(out_place, uri))
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                      "a repository on a REST server is named as "
                      "rest:https://[USER[:PASSWORD]@]HOST[:PORT]/PATH/ (special characters in "
                      "USER and PASSWORD as %%XX), this URL is none");
}

static const char *
environment(const char *name)
{
    const char *value = g_getenv(name);

    return value && *value ? value : NULL;
}

static bool
read_password_file(const char *path, char **out_password, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *text = NULL;
    gsize length;
    bool ok = g_file_get_contents(path, &text, &length, &why) && length <= PASSWORD_MAX
        && !memchr(text, '\0', length) && *g_strstrip(text);

    if (ok) {
        *out_password = text;
        return true;
    }
    kvss_secret_wipe(text);
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "KVSS_REST_PASSWORD_FILE: %s",
                      why ? why->message : "the file holds no password of at most 4096 bytes");
}

/* What the URL does not say is said by the environment. */
static bool
place_add_credentials(RestPlace *place, GError **error)
{
    const char *file = environment("KVSS_REST_PASSWORD_FILE");

    if (!place->user)
        place->user = g_strdup(environment("RESTIC_REST_USERNAME"));
    if (place->password || !place->user)
        return true;
    if (file)
        return read_password_file(file, &place->password, error);
    place->password = g_strdup(environment("RESTIC_REST_PASSWORD"));
    return true;
}

/* ---- requests ---- */

static char *
file_path(KvssRemoteBackend *remote, KvssFileType type, const char *name)
{
    return g_strconcat(((RestBackend *) remote)->path, kvss_remote_type_path(type),
                       type == KVSS_FILE_CONFIG ? "" : name, NULL);
}

/* Is @answer what was wanted? All refusals have their words here. */
static bool
check_answer(const KvssHttpRequest *request, const KvssHttpAnswer *answer, GError **error)
{
    if (answer->status / 100 == 2)
        return true;
    switch (answer->status) {
    case 401:
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "the server wants a user and a password, or refuses these (401): they "
                          "come from the URL or RESTIC_REST_USERNAME and KVSS_REST_PASSWORD_FILE");
    case 404:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND, "%s is not there",
                          request->path);
    case 413:
    case 507:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "the server answered %u",
                          answer->status);
    case 416:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the file ends before byte %" G_GUINT64_FORMAT,
                          request->offset + request->into_length);
    default:
        return kvss_http_throw(request, answer, error);
    }
}

static bool
send_request(KvssRemoteBackend *remote, const KvssHttpRequest *request, KvssHttpAnswer *answer,
             GError **error)
{
    return kvss_http_send(((RestBackend *) remote)->http, request, answer, error)
        && check_answer(request, answer, error);
}

/* ---- listings ---- */

static bool
name_to_id(const KvssJsonText *name, uint8_t id[KVSS_ID_LENGTH])
{
    return !name->has_escapes && kvss_id_from_hex(name->at, name->length, id);
}

/* Version 2: [{"name": ..., "size": ...}, ...] */
static void
parse_item(KvssJson *json, GArray *out_files)
{
    KvssStoredFile file = { .size = G_MAXUINT64 };
    bool is_ours = false;
    KvssJsonText key, name;

    kvss_json_object(json);
    while (kvss_json_key(json, &key)) {
        if (kvss_json_text_is(&key, "name")) {
            name = kvss_json_text(json);
            is_ours = name_to_id(&name, file.id);
        } else if (kvss_json_text_is(&key, "size")) {
            file.size = kvss_json_uint(json);
        } else {
            kvss_json_skip(json);
        }
    }
    if (is_ours && file.size == G_MAXUINT64)
        kvss_json_fail(json, "a file has no size");
    if (is_ours)
        g_array_append_val(out_files, file);
}

/* Version 1: ["name", ...]; sizes come later. */
static void
parse_name(KvssJson *json, GArray *out_files)
{
    KvssStoredFile file = { .size = G_MAXUINT64 };
    KvssJsonText name = kvss_json_text(json);

    if (name_to_id(&name, file.id))
        g_array_append_val(out_files, file);
}

bool
kvss_rest_listing_parse(const void *text, size_t length, bool is_v2, GArray *out_files,
                        GError **error)
{
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_array(&json);
    while (kvss_json_item(&json)) {
        if (is_v2)
            parse_item(&json, out_files);
        else
            parse_name(&json, out_files);
    }
    if (kvss_json_finish(&json, error))
        return true;
    g_prefix_error(error, "the server's listing: ");
    return false;
}

static bool
ask_sizes(KvssBackend *backend, KvssFileType type, GArray *files, guint from, GError **error)
{
    for (guint i = from; i < files->len; i++) {
        KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);
        char hex[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(file->id, hex);
        if (!kvss_remote_size(backend, type, hex, &file->size, error))
            return false;
    }
    return true;
}

static bool
rest_list(KvssBackend *backend, KvssFileType type, GArray *out_files, GError **error)
{
    static const char *const headers[] = { "Accept: " TYPE_V2, NULL };
    RestBackend *self = (RestBackend *) backend;
    g_autofree char *path = g_strconcat(self->path, kvss_remote_type_path(type), NULL);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = {
        .method = "GET", .path = path, .headers = headers, .max_answer = LISTING_MAX,
    };
    guint before = out_files->len;
    const char *kind;
    bool is_v2;

    if (!kvss_http_send(self->http, &request, &answer, error))
        return false;
    if (answer.status == 404)
        return true; /* a server that makes folders when they are needed */
    if (!check_answer(&request, &answer, error))
        return false;
    kind = kvss_http_answer_header(&answer, "content-type");
    is_v2 = kind && g_str_has_prefix(kind, TYPE_V2);
    if (!kvss_rest_listing_parse(g_bytes_get_data(answer.body, NULL), g_bytes_get_size(answer.body),
                                 is_v2, out_files, error))
        return false;
    return is_v2 || ask_sizes(backend, type, out_files, before, error);
}

/* ---- writing ---- */

/* A file to be stored, as was_done() wants it. */
typedef struct {
    KvssBackend *backend;
    KvssFileType type;
    const char *name;
    const void *data;
    size_t length;
} Storing;

/* The config's name says nothing of its content. */
static bool
is_stored(const KvssHttpRequest *request, gpointer data)
{
    const Storing *storing = data;
    uint64_t size = 0;

    if (storing->type == KVSS_FILE_CONFIG)
        return kvss_remote_config_is(storing->backend, storing->data, storing->length);
    return kvss_remote_size(storing->backend, storing->type, storing->name, &size, NULL)
        && size == storing->length;
}

static bool
rest_remove(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
{
    RestBackend *self = (RestBackend *) backend;
    g_autofree char *path = file_path(&self->remote, type, name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "DELETE", .path = path };

    if (!kvss_http_send(self->http, &request, &answer, error))
        return false;
    if (answer.status == 404 && answer.attempts > 1)
        return true; /* by the attempt whose answer was lost */
    if (answer.status == 403 || answer.status == 405)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_UNSUPPORTED,
                          "this server is append-only: it takes backups, and removes nothing "
                          "(%u)", answer.status);
    return check_answer(&request, &answer, error);
}

/* Servers refuse to write a file again: what is there under this hash and as long is it. */
static bool
store_file(RestBackend *self, Storing *storing, bool *out_refused, GError **error)
{
    g_autofree char *path = file_path(&self->remote, storing->type, storing->name);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = {
        .method = "POST", .path = path, .body = storing->data, .body_length = storing->length,
        .was_done = is_stored, .data = storing,
    };

    if (!kvss_http_send(self->http, &request, &answer, error))
        return false;
    if (answer.status == 403 && is_stored(&request, storing))
        return true;
    *out_refused = answer.status == 403;
    return check_answer(&request, &answer, error);
}

/*
 * A config that is damaged is written anew, and to some servers it is a file that is there:
 * it goes first. Nobody misses its content, and repair says how to go on should we die here.
 */
static bool
rest_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
         size_t length, GError **error)
{
    RestBackend *self = (RestBackend *) backend;
    Storing storing = { backend, type, name, data, length };
    bool is_renewal = type == KVSS_FILE_CONFIG && !self->remote.new_keys, refused = false;
    g_autoptr(GError) local_error = NULL;

    kvss_remote_note_put(&self->remote, type, name);
    if (!store_file(self, &storing, &refused, &local_error)) {
        if (!refused || !is_renewal) {
            g_propagate_error(error, g_steal_pointer(&local_error));
            return false;
        }
        if (!rest_remove(backend, type, name, error) || !store_file(self, &storing, &refused, error))
            return false;
    }
    if (type == KVSS_FILE_CONFIG)
        kvss_remote_end_creation(&self->remote);
    return true;
}

/* ---- life ---- */

static void
rest_free(KvssBackend *backend)
{
    RestBackend *self = (RestBackend *) backend;

    kvss_remote_clear(&self->remote);
    kvss_http_free(self->http);
    g_free(self->path);
    g_free(self);
}

static const KvssBackendOps rest_ops = {
    .name = "rest",
    .is_remote = true,
    .list = rest_list,
    .size = kvss_remote_size,
    .read = kvss_remote_read,
    .read_all = kvss_remote_read_all,
    .put = rest_put,
    .remove = rest_remove,
    .spool_new = kvss_remote_spool_new,
    .spool_append = kvss_remote_spool_append,
    .spool_store = kvss_remote_spool_store,
    .spool_free = kvss_remote_spool_free,
    .sync = kvss_remote_sync,
    .free = rest_free,
};

static const KvssRemoteOps rest_server = { .file_path = file_path, .send = send_request };

static RestBackend *
rest_new(const char *location, GError **error)
{
    g_auto(RestPlace) place = { 0 };
    g_autoptr(KvssHttp) http = NULL;
    RestBackend *self;

    if (!place_parse(location, &place, error) || !place_add_credentials(&place, error))
        return NULL;
    http = kvss_http_new(&(KvssHttpOptions) { .origin = place.origin, .user = place.user,
                                              .password = place.password }, error);
    if (!http)
        return NULL;
    self = g_new0(RestBackend, 1);
    kvss_remote_init(&self->remote, &rest_ops, &rest_server, place.shown);
    self->http = g_steal_pointer(&http);
    self->path = g_steal_pointer(&place.path);
    return self;
}

KvssBackend *
kvss_backend_open_rest(const char *location, GError **error)
{
    RestBackend *self = rest_new(location, error);

    if (!self)
        return NULL;
    if (kvss_remote_check_there(&self->remote, error))
        return &self->remote.backend;
    rest_free(&self->remote.backend);
    return NULL;
}

static bool
make_place(RestBackend *self, GError **error)
{
    g_autofree char *path = g_strconcat(self->path, "?create=true", NULL);
    g_auto(KvssHttpAnswer) answer = { 0 };
    KvssHttpRequest request = { .method = "POST", .path = path };

    if (!kvss_remote_check_absent(&self->remote, error))
        return false;
    if (send_request(&self->remote, &request, &answer, error))
        return true;
    g_prefix_error(error, "repository %s: ", self->remote.backend.location);
    return false;
}

KvssBackend *
kvss_backend_create_rest(const char *location, GError **error)
{
    RestBackend *self = rest_new(location, error);

    if (!self)
        return NULL;
    if (make_place(self, error)) {
        kvss_remote_begin_creation(&self->remote);
        return &self->remote.backend;
    }
    rest_free(&self->remote.backend);
    return NULL;
}
