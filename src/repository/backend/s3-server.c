/*
 * s3-server.c - requests to one bucket
 *
 * An attempt is signed when it is made: the signature is good for minutes, and
 * the pauses between attempts may be as long. Credentials that expire in the
 * middle of a long run are read again, once somebody has renewed their file.
 */
#include "repository/backend/s3-credentials.h"
#include "repository/backend/s3-listing.h"
#include "repository/backend/s3-location.h"
#include "repository/backend/s3-server.h"
#include "repository/backend/s3-sign.h"
#include "repository/repository.h"

#include <libxml/parser.h>
#include <string.h>

#define HASH_HEADER "x-amz-content-sha256: "
#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* What was signed before a renewal may still be refused so much later: an attempt at a pack over a slow line. */
#define RENEWAL_US (10 * 60 * G_USEC_PER_SEC)

/* Where the bucket is asked for until we know better, and what most servers call theirs. */
#define FIRST_REGION "us-east-1"

struct KvssS3Server {
    KvssS3Location location;
    KvssHttp *http;
    char *root;                      /* escaped path of the bucket, ends with '/' */
    char *region;
    gint has_denied;

    GMutex lock;                     /* guards what follows */
    KvssS3Credentials *credentials;
    gint64 renewed_us;               /* 0: never */
};

/* ---- signing ---- */

static char *
hash_of_body(const KvssHttpRequest *request)
{
    for (const char *const *at = request->headers; at && *at; at++)
        if (g_str_has_prefix(*at, HASH_HEADER))
            return g_strdup(*at + strlen(HASH_HEADER));
    g_assert(!request->body);
    return g_strdup(EMPTY_HASH);
}

/* What the request sends of its own beside the hash, and the session token. */
static GPtrArray *
headers_to_sign(const KvssHttpRequest *request, const char *token)
{
    GPtrArray *headers = g_ptr_array_new_with_free_func(g_free);

    for (const char *const *at = request->headers; at && *at; at++)
        if (!g_str_has_prefix(*at, HASH_HEADER))
            g_ptr_array_add(headers, g_strdup(*at));
    if (token)
        g_ptr_array_add(headers, g_strconcat("x-amz-security-token: ", token, NULL));
    g_ptr_array_add(headers, NULL);
    return headers;
}

/* KvssHttpOptions.sign */
static bool
sign_request(const KvssHttpRequest *request, GPtrArray *headers, gpointer data, GError **error)
{
    KvssS3Server *server = data;
    gint64 now_s = g_get_real_time() / G_USEC_PER_SEC;
    const char *question = strchr(request->path, '?');
    g_autofree char *path
        = g_strndup(request->path, question ? (gsize) (question - request->path) : strlen(request->path));
    g_autofree char *hash = hash_of_body(request);
    g_autoptr(GPtrArray) to_sign = NULL;
    g_autofree char *signature = NULL;
    char date[17];

    g_mutex_lock(&server->lock);
    to_sign = headers_to_sign(request, server->credentials->session_token);
    signature = kvss_s3_sign(
        &(KvssS3Signable) { .method = request->method, .host = kvss_http_host(server->http),
                            .path = path, .query = question ? question + 1 : "",
                            .headers = (const char *const *) to_sign->pdata,
                            .payload_hash = hash },
        server->credentials->access_key, server->credentials->secret_key, server->region, now_s);
    if (server->credentials->session_token)
        g_ptr_array_add(headers, g_strconcat("x-amz-security-token: ",
                                             server->credentials->session_token, NULL));
    g_mutex_unlock(&server->lock);

    kvss_s3_date(now_s, date);
    g_ptr_array_add(headers, g_strconcat("Authorization: ", signature, NULL));
    g_ptr_array_add(headers, g_strconcat("x-amz-date: ", date, NULL));
    if (!request->body)
        g_ptr_array_add(headers, g_strdup(HASH_HEADER EMPTY_HASH));
    return true;
}

/* ---- refusals ---- */

static void
read_refusal(const KvssHttpAnswer *answer, KvssS3Refusal *out)
{
    gsize length;
    const void *text = g_bytes_get_data(answer->body, &length);

    kvss_s3_refusal_parse(text, length, out);
}

