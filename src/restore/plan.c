/*
 * plan.c - what a restore will do: which components, and whether together they may
 */
#include "restore/plan.h"
#include "catalogue/documents.h"
#include "restore/host.h"
#include "restore/in-place.h"
#include "restore/plan-vm.h"

/* ---- life ---- */

void
plan_free(Plan *plan)
{
    if (!plan)
        return;
    g_clear_pointer(&plan->networks, g_ptr_array_unref);
    g_clear_pointer(&plan->vms, g_ptr_array_unref);
    g_clear_pointer(&plan->hosts, g_ptr_array_unref);
    g_clear_pointer(&plan->host_acts, g_array_unref);
    g_clear_pointer(&plan->host_folders, g_hash_table_unref);
    g_clear_pointer(&plan->ours, g_hash_table_unref);
    g_clear_pointer(&plan->steps, g_ptr_array_unref);
    g_free(plan->id);
    g_free(plan);
}

/* ---- which ---- */

static bool
plan_has(const Plan *plan, const KvssManifestVm *stored)
{
    for (guint i = 0; i < plan->hosts->len; i++) {
        if (((PlanHost *) g_ptr_array_index(plan->hosts, i))->stored == stored)
            return true;
    }
    for (guint i = 0; i < plan->vms->len; i++) {
        if (((PlanVm *) g_ptr_array_index(plan->vms, i))->vm == stored)
            return true;
    }
    return false;
}

static bool
plan_one(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    bool is_vm = g_ptr_array_find(plan->options->backup->manifest->vms, stored, NULL);

    return is_vm ? plan_vm(plan, stored, error) : host_plan(plan, stored, error);
}

static bool
plan_named(Plan *plan, GError **error)
{
    const KvssManifest *manifest = plan->options->backup->manifest;

    for (const char *const *name = plan->options->vms; *name; name++) {
        KvssManifestVm *stored = kvss_manifest_find(manifest, *name, error);

        if (!stored || (!plan_has(plan, stored) && !plan_one(plan, stored, error)))
            return false;
    }
    return true;
}

static bool
plan_all(Plan *plan, GError **error)
{
    const KvssManifest *manifest = plan->options->backup->manifest;
    GPtrArray *lists[] = { manifest->vms, manifest->components };

    for (guint l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (guint i = 0; i < lists[l]->len; i++) {
            if (!plan_one(plan, g_ptr_array_index(lists[l], i), error))
                return false;
        }
    }
    return true;
}

/* Two VMs cannot both be that one. */
static bool
plan_check_copy(const Plan *plan, GError **error)
{
    if (!plan->options->as_name || (plan->vms->len == 1 && plan->hosts->len == 0))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                      "another name is for one VM: say which (the choice holds %u VMs and %u other "
                      "components)", plan->vms->len, plan->hosts->len);
}

static bool
plan_check_some_disks(const Plan *plan, GError **error)
{
    if (!plan->options->disks || (plan->vms->len == 1 && plan->hosts->len == 0))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                      "single disks are of one VM: say which (the choice holds %u VMs and %u other "
                      "components)", plan->vms->len, plan->hosts->len);
}

Plan *
plan_new(const KvssRestoreOptions *options, GError **error)
{
    g_autoptr(Plan) plan = g_new0(Plan, 1);

    plan->options = options;
    plan->id = g_uuid_string_random();
    plan->vms = g_ptr_array_new_with_free_func(plan_vm_free);
    plan->hosts = g_ptr_array_new_with_free_func(host_free);
    plan->host_acts = g_array_new(FALSE, FALSE, sizeof(PlanHostAct));
    plan->host_folders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    plan->ours = host_ours(options);
    plan->steps = g_ptr_array_new_with_free_func(g_free);
    if (!kvss_host_is_local(options->host)) {
        kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                   "a restore runs on the host itself: run it on %s",
                   kvss_host_name(options->host));
        return NULL;
    }
    if (options->to_dir && !plan_check_path(options->to_dir, options->to_dir, error))
        return NULL;
    if ((options->as_name && !plan_check_name(options->as_name, error))
        || !plan_networks(plan, error))
        return NULL;
    if (!(options->vms && *options->vms ? plan_named(plan, error) : plan_all(plan, error)))
        return NULL;
    if (!kvss_backup_check_succeeded(options->repository, options->backup, options->vms, error))
        return NULL;
    if (options->vms && *options->vms
        && !kvss_backup_check_selectable(options->repository, options->backup, options->vms, error))
        return NULL;
    if (plan->vms->len == 0 && plan->hosts->len == 0) {
        kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                   "the backup holds no VM");
        return NULL;
    }
    if (!plan_check_some_disks(plan, error) || !plan_check_copy(plan, error) || !plan_networks_check(plan, error))
        return NULL;
    if (!plan_check_conflicts(plan, error) || !plan_check_room(plan, error))
        return NULL;
    if (options->dry_run && options->in_place && !in_place_compare(plan, NULL, error))
        return NULL;
    if (!host_describe(plan, error))
        return NULL;
    plan_describe(plan);
    return g_steal_pointer(&plan);
}
