/*
 * s3-server.h - one bucket on an S3 server: requests signed, refusals in words
 *
 *   location, credentials, region ──▶ server ── send ──▶ http, signed ──▶ 2xx, or why not
 *
 * Threads: any number.
 */
#pragma once

#include "repository/backend/http.h"

typedef struct KvssS3Server KvssS3Server;

/**
 * kvss_s3_server_new:
 * @location: "s3:..."
 *
 * Finds the credentials, then asks the server for the bucket: what is wrong
 * with name, key, clock or network is told here, and the region is found out
 * when nobody set it, or set another than the bucket's.
 *
 * Errors: KVSS_REPOSITORY_ERROR_MISSING with what to do.
 * Blocks: on the network.
 * Source: Amazon S3 API Reference, GetBucketLocation; "Virtual hosting of buckets".
 */
KvssS3Server *kvss_s3_server_new(const char *location, GError **error);
void kvss_s3_server_free(KvssS3Server *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssS3Server, kvss_s3_server_free)

/** What every key of the repository begins with: "" or "backups/web/". */
const char *kvss_s3_server_prefix(const KvssS3Server *server);
const char *kvss_s3_server_bucket(const KvssS3Server *server);

/** Is it Amazon's own? */
bool kvss_s3_server_is_amazon(const KvssS3Server *server);

/** The path of a request: @key behind the prefix, or NULL for the bucket; @query from kvss_s3_query(), or NULL. */
char *kvss_s3_server_path(const KvssS3Server *server, const char *key, const char *query);

/**
 * kvss_s3_server_send:
 * @request: its body's hash in the header "x-amz-content-sha256: ...", which must be there with a body
 *
 * True: the answer's status is 2xx. Every refusal is an error in words:
 * KVSS_IO_ERROR_NOT_FOUND (no such object), _NO_SPACE, _BUSY (412: it is there
 * already), _CORRUPT (shorter than asked for), _FAILED;
 * KVSS_REPOSITORY_ERROR_MISSING (bucket, credentials, clock), _UNSUPPORTED
 * (501: this server cannot do that). @out_answer is filled whenever one came.
 */
bool kvss_s3_server_send(KvssS3Server *server, const KvssHttpRequest *request,
                         KvssHttpAnswer *out_answer, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Was something refused for want of permission, since it was opened? */
bool kvss_s3_server_has_denied(KvssS3Server *server);
