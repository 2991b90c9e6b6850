/*
 * prune.h - what the parts of prune share
 *
 *   mark      which blobs do the snapshots need?          a bit an entry of the index table
 *   plan      what becomes of each pack?                  pure arithmetic
 *   repack    what is needed of a pack that goes          into new packs, with index files
 *   index     old index files that name what goes         into new ones without it
 *   remove    old index files, then packs
 */
#pragma once

#include "repository/index/index-table.h"
#include "repository/repository-private.h"

typedef enum {
    KVSS_PACK_KEEP,
    KVSS_PACK_REMOVE, /* nobody needs anything of it */
    KVSS_PACK_REPACK, /* what is needed of it is written anew, then it goes */
} KvssPackFate;

/** One pack that index files name. */
typedef struct {
    uint64_t size;     /* bytes of its file; 0: missing */
    uint64_t length;   /* bytes of its blobs */
    uint64_t end;      /* bytes up to where the last of them ends */
    uint64_t kept;     /* bytes of those that are needed from here */
    uint32_t header;   /* bytes that its header takes */
    uint32_t n;        /* blobs */
    uint8_t fate;      /* KvssPackFate */
    bool is_listed;    /* an index file that stays, or a new one, names it */
} KvssPrunePack;

typedef struct {
    KvssRepository *repository;      /* borrowed */
    const KvssPruneOptions *options; /* borrowed */
    KvssPruneResult result;
    const KvssIndexTable *table;     /* of all index files when prune began; borrowed */
    uint8_t *needed;                 /* a bit for each entry of the table: this copy is needed */
    KvssPrunePack *packs;            /* as the table numbers them */
    GHashTable *numbers;             /* pack id (in the table) -> number + 1 */
    GArray *unknown;                 /* KvssStoredFile: packs that no index file names */
    GArray *old_indexes;             /* KvssStoredFile: those that are replaced */

    GMutex lock;                     /* guards what follows */
    unsigned n_steps;                /* for tests: see kvss_prune_step() */
} KvssPrune;

static inline bool
kvss_prune_is_needed(const KvssPrune *prune, size_t number)
{
    return (prune->needed[number / 8] & (1u << number % 8)) != 0;
}

/** Called for each entry by who goes through all of the table: so that its pages do not all stay ours. */
static inline void
kvss_prune_pass(const KvssPrune *prune, size_t number)
{
    if (number % (1u << 20) == (1u << 20) - 1)
        kvss_index_table_let_go(prune->table);
}

static inline uint32_t
kvss_prune_pack_of(const KvssPrune *prune, size_t number)
{
    return prune->table->entries[number].pack & ~KVSS_TABLE_TREE;
}

static inline const uint8_t *
kvss_prune_pack_id(const KvssPrune *prune, uint32_t pack)
{
    return prune->table->pack_ids + (size_t) pack * KVSS_ID_LENGTH;
}

/**
 * kvss_prune_mark:
 *
 * Fills needed and packs: walks the trees of every snapshot, each tree once; of
 * several copies of a blob one stays needed. Errors: CORRUPT when anything that
 * is needed is not there.
 */
bool kvss_prune_mark(KvssPrune *prune, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Decides the fate of each of @n packs, and counts it in @result. */
void kvss_prune_plan(KvssPrunePack *packs, size_t n, const KvssPruneOptions *options,
                     KvssPruneResult *result);

/** Writes what is needed of packs to be repacked into new packs, which durable index files name. */
bool kvss_prune_repack(KvssPrune *prune, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_prune_write_indexes:
 *
 * New, durable index files in place of those in old_indexes, which it fills: together
 * with those that are not in there they name every pack that stays.
 */
bool kvss_prune_write_indexes(KvssPrune *prune, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Before and behind everything that changes the repository. Threads: any. */
void kvss_prune_step(KvssPrune *prune);

/** Tells how far it is. */
void kvss_prune_tell(KvssPrune *prune, const char *step, uint64_t done, uint64_t total);
