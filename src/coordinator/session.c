/*
 * session.c - a thread for each writer and provider
 */
#include "coordinator/session.h"

struct Session {
    Estate *estate; /* held */
    GThread *thread;
    GQueue queue;   /* Call; guarded by the estate's lock, like what follows */
    Call *current;
    bool is_ending;
};

/* --- the estate ---------------------------------------------------------- */

static void
participant_free(gpointer data)
{
    Participant *p = data;

    kvss_writer_free(p->writer);
    kvss_provider_free(p->provider);
    g_free(p);
}

Estate *
estate_new(void)
{
    Estate *estate = g_atomic_rc_box_new0(Estate);

    estate->set = kvss_snapshot_set_new();
    estate->participants = g_ptr_array_new_with_free_func(participant_free);
    estate->cancellables = g_ptr_array_new_with_free_func(g_object_unref);
    g_mutex_init(&estate->lock);
    g_cond_init(&estate->changed);
    return estate;
}

static void
estate_clear(gpointer data)
{
    Estate *estate = data;

    kvss_snapshot_set_free(estate->set);
    g_ptr_array_unref(estate->participants);
    g_ptr_array_unref(estate->cancellables);
    g_mutex_clear(&estate->lock);
    g_cond_clear(&estate->changed);
}

void
estate_unref(Estate *estate)
{
    g_atomic_rc_box_release_full(estate, estate_clear);
}

Participant *
estate_take(Estate *estate, KvssWriter *writer, KvssProvider *provider)
{
    Participant *p = g_new0(Participant, 1);

    g_assert(!writer != !provider);
    p->writer = writer;
    p->provider = provider;
    p->last = KVSS_STEP_N;
    g_ptr_array_add(estate->participants, p);
    return p;
}

const char *
participant_name(const Participant *p)
{
    return p->writer ? p->writer->ops->friendly_name : p->provider->ops->name;
}

/* --- calls --------------------------------------------------------------- */

static void
call_clear(gpointer data)
{
    Call *call = data;

    g_clear_error(&call->error);
}

Call *
call_ref(Call *call)
{
    return g_atomic_rc_box_acquire(call);
}

void
call_unref(Call *call)
{
    g_atomic_rc_box_release_full(call, call_clear);
}

/* The one place where a step becomes a call of a wrapper. */
static bool
deliver(const Call *call, KvssHresult *out_result, GError **error)
{
    const KvssStep *step = kvss_step(call->step);
    KvssSnapshotSet *set = call->estate->set;
    bool ok = true;

    if (call->to->writer) {
        ok = kvss_writer_send(call->to->writer, step->code, set, error);
        if (!ok)
            kvss_writer_status(call->to->writer, out_result);
        return ok;
    }

    if (call->step == KVSS_STEP_DELETE_SNAPSHOTS)
        kvss_provider_delete_copies(call->to->provider, set);
    else if (call->step == KVSS_STEP_ABORT_SNAPSHOTS)
        kvss_provider_abort(call->to->provider, set);
    else
        ok = kvss_provider_step(call->to->provider, step->code, set, error);
    if (!ok)
        kvss_provider_status(call->to->provider, out_result);
    return ok;
}

/* Called and left with the estate's lock held; not held over the call itself. */
static void
call_run(Call *call)
{
    g_autoptr(GError) error = NULL;
    KvssHresult result = KVSS_S_OK;
    bool ok;

    call->has_begun = true;
    call->start_us = g_get_real_time();
    g_cond_broadcast(&call->estate->changed);
    g_mutex_unlock(&call->estate->lock);

    ok = deliver(call, &result, &error);

    g_mutex_lock(&call->estate->lock);
    call->ok = ok;
    call->result = result;
    call->error = g_steal_pointer(&error);
    call->end_us = g_get_real_time();
    call->is_done = true;
    g_cond_broadcast(&call->estate->changed);
}

/* --- sessions ------------------------------------------------------------ */

static gpointer
session_run(gpointer data)
{
    Session *session = data;
    Estate *estate = session->estate;

    g_mutex_lock(&estate->lock);
    for (;;) {
        session->current = g_queue_pop_head(&session->queue);
        if (session->current) {
            call_run(session->current);
            g_clear_pointer(&session->current, call_unref);
        } else if (session->is_ending) {
            break;
        } else {
            g_cond_wait(&estate->changed, &estate->lock);
        }
    }
    g_mutex_unlock(&estate->lock);

    g_free(session);
    estate_unref(estate); /* last: this may free the writer and the set */
    return NULL;
}

Session *
session_new(Estate *estate, const char *name)
{
    Session *session = g_new0(Session, 1);

    session->estate = g_atomic_rc_box_acquire(estate);
    g_queue_init(&session->queue);
    session->thread = g_thread_new(name, session_run, session);
    return session;
}

Call *
session_post(Session *session, Participant *to, KvssStepId step)
{
    Call *call = g_atomic_rc_box_new0(Call);

    call->estate = session->estate;
    call->to = to;
    call->step = step;
    call->start_us = g_get_real_time();

    g_mutex_lock(&session->estate->lock);
    g_queue_push_tail(&session->queue, call_ref(call));
    g_cond_broadcast(&session->estate->changed);
    g_mutex_unlock(&session->estate->lock);
    return call;
}

void
session_end(Session *session)
{
    Estate *estate;
    GThread *thread;
    bool is_stuck;

    if (!session)
        return;
    estate = session->estate;
    thread = session->thread;

    g_mutex_lock(&estate->lock);
    /* Whoever still has work now has outstayed every limit and grace. */
    is_stuck = session->current || !g_queue_is_empty(&session->queue);
    session->is_ending = true;
    g_cond_broadcast(&estate->changed);
    g_mutex_unlock(&estate->lock); /* from here on the thread may free the session */

    if (is_stuck)
        g_thread_unref(thread);
    else
        g_thread_join(thread);
}
