/*
 * selectable.c - which components of a set may be restored by themselves
 *
 * VSS: one that was chosen for the backup may always be; one that came along with another
 * only if its writer said so (selectableForRestore), or together with that one.
 */
#include "catalogue/documents.h"
#include "vss/documents.h"

#include <string.h>

#define COMPONENTS_PATH "vss/backup-components.xml"

static bool
has_path(GPtrArray *paths, const char *path)
{
    for (guint i = 0; g_ptr_array_index(paths, i); i++)
        if (strcmp(g_ptr_array_index(paths, i), path) == 0)
            return true;
    return false;
}

static bool
is_explicit(const KvssBackupComponents *components, const KvssManifestVm *stored)
{
    for (guint i = 0; i < components->writers->len; i++) {
        const KvssChosenWriter *writer = g_ptr_array_index(components->writers, i);

        if (g_ascii_strcasecmp(writer->class_id, stored->writer) != 0)
            continue;
        for (guint k = 0; k < writer->components->len; k++) {
            const KvssChosenComponent *chosen = g_ptr_array_index(writer->components, k);

            if (strcmp(chosen->name, stored->component->name) == 0
                && g_strcmp0(chosen->logical_path, stored->component->logical_path) == 0)
                return true;
        }
    }
    return false;
}

/* In the tree of logical paths: names with a backslash between. */
static bool
is_below(const KvssManifestVm *lower, const KvssManifestVm *upper)
{
    const char *path = upper->component->logical_path;
    g_autofree char *full = path && *path ? g_strconcat(path, "\\", upper->component->name, NULL)
                                          : g_strdup(upper->component->name);
    const char *its = lower->component->logical_path;
    size_t length = strlen(full);

    return g_ascii_strcasecmp(lower->writer, upper->writer) == 0 && its
        && strncmp(its, full, length) == 0 && (its[length] == '\0' || its[length] == '\\');
}

static bool
comes_with_another(const KvssManifest *manifest, const char *const *names,
                   const KvssManifestVm *stored)
{
    for (; *names; names++) {
        const KvssManifestVm *other = kvss_manifest_find(manifest, *names, NULL);

        if (other && other != stored && is_below(stored, other))
            return true;
    }
    return false;
}

/* What its writer's document says; absent there: nothing forbids it. */
static bool
may_come_alone(const KvssWriterMetadata *metadata, const KvssManifestVm *stored)
{
    for (guint i = 0; i < metadata->groups->len; i++) {
        const KvssFileGroup *group = g_ptr_array_index(metadata->groups, i);

        if (strcmp(group->name, stored->component->name) == 0
            && g_strcmp0(group->logical_path, stored->component->logical_path) == 0)
            return group->is_selectable_for_restore;
    }
    return true;
}

static bool
check_writer(KvssRepository *repository, const KvssBackup *backup, const char *path,
             const KvssManifestVm *stored, GError **error)
{
    g_autoptr(GBytes) text = kvss_backup_read_document(repository, backup, path, error);
    g_autoptr(KvssWriterMetadata) metadata = text ? kvss_writer_metadata_read(text, error) : NULL;

    if (!metadata)
        return false;
    if (g_ascii_strcasecmp(metadata->class_id, stored->writer) != 0
        || may_come_alone(metadata, stored))
        return true;
    return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_SELECTABLE,
                      "%s came into the backup with another component, and its writer does not let "
                      "it be restored alone: name the one above it", stored->component->display_name);
}

static bool
check_one(KvssRepository *repository, const KvssBackup *backup, GPtrArray *paths,
          const KvssManifestVm *stored, GError **error)
{
    for (guint i = 0; g_ptr_array_index(paths, i); i++) {
        const char *path = g_ptr_array_index(paths, i);

        if (strcmp(path, COMPONENTS_PATH) != 0
            && !check_writer(repository, backup, path, stored, error))
            return false;
    }
    return true;
}

/* Those that need a look at their writer's document. */
static bool
collect(const KvssBackup *backup, const KvssBackupComponents *components, const char *const *names,
        GPtrArray *doubtful, GError **error)
{
    for (const char *const *name = names; *name; name++) {
        const KvssManifestVm *stored = kvss_manifest_find(backup->manifest, *name, error);

        if (!stored)
            return false;
        if (!is_explicit(components, stored)
            && !comes_with_another(backup->manifest, names, stored))
            g_ptr_array_add(doubtful, (gpointer) stored);
    }
    return true;
}

bool
kvss_backup_check_selectable(KvssRepository *repository, const KvssBackup *backup,
                             const char *const *names, GError **error)
{
    g_autoptr(GPtrArray) paths = kvss_backup_documents(repository, backup, error);
    g_autoptr(GPtrArray) doubtful = g_ptr_array_new();
    g_autoptr(KvssBackupComponents) components = NULL;
    g_autoptr(GBytes) text = NULL;

    if (!paths)
        return false;
    if (!has_path(paths, COMPONENTS_PATH))
        return true; /* somebody put this set together */
    text = kvss_backup_read_document(repository, backup, COMPONENTS_PATH, error);
    components = text ? kvss_backup_components_read(text, error) : NULL;
    if (!components || !collect(backup, components, names, doubtful, error))
        return false;
    for (guint i = 0; i < doubtful->len; i++)
        if (!check_one(repository, backup, paths, g_ptr_array_index(doubtful, i), error))
            return false;
    return true;
}
