/*
 * vm-writer.c - the writer whose components are virtual machines
 *
 * All the work is in PrepareForSnapshot and PostSnapshot:
 *
 *   PrepareForSnapshot   guests with an agent: freeze, cut, thaw, side by side
 *                        then those that must stand still: stop, save memory
 *                        (barrier: every VM is cut or saved, or all is undone)
 *   CommitSnapshots      the provider cuts the disks of those that stand still
 *   PostSnapshot         they go on
 */
#include "writer/domain/vm-writer.h"
#include "base/test-point.h"
#include "writer/domain/restore-steps.h"
#include "writer/domain/scratch-watch.h"
#include "writer/domain/vm.h"

#include <string.h>

/* Guests asked at the same time: more only queue up inside libvirt. */
#define LOOK_PARALLEL 4
#define WORK_PARALLEL 8

typedef struct {
    KvssWriter writer;
    KvssHost *host; /* borrowed */
    KvssVmPolicy policy;
    char **names;   /* (nullable) look at these only */
    GPtrArray *vms; /* KvssVm, as writer.components */
    KvssScratchWatch *watch;
} VmWriter;

/* ---- VMs side by side ---- */

typedef bool (*VmStep)(KvssVm *vm, GError **error);

typedef struct {
    VmStep step;
    GCancellable *cancellable;
    bool stop_at_failure;
    GMutex lock;
    GError *error; /* the first one */
} Parallel;

static KvssHresult
hresult_of(const GError *error)
{
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT)
        || g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT)
        || g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT))
        return KVSS_E_WRITERERROR_TIMEOUT;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE))
        return KVSS_E_WRITERERROR_OUTOFRESOURCES;
    if (g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY)
        || g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        return KVSS_E_WRITERERROR_RETRYABLE;
    return KVSS_E_WRITERERROR_NONRETRYABLE;
}

static void
parallel_one(gpointer data, gpointer user_data)
{
    KvssVm *vm = data;
    Parallel *parallel = user_data;
    g_autoptr(GError) error = NULL;
    bool skip;

    g_mutex_lock(&parallel->lock);
    skip = parallel->stop_at_failure && parallel->error;
    g_mutex_unlock(&parallel->lock);
    if (skip)
        return;
    if (kvss_check_cancelled(parallel->cancellable, &error) && parallel->step(vm, &error))
        return;
    kvss_component_fail(vm->component, hresult_of(error), "%s", error->message);
    g_prefix_error(&error, "%s: ", vm->component->display_name);
    g_mutex_lock(&parallel->lock);
    if (!parallel->error)
        parallel->error = g_steal_pointer(&error);
    g_mutex_unlock(&parallel->lock);
}

static bool
for_each(GPtrArray *vms, VmStep step, int at_once, bool stop_at_failure,
         GCancellable *cancellable, GError **error)
{
    Parallel parallel = { step, cancellable, stop_at_failure, .error = NULL };
    GThreadPool *pool;

    g_mutex_init(&parallel.lock);
    pool = g_thread_pool_new(parallel_one, &parallel, at_once, FALSE, NULL);
    for (guint i = 0; i < vms->len; i++)
        (void) g_thread_pool_push(pool, g_ptr_array_index(vms, i), NULL);
    g_thread_pool_free(pool, FALSE, TRUE);
    g_mutex_clear(&parallel.lock);
    if (!parallel.error)
        return true;
    g_propagate_error(error, parallel.error);
    return false;
}

/* @method NONE: of any method. */
static GPtrArray *
selected_with(VmWriter *self, KvssMethod method)
{
    GPtrArray *vms = g_ptr_array_new();

    for (guint i = 0; i < self->vms->len; i++) {
        KvssVm *vm = g_ptr_array_index(self->vms, i);

        if (vm->component->is_selected && (method == KVSS_METHOD_NONE || vm->method == method))
            g_ptr_array_add(vms, vm);
    }
    return vms;
}

/* ---- Identify ---- */

