/*
 * catalogue.c - the sets that lie in a repository
 *
 * A snapshot becomes a set by what is in it. Three answers are kept apart: it is
 * a set; it is none (no set.json: somebody's snapshot with our tag); it should be
 * one but cannot be read. The last is never passed over in silence where a newer
 * set might be meant.
 */
#include "catalogue/catalogue-private.h"
#include "stream/source.h"

#include <string.h>

/* How far down a set may lie: "restic backup /a/b/c" stores three folders above it. */
#define NESTING_MAX 32

#define throw(error, code, ...) \
    kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_##code, __VA_ARGS__)

void
kvss_backup_free(KvssBackup *backup)
{
    if (!backup)
        return;
    kvss_snapshot_free(backup->snapshot);
    g_free(backup->root);
    kvss_manifest_free(backup->manifest);
    g_clear_pointer(&backup->losses, g_ptr_array_unref);
    g_free(backup);
}

static const KvssNode *
find_node(GPtrArray *folder, const char *name)
{
    for (guint i = 0; i < folder->len; i++) {
        const KvssNode *node = g_ptr_array_index(folder, i);

        if (strcmp(node->name, name) == 0)
            return node;
    }
    return NULL;
}

/* The folder that holds set.json, in @out_root, and its text; NULL text: it is no set. */
static bool
find_set(KvssRepository *repository, const char *tree, char **out_root, GBytes **out_text,
         GError **error)
{
    g_autofree char *root = g_strdup(tree);

    for (unsigned depth = 0; depth <= NESTING_MAX; depth++) {
        g_autoptr(GPtrArray) folder = kvss_repository_read_folder(repository, root, error);
        const KvssNode *node;

        if (!folder)
            return false;
        node = find_node(folder, KVSS_MANIFEST_NAME);
        if (node && node->type == KVSS_NODE_FILE) {
            *out_text = kvss_repository_read_file(repository, node, KVSS_MANIFEST_MAX_LENGTH,
                                                  error);
            *out_root = g_steal_pointer(&root);
            return *out_text != NULL;
        }
        node = folder->len == 1 ? g_ptr_array_index(folder, 0) : NULL;
        if (!node || node->type != KVSS_NODE_FOLDER || !node->subtree)
            break;
        g_free(root);
        root = g_strdup(node->subtree);
    }
    *out_text = NULL;
    return true;
}

bool
kvss_catalogue_load(KvssRepository *repository, KvssSnapshot *snapshot, KvssBackup **out_backup,
                    GError **error)
{
    g_autoptr(KvssBackup) backup = g_new0(KvssBackup, 1);
    g_autoptr(GBytes) text = NULL;

    backup->snapshot = snapshot;
    backup->losses = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_loss_free);
    *out_backup = NULL;
    if (!find_set(repository, snapshot->tree, &backup->root, &text, error))
        goto fail;
    if (!text)
        return true;
    backup->manifest = kvss_manifest_from_json(text, error);
    if (!backup->manifest)
        goto fail;
    *out_backup = g_steal_pointer(&backup);
    return true;

fail:
    g_prefix_error(error, "backup %.8s: ", snapshot->id);
    return false;
}

bool
kvss_catalogue_could_not_look(const GError *error)
{
    return error->domain == KVSS_IO_ERROR && error->code != KVSS_IO_ERROR_CORRUPT &&
           error->code != KVSS_IO_ERROR_NOT_FOUND && error->code != KVSS_IO_ERROR_FAILED;
}

/* Each of @losses to the backup whose it is. */
static void
share_losses(GPtrArray *losses, KvssBackup *const *backups, guint n)
{
    while (losses->len > 0) {
        KvssLoss *loss = g_ptr_array_steal_index(losses, losses->len - 1);
        guint i = 0;

        while (i < n && strcmp(backups[i]->snapshot->id, loss->snapshot_id) != 0)
            i++;
        if (i < n)
            g_ptr_array_insert(backups[i]->losses, 0, loss);
        else
            kvss_loss_free(loss);
    }
}

/* A note that cannot be read keeps nobody from what is there. */
void
kvss_catalogue_mark(KvssRepository *repository, KvssBackup *const *backups, guint n)
{
    g_autoptr(GError) trouble = NULL;
    g_autoptr(GPtrArray) losses = kvss_repository_list_losses(repository, &trouble);

    if (losses)
        share_losses(losses, backups, n);
    else
        g_debug("what is known to be lost cannot be told: %s", trouble->message);
}

