/*
 * round.c - one step to its receivers, and the ways back
 *
 * A step forward goes to all involved writers at once (Freeze and Thaw: to one
 * level of them after the other), or to the involved providers one by one, and is
 * over when everybody has answered, or when the limit has passed. Who has not answered by then is given up: the verdict goes to
 * its wrapper, and what it says later does not count.
 *
 * On the way back the table says what takes each receiver's last step back.
 * Writers come first, all at once, since a guest may be waiting to be thawed;
 * then the providers, last first.
 */
#include "coordinator/private.h"

/* --- waiting --------------------------------------------------------------- */

typedef bool (*Question)(const Call *call);

static bool
is_done(const Call *call)
{
    return call->is_done;
}

static bool
has_begun(const Call *call)
{
    return call->has_begun;
}

static bool
has_failed(const Call *call)
{
    return call->is_done && !call->ok;
}

static guint
count(GPtrArray *calls, Question question)
{
    guint n = 0;

    for (guint i = 0; i < calls->len; i++)
        n += question(g_ptr_array_index(calls, i));
    return n;
}

/* Waits until @question is true of all, at most until the deadline. */
static void
wait_until(KvssCoordinator *c, GPtrArray *calls, Question question, gint64 deadline_us)
{
    g_mutex_lock(&c->estate->lock);
    while (count(calls, question) < calls->len)
        if (!g_cond_wait_until(&c->estate->changed, &c->estate->lock, deadline_us))
            break;
    g_mutex_unlock(&c->estate->lock);
}

static gint64
from_now(unsigned ms)
{
    return g_get_monotonic_time() + (gint64) ms * 1000;
}

/* Is there a reason to end this step before its limit? */
static bool
must_hurry(KvssCoordinator *c, const KvssStep *step, GPtrArray *calls)
{
    return cancel_is_asked(c) || (step->is_together && count(calls, has_failed) > 0);
}

/* Waits for the answers; once there is a reason to hurry, only for the grace. */
static void
wait_for_answers(KvssCoordinator *c, const KvssStep *step, GPtrArray *calls, gint64 deadline_us)
{
    bool hurry = false;

    g_mutex_lock(&c->estate->lock);
    while (!hurry && count(calls, is_done) < calls->len) {
        hurry = must_hurry(c, step, calls);
        if (!hurry && !g_cond_wait_until(&c->estate->changed, &c->estate->lock, deadline_us))
            break;
    }
    g_mutex_unlock(&c->estate->lock);

    if (hurry) {
        g_cancellable_cancel(c->cancellable); /* not under the lock: it calls others */
        wait_until(c, calls, is_done, MIN(deadline_us, from_now(c->limits.grace_ms)));
    }
}

/* --- verdicts -------------------------------------------------------------- */

static void
give_up(KvssCoordinator *c, Call *call)
{
    const KvssStep *step = kvss_step(call->step);

    if (call->to->writer)
        kvss_writer_fail(call->to->writer, step->code, step->in_window ? KVSS_E_WRITERERROR_TIMEOUT
                                                                       : KVSS_E_WRITER_NOT_RESPONDING);
    else
        kvss_provider_fail(call->to->provider, step->in_window ? KVSS_E_HOLD_WRITES_TIMEOUT
                                                               : KVSS_E_UNEXPECTED_PROVIDER_ERROR);
    call->is_given_up = true;
    g_cancellable_cancel(c->cancellable);
}

/* Ends the wait: who has not answered is given up. Returns: true if all did well. */
static bool
judge(KvssCoordinator *c, GPtrArray *calls)
{
    g_autoptr(GPtrArray) late = g_ptr_array_new();
    bool ok = true;

    g_mutex_lock(&c->estate->lock);
    for (guint i = 0; i < calls->len; i++) {
        Call *call = g_ptr_array_index(calls, i);

        if (!call->is_done)
            g_ptr_array_add(late, call);
        else if (!call->ok)
            ok = false;
    }
    g_mutex_unlock(&c->estate->lock);

    for (guint i = 0; i < late->len; i++)
        give_up(c, g_ptr_array_index(late, i));
    for (guint i = 0; i < calls->len; i++)
        report_record(c, g_ptr_array_index(calls, i));
    return ok && late->len == 0;
}

/* --- forward --------------------------------------------------------------- */

static GPtrArray *
calls_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify) call_unref);
}

static Session *
session_of(KvssCoordinator *c, Participant *p)
{
    if (!p->session)
        p->session = session_new(c->estate, participant_name(p));
    return p->session;
}

static Call *
post(KvssCoordinator *c, Participant *p, KvssStepId id)
{
    return session_post(session_of(c, p), p, id);
}

static bool
is_receiver(const Participant *p, KvssStepId id)
{
    const KvssStep *step = kvss_step(id);

    if ((step->receiver == KVSS_RECEIVER_WRITERS) != (p->writer != NULL))
        return false;
    if (id == KVSS_STEP_IDENTIFY)
        return true;
    if (id == KVSS_STEP_BEGIN_PREPARE && p->last != KVSS_STEP_N)
        return false; /* has begun already; another one joined late */
    return p->is_involved;
}