static bool
is_named(VmWriter *self, KvssDomain *domain)
{
    return !self->names
        || g_strv_contains((const char *const *) self->names, kvss_domain_name(domain))
        || g_strv_contains((const char *const *) self->names, kvss_domain_uuid(domain));
}

static void
add_vm(VmWriter *self, KvssDomain *domain)
{
    KvssComponent *component
        = kvss_component_new(kvss_domain_uuid(domain), kvss_domain_name(domain));

    g_ptr_array_add(self->writer.components, component);
    g_ptr_array_add(self->vms, kvss_vm_new(domain, &self->policy, component));
}

/* A VM that cannot be looked at is shown with the reason; only choosing it is a failure. */
static bool
look(KvssVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!kvss_vm_examine(vm, &local)) {
        vm->method = KVSS_METHOD_NONE;
        kvss_set_string(&vm->component->method, "");
        kvss_component_add_reason(vm->component, "state", "%s", local->message);
    }
    return true;
}

static bool
vm_writer_identify(KvssWriter *writer, GCancellable *cancellable, GError **error)
{
    VmWriter *self = (VmWriter *) writer;
    g_autoptr(GPtrArray) domains = kvss_host_list_domains(self->host, error);

    if (!domains)
        return false;
    g_ptr_array_set_free_func(domains, NULL);
    for (guint i = 0; i < domains->len; i++) {
        KvssDomain *domain = g_ptr_array_index(domains, i);

        if (is_named(self, domain))
            add_vm(self, domain);
        else
            kvss_domain_free(domain);
    }
    return for_each(self->vms, look, LOOK_PARALLEL, false, cancellable, error);
}

/* ---- PrepareForBackup ---- */

/* The conditions are looked at again: the plan may be older than the agent's death. */
static bool
look_again(KvssVm *vm, GError **error)
{
    g_autoptr(GString) why = NULL;

    if (!kvss_domain_connect_alone(vm->domain, error) || !kvss_vm_examine(vm, error))
        return false;
    if (vm->method != KVSS_METHOD_NONE)
        return true;
    why = g_string_new(NULL);
    for (guint i = 0; i < vm->component->reasons->len; i++) {
        const KvssReason *reason = g_ptr_array_index(vm->component->reasons, i);

        g_string_append_printf(why, "%s%s: %s", i > 0 ? "; " : "", reason->id, reason->detail);
    }
    if (vm->demand != KVSS_METHOD_NONE)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_POLICY,
                          "%s was demanded and cannot be had (%s)",
                          kvss_method_name(vm->demand), why->str);
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                      "no method can back it up (%s); leave it out with --exclude", why->str);
}

/* Two sets over one VM would cut it twice and end each other's job. */
static bool
claim_all(GPtrArray *vms, KvssSnapshotSet *set, GError **error)
{
    for (guint i = 0; i < vms->len; i++) {
        KvssComponent *component = ((KvssVm *) g_ptr_array_index(vms, i))->component;

        if (!kvss_run_claim_component(set->run, component->name, component, error))
            return false;
    }
    return true;
}

/*
 * The shadow copy of a provider that cuts after the guest's own instant must be
 * brought back to it in PostSnapshot, which needs a copy that can be written to.
 */
static bool
check_auto_recovery(GPtrArray *vms, const KvssSnapshotSet *set, GError **error)
{
    for (guint i = 0; i < vms->len; i++) {
        KvssVm *vm = g_ptr_array_index(vms, i);

        for (guint k = 0; k < vm->component->disks->len; k++) {
            const KvssDisk *disk = g_ptr_array_index(vm->component->disks, k);

            if (!disk->needs_rollback || vm->method != KVSS_METHOD_CHILD_SNAPSHOT
                || !(set->context & KVSS_ATTR_NO_AUTORECOVERY))
                continue;
            kvss_component_fail(vm->component, KVSS_E_WRITERERROR_NONRETRYABLE,
                                "child-snapshot is not possible without auto-recovery: provider "
                                "%s cuts disk %s after the guest's own snapshot, and the context "
                                "forbids to roll the copy back (VSS_VOLSNAP_ATTR_NO_AUTORECOVERY)",
                                disk->provider, disk->target);
            return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_POLICY, "%s: %s",
                              vm->component->display_name, vm->component->failure_message);
        }
    }
    return true;
}