GPtrArray *
kvss_catalogue_list(KvssRepository *repository, KvssCatalogueProblem problem, gpointer data,
                    GError **error)
{
    g_autoptr(GPtrArray)
        backups = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_backup_free);
    g_autoptr(GPtrArray) snapshots = kvss_repository_list_readable_snapshots(
        repository, KVSS_CATALOGUE_TAG, problem, data, error);

    if (!snapshots)
        return NULL;
    while (snapshots->len > 0) {
        g_autoptr(GError) trouble = NULL;
        KvssBackup *backup = NULL;
        KvssSnapshot *snapshot = g_ptr_array_steal_index(snapshots, snapshots->len - 1);
        g_autofree char *id = g_strdup(snapshot->id);

        if (kvss_catalogue_load(repository, snapshot, &backup, &trouble)) {
            if (backup)
                g_ptr_array_insert(backups, 0, backup);
            continue;
        }
        if (kvss_catalogue_could_not_look(trouble)) {
            g_propagate_error(error, g_steal_pointer(&trouble));
            return NULL;
        }
        if (problem)
            problem(id, trouble, data);
    }
    kvss_catalogue_mark(repository, (KvssBackup *const *) backups->pdata, backups->len);
    return g_steal_pointer(&backups);
}

/* ---- one of them ---- */

/** A snapshot file that cannot be read. */
typedef struct {
    char *id;
    GError *error;
} Unreadable;

static void
unreadable_free(gpointer data)
{
    Unreadable *unreadable = data;

    g_free(unreadable->id);
    g_error_free(unreadable->error);
    g_free(unreadable);
}

static void
add_unreadable(const char *id, const GError *problem, gpointer data)
{
    Unreadable *unreadable = g_new0(Unreadable, 1);

    unreadable->id = g_strdup(id);
    unreadable->error = g_error_copy(problem);
    g_ptr_array_add(data, unreadable);
}

static bool
holds_all(const KvssBackup *backup, const char *const *vms, GError **error)
{
    for (; vms && *vms; vms++)
        if (!kvss_manifest_find(backup->manifest, *vms, error))
            return false;
    return true;
}

#define NO_LATEST "cannot tell which backup is the latest, name one by its id: "

/*
 * From the newest back. One that cannot be read ends the search: it might be the
 * one that is meant, and an older one in its place would be a silent lie.
 */
static KvssBackup *
find_latest(KvssRepository *repository, GPtrArray *snapshots, const GPtrArray *unreadable,
            const char *const *vms, GError **error)
{
    g_autoptr(GError) newest = NULL; /* what it does not hold */
    g_autofree char *names = NULL;

    if (unreadable->len > 0) { /* nobody knows how old it is */
        const Unreadable *first = g_ptr_array_index(unreadable, 0);

        g_propagate_prefixed_error(error, g_error_copy(first->error), NO_LATEST);
        return NULL;
    }
    while (snapshots->len > 0) {
        KvssBackup *backup = NULL;
        KvssSnapshot *snapshot = g_ptr_array_steal_index(snapshots, snapshots->len - 1);

        if (!kvss_catalogue_load(repository, snapshot, &backup, error)) {
            g_prefix_error(error, NO_LATEST);
            return NULL;
        }
        if (backup && holds_all(backup, vms, newest ? NULL : &newest))
            return backup;
        kvss_backup_free(backup);
    }
    names = vms && *vms ? g_strjoinv("', '", (char **) vms) : NULL;
    if (names)
        throw(error, NOT_FOUND, "no backup holds %s '%s'%s%s", vms[1] ? "all of" : "the VM", names,
              newest ? "; of the newest: " : "", newest ? newest->message : "");
    else
        throw(error, NOT_FOUND, "there is no backup in the repository");
    return NULL;
}

static bool
is_hex(const char *text)
{
    size_t length = strspn(text, "0123456789abcdef");

    return length > 0 && length <= KVSS_ID_HEX_LENGTH && text[length] == '\0';
}

static KvssSnapshot *
throw_ambiguous(const char *prefix, GError **error)
{
    throw(error, AMBIGUOUS, "several backups begin with '%s': give more digits", prefix);
    return NULL;
}

/* The one snapshot whose id begins with @prefix, stolen from @snapshots. */
static KvssSnapshot *
steal_by_prefix(GPtrArray *snapshots, const GPtrArray *unreadable, const char *prefix,
                GError **error)
{
    const Unreadable *damaged = NULL;
    guint found = snapshots->len;

    for (guint i = 0; i < snapshots->len; i++) {
        if (!g_str_has_prefix(((KvssSnapshot *) g_ptr_array_index(snapshots, i))->id, prefix))
            continue;
        if (found < snapshots->len)
            return throw_ambiguous(prefix, error);
        found = i;
    }
    for (guint i = 0; i < unreadable->len; i++) {
        const Unreadable *one = g_ptr_array_index(unreadable, i);

        if (!g_str_has_prefix(one->id, prefix))
            continue;
        if (damaged || found < snapshots->len)
            return throw_ambiguous(prefix, error);
        damaged = one;
    }
    if (found < snapshots->len)
        return g_ptr_array_steal_index(snapshots, found);
    if (damaged)
        g_propagate_error(error, g_error_copy(damaged->error));
    else
        throw(error, NOT_FOUND, "no backup '%s': 'kvss list backups' shows those that are there",
              prefix);
    return NULL;
}

