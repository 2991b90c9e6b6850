/*
 * http.h - requests to one HTTP server: for repositories that lie behind one
 *
 * A request is tried again, with growing pauses and a limit, when its failure
 * may pass: no connection, a connection that broke or stalled, an answer that
 * is shorter than announced, 408, 429, 500, 502, 503, 504. Every other answer
 * is the caller's to judge. TLS is always verified, redirects are never
 * followed: credentials go to the server that the user named, and to no other.
 *
 * The cancellable that is the thread's current one (g_cancellable_push_current())
 * when the object is made ends requests and the pauses between them: CANCELLED. What
 * is asked later has one attempt and seconds, so that a lock can still be given back.
 *
 * Threads: any number on one object; connections are kept and used again.
 */
#pragma once

#include "base/error.h"

#include <gio/gio.h>

typedef struct KvssHttp KvssHttp;
typedef struct KvssHttpRequest KvssHttpRequest;
typedef struct KvssHttpAnswer KvssHttpAnswer;

struct KvssHttpRequest {
    const char *method;         /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *path;           /* as sent, escaped: begins with '/', may end with "?query" */
    const char *const *headers; /* (nullable) NULL-terminated "Name: value" */

    const void *body;           /* (nullable) sent again at each attempt; borrowed */
    size_t body_length;

    /* Exactly @into_length bytes from @offset go to @into: asked for as a range, and only 206 will do. */
    void *into;                 /* (nullable) */
    size_t into_length;         /* with @into: at least 1 */
    uint64_t offset;

    /* Without @into: the most that the body of an answer may have. 0: 64 KiB. More is an error. */
    size_t max_answer;

    /*
     * (nullable) Asked before each further attempt, after a failure that leaves
     * open whether the request was carried out: true ends it with status 200
     * and no body. May send requests of its own.
     */
    bool (*was_done)(const KvssHttpRequest *request, gpointer data);
    gpointer data;
};

struct KvssHttpAnswer {
    unsigned status;            /* 100 to 599 */
    unsigned attempts;          /* 2 and more: an earlier one may have been carried out already */
    GBytes *body;               /* without @into, or when the status is not 206; never NULL */
    uint64_t content_length;    /* as announced; G_MAXUINT64: not. The size that HEAD tells */
    GHashTable *headers;        /* lower-case name -> value, the last of a name; bounded */
};

void kvss_http_answer_clear(KvssHttpAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssHttpAnswer, kvss_http_answer_clear)

/** A header of the answer; @name in lower case. NULL: not there. */
const char *kvss_http_answer_header(const KvssHttpAnswer *answer, const char *name);

typedef struct {
    const char *origin;         /* "https://host:port": nothing after it, no credentials */
    const char *user, *password;/* (nullable) HTTP basic authentication */
    const char *ca_file;        /* (nullable) else KVSS_CA_FILE, RESTIC_CACERT, CURL_CA_BUNDLE, SSL_CERT_FILE, the system's */

    /* (nullable) Called before each attempt, adds headers ("Name: value", taken): what depends on the time. */
    bool (*sign)(const KvssHttpRequest *request, GPtrArray *headers, gpointer data,
                 GError **error);
    /* (nullable) True: this answer, too, is a failure that may pass. */
    bool (*is_passing)(const KvssHttpAnswer *answer, gpointer data);
    gpointer data;              /* of both */
} KvssHttpOptions;

/** Everything in @options is copied but for @data. Asks the server nothing. Errors: KVSS_IO_ERROR for an origin that is none. */
KvssHttp *kvss_http_new(const KvssHttpOptions *options, GError **error);
void kvss_http_free(KvssHttp *http);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssHttp, kvss_http_free)

/** "host:port": for messages and for the Host header, which has the port only when it is not the scheme's own. */
const char *kvss_http_host(const KvssHttp *http);

/**
 * kvss_http_send:
 * @out_answer: filled when true is returned, to be cleared
 *
 * True: there is an answer that is not one to pass, whatever its status. False:
 * KVSS_IO_ERROR_FAILED or _TIMED_OUT with what the last attempt met, how many
 * there were and for how long. A server that has not answered yet since
 * kvss_http_new() is given up after seconds, one that has after minutes.
 * Credentials are in no message. Blocks: on the network.
 */
bool kvss_http_send(KvssHttp *http, const KvssHttpRequest *request, KvssHttpAnswer *out_answer,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Turns an answer with a status nobody expected into an error: "HEAD /x: the server answered 403 Forbidden (body)". Returns: false. */
bool kvss_http_throw(const KvssHttpRequest *request, const KvssHttpAnswer *answer,
                     GError **error);
