/*
 * upload.c - a backup in the making: blobs, then the tree, then the snapshot
 */
#include "repository/file/document.h"
#include "repository/format/snapshot.h"
#include "repository/format/tree.h"
#include "repository/upload/unfinished.h"
#include "repository/upload/upload.h"

#include <string.h>

struct KvssUpload {
    KvssRepository *repository; /* borrowed */
    KvssPacker *packer;
    KvssUnfinished *record;     /* until every pack is in an index */
    GMutex lock;                /* guards what follows */
    GHashTable *root;           /* name -> Entry */
    KvssUploadStats stats;      /* but for bytes_stored, which the packer knows */
    int n_open;                 /* sinks */
};

/** What a folder holds under a name: a folder or a file. */
typedef struct {
    GHashTable *folder;
    KvssNode *file;
} Entry;

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    g_clear_pointer(&entry->folder, g_hash_table_unref);
    kvss_node_free(entry->file);
    g_free(entry);
}

static GHashTable *
folder_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
}

KvssUpload *
kvss_upload_new(KvssRepository *repository, GError **error)
{
    KvssUnfinished *record;
    KvssUpload *upload;

    g_return_val_if_fail(repository->mode != KVSS_REPOSITORY_LOOK, NULL);
    if (!kvss_index_load(repository->index, NULL, error))
        return NULL;
    record = kvss_unfinished_new(repository, error);
    if (!record)
        return NULL;
    upload = g_new0(KvssUpload, 1);
    upload->record = record;
    upload->repository = repository;
    upload->packer = kvss_packer_new(repository);
    kvss_unfinished_adopt(repository, upload->packer);
    upload->root = folder_new();
    g_mutex_init(&upload->lock);
    return upload;
}

KvssRepository *
kvss_upload_repository(KvssUpload *upload)
{
    return upload->repository;
}

void
kvss_upload_count(KvssUpload *upload, const KvssUploadStats *stats)
{
    g_mutex_lock(&upload->lock);
    upload->stats.bytes_new += stats->bytes_new;
    upload->stats.chunks += stats->chunks;
    upload->stats.chunks_new += stats->chunks_new;
    g_mutex_unlock(&upload->lock);
}

void
kvss_upload_count_open(KvssUpload *upload, int change)
{
    g_mutex_lock(&upload->lock);
    upload->n_open += change;
    g_mutex_unlock(&upload->lock);
}

KvssUploadStats
kvss_upload_stats(KvssUpload *upload)
{
    KvssUploadStats stats;

    g_mutex_lock(&upload->lock);
    stats = upload->stats;
    g_mutex_unlock(&upload->lock);
    stats.bytes_stored = kvss_packer_bytes(upload->packer);
    return stats;
}

uint32_t
kvss_upload_chunk_size(uint64_t size)
{
    const uint64_t gib = G_GUINT64_CONSTANT(1) << 30;
    uint32_t chunk_size = 1u << 20;

    if (size <= 32 * gib)
        return 256u << 10;
    if (size <= 128 * gib)
        return 512u << 10;
    for (uint64_t fits = 1024 * gib; fits < size && chunk_size < 16u << 20; fits *= 2)
        chunk_size *= 2;
    return chunk_size;
}

bool
kvss_upload_store_named(KvssUpload *upload, KvssCodec *codec, bool is_tree, const void *plain,
                        size_t length, const uint8_t id[KVSS_ID_LENGTH],
                        KvssUploadStats *inout_stats, GError **error)
{
    KvssSealedBlob blob;

    inout_stats->chunks++;
    if (!kvss_index_claim(upload->repository->index, is_tree, id))
        return true;

    blob = kvss_codec_seal_blob(codec, plain, length);
    if (!kvss_packer_add(upload->packer, is_tree, id, &blob, error))
        return false;
    inout_stats->chunks_new++;
    inout_stats->bytes_new += length;
    inout_stats->bytes_stored += blob.length;
    return true;
}

bool
kvss_upload_store(KvssUpload *upload, KvssCodec *codec, bool is_tree, const void *plain,
                  size_t length, KvssUploadStats *inout_stats, uint8_t out_id[KVSS_ID_LENGTH],
                  GError **error)
{
    kvss_crypto_hash(kvss_codec_crypto(codec), plain, length, out_id);
    return kvss_upload_store_named(upload, codec, is_tree, plain, length, out_id, inout_stats,
                                   error);
}

/* ---- the tree ---- */

