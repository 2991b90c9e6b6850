/*
 * restore.c - VMs of a backup put back, in the order of VSS
 *
 * The order of the end matters: while the coordinator lives, its writers may
 * still undo the run; past the point of no return the same call completes it.
 */
#include "restore/restore.h"
#include "base/test-point.h"
#include "restore/default-link.h"
#include "restore/files.h"
#include "restore/host.h"
#include "restore/plan.h"
#include "writer/domain/vm-writer.h"
#include "writer/writer.h"

#include <string.h>

G_DEFINE_QUARK(kvss-restore-error-quark, kvss_restore_error)

/* A managed save writes out a VM's memory, its loading reads it: hours for the largest. */
#define STEP_LIMIT_MS (6u * 60 * 60 * 1000)

/* ---- results ---- */

static void
restored_disk_free(gpointer data)
{
    KvssRestoredDisk *disk = data;

    g_free(disk->target);
    g_free(disk->format);
    g_free(disk->path);
    g_free(disk->link);
    g_free(disk);
}

static void
restored_network_free(gpointer data)
{
    KvssRestoredNetwork *network = data;

    g_free(network->type);
    g_free(network->source);
    g_free(network->was);
    g_free(network->mac);
    g_free(network);
}

KvssRestoredVm *
kvss_restored_vm_new(const char *name, const char *uuid)
{
    KvssRestoredVm *vm = g_new0(KvssRestoredVm, 1);

    vm->name = g_strdup(name);
    vm->uuid = g_strdup(uuid);
    vm->state = g_strdup("");
    vm->disks = g_ptr_array_new_with_free_func(restored_disk_free);
    vm->networks = g_ptr_array_new_with_free_func(restored_network_free);
    vm->notes = g_ptr_array_new_with_free_func(g_free);
    return vm;
}

void
kvss_restored_vm_free(KvssRestoredVm *vm)
{
    if (!vm)
        return;
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->copy_of);
    g_free(vm->state);
    g_ptr_array_unref(vm->disks);
    g_ptr_array_unref(vm->networks);
    g_ptr_array_unref(vm->notes);
    g_free(vm);
}

KvssRestoredComponent *
kvss_restored_component_new(const KvssManifestVm *stored)
{
    KvssRestoredComponent *component = g_new0(KvssRestoredComponent, 1);

    component->name = g_strdup(stored->component->display_name);
    component->writer = g_strdup(stored->writer);
    component->writer_name = g_strdup(stored->writer_name);
    component->notes = g_ptr_array_new_with_free_func(g_free);
    return component;
}

void
kvss_restored_component_free(KvssRestoredComponent *component)
{
    if (!component)
        return;
    g_free(component->name);
    g_free(component->writer);
    g_free(component->writer_name);
    g_ptr_array_unref(component->notes);
    g_free(component);
}

void
kvss_restore_result_clear(KvssRestoreResult *result)
{
    g_clear_pointer(&result->components, g_ptr_array_unref);
    g_clear_pointer(&result->vms, g_ptr_array_unref);
    g_clear_pointer(&result->steps, g_ptr_array_unref);
    g_clear_pointer(&result->warning, g_free);
}

static void
result_fill(KvssRestoreResult *result, Plan *plan)
{
    result->vms = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_restored_vm_free);
    for (guint i = 0; i < plan->vms->len; i++) {
        PlanVm *vm = g_ptr_array_index(plan->vms, i);
        const GPtrArray *notes = plan->options->dry_run ? vm->remarks : vm->component->notes;

        for (guint k = 0; k < notes->len; k++)
            g_ptr_array_add(vm->result->notes, g_strdup(g_ptr_array_index(notes, k)));
        g_ptr_array_add(result->vms, g_steal_pointer(&vm->result));
    }
    result->components
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_restored_component_free);
    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        g_ptr_array_add(result->components, g_steal_pointer(&host->result));
    }
    result->steps = g_steal_pointer(&plan->steps);
    result->is_partial |= plan->is_partial; /* a VM that did not start has set it */
}

static void
tell_step(const KvssRestoreOptions *options, const char *step)
{
    KvssRestoreProgressInfo info = { .step = step };

    if (options->progress)
        options->progress(&info, options->progress_data);
}

/* ---- the coordinator ---- */