/*
 * Somebody renewed them where we found them: an agent that keeps ~/.aws/credentials
 * fresh. Several requests may be refused at once, and the first of them renews.
 */
static bool
renew_credentials(KvssS3Server *server)
{
    g_autoptr(KvssS3Credentials) found = kvss_s3_credentials_find(NULL);
    bool is_renewed;

    g_mutex_lock(&server->lock);
    if (found
        && (g_strcmp0(found->access_key, server->credentials->access_key) != 0
            || g_strcmp0(found->session_token, server->credentials->session_token) != 0)) {
        KvssS3Credentials *old = g_steal_pointer(&server->credentials);

        server->credentials = g_steal_pointer(&found);
        server->renewed_us = g_get_monotonic_time();
        found = old;
    }
    is_renewed = server->renewed_us
        && g_get_monotonic_time() - server->renewed_us < RENEWAL_US;
    g_mutex_unlock(&server->lock);
    return is_renewed;
}

/*
 * KvssHttpOptions.is_passing: what S3 says under other statuses than the usual
 * ones. A body that arrived with another hash was changed on its way.
 */
static bool
is_passing(const KvssHttpAnswer *answer, gpointer data)
{
    static const char *const codes[] = {
        "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown",
        "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServiceUnavailable",
        NULL,
    };
    KvssS3Refusal refusal;

    if (answer->status < 400 || answer->status == 404)
        return false;
    read_refusal(answer, &refusal);
    if (g_str_equal(refusal.code, "ExpiredToken"))
        return renew_credentials(data);
    return g_strv_contains(codes, refusal.code);
}

/* "37 minutes behind": of this host's clock, by the server's. */
static char *
clock_words(const KvssHttpAnswer *answer)
{
    const char *date = kvss_http_answer_header(answer, "date");
    gint64 now_s = g_get_real_time() / G_USEC_PER_SEC, off_s;
    struct tm tm = { 0 };

    if (!date || !strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        return g_strdup("wrong");
    off_s = now_s - (gint64) timegm(&tm);
    return g_strdup_printf("%" G_GINT64_FORMAT " minutes %s", ABS(off_s) / 60,
                           off_s < 0 ? "behind" : "ahead");
}

typedef enum { ABOUT_KEY, ABOUT_PERMISSION, ABOUT_BUCKET, ABOUT_CLOCK, ABOUT_ROOM } Subject;

static const struct {
    const char *code;
    Subject subject;
    const char *words; /* behind "the credentials of PLACE" for ABOUT_KEY */
} refusals[] = {
    { "InvalidAccessKeyId", ABOUT_KEY, "are refused: the server does not know this access key" },
    { "SignatureDoesNotMatch", ABOUT_KEY,
      "are refused: the secret key is not the one of this access key" },
    { "AuthorizationHeaderMalformed", ABOUT_KEY, "are refused: the region is wrong" },
    { "ExpiredToken", ABOUT_KEY, "have expired: get new ones, then run again" },
    { "TokenRefreshRequired", ABOUT_KEY, "have expired: get new ones, then run again" },
    { "InvalidToken", ABOUT_KEY, "are refused: the session token is not valid" },
    { "InvalidClientTokenId", ABOUT_KEY, "are refused: the session token is not valid" },
    { "AccountProblem", ABOUT_KEY, "are refused: the account is suspended" },
    { "UserSuspended", ABOUT_KEY, "are refused: the user is suspended" },
    { "AccessDenied", ABOUT_PERMISSION, NULL },
    { "AllAccessDisabled", ABOUT_PERMISSION, NULL },
    { "NoSuchBucket", ABOUT_BUCKET, NULL },
    { "RequestTimeTooSkewed", ABOUT_CLOCK, NULL },
    { "QuotaExceeded", ABOUT_ROOM, NULL },
    { "XMinioStorageFull", ABOUT_ROOM, NULL },
    { "XMinioAdminBucketQuotaExceeded", ABOUT_ROOM, NULL },
    { "InsufficientStorage", ABOUT_ROOM, NULL },
};

static bool
throw_about(KvssS3Server *server, Subject subject, const char *words,
            const KvssHttpRequest *request, const KvssHttpAnswer *answer, GError **error)
{
    g_autofree char *clock = NULL, *origin = NULL;

    g_mutex_lock(&server->lock);
    origin = g_strdup(server->credentials->origin);
    g_mutex_unlock(&server->lock);
    switch (subject) {
    case ABOUT_KEY:
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "the credentials of %s %s", origin, words);
    case ABOUT_PERMISSION:
        g_atomic_int_set(&server->has_denied, 1);
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "the credentials of %s do not allow %s in bucket %s", origin,
                          request->method, server->location.bucket);
    case ABOUT_BUCKET:
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "there is no bucket %s on %s: make it first, with the server's own tools",
                          server->location.bucket, server->location.host);
    case ABOUT_CLOCK:
        clock = clock_words(answer);
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "this host's clock is %s by the server's (RequestTimeTooSkewed): set it, "
                          "then run again", clock);
    case ABOUT_ROOM:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                          "the server answered %u", answer->status);
    }
    g_assert_not_reached();
}

