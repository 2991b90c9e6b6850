/*
 * index.c - where each blob lies: the table of all index files, and this run's new blobs
 *
 * Loading, with the cache at hand:
 *
 *   same index files as the cached table       map it
 *   the cached ones and some more              read only the new ones, merge
 *   one of the cached ones is gone (a prune)   read all
 */
#include "repository/file/document.h"
#include "repository/format/id.h"
#include "repository/index/index-build.h"
#include "repository/index/index-table.h"
#include "repository/index/index.h"
#include "repository/index/new-blobs.h"

#include <string.h>

/* Packs are visited so many entries at a time: 56 MiB, and 48 MiB of the table at most before it is let go of. */
#define ENTRIES_AT_HAND (1u << 20)

struct KvssIndex {
    KvssBackend *backend;    /* borrowed */
    KvssCodecPool *codecs;   /* borrowed */
    char *cache_path;        /* (nullable) */
    GMutex load_lock;        /* one load at a time */
    GRWLock lock;            /* guards table, not what it points to */
    KvssIndexTable *table;   /* NULL: not loaded yet */
    KvssNewBlobs *new_blobs;
    gint has_claims;         /* an upload goes on: its blobs are in no index file yet */
    GHashTable *passed_over; /* (nullable) id -> message: files that cannot be read; under load_lock */
};

KvssIndex *
kvss_index_new(KvssBackend *backend, KvssCodecPool *codecs, const char *cache_dir)
{
    KvssIndex *index = g_new0(KvssIndex, 1);

    index->backend = backend;
    index->codecs = codecs;
    index->cache_path = cache_dir ? g_build_filename(cache_dir, "index", NULL) : NULL;
    index->new_blobs = kvss_new_blobs_new();
    g_mutex_init(&index->load_lock);
    g_rw_lock_init(&index->lock);
    return index;
}

void
kvss_index_free(KvssIndex *index)
{
    if (!index)
        return;
    kvss_index_table_free(index->table);
    kvss_new_blobs_free(index->new_blobs);
    g_rw_lock_clear(&index->lock);
    g_mutex_clear(&index->load_lock);
    g_clear_pointer(&index->passed_over, g_hash_table_unref);
    g_free(index->cache_path);
    g_free(index);
}

void
kvss_index_pass_over_damage(KvssIndex *index)
{
    if (!index->passed_over)
        index->passed_over
            = g_hash_table_new_full(kvss_id_hash, kvss_id_same, g_free, g_free);
}

char *
kvss_index_damage(KvssIndex *index)
{
    GHashTableIter iter;
    gpointer message = NULL;

    g_mutex_lock(&index->load_lock);
    if (index->passed_over) {
        g_hash_table_iter_init(&iter, index->passed_over);
        (void) g_hash_table_iter_next(&iter, NULL, &message);
    }
    message = g_strdup(message);
    g_mutex_unlock(&index->load_lock);
    return message;
}

/* ---- loading ---- */

static bool
build_add_file(KvssIndexBuild *build, const KvssIndex *index, const uint8_t *id, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(GBytes) json = NULL;

    kvss_id_to_hex(id, name);
    json = kvss_document_read(index->backend, index->codecs, KVSS_FILE_INDEX, name,
                              KVSS_INDEX_MAX, error);
    if (!json)
        return false;
    if (!kvss_index_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json),
                          kvss_index_build_add_pack, build, error)) {
        g_prefix_error(error, "index %.8s is damaged: ", name);
        return false;
    }
    kvss_index_build_add_index(build, id);
    return true;
}

static int
compare_files(const void *a, const void *b)
{
    return memcmp(((const KvssStoredFile *) a)->id, ((const KvssStoredFile *) b)->id,
                  KVSS_ID_LENGTH);
}

static GHashTable *
table_index_ids(const KvssIndexTable *table)
{
    GHashTable *ids = g_hash_table_new(kvss_id_hash, kvss_id_same);

    for (size_t i = 0; table && i < table->n_index_ids; i++)
        g_hash_table_add(ids, (gpointer) (table->index_ids + i * KVSS_ID_LENGTH));
    return ids;
}

/* How many of the table's index files are still among @files. */
static size_t
count_known(GHashTable *known, const GArray *files)
{
    size_t n = 0;

    for (guint i = 0; i < files->len; i++)
        n += g_hash_table_contains(known, g_array_index(files, KvssStoredFile, i).id);
    return n;
}