/* Identify must find nothing: a restore asks no guest anything. */
static KvssCoordinator *
coordinator_for(const KvssRestoreOptions *options)
{
    static const char *const nobody[] = { NULL };
    KvssCoordinator *coordinator = kvss_coordinator_new();
    KvssWriter *writer = kvss_vm_writer_new(options->host, NULL);

    kvss_vm_writer_limit_to(writer, nobody);
    kvss_coordinator_take_writer(coordinator, writer);
    return coordinator;
}

static KvssWriter *
vm_writer_of(KvssCoordinator *coordinator)
{
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    for (guint i = 0; i < writers->len; i++) {
        KvssWriter *writer = g_ptr_array_index(writers, i);

        if (g_ascii_strcasecmp(writer->ops->class_id, KVSS_VM_WRITER_CLASS_ID) == 0)
            return writer;
    }
    return NULL;
}

static bool
coordinator_fill(KvssCoordinator *coordinator, Plan *plan, KvssRun *run, GError **error)
{
    KvssSnapshotSet *set = kvss_coordinator_set(coordinator);
    KvssLimits limits = kvss_limits_default();
    KvssWriter *writer;

    limits.step_ms[KVSS_STEP_PRE_RESTORE] = STEP_LIMIT_MS;
    limits.step_ms[KVSS_STEP_POST_RESTORE] = STEP_LIMIT_MS;
    kvss_coordinator_set_limits(coordinator, &limits);
    set->cancellable = plan->options->cancellable;
    set->run = run;
    if (!kvss_coordinator_gather(coordinator, error))
        return false;
    writer = vm_writer_of(coordinator);
    if (!writer)
        return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND,
                          "there is no VM writer");
    for (guint i = 0; i < plan->vms->len; i++) {
        PlanVm *vm = g_ptr_array_index(plan->vms, i);

        kvss_coordinator_take_component(coordinator, writer, vm->component);
        vm->component_is_taken = true;
    }
    return true;
}

/* ---- the run ---- */

/*
 * The status of one that failed is every one's: together or not at all. The abort
 * that follows sends PostRestore, by which writers learn it and put back what they
 * had set aside.
 */
static void
mark_all_failed(Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        KvssComponent *component = ((PlanVm *) g_ptr_array_index(plan->vms, i))->component;

        component->restore_status = component->restore_status == KVSS_RS_UNDEFINED
                                        ? KVSS_RS_NONE : KVSS_RS_FAILED;
    }
}

/* The VMs' half of PreRestore; nothing for a restore without VMs. */
static bool
vms_pre_restore(Plan *plan, KvssCoordinator *coordinator, KvssRun *run, GError **error)
{
    return plan->vms->len == 0
        || (coordinator_fill(coordinator, plan, run, error)
            && kvss_coordinator_pre_restore(coordinator, error));
}

static bool
vms_post_restore(Plan *plan, KvssCoordinator *coordinator, GError **error)
{
    return plan->vms->len == 0 || kvss_coordinator_post_restore(coordinator, error);
}

static bool
run_sequence(Plan *plan, KvssCoordinator *coordinator, KvssRun *run, GError **error)
{
    tell_step(plan->options, "PreRestore");
    if (!vms_pre_restore(plan, coordinator, run, error)
        || !host_pre_restore(plan, run, error)
        || !files_write(plan, run, error)
        || !host_write(plan, run, error))
        return false;
    tell_step(plan->options, "PostRestore");
    kvss_test_point("restore-define");
    return kvss_check_cancelled(plan->options->cancellable, error)
        && vms_post_restore(plan, coordinator, error)
        && host_post_restore(plan, error);
}

static void
result_add_warning(KvssRestoreResult *result, const char *text)
{
    char *before = result->warning;

    result->warning = before ? g_strdup_printf("%s; %s", before, text) : g_strdup(text);
    g_free(before);
}

static void
result_warn(KvssRestoreResult *result, const char *what, const GError *problem)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, problem->message);

    result_add_warning(result, text);
}

/* Everything stands: from here on there is only forward. */
static bool
run_complete(Plan *plan, KvssRun *run, KvssRestoreResult *result, GError **error)
{
    g_autoptr(GError) problem = NULL;

    tell_step(plan->options, "Complete");
    files_remove_saved_states(plan);
    default_links_begin(plan, run);
    if (!kvss_run_point_of_no_return(run, error))
        return false;
    default_links_make(plan, run);
    if (!kvss_run_finish(run, &problem))
        result_warn(result, "what was set aside could not all be removed ('kvss doctor' tries "
                            "again)", problem);
    return true;
}

