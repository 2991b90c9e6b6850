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
    GPtrArray *index_damage;          /* borrowed KvssFinding: index files that cannot be read */
    GHashTable *sound_packs;          /* ids of the packs that the others name; NULL: all index files can be read */
    uint8_t *needed;                  /* a bit for each entry of the index: some snapshot uses it */

    GMutex lock;                      /* guards what follows, and result */
    GPtrArray *findings;              /* KvssFinding */
    GHashTable *damaged;              /* a kind and an id -> GPtrArray of its KvssFinding */
} KvssVerify;

/** A new finding, that reaches nobody yet. @what is taken. Threads: any. */
KvssFinding *kvss_verify_find(KvssVerify *verify, char *what);

/** This blob cannot be had because of @finding, which is one of its findings from now on. Threads: any. */
void kvss_verify_lose(KvssVerify *verify, KvssFinding *finding, bool is_tree,
                      const uint8_t id[KVSS_ID_LENGTH]);

/** One pack that could be read. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint64_t size; /* bytes, not 0 */
} KvssVerifyPack;

/** Is only a sample of the packs to be read? */
bool kvss_verify_has_sample(const KvssVerifyOptions *options);

/**
 * kvss_verify_draw_sample:
 * @packs: (element-type KvssVerifyPack) reduced to those that are drawn
 *
 * Draws without putting back, a pack as likely as it is large, until the amount
 * that @options names is reached. Depends on the packs' ids, not on their order.
 */
void kvss_verify_draw_sample(GArray *packs, const KvssVerifyOptions *options);

/** Checks every pack that has a needed blob; with read_data, reads it. */
bool kvss_verify_packs(KvssVerify *verify, GError **error) G_GNUC_WARN_UNUSED_RESULT;
