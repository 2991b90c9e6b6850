/*
 * repair.c - what can be had of a damaged repository, and a note of what cannot
 */
#include "repository/file/document.h"
#include "repository/format/snapshot.h"
#include "repository/repair/repair.h"

#include <string.h>

static void
repair_index_free(gpointer data)
{
    KvssRepairIndex *index = data;

    g_free(index->problem);
    g_byte_array_unref(index->packs);
    g_free(index);
}

static void
repair_pack_free(gpointer data)
{
    KvssRepairPack *pack = data;

    g_free(pack->problem);
    g_free(pack);
}

static void
indexed_clear(gpointer data)
{
    g_clear_pointer(&((KvssIndexedPack *) data)->entries, g_array_unref);
}

static gboolean
blob_key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(KvssBlobKey)) == 0;
}

static void
found(KvssRepair *repair, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
found(KvssRepair *repair, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    if (repair->options->found)
        repair->options->found(what, repair->options->data);
}

/* ---- index files ---- */

static void
add_pack_id(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    g_byte_array_append(data, pack, KVSS_ID_LENGTH);
}

static void
look_at_index(KvssRepair *repair, const uint8_t *id)
{
    KvssRepository *repository = repair->repository;
    KvssRepairIndex *index = g_new0(KvssRepairIndex, 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) json = NULL;
    char name[KVSS_ID_HEX_LENGTH + 1];

    memcpy(index->id, id, sizeof index->id);
    index->packs = g_byte_array_new();
    g_ptr_array_add(repair->indexes, index);
    kvss_id_to_hex(id, name);
    json = kvss_document_read(repository->backend, repository->codecs, KVSS_FILE_INDEX, name,
                              KVSS_INDEX_MAX, &error);
    if (json
        && kvss_index_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json), add_pack_id,
                            index->packs, &error))
        return;
    index->problem = g_strdup(error->message);
    repair->result.indexes_damaged++;
    found(repair, "index %.8s is damaged and is made anew from the packs: %s", name,
          error->message);
}

/* The files themselves, and then the table of those that can be read (or that the cache knows). */
static bool
look_at_indexes(KvssRepair *repair, GError **error)
{
    KvssRepository *repository = repair->repository;
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_INDEX, error);

    if (!files)
        return false;
    for (guint i = 0; i < files->len; i++)
        look_at_index(repair, g_array_index(files, KvssStoredFile, i).id);
    kvss_index_pass_over_damage(repository->index);
    return kvss_index_load(repository->index, NULL, error);
}

/* ---- snapshots and keys: only told ---- */

static void
on_snapshot_problem(const char *id, const GError *problem, gpointer data)
{
    KvssRepair *repair = data;

    repair->result.beyond_repair++;
    found(repair, "snapshot %.8s cannot be read, and the backup that it stood for cannot be found "
          "without it: %s", id, problem->message);
}

static bool
look_at_keys(KvssRepair *repair, GError **error)
{
    g_autoptr(GPtrArray) keys = kvss_repository_list_keys(repair->repository, error);

    for (guint i = 0; keys && i < keys->len; i++) {
        const KvssKeyInfo *key = g_ptr_array_index(keys, i);

        if (!key->problem)
            continue;
        repair->result.beyond_repair++;
        found(repair, "key %.8s is damaged (\"kvss key remove\" takes it away): %s", key->id,
              key->problem);
    }
    return keys != NULL;
}

/* ---- packs ---- */

static bool
list_packs(KvssRepair *repair, GError **error)
{
    repair->files = kvss_backend_list(repair->repository->backend, KVSS_FILE_DATA, error);
    for (guint i = 0; repair->files && i < repair->files->len; i++) {
        KvssStoredFile *file = &g_array_index(repair->files, KvssStoredFile, i);

        g_hash_table_insert(repair->sizes, file->id, file);
    }
    return repair->files != NULL;
}

static int
compare_packs(gconstpointer a, gconstpointer b)
{
    return memcmp((*(KvssRepairPack *const *) a)->id, (*(KvssRepairPack *const *) b)->id,
                  KVSS_ID_LENGTH);
}

