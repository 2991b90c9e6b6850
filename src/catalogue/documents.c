/*
 * documents.c - the VSS documents of a set, found and read
 */
#include "catalogue/documents.h"
#include "vss/documents.h"

#include <string.h>

#define FOLDER "vss"
#define COMPONENTS_NAME "backup-components.xml"
#define COMPONENTS_PATH FOLDER "/" COMPONENTS_NAME

#define throw(error, code, ...) \
    kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_##code, __VA_ARGS__)

static bool
is_document(const char *name)
{
    return strcmp(name, COMPONENTS_NAME) == 0
           || (g_str_has_prefix(name, "writer-") && g_str_has_suffix(name, ".xml"));
}

/* *@out_node is NULL when there is none at @path. */
static bool
look_for(KvssRepository *repository, const KvssBackup *backup, const char *path,
         KvssNode **out_node, GError **error)
{
    g_autoptr(GError) trouble = NULL;

    *out_node = kvss_repository_lookup(repository, backup->root, path, &trouble);
    if (*out_node || g_error_matches(trouble, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND))
        return true;
    g_propagate_prefixed_error(error, g_steal_pointer(&trouble), "backup %.8s: %s: ",
                               backup->snapshot->id, path);
    return false;
}

static bool
add_paths(KvssRepository *repository, const KvssNode *folder, GPtrArray *paths, GError **error)
{
    g_autoptr(GPtrArray) nodes = NULL;

    if (folder->type != KVSS_NODE_FOLDER || !folder->subtree)
        return throw(error, CORRUPT, "is no folder");
    nodes = kvss_repository_read_folder(repository, folder->subtree, error);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);

        if (!is_document(node->name))
            continue;
        if (paths->len == KVSS_BACKUP_DOCUMENTS_MAX)
            return throw(error, CORRUPT, "holds more than %u documents",
                         KVSS_BACKUP_DOCUMENTS_MAX);
        g_ptr_array_add(paths, g_strconcat(FOLDER "/", node->name, NULL));
    }
    return nodes != NULL;
}

GPtrArray *
kvss_backup_documents(KvssRepository *repository, const KvssBackup *backup, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(KvssNode) folder = NULL;

    if (!look_for(repository, backup, FOLDER, &folder, error))
        return NULL;
    if (folder && !add_paths(repository, folder, paths, error)) {
        g_prefix_error(error, "backup %.8s: " FOLDER ": ", backup->snapshot->id);
        return NULL;
    }
    g_ptr_array_add(paths, NULL);
    return g_steal_pointer(&paths);
}

/* Of this set, and not one that was put into another's place. */
static KvssBackupComponents *
read_components(const KvssBackup *backup, GBytes *text, GError **error)
{
    g_autoptr(KvssBackupComponents) components = kvss_backup_components_read(text, error);

    if (!components)
        return NULL;
    if (g_ascii_strcasecmp(components->set_id, backup->manifest->set_id) == 0)
        return g_steal_pointer(&components);
    throw(error, CORRUPT, "is of the set %s, and " KVSS_MANIFEST_NAME " of %s",
          components->set_id, backup->manifest->set_id);
    return NULL;
}

static bool
is_readable(const KvssBackup *backup, const char *path, GBytes *text, GError **error)
{
    if (strcmp(path, COMPONENTS_PATH) == 0) {
        g_autoptr(KvssBackupComponents) components = read_components(backup, text, error);

        return components != NULL;
    } else {
        g_autoptr(KvssWriterMetadata) metadata = kvss_writer_metadata_read(text, error);

        return metadata != NULL;
    }
}

static GBytes *
read_node(KvssRepository *repository, const KvssNode *node, GError **error)
{
    if (node && node->type == KVSS_NODE_FILE)
        return kvss_repository_read_file(repository, node, KVSS_DOCUMENT_MAX_LENGTH, error);
    throw(error, CORRUPT, "is no file");
    return NULL;
}

GBytes *
kvss_backup_read_document(KvssRepository *repository, const KvssBackup *backup, const char *path,
                          GError **error)
{
    g_autoptr(KvssNode) node = NULL;
    g_autoptr(GBytes) text = NULL;

    if (!look_for(repository, backup, path, &node, error))
        return NULL;
    text = read_node(repository, node, error);
    if (text && is_readable(backup, path, text, error))
        return g_steal_pointer(&text);
    g_prefix_error(error, "backup %.8s: %s: ", backup->snapshot->id, path);
    return NULL;
}

/* --- what succeeded ------------------------------------------------------------- */

static int
compare_names(gconstpointer a, gconstpointer b, gpointer data)
{
    return g_ascii_strcasecmp(a, b);
}

/* Component name -> KvssChosenComponent: those that failed. Borrowed from @components. */
static GTree *
failed_new(const KvssBackupComponents *components)
{
    GTree *failed = g_tree_new_with_data(compare_names, NULL);

    for (guint i = 0; i < components->writers->len; i++) {
        const KvssChosenWriter *writer = g_ptr_array_index(components->writers, i);

        for (guint n = 0; n < writer->components->len; n++) {
            KvssChosenComponent *component = g_ptr_array_index(writer->components, n);

            if (!component->backup_succeeded)
                g_tree_insert(failed, component->name, component);
        }
    }
    return failed;
}

static bool
check_vm(GTree *failed, const KvssManifestVm *vm, GError **error)
{
    const KvssChosenComponent *chosen = g_tree_lookup(failed, vm->component->name);

    if (!chosen)
        return true;
    if (chosen->failure == KVSS_S_OK)
        return throw(error, FAILED, "%s: its backup did not succeed: take another one",
                     vm->component->display_name);
    return throw(error, FAILED, "%s: its backup did not succeed: take another one: %s (%s, 0x%08X)",
                 vm->component->display_name,
                 chosen->failure_message ? chosen->failure_message : "no reason is told",
                 kvss_hresult_name(chosen->failure), chosen->failure);
}

static bool
check_all(GTree *failed, const KvssManifest *manifest, GError **error)
{
    const GPtrArray *lists[] = { manifest->vms, manifest->components };

    for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
        for (guint i = 0; i < lists[l]->len; i++)
            if (!check_vm(failed, g_ptr_array_index(lists[l], i), error))
                return false;
    return true;
}

static bool
check_named(GTree *failed, const KvssManifest *manifest, const char *const *vms, GError **error)
{
    for (; *vms; vms++) {
        const KvssManifestVm *vm = kvss_manifest_find(manifest, *vms, error);

        if (!vm || !check_vm(failed, vm, error))
            return false;
    }
    return true;
}

bool
kvss_backup_check_succeeded(KvssRepository *repository, const KvssBackup *backup,
                            const char *const *vms, GError **error)
{
    g_autoptr(KvssNode) node = NULL;
    g_autoptr(GBytes) text = NULL;
    g_autoptr(KvssBackupComponents) components = NULL;
    g_autoptr(GTree) failed = NULL;

    if (!look_for(repository, backup, COMPONENTS_PATH, &node, error))
        return false;
    if (!node)
        return true;
    text = read_node(repository, node, error);
    components = text ? read_components(backup, text, error) : NULL;
    if (!components) {
        g_prefix_error(error, "backup %.8s: %s: ", backup->snapshot->id, COMPONENTS_PATH);
        return false;
    }
    failed = failed_new(components);
    return vms && *vms ? check_named(failed, backup->manifest, vms, error)
                       : check_all(failed, backup->manifest, error);
}
