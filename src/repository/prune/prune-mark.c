/*
 * prune-mark.c - which blobs do the snapshots need, and from which packs?
 *
 * Whatever cannot be read or found here ends the prune before anything is
 * touched: what a damaged tree names is not known, and would look unused.
 */
#include "repository/file/pack.h"
#include "repository/format/tree.h"
#include "repository/prune/prune.h"

#include <string.h>

#define REFUSED "nothing was removed: 'kvss verify' says which backups are damaged, " \
                "'kvss repair' and 'kvss forget' with their ids clear the way"

/* ---- the trees ---- */

/* @out_is_new: it was not marked before. */
static bool
mark_blob(KvssPrune *prune, bool is_tree, const uint8_t *id, bool *out_is_new, GError **error)
{
    char hex[KVSS_ID_HEX_LENGTH + 1];
    size_t number;

    if (kvss_index_number(prune->repository->index, is_tree, id, &number, NULL)) {
        *out_is_new = !kvss_prune_is_needed(prune, number);
        prune->needed[number / 8] |= (uint8_t) (1u << number % 8);
        return true;
    }
    kvss_id_to_hex(id, hex);
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "%s blob %.8s is missing: no index names it; " REFUSED,
                      is_tree ? "tree" : "data", hex);
}

static bool
mark_file(KvssPrune *prune, const KvssNode *node, GError **error)
{
    bool is_new;

    for (size_t i = 0; i < node->n_content; i++)
        if (!mark_blob(prune, false, node->content + i * KVSS_ID_LENGTH, &is_new, error)) {
            g_prefix_error(error, "%s: ", node->name);
            return false;
        }
    return true;
}

static GPtrArray *
read_tree(KvssPrune *prune, const char *tree, GError **error)
{
    g_autoptr(GError) trouble = NULL;
    GPtrArray *nodes = kvss_repository_read_folder(prune->repository, tree, &trouble);

    if (nodes)
        return nodes;
    g_propagate_error(error, g_steal_pointer(&trouble));
    if (error && *error && (*error)->domain == KVSS_REPOSITORY_ERROR) {
        g_autofree char *before = (*error)->message;

        (*error)->message = g_strconcat(before, "; " REFUSED, NULL);
    }
    return NULL;
}

static bool
mark_tree(KvssPrune *prune, const char *tree, unsigned depth, GError **error)
{
    g_autoptr(GPtrArray) nodes = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    bool is_new = false;

    if (!kvss_check_cancelled(prune->options->cancellable, error))
        return false;
    if (depth == KVSS_TREE_DEPTH_MAX || !kvss_id_from_hex(tree, strlen(tree), id))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "tree %.8s lies too deep or has no id; " REFUSED, tree);
    if (!mark_blob(prune, true, id, &is_new, error))
        return false;
    if (!is_new)
        return true;
    nodes = read_tree(prune, tree, error);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);

        if (node->type == KVSS_NODE_FOLDER ? !mark_tree(prune, node->subtree, depth + 1, error)
                                           : !mark_file(prune, node, error))
            return false;
    }
    return nodes != NULL;
}

static bool
is_left_out(const KvssPrune *prune, const char *id)
{
    return prune->options->dry_run && prune->options->without
        && g_strv_contains(prune->options->without, id);
}

/* Who only looks passes over index files that cannot be read; what they name would look unknown. */
static bool
check_index(KvssPrune *prune, GError **error)
{
    g_autofree char *damage = kvss_index_damage(prune->repository->index);

    return !damage
        || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT, "%s; " REFUSED,
                      damage);
}

static bool
mark_snapshots(KvssPrune *prune, GError **error)
{
    g_autoptr(GPtrArray) snapshots
        = kvss_repository_list_snapshots(prune->repository, NULL, error);

    if (!snapshots) {
        if (error && *error && (*error)->domain == KVSS_REPOSITORY_ERROR)
            g_prefix_error(error, "nothing was removed ('kvss forget' with its id drops a backup "
                           "that is damaged): ");
        return false;
    }
    /* Before the snapshots' blobs are looked for: whoever sees a snapshot finds all of its blobs. */
    if (!kvss_index_load(prune->repository->index, NULL, error))
        return false;
    if (!check_index(prune, error))
        return false;
    prune->table = kvss_index_table_of(prune->repository->index);
    prune->needed = g_malloc0(prune->table->n_entries / 8 + 1);
    for (guint i = 0; i < snapshots->len; i++) {
        const KvssSnapshot *snapshot = g_ptr_array_index(snapshots, i);

        if (is_left_out(prune, snapshot->id))
            continue;
        prune->result.snapshots++;
        kvss_prune_tell(prune, "looking through backups", 0, 0);
        if (!mark_tree(prune, snapshot->tree, 0, error)) {
            g_prefix_error(error, "backup %.8s: ", snapshot->id);
            return false;
        }
    }
    return true;
}

/* ---- the packs ---- */

