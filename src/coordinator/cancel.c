/*
 * cancel.c - the set's cancellable
 *
 * Writers and providers look at one cancellable. The requester's own is not it,
 * since a failed neighbour and a passed limit trigger it as well, and because it
 * must live as long as a stuck call may look at it. So the set gets one of ours,
 * which the requester's triggers.
 */
#include "coordinator/private.h"

/*
 * A stuck call may still look at the old one, so that lives on in the estate. Who
 * reads the set's at this moment gets either: an event reads it once, as it begins.
 */
static void
fresh(KvssCoordinator *c)
{
    GCancellable *cancellable = g_cancellable_new();

    g_ptr_array_add(c->estate->cancellables, cancellable);
    g_mutex_lock(&c->estate->lock);
    c->cancellable = cancellable;
    g_mutex_unlock(&c->estate->lock);
    g_atomic_pointer_set(&c->set->cancellable, cancellable);
}

/* In whatever thread the requester cancels from. */
static void
on_user_cancelled(GCancellable *user, gpointer data)
{
    KvssCoordinator *c = data;
    GCancellable *ours;

    g_mutex_lock(&c->estate->lock);
    ours = c->cancellable;
    g_cond_broadcast(&c->estate->changed); /* the coordinator may be waiting */
    g_mutex_unlock(&c->estate->lock);
    g_cancellable_cancel(ours);
}

void
cancel_attach(KvssCoordinator *c)
{
    GCancellable *user = c->set->cancellable;

    if (c->cancellable && user == c->cancellable) {
        cancel_refresh(c); /* the requester has set no other one */
        return;
    }
    cancel_detach(c);
    fresh(c);
    if (!user)
        return;
    c->user = g_object_ref(user);
    c->user_handler = g_cancellable_connect(user, G_CALLBACK(on_user_cancelled), c, NULL);
}

void
cancel_detach(KvssCoordinator *c)
{
    if (!c->user)
        return;
    g_cancellable_disconnect(c->user, c->user_handler); /* waits for a running callback */
    g_clear_object(&c->user);
}

void
cancel_refresh(KvssCoordinator *c)
{
    if (g_cancellable_is_cancelled(c->cancellable))
        fresh(c);
}

bool
cancel_is_asked(const KvssCoordinator *c)
{
    return c->user && g_cancellable_is_cancelled(c->user);
}