static bool
is_any_alive(GPtrArray *vms)
{
    for (guint i = 0; i < vms->len; i++) {
        if (((KvssVm *) g_ptr_array_index(vms, i))->method != KVSS_METHOD_OFFLINE)
            return true;
    }
    return false;
}

static bool
prepare_all(GPtrArray *vms, KvssSnapshotSet *set, GError **error)
{
    for (guint i = 0; i < vms->len; i++) {
        KvssVm *vm = g_ptr_array_index(vms, i);
        g_autoptr(GError) local = NULL;

        if (kvss_check_cancelled(set->cancellable, &local)
            && kvss_vm_prepare(vm, set->run, i, &local))
            continue;
        kvss_component_fail(vm->component, hresult_of(local), "%s", local->message);
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ",
                                   vm->component->display_name);
        return false;
    }
    return true;
}

static bool
check_room(GPtrArray *vms, KvssSnapshotSet *set, GError **error)
{
    const char *folder = kvss_run_folder(set->run);
    uint64_t needed = 0, available;

    for (guint i = 0; i < vms->len; i++)
        needed += kvss_vm_room_needed(g_ptr_array_index(vms, i));
    if (!kvss_image_room(folder, &available, error))
        return false;
    if (available >= needed)
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                      "the scratch area %s has %" G_GUINT64_FORMAT " MiB free and the set may need "
                      "%" G_GUINT64_FORMAT " MiB: make room, or name another place with "
                      "scratch-dir in the configuration",
                      folder, available >> 20, needed >> 20);
}

static bool
vm_writer_prepare_for_backup(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    VmWriter *self = (VmWriter *) writer;
    g_autoptr(GPtrArray) vms = selected_with(self, KVSS_METHOD_NONE);

    if (!set->run)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE,
                          "the set has no run: nobody could let a guest go on (kvss_run_begin)");
    if (!claim_all(vms, set, error)
        || !for_each(vms, look_again, LOOK_PARALLEL, false, set->cancellable, error)
        || !check_auto_recovery(vms, set, error))
        return false;
    if (is_any_alive(vms) && !kvss_run_start_guardian(set->run, error))
        return false;
    return prepare_all(vms, set, error) && check_room(vms, set, error);
}

/* ---- PrepareForSnapshot ---- */

static bool
freeze_cut_thaw(KvssVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool ok = kvss_vm_freeze(vm, error) && kvss_vm_cut(vm, error);

    /* Thawed also when the cut failed; the first error is the one to tell. */
    if (!kvss_vm_thaw(vm, ok ? error : &local)) {
        if (local)
            g_debug("%s", local->message);
        ok = false;
    }
    return ok;
}

static bool
stop_and_save(KvssVm *vm, GError **error)
{
    return kvss_vm_stand_still(vm, error) && kvss_vm_save_memory(vm, error);
}

static GPtrArray *
those_in_state(GPtrArray *vms, KvssDomainState prior)
{
    GPtrArray *some = g_ptr_array_new();

    for (guint i = 0; i < vms->len; i++) {
        KvssVm *vm = g_ptr_array_index(vms, i);

        if (vm->prior == prior)
            g_ptr_array_add(some, vm);
    }
    return some;
}

/*
 * Its agent died since PrepareForBackup. Nothing was done to the guest yet: where
 * no method was demanded, the default serves it.
 */
static bool
ping_or_fall_back(KvssVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (kvss_vm_ping(vm, &local))
        return true;
    if (vm->demand != KVSS_METHOD_NONE) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!kvss_vm_fall_back(vm))
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "the guest agent fell silent and the VM's state cannot be saved");
    return true;
}