/* One that is gone is a prune's doing, and the caller lists anew; nobody is told of damage then. */
static bool
pass_over(const KvssIndex *index, const uint8_t *id, const GError *error)
{
    if (!index->passed_over
        || g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return false;
    g_debug("passed over: %s", error->message);
    g_hash_table_insert(index->passed_over, g_memdup2(id, KVSS_ID_LENGTH),
                        g_strdup(error->message));
    return true;
}

/* The table for exactly @files, built on @old where that is a part of it; mapped from the cache. */
static KvssIndexTable *
build_table(const KvssIndex *index, const KvssIndexTable *old, const GArray *files, GError **error)
{
    g_autoptr(GHashTable) known = table_index_ids(old);
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(index->cache_path, 0, error);

    if (!build)
        return NULL;
    if (old && count_known(known, files) == old->n_index_ids)
        kvss_index_build_add_table(build, old);
    else
        g_hash_table_remove_all(known);
    for (guint i = 0; i < files->len; i++) {
        const uint8_t *id = g_array_index(files, KvssStoredFile, i).id;
        g_autoptr(GError) local_error = NULL;

        if (g_hash_table_contains(known, id) || build_add_file(build, index, id, &local_error)
            || pass_over(index, id, local_error))
            continue;
        g_propagate_error(error, g_steal_pointer(&local_error));
        return NULL;
    }
    return kvss_index_build_finish(build, error);
}

static bool
table_is_of(const KvssIndexTable *table, const GArray *files)
{
    g_autoptr(GHashTable) known = NULL;

    if (!table || table->n_index_ids != files->len)
        return false;
    known = table_index_ids(table);
    return count_known(known, files) == files->len;
}

/*
 * New blobs that index files name by now need no place of their own. While an
 * upload goes on some are in no index file, and all are kept.
 */
static void
use_table(KvssIndex *index, KvssIndexTable *table)
{
    KvssIndexTable *old;

    g_rw_lock_writer_lock(&index->lock);
    old = index->table;
    index->table = table;
    if (!g_atomic_int_get(&index->has_claims))
        kvss_new_blobs_clear(index->new_blobs);
    g_rw_lock_writer_unlock(&index->lock);
    kvss_index_table_free(old);
}

/* The index files that there are, but for those passed over. */
static GArray *
list_files(const KvssIndex *index, GError **error)
{
    GArray *files = kvss_backend_list(index->backend, KVSS_FILE_INDEX, error);

    for (guint i = files && index->passed_over ? files->len : 0; i > 0; i--)
        if (g_hash_table_contains(index->passed_over,
                                  g_array_index(files, KvssStoredFile, i - 1).id))
            g_array_remove_index_fast(files, i - 1);
    return files;
}

static bool
index_load(KvssIndex *index, bool *out_changed, GError **error)
{
    g_autoptr(GArray) files = list_files(index, error);
    g_autoptr(KvssIndexTable) cached = NULL;
    KvssIndexTable *table;

    if (!files)
        return false;
    *out_changed = !table_is_of(index->table, files);
    if (!*out_changed)
        return true;

    g_array_sort(files, compare_files);
    if (index->cache_path)
        cached = kvss_index_table_map(index->cache_path);
    if (table_is_of(cached, files)) {
        use_table(index, g_steal_pointer(&cached));
        return true;
    }
    table = build_table(index, cached ? cached : index->table, files, error);
    if (!table)
        return false;
    use_table(index, table);
    return true;
}

bool
kvss_index_load(KvssIndex *index, bool *out_changed, GError **error)
{
    bool changed = false, ok;

    g_mutex_lock(&index->load_lock);
    ok = index_load(index, &changed, error);
    g_mutex_unlock(&index->load_lock);
    if (ok && out_changed)
        *out_changed = changed;
    return ok;
}

/* ---- looking up ---- */

bool
kvss_index_find(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH], unsigned copy,
                KvssBlobLocation *out_location)
{
    bool found;

    g_rw_lock_reader_lock(&index->lock);
    found = index->table && kvss_index_table_find(index->table, is_tree, id, copy, NULL,
                                                  out_location);
    if (!found && copy == 0)
        found = kvss_new_blobs_find(index->new_blobs, is_tree, id, out_location);
    g_rw_lock_reader_unlock(&index->lock);
    return found;
}

bool
kvss_index_find_new(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                    KvssBlobLocation *out_location)
{
    return kvss_new_blobs_find(index->new_blobs, is_tree, id, out_location);
}

bool
kvss_index_claim(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH])
{
    bool is_new;

    g_atomic_int_set(&index->has_claims, 1);
    g_rw_lock_reader_lock(&index->lock);
    is_new = !(index->table
               && kvss_index_table_find(index->table, is_tree, id, 0, NULL, NULL))
        && kvss_new_blobs_claim(index->new_blobs, is_tree, id);
    g_rw_lock_reader_unlock(&index->lock);
    return is_new;
}

void
kvss_index_add_pack(KvssIndex *index, const uint8_t pack[KVSS_ID_LENGTH],
                    const KvssPackEntry *entries, size_t n)
{
    kvss_new_blobs_add(index->new_blobs, pack, entries, n);
}

