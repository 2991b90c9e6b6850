/*
 * index-table.h - all blobs of a set of index files, sorted, ready to be mapped
 *
 *   header | index ids | pack ids | entries, sorted by id and kind | SHA-256
 *
 * The bytes in memory and in the cache file are the same, in this machine's
 * byte order: a cache that does not fit is made anew. Nothing here is secret
 * that this host does not know anyway, but it is not for other users' eyes.
 */
#pragma once

#include "repository/index.h"

typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint32_t pack;         /* number of the pack; the top bit says tree */
    uint32_t offset;
    uint32_t length;
    uint32_t plain_length; /* 0: not compressed */
} KvssTableEntry;

#define KVSS_TABLE_TREE 0x80000000u

typedef struct {
    GBytes *bytes;         /* holds all of the following */
    const uint8_t *index_ids, *pack_ids;
    const KvssTableEntry *entries;
    size_t n_index_ids, n_pack_ids, n_entries;
} KvssIndexTable;

void kvss_index_table_free(KvssIndexTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssIndexTable, kvss_index_table_free)

/**
 * kvss_index_table_build:
 * @index_ids, @pack_ids: KVSS_ID_LENGTH bytes each
 * @entries: (element-type KvssTableEntry) sorted in place; equal ones are dropped
 */
KvssIndexTable *kvss_index_table_build(const GByteArray *index_ids, const GByteArray *pack_ids,
                                       GArray *entries);

/** The table of a loaded index, or NULL; borrowed, and only until the next load. */
const KvssIndexTable *kvss_index_table_of(const KvssIndex *index);

/** Maps @path and checks it; NULL when it is absent or not what it should be. */
KvssIndexTable *kvss_index_table_map(const char *path);

/** Best effort: without a cache all works, slower. */
void kvss_index_table_save(const KvssIndexTable *table, const char *path);

bool kvss_index_table_find(const KvssIndexTable *table, bool is_tree,
                           const uint8_t id[KVSS_ID_LENGTH], unsigned copy,
                           KvssBlobLocation *out_location);

/** The place of a blob's first copy among the entries. */
bool kvss_index_table_number(const KvssIndexTable *table, bool is_tree,
                             const uint8_t id[KVSS_ID_LENGTH], size_t *out_number);

/** An entry's other half, as packs list it. */
KvssPackEntry kvss_index_table_pack_entry(const KvssTableEntry *entry);