static bool
cut_one_by_one(VmWriter *self, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GPtrArray) children = selected_with(self, KVSS_METHOD_CHILD_SNAPSHOT);
    g_autoptr(GPtrArray) crash = selected_with(self, KVSS_METHOD_CRASH_CONSISTENT);
    g_autoptr(GPtrArray) saved = selected_with(self, KVSS_METHOD_SAVED_STATE);
    g_autoptr(GPtrArray) paused = those_in_state(saved, KVSS_DOMAIN_PAUSED);
    g_autoptr(GPtrArray) running = those_in_state(saved, KVSS_DOMAIN_RUNNING);

    /* A running guest stands still from its step on: it comes last, and waits for nobody slower. */
    return for_each(children, freeze_cut_thaw, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(crash, kvss_vm_cut, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(paused, stop_and_save, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(running, stop_and_save, WORK_PARALLEL, true, set->cancellable, error);
}

/*
 * Every guest is frozen or stopped before the first is cut. The thaws come in any
 * case, also for those whose freeze failed half-way.
 */
static bool
cut_at_same_instant(VmWriter *self, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GPtrArray) children = selected_with(self, KVSS_METHOD_CHILD_SNAPSHOT);
    g_autoptr(GPtrArray) crash = selected_with(self, KVSS_METHOD_CRASH_CONSISTENT);
    g_autoptr(GPtrArray) saved = selected_with(self, KVSS_METHOD_SAVED_STATE);
    g_autoptr(GError) local = NULL;
    bool ok;

    ok = for_each(children, kvss_vm_freeze, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(saved, kvss_vm_stand_still, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(children, kvss_vm_cut, WORK_PARALLEL, true, set->cancellable, error)
        && for_each(crash, kvss_vm_cut, WORK_PARALLEL, true, set->cancellable, error);
    if (!for_each(children, kvss_vm_thaw, WORK_PARALLEL, false, NULL, ok ? error : &local))
        ok = false;
    return ok
        && for_each(saved, kvss_vm_save_memory, WORK_PARALLEL, true, set->cancellable, error);
}

static bool
vm_writer_prepare_for_snapshot(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    VmWriter *self = (VmWriter *) writer;
    g_autoptr(GPtrArray) children = selected_with(self, KVSS_METHOD_CHILD_SNAPSHOT);
    g_autoptr(GPtrArray) all = selected_with(self, KVSS_METHOD_NONE);

    kvss_test_point("looked");
    if (!for_each(children, ping_or_fall_back, WORK_PARALLEL, true, set->cancellable, error))
        return false;
    if (!for_each(all, kvss_vm_begin_tracking, WORK_PARALLEL, true, set->cancellable, error))
        return false;
    self->watch = kvss_scratch_watch_start(set);
    return set->same_instant ? cut_at_same_instant(self, set, error)
                             : cut_one_by_one(self, set, error);
}

/* ---- PostSnapshot and the end ---- */

static bool
vm_writer_post_snapshot(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GPtrArray) saved = selected_with((VmWriter *) writer, KVSS_METHOD_SAVED_STATE);

    /* Every guest is let go on, whatever happens to another one. */
    return for_each(saved, kvss_vm_go_on, WORK_PARALLEL, false, NULL, error);
}

static void
release_all(VmWriter *self)
{
    kvss_scratch_watch_stop(g_steal_pointer(&self->watch));
    for (guint i = 0; i < self->vms->len; i++)
        kvss_vm_release(g_ptr_array_index(self->vms, i));
}

static void
forget_stamps(VmWriter *self)
{
    for (guint i = 0; i < self->vms->len; i++)
        kvss_vm_forget_stamps(g_ptr_array_index(self->vms, i));
}

static bool
vm_writer_backup_complete(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    VmWriter *self = (VmWriter *) writer;

    release_all(self);
    for (guint i = 0; i < self->vms->len; i++)
        kvss_vm_keep_tracking(g_ptr_array_index(self->vms, i));
    forget_stamps(self);
    return true;
}

static bool
vm_writer_pre_restore(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    return kvss_vm_pre_restore(((VmWriter *) writer)->host, set, error);
}

static bool
vm_writer_post_restore(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    return kvss_vm_post_restore(((VmWriter *) writer)->host, set, error);
}

/* The undo list knows more than we do; it may run twice. */
static void
vm_writer_abort(KvssWriter *writer, KvssSnapshotSet *set)
{
    g_autoptr(GError) error = NULL;

    release_all((VmWriter *) writer);
    if (set->run && !kvss_run_undo(set->run, &error))
        g_warning("%s; the guardian process goes on trying, and 'kvss doctor' tells",
                  error->message);
    forget_stamps((VmWriter *) writer);
}

static void
vm_writer_free(KvssWriter *writer)
{
    VmWriter *self = (VmWriter *) writer;

    release_all(self);
    g_ptr_array_unref(self->vms);
    g_clear_pointer(&self->policy.method_of, g_hash_table_unref);
    g_free(self->policy.method_by);
    g_free(self->policy.method_of_by);
    g_free(self->policy.snapshot_dir);
    g_strfreev(self->names);
    kvss_writer_clear(writer);
    g_free(self);
}

static const KvssWriterOps vm_writer_ops = {
    .class_id = KVSS_VM_WRITER_CLASS_ID,
    .friendly_name = KVSS_VM_WRITER_NAME,
    .identify = vm_writer_identify,
    .prepare_for_backup = vm_writer_prepare_for_backup,
    .prepare_for_snapshot = vm_writer_prepare_for_snapshot,
    .freeze = NULL, /* by the specification: nothing */
    .thaw = NULL,
    .post_snapshot = vm_writer_post_snapshot,
    .backup_complete = vm_writer_backup_complete,
    .abort = vm_writer_abort,
    .backup_shutdown = vm_writer_abort,
    .pre_restore = vm_writer_pre_restore,
    .post_restore = vm_writer_post_restore,
    .free = vm_writer_free,
};

/* ---- making ---- */

static GHashTable *
copy_demands(GHashTable *method_of)
{
    GHashTable *copy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, method_of);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        KvssMethod method;

        if (kvss_method_from_name(value, &method))
            g_hash_table_insert(copy, g_strdup(key), GINT_TO_POINTER(method));
    }
    return copy;
}

