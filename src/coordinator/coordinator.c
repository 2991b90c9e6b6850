/*
 * coordinator.c - the VSS service: what the requester may call, and when
 *
 * The machine is the table of moves below; what is sent in which order is the
 * table in events.c; how it is sent, and taken back, is round.c.
 *
 * Invariant: outside a call of the requester's either everything that the state
 * promises holds for every member of the set, or everything has been undone.
 */
#include "coordinator/private.h"

#define TO(state) (1u << SET_##state)
static const unsigned may_follow[SET_N_STATES] = {
    [SET_NEW] = TO(GATHERED) | TO(ABORTED),
    [SET_GATHERED] = TO(PREPARED) | TO(RESTORING) | TO(ABORTED),
    [SET_PREPARED] = TO(CREATED) | TO(ABORTED),
    [SET_CREATED] = TO(COMPLETE) | TO(ABORTED),
    [SET_RESTORING] = TO(RESTORED) | TO(ABORTED),
    [SET_RESTORED] = TO(RESTORING), /* taken back after all */
};

static const char *const state_names[SET_N_STATES] = {
    [SET_NEW] = "new",
    [SET_GATHERED] = "gathered",
    [SET_PREPARED] = "prepared",
    [SET_CREATED] = "created",
    [SET_COMPLETE] = "complete",
    [SET_ABORTED] = "aborted",
    [SET_RESTORING] = "restoring",
    [SET_RESTORED] = "restored",
};

static void
enter(KvssCoordinator *c, SetState next)
{
    g_assert(may_follow[c->state] & (1u << next)); /* ours to get right */

    g_debug("set %s: %s -> %s", c->set->id, state_names[c->state], state_names[next]);
    c->state = next;
}

bool
expect_state(const KvssCoordinator *c, SetState state, const char *what, GError **error)
{
    g_autofree char *code = NULL;

    if (c->state == state)
        return true;
    code = report_code(KVSS_E_BAD_STATE);
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_BAD_STATE,
                      "%s does not fit: the set is %s, not %s %s", what, state_names[c->state],
                      state_names[state], code);
}

/* --- life -------------------------------------------------------------------- */

KvssCoordinator *
kvss_coordinator_new(void)
{
    KvssCoordinator *c = g_new0(KvssCoordinator, 1);

    c->estate = estate_new();
    c->set = c->estate->set;
    c->writers = g_ptr_array_new();
    c->providers = g_ptr_array_new();
    c->history = g_array_new(FALSE, FALSE, sizeof(KvssEventRecord));
    c->limits = kvss_limits_default();
    return c;
}

static void
end_sessions(KvssCoordinator *c)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        session_end(g_steal_pointer(&p->session));
        session_end(g_steal_pointer(&p->spare));
    }
}

void
kvss_coordinator_free(KvssCoordinator *c)
{
    if (!c)
        return;
    kvss_coordinator_abort(c);
    (void) round_end(c, KVSS_STEP_BACKUP_SHUTDOWN);
    cancel_detach(c);
    end_sessions(c);

    g_ptr_array_unref(c->writers);
    g_ptr_array_unref(c->providers);
    g_array_unref(c->history);
    g_free(c->demanded);
    estate_unref(c->estate);
    g_free(c);
}

void
kvss_coordinator_take_writer(KvssCoordinator *c, struct KvssWriter *writer)
{
    g_assert(c->state == SET_NEW);
    g_ptr_array_add(c->writers, writer);
    (void) estate_take(c->estate, writer, NULL);
}

void
kvss_coordinator_take_provider(KvssCoordinator *c, struct KvssProvider *provider)
{
    g_assert(c->state == SET_NEW);
    g_assert(!assignment_find(c, provider->ops->name)); /* a disk names its provider */
    g_ptr_array_add(c->providers, provider);
    (void) estate_take(c->estate, NULL, provider);
}

