/*
 * index-table.h - all blobs of a set of index files, sorted, ready to be mapped
 *
 *   header | index ids | pack ids | entries, sorted by id and kind | SHA-256 of all but the header, then of it
 *
 * The bytes in memory and in the cache file are the same, in this machine's
 * byte order: a cache that does not fit is made anew. Nothing here is secret
 * that this host does not know anyway, but it is not for other users' eyes.
 */
#pragma once

#include "repository/index/index.h"

typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint32_t pack;         /* number of the pack; the top bit says tree */
    uint32_t offset;
    uint32_t length;
    uint32_t plain_length; /* 0: not compressed */
} KvssTableEntry;

#define KVSS_TABLE_TREE 0x80000000u

typedef struct {
    void *mapped;          /* holds all of the following */
    size_t length;
    int fd;                /* the file that is mapped */
    bool is_read;          /* look-ups read the file: it is large */
    uint64_t *keys;        /* of each block of entries: the front of its first id */
    const uint8_t *index_ids, *pack_ids;
    const KvssTableEntry *entries;
    size_t n_index_ids, n_pack_ids, n_entries;
} KvssIndexTable;

void kvss_index_table_free(KvssIndexTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssIndexTable, kvss_index_table_free)

/** Where the index ids begin in the file. */
#define KVSS_TABLE_HEADER_LENGTH 40u

/** The order of entries: by id; data before trees; then by place. 0: one and the same. */
int kvss_index_table_compare(const KvssTableEntry *a, const KvssTableEntry *b);
void kvss_index_table_sort(KvssTableEntry *entries, size_t n);

/**
 * kvss_index_table_seal:
 * @fd: a file that has all but its header and its checksum, which are written now
 *
 * Returns: the table, mapped. @fd remains the caller's. Errors: KVSS_IO_ERROR.
 */
KvssIndexTable *kvss_index_table_seal(int fd, uint64_t n_index_ids, uint64_t n_pack_ids,
                                      uint64_t n_entries, GError **error);

/** The table of a loaded index, or NULL; borrowed, and only until the next load. */
const KvssIndexTable *kvss_index_table_of(const KvssIndex *index);

/** Maps @path and checks it; NULL when it is absent or not what it should be. */
KvssIndexTable *kvss_index_table_map(const char *path);

/** The pages looked at so far are this process's memory no more, until they are looked at again. Threads: any. */
void kvss_index_table_let_go(const KvssIndexTable *table);

/**
 * kvss_index_table_find:
 * @copy: 0 for the blob's first copy, 1 for the next, ...
 * @out_number: (optional) its place among the entries
 * @out_location: (optional)
 *
 * Threads: any.
 */
bool kvss_index_table_find(const KvssIndexTable *table, bool is_tree,
                           const uint8_t id[KVSS_ID_LENGTH], unsigned copy, size_t *out_number,
                           KvssBlobLocation *out_location);

/** An entry's other half, as packs list it. */
KvssPackEntry kvss_index_table_pack_entry(const KvssTableEntry *entry);
