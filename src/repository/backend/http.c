/*
 * http.c - requests to one HTTP server
 *
 *   send() ── attempt ── attempt ── … ──▶ an answer, or an error that will not pass
 *                 └ pause, twice as long each time, up to a limit
 *
 * libcurl does the protocol. A handle belongs to one thread for one attempt and
 * keeps its connection when it is put back.
 *
 * How long is tried depends on what is at stake. A server that never answered is
 * probably a wrong name: seconds. One that did answer has a backup half done on
 * it: minutes. When those have passed in vain it counts as never heard of, so
 * that an end which still wants to remove a lock does not wait minutes again.
 *
 * Who is cancelled waits for nothing: pauses end, and requests that are under way are
 * broken off. What is asked after that belongs to the end (a lock is given back) and has
 * one attempt and a few seconds; when one of these was in vain, so are the others.
 */
#include "base/secret.h"
#include "repository/backend/http.h"

#include <curl/curl.h>
#include <string.h>

/* Overridden by KVSS_HTTP_RETRY and KVSS_HTTP_STALL, in seconds. */
#define RETRY_SECONDS 300
#define STALL_SECONDS 120

#define FIRST_SECONDS 10
#define LAST_SECONDS 5
#define CONNECT_SECONDS 15

/* The first pause; it doubles up to the longest. Half of each is random, so that many hosts do not come at once. */
#define PAUSE_FIRST_US (G_USEC_PER_SEC / 4)
#define PAUSE_MAX_US (15 * G_USEC_PER_SEC)
#define RETRY_AFTER_MAX_SECONDS 60

/* Bounds on what a server may say beside content. */
#define ANSWER_MAX ((size_t) 64 << 10)
#define HEADERS_MAX 64
#define HEADER_LENGTH_MAX 4096
#define TOLD_MAX 200

#define BUFFER_LENGTH (256L << 10)

struct KvssHttp {
    char *origin, *host, *user, *password, *ca_file, *ca_folder;
    bool (*sign)(const KvssHttpRequest *request, GPtrArray *headers, gpointer data,
                 GError **error);
    bool (*is_passing)(const KvssHttpAnswer *answer, gpointer data);
    gpointer data;
    long stall_seconds;
    gint64 retry_us;
    GCancellable *cancellable; /* (nullable) */

    gint has_answered;
    gint is_over;      /* cancelled, and the server could not be asked since */
    GMutex lock;       /* guards what follows */
    GQueue idle;       /* CURL *, each with its connection */
};

/* One attempt at a request. */
typedef struct {
    const KvssHttpRequest *request;
    GCancellable *cancellable; /* NULL: the last word of who was cancelled */
    CURL *curl;
    GHashTable *headers;
    GByteArray *body;
    size_t got;        /* bytes in request->into */
    GError *error;     /* why a callback ended it: final */
    char text[CURL_ERROR_SIZE];
} Attempt;

typedef enum { OUTCOME_ANSWERED, OUTCOME_PASSING, OUTCOME_FINAL } Outcome;

/* ---- life ---- */

