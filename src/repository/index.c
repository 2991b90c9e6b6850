/*
 * index.c - where each blob lies: the table of all index files, and this run's new blobs
 *
 * Loading, with the cache at hand:
 *
 *   same index files as the cached table       map it
 *   the cached ones and some more              read only the new ones, merge
 *   one of the cached ones is gone (a prune)   read all
 */
#include "repository/id.h"
#include "repository/index-table.h"
#include "repository/index.h"
#include "repository/new-blobs.h"
#include "repository/repository-private.h"

#include <string.h>

struct KvssIndex {
    KvssBackend *backend;    /* borrowed */
    KvssCodecPool *codecs;   /* borrowed */
    char *cache_path;        /* (nullable) */
    GMutex load_lock;        /* one load at a time */
    GRWLock lock;            /* guards table, not what it points to */
    KvssIndexTable *table;   /* NULL: not loaded yet */
    KvssNewBlobs *new_blobs;
    gint has_claims;         /* an upload goes on: its blobs are in no index file yet */
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
    g_free(index->cache_path);
    g_free(index);
}

/* ---- loading ---- */

/** A table in the making. */
typedef struct {
    GByteArray *index_ids, *pack_ids;
    GArray *entries;      /* KvssTableEntry */
    GHashTable *numbers;  /* pack id -> number + 1 */
} Build;

static void
build_clear(Build *build)
{
    g_clear_pointer(&build->index_ids, g_byte_array_unref);
    g_clear_pointer(&build->pack_ids, g_byte_array_unref);
    g_clear_pointer(&build->entries, g_array_unref);
    g_clear_pointer(&build->numbers, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Build, build_clear)

static void
build_init(Build *build)
{
    build->index_ids = g_byte_array_new();
    build->pack_ids = g_byte_array_new();
    build->entries = g_array_new(FALSE, FALSE, sizeof(KvssTableEntry));
    build->numbers = g_hash_table_new_full(kvss_id_hash, kvss_id_same, g_free, NULL);
}

static uint32_t
build_pack_number(Build *build, const uint8_t *pack)
{
    guint number = GPOINTER_TO_UINT(g_hash_table_lookup(build->numbers, pack));

    if (number == 0) {
        g_byte_array_append(build->pack_ids, pack, KVSS_ID_LENGTH);
        number = build->pack_ids->len / KVSS_ID_LENGTH;
        g_hash_table_insert(build->numbers, g_memdup2(pack, KVSS_ID_LENGTH),
                            GUINT_TO_POINTER(number));
    }
    return number - 1;
}

static void
build_add_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    Build *build = data;
    uint32_t number = build_pack_number(build, pack);

    for (guint i = 0; i < entries->len; i++) {
        const KvssPackEntry *from = &g_array_index(entries, KvssPackEntry, i);
        KvssTableEntry to = {
            .pack = number | (from->is_tree ? KVSS_TABLE_TREE : 0),
            .offset = from->offset,
            .length = from->length,
            .plain_length = from->is_compressed ? from->plain_length : 0,
        };

        memcpy(to.id, from->id, KVSS_ID_LENGTH);
        g_array_append_val(build->entries, to);
    }
}

static bool
build_add_file(Build *build, const KvssIndex *index, const uint8_t *id, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(GBytes) json = NULL;

    kvss_id_to_hex(id, name);
    json = kvss_document_read(index->backend, index->codecs, KVSS_FILE_INDEX, name,
                              KVSS_INDEX_MAX, error);
    if (!json)
        return false;
    if (!kvss_index_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json), build_add_pack,
                          build, error)) {
        g_prefix_error(error, "index %.8s is damaged: ", name);
        return false;
    }
    g_byte_array_append(build->index_ids, id, KVSS_ID_LENGTH);
    return true;
}

