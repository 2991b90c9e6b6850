/*
 * plan-steps.c - the plan in plain words
 */
#include "guardian/links.h"
#include "restore/compare.h"
#include "restore/default-link.h"
#include "restore/plan.h"
#include "writer/domain/restore-steps.h"

#include <sys/stat.h>

static void G_GNUC_PRINTF(2, 3)
step(Plan *plan, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(plan->steps, g_strdup_vprintf(format, args));
    va_end(args);
}

static bool
wishes(const PlanVm *vm, const char *name)
{
    return kvss_vm_restore_option(vm->component, name);
}

static bool
is_target(const PlanVm *vm, const char *real)
{
    for (guint i = 0; i < vm->disks->len; i++)
        if (g_str_equal(((PlanDisk *) g_ptr_array_index(vm->disks, i))->real, real))
            return true;
    return false;
}

static void
describe_old_nvram(Plan *plan, const PlanVm *vm, const KvssDomainConfig *config)
{
    g_autofree char *nvram
        = config ? kvss_vm_old_nvram(plan->options->host, vm->component, config) : NULL;
    g_autofree char *real = nvram ? kvss_vm_real_path(nvram) : NULL;
    g_autofree char *aside = real ? kvss_vm_aside_path(real, plan->id) : NULL;
    struct stat st;

    if (real && lstat(real, &st) == 0 && S_ISREG(st.st_mode))
        step(plan, "%s: its variable store %s is set aside as %s", vm->component->display_name,
             real, aside);
}

/* Images in whose place nothing is restored (with another folder): nobody expects them to go. */
static void
describe_old_disks(Plan *plan, const PlanVm *vm)
{
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(vm->old, NULL);

    describe_old_nvram(plan, vm, config);
    for (guint i = 0; config && i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        g_autofree char *real = NULL, *aside = NULL;
        struct stat st;

        if (!kvss_vm_disk_goes_aside(vm->component, disk))
            continue;
        real = kvss_vm_real_path(disk->source);
        aside = kvss_vm_aside_path(real, plan->id);
        if (!is_target(vm, real) && lstat(real, &st) == 0 && S_ISREG(st.st_mode))
            step(plan, "%s: its disk %s, %s, is set aside as %s", vm->component->display_name,
                 disk->target, real, aside);
    }
}

static void
describe_copy(Plan *plan, const PlanVm *vm)
{
    if (vm->copy_of)
        step(plan, "%s: a copy of %s with UUID %s and MAC addresses of its own; %s itself is not "
                   "touched", vm->component->display_name, vm->copy_of, vm->component->name,
             vm->copy_of);
}

static void
describe_old(Plan *plan, const PlanVm *vm)
{
    const char *name = vm->component->display_name;

    if (!vm->old || plan->options->disks)
        return;
    if (wishes(vm, "stop"))
        step(plan, "%s: it is %s and its memory cannot be saved: it is shut off", name,
             kvss_domain_state_name(vm->old_state));
    else if (vm->old_state == KVSS_DOMAIN_RUNNING || vm->old_state == KVSS_DOMAIN_PAUSED)
        step(plan, "%s: it is %s: its memory is saved", name,
             kvss_domain_state_name(vm->old_state));
    plan->sets_aside = true;
    step(plan, "%s: the VM that is here now, %s, is set aside and taken out of libvirt", name,
         kvss_domain_name(vm->old));
    describe_old_disks(plan, vm);
}

static void
describe_in_place(Plan *plan, const PlanVm *vm, const PlanDisk *disk)
{
    const char *name = vm->component->display_name, *target = disk->disk->target;
    const InPlace *in_place = disk->in_place;

    step(plan, "%s: disk %s: %s%s is written over where it is, only where it differs", name,
         target, disk->is_block ? "block device " : "", disk->disk->path);
    if (in_place->log)
        step(plan, "%s: disk %s: what it held there goes to the roll-back log %s", name, target,
             in_place->log);
    else
        step(plan, "%s: disk %s: there is no way back for what it held", name, target);
    if (in_place->difference)
        step(plan, "%s: disk %s: %" G_GUINT64_FORMAT " of its bytes differ", name, target,
             in_place->difference->differ_bytes);
}