static void
tell_pack(KvssRepair *repair, const KvssRepairPack *pack)
{
    unsigned n = pack->n_sound + pack->n_lost;
    char name[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(pack->id, name);
    if (!pack->is_there)
        found(repair, "pack %.8s is missing, with %u blobs", name, pack->n_lost);
    else if (n > 0)
        found(repair, "pack %.8s is damaged, %u of its %u blobs are whole: %s", name,
              pack->n_sound, n, pack->problem);
    else
        found(repair, "pack %.8s is damaged, and what was in it is not known: %s", name,
              pack->problem);
}

static GPtrArray *
bad_packs(const KvssRepair *repair)
{
    GPtrArray *packs = g_ptr_array_new();
    GHashTableIter iter;
    gpointer pack;

    g_hash_table_iter_init(&iter, repair->bad);
    while (g_hash_table_iter_next(&iter, NULL, &pack))
        g_ptr_array_add(packs, pack);
    g_ptr_array_sort(packs, compare_packs);
    return packs;
}

static void
tell_packs(KvssRepair *repair)
{
    g_autoptr(GPtrArray) packs = bad_packs(repair);

    for (guint i = 0; i < packs->len; i++) {
        const KvssRepairPack *pack = g_ptr_array_index(packs, i);

        repair->result.packs_aside += pack->is_there;
        if (pack->was_aside)
            continue;
        repair->result.packs_damaged++;
        tell_pack(repair, pack);
    }
    repair->result.packs_found = repair->unindexed->len;
    for (guint i = 0; i < repair->indexes->len; i++)
        repair->result.indexes_replaced
            += kvss_repair_replaces(repair, g_ptr_array_index(repair->indexes, i));
}

/* ---- what is lost ---- */

static bool
is_there(bool is_tree, const uint8_t id[KVSS_ID_LENGTH], gpointer data)
{
    KvssBlobLocation location;

    return kvss_repair_locate(data, is_tree, id, &location);
}

/* Of what is lost, too: the index that is to be replaced may know it. */
static uint32_t
length_of(const uint8_t id[KVSS_ID_LENGTH], gpointer data)
{
    KvssRepair *repair = data;
    KvssBlobLocation location;

    return kvss_index_find(repair->repository->index, false, id, 0, &location)
            || kvss_repair_locate(repair, false, id, &location)
        ? location.plain_length
        : 0;
}

static GBytes *
read_tree(const uint8_t id[KVSS_ID_LENGTH], gpointer data, GError **error)
{
    KvssRepair *repair = data;
    KvssRepository *repository = repair->repository;
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    g_autofree uint8_t *plain = NULL;
    KvssBlobLocation location;
    char pack[KVSS_ID_HEX_LENGTH + 1];
    uint8_t *sealed;

    if (!kvss_repair_locate(repair, true, id, &location)
        || location.plain_length > KVSS_TREE_BLOB_MAX)
        return NULL;
    kvss_id_to_hex(location.pack, pack);
    plain = g_malloc(location.plain_length + 1u);
    sealed = kvss_codec_buffer(codec, location.length);
    if (!kvss_backend_read(repository->backend, KVSS_FILE_DATA, pack, location.offset, sealed,
                           location.length, error)
        || !kvss_codec_open_blob(codec, sealed, location.length, location.is_compressed, plain,
                                 location.plain_length, id, error))
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&plain), location.plain_length);
}

static bool
find_losses(KvssRepair *repair, KvssDamageNote *note, GError **error)
{
    KvssLossWalk walk = {
        .is_there = is_there,
        .length_of = length_of,
        .read_tree = read_tree,
        .data = repair,
        .cancellable = repair->options->cancellable,
    };
    g_autoptr(GPtrArray) snapshots = kvss_repository_list_readable_snapshots(
        repair->repository, NULL, on_snapshot_problem, repair, error);

    if (!snapshots)
        return false;
    g_ptr_array_unref(note->losses);
    note->losses = kvss_loss_walk(snapshots, &walk, error);
    if (!note->losses) {
        note->losses = g_ptr_array_new();
        return false;
    }
    repair->result.losses = note->losses->len;
    for (guint i = 0; i < note->losses->len && repair->options->lost; i++)
        repair->options->lost(g_ptr_array_index(note->losses, i), repair->options->data);
    return true;
}

