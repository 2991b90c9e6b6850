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
#include "repository/format/crypto.h"

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

/** The same; @out_name is the new file's. */
bool kvss_key_add_named(KvssBackend *backend, const char *password, const KvssKey *master,
                        const KvssKeyCost *cost, char out_name[KVSS_ID_HEX_LENGTH + 1],
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_key_find:
 * @out_name: the key file that opened
 *
 * Tries every key file. Errors: PASSWORD when all are sound and none opens;
 * CORRUPT or FORMAT when none opens and one is damaged or could not be understood.
 */
bool kvss_key_find(KvssBackend *backend, const char *password, KvssKey *out_master,
                   char out_name[KVSS_ID_HEX_LENGTH + 1], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The same, whichever it was. */
bool kvss_key_open(KvssBackend *backend, const char *password, KvssKey *out_master,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Who made a key file, when and where; what is missing is NULL. */
typedef struct {
    char *created, *username, *hostname;
} KvssKeyNote;

void kvss_key_note_clear(KvssKeyNote *note);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssKeyNote, kvss_key_note_clear)

/** Errors: CORRUPT. */
bool kvss_key_note_parse(const void *text, size_t length, KvssKeyNote *out_note, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** One key file's text with @password; for kvss_key_open() and for tests. */
bool kvss_key_parse(const void *text, size_t length, const char *password, KvssKey *out_master,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