static void
describe_disk(Plan *plan, const PlanVm *vm, const PlanDisk *disk)
{
    const char *name = vm->component->display_name;
    g_autofree char *aside = kvss_vm_aside_path(disk->real, plan->id);
    struct stat st;

    if (disk->whole_because)
        step(plan, "%s: disk %s: restored whole: %s", name, disk->disk->target,
             disk->whole_because);
    if (disk->in_place)
        describe_in_place(plan, vm, disk);
    else if (disk->is_block)
        step(plan, "%s: disk %s: block device %s is written over, without a way back for what it "
                   "holds", name, disk->disk->target, disk->disk->path);
    else if (lstat(disk->real, &st) == 0 && !kvss_link_is_ours(disk->real)) {
        plan->sets_aside = true;
        step(plan, "%s: %s is set aside as %s", name, disk->real, aside);
    }
    step(plan,
         "%s: disk %s: %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
         " of them data, as %s to %s",
         name, disk->disk->target, disk->disk->size, disk->data_bytes, disk->disk->format,
         disk->disk->path);
}

static void
describe_links(Plan *plan, const PlanVm *vm, const PlanDisk *disk)
{
    const char *name = vm->component->display_name;

    for (guint i = 0; disk->stale_links && i < disk->stale_links->len; i++)
        step(plan, "%s: link %s to where disk %s was is removed", name,
             (char *) g_ptr_array_index(disk->stale_links, i), disk->disk->target);
    if (disk->link && default_link_is_obstructed(vm, disk))
        step(plan, "%s: disk %s gets no link in the default location: %s is there already, and is "
                   "no link of kvss", name, disk->disk->target, disk->link);
    else if (disk->link)
        step(plan, "%s: link %s to %s", name, disk->link, disk->disk->path);
}

static void
describe_networks(Plan *plan, const PlanVm *vm)
{
    for (guint i = 0; i < vm->result->networks->len; i++) {
        const KvssRestoredNetwork *network = g_ptr_array_index(vm->result->networks, i);

        step(plan, "%s: interface %s: %s%s%s%s%s, %s", vm->component->display_name,
             network->mac ? network->mac : "without MAC", network->type,
             network->source ? " " : "", network->source ? network->source : "",
             network->was ? " instead of " : "", network->was ? network->was : "",
             network->is_connected ? "connected" : "not on this host: link down");
    }
}

static void
describe_remarks(Plan *plan, const PlanVm *vm)
{
    for (guint i = 0; i < vm->remarks->len; i++)
        step(plan, "%s: %s", vm->component->display_name,
             (char *) g_ptr_array_index(vm->remarks, i));
}

/* The state that a real run would tell. */
static void
foretell_state(const Plan *plan, const PlanVm *vm, bool has_state)
{
    bool is_paused = has_state && g_strcmp0(vm->component->state, "paused") == 0;
    KvssDomainState state = plan->options->start
        ? (is_paused ? KVSS_DOMAIN_PAUSED : KVSS_DOMAIN_RUNNING)
        : (has_state ? KVSS_DOMAIN_SAVED : KVSS_DOMAIN_OFF);

    kvss_set_string(&vm->result->state, kvss_domain_state_name(state));
}

static bool
has_block_device(const PlanVm *vm)
{
    for (guint i = 0; i < vm->disks->len; i++)
        if (((PlanDisk *) g_ptr_array_index(vm->disks, i))->is_block)
            return true;
    return false;
}

static void
describe_end(Plan *plan, const PlanVm *vm)
{
    const char *name = vm->component->display_name;
    bool has_state = kvss_component_find_file(vm->component, "state.save") != NULL;

    if (plan->options->disks) {
        step(plan, "%s: %s", name, vm->is_beside ? "the VM is not touched" : "stays registered as it is");
        if (!vm->is_beside && has_block_device(vm))
            step(plan, "%s: do not start it meanwhile: a block device cannot be kept from it", name);
        if (plan->options->start)
            step(plan, "%s: started", name);
        return;
    }
    step(plan, "%s: registered, %s", name,
         has_state ? "saved: it starts where it was" : "shut off");
    if (plan->options->start)
        step(plan, "%s: %s", name, has_state ? "resumed from its saved state" : "started");
    foretell_state(plan, vm, has_state);
}

void
plan_describe(Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        describe_copy(plan, g_ptr_array_index(plan->vms, i));
        describe_old(plan, g_ptr_array_index(plan->vms, i));
    }
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++) {
            describe_disk(plan, vm, g_ptr_array_index(vm->disks, k));
            describe_links(plan, vm, g_ptr_array_index(vm->disks, k));
        }
        for (guint k = 0; k < vm->files->len; k++) {
            const PlanFile *file = g_ptr_array_index(vm->files, k);

            step(plan, "%s: %s to %s", vm->component->display_name, file->file->name,
                 file->file->path);
        }
        describe_networks(plan, vm);
        describe_remarks(plan, vm);
    }
    for (guint i = 0; i < plan->vms->len; i++)
        describe_end(plan, g_ptr_array_index(plan->vms, i));
    if (plan->sets_aside)
        step(plan, plan->options->keep_old ? "what was set aside stays"
                                           : "what was set aside of the old is removed");
}
