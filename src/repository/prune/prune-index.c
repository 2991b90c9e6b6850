/*
 * prune-index.c - old index files that name what goes, into new ones without it
 *
 * One index file is in memory at a time, and one in the making. An index file
 * is replaced when it names a pack that goes, or one that an index file before
 * it names as well, or when it is small and there are many such.
 */
#include "repository/file/document.h"
#include "repository/prune/prune.h"

#include <string.h>

/* As a backup's: see packer.c. */
#define INDEX_BLOBS_MAX 40000u

/* Files of less than this, when there are so many of them, become one. */
#define SMALL_SIZE (256u << 10)
#define SMALL_MANY 8u

/** What one index file says of packs that stay; and the file in the making. */
typedef struct {
    KvssPrune *prune;
    GArray *file;          /* KvssIndexedPack: kept ones of the file that is read */
    bool is_replaced;      /* that file */
    GArray *packs;         /* KvssIndexedPack: of the new file */
    size_t n_blobs;        /* in packs */
} Indexes;

static void
indexed_clear(gpointer data)
{
    g_clear_pointer(&((KvssIndexedPack *) data)->entries, g_array_unref);
}

static GArray *
indexed_new(void)
{
    GArray *packs = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack));

    g_array_set_clear_func(packs, indexed_clear);
    return packs;
}

static KvssPrunePack *
find_pack(KvssPrune *prune, const uint8_t *id)
{
    guint number = GPOINTER_TO_UINT(g_hash_table_lookup(prune->numbers, id));

    return number ? &prune->packs[number - 1] : NULL;
}

/*
 * A file that names only a part of a pack's blobs does not count as naming it:
 * in the end each pack must be named whole.
 */
static void
read_pack(const uint8_t id[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    Indexes *indexes = data;
    const KvssPrunePack *pack = find_pack(indexes->prune, id);
    KvssIndexedPack indexed;

    if (!pack || pack->fate != KVSS_PACK_KEEP || pack->is_listed || entries->len < pack->n) {
        indexes->is_replaced = true;
        return;
    }
    memcpy(indexed.id, id, KVSS_ID_LENGTH);
    indexed.entries = g_array_sized_new(FALSE, FALSE, sizeof(KvssPackEntry), entries->len);
    g_array_append_vals(indexed.entries, entries->data, entries->len);
    g_array_append_val(indexes->file, indexed);
}

static bool
write_file(Indexes *indexes, GError **error)
{
    KvssRepository *repository = indexes->prune->repository;
    g_autoptr(GString) json = NULL;

    if (indexes->packs->len == 0)
        return true;
    kvss_prune_step(indexes->prune);
    /* Without our lock packs may be gone that this file would name for good. */
    if (!kvss_lock_check(repository->lock, error))
        return false;
    json = kvss_index_text(indexes->packs);
    if (!kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_INDEX, json, NULL,
                             error))
        return false;
    indexes->prune->result.indexes_written++;
    g_array_set_size(indexes->packs, 0);
    indexes->n_blobs = 0;
    return true;
}

/* What the file names is named from now on: by itself, or by the new file. */
static bool
take_file(Indexes *indexes, GError **error)
{
    for (guint i = 0; i < indexes->file->len; i++) {
        KvssIndexedPack *indexed = &g_array_index(indexes->file, KvssIndexedPack, i);
        KvssPrunePack *pack = find_pack(indexes->prune, indexed->id);

        if (pack->is_listed)
            continue; /* twice in the same file */
        pack->is_listed = true;
        if (!indexes->is_replaced)
            continue;
        indexes->n_blobs += indexed->entries->len;
        g_array_append_vals(indexes->packs, indexed, 1);
        indexed->entries = NULL;
        if (indexes->n_blobs >= INDEX_BLOBS_MAX && !write_file(indexes, error))
            return false;
    }
    g_array_set_size(indexes->file, 0);
    return true;
}

static bool
read_file(Indexes *indexes, const KvssStoredFile *file, bool is_small, GError **error)
{
    KvssPrune *prune = indexes->prune;
    KvssRepository *repository = prune->repository;
    char name[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(GBytes) json = NULL;

    kvss_id_to_hex(file->id, name);
    indexes->is_replaced = is_small;
    json = kvss_document_read(repository->backend, repository->codecs, KVSS_FILE_INDEX, name,
                              KVSS_INDEX_MAX, error);
    if (!json || !kvss_index_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json),
                                   read_pack, indexes, error))
        return false;
    if (indexes->is_replaced)
        g_array_append_vals(prune->old_indexes, file, 1);
    return take_file(indexes, error);
}

static GHashTable *
ids_of_table(const KvssIndexTable *table)
{
    GHashTable *ids = g_hash_table_new(kvss_id_hash, kvss_id_same);

    for (size_t i = 0; i < table->n_index_ids; i++)
        g_hash_table_add(ids, (gpointer) (table->index_ids + i * KVSS_ID_LENGTH));
    return ids;
}

/* The index files that were there when prune began; those of new packs are not among them. */
static GArray *
list_old(KvssPrune *prune, GError **error)
{
    g_autoptr(GHashTable) known = ids_of_table(prune->table);
    g_autoptr(GArray) files
        = kvss_backend_list(prune->repository->backend, KVSS_FILE_INDEX, error);

    for (guint i = 0; files && i < files->len;)
        if (g_hash_table_contains(known, g_array_index(files, KvssStoredFile, i).id))
            i++;
        else
            g_array_remove_index_fast(files, i);
    return g_steal_pointer(&files);
}

static bool
is_small(const KvssStoredFile *file)
{
    return file->size < SMALL_SIZE;
}

static guint
count_small(const GArray *files)
{
    guint n = 0;

    for (guint i = 0; i < files->len; i++)
        n += is_small(&g_array_index(files, KvssStoredFile, i));
    return n;
}

/* The last look before anything goes. */
static bool
check_all_listed(KvssPrune *prune, GError **error)
{
    for (uint32_t i = 0; i < prune->table->n_pack_ids; i++) {
        char hex[KVSS_ID_HEX_LENGTH + 1];

        if (prune->packs[i].fate != KVSS_PACK_KEEP || prune->packs[i].is_listed)
            continue;
        kvss_id_to_hex(kvss_prune_pack_id(prune, i), hex);
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "no index file names all blobs of pack %.8s, nothing was removed: "
                          "'kvss repair' makes the index anew", hex);
    }
    return true;
}

static bool
has_reason(const KvssPruneResult *result)
{
    return result->packs_removed + result->packs_repacked + result->packs_missing > 0;
}

static bool
read_files(Indexes *indexes, const GArray *files, GError **error)
{
    bool merges = count_small(files) >= SMALL_MANY;

    if (!merges && !has_reason(&indexes->prune->result))
        return true;
    for (guint i = 0; i < files->len; i++) {
        const KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);

        kvss_prune_tell(indexes->prune, "writing the index anew", 0, 0);
        if (!kvss_check_cancelled(indexes->prune->options->cancellable, error)
            || !read_file(indexes, file, merges && is_small(file), error))
            return false;
    }
    return write_file(indexes, error) && check_all_listed(indexes->prune, error);
}

bool
kvss_prune_write_indexes(KvssPrune *prune, GError **error)
{
    g_autoptr(GArray) files = list_old(prune, error), file = indexed_new(),
                      packs = indexed_new();
    Indexes indexes = { .prune = prune, .file = file, .packs = packs };

    return files && read_files(&indexes, files, error);
}