static bool
list_packs(KvssPrune *prune, GError **error)
{
    const KvssIndexTable *table = prune->table;
    g_autoptr(GArray) files
        = kvss_backend_list(prune->repository->backend, KVSS_FILE_DATA, error);

    if (!files)
        return false;
    prune->packs = g_new0(KvssPrunePack, table->n_pack_ids + 1);
    for (uint32_t i = 0; i < table->n_pack_ids; i++)
        g_hash_table_insert(prune->numbers, (gpointer) kvss_prune_pack_id(prune, i),
                            GUINT_TO_POINTER(i + 1));
    for (guint i = 0; i < files->len; i++) {
        const KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);
        guint number = GPOINTER_TO_UINT(g_hash_table_lookup(prune->numbers, file->id));

        if (number)
            prune->packs[number - 1].size = file->size;
        else
            g_array_append_vals(prune->unknown, file, 1);
        prune->result.packs++;
        prune->result.bytes += file->size;
    }
    return true;
}

/* The number behind the last copy of the blob whose first is @first. */
static size_t
behind_copies(const KvssIndexTable *table, size_t first)
{
    const KvssTableEntry *entry = &table->entries[first];
    size_t next = first + 1;

    while (next < table->n_entries && kvss_id_equal(table->entries[next].id, entry->id)
           && ((table->entries[next].pack ^ entry->pack) & KVSS_TABLE_TREE) == 0)
        next++;
    return next;
}

/* The table may come from the cache: its numbers are used as they are from here on. */
static bool
count_entry(KvssPrune *prune, size_t number, GError **error)
{
    const KvssTableEntry *entry = &prune->table->entries[number];
    KvssPrunePack *pack = &prune->packs[kvss_prune_pack_of(prune, number)];

    if (kvss_prune_pack_of(prune, number) >= prune->table->n_pack_ids)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "the index cache of this host names a pack that it does not have, nothing "
                          "was removed: remove the cache folder");
    pack->length += entry->length;
    pack->end = MAX(pack->end, (uint64_t) entry->offset + entry->length);
    pack->header += kvss_pack_header_entry_length(entry->plain_length != 0);
    pack->n++;
    return true;
}

/* Bytes that the file must have: its blobs without a gap, the sealed header, its length. */
static bool
is_sound(const KvssPrunePack *pack)
{
    return pack->length == pack->end
        && pack->size == pack->end + pack->header + KVSS_PACK_HEADER_FRAME;
}

/* Is @number the better copy to keep than @best: in a pack that is there, and needed anyway? */
static bool
is_better(const KvssPrune *prune, size_t number, size_t best)
{
    const KvssPrunePack *one = &prune->packs[kvss_prune_pack_of(prune, number)];
    const KvssPrunePack *two = &prune->packs[kvss_prune_pack_of(prune, best)];

    if (is_sound(one) != is_sound(two))
        return is_sound(one);
    return one->kept > two->kept;
}

/* One copy stays needed; those with several come after all others, when it is known which packs stay. */
static void
keep_copy(KvssPrune *prune, size_t first, size_t next)
{
    size_t best = first;

    if (next - first == 1 || !kvss_prune_is_needed(prune, first))
        return;
    for (size_t i = first + 1; i < next; i++)
        if (is_better(prune, i, best))
            best = i;
    prune->needed[first / 8] &= (uint8_t) ~(1u << first % 8);
    prune->needed[best / 8] |= (uint8_t) (1u << best % 8);
    prune->packs[kvss_prune_pack_of(prune, best)].kept += prune->table->entries[best].length;
}

/* Each blob of the table, by its copies; @func with the first of them and the one behind the last. */
static void
each_blob(KvssPrune *prune, void (*func)(KvssPrune *prune, size_t first, size_t next))
{
    for (size_t i = 0, next; i < prune->table->n_entries; i = next) {
        next = behind_copies(prune->table, i);
        func(prune, i, next);
        kvss_prune_pass(prune, i);
    }
}

static void
count_blob(KvssPrune *prune, size_t first, size_t next)
{
    KvssPruneResult *result = &prune->result;

    if (!kvss_prune_is_needed(prune, first)) {
        result->blobs_unused += next - first;
        return;
    }
    result->blobs_used++;
    result->blobs_duplicate += next - first - 1;
    if (next - first == 1)
        prune->packs[kvss_prune_pack_of(prune, first)].kept
            += prune->table->entries[first].length;
}

static bool
count_blobs(KvssPrune *prune, GError **error)
{
    for (size_t i = 0; i < prune->table->n_entries; i++) {
        if (!count_entry(prune, i, error))
            return false;
        kvss_prune_pass(prune, i);
    }
    each_blob(prune, count_blob);
    if (prune->result.blobs_duplicate > 0)
        each_blob(prune, keep_copy);
    return true;
}

static bool
check_packs(KvssPrune *prune, GError **error)
{
    for (uint32_t i = 0; i < prune->table->n_pack_ids; i++) {
        const KvssPrunePack *pack = &prune->packs[i];
        char hex[KVSS_ID_HEX_LENGTH + 1];

        if (pack->kept == 0 || is_sound(pack))
            continue;
        kvss_id_to_hex(kvss_prune_pack_id(prune, i), hex);
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "pack %.8s, which backups need, %s; " REFUSED, hex,
                          pack->size == 0 ? "is missing"
                                          : "has not the size that the index demands");
    }
    return true;
}

bool
kvss_prune_mark(KvssPrune *prune, GError **error)
{
    if (!mark_snapshots(prune, error) || !list_packs(prune, error))
        return false;
    return count_blobs(prune, error) && check_packs(prune, error);
}