static gpointer
start_library(gpointer data)
{
    return GINT_TO_POINTER(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static const char *
first_in_environment(const char *const *names)
{
    for (; *names; names++) {
        const char *value = g_getenv(*names);

        if (value && *value)
            return value;
    }
    return NULL;
}

static gint64
seconds_in_environment(const char *name, gint64 otherwise)
{
    const char *text = g_getenv(name);
    guint64 seconds;

    return text && g_ascii_string_to_unsigned(text, 10, 1, 24 * 3600, &seconds, NULL)
        ? (gint64) seconds
        : otherwise;
}

/* "host:port" as it belongs into a Host header. NULL: @origin is none. */
static char *
origin_host(const char *origin)
{
    g_autoptr(GUri) uri = g_uri_parse(origin, G_URI_FLAGS_NONE, NULL);
    const char *scheme = uri ? g_uri_get_scheme(uri) : NULL;
    const char *host = uri ? g_uri_get_host(uri) : NULL;
    bool is_plain;

    if (!host || !*host || g_uri_get_userinfo(uri) || *g_uri_get_path(uri) || g_uri_get_query(uri)
        || g_uri_get_fragment(uri))
        return NULL;
    is_plain = g_str_equal(scheme, "http");
    if (!is_plain && !g_str_equal(scheme, "https"))
        return NULL;
    if (g_uri_get_port(uri) < 0 || g_uri_get_port(uri) == (is_plain ? 80 : 443))
        return g_strdup_printf(strchr(host, ':') ? "[%s]" : "%s", host);
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, g_uri_get_port(uri));
}

KvssHttp *
kvss_http_new(const KvssHttpOptions *options, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    static const char *const ca_names[]
        = { "KVSS_CA_FILE", "RESTIC_CACERT", "CURL_CA_BUNDLE", "SSL_CERT_FILE", NULL };
    static const char *const ca_folder_names[] = { "SSL_CERT_DIR", NULL };
    g_autofree char *host = origin_host(options->origin);
    KvssHttp *http;

    if (!host) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "a server is named as http://host:port or https://host:port");
        return NULL;
    }
    if (!g_once(&once, start_library, NULL)) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "libcurl cannot be used");
        return NULL;
    }
    http = g_new0(KvssHttp, 1);
    http->origin = g_strdup(options->origin);
    http->host = g_steal_pointer(&host);
    http->user = g_strdup(options->user);
    http->password = g_strdup(options->password);
    http->ca_file = g_strdup(options->ca_file ? options->ca_file : first_in_environment(ca_names));
    http->ca_folder = g_strdup(first_in_environment(ca_folder_names));
    http->sign = options->sign;
    http->is_passing = options->is_passing;
    http->data = options->data;
    http->cancellable = g_cancellable_get_current();
    if (http->cancellable)
        g_object_ref(http->cancellable);
    http->retry_us = seconds_in_environment("KVSS_HTTP_RETRY", RETRY_SECONDS) * G_USEC_PER_SEC;
    http->stall_seconds = (long) seconds_in_environment("KVSS_HTTP_STALL", STALL_SECONDS);
    g_mutex_init(&http->lock);
    g_queue_init(&http->idle);
    return http;
}

void
kvss_http_free(KvssHttp *http)
{
    if (!http)
        return;
    g_queue_clear_full(&http->idle, (GDestroyNotify) curl_easy_cleanup);
    g_clear_object(&http->cancellable);
    g_mutex_clear(&http->lock);
    kvss_secret_wipe(http->password);
    g_free(http->user);
    g_free(http->host);
    g_free(http->origin);
    g_free(http->ca_file);
    g_free(http->ca_folder);
    g_free(http);
}

const char *
kvss_http_host(const KvssHttp *http)
{
    return http->host;
}

/* ---- answers ---- */

void
kvss_http_answer_clear(KvssHttpAnswer *answer)
{
    g_clear_pointer(&answer->body, g_bytes_unref);
    g_clear_pointer(&answer->headers, g_hash_table_unref);
    answer->status = 0;
}

const char *
kvss_http_answer_header(const KvssHttpAnswer *answer, const char *name)
{
    return answer->headers ? g_hash_table_lookup(answer->headers, name) : NULL;
}

