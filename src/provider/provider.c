/*
 * provider.c - the one place that calls a provider
 *
 * A step is legal in the state where the one before it left off; the table says
 * which states lie before, during and after each. Only the coordinator drives
 * providers, so a wrong order is our own bug and asserted.
 *
 * As with writers, a call takes a ticket: once the coordinator has given it up,
 * what it says later moves nothing.
 */
#include "provider/provider.h"

#include "stream/source.h"

typedef bool (*StepFunc)(KvssProvider *p, KvssSnapshotSet *set, GError **error);

#define IN(state) (1u << KVSS_SS_##state)

typedef struct {
    const char *name;
    gsize func;               /* where in KvssProviderOps */
    unsigned may_follow;      /* states in which it is legal */
    KvssSnapshotState during, after;
} Step;

#define FUNC(member) G_STRUCT_OFFSET(KvssProviderOps, member)

static const Step steps[KVSS_PROVIDER_STEP_N] = {
    [KVSS_PROVIDER_STEP_BEGIN_PREPARE] = { "BeginPrepareSnapshot", FUNC(begin_prepare),
                                           IN(UNKNOWN), KVSS_SS_PREPARING, KVSS_SS_PREPARING },
    [KVSS_PROVIDER_STEP_END_PREPARE] = { "EndPrepareSnapshots", FUNC(end_prepare), IN(PREPARING),
                                         KVSS_SS_PROCESSING_PREPARE, KVSS_SS_PREPARED },
    [KVSS_PROVIDER_STEP_PRE_COMMIT] = { "PreCommitSnapshots", FUNC(pre_commit), IN(PREPARED),
                                        KVSS_SS_PROCESSING_PRECOMMIT, KVSS_SS_PRECOMMITTED },
    [KVSS_PROVIDER_STEP_COMMIT] = { "CommitSnapshots", FUNC(commit), IN(PRECOMMITTED),
                                    KVSS_SS_PROCESSING_COMMIT, KVSS_SS_COMMITTED },
    [KVSS_PROVIDER_STEP_POST_COMMIT] = { "PostCommitSnapshots", FUNC(post_commit), IN(COMMITTED),
                                         KVSS_SS_PROCESSING_POSTCOMMIT, KVSS_SS_POSTCOMMITTED },
    [KVSS_PROVIDER_STEP_PRE_FINAL_COMMIT] = { "PreFinalCommitSnapshots", FUNC(pre_final_commit),
                                              IN(POSTCOMMITTED),
                                              KVSS_SS_PROCESSING_PREFINALCOMMIT,
                                              KVSS_SS_PREFINALCOMMITTED },
    [KVSS_PROVIDER_STEP_POST_FINAL_COMMIT] = { "PostFinalCommitSnapshots",
                                               FUNC(post_final_commit), IN(PREFINALCOMMITTED),
                                               KVSS_SS_PROCESSING_POSTFINALCOMMIT,
                                               KVSS_SS_CREATED },
};

void
kvss_provider_init(KvssProvider *p, const KvssProviderOps *ops)
{
    g_assert(ops->name && (ops->is_supported || ops->is_file_set_supported) && ops->free);
    g_assert(!ops->is_supported == !ops->open); /* who cuts a disk shows it, too */

    p->ops = ops;
    p->state = KVSS_SS_UNKNOWN;
    p->failure = KVSS_S_OK;
    g_mutex_init(&p->lock);
}

void
kvss_provider_clear(KvssProvider *p)
{
    g_mutex_clear(&p->lock);
}

void
kvss_provider_free(KvssProvider *p)
{
    if (p)
        p->ops->free(p);
}

const char *
kvss_provider_step_name(KvssProviderStep step)
{
    g_assert((unsigned) step < KVSS_PROVIDER_STEP_N);
    return steps[step].name;
}

bool
kvss_provider_may_step(KvssProvider *p, KvssProviderStep step)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    g_assert((unsigned) step < KVSS_PROVIDER_STEP_N);
    return steps[step].may_follow & (1u << p->state);
}

/* With the lock held. */
static void
enter(KvssProvider *p, KvssSnapshotState next)
{
    if (p->state == next)
        return;
    g_debug("provider %s: %s -> %s", p->ops->name, kvss_snapshot_state_name(p->state),
            kvss_snapshot_state_name(next));
    p->state = next;
}

/* Returns: the ticket of this call; 0 if it was given up before it could begin. */
static guint64
begin(KvssProvider *p, const Step *step, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    if (p->state == KVSS_SS_ABORTED) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT, "was given up before it began");
        return 0;
    }
    g_assert(step->may_follow & (1u << p->state));
    enter(p, step->during);
    return ++p->ticket;
}

/* Of what VSS lets a provider return, what we know; anything else is turned into UNEXPECTED. */
static bool
may_return(KvssHresult code)
{
    static const KvssHresult codes[] = {
        KVSS_E_BAD_STATE,
        KVSS_E_OBJECT_NOT_FOUND,
        KVSS_E_INSUFFICIENT_STORAGE,
        KVSS_E_VOLUME_NOT_SUPPORTED,
        KVSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER,
        KVSS_E_PROVIDER_VETO,
    };

    for (guint i = 0; i < G_N_ELEMENTS(codes); i++)
        if (codes[i] == code)
            return true;
    return false;
}