void
kvss_coordinator_set_limits(KvssCoordinator *c, const KvssLimits *limits)
{
    c->limits = *limits;
}

void
kvss_coordinator_demand_provider(KvssCoordinator *c, const char *name)
{
    kvss_set_string(&c->demanded, name);
}

KvssSnapshotSet *
kvss_coordinator_set(KvssCoordinator *c)
{
    return c->set;
}

GPtrArray *
kvss_coordinator_writers(KvssCoordinator *c)
{
    return c->writers;
}

GPtrArray *
kvss_coordinator_providers(KvssCoordinator *c)
{
    return c->providers;
}

GArray *
kvss_coordinator_history(KvssCoordinator *c)
{
    return c->history;
}

KvssHresult
kvss_coordinator_failure(KvssCoordinator *c)
{
    return c->failure;
}

/* --- gather ---------------------------------------------------------------- */

/* Who failed at Identify drops out. Returns: how many writers are left. */
static guint
drop_out(KvssCoordinator *c)
{
    GPtrArray *all = c->estate->participants;
    guint left = 0;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (!p->writer)
            continue;
        p->has_dropped_out = kvss_writer_has_dropped_out(p->writer);
        left += !p->has_dropped_out;
    }
    return left;
}

bool
kvss_coordinator_gather(KvssCoordinator *c, GError **error)
{
    g_autoptr(GError) dropped = NULL;

    if (!expect_state(c, SET_NEW, "gather", error))
        return false;
    g_assert(c->writers->len > 0);

    cancel_attach(c);
    if (!round_run(c, KVSS_STEP_IDENTIFY, &dropped)) {
        if (drop_out(c) == 0 || cancel_is_asked(c)) {
            enter(c, SET_ABORTED);
            g_propagate_error(error, g_steal_pointer(&dropped));
            return false;
        }
        g_message("%s", dropped->message);
        c->failure = KVSS_S_OK; /* it goes on without that writer */
    }
    enter(c, SET_GATHERED);
    return true;
}

/* Returns: false if nothing is selected. */
static bool
involve_writers(KvssCoordinator *c, GError **error)
{
    GPtrArray *all = c->estate->participants;

    if (c->set->components->len == 0)
        return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOTHING,
                          "no component was selected");
    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (p->writer)
            p->is_involved = kvss_writer_is_involved(p->writer, c->set);
    }
    return true;
}

/* --- the sequence ------------------------------------------------------------------ */

/* Everything is taken back, and the set is at its end. Returns: false. */
static bool
fail(KvssCoordinator *c)
{
    if (c->cancellable)
        g_cancellable_cancel(c->cancellable); /* whoever is stuck should come back */
    round_undo(c);
    enter(c, SET_ABORTED);
    return false;
}

/* Contexts with other bits mean sets without writers, or ones that outlive the run: not a backup of VMs. */
static bool
check_context(const KvssCoordinator *c, GError **error)
{
    g_autofree char *code = report_code(KVSS_E_UNSUPPORTED_CONTEXT);

    if ((c->set->context & ~KVSS_ATTR_NO_AUTORECOVERY) == KVSS_CTX_BACKUP)
        return true;
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_UNSUPPORTED,
                      "a context of 0x%X is not supported: it is VSS_CTX_BACKUP, with or without "
                      "VSS_VOLSNAP_ATTR_NO_AUTORECOVERY %s",
                      c->set->context, code);
}

bool
kvss_coordinator_prepare_for_backup(KvssCoordinator *c, GError **error)
{
    if (!expect_state(c, SET_GATHERED, "prepare_for_backup", error) || !check_context(c, error)
        || !involve_writers(c, error))
        return false;

    cancel_attach(c);
    if (!assignment_make(c, error) || !round_run(c, KVSS_STEP_BEGIN_PREPARE, error)
        || !round_run(c, KVSS_STEP_PREPARE_FOR_BACKUP, error))
        return fail(c);

    /* A writer may have found disks that it did not know at Identify. */
    if (!assignment_make(c, error) || !round_run(c, KVSS_STEP_BEGIN_PREPARE, error))
        return fail(c);

    enter(c, SET_PREPARED);
    return true;
}