static const char *
status_name(unsigned status)
{
    static const struct {
        unsigned status;
        const char *name;
    } names[] = {
        { 301, "Moved Permanently" }, { 302, "Found" }, { 307, "Temporary Redirect" },
        { 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
        { 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
        { 408, "Request Timeout" }, { 409, "Conflict" }, { 411, "Length Required" },
        { 412, "Precondition Failed" }, { 413, "Content Too Large" },
        { 416, "Range Not Satisfiable" }, { 429, "Too Many Requests" },
        { 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
        { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 507, "Insufficient Storage" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].status == status)
            return names[i].name;
    return "";
}

/* The beginning of what the server says, on one line and harmless on a terminal. */
static char *
told_text(GBytes *body)
{
    gsize length;
    const char *data = g_bytes_get_data(body, &length);
    GString *text = g_string_new(NULL);

    for (gsize i = 0; i < length && text->len < TOLD_MAX; i++) {
        bool is_plain = g_ascii_isgraph(data[i]);

        if (is_plain)
            g_string_append_c(text, data[i]);
        else if (text->len > 0 && text->str[text->len - 1] != ' ')
            g_string_append_c(text, ' ');
    }
    return g_strchomp(g_string_free(text, FALSE));
}

/* "503 Service Unavailable (the server's words)". */
static char *
answer_text(const KvssHttpAnswer *answer)
{
    g_autofree char *told = told_text(answer->body);
    const char *name = status_name(answer->status);

    return g_strdup_printf("%u%s%s%s%s%s", answer->status, *name ? " " : "", name,
                           *told ? " (" : "", told, *told ? ")" : "");
}

/* Without the query, which may be long and say little. */
static int
path_length(const char *path)
{
    return (int) strcspn(path, "?");
}

bool
kvss_http_throw(const KvssHttpRequest *request, const KvssHttpAnswer *answer, GError **error)
{
    g_autofree char *text = answer_text(answer);

    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "%s %.*s: the server answered %s",
                      request->method, path_length(request->path), request->path, text);
}

/* ---- what libcurl calls ---- */

static long
attempt_status(const Attempt *attempt)
{
    long status = 0;

    (void) curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t
take_header(char *data, size_t size, size_t n, void *user)
{
    Attempt *attempt = user;
    size_t length = size * n;
    const char *colon = memchr(data, ':', length);

    if (length >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        g_hash_table_remove_all(attempt->headers); /* of an answer before the last, like 100 */
        return length;
    }
    if (!colon || length > HEADER_LENGTH_MAX || memchr(data, '\0', length)
        || g_hash_table_size(attempt->headers) >= HEADERS_MAX)
        return length;
    g_hash_table_replace(attempt->headers, g_ascii_strdown(data, colon - data),
                         g_strstrip(g_strndup(colon + 1, length - (size_t) (colon + 1 - data))));
    return length;
}

/* Content-Range: are these the bytes we asked for? Fewer mean that the file ends there. */
static bool
check_range(Attempt *attempt)
{
    const KvssHttpRequest *request = attempt->request;
    const char *text = g_hash_table_lookup(attempt->headers, "content-range");
    guint64 first, last;
    char *end;

    if (!text || g_ascii_strncasecmp(text, "bytes ", 6) != 0)
        return kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the answer does not say which bytes of the file it has");
    first = g_ascii_strtoull(text + 6, &end, 10);
    last = *end == '-' ? g_ascii_strtoull(end + 1, &end, 10) : 0;
    if (first == request->offset && last == request->offset + request->into_length - 1)
        return true;
    if (first == request->offset && last >= first
        && last < request->offset + request->into_length - 1)
        return kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the file ends after %" G_GUINT64_FORMAT " bytes, before byte %"
                          G_GUINT64_FORMAT, last + 1, request->offset + request->into_length);
    return kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "the server sends other bytes of the file than those asked for");
}

static size_t
take_content(Attempt *attempt, const char *data, size_t length)
{
    const KvssHttpRequest *request = attempt->request;

    if (attempt->got == 0 && !check_range(attempt))
        return 0;
    if (length > request->into_length - attempt->got) {
        kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                   "the server sends more than the %zu bytes asked for", request->into_length);
        return 0;
    }
    memcpy((char *) request->into + attempt->got, data, length);
    attempt->got += length;
    return length;
}

/* What is too long is an error where content is wanted; of a refusal the beginning will do. */
static size_t
take_body(char *data, size_t size, size_t n, void *user)
{
    Attempt *attempt = user;
    const KvssHttpRequest *request = attempt->request;
    size_t max = request->max_answer && !request->into ? request->max_answer : ANSWER_MAX;
    size_t length = size * n, room = max - attempt->body->len;
    long status = attempt_status(attempt);

    if (request->into && status == 206)
        return take_content(attempt, data, length);
    if (request->into && status == 200) {
        kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "the server cannot send a part of a file");
        return 0;
    }
    if (length > room && status / 100 == 2) {
        kvss_throw(&attempt->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                   "the answer is longer than %zu bytes, the most there may be", max);
        return 0;
    }
    g_byte_array_append(attempt->body, (const guint8 *) data, (guint) MIN(length, room));
    return length;
}

