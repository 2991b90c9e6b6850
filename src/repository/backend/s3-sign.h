/*
 * s3-sign.h - the signature of a request to an S3 server, AWS Signature Version 4
 *
 * Pure functions: no clock, no network. Source: AWS, "Authenticating Requests:
 * Using the Authorization Header"; its published examples are the unit test.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Hex of a SHA-256 with its NUL. */
#define KVSS_S3_HASH_LENGTH 65

/** What is signed of a request, all of it exactly as it is sent. */
typedef struct {
    const char *method;
    const char *host;           /* as in the Host header */
    const char *path;           /* escaped, begins with '/' */
    const char *query;          /* from kvss_s3_query(); "" for none */
    const char *const *headers; /* (nullable) further ones to sign, NULL-terminated "name: value" */
    const char *payload_hash;   /* hex SHA-256 of the body, which x-amz-content-sha256 says too */
} KvssS3Signable;

/**
 * kvss_s3_sign:
 * @time_s: seconds since 1970, the same that x-amz-date says
 *
 * Signs host, x-amz-content-sha256, x-amz-date and @request->headers (which
 * hold neither of those), whatever their order and the case of their names.
 *
 * Returns: the value of the Authorization header. The secret key is not in it.
 */
char *kvss_s3_sign(const KvssS3Signable *request, const char *access_key, const char *secret_key,
                   const char *region, gint64 time_s);

/** The value of x-amz-date: "20130524T000000Z". */
void kvss_s3_date(gint64 time_s, char out[17]);

/** Lower-case hex SHA-256. */
void kvss_s3_hash(const void *data, size_t length, char out[KVSS_S3_HASH_LENGTH]);

/** Every byte but letters, digits and -_.~ as %XX; '/' stays when @keep_slash. */
char *kvss_s3_escape(const char *text, bool keep_slash);

/** name, value, name, value, ..., NULL: escaped, sorted, "name=value&...". A value that is NULL leaves the pair out. */
char *kvss_s3_query(const char *name, ...) G_GNUC_NULL_TERMINATED;