bool
kvss_upload_check_path(const char *path, GError **error)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);

    for (guint i = 0; names[i]; i++)
        if (!kvss_tree_name_is_safe(names[i]))
            return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                              "\"%s\" cannot be a path in a backup", path);
    return names[0] != NULL
        || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                      "an empty path cannot be stored");
}

/* The folder @name in @parent, made when absent; NULL when a file has that name. */
static GHashTable *
folder_enter(GHashTable *parent, const char *name)
{
    Entry *entry = g_hash_table_lookup(parent, name);

    if (!entry) {
        entry = g_new0(Entry, 1);
        entry->folder = folder_new();
        g_hash_table_insert(parent, g_strdup(name), entry);
    }
    return entry->folder;
}

/* Called under the lock. @node is taken when it returns true. */
static bool
tree_insert(GHashTable *root, char **names, KvssNode *node)
{
    GHashTable *folder = root;
    Entry *entry;

    for (; folder && names[1]; names++)
        folder = folder_enter(folder, names[0]);
    if (!folder || g_hash_table_contains(folder, names[0]))
        return false;
    entry = g_new0(Entry, 1);
    entry->file = node;
    g_hash_table_insert(folder, g_strdup(names[0]), entry);
    return true;
}

bool
kvss_upload_add_node(KvssUpload *upload, const char *path, KvssNode *node, GError **error)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    bool ok;

    node->name = g_path_get_basename(path);
    g_mutex_lock(&upload->lock);
    ok = tree_insert(upload->root, names, node);
    g_mutex_unlock(&upload->lock);
    if (ok)
        return true;
    kvss_node_free(node);
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                      "%s is in the backup already", path);
}

static bool store_folder(KvssUpload *upload, KvssCodec *codec, GHashTable *folder,
                         uint8_t out_id[KVSS_ID_LENGTH], GError **error);

/* A folder's node, its own content stored. */
static KvssNode *
folder_node(KvssUpload *upload, KvssCodec *codec, const char *name, GHashTable *folder,
            GError **error)
{
    char hex[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];
    KvssNode *node;

    if (!store_folder(upload, codec, folder, id, error))
        return NULL;
    kvss_id_to_hex(id, hex);
    node = g_new0(KvssNode, 1);
    node->name = g_strdup(name);
    node->type = KVSS_NODE_FOLDER;
    node->mode = 0755;
    node->subtree = g_strdup(hex);
    return node;
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp((*(KvssNode *const *) a)->name, (*(KvssNode *const *) b)->name);
}

/* Depth is that of the paths we were given ourselves. */
static bool
store_folder(KvssUpload *upload, KvssCodec *codec, GHashTable *folder,
             uint8_t out_id[KVSS_ID_LENGTH], GError **error)
{
    g_autoptr(GPtrArray) nodes
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_node_free);
    g_autoptr(GString) json = NULL;
    KvssUploadStats stats = { 0 };
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, folder);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        Entry *entry = value;
        KvssNode *node = entry->folder ? folder_node(upload, codec, name, entry->folder, error)
                                       : g_steal_pointer(&entry->file);

        if (!node)
            return false;
        g_ptr_array_add(nodes, node);
    }
    g_ptr_array_sort(nodes, compare_names);
    json = kvss_tree_text(nodes);
    g_ptr_array_set_size(nodes, 0); /* a large disk's ids and their text are not held together longer */
    if (json->len > KVSS_TREE_BLOB_MAX)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                          "a folder's list of chunks has %zu bytes, more than can be stored: "
                          "use larger chunks", json->len);
    return kvss_upload_store(upload, codec, true, json->str, json->len, &stats, out_id, error);
}

/* ---- the end ---- */

bool
kvss_upload_commit(KvssUpload *upload, const KvssSnapshotInfo *info,
                   char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    KvssRepository *repository = upload->repository;
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    g_autoptr(GString) json = NULL;
    uint8_t tree[KVSS_ID_LENGTH];

    g_return_val_if_fail(upload->n_open == 0, false);
    if (!store_folder(upload, codec, upload->root, tree, error)
        || !kvss_packer_flush(upload->packer, error)
        || (repository->lock && !kvss_lock_check(repository->lock, error)))
        return false;
    json = kvss_snapshot_text(info, tree);
    return kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_SNAPSHOT, json,
                               out_id, error);
}

void
kvss_upload_free(KvssUpload *upload)
{
    if (!upload)
        return;
    kvss_unfinished_end(upload->record, kvss_packer_free(upload->packer));
    kvss_index_drop_claims(upload->repository->index);
    g_hash_table_unref(upload->root);
    g_mutex_clear(&upload->lock);
    g_free(upload);
}