/* Now and then, also while nothing moves. Not 0: the end. */
static int
on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    return g_cancellable_is_cancelled(((Attempt *) user)->cancellable);
}

/* ---- one attempt ---- */

static CURL *
take_handle(KvssHttp *http)
{
    CURL *curl;

    g_mutex_lock(&http->lock);
    curl = g_queue_pop_tail(&http->idle);
    g_mutex_unlock(&http->lock);
    return curl ? curl : curl_easy_init();
}

static void
give_handle(KvssHttp *http, CURL *curl)
{
    curl_easy_reset(curl); /* the connection stays */
    g_mutex_lock(&http->lock);
    g_queue_push_tail(&http->idle, curl);
    g_mutex_unlock(&http->lock);
}

static void
set_method(CURL *curl, const KvssHttpRequest *request)
{
    bool has_body = request->body || g_str_equal(request->method, "POST")
        || g_str_equal(request->method, "PUT");

    if (has_body) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_length);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body ? request->body : "");
    }
    if (g_str_equal(request->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else if (!g_str_equal(request->method, has_body ? "POST" : "GET"))
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static void
set_server(KvssHttp *http, CURL *curl)
{
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "kvss/" KVSS_VERSION);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long) CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, http->stall_seconds);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_LENGTH);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_LENGTH);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    if (http->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, http->ca_file);
    if (http->ca_folder)
        curl_easy_setopt(curl, CURLOPT_CAPATH, http->ca_folder);
    if (http->user) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
        curl_easy_setopt(curl, CURLOPT_USERNAME, http->user);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, http->password ? http->password : "");
    }
}

static void
set_request(KvssHttp *http, Attempt *attempt)
{
    const KvssHttpRequest *request = attempt->request;
    g_autofree char *url = g_strconcat(http->origin, request->path, NULL);
    CURL *curl = attempt->curl;

    curl_easy_setopt(curl, CURLOPT_URL, url);
    set_method(curl, request);
    if (request->into) {
        g_autofree char *range
            = g_strdup_printf("%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, request->offset,
                              request->offset + request->into_length - 1);

        curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, attempt);
    if (http->cancellable && !attempt->cancellable)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long) LAST_SECONDS);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, attempt->text);
}

static struct curl_slist *
slist_add(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);

    g_assert(longer); /* allocations may abort */
    return longer;
}

static bool
names_type(const KvssHttpRequest *request)
{
    for (guint i = 0; request->headers && request->headers[i]; i++)
        if (g_ascii_strncasecmp(request->headers[i], "content-type:", 13) == 0)
            return true;
    return false;
}

/*
 * libcurl would ask "Expect: 100-continue" before long bodies, which costs a
 * round trip where the server knows it and a second where it does not, and
 * would call every body a form.
 */
static bool
set_headers(KvssHttp *http, Attempt *attempt, struct curl_slist **out_list, GError **error)
{
    const KvssHttpRequest *request = attempt->request;
    g_autoptr(GPtrArray) signed_headers = g_ptr_array_new_with_free_func(g_free);
    struct curl_slist *list = slist_add(NULL, "Expect:");

    *out_list = list;
    if (http->sign && !http->sign(request, signed_headers, http->data, error))
        return false;
    if (request->body && !names_type(request))
        list = slist_add(list, "Content-Type: application/octet-stream");
    for (guint i = 0; request->headers && request->headers[i]; i++)
        list = slist_add(list, request->headers[i]);
    for (guint i = 0; i < signed_headers->len; i++)
        list = slist_add(list, g_ptr_array_index(signed_headers, i));
    *out_list = list;
    curl_easy_setopt(attempt->curl, CURLOPT_HTTPHEADER, list);
    return true;
}

static bool
may_pass(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* an answer that is no HTTP: our own scheme was checked */
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return true;
    default:
        return false;
    }
}

static bool
status_may_pass(unsigned status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503
        || status == 504;
}

