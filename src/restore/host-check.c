/*
 * host-check.c - whether components may be put back together, and the plan in plain words
 */
#include "restore/host-parts.h"

void
host_say(Plan *plan, const PlanHost *host, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(plan->steps, g_strdup_printf("%s: %s", host_name(host), text));
}

static bool
check_places(const PlanHost *host, GHashTable *places, GError **error)
{
    for (guint i = 0; i < host->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(host->files, i);

        if (!g_hash_table_add(places, file->file->path))
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                              "%s: two files of the backup belong to %s", host_name(host),
                              file->file->path);
    }
    return true;
}

static bool
check_apart(const PlanHost *host, const char *path, const char *vm, GError **error)
{
    if (!path || !host->live || !host_declares(host->live, path))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s: its writer declares %s, which belongs to the VM %s of the same restore: "
                      "restore one after the other, or with --to DIR", host_name(host), path, vm);
}

/* What the VMs get is written before a writer's files are set aside: it would be among them. */
static bool
check_apart_from_vms(const Plan *plan, const PlanHost *host, GError **error)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);
        const char *name = vm->component->display_name;

        for (guint k = 0; k < vm->disks->len; k++) {
            const PlanDisk *disk = g_ptr_array_index(vm->disks, k);

            if (!check_apart(host, disk->disk->path, name, error)
                || !check_apart(host, disk->real, name, error))
                return false;
        }
        for (guint k = 0; k < vm->files->len; k++) {
            const PlanFile *file = g_ptr_array_index(vm->files, k);

            if (!check_apart(host, file->file->path, name, error))
                return false;
        }
    }
    return true;
}

bool
host_describe(Plan *plan, GError **error)
{
    g_autoptr(GHashTable) places = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < plan->hosts->len; i++) {
        const PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (!check_places(host, places, error) || !check_apart_from_vms(plan, host, error)
            || !host_aside_all(plan, host, NULL, error))
            return false;
        for (guint k = 0; k < host->files->len; k++) {
            const PlanFile *file = g_ptr_array_index(host->files, k);

            host_say(plan, host, "%s is written", file->file->path);
        }
    }
    return true;
}