static KvssBackup *
find(KvssRepository *repository, const char *name, const char *const *vms, GError **error)
{
    g_autoptr(GPtrArray) unreadable = g_ptr_array_new_with_free_func(unreadable_free);
    g_autoptr(GPtrArray) snapshots = kvss_repository_list_readable_snapshots(
        repository, KVSS_CATALOGUE_TAG, add_unreadable, unreadable, error);
    g_autofree char *prefix = g_ascii_strdown(name, -1);
    g_autoptr(KvssBackup) backup = NULL;
    KvssSnapshot *snapshot;

    if (!snapshots)
        return NULL;
    if (strcmp(name, "latest") == 0)
        return find_latest(repository, snapshots, unreadable, vms, error);
    if (!is_hex(prefix)) {
        throw(error, NOT_FOUND, "'%s' is no backup: give an id, its first digits, or 'latest'",
              name);
        return NULL;
    }
    snapshot = steal_by_prefix(snapshots, unreadable, prefix, error);
    if (!snapshot || !kvss_catalogue_load(repository, snapshot, &backup, error))
        return NULL;
    if (!backup) {
        throw(error, NOT_FOUND, "snapshot %.8s holds no %s: it is no backup set", prefix,
              KVSS_MANIFEST_NAME);
        return NULL;
    }
    if (!holds_all(backup, vms, error)) {
        g_prefix_error(error, "backup %.8s: ", backup->snapshot->id);
        return NULL;
    }
    return g_steal_pointer(&backup);
}

KvssBackup *
kvss_catalogue_find(KvssRepository *repository, const char *name, const char *const *vms,
                    GError **error)
{
    KvssBackup *backup = find(repository, name, vms, error);

    if (backup)
        kvss_catalogue_mark(repository, &backup, 1);
    return backup;
}

/* The node of a file in the set. */
static KvssNode *
lookup(KvssRepository *repository, const KvssBackup *backup, const char *path, GError **error)
{
    g_autoptr(KvssNode) node = NULL;

    g_assert(path); /* every disk and file of a manifest has its place */
    node = kvss_repository_lookup(repository, backup->root, path, error);
    if (node && node->type == KVSS_NODE_FILE)
        return g_steal_pointer(&node);
    if (node)
        throw(error, CORRUPT, "is no file");
    else if (error &&
             g_error_matches(*error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND)) {
        /* The manifest says it is there: absent is damage here. */
        g_clear_error(error);
        throw(error, CORRUPT, "is named in %s but not in the set", KVSS_MANIFEST_NAME);
    }
    g_prefix_error(error, "backup %.8s: %s: ", backup->snapshot->id, path);
    return NULL;
}

KvssSource *
kvss_backup_open_disk(KvssRepository *repository, const KvssBackup *backup,
                      const KvssManifestVm *vm, const KvssDisk *disk, GError **error)
{
    const char *path = kvss_manifest_disk_path(vm, disk->target);
    g_autoptr(KvssNode) node = lookup(repository, backup, path, error);

    if (!node)
        return NULL;
    if (node->size != disk->size) {
        throw(error, CORRUPT,
              "backup %.8s: %s: has %" G_GUINT64_FORMAT " bytes where %s says %" G_GUINT64_FORMAT,
              backup->snapshot->id, path, node->size, KVSS_MANIFEST_NAME, disk->size);
        return NULL;
    }
    return kvss_repository_open_file(repository, node, error);
}

KvssSource *
kvss_backup_open_file(KvssRepository *repository, const KvssBackup *backup,
                      const KvssManifestVm *vm, const KvssFile *file, GError **error)
{
    g_autoptr(KvssNode)
        node = lookup(repository, backup, kvss_manifest_file_path(vm, file->name), error);

    return node ? kvss_repository_open_file(repository, node, error) : NULL;
}

GBytes *
kvss_backup_read_file(KvssRepository *repository, const KvssBackup *backup,
                      const KvssManifestVm *vm, const KvssFile *file, size_t max_length,
                      GError **error)
{
    g_autoptr(KvssNode)
        node = lookup(repository, backup, kvss_manifest_file_path(vm, file->name), error);

    return node ? kvss_repository_read_file(repository, node, max_length, error) : NULL;
}