/* A body that was cut short, without a length that would have told. */
static bool
is_short(const Attempt *attempt, const KvssHttpAnswer *answer)
{
    return attempt->request->into && answer->status == 206
        && attempt->got < attempt->request->into_length;
}

static Outcome
judge_failure(Attempt *attempt, CURLcode code, GError **error)
{
    const char *text = attempt->text[0] ? attempt->text : curl_easy_strerror(code);

    if (attempt->error) {
        g_propagate_error(error, g_steal_pointer(&attempt->error));
        return OUTCOME_FINAL;
    }
    if (!kvss_check_cancelled(attempt->cancellable, error))
        return OUTCOME_FINAL;
    kvss_throw(error, KVSS_IO_ERROR,
               code == CURLE_OPERATION_TIMEDOUT ? KVSS_IO_ERROR_TIMED_OUT : KVSS_IO_ERROR_FAILED,
               "%s", text);
    return may_pass(code) ? OUTCOME_PASSING : OUTCOME_FINAL;
}

static void
fill_answer(Attempt *attempt, KvssHttpAnswer *out_answer)
{
    curl_off_t length = -1;

    (void) curl_easy_getinfo(attempt->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    kvss_http_answer_clear(out_answer);
    out_answer->status = (unsigned) attempt_status(attempt);
    out_answer->content_length = length >= 0 ? (uint64_t) length : G_MAXUINT64;
    out_answer->body = g_byte_array_free_to_bytes(g_steal_pointer(&attempt->body));
    out_answer->headers = g_steal_pointer(&attempt->headers);
}

static Outcome
judge_answer(KvssHttp *http, Attempt *attempt, KvssHttpAnswer *out_answer, GError **error)
{
    g_autofree char *text = NULL;

    fill_answer(attempt, out_answer);
    g_atomic_int_set(&http->has_answered, 1);
    if (is_short(attempt, out_answer)) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "the answer ended after %zu of %zu bytes", attempt->got,
                   attempt->request->into_length);
        return OUTCOME_PASSING;
    }
    if (!status_may_pass(out_answer->status)
        && !(http->is_passing && http->is_passing(out_answer, http->data)))
        return OUTCOME_ANSWERED;
    text = answer_text(out_answer);
    kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "the server answered %s", text);
    return OUTCOME_PASSING;
}

static Outcome
perform(KvssHttp *http, Attempt *attempt, KvssHttpAnswer *out_answer, GError **error)
{
    struct curl_slist *list = NULL;
    Outcome outcome = OUTCOME_FINAL;

    set_server(http, attempt->curl);
    set_request(http, attempt);
    if (set_headers(http, attempt, &list, error)) {
        CURLcode code = curl_easy_perform(attempt->curl);

        outcome = code == CURLE_OK ? judge_answer(http, attempt, out_answer, error)
                                   : judge_failure(attempt, code, error);
    }
    curl_slist_free_all(list);
    return outcome;
}

static Outcome
try_once(KvssHttp *http, const KvssHttpRequest *request, KvssHttpAnswer *out_answer,
         GError **error)
{
    Attempt attempt = {
        .request = request,
        .cancellable = g_cancellable_is_cancelled(http->cancellable) ? NULL : http->cancellable,
        .curl = take_handle(http),
        .headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
        .body = g_byte_array_new(),
    };
    Outcome outcome;

    g_assert(attempt.curl);
    outcome = perform(http, &attempt, out_answer, error);
    give_handle(http, attempt.curl);
    g_clear_pointer(&attempt.headers, g_hash_table_unref);
    g_clear_pointer(&attempt.body, g_byte_array_unref);
    g_clear_error(&attempt.error);
    return outcome;
}

/* ---- attempt after attempt ---- */

/* Before attempt number @attempts + 1; what the server wishes counts within bounds. */
static gint64
pause_us(unsigned attempts, const KvssHttpAnswer *answer)
{
    gint64 pause = MIN((gint64) PAUSE_FIRST_US << MIN(attempts - 1, 10u), PAUSE_MAX_US);
    const char *wish = kvss_http_answer_header(answer, "retry-after");
    guint64 seconds;

    pause = pause / 2 + g_random_int_range(0, (gint32) pause / 2 + 1);
    if (wish && g_ascii_string_to_unsigned(wish, 10, 0, RETRY_AFTER_MAX_SECONDS, &seconds, NULL))
        pause = MAX(pause, (gint64) seconds * G_USEC_PER_SEC);
    return pause;
}

