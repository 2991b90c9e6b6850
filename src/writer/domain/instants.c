/*
 * instants.c - PrepareForSnapshot and PostSnapshot of one VM
 *
 * What if we die here? Before a guest is frozen or stopped, the act is in the
 * journal and the guardian has confirmed that it keeps the time. Whatever fails
 * after that leaves the act open, and the undo list brings the guest back.
 */
#include "base/test-point.h"
#include "writer/domain/link.h"
#include "writer/domain/vm.h"

#include <errno.h>

/* Directly before the freeze: an agent that does not answer now must not be asked to freeze. */
#define PING_LIMIT_S 4
/* Waking up, connecting on qemu:///embed, the thaw itself. */
#define GUARDIAN_LEAD_MS 1000
/* A guest that stands still is let go on after this, and a second for each 100 MiB of its RAM. */
#define STILL_LIMIT_MS 60000
#define STILL_BYTES_PER_MS (100 * 1024)

static JsonObject *
vm_details(const KvssVm *vm)
{
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "uuid", kvss_domain_uuid(vm->domain));
    json_object_set_string_member(details, "name", kvss_domain_name(vm->domain));
    return details;
}

/* The guardian begins early enough to be done when the limit passes. */
static unsigned
guardian_limit_ms(const KvssVm *vm)
{
    unsigned limit_ms = vm->policy->freeze_limit_ms;

    return limit_ms - MAX(GUARDIAN_LEAD_MS, limit_ms / 10);
}

static unsigned
freeze_call_limit_s(const KvssVm *vm)
{
    return MAX(1, vm->policy->freeze_limit_ms / 2000);
}

static unsigned
thaw_call_limit_s(const KvssVm *vm)
{
    return MAX(1, vm->policy->freeze_limit_ms * 3 / 10000);
}

bool
kvss_vm_ping(KvssVm *vm, GError **error)
{
    return kvss_agent_ping(vm->domain, PING_LIMIT_S, error);
}

/* ---- child-snapshot ---- */

static bool
check_frozen_count(KvssVm *vm, GError **error)
{
    unsigned expected = kvss_vm_count_freezable(vm);

    if (vm->n_frozen >= 0 && (unsigned) vm->n_frozen >= expected)
        return true;
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                      "the guest froze %d of its %u file systems: not application-consistent",
                      vm->n_frozen, expected);
}

/* The agent refused, and by its word nothing is frozen: then nothing is left to undo. */
static void
forget_refused_freeze(KvssVm *vm, const GError *refusal)
{
    bool frozen = true;

    if (!g_error_matches(refusal, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT_REFUSED))
        return;
    if (!kvss_agent_status(vm->domain, thaw_call_limit_s(vm), &frozen, NULL) || frozen)
        return;
    if (!kvss_run_disarm(vm->run, vm->freeze_act, NULL))
        return;
    kvss_run_act_end(vm->run, vm->freeze_act);
    vm->freeze_act = 0;
}

bool
kvss_vm_freeze(KvssVm *vm, GError **error)
{
    JsonObject *details = vm_details(vm);
    g_autofree char *socket = kvss_job_socket(vm->folder);
    GError *local = NULL;

    json_object_set_string_member(details, "socket", socket);
    vm->freeze_act = kvss_run_act_begin(vm->run, KVSS_ACT_FREEZE, details, error);
    if (!vm->freeze_act
        || !kvss_run_arm(vm->run, vm->freeze_act, guardian_limit_ms(vm), error))
        return false;
    vm->freeze_call_us = g_get_monotonic_time();
    if (!kvss_agent_freeze(vm->domain, freeze_call_limit_s(vm), &vm->n_frozen, &local)) {
        forget_refused_freeze(vm, local);
        g_propagate_error(error, local);
        return false;
    }
    vm->component->frozen_us = g_get_monotonic_time();
    kvss_test_point("frozen");
    return check_frozen_count(vm, error);
}

