/*
 * repository-private.h - what the files of this folder share about an open repository
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/codec.h"
#include "repository/id.h"
#include "repository/index.h"
#include "repository/key.h"
#include "repository/lock.h"
#include "repository/repository.h"

struct KvssRepository {
    KvssBackend *backend;
    KvssCodecPool *codecs;
    KvssIndex *index;
    KvssLock *lock; /* NULL: opened to look, on a file system that cannot be written */
    GHashTable *snapshots; /* KvssSnapshot by id: those that were read */
    KvssRepositoryMode mode;
    char *cache_dir; /* (nullable) this repository's own folder on this host */
    char id[KVSS_ID_HEX_LENGTH + 1];
    char *state_dir;
    char key[KVSS_ID_HEX_LENGTH + 1]; /* the key file that opened it */
};

/* The most a document may have, unpacked: they come from outside. */
#define KVSS_CONFIG_MAX (1u << 20)
#define KVSS_KEY_MAX (64u << 10)
#define KVSS_LOCK_MAX (64u << 10)
#define KVSS_SNAPSHOT_MAX (16u << 20)
#define KVSS_INDEX_MAX (512u << 20)

/**
 * kvss_repository_init_at_cost:
 * @cost: what a try of the password costs whoever opens it, us as well
 *
 * kvss_repository_init(), for repositories that are opened a thousand times and
 * guard nothing: those of tests.
 */
bool kvss_repository_init_at_cost(const char *location, const char *password,
                                  const KvssKeyCost *cost, char **out_id,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The text of a config file. Errors: CORRUPT; FORMAT for a version that this build does not know. */
bool kvss_config_parse(const void *text, size_t length, char out_id[KVSS_ID_HEX_LENGTH + 1],
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_document_read:
 * @name: 64 hex digits: must be the hash of the file's bytes
 *
 * The JSON of an index, snapshot or lock file.
 * Errors: CORRUPT, FORMAT; KVSS_IO_ERROR with the backend's words.
 */
GBytes *kvss_document_read(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                           const char *name, size_t max_length, GError **error);

/** Seals @json, stores it under its hash, durable; on failure it is not there. @out_name: (optional). */
bool kvss_document_write(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                         const GString *json, char out_name[KVSS_ID_HEX_LENGTH + 1],
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
