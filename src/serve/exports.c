/*
 * exports.c - which disks of a backup are served, and what they are called
 */
#include "serve/exports.h"

#include <string.h>

/* NBD allows 4096 bytes; nobody types so many. */
#define VM_NAME_MAX 1024u

static void
export_free(gpointer data)
{
    KvssServeExport *export = data;

    g_free(export->name);
    g_free(export->description);
    g_free(export);
}

static bool
is_name_of_one(const KvssManifest *manifest, const char *name)
{
    guint found = 0;

    for (guint i = 0; i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        found += g_str_equal(vm->component->display_name, name);
    }
    return found == 1;
}

static void
add_disk(GPtrArray *exports, const KvssBackup *backup, const KvssManifestVm *vm,
         const KvssDisk *disk)
{
    KvssServeExport *export = g_new0(KvssServeExport, 1);
    g_autofree char *time = kvss_manifest_time(backup->manifest->time_us);
    const char *vm_name = vm->component->display_name;

    if (strlen(vm_name) > VM_NAME_MAX || !is_name_of_one(backup->manifest, vm_name))
        vm_name = vm->component->name;
    export->name = g_strdup_printf("%s/%s", vm_name, disk->target);
    export->description = g_strdup_printf("disk %s of %s, backup %.8s of %s", disk->target, vm_name,
                                          backup->snapshot->id, time);
    export->vm = vm;
    export->disk = disk;
    g_ptr_array_add(exports, export);
}

static void
add_vm(GPtrArray *exports, const KvssBackup *backup, const KvssManifestVm *vm)
{
    for (guint i = 0; i < vm->component->disks->len; i++)
        add_disk(exports, backup, vm, g_ptr_array_index(vm->component->disks, i));
}

GPtrArray *
kvss_serve_exports_new(const KvssBackup *backup, const char *vm_name, const char *target,
                       GError **error)
{
    g_autoptr(GPtrArray) exports = g_ptr_array_new_with_free_func(export_free);
    const KvssManifestVm *vm = NULL;
    const KvssDisk *disk = NULL;

    if (vm_name && !(vm = kvss_manifest_find_vm(backup->manifest, vm_name, error)))
        return NULL;
    if (target && !(disk = kvss_manifest_find_disk(vm, target, error)))
        return NULL;
    if (disk)
        add_disk(exports, backup, vm, disk);
    else if (vm)
        add_vm(exports, backup, vm);
    else
        for (guint i = 0; i < backup->manifest->vms->len; i++)
            add_vm(exports, backup, g_ptr_array_index(backup->manifest->vms, i));
    if (exports->len > 0)
        return g_steal_pointer(&exports);
    kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
               "backup %.8s%s%s: there is no disk to serve", backup->snapshot->id,
               vm_name ? ": " : "", vm_name ? vm_name : "");
    return NULL;
}

int
kvss_serve_exports_find(const GPtrArray *exports, const char *name)
{
    if (!*name)
        return exports->len == 1 ? 0 : -1;
    for (guint i = 0; i < exports->len; i++)
        if (g_str_equal(((KvssServeExport *) g_ptr_array_index(exports, i))->name, name))
            return (int) i;
    for (guint i = 0; i < exports->len; i++) {
        const KvssServeExport *export = g_ptr_array_index(exports, i);
        g_autofree char *other = g_strdup_printf("%s/%s", export->vm->component->name,
                                                 export->disk->target);

        if (g_ascii_strcasecmp(other, name) == 0)
            return (int) i;
    }
    return -1;
}

char *
kvss_serve_uri(const char *name, const char *socket)
{
    g_autofree char *export = g_uri_escape_string(name, "/", FALSE);
    g_autofree char *path = g_uri_escape_string(socket, "/", FALSE);

    return g_strdup_printf("nbd+unix:///%s?socket=%s", export, path);
}