/* What a block device had is gone, and a writer may keep what it was given. */
static bool
is_as_before(const Plan *plan)
{
    for (guint i = 0; i < plan->hosts->len; i++)
        if (((PlanHost *) g_ptr_array_index(plan->hosts, i))->stays)
            return false;
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++)
            if (((PlanDisk *) g_ptr_array_index(vm->disks, k))->is_block)
                return false;
    }
    return true;
}

static void
add_words(GError **error, const char *words)
{
    char *before;

    if (!error || !*error)
        return;
    before = (*error)->message;
    (*error)->message = g_strconcat(before, words, NULL);
    g_free(before);
}

/* Whatever is still open is undone; what cannot be is named, and doctor's. */
static void
run_take_back(Plan *plan, KvssRun *run, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (kvss_run_finish(run, &problem)) {
        if (is_as_before(plan))
            add_words(error, "; everything is as it was before");
        return;
    }
    g_prefix_error(error, "(not everything could be taken back: %s; run 'kvss doctor') ",
                   problem->message);
}

static bool
run_with_journal(Plan *plan, KvssCoordinator *coordinator, KvssRun *run,
                 KvssRestoreResult *result, GError **error)
{
    bool ok = run_sequence(plan, coordinator, run, error)
        && run_complete(plan, run, result, error);

    if (!ok) {
        host_take_back(plan, run, error);
        mark_all_failed(plan);
        kvss_coordinator_abort(coordinator);
        run_take_back(plan, run, error);
    }
    /* The journal is gone: the writers' last event must not look for it. */
    kvss_coordinator_set(coordinator)->run = NULL;
    if (plan->options->host_coordinator)
        kvss_coordinator_set(plan->options->host_coordinator)->run = NULL;
    return ok;
}

/* ---- afterwards ---- */

static void
vm_start(KvssDomain *domain, KvssRestoreResult *result)
{
    g_autoptr(GError) problem = NULL;

    if (kvss_domain_start(domain, false, &problem))
        return;
    result->is_partial = true;
    result_warn(result, "restored, but not started", problem);
}

static void
vms_look(Plan *plan, KvssRestoreResult *result)
{
    const KvssRestoreOptions *options = plan->options;

    if (options->start)
        tell_step(options, "Start");
    for (guint i = 0; i < plan->vms->len; i++) {
        PlanVm *vm = g_ptr_array_index(plan->vms, i);
        g_autoptr(KvssDomain) domain
            = kvss_host_find_domain(options->host, vm->component->name, NULL);
        KvssDomainState state;

        if (!domain && vm->is_beside)
            g_clear_pointer(&vm->result->state, g_free);
        if (!domain)
            continue;
        if (options->start && !vm->is_beside)
            vm_start(domain, result);
        if (!kvss_domain_get_state(domain, &state, NULL, NULL))
            continue;
        g_free(vm->result->state);
        vm->result->state = g_strdup(kvss_domain_state_name(state));
    }
}

static void
result_tell_kept(const Plan *plan, KvssRestoreResult *result)
{
    g_autofree char *text = host_tell_kept(plan);

    if (text)
        result_add_warning(result, text);
}

bool
kvss_restore_run(const KvssRestoreOptions *options, KvssRestoreResult *out_result, GError **error)
{
    gint64 start_us = g_get_monotonic_time();
    g_autoptr(Plan) plan = NULL;
    g_autoptr(KvssRun) run = NULL;
    KvssCoordinator *coordinator;
    KvssRestoreResult result = { 0 };
    bool ok;

    tell_step(options, "Plan");
    plan = plan_new(options, error);
    if (!plan)
        return false;
    if (options->dry_run) {
        result_fill(&result, plan);
        *out_result = result;
        return true;
    }
    run = kvss_run_begin(options->state_dir, options->scratch_dir, options->host, plan->id,
                         "restore", error);
    if (!run)
        return false;
    coordinator = options->coordinator ? options->coordinator : coordinator_for(options);
    ok = kvss_run_start_guardian(run, error);
    if (ok)
        ok = run_with_journal(plan, coordinator, run, &result, error);
    else
        (void) kvss_run_finish(run, NULL);
    if (ok) {
        vms_look(plan, &result);
        result_tell_kept(plan, &result);
        result_fill(&result, plan);
        result.seconds = (double) (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC;
        *out_result = result;
    } else {
        kvss_restore_result_clear(&result);
    }
    if (!options->coordinator)
        kvss_coordinator_free(coordinator);
    return ok;
}