/* In order, so that the same damage makes the same note. */
static void
note_packs(const KvssRepair *repair, KvssDamageNote *note)
{
    g_autoptr(GPtrArray) packs = bad_packs(repair);

    for (guint i = 0; i < packs->len; i++) {
        const KvssRepairPack *pack = g_ptr_array_index(packs, i);

        if (pack->is_there)
            g_byte_array_append(note->packs, pack->id, KVSS_ID_LENGTH);
    }
}

/* ---- all of it ---- */

static bool
look(KvssRepair *repair, KvssDamageNote *note, GError **error)
{
    g_autoptr(GError) trouble = NULL;

    if (!look_at_keys(repair, error) || !list_packs(repair, error)
        || !look_at_indexes(repair, error))
        return false;
    repair->old_note = kvss_damage_note_read(repair->repository, &trouble);
    if (!repair->old_note) {
        /* What lies in it is found again, but for what an earlier repair set aside. */
        g_debug("%s", trouble->message);
        repair->old_note = kvss_damage_note_new();
    }
    if (!kvss_repair_look_at_packs(repair, error))
        return false;
    tell_packs(repair);
    note_packs(repair, note);
    return find_losses(repair, note, error);
}

/* What cannot be brought to its end is not begun: index files and an old note go last. */
static bool
check_may_act(const KvssRepair *repair, const KvssDamageNote *note, GError **error)
{
    KvssBackend *backend = repair->repository->backend;

    if ((repair->result.indexes_replaced == 0
         || kvss_backend_check_may_remove(backend, KVSS_FILE_INDEX, error))
        && (!kvss_damage_note_removes(repair->old_note, note)
            || kvss_backend_check_may_remove(backend, KVSS_FILE_SNAPSHOT, error)))
        return true;
    g_prefix_error(error, "nothing was changed: ");
    return false;
}

static bool
act(KvssRepair *repair, const KvssDamageNote *note, GError **error)
{
    KvssRepository *repository = repair->repository;

    if (!check_may_act(repair, note, error))
        return false;
    if ((repair->result.indexes_replaced > 0 || repair->unindexed->len > 0
         || g_hash_table_size(repair->salvage) > 0)
        && (!kvss_repair_salvage(repair, error) || !kvss_repair_write_indexes(repair, error)))
        return false;
    return kvss_index_load(repository->index, NULL, error)
        && kvss_lock_check(repository->lock, error)
        && kvss_damage_note_replace(repository, repair->old_note, note, error)
        && kvss_repair_remove_indexes(repair, error)
        && kvss_index_load(repository->index, NULL, error);
}

static void
count_salvage(KvssRepair *repair)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, repair->salvage);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        repair->result.blobs_saved++;
        repair->result.bytes_saved += ((const KvssBlobLocation *) value)->length;
    }
}

bool
kvss_repository_repair(KvssRepository *repository, const KvssRepairOptions *options,
                       KvssRepairResult *out_result, GError **error)
{
    g_autoptr(KvssDamageNote) note = kvss_damage_note_new();
    KvssRepair repair = { .repository = repository, .options = options };
    bool ok;

    g_return_val_if_fail(options->dry_run || repository->mode == KVSS_REPOSITORY_REMOVE, false);
    g_mutex_init(&repair.lock);
    repair.sizes = g_hash_table_new(kvss_id_hash, kvss_id_same);
    repair.indexes = g_ptr_array_new_with_free_func(repair_index_free);
    repair.bad = g_hash_table_new_full(kvss_id_hash, kvss_id_same, NULL, repair_pack_free);
    repair.unindexed = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack));
    g_array_set_clear_func(repair.unindexed, indexed_clear);
    repair.salvage = g_hash_table_new_full(kvss_id_hash, blob_key_equal, g_free, g_free);

    ok = look(&repair, note, error);
    if (ok && options->dry_run)
        count_salvage(&repair);
    else if (ok)
        ok = act(&repair, note, error);
    *out_result = repair.result;

    kvss_damage_note_free(repair.old_note);
    g_hash_table_unref(repair.salvage);
    g_array_unref(repair.unindexed);
    g_hash_table_unref(repair.bad);
    g_ptr_array_unref(repair.indexes);
    g_hash_table_unref(repair.sizes);
    g_clear_pointer(&repair.files, g_array_unref);
    g_mutex_clear(&repair.lock);
    return ok;
}
