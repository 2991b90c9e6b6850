/*
 * plan-some-disks.c - only some disks of a VM: over its own, which stays registered, or beside it
 *
 *   --disk vdb             the VM is here and off: to where its vdb is now, in the format that it has now
 *   --disk vdb --to DIR    a file in DIR; the VM may run, or not be here at all
 */
#include "restore/plan-vm.h"
#include "host/image.h"
#include "writer/domain/restore-steps.h"

/* ---- the VM ---- */

static bool
check_off(const PlanVm *vm, GError **error)
{
    if (!vm->old)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                          "it is not on this host: restore all of it, or write the disk into a "
                          "file with --to DIR");
    if (vm->old_state == KVSS_DOMAIN_SAVED)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "it is saved, and its memory belongs to its disks as they are: start it "
                          "and shut it down, or write the disk beside it with --to DIR");
    if (vm->old_state != KVSS_DOMAIN_OFF)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "it is %s: shut it down before a disk of it is replaced, or write the "
                          "disk beside it with --to DIR", kvss_domain_state_name(vm->old_state));
    return true;
}

/* ---- its disks ---- */

static bool
throw_unknown(const PlanVm *vm, const char *target, GError **error)
{
    const GPtrArray *disks = vm->vm->component->disks;
    g_autoptr(GString) there = g_string_new(NULL);

    for (guint i = 0; i < disks->len; i++)
        g_string_append_printf(there, "%s%s", i > 0 ? ", " : "",
                               ((KvssDisk *) g_ptr_array_index(disks, i))->target);
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                      "the backup holds no disk %.100s of it; it holds %s", target,
                      there->len ? there->str : "none");
}

static bool
plan_chosen(Plan *plan, PlanVm *vm, const char *target, GError **error)
{
    const KvssDisk *stored = kvss_component_find_disk(vm->vm->component, target);

    if (!stored)
        return throw_unknown(vm, target, error);
    /* Named twice. */
    return kvss_component_find_disk(vm->component, target) || plan_disk(plan, vm, stored, error);
}

bool
plan_some_disks(Plan *plan, PlanVm *vm, GError **error)
{
    if (!plan->options->to_dir && !check_off(vm, error))
        return false;
    for (const char *const *target = plan->options->disks; *target; target++)
        if (!plan_chosen(plan, vm, *target, error))
            return false;
    return plan_wishes(plan, vm, error);
}

/* ---- where they go ---- */

/* What this host's own definition says of the disk; false where nothing can be put in its place. */
static bool
check_present(const KvssDiskConfig *present, const char *target, GError **error)
{
    const char *why = NULL;

    if (!present)
        why = "the VM that is here has no such disk";
    else if (!g_str_equal(present->type, "file") && !g_str_equal(present->type, "block"))
        why = "in the VM that is here it is neither a file nor a block device";
    else if (!present->source || !g_path_is_absolute(present->source))
        why = "in the VM that is here it has no medium";
    else if (!g_str_equal(present->device, "disk") || present->is_readonly)
        why = "in the VM that is here it cannot be written";
    else if (present->is_shareable)
        why = "in the VM that is here it is shared with others";
    else if (!kvss_image_can_create(present->format))
        why = "the VM that is here has it in a format that cannot be written";
    return !why
        || kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "disk %s: %s: write it into a file with --to DIR", target, why);
}

bool
plan_disk_as_present(PlanVm *vm, PlanDisk *disk, GError **error)
{
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(vm->old, error);
    const KvssDiskConfig *present = config
        ? kvss_domain_config_find_disk(config, disk->disk->target) : NULL;
    g_autofree char *real = NULL;
    bool is_block;

    if (!config || !check_present(present, disk->disk->target, error))
        return false;
    /* Made for another format, the options mean nothing. */
    if (!g_str_equal(present->format, disk->disk->format)) {
        kvss_set_string(&disk->disk->format, present->format);
        kvss_set_string(&disk->disk->options, NULL);
    }
    /* Behind a link: the link stays, and with it what the definition says. */
    is_block = g_str_equal(present->type, "block");
    real = is_block ? g_strdup(present->source) : kvss_vm_real_path(present->source);
    kvss_set_string(&disk->disk->path, real);
    kvss_set_string(&disk->disk->kind, present->type);
    return true;
}
