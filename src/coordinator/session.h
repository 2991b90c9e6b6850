/*
 * session.h - a thread for each writer and provider, so that one that hangs
 * hangs alone
 *
 * Private to the coordinator. A session runs the calls posted to it one after
 * the other. The coordinator waits for them with a deadline and goes on without
 * those that miss it; what is posted behind a stuck call runs when that comes
 * back, which is how a late Freeze still meets its Abort.
 *
 * Everything that a stuck call may touch is in the estate. The coordinator and
 * each session's thread hold it; the last to leave frees it. A thread that never
 * comes back therefore keeps its writer, its set and itself: leaked on purpose,
 * since nothing of them can be freed safely.
 */
#pragma once

#include "coordinator/events.h"
#include "provider/provider.h"
#include "writer/writer.h"

typedef struct Estate Estate;
typedef struct Session Session;

/** A writer or a provider, with the sessions that reach it. */
typedef struct {
    KvssWriter *writer;     /* one of the two */
    KvssProvider *provider;
    Session *session;
    Session *spare;         /* (nullable) for an Abort while the other one is stuck */
    bool is_involved;       /* holds a component or disk of the set */
    bool has_dropped_out;   /* failed at Identify */
    bool was_shut_down;     /* BackupShutdown was posted */
    KvssStepId last;        /* the last step forward that was posted; KVSS_STEP_N: none */
} Participant;

const char *participant_name(const Participant *p);

struct Estate {
    KvssSnapshotSet *set;
    GPtrArray *participants; /* Participant: writers first, then providers, as taken */
    GPtrArray *cancellables; /* GCancellable: every one the set has had of ours */

    GMutex lock;             /* guards the calls and the queues of all sessions */
    GCond changed;           /* a call was posted, began or ended; a session ends */
};

Estate *estate_new(void);
void estate_unref(Estate *estate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Estate, estate_unref)

/** Takes either one; the other is NULL. */
Participant *estate_take(Estate *estate, KvssWriter *writer, KvssProvider *provider);

/** One delivery. The fields below the line are guarded by the estate's lock. */
typedef struct {
    Estate *estate; /* borrowed: a session holds it */
    Participant *to;
    KvssStepId step;
    bool is_given_up;        /* the coordinator's own: it waits no longer */

    bool has_begun, is_done, ok;
    GError *error;           /* when not ok */
    KvssHresult result;
    gint64 start_us, end_us; /* UTC since 1970; the start is when it was posted until it begins */
} Call;

Call *call_ref(Call *call);
void call_unref(Call *call);

/** Posts one step. Returns: the call, to wait for. */
Call *session_post(Session *session, Participant *to, KvssStepId step);

Session *session_new(Estate *estate, const char *name);

/** Lets the thread end after what is posted; joins it, or leaves it behind if it is stuck. */
void session_end(Session *session);
