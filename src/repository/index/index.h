/*
 * index.h - where each blob lies
 *
 *   index files (JSON, sealed) ──▶ table: sorted, fixed-size, mapped from the cache
 *   blobs of this run          ──▶ new blobs: hashed, in memory, until the table is loaded anew
 *
 * The table is made once for a set of index files and kept in the cache folder;
 * it is loaded when first needed, so that snapshots are read before it (whoever
 * sees a snapshot then finds all of its blobs).
 */
#pragma once

#include "repository/file/pack.h"

typedef struct KvssIndex KvssIndex;

/** Where one copy of a blob lies. */
typedef struct {
    uint8_t pack[KVSS_ID_LENGTH];
    uint32_t offset, length; /* in the pack, with the seal */
    uint32_t plain_length;
    bool is_compressed;
} KvssBlobLocation;

/** @backend, @codecs: borrowed. @cache_dir: (nullable) this repository's own folder. */
KvssIndex *kvss_index_new(KvssBackend *backend, KvssCodecPool *codecs, const char *cache_dir);

/**
 * kvss_index_pass_over_damage:
 *
 * From now on an index file that cannot be read is passed over: what the others name
 * can be read all the same. For those who only look: who adds or removes must not
 * take "not found" for "not there".
 */
void kvss_index_pass_over_damage(KvssIndex *index);

/** Why an index file was passed over: the first one's message, or NULL. Free with g_free. Threads: any. */
char *kvss_index_damage(KvssIndex *index);

void kvss_index_free(KvssIndex *index);

/**
 * kvss_index_load:
 * @out_changed: (optional) whether there was anything new
 *
 * Makes the table that of the index files present now. Cheap when nothing
 * changed. Errors: CORRUPT, naming the index file. Threads: any.
 */
bool kvss_index_load(KvssIndex *index, bool *out_changed, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_index_find:
 * @copy: 0 for the first copy, 1 for the next, ...
 *
 * Returns: false when there is none (not loaded yet counts as none). Threads: any.
 */
bool kvss_index_find(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                     unsigned copy, KvssBlobLocation *out_location);

/**
 * kvss_index_claim:
 *
 * True: the blob is new, and the caller must store it. False: it is known, or
 * another thread of this run is about to store it. Threads: any.
 */
bool kvss_index_claim(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH]);

/** A finished pack of this run: its blobs, claimed before, can be found from now on. */
void kvss_index_add_pack(KvssIndex *index, const uint8_t pack[KVSS_ID_LENGTH],
                         const KvssPackEntry *entries, size_t n);

/** What was claimed and never stored is unknown again. */
void kvss_index_drop_claims(KvssIndex *index);

/** The ids of all packs that the loaded table names, KVSS_ID_LENGTH bytes each. */
GByteArray *kvss_index_pack_ids(KvssIndex *index);

/** The same among the blobs of kvss_index_add_pack() only. Threads: any. */
bool kvss_index_find_new(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                         KvssBlobLocation *out_location);

/* ---- for verify ---- */

/** Entries in the loaded table: blobs, and further copies of them. */
size_t kvss_index_count(KvssIndex *index);

/**
 * The number, below the count, of a blob's first entry, and where that lies (optional);
 * false when it has none. Threads: any.
 */
bool kvss_index_number(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                       size_t *out_number, KvssBlobLocation *out_location);

/** One pack as the table has it: blobs in order of offset, and their numbers. */
typedef bool (*KvssIndexVisit)(const uint8_t pack[KVSS_ID_LENGTH], const KvssPackEntry *entries,
                               const uint32_t *numbers, size_t n, gpointer data, GError **error);

/** Calls @visit for each pack of the loaded table; no load may happen meanwhile. */
bool kvss_index_visit_packs(KvssIndex *index, KvssIndexVisit visit, gpointer data,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- index files ---- */

/** The JSON of an index file. @packs: (element-type KvssIndexedPack) */
GString *kvss_index_text(const GArray *packs);

/** Called for each pack that an index file lists. */
typedef void (*KvssIndexPackFunc)(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries,
                                  gpointer data);

/** Reads an index file's JSON. Errors: CORRUPT; some packs may have been told before it. */
bool kvss_index_parse(const void *text, size_t length, KvssIndexPackFunc func, gpointer data,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
