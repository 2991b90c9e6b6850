/*
 * repair.h - what the parts of repair share
 *
 *   look     index files, packs, snapshots, keys       what is damaged, and what of it is whole
 *   walk     all trees of all backups (loss.h)         who lost what
 *   salvage  whole blobs of damaged packs              into new packs, with index files
 *   index    new index files without what is lost
 *   note     what was lost (loss.h)                    a snapshot of its own
 *   index    the old index files go
 *
 * The first two change nothing: they are the dry run. No pack is ever removed here:
 * what seems damaged on this machine may be whole on another. prune removes packs
 * that no index names.
 */
#pragma once

#include "repository/damage/loss.h"
#include "repository/repository-private.h"

/** A blob by kind and id. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH]; /* first: kvss_id_hash() looks at it */
    uint8_t is_tree;
} KvssBlobKey;

/** An index file. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    char *problem;     /* NULL: it can be read */
    GByteArray *packs; /* ids of those that it names */
} KvssRepairIndex;

/** A pack that cannot be used as it is. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    char *problem;
    unsigned n_sound, n_lost; /* of its blobs, as far as they are known */
    bool is_there;
    bool was_aside;           /* an earlier repair set it aside */
} KvssRepairPack;

typedef struct {
    KvssRepository *repository;       /* borrowed */
    const KvssRepairOptions *options; /* borrowed */
    KvssRepairResult result;
    KvssDamageNote *old_note;
    GArray *files;         /* KvssStoredFile: the packs that are there */
    GHashTable *sizes;     /* pack id -> its KvssStoredFile */
    GPtrArray *indexes;    /* KvssRepairIndex */

    GMutex lock;           /* guards what follows while threads look */
    GHashTable *bad;       /* pack id -> KvssRepairPack */
    GArray *unindexed;     /* KvssIndexedPack: whole, and no index file names them */
    GHashTable *salvage;   /* KvssBlobKey -> KvssBlobLocation: whole, in a bad pack */
    uint64_t done, total;  /* bytes read of bytes to read */
} KvssRepair;

/** Looks at all packs: fills bad, unindexed and salvage. */
bool kvss_repair_look_at_packs(KvssRepair *repair, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Where a blob can be read, in a pack that is not bad, or else to be salvaged. After the look. */
bool kvss_repair_locate(KvssRepair *repair, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                        KvssBlobLocation *out_location);

/** The pack is not to be counted on, because of @problem (taken). Threads: any. */
KvssRepairPack *kvss_repair_condemn(KvssRepair *repair, const uint8_t id[KVSS_ID_LENGTH],
                                    char *problem);

/** Stores every blob of salvage anew. */
bool kvss_repair_salvage(KvssRepair *repair, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** New index files for what is whole, in place of those that are damaged or name bad packs. */
bool kvss_repair_write_indexes(KvssRepair *repair, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Those go. After the note of what is set aside. */
bool kvss_repair_remove_indexes(KvssRepair *repair, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Is it replaced? */
bool kvss_repair_replaces(const KvssRepair *repair, const KvssRepairIndex *index);