bool
kvss_vm_cut(KvssVm *vm, GError **error)
{
    vm->component->instant_us = vm->cut_call_us = g_get_monotonic_time();
    if (vm->component->disks->len > 0
        && !kvss_job_begin(vm->run, vm->component, vm->folder, error))
        return false;
    vm->cut_done_us = g_get_monotonic_time();
    if (vm->component->disks->len > 0)
        kvss_test_point("cut");
    return kvss_vm_capture_firmware(vm, error);
}

static bool
check_thawed(KvssVm *vm, int n_thawed, GError **error)
{
    bool frozen = true;

    if (!kvss_agent_status(vm->domain, thaw_call_limit_s(vm), &frozen, error))
        return false;
    if (frozen)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "the guest is still frozen after the thaw");
    if (n_thawed < vm->n_frozen)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "the thaw found %d of %d file systems frozen: some were released too "
                          "early, the backup would not be application-consistent",
                          n_thawed, vm->n_frozen);
    return true;
}

/* Tries everything at once, and tells the guardian's part where it was the cause. */
static void
give_up_thaw(KvssVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GError) late = NULL;

    if (!kvss_run_act_undo(vm->run, vm->freeze_act, &local))
        g_warning("%s", local->message);
    if (!kvss_run_disarm(vm->run, vm->freeze_act, &late)
        && g_error_matches(late, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT) && error) {
        g_clear_error(error);
        (void) kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                          "the guest was still frozen shortly before the limit of %u ms "
                          "(freeze-limit), and the guardian process thawed it: the backup would not "
                          "be application-consistent",
                          vm->policy->freeze_limit_ms);
    }
}

/* For bench/freeze: all of one clock, in microseconds. */
static void
tell_times(const KvssVm *vm)
{
    g_debug("%s: instants: freeze asked %" G_GINT64_FORMAT ", frozen %" G_GINT64_FORMAT
            ", cut asked %" G_GINT64_FORMAT ", cut %" G_GINT64_FORMAT ", thaw asked %" G_GINT64_FORMAT
            ", thawed %" G_GINT64_FORMAT,
            kvss_domain_name(vm->domain), vm->freeze_call_us, vm->component->frozen_us,
            vm->cut_call_us, vm->cut_done_us, vm->component->thawed_us,
            vm->freeze_call_us + (gint64) (vm->component->freeze_ms * 1000));
}

/*
 * A guest whose thaw went wrong is left to the undo of its act, which tries
 * everything; but the set has failed, even when that works.
 */
bool
kvss_vm_thaw(KvssVm *vm, GError **error)
{
    int n_thawed = 0;
    gint64 call_us = g_get_monotonic_time();

    if (!vm->freeze_act)
        return true;
    if (vm->component->frozen_us < 0) {
        /* The freeze did not come back: it may be carried out any time now. */
        give_up_thaw(vm, NULL);
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_AGENT, "possibly frozen");
    }
    if (!kvss_agent_thaw(vm->domain, thaw_call_limit_s(vm), &n_thawed, error)) {
        give_up_thaw(vm, error);
        return false;
    }
    vm->component->freeze_ms = (double) (g_get_monotonic_time() - vm->freeze_call_us) / 1000;
    if (!check_thawed(vm, n_thawed, error)) {
        give_up_thaw(vm, error);
        return false;
    }
    /* Up to the moment when the thaw was asked for, the guest was surely frozen. */
    vm->component->thawed_us = call_us;
    tell_times(vm);
    if (!kvss_run_disarm(vm->run, vm->freeze_act, error))
        return false;
    kvss_run_act_end(vm->run, vm->freeze_act);
    vm->freeze_act = 0;
    return true;
}

/* ---- saved-state ---- */

static unsigned
still_limit_ms(KvssVm *vm)
{
    uint64_t memory = 0;

    if (!kvss_domain_memory_size(vm->domain, &memory, NULL))
        memory = 0;
    return STILL_LIMIT_MS + (unsigned) MIN(memory / STILL_BYTES_PER_MS, G_MAXINT / 2);
}

