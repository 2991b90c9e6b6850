/*
 * folder.c - stored folders and small files, by tree and path
 */
#include "repository/format/tree.h"
#include "repository/read/blob.h"

#include <string.h>

GPtrArray *
kvss_repository_read_folder(KvssRepository *repository, const char *tree, GError **error)
{
    g_autoptr(GBytes) text = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    GPtrArray *nodes;

    if (!kvss_id_from_hex(tree, strlen(tree), id)) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                   "\"%s\" is not the id of a folder", tree);
        return NULL;
    }
    text = kvss_blob_read_tree(repository, id, error);
    if (!text)
        return NULL;
    nodes = kvss_tree_parse(g_bytes_get_data(text, NULL), g_bytes_get_size(text), error);
    if (!nodes)
        g_prefix_error(error, "tree blob %.8s: ", tree);
    return nodes;
}

/* The entry @name, taken out of the list; NULL when there is none. */
static KvssNode *
take_node(GPtrArray *nodes, const char *name)
{
    for (guint i = 0; i < nodes->len; i++)
        if (g_str_equal(((KvssNode *) g_ptr_array_index(nodes, i))->name, name))
            return g_ptr_array_steal_index(nodes, i);
    return NULL;
}

KvssNode *
kvss_repository_lookup(KvssRepository *repository, const char *tree, const char *path,
                       GError **error)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    g_autoptr(KvssNode) node = NULL;

    for (guint i = 0; names[i]; i++) {
        g_autoptr(GPtrArray) nodes = NULL;
        KvssNode *next = NULL;

        if (i == 0 || node->type == KVSS_NODE_FOLDER) {
            nodes = kvss_repository_read_folder(repository, node ? node->subtree : tree, error);
            if (!nodes)
                return NULL;
            next = take_node(nodes, names[i]);
        }
        if (!next) {
            kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                       "%s is not in the backup", path);
            return NULL;
        }
        kvss_node_free(node);
        node = next;
    }
    if (!node)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                   "an empty path names no file");
    return g_steal_pointer(&node);
}

static bool
read_chunks(KvssRepository *repository, const KvssNode *node, uint8_t *buffer, GError **error)
{
    uint64_t at = 0;

    for (size_t i = 0; i < node->n_content; i++) {
        const uint8_t *id = node->content + i * KVSS_ID_LENGTH;
        KvssBlobLocation location;

        if (!kvss_blob_find(repository, false, id, &location, error))
            return false;
        if (location.plain_length > node->size - at)
            break;
        if (!kvss_blob_read(repository, false, id, buffer + at, location.plain_length, error))
            return false;
        at += location.plain_length;
    }
    if (at == node->size)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "its chunks do not add up to its size of %" G_GUINT64_FORMAT " bytes",
                      node->size);
}

GBytes *
kvss_repository_read_file(KvssRepository *repository, const KvssNode *node, size_t max_length,
                          GError **error)
{
    g_autofree uint8_t *buffer = NULL;

    g_return_val_if_fail(node->type == KVSS_NODE_FILE, NULL);
    if (node->size > max_length) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                   "%s: %" G_GUINT64_FORMAT " bytes are larger than expected (at most %zu)",
                   node->name, node->size, max_length);
        return NULL;
    }
    buffer = g_malloc(node->size + 1);
    if (read_chunks(repository, node, buffer, error))
        return g_bytes_new_take(g_steal_pointer(&buffer), node->size);
    g_prefix_error(error, "%s: ", node->name);
    return NULL;
}
