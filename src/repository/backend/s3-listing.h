/*
 * s3-listing.h - what an S3 server answers in XML: listings, errors, where a bucket lies
 *
 * The server is a stranger: its answers are bounded, have no document type, no
 * entities of their own, and lead to no other file or host.
 *
 * Source: Amazon S3 API Reference, ListObjectsV2, GetBucketLocation, "Error Responses".
 */
#pragma once

#include "base/error.h"

/** The most that an answer in XML may have: 1000 keys of 1024 bytes, each byte escaped. */
#define KVSS_S3_ANSWER_MAX (8u << 20)

typedef struct {
    char *key;     /* as stored, unescaped */
    uint64_t size;
} KvssS3Object;

/** One page of a listing. */
typedef struct {
    GArray *objects; /* element-type KvssS3Object */
    char *next;      /* the token for the next page; NULL: this is the last */
} KvssS3Listing;

void kvss_s3_listing_clear(KvssS3Listing *listing);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssS3Listing, kvss_s3_listing_clear)

/**
 * kvss_s3_listing_parse:
 * @out: filled when true is returned, to be cleared
 *
 * The answer to ListObjectsV2. Whether a key is one of ours is the caller's to judge.
 *
 * Errors: KVSS_IO_ERROR_CORRUPT for what is no such answer, has more than 1000
 * objects or a size that is no number, or goes on without saying where.
 */
bool kvss_s3_listing_parse(const void *text, size_t length, KvssS3Listing *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Why the server refused. All are "" when it did not say. Printable ASCII only. */
typedef struct {
    char code[64];     /* "NoSuchKey" */
    char message[256];
    char region[64];   /* where the bucket lies, when we were wrong */
} KvssS3Refusal;

/** An answer that is no error document (a proxy's page) leaves all of @out empty. */
void kvss_s3_refusal_parse(const void *text, size_t length, KvssS3Refusal *out);

/** The answer to GetBucketLocation; AWS's two old ways to say a region are translated. NULL: it is no such answer. */
char *kvss_s3_location_parse(const void *text, size_t length);