bool
kvss_coordinator_do_snapshot_set(KvssCoordinator *c, GError **error)
{
    if (!expect_state(c, SET_PREPARED, "do_snapshot_set", error))
        return false;

    for (KvssStepId id = 0; id < KVSS_STEP_N; id++)
        if (kvss_step(id)->phase == KVSS_PHASE_SNAPSHOT && !round_run(c, id, error))
            return fail(c);

    enter(c, SET_CREATED);
    return true;
}

struct KvssSource *
kvss_coordinator_open(KvssCoordinator *c, KvssComponent *component, KvssDisk *disk, GError **error)
{
    KvssProvider *provider;

    if (!expect_state(c, SET_CREATED, "open", error))
        return NULL;
    provider = kvss_coordinator_provider_of(c, disk);
    if (!provider) {
        kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND,
                   "%s: %s is not in the set", component->display_name, disk->target);
        return NULL;
    }
    return kvss_provider_open(provider, component, disk, error);
}

bool
kvss_coordinator_backup_complete(KvssCoordinator *c, GError **error)
{
    g_autoptr(GError) first = NULL;
    bool ok;

    if (!expect_state(c, SET_CREATED, "backup_complete", error))
        return false;

    cancel_detach(c); /* the backup is kept: too late to be interrupted */
    cancel_refresh(c);
    ok = round_run(c, KVSS_STEP_BACKUP_COMPLETE, &first);
    if (!round_end(c, KVSS_STEP_DELETE_SNAPSHOTS) && ok)
        ok = kvss_throw(&first, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT,
                        "a provider did not delete its shadow copies in time");
    enter(c, SET_COMPLETE);

    if (!ok)
        g_propagate_error(error, g_steal_pointer(&first));
    return ok;
}

/* --- restore ---------------------------------------------------------------------- */

/*
 * Nothing was written: to a writer that means to put back what it has set aside.
 * PostRestore is an event like others and may look at the cancellable, so it gets
 * a fresh one.
 */
static bool
fail_restore(KvssCoordinator *c)
{
    for (guint i = 0; i < c->set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(c->set->components, i);

        if (component->restore_status == KVSS_RS_UNDEFINED)
            component->restore_status = KVSS_RS_NONE;
    }
    cancel_detach(c);
    cancel_refresh(c);
    round_undo(c);
    enter(c, SET_ABORTED);
    return false;
}

bool
kvss_coordinator_pre_restore(KvssCoordinator *c, GError **error)
{
    if (!expect_state(c, SET_GATHERED, "pre_restore", error) || !involve_writers(c, error))
        return false;

    cancel_attach(c);
    if (!round_run(c, KVSS_STEP_PRE_RESTORE, error))
        return fail_restore(c);
    enter(c, SET_RESTORING);
    return true;
}

bool
kvss_coordinator_post_restore(KvssCoordinator *c, GError **error)
{
    bool ok;

    if (!expect_state(c, SET_RESTORING, "post_restore", error))
        return false;

    cancel_detach(c); /* what was written must be registered or put back, whole */
    cancel_refresh(c);
    ok = round_run(c, KVSS_STEP_POST_RESTORE, error);
    enter(c, SET_RESTORED);
    return ok;
}

void
kvss_coordinator_pre_restore_again(KvssCoordinator *c, GPtrArray *stays)
{
    if (c->state != SET_RESTORED)
        return;
    round_pre_restore_again(c, stays);
    enter(c, SET_RESTORING);
}

void
kvss_coordinator_abort(KvssCoordinator *c)
{
    if (!(may_follow[c->state] & TO(ABORTED)))
        return; /* at its end already */
    (void) (c->state == SET_RESTORING ? fail_restore(c) : fail(c));
}
