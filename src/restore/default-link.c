/*
 * default-link.c - a disk restored elsewhere is found in the default location all the same
 */
#include "restore/default-link.h"
#include "guardian/links.h"
#include "host/connection.h"
#include "writer/domain/restore-steps.h"

#include <string.h>
#include <sys/stat.h>

/* ---- which ---- */

static bool
is_where_it_was(const PlanDisk *disk)
{
    g_autofree char *recorded = NULL;

    if (!disk->stored->path || !*disk->stored->path)
        return false;
    recorded = kvss_vm_place_of(disk->stored->path);
    return g_str_equal(recorded, disk->real);
}

static bool
is_in(const char *folder, const char *real)
{
    g_autofree char *its = g_path_get_dirname(real);
    g_autofree char *there = kvss_vm_real_path(folder);

    return g_str_equal(its, there);
}

void
default_link_plan(const Plan *plan, const PlanVm *vm, PlanDisk *disk)
{
    const char *target = disk->disk->target;
    g_autofree char *folder = kvss_host_images_folder(plan->options->host);
    g_autofree char *path = NULL;

    if (!folder)
        return;
    if (!disk->is_block && !is_where_it_was(disk) && !is_in(folder, disk->real))
        path = plan_path_in(folder, vm->component, target, disk->disk->format);
    disk->stale_links = kvss_links_find(folder, vm->component->name, target);
    for (guint i = disk->stale_links->len; path && i-- > 0;) {
        if (g_str_equal(g_ptr_array_index(disk->stale_links, i), path))
            g_ptr_array_remove_index(disk->stale_links, i);
    }
    disk->link = g_steal_pointer(&path);
}

/* The old VM's image, which is set aside before the link is made? */
static bool
goes_aside(const PlanVm *vm, const char *path)
{
    g_autoptr(KvssDomainConfig) config = vm->old ? kvss_domain_config(vm->old, NULL) : NULL;

    for (guint i = 0; config && i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        g_autofree char *real = NULL;

        if (!kvss_vm_disk_goes_aside(vm->component, disk))
            continue;
        real = kvss_vm_real_path(disk->source);
        if (g_str_equal(real, path))
            return true;
    }
    return false;
}

bool
default_link_is_obstructed(const PlanVm *vm, const PlanDisk *disk)
{
    g_autofree char *place = kvss_vm_place_of(disk->link);
    struct stat st;

    return lstat(disk->link, &st) == 0 && !kvss_link_is_ours(disk->link)
        && !kvss_link_leads_to(disk->link, disk->disk->path) && !goes_aside(vm, place);
}

/* ---- the acts ---- */

/* A journal that takes no more acts ends the restore by itself; here it costs only the link. */
static void
act_begin(KvssRun *run, const PlanVm *vm, PlanDisk *disk, const char *path, const char *target)
{
    JsonObject *details = json_object_new();
    KvssActId act;

    json_object_set_string_member(details, "path", path);
    json_object_set_string_member(details, "target", target);
    json_object_set_string_member(details, "uuid", vm->component->name);
    json_object_set_string_member(details, "disk", disk->disk->target);
    act = kvss_run_act_begin(run, KVSS_ACT_LINK, details, NULL);
    if (act)
        g_array_append_val(disk->link_acts, act);
}

typedef void (*DiskFunc)(KvssRun *run, const PlanVm *vm, PlanDisk *disk);

static void
for_each_disk(Plan *plan, KvssRun *run, DiskFunc func)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++)
            func(run, vm, g_ptr_array_index(vm->disks, k));
    }
}

static void
disk_begin(KvssRun *run, const PlanVm *vm, PlanDisk *disk)
{
    disk->link_acts = g_array_new(FALSE, FALSE, sizeof(KvssActId));
    for (guint i = 0; disk->stale_links && i < disk->stale_links->len; i++)
        act_begin(run, vm, disk, g_ptr_array_index(disk->stale_links, i), "");
    if (disk->link)
        act_begin(run, vm, disk, disk->link, disk->disk->path);
}

void
default_links_begin(Plan *plan, KvssRun *run)
{
    for_each_disk(plan, run, disk_begin);
}

/* ---- the links ---- */

static bool
apply(const PlanVm *vm, const PlanDisk *disk, const char *path, const char *target)
{
    KvssLink link = {
        .path = (char *) path,
        .target = (char *) target,
        .uuid = vm->component->name,
        .disk = disk->disk->target,
    };
    g_autoptr(GError) problem = NULL;

    if (kvss_link_apply(&link, &problem))
        return true;
    g_ptr_array_add(vm->result->notes,
                    g_strdup_printf("disk %s has no link in the default location: %s",
                                    disk->disk->target, problem->message));
    return false;
}

static void
result_forget_link(const PlanVm *vm, const char *target)
{
    for (guint i = 0; i < vm->result->disks->len; i++) {
        KvssRestoredDisk *result = g_ptr_array_index(vm->result->disks, i);

        if (g_str_equal(result->target, target))
            kvss_set_string(&result->link, NULL);
    }
}

static void
disk_make(KvssRun *run, const PlanVm *vm, PlanDisk *disk)
{
    for (guint i = 0; disk->stale_links && i < disk->stale_links->len; i++)
        (void) apply(vm, disk, g_ptr_array_index(disk->stale_links, i), "");
    if (disk->link && !apply(vm, disk, disk->link, disk->disk->path))
        result_forget_link(vm, disk->disk->target);
    for (guint i = 0; disk->link_acts && i < disk->link_acts->len; i++)
        kvss_run_act_end(run, g_array_index(disk->link_acts, KvssActId, i));
}

void
default_links_make(Plan *plan, KvssRun *run)
{
    for_each_disk(plan, run, disk_make);
}