static void
build_add_table(Build *build, const KvssIndexTable *table)
{
    g_byte_array_append(build->index_ids, table->index_ids,
                        (guint) (table->n_index_ids * KVSS_ID_LENGTH));
    for (size_t i = 0; i < table->n_pack_ids; i++)
        (void) build_pack_number(build, table->pack_ids + i * KVSS_ID_LENGTH);
    g_array_append_vals(build->entries, table->entries, (guint) table->n_entries);
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

/* The table for exactly @files, built on @old where that is a part of it. */
static KvssIndexTable *
build_table(const KvssIndex *index, const KvssIndexTable *old, const GArray *files, GError **error)
{
    g_autoptr(GHashTable) known = table_index_ids(old);
    g_auto(Build) build = { 0 };

    build_init(&build);
    if (old && count_known(known, files) == old->n_index_ids)
        build_add_table(&build, old);
    else
        g_hash_table_remove_all(known);
    for (guint i = 0; i < files->len; i++) {
        const uint8_t *id = g_array_index(files, KvssStoredFile, i).id;

        if (!g_hash_table_contains(known, id) && !build_add_file(&build, index, id, error))
            return NULL;
    }
    return kvss_index_table_build(build.index_ids, build.pack_ids, build.entries);
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

/* What was built goes to the cache, and is used from there: mapped pages are not our memory. */
static KvssIndexTable *
table_through_cache(const KvssIndex *index, KvssIndexTable *built)
{
    KvssIndexTable *mapped;

    if (!index->cache_path)
        return built;
    kvss_index_table_save(built, index->cache_path);
    mapped = kvss_index_table_map(index->cache_path);
    if (!mapped)
        return built;
    kvss_index_table_free(built);
    return mapped;
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

static bool
index_load(KvssIndex *index, bool *out_changed, GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(index->backend, KVSS_FILE_INDEX, error);
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
    use_table(index, table_through_cache(index, table));
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
    found = index->table && kvss_index_table_find(index->table, is_tree, id, copy, out_location);
    if (!found && copy == 0)
        found = kvss_new_blobs_find(index->new_blobs, is_tree, id, out_location);
    g_rw_lock_reader_unlock(&index->lock);
    return found;
}

bool
kvss_index_claim(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH])
{
    KvssBlobLocation location;
    bool is_new;

    g_atomic_int_set(&index->has_claims, 1);
    g_rw_lock_reader_lock(&index->lock);
    is_new = !(index->table
               && kvss_index_table_find(index->table, is_tree, id, 0, &location))
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

size_t
kvss_index_count(KvssIndex *index)
{
    return index->table ? index->table->n_entries : 0;
}

bool
kvss_index_number(KvssIndex *index, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                  size_t *out_number)
{
    bool found;

    g_rw_lock_reader_lock(&index->lock);
    found = index->table && kvss_index_table_number(index->table, is_tree, id, out_number);
    g_rw_lock_reader_unlock(&index->lock);
    return found;
}

typedef struct {
    uint32_t pack, offset, at;
} Place;

static int
compare_places(const void *a, const void *b)
{
    const Place *one = a, *two = b;

    if (one->pack != two->pack)
        return one->pack < two->pack ? -1 : 1;
    return one->offset < two->offset ? -1 : one->offset > two->offset;
}

static Place *
places_in_order(const KvssIndexTable *table)
{
    Place *places = g_new(Place, table->n_entries);

    for (size_t i = 0; i < table->n_entries; i++) {
        const KvssTableEntry *entry = &table->entries[i];

        places[i] = (Place) { entry->pack & ~KVSS_TABLE_TREE, entry->offset, (uint32_t) i };
    }
    qsort(places, table->n_entries, sizeof *places, compare_places);
    return places;
}

static bool
visit_pack(const KvssIndexTable *table, const Place *places, size_t n, KvssIndexVisit visit,
           gpointer data, GError **error)
{
    g_autofree KvssPackEntry *entries = g_new(KvssPackEntry, n);
    g_autofree uint32_t *numbers = g_new(uint32_t, n);

    for (size_t i = 0; i < n; i++) {
        numbers[i] = places[i].at;
        entries[i] = kvss_index_table_pack_entry(&table->entries[numbers[i]]);
    }
    return visit(table->pack_ids + (size_t) places[0].pack * KVSS_ID_LENGTH, entries, numbers, n,
                 data, error);
}

bool
kvss_index_visit_packs(KvssIndex *index, KvssIndexVisit visit, gpointer data, GError **error)
{
    const KvssIndexTable *table = index->table;
    g_autofree Place *places = table ? places_in_order(table) : NULL;
    size_t first = 0;

    while (table && first < table->n_entries) {
        size_t n = 1;

        while (first + n < table->n_entries && places[first + n].pack == places[first].pack)
            n++;
        if (places[first].pack < table->n_pack_ids
            && !visit_pack(table, places + first, n, visit, data, error))
            return false;
        first += n;
    }
    return true;
}
