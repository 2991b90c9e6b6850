/*
 * repair-index.c - what is whole gets a place in the index, what is not loses it
 *
 * Order is what makes a kill harmless: whole blobs are in new packs with an index
 * before the index that names their old place goes, and every index file that
 * goes has its successor first. The note of the packs that are set aside comes
 * before them, too: a pack that no index names must be known to be damaged, or an
 * upload that goes on with an interrupted one would count on it. In between blobs are named twice, and a reader
 * takes whichever copy it can read.
 */
#include "repository/file/document.h"
#include "repository/repair/repair.h"
#include "repository/upload/packer.h"

#include <string.h>

/* As many as the packer puts into one: about 6 MB of JSON. */
#define INDEX_BLOBS_MAX 40000u

/* ---- salvage ---- */

/* Checked once more: nothing is stored on the word of an earlier look. */
static bool
save_blob(KvssRepair *repair, KvssPacker *packer, const KvssBlobKey *key,
          const KvssBlobLocation *from, GError **error)
{
    KvssRepository *repository = repair->repository;
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    g_autofree uint8_t *sealed = g_malloc(from->length), *copy = NULL;
    uint8_t *plain = kvss_codec_buffer(codec, from->plain_length + 1u);
    KvssSealedBlob blob = {
        .data = sealed,
        .length = from->length,
        .plain_length = from->plain_length,
        .is_compressed = from->is_compressed,
    };
    char pack[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(from->pack, pack);
    if (!kvss_backend_read(repository->backend, KVSS_FILE_DATA, pack, from->offset, sealed,
                           from->length, error))
        return false;
    copy = g_memdup2(sealed, from->length);
    if (!kvss_codec_open_blob(codec, copy, from->length, from->is_compressed, plain,
                              from->plain_length, key->id, error)) {
        g_prefix_error(error, "pack %.8s at offset %u, which could be read a moment ago: ", pack,
                       from->offset);
        return false;
    }
    if (!kvss_packer_add(packer, key->is_tree, key->id, &blob, error))
        return false;
    repair->result.blobs_saved++;
    repair->result.bytes_saved += from->length;
    return true;
}

static bool
save_all(KvssRepair *repair, KvssPacker *packer, GError **error)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, repair->salvage);
    while (g_hash_table_iter_next(&iter, &key, &value))
        if (!save_blob(repair, packer, key, value, error))
            return false;
    return kvss_packer_flush(packer, error);
}

bool
kvss_repair_salvage(KvssRepair *repair, GError **error)
{
    KvssPacker *packer;
    bool ok;

    if (g_hash_table_size(repair->salvage) == 0)
        return true;
    packer = kvss_packer_new(repair->repository);
    ok = save_all(repair, packer, error);
    kvss_packer_free(packer);
    return ok;
}

/* ---- new index files ---- */

bool
kvss_repair_replaces(const KvssRepair *repair, const KvssRepairIndex *index)
{
    if (index->problem)
        return true;
    for (guint at = 0; at < index->packs->len; at += KVSS_ID_LENGTH)
        if (g_hash_table_contains(repair->bad, index->packs->data + at))
            return true;
    return false;
}

/** Index files in the making. */
typedef struct {
    KvssRepair *repair;
    GHashTable *named;  /* ids of packs that an index file names which stays */
    GArray *packs;      /* KvssIndexedPack */
    guint n_blobs;
} Writer;

static void
indexed_clear(gpointer data)
{
    g_clear_pointer(&((KvssIndexedPack *) data)->entries, g_array_unref);
}

static bool
write_out(Writer *writer, GError **error)
{
    KvssRepository *repository = writer->repair->repository;
    g_autoptr(GString) json = NULL;

    if (writer->packs->len == 0)
        return true;
    json = kvss_index_text(writer->packs);
    if (!kvss_lock_check(repository->lock, error)
        || !kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_INDEX, json,
                                NULL, error))
        return false;
    g_array_set_size(writer->packs, 0);
    writer->n_blobs = 0;
    return true;
}

/* Each pack comes once. */
static bool
add_pack(Writer *writer, const uint8_t *id, const KvssPackEntry *entries, size_t n,
         GError **error)
{
    KvssIndexedPack pack = { .entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry)) };

    if (n > 0)
        g_array_append_vals(pack.entries, entries, (guint) n);
    memcpy(pack.id, id, sizeof pack.id);
    g_array_append_val(writer->packs, pack);
    writer->n_blobs += (guint) n;
    return writer->n_blobs < INDEX_BLOBS_MAX || write_out(writer, error);
}

static bool
visit_pack(const uint8_t id[KVSS_ID_LENGTH], const KvssPackEntry *entries,
           const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    Writer *writer = data;

    if (g_hash_table_contains(writer->repair->bad, id)
        || g_hash_table_contains(writer->named, id))
        return true;
    return add_pack(writer, id, entries, n, error);
}

static bool
add_unindexed(Writer *writer, GError **error)
{
    const GArray *packs = writer->repair->unindexed;

    for (guint i = 0; i < packs->len; i++) {
        const KvssIndexedPack *pack = &g_array_index(packs, KvssIndexedPack, i);

        if (!add_pack(writer, pack->id, (const KvssPackEntry *) (void *) pack->entries->data,
                      pack->entries->len, error))
            return false;
    }
    return true;
}

/* What stays names these already. */
static void
note_named(Writer *writer)
{
    for (guint i = 0; i < writer->repair->indexes->len; i++) {
        const KvssRepairIndex *index = g_ptr_array_index(writer->repair->indexes, i);

        if (kvss_repair_replaces(writer->repair, index))
            continue;
        for (guint at = 0; at < index->packs->len; at += KVSS_ID_LENGTH)
            g_hash_table_add(writer->named, index->packs->data + at);
    }
}

bool
kvss_repair_remove_indexes(KvssRepair *repair, GError **error)
{
    KvssRepository *repository = repair->repository;

    for (guint i = 0; i < repair->indexes->len; i++) {
        const KvssRepairIndex *index = g_ptr_array_index(repair->indexes, i);
        char name[KVSS_ID_HEX_LENGTH + 1];

        if (!kvss_repair_replaces(repair, index))
            continue;
        kvss_id_to_hex(index->id, name);
        if (!kvss_lock_check(repository->lock, error)
            || !kvss_backend_drop(repository->backend, KVSS_FILE_INDEX, name, error))
            return false;
    }
    return true;
}

bool
kvss_repair_write_indexes(KvssRepair *repair, GError **error)
{
    Writer writer = {
        .repair = repair,
        .named = g_hash_table_new(kvss_id_hash, kvss_id_same),
        .packs = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack)),
    };
    bool ok;

    g_array_set_clear_func(writer.packs, indexed_clear);
    note_named(&writer);
    ok = kvss_index_visit_packs(repair->repository->index, visit_pack, &writer, error)
        && add_unindexed(&writer, error) && write_out(&writer, error);
    g_array_unref(writer.packs);
    g_hash_table_unref(writer.named);
    return ok;
}
