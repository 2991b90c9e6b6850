/*
 * repository-private.h - what the files of this folder share about an open repository
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/file/key.h"
#include "repository/format/codec.h"
#include "repository/format/id.h"
#include "repository/index/index.h"
#include "repository/lock/lock.h"
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