static gint64
deadline_of(KvssCoordinator *c, KvssStepId id)
{
    gint64 deadline_us = from_now(c->limits.step_ms[id]);

    if (!kvss_step(id)->in_window)
        return deadline_us;
    if (c->window_end_us == 0)
        c->window_end_us = from_now(c->limits.window_ms);
    return MIN(deadline_us, c->window_end_us);
}

#define ANY_LEVEL ((KvssApplicationLevel) 0)

/* To those of one level. Returns: true if all did well. */
static bool
send_at_once(KvssCoordinator *c, KvssStepId id, KvssApplicationLevel level, GPtrArray *calls,
             gint64 deadline_us)
{
    g_autoptr(GPtrArray) these = calls_new();
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (!is_receiver(p, id) || (level != ANY_LEVEL && p->writer->level != level))
            continue;
        p->last = id;
        g_ptr_array_add(these, post(c, p, id));
        g_ptr_array_add(calls, call_ref(g_ptr_array_index(these, these->len - 1)));
    }
    wait_for_answers(c, kvss_step(id), these, deadline_us);
    return judge(c, these);
}

/* A front end stops before what it stands on, and goes on after it. */
static bool
send_by_level(KvssCoordinator *c, KvssStepId id, GPtrArray *calls, gint64 deadline_us)
{
    const KvssStep *step = kvss_step(id);
    int move = step->order == KVSS_ORDER_FRONT_FIRST ? -1 : 1;
    int level = move < 0 ? KVSS_LEVEL_FRONT_END : KVSS_LEVEL_SYSTEM;
    bool ok = true;

    for (; level >= KVSS_LEVEL_SYSTEM && level <= KVSS_LEVEL_FRONT_END; level += move)
        if (ok || !step->is_together)
            ok = send_at_once(c, id, (KvssApplicationLevel) level, calls, deadline_us) && ok;
    return ok;
}

static bool
send_to_one(KvssCoordinator *c, Participant *p, KvssStepId id, GPtrArray *calls,
            gint64 deadline_us)
{
    g_autoptr(GPtrArray) alone = calls_new();
    Call *call;

    p->last = id;
    call = post(c, p, id);
    g_ptr_array_add(alone, call_ref(call));
    g_ptr_array_add(calls, call);
    wait_for_answers(c, kvss_step(id), alone, deadline_us);
    return judge(c, alone);
}

static bool
send_in_order(KvssCoordinator *c, KvssStepId id, GPtrArray *calls, gint64 deadline_us)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (is_receiver(p, id) && !send_to_one(c, p, id, calls, deadline_us))
            return false;
    }
    return true;
}

static bool
is_last_in_window(KvssStepId id)
{
    return kvss_step(id)->in_window && !kvss_step(id + 1)->in_window;
}

static bool
is_window_over(const KvssCoordinator *c)
{
    return c->window_end_us != 0 && g_get_monotonic_time() > c->window_end_us;
}

/*
 * VSS: once the window has passed, every writer in it aborts by itself, with this
 * code. One that could not be thawed in time has failed at Thaw, one that nobody
 * tried to thaw at Freeze.
 */
static void
fail_frozen(KvssCoordinator *c)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (p->writer && (p->last == KVSS_STEP_FREEZE || p->last == KVSS_STEP_THAW))
            kvss_writer_fail(p->writer, kvss_step(p->last)->code, KVSS_E_WRITERERROR_TIMEOUT);
    }
}

/* The window passed before this step, or though everybody answered it: this process stood still. */
static bool
fail_late(KvssCoordinator *c, KvssStepId id, GError **error)
{
    fail_frozen(c);
    return report_late(c, id, error);
}

/* Returns: false if it was open too long, though everybody answered. */
static bool
close_window(KvssCoordinator *c, GError **error)
{
    if (is_window_over(c))
        return fail_late(c, KVSS_STEP_THAW, error);
    c->window_end_us = 0;
    return true;
}

bool
round_run(KvssCoordinator *c, KvssStepId id, GError **error)
{
    g_autoptr(GPtrArray) calls = calls_new();
    gint64 deadline_us = deadline_of(c, id);
    bool ok;

    if (cancel_is_asked(c))
        return kvss_check_cancelled(c->user, error);
    if (is_window_over(c))
        return fail_late(c, id, error);

    if (kvss_step(id)->receiver == KVSS_RECEIVER_PROVIDERS)
        ok = send_in_order(c, id, calls, deadline_us);
    else if (kvss_step(id)->order == KVSS_ORDER_AT_ONCE)
        ok = send_at_once(c, id, ANY_LEVEL, calls, deadline_us);
    else
        ok = send_by_level(c, id, calls, deadline_us);

    if (ok)
        return is_last_in_window(id) ? close_window(c, error) : true;
    if (id != KVSS_STEP_THAW && is_window_over(c)) /* whoever answered Thaw has kept the limit */
        fail_frozen(c);
    return report_failure(c, id, calls, error);
}

/* --- back ------------------------------------------------------------------ */

static bool
is_healthy(Participant *p)
{
    return kvss_writer_status(p->writer, NULL) < KVSS_WS_FAILED_AT_IDENTIFY;
}