static void
policy_fill(KvssVmPolicy *policy, const KvssVmWriterOptions *options)
{
    policy->freeze_limit_ms = KVSS_FREEZE_LIMIT_MS_DEFAULT;
    if (!options)
        return;
    if (options->method && !kvss_method_from_name(options->method, &policy->method))
        policy->method = KVSS_METHOD_NONE;
    if (options->method_of)
        policy->method_of = copy_demands(options->method_of);
    policy->method_by = g_strdup(options->method_by);
    policy->method_of_by = g_strdup(options->method_of_by);
    policy->snapshot_dir = g_strdup(options->snapshot_dir);
    policy->strict_conditions = options->strict_conditions;
    if (options->freeze_limit_ms)
        policy->freeze_limit_ms = MAX(options->freeze_limit_ms, KVSS_FREEZE_LIMIT_MS_MIN);
}

KvssWriter *
kvss_vm_writer_new(KvssHost *host, const KvssVmWriterOptions *options)
{
    VmWriter *self = g_new0(VmWriter, 1);
    g_autofree char *name = g_strdup_printf("kvss VM writer, %s", kvss_host_uri(host));

    kvss_writer_init(&self->writer, &vm_writer_ops, name);
    self->host = host;
    self->vms = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_vm_free);
    policy_fill(&self->policy, options);
    return &self->writer;
}

void
kvss_vm_writer_limit_to(KvssWriter *writer, const char *const *names)
{
    VmWriter *self = (VmWriter *) writer;

    g_strfreev(self->names);
    self->names = g_strdupv((char **) names);
}
