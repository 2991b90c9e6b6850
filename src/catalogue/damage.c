/*
 * damage.c - which VMs and disks of a set have lost something
 *
 * The repository knows paths; here they become VMs. A set may lie some folders down
 * in its snapshot, so what is lost is known by the end of its path.
 */
#include "catalogue/catalogue.h"

#include <string.h>

/*
 * Is @path, of the set, lost with @loss? A file that lost chunks is meant itself; a
 * folder whose listing is lost takes everything below it along.
 */
static bool
is_below(const char *path, const KvssLoss *loss)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    g_autoptr(GString) start = g_string_new(NULL);

    if (loss->is_folder && strcmp(loss->path, "/") == 0)
        return true;
    for (guint i = 0; names[i]; i++) {
        g_string_append_printf(start, "/%s", names[i]);
        if ((loss->is_folder || !names[i + 1]) && g_str_has_suffix(loss->path, start->str))
            return true;
    }
    return false;
}

const char *
kvss_backup_lost_part(const KvssManifestVm *vm, const KvssLoss *loss, bool *out_is_disk)
{
    GHashTable *const tables[] = { vm->disk_files, vm->file_files };

    for (guint i = 0; i < G_N_ELEMENTS(tables) && !loss->is_folder; i++) {
        GHashTableIter iter;
        gpointer name, path;

        g_hash_table_iter_init(&iter, tables[i]);
        while (g_hash_table_iter_next(&iter, &name, &path))
            if (is_below(path, loss)) {
                *out_is_disk = i == 0;
                return name;
            }
    }
    return NULL;
}

bool
kvss_backup_vm_is_hit(const KvssManifestVm *vm, const KvssLoss *loss)
{
    g_autofree char *place = g_strdup_printf("/%s/%s/", vm->top, vm->dir);
    g_autofree char *folder = g_strdup_printf("%s/%s", vm->top, vm->dir);
    g_autofree char *path = g_strconcat(loss->path, "/", NULL);

    return strstr(path, place) != NULL || is_below(folder, loss);
}

/* Does @loss keep @vm, or of it only @disks, from being restored? */
static bool
is_in_the_way(const KvssManifestVm *vm, const char *const *disks, const KvssLoss *loss)
{
    bool is_disk = false;
    const char *part;

    if (!kvss_backup_vm_is_hit(vm, loss))
        return false;
    part = kvss_backup_lost_part(vm, loss, &is_disk);
    return !disks || loss->is_folder || (part && is_disk && g_strv_contains(disks, part));
}

static bool
check_vm(const KvssBackup *backup, const KvssManifestVm *vm, const char *const *disks,
         GError **error)
{
    for (guint i = 0; backup->losses && i < backup->losses->len; i++) {
        const KvssLoss *loss = g_ptr_array_index(backup->losses, i);

        if (is_in_the_way(vm, disks, loss))
            return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT,
                              "backup %.8s: VM %s: a part of %s is lost ('kvss show' tells which): "
                              "name its other VMs or disks, or take another backup",
                              backup->snapshot->id, vm->component->display_name, loss->path);
    }
    return true;
}

static bool
check_all(const KvssBackup *backup, const GPtrArray *vms, const char *const *disks,
          GError **error)
{
    for (guint i = 0; i < vms->len; i++)
        if (!check_vm(backup, g_ptr_array_index(vms, i), disks, error))
            return false;
    return true;
}

bool
kvss_backup_check_whole(const KvssBackup *backup, const char *const *vms,
                        const char *const *disks, GError **error)
{
    if (!vms || !*vms)
        return check_all(backup, backup->manifest->vms, disks, error)
               && check_all(backup, backup->manifest->components, disks, error);
    for (; *vms; vms++) {
        const KvssManifestVm *vm = kvss_manifest_find(backup->manifest, *vms, error);

        if (!vm || !check_vm(backup, vm, disks, error))
            return false;
    }
    return true;
}