/* What the status says where the server has no words: answers to HEAD have none. */
static bool
throw_status(KvssS3Server *server, const KvssS3Refusal *refusal, const KvssHttpRequest *request,
             const KvssHttpAnswer *answer, GError **error)
{
    switch (answer->status) {
    case 404:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND, "%s is not there",
                          request->path);
    case 412:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY, "%s is there already",
                          request->path);
    case 416:
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the file ends before byte %" G_GUINT64_FORMAT,
                          request->offset + request->into_length);
    case 501:
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_UNSUPPORTED,
                          "this server does not know how to do that (501)");
    case 507:
        return throw_about(server, ABOUT_ROOM, NULL, request, answer, error);
    case 403:
        if (!*refusal->code)
            return throw_about(server, ABOUT_PERMISSION, NULL, request, answer, error);
        break;
    }
    if (!*refusal->code)
        return kvss_http_throw(request, answer, error);
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "the server answered %u %s%s%s",
                      answer->status, refusal->code, *refusal->message ? ": " : "",
                      refusal->message);
}

static bool
throw_refusal(KvssS3Server *server, const KvssHttpRequest *request, const KvssHttpAnswer *answer,
              GError **error)
{
    KvssS3Refusal refusal;

    read_refusal(answer, &refusal);
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++)
        if (g_str_equal(refusal.code, refusals[i].code))
            return throw_about(server, refusals[i].subject, refusals[i].words, request, answer,
                               error);
    return throw_status(server, &refusal, request, answer, error);
}

bool
kvss_s3_server_send(KvssS3Server *server, const KvssHttpRequest *request,
                    KvssHttpAnswer *out_answer, GError **error)
{
    if (!kvss_http_send(server->http, request, out_answer, error))
        return false;
    return out_answer->status / 100 == 2 || throw_refusal(server, request, out_answer, error);
}

bool
kvss_s3_server_has_denied(KvssS3Server *server)
{
    return g_atomic_int_get(&server->has_denied);
}

/* ---- where things are ---- */

const char *
kvss_s3_server_prefix(const KvssS3Server *server)
{
    return server->location.prefix;
}

const char *
kvss_s3_server_bucket(const KvssS3Server *server)
{
    return server->location.bucket;
}

bool
kvss_s3_server_is_amazon(const KvssS3Server *server)
{
    return kvss_s3_location_is_amazon(&server->location);
}

char *
kvss_s3_server_path(const KvssS3Server *server, const char *key, const char *query)
{
    g_autofree char *prefix = key ? kvss_s3_escape(server->location.prefix, true) : NULL;
    GString *path = g_string_new(server->root);

    if (key)
        g_string_append_printf(path, "%s%s", prefix, key);
    else if (path->len > 1)
        g_string_truncate(path, path->len - 1); /* "/bucket", as servers sign it */
    if (query)
        g_string_append_printf(path, "?%s", query);
    return g_string_free(path, FALSE);
}

/* ---- life ---- */

/* The server's address follows from the region: once at first, and again when that was another. */
static bool
set_region(KvssS3Server *server, const char *region, GError **error)
{
    g_autofree char *origin = NULL;
    KvssHttpOptions options = {
        .sign = sign_request, .is_passing = is_passing, .data = server,
    };

    g_free(server->region);
    server->region = g_strdup(region);
    g_clear_pointer(&server->http, kvss_http_free);
    g_clear_pointer(&server->root, g_free);
    kvss_s3_location_address(&server->location, region, &origin, &server->root);
    options.origin = origin;
    server->http = kvss_http_new(&options, error);
    return server->http != NULL;
}

