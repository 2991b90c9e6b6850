/*
 * key.h - key files: what turns a password into the repository's key
 *
 * A key file is readable JSON: scrypt's parameters and salt, and the master key
 * sealed with what they make of the password. A repository may have several.
 *
 * Source: restic's design document, "Keys, Encryption and MAC".
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/crypto.h"

/** A new random master key. */
void kvss_key_generate(KvssKey *out_key);

/** What one try of a password costs. */
typedef struct {
    uint32_t n, r, p;
} KvssKeyCost;

/** For repositories that are to be kept; tests have cheaper ones. */
extern const KvssKeyCost kvss_key_cost;

/** Stores @master behind @password as one more key file, durable. */
bool kvss_key_add(KvssBackend *backend, const char *password, const KvssKey *master,
                  const KvssKeyCost *cost, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_key_open:
 *
 * Tries every key file. Errors: PASSWORD when all are sound and none opens;
 * CORRUPT or FORMAT when none opens and one could not be understood.
 */
bool kvss_key_open(KvssBackend *backend, const char *password, KvssKey *out_master,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** One key file's text with @password; for kvss_key_open() and for tests. */
bool kvss_key_parse(const void *text, size_t length, const char *password, KvssKey *out_master,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