/*
 * One after the other: that one keeps its files is no reason to stop another. Whoever said no
 * to PostRestore uses nothing.
 */
void
round_pre_restore_again(KvssCoordinator *c, GPtrArray *stays)
{
    g_autoptr(GPtrArray) calls = calls_new();
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (!p->writer || p->last != KVSS_STEP_POST_RESTORE || !is_healthy(p))
            continue;
        cancel_refresh(c);
        if (send_to_one(c, p, KVSS_STEP_PRE_RESTORE, calls, deadline_of(c, KVSS_STEP_PRE_RESTORE)))
            continue;
        p->last = KVSS_STEP_POST_RESTORE; /* nothing takes back what it has now */
        g_ptr_array_add(stays, p->writer);
    }
}

/* May it come from another thread while a call is stuck? Only the aborts promise that. */
static bool
may_overtake(KvssStepId id)
{
    return id == KVSS_STEP_ABORT || id == KVSS_STEP_ABORT_SNAPSHOTS;
}

/*
 * @call still waits behind a stuck one after the grace. It stays there, for when
 * the stuck one comes back; until then its twin does the work from another thread.
 */
static void
overtake(KvssCoordinator *c, GPtrArray *calls, Call *call)
{
    Participant *p = call->to;

    if (!may_overtake(call->step)) {
        g_message("%s: %s waits behind a stuck call; what is left is for recovery",
                  participant_name(p), kvss_step(call->step)->name);
        return;
    }
    if (!p->spare)
        p->spare = session_new(c->estate, participant_name(p));
    g_ptr_array_add(calls, session_post(p->spare, p, call->step));
}

/* Moves every call that has not begun from @calls to a spare session, or drops it. */
static void
overtake_stuck(KvssCoordinator *c, GPtrArray *calls)
{
    g_autoptr(GPtrArray) waiting = calls_new();

    g_mutex_lock(&c->estate->lock);
    for (guint i = calls->len; i-- > 0;) {
        Call *call = g_ptr_array_index(calls, i);

        if (!call->has_begun) {
            g_ptr_array_add(waiting, call_ref(call));
            g_ptr_array_remove_index(calls, i);
        }
    }
    g_mutex_unlock(&c->estate->lock);

    for (guint i = 0; i < waiting->len; i++)
        overtake(c, calls, g_ptr_array_index(waiting, i));
}

/* Waits for calls that cannot fail. False: some did not end in time. */
static bool
see_off(KvssCoordinator *c, GPtrArray *calls)
{
    unsigned limit_ms = 0;
    bool ok;
    guint posted = calls->len;

    for (guint i = 0; i < calls->len; i++) {
        const Call *call = g_ptr_array_index(calls, i);

        limit_ms = MAX(limit_ms, c->limits.step_ms[call->step]);
    }
    wait_until(c, calls, has_begun, from_now(c->limits.grace_ms));
    overtake_stuck(c, calls);
    wait_until(c, calls, is_done, from_now(limit_ms));

    ok = calls->len == posted;
    ok = judge(c, calls) && ok;
    if (!ok)
        g_debug("set %s: not everything ended well", c->set->id);
    return ok;
}

static void
undo_writers(KvssCoordinator *c)
{
    g_autoptr(GPtrArray) calls = calls_new();
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);
        KvssStepId undo = p->last == KVSS_STEP_N ? KVSS_STEP_N : kvss_step(p->last)->undo;

        if (!p->writer || undo == KVSS_STEP_N)
            continue;
        p->was_shut_down |= undo == KVSS_STEP_BACKUP_SHUTDOWN;
        g_ptr_array_add(calls, post(c, p, undo));
    }
    (void) see_off(c, calls);
}

static void
undo_providers(KvssCoordinator *c)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = all->len; i-- > 0;) {
        Participant *p = g_ptr_array_index(all, i);
        g_autoptr(GPtrArray) alone = calls_new();

        if (!p->provider || p->last == KVSS_STEP_N || kvss_step(p->last)->undo == KVSS_STEP_N)
            continue;
        g_ptr_array_add(alone, post(c, p, kvss_step(p->last)->undo));
        (void) see_off(c, alone);
    }
}

void
round_undo(KvssCoordinator *c)
{
    c->window_end_us = 0;
    undo_writers(c);
    undo_providers(c);
}

bool
round_end(KvssCoordinator *c, KvssStepId id)
{
    g_autoptr(GPtrArray) calls = calls_new();
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        /* A restore has no BackupShutdown: PostRestore is its end, good or bad. */
        if (!is_receiver(p, id) || p->last == KVSS_STEP_N || p->was_shut_down
            || p->last == KVSS_STEP_PRE_RESTORE || p->last == KVSS_STEP_POST_RESTORE)
            continue;
        p->was_shut_down = id == KVSS_STEP_BACKUP_SHUTDOWN;
        if (id == KVSS_STEP_DELETE_SNAPSHOTS)
            p->last = id;
        g_ptr_array_add(calls, post(c, p, id));
    }
    return see_off(c, calls);
}