void
kvss_index_drop_claims(KvssIndex *index)
{
    kvss_new_blobs_drop_claims(index->new_blobs);
    g_atomic_int_set(&index->has_claims, 0);
}

const KvssIndexTable *
kvss_index_table_of(const KvssIndex *index)
{
    return index->table;
}

/* ---- for verify ---- */

GByteArray *
kvss_index_pack_ids(KvssIndex *index)
{
    GByteArray *ids = g_byte_array_new();

    g_rw_lock_reader_lock(&index->lock);
    if (index->table)
        g_byte_array_append(ids, index->table->pack_ids,
                            (guint) (index->table->n_pack_ids * KVSS_ID_LENGTH));
    g_rw_lock_reader_unlock(&index->lock);
    return ids;
}

size_t
kvss_index_count(KvssIndex *index)
{
    return index->table ? index->table->n_entries : 0;
}

bool
kvss_index_number(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                  size_t *out_number, KvssBlobLocation *out_location)
{
    bool found;

    g_rw_lock_reader_lock(&index->lock);
    found = index->table
        && kvss_index_table_find(index->table, is_tree, id, 0, out_number, out_location);
    g_rw_lock_reader_unlock(&index->lock);
    return found;
}

/** One entry, for sorting. */
typedef struct {
    KvssPackEntry entry;
    uint32_t number;
} Numbered;

/* Where the entries of each pack begin when they are in order of packs: one place more than packs. */
static size_t *
starts_of_packs(const KvssIndexTable *table)
{
    size_t n_packs = table->n_pack_ids, *starts = g_new0(size_t, n_packs + 1);

    for (size_t i = 0; i < table->n_entries; i++) {
        uint32_t pack = table->entries[i].pack & ~KVSS_TABLE_TREE;

        if (pack < n_packs)
            starts[pack + 1]++;
        if (i % ENTRIES_AT_HAND == ENTRIES_AT_HAND - 1)
            kvss_index_table_let_go(table);
    }
    for (size_t i = 0; i < n_packs; i++)
        starts[i + 1] += starts[i];
    return starts;
}

/* Packs from @first on whose entries are at hand together: at least one. */
static size_t
end_of_batch(const KvssIndexTable *table, const size_t *starts, size_t first)
{
    size_t end = first + 1;

    while (end < table->n_pack_ids && starts[end + 1] - starts[first] <= ENTRIES_AT_HAND)
        end++;
    return end;
}

/* The entries of packs [@first, @end), pack after pack. The table is read from front to back. */
static Numbered *
collect(const KvssIndexTable *table, const size_t *starts, size_t first, size_t end)
{
    Numbered *batch = g_new(Numbered, starts[end] - starts[first]);
    g_autofree size_t *next = g_memdup2(starts + first, (end - first) * sizeof *next);

    for (size_t i = 0; i < table->n_entries; i++) {
        uint32_t pack = table->entries[i].pack & ~KVSS_TABLE_TREE;

        if (pack >= first && pack < end)
            batch[next[pack - first]++ - starts[first]]
                = (Numbered) { kvss_index_table_pack_entry(&table->entries[i]), (uint32_t) i };
        if (i % ENTRIES_AT_HAND == ENTRIES_AT_HAND - 1)
            kvss_index_table_let_go(table);
    }
    return batch;
}

static int
compare_offsets(const void *a, const void *b)
{
    uint32_t one = ((const Numbered *) a)->entry.offset, two = ((const Numbered *) b)->entry.offset;

    return one < two ? -1 : one > two;
}

static bool
visit_pack(const uint8_t *pack, Numbered *numbered, size_t n, KvssIndexVisit visit, gpointer data,
           GError **error)
{
    g_autofree KvssPackEntry *entries = g_new(KvssPackEntry, n);
    g_autofree uint32_t *numbers = g_new(uint32_t, n);

    qsort(numbered, n, sizeof *numbered, compare_offsets);
    for (size_t i = 0; i < n; i++) {
        entries[i] = numbered[i].entry;
        numbers[i] = numbered[i].number;
    }
    return visit(pack, entries, numbers, n, data, error);
}

bool
kvss_index_visit_packs(KvssIndex *index, KvssIndexVisit visit, gpointer data, GError **error)
{
    const KvssIndexTable *table = index->table;
    g_autofree size_t *starts = table ? starts_of_packs(table) : NULL;

    for (size_t first = 0, end; table && first < table->n_pack_ids; first = end) {
        g_autofree Numbered *batch = NULL;

        end = end_of_batch(table, starts, first);
        batch = collect(table, starts, first, end);
        for (size_t pack = first; pack < end; pack++) {
            size_t n = starts[pack + 1] - starts[pack];

            if (n > 0
                && !visit_pack(table->pack_ids + pack * KVSS_ID_LENGTH,
                               batch + (starts[pack] - starts[first]), n, visit, data, error))
                return false;
        }
    }
    return true;
}
