/*
 * s3-location.h - "s3:https://host:port/bucket/prefix", and how its server is addressed
 */
#pragma once

#include "base/error.h"

typedef struct {
    char *scheme, *host;  /* "https", "s3.example.org:9000": the port as it was given */
    char *bucket;
    char *prefix;         /* "" or "backups/web/": what every key begins with */
} KvssS3Location;

void kvss_s3_location_clear(KvssS3Location *location);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssS3Location, kvss_s3_location_clear)

/**
 * kvss_s3_location_read:
 * @text: "s3:http://...", "s3:https://...", or restic's "s3:host/bucket" and "s3://host/bucket", which mean https
 *
 * Errors: KVSS_IO_ERROR_FAILED with what is wrong. @text is not in it: who puts a
 * secret there shall not find it in a log.
 */
bool kvss_s3_location_read(const char *text, KvssS3Location *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Is it Amazon's own service? Its buckets have regions, and host names of their own. */
bool kvss_s3_location_is_amazon(const KvssS3Location *location);

/** The region that an Amazon host name says: "s3.eu-central-1.amazonaws.com". NULL: none, or not Amazon. */
char *kvss_s3_location_region(const KvssS3Location *location);

/** Letters, digits and dashes, at most 63: what may go into a host name and a signature. */
bool kvss_s3_region_is_sane(const char *region);

/**
 * kvss_s3_location_address:
 * @region: of the bucket
 * @out_origin: "https://host:port"
 * @out_root: escaped path of the bucket's root, ends with '/'
 *
 * Amazon: the bucket in the host name, at the region's own host; anybody else,
 * and a bucket with dots, for which no certificate is good: in the path.
 */
void kvss_s3_location_address(const KvssS3Location *location, const char *region,
                              char **out_origin, char **out_root);