static KvssHresult
code_of(const KvssComponent *failed, const GError *error)
{
    if (failed && may_return(failed->failure))
        return failed->failure;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE))
        return KVSS_E_INSUFFICIENT_STORAGE;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        return KVSS_E_PROVIDER_VETO;
    return KVSS_E_UNEXPECTED_PROVIDER_ERROR;
}

static void
enter_failed(KvssProvider *p, KvssHresult code)
{
    if (p->failure == KVSS_S_OK)
        p->failure = code;
    enter(p, KVSS_SS_ABORTED);
}

static bool
finish(KvssProvider *p, const Step *step, const KvssComponent *failed, guint64 ticket,
       GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    if (p->ticket != ticket) {
        g_clear_error(error);
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                          "came back after it was given up");
    }
    if (*error) {
        enter_failed(p, code_of(failed, *error));
        return false;
    }
    enter(p, step->after);
    return true;
}

static bool
call(KvssProvider *p, const Step *step, KvssSnapshotSet *set, GError **error)
{
    StepFunc func = G_STRUCT_MEMBER(StepFunc, p->ops, step->func);

    return !func || func(p, set, error);
}

/* Whatever speaks of a failure counts as one: false, an error, a component marked. */
static void
settle(bool said_yes, const KvssComponent *failed, GError **error)
{
    if (*error)
        return;
    if (failed)
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "%s: %s", failed->display_name,
                   failed->failure_message);
    else if (!said_yes)
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "failed and did not say why");
}

static bool
run(KvssProvider *p, const Step *step, KvssSnapshotSet *set, GError **error)
{
    gint64 start_us = g_get_monotonic_time();
    guint64 ticket = begin(p, step, error);
    g_autoptr(GPtrArray) healthy = NULL;
    const KvssComponent *failed;
    bool said_yes;

    if (ticket == 0)
        return false;
    healthy = kvss_components_healthy(set->components);
    said_yes = call(p, step, set, error);
    failed = kvss_components_first_failed(healthy);
    settle(said_yes, failed, error);
    g_debug("provider %s: %s took %" G_GINT64_FORMAT " us%s%s", p->ops->name, step->name,
            g_get_monotonic_time() - start_us, *error ? ": " : "",
            *error ? (*error)->message : "");
    return finish(p, step, failed, ticket, error);
}

bool
kvss_provider_step(KvssProvider *p, KvssProviderStep step, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GError) inner = NULL;

    g_assert((unsigned) step < KVSS_PROVIDER_STEP_N);
    if (run(p, &steps[step], set, &inner))
        return true;
    g_propagate_prefixed_error(error, g_steal_pointer(&inner), "provider %s: %s: ", p->ops->name,
                               steps[step].name);
    return false;
}

void
kvss_provider_fail(KvssProvider *p, KvssHresult code)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    g_assert(code != KVSS_S_OK);
    p->ticket++;
    enter_failed(p, code);
}

KvssSnapshotState
kvss_provider_status(KvssProvider *p, KvssHresult *out_failure)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    if (out_failure)
        *out_failure = p->failure;
    return p->state;
}

/* Takes @reason. Returns: false. */
static bool
not_supported(char *reason, const char *fallback, char **out_reason)
{
    *out_reason = reason ? reason : g_strdup(fallback);
    return false;
}

bool
kvss_provider_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d,
                           char **out_reason)
{
    char *reason = NULL;

    if (p->ops->is_supported && p->ops->is_supported(p, c, d, &reason))
        return true;
    return not_supported(reason, "it cuts no disks like this", out_reason);
}

bool
kvss_provider_is_file_set_supported(KvssProvider *p, const KvssComponent *c,
                                    const KvssFileSet *s, char **out_reason)
{
    char *reason = NULL;

    if (p->ops->is_file_set_supported && p->ops->is_file_set_supported(p, c, s, &reason))
        return true;
    return not_supported(reason, "it cuts no files of the host", out_reason);
}

struct KvssSource *
kvss_provider_open(KvssProvider *p, KvssComponent *c, KvssDisk *d, GError **error)
{
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GError) inner = NULL;

    g_assert(p->state == KVSS_SS_CREATED);
    g_assert_cmpstr(d->provider, ==, p->ops->name);

    source = p->ops->open(p, c, d, &inner);
    settle(source != NULL, NULL, &inner);
    if (!inner)
        return g_steal_pointer(&source);
    g_propagate_prefixed_error(error, g_steal_pointer(&inner), "provider %s: open %s: %s: ",
                               p->ops->name, c->display_name, d->target);
    return NULL;
}

/* The ends: whatever runs at the moment has no say in the state any more. */
static void
end(KvssProvider *p, KvssSnapshotState next)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    p->ticket++;
    enter(p, next);
}

void
kvss_provider_delete_copies(KvssProvider *p, KvssSnapshotSet *set)
{
    if (p->ops->delete_copies)
        p->ops->delete_copies(p, set);
    end(p, KVSS_SS_DELETED);
}

void
kvss_provider_abort(KvssProvider *p, KvssSnapshotSet *set)
{
    /* First, so that a step which is stuck now cannot come back as a success. */
    end(p, KVSS_SS_ABORTED);
    if (p->ops->abort)
        p->ops->abort(p, set);
}
