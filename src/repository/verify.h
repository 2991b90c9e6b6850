/*
 * verify.h - what the two halves of verify share: what was found, and whom it hurts
 */
#pragma once

#include "repository/repository-private.h"

/** One damage, and the backups and files that it reaches. */
typedef struct {
    char *what;
    GHashTable *snapshot_ids, *paths; /* sets of strings */
} KvssFinding;

typedef struct {
    KvssRepository *repository;       /* borrowed */
    const KvssVerifyOptions *options; /* borrowed */
    KvssVerifyResult result;
    GPtrArray *snapshots;             /* KvssSnapshot: those to verify */
    uint8_t *needed;                  /* a bit for each entry of the index: some snapshot uses it */

    GMutex lock;                      /* guards what follows, and result */
    GPtrArray *findings;              /* KvssFinding */
    GHashTable *damaged;              /* a kind and an id -> its KvssFinding */
} KvssVerify;

/** A new finding, that reaches nobody yet. @what is taken. Threads: any. */
KvssFinding *kvss_verify_find(KvssVerify *verify, char *what);

/** This blob cannot be had because of @finding; the first finding stays. Threads: any. */
void kvss_verify_lose(KvssVerify *verify, KvssFinding *finding, bool is_tree,
                      const uint8_t id[KVSS_ID_LENGTH]);

/** Checks every pack that has a needed blob; with read_data, reads it. */
bool kvss_verify_packs(KvssVerify *verify, GError **error) G_GNUC_WARN_UNUSED_RESULT;
