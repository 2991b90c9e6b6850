/*
 * s3-credentials.h - who we are at an S3 server: from the environment, or AWS's files
 *
 * They are in no message, and wiped when freed.
 */
#pragma once

#include "base/error.h"

typedef struct {
    char *access_key, *secret_key;
    char *session_token; /* (nullable) */
    char *region;        /* (nullable) as the environment or the profile says */
    char *origin;        /* where they were found, for messages: "AWS_ACCESS_KEY_ID", a file and profile */
} KvssS3Credentials;

/**
 * kvss_s3_credentials_find:
 *
 * AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and, if set, AWS_SESSION_TOKEN;
 * else the profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE
 * (~/.aws/credentials) or of AWS_CONFIG_FILE (~/.aws/config). When AWS_PROFILE
 * is set and the key variables are too, the variables win, as with AWS's own tools. The
 * region is AWS_DEFAULT_REGION, else AWS_REGION, else the profile's. No program
 * is run and no server asked: what else a profile may say (credential_process,
 * role_arn, sso) does not count.
 *
 * Errors: KVSS_IO_ERROR_NOT_FOUND, with every place that was looked at;
 * KVSS_IO_ERROR_CORRUPT for half a pair, a file that is none, a value with
 * bytes that no header may have; KVSS_IO_ERROR for a file that cannot be read.
 */
KvssS3Credentials *kvss_s3_credentials_find(GError **error);

/** Wipes and frees. Accepts NULL. */
void kvss_s3_credentials_free(KvssS3Credentials *credentials);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssS3Credentials, kvss_s3_credentials_free)
