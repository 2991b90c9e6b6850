/*
 * loss.c - what backups have lost: found by walking all trees, told as ranges of files
 */
#include "repository/damage/loss.h"
#include "repository/format/tree.h"

#include <string.h>

#define RANGES_MAX 1000u   /* listed of one file: who lost more has lost the file */
#define BLOBS_MAX 20000u

void
kvss_loss_free(KvssLoss *loss)
{
    if (!loss)
        return;
    g_free(loss->path);
    g_clear_pointer(&loss->ranges, g_array_unref);
    g_clear_pointer(&loss->blobs, g_byte_array_unref);
    g_free(loss);
}

KvssLoss *
kvss_loss_copy(const KvssLoss *loss)
{
    KvssLoss *copy = g_memdup2(loss, sizeof *loss);

    copy->path = g_strdup(loss->path);
    copy->ranges = g_array_copy(loss->ranges);
    copy->blobs = g_byte_array_new();
    g_byte_array_append(copy->blobs, loss->blobs->data, loss->blobs->len);
    return copy;
}

typedef struct {
    const KvssLossWalk *walk;
    const char *snapshot_id;
    GHashTable *sound;     /* hex ids of trees in and below which nothing is lost */
    GPtrArray *losses;     /* KvssLoss */
} Walk;

static KvssLoss *
loss_new(const char *snapshot_id, const char *path, bool is_folder)
{
    KvssLoss *loss = g_new0(KvssLoss, 1);

    g_strlcpy(loss->snapshot_id, snapshot_id, sizeof loss->snapshot_id);
    loss->path = g_strdup(path);
    loss->is_folder = is_folder;
    loss->ranges = g_array_new(FALSE, FALSE, sizeof(KvssRange));
    loss->blobs = g_byte_array_new();
    return loss;
}

/* ---- files ---- */

/*
 * The length of a chunk that no index knows any more. Ours are equal but for the
 * last; the others' lengths tell which.
 */
static uint64_t
guess_length(const Walk *walk, const KvssNode *node, size_t i)
{
    uint64_t length = 0;

    for (size_t k = 0; k + 1 < node->n_content && length == 0; k++)
        length = walk->walk->length_of(node->content + k * KVSS_ID_LENGTH, walk->walk->data);
    if (length == 0) /* all alike, and none is known: as large as they must be */
        for (length = 1; length * node->n_content < node->size;)
            length *= 2;
    return i + 1 < node->n_content ? length : node->size - MIN(node->size, length * i);
}

static void
add_range(KvssLoss *loss, uint64_t offset, uint64_t length)
{
    KvssRange range = { offset, length };
    KvssRange *last = loss->ranges->len
        ? &g_array_index(loss->ranges, KvssRange, loss->ranges->len - 1)
        : NULL;

    loss->bytes += length;
    if (last && last->offset + last->length == offset)
        last->length += length;
    else if (loss->ranges->len < RANGES_MAX)
        g_array_append_val(loss->ranges, range);
    else
        loss->has_more = true;
}

static void
add_blob(KvssLoss *loss, const uint8_t *id, GHashTable *seen)
{
    if (!g_hash_table_add(seen, (gpointer) id))
        return;
    if (loss->blobs->len / KVSS_ID_LENGTH < BLOBS_MAX)
        g_byte_array_append(loss->blobs, id, KVSS_ID_LENGTH);
    else
        loss->has_more = true;
}

static bool
walk_file(Walk *walk, const char *path, const KvssNode *node)
{
    const KvssLossWalk *ask = walk->walk;
    g_autoptr(GHashTable) seen = NULL;
    KvssLoss *loss = NULL;
    uint64_t offset = 0;

    for (size_t i = 0; i < node->n_content; i++) {
        const uint8_t *id = node->content + i * KVSS_ID_LENGTH;
        uint64_t length = ask->length_of(id, ask->data);

        if (length == 0)
            length = guess_length(walk, node, i);
        if (!ask->is_there(false, id, ask->data)) {
            if (!loss) {
                loss = loss_new(walk->snapshot_id, path, false);
                seen = g_hash_table_new(kvss_id_hash, kvss_id_same);
            }
            add_range(loss, offset, length);
            add_blob(loss, id, seen);
        }
        offset += length;
    }
    if (loss)
        g_ptr_array_add(walk->losses, loss);
    return loss != NULL;
}

/* ---- folders ---- */

static GPtrArray *
read_nodes(const Walk *walk, const uint8_t *id)
{
    g_autoptr(GBytes) text = NULL;

    if (!walk->walk->is_there(true, id, walk->walk->data))
        return NULL;
    text = walk->walk->read_tree(id, walk->walk->data, NULL);
    return text ? kvss_tree_parse(g_bytes_get_data(text, NULL), g_bytes_get_size(text), NULL)
                : NULL;
}

/* Returns: whether all is there; false with @error only when cancelled. */
static bool
walk_tree(Walk *walk, const char *path, const char *tree, unsigned depth, GError **error)
{
    g_autoptr(GPtrArray) nodes = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    bool is_whole = true;

    if (!kvss_check_cancelled(walk->walk->cancellable, error))
        return false;
    if (depth == KVSS_TREE_DEPTH_MAX || g_hash_table_contains(walk->sound, tree)
        || !kvss_id_from_hex(tree, strlen(tree), id))
        return true;
    nodes = read_nodes(walk, id);
    if (!nodes) {
        KvssLoss *loss = loss_new(walk->snapshot_id, *path ? path : "/", true);

        g_byte_array_append(loss->blobs, id, KVSS_ID_LENGTH);
        g_ptr_array_add(walk->losses, loss);
        return false;
    }
    for (guint i = 0; i < nodes->len && !(error && *error); i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);
        g_autofree char *below = g_strconcat(path, "/", node->name, NULL);

        if (node->type == KVSS_NODE_FOLDER)
            is_whole &= walk_tree(walk, below, node->subtree, depth + 1, error);
        else
            is_whole &= !walk_file(walk, below, node);
    }
    if (is_whole)
        g_hash_table_add(walk->sound, g_strdup(tree));
    return is_whole;
}

GPtrArray *
kvss_loss_walk(const GPtrArray *snapshots, const KvssLossWalk *ask, GError **error)
{
    g_autoptr(GPtrArray) losses
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_loss_free);
    g_autoptr(GHashTable) sound = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) cancelled = NULL;

    for (guint i = 0; i < snapshots->len && !cancelled; i++) {
        const KvssSnapshot *snapshot = g_ptr_array_index(snapshots, i);
        Walk walk = { ask, snapshot->id, sound, losses };

        if (!g_strv_contains((const char *const *) snapshot->tags, KVSS_DAMAGE_TAG))
            (void) walk_tree(&walk, "", snapshot->tree, 0, &cancelled);
    }
    if (cancelled) {
        g_propagate_error(error, g_steal_pointer(&cancelled));
        return NULL;
    }
    return g_steal_pointer(&losses);
}