/* A paused guest stands still already. */
bool
kvss_vm_stand_still(KvssVm *vm, GError **error)
{
    if (vm->prior == KVSS_DOMAIN_RUNNING) {
        vm->still_act = kvss_run_act_begin(vm->run, KVSS_ACT_STILL, vm_details(vm), error);
        if (!vm->still_act || !kvss_run_arm(vm->run, vm->still_act, still_limit_ms(vm), error)
            || !kvss_domain_suspend(vm->domain, error))
            return false;
    }
    vm->still_us = g_get_monotonic_time();
    vm->component->instant_us = vm->still_us;
    return true;
}

static char **
covered_targets(const KvssVm *vm)
{
    g_autoptr(GStrvBuilder) targets = g_strv_builder_new();

    for (guint i = 0; i < vm->component->disks->len; i++)
        g_strv_builder_add(targets,
                           ((KvssDisk *) g_ptr_array_index(vm->component->disks, i))->target);
    return g_strv_builder_end(targets);
}

/*
 * The memory image of a guest that was paused before would leave QEMU in its
 * "postmigrate" state, in which it can be neither saved nor imaged again without
 * running first. Managed save and a start that stays paused give a clean process;
 * no instruction of the guest runs, and nobody waits for a guest that is paused.
 */
static bool
save_paused(KvssVm *vm, const char *image, GError **error)
{
    JsonObject *details = vm_details(vm);
    g_autofree char *saved = kvss_domain_managed_save_path(vm->domain);
    KvssDomainState state;
    KvssActId act;

    json_object_set_boolean_member(details, "paused", TRUE);
    act = kvss_run_act_begin(vm->run, KVSS_ACT_MANAGED_SAVE, details, error);
    if (!act || !kvss_domain_managed_save(vm->domain, true, error)
        || !kvss_link_or_copy(saved, image, error)
        || !kvss_domain_start(vm->domain, true, error)
        || !kvss_domain_get_state(vm->domain, &state, NULL, error))
        return false;
    if (state != KVSS_DOMAIN_PAUSED)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "it was paused, and is %s after its state was saved",
                          kvss_domain_state_name(state));
    kvss_run_act_end(vm->run, act);
    return true;
}

static bool
save_running(KvssVm *vm, const char *image, GError **error)
{
    g_auto(GStrv) targets = covered_targets(vm);

    return kvss_domain_memory_image(vm->domain, image, targets, vm->config, error);
}

bool
kvss_vm_save_memory(KvssVm *vm, GError **error)
{
    g_autofree char *image = g_build_filename(vm->folder, "state.save", NULL);
    bool ok = vm->prior == KVSS_DOMAIN_PAUSED ? save_paused(vm, image, error)
                                              : save_running(vm, image, error);

    if (!ok)
        return false;
    kvss_component_add_file(vm->component, "state.save", image, 0600);
    kvss_test_point("still");
    return kvss_vm_capture_firmware(vm, error);
}

/* PostSnapshot: back to the state before. */
bool
kvss_vm_go_on(KvssVm *vm, GError **error)
{
    KvssDomainState state;

    if (vm->still_act) {
        if (!kvss_domain_resume(vm->domain, error))
            return false;
        vm->component->pause_ms = (double) (g_get_monotonic_time() - vm->still_us) / 1000;
        if (!kvss_run_disarm(vm->run, vm->still_act, error))
            return false;
        kvss_run_act_end(vm->run, vm->still_act);
        vm->still_act = 0;
    }
    if (!kvss_domain_get_state(vm->domain, &state, NULL, error))
        return false;
    if (state == vm->prior)
        return true;
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                      "it was %s before the backup and is %s now",
                      kvss_domain_state_name(vm->prior), kvss_domain_state_name(state));
}