static gint64
limit_us(KvssHttp *http)
{
    return g_atomic_int_get(&http->has_answered)
        ? http->retry_us
        : MIN(http->retry_us, FIRST_SECONDS * G_USEC_PER_SEC);
}

/* Until @pause has passed, or somebody cancels. */
static void
pause_for(KvssHttp *http, gint64 pause)
{
    GPollFD fd;

    if (g_cancellable_make_pollfd(http->cancellable, &fd)) {
        (void) g_poll(&fd, 1, (gint) (pause / 1000));
        g_cancellable_release_fd(http->cancellable);
    } else {
        g_usleep((gulong) pause);
    }
}

/* Adds what was asked, and how often in vain. */
static void
tell_where(const KvssHttpRequest *request, unsigned attempts, gint64 start_us, GError **error)
{
    if (error && *error && attempts > 1)
        g_prefix_error(error, "%s %.*s failed %u times in %" G_GINT64_FORMAT " s: ",
                       request->method, path_length(request->path), request->path, attempts,
                       (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC);
    else
        g_prefix_error(error, "%s %.*s: ", request->method, path_length(request->path),
                       request->path);
}

/* The answer to a request that was carried out although its own answer was lost. */
static void
answer_done(KvssHttpAnswer *out_answer)
{
    kvss_http_answer_clear(out_answer);
    out_answer->status = 200;
    out_answer->body = g_bytes_new(NULL, 0);
    out_answer->content_length = 0;
}

static bool
send_until(KvssHttp *http, const KvssHttpRequest *request, KvssHttpAnswer *answer, GError **error)
{
    gint64 start_us = g_get_monotonic_time();

    for (unsigned attempts = 1;; attempts++) {
        g_autoptr(GError) local_error = NULL;
        Outcome outcome = try_once(http, request, answer, &local_error);
        gint64 pause;

        answer->attempts = attempts;
        if (outcome == OUTCOME_ANSWERED)
            return true;
        if (g_cancellable_is_cancelled(http->cancellable))
            outcome = OUTCOME_FINAL;
        if (outcome == OUTCOME_PASSING && request->was_done
            && request->was_done(request, request->data)) {
            answer_done(answer);
            return true;
        }
        pause = pause_us(attempts, answer);
        if (outcome == OUTCOME_FINAL
            || g_get_monotonic_time() - start_us + pause > limit_us(http)) {
            if (outcome == OUTCOME_PASSING)
                g_atomic_int_set(&http->has_answered, 0);
            tell_where(request, attempts, start_us, &local_error);
            g_propagate_error(error, g_steal_pointer(&local_error));
            return false;
        }
        g_debug("%s %.*s: %s: again in %" G_GINT64_FORMAT " ms", request->method,
                path_length(request->path), request->path, local_error->message, pause / 1000);
        kvss_http_answer_clear(answer);
        pause_for(http, pause);
        if (!kvss_check_cancelled(http->cancellable, error))
            return false;
    }
}

bool
kvss_http_send(KvssHttp *http, const KvssHttpRequest *request, KvssHttpAnswer *out_answer,
               GError **error)
{
    g_auto(KvssHttpAnswer) answer = { 0 };
    bool was_cancelled;

    g_assert(request->path[0] == '/' && (!request->into || request->into_length > 0));
    was_cancelled = g_cancellable_is_cancelled(http->cancellable);
    if (was_cancelled && g_atomic_int_get(&http->is_over))
        return kvss_check_cancelled(http->cancellable, error);
    if (!send_until(http, request, &answer, error)) {
        if (was_cancelled)
            g_atomic_int_set(&http->is_over, 1);
        return false;
    }
    g_debug("%s %.*s: %u", request->method, path_length(request->path), request->path,
            answer.status);
    *out_answer = answer;
    answer = (KvssHttpAnswer) { 0 };
    return true;
}