/* Where the server says that the bucket lies; NULL when it does not, or says something odd. */
static char *
told_region(KvssS3Server *server, const KvssHttpAnswer *answer)
{
    const char *header = kvss_http_answer_header(answer, "x-amz-bucket-region");
    g_autofree char *region = g_strdup(header);
    gsize length;
    const void *text = g_bytes_get_data(answer->body, &length);

    if (!region && answer->status == 200 && kvss_s3_server_is_amazon(server))
        region = kvss_s3_location_parse(text, length);
    if (!region && answer->status >= 300) {
        KvssS3Refusal refusal;

        kvss_s3_refusal_parse(text, length, &refusal);
        region = g_strdup(refusal.region);
    }
    return region && kvss_s3_region_is_sane(region) ? g_steal_pointer(&region) : NULL;
}

/* To ask where a bucket lies is a permission of its own, which is not needed; some servers do not know the question. */
static bool
may_go_on(const KvssHttpAnswer *answer)
{
    KvssS3Refusal refusal;

    if (answer->status == 405 || answer->status == 501)
        return true;
    read_refusal(answer, &refusal);
    return answer->status == 403 && g_str_equal(refusal.code, "AccessDenied");
}

/*
 * The first request. Amazon's common host answers it whatever the region, and
 * the others name the right one in their refusal: then it is asked again there.
 */
static bool
find_bucket(KvssS3Server *server, bool may_move, GError **error)
{
    g_autofree char *query = kvss_s3_query("location", "", NULL);
    g_autofree char *path = kvss_s3_server_path(server, NULL, query);
    g_autofree char *region = NULL;
    g_auto(KvssHttpAnswer) answer = { 0 };
    g_autoptr(GError) refused = NULL;
    KvssHttpRequest request = { .method = "GET", .path = path };
    bool ok = kvss_s3_server_send(server, &request, &answer, &refused);

    if (!ok && !answer.status) {
        g_propagate_error(error, g_steal_pointer(&refused));
        return false;
    }
    region = told_region(server, &answer);
    if (may_move && region && !g_str_equal(region, server->region))
        return set_region(server, region, error) && find_bucket(server, false, error);
    if (ok || may_go_on(&answer))
        return true;
    if (g_error_matches(refused, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return kvss_http_throw(&request, &answer, error); /* no word of S3 in it */
    g_propagate_error(error, g_steal_pointer(&refused));
    return false;
}

static bool
open_server(KvssS3Server *server, const char *location, GError **error)
{
    g_autofree char *by_host = NULL;
    const char *region;

    if (!kvss_s3_location_read(location, &server->location, error))
        return false;
    server->credentials = kvss_s3_credentials_find(error);
    if (!server->credentials)
        return false;
    by_host = kvss_s3_location_region(&server->location);
    region = server->credentials->region ? server->credentials->region : by_host;
    if (!set_region(server, region ? region : FIRST_REGION, error)
        || !find_bucket(server, true, error))
        return false;
    g_atomic_int_set(&server->has_denied, 0); /* the location, which may be none of our business */
    return true;
}

KvssS3Server *
kvss_s3_server_new(const char *location, GError **error)
{
    g_autoptr(KvssS3Server) server = g_new0(KvssS3Server, 1);
    g_autoptr(GError) why = NULL;

    xmlInitParser(); /* before several threads use it */
    g_mutex_init(&server->lock);
    if (open_server(server, location, &why))
        return g_steal_pointer(&server);
    if (server->location.host)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                   "repository %s: %s", location, why->message);
    else /* what is wrong with the location may be a secret in it */
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING, "%s", why->message);
    return NULL;
}

void
kvss_s3_server_free(KvssS3Server *server)
{
    if (!server)
        return;
    kvss_http_free(server->http);
    kvss_s3_credentials_free(server->credentials);
    kvss_s3_location_clear(&server->location);
    g_mutex_clear(&server->lock);
    g_free(server->region);
    g_free(server->root);
    g_free(server);
}
