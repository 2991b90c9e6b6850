/*
 * writer.h - something that can make its data quiet and describe it
 *
 * The functions follow the life of a backup. Each may take up to its time
 * limit (coordinator/events.h) and looks at the cancellable it is given; each
 * handles all of the writer's chosen components. A function that fails records
 * what failed on the component concerned (kvss_component_fail) and in @error.
 */
#pragma once

#include "../vss/snapshot-set.h"

G_BEGIN_DECLS

typedef struct KvssWriter KvssWriter;

typedef struct {
    const char *class_id;      /* GUID of the kind of writer */
    const char *friendly_name;

    /* Declares the components: fills writer->components. Changes nothing. NULL: none. */
    bool (*identify)(KvssWriter *writer, GCancellable *cancellable, GError **error);

    /* Slow preparation: methods chosen, room checked. May fail freely. NULL: nothing to do. */
    bool (*prepare_for_backup)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /* The VM writer's real work. Returns when every component is quiet or cut, or has failed. */
    bool (*prepare_for_snapshot)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /* Bounded; the VM writer does nothing here. NULL: nothing to do. */
    bool (*freeze)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);
    bool (*thaw)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /* Guests go back to their prior state; fix-ups inside the shadow copy. */
    bool (*post_snapshot)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /* The requester is done with the shadow copies. */
    bool (*backup_complete)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /*
     * Undo everything. Cannot fail, may come several times and in any state, and
     * must be safe in another thread while a call of the same writer is stuck: it
     * comes then, and once more when the stuck call has come back. Does not look
     * at the cancellable, which has been triggered by now.
     */
    void (*abort)(KvssWriter *writer, KvssSnapshotSet *set);

    /* Last chance to clean up, after good and bad; may come without anything before it. */
    void (*backup_shutdown)(KvssWriter *writer, KvssSnapshotSet *set);

    /* Restore: stop and set aside what is in the way; then register by restore_status. */
    bool (*pre_restore)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);
    bool (*post_restore)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

    /*
     * Ends with kvss_writer_clear() and frees the struct. Comes from the thread
     * that ends last: if a call was stuck, that may be after the coordinator.
     */
    void (*free)(KvssWriter *writer);
} KvssWriterOps;

struct KvssWriter {
    const KvssWriterOps *ops;
    char *instance_id;     /* fresh GUID per run */
    char *instance_name;   /* "kvss VM writer, qemu:///system" */
    KvssApplicationLevel level; /* its turn at Freeze and Thaw; may change in Identify only */
    GPtrArray *components; /* (element-type KvssComponent) owned */

    KvssWriterState state; /* moved by the wrapper only */
    KvssHresult failure;   /* first error; KVSS_S_OK when none */
    char *failure_message; /* (nullable) what it said with that */

    /* The wrapper's own. The lock guards these, state and failures; never held over a call. */
    GMutex lock;
    KvssEvent last;        /* delivered last; KVSS_EVENT_N: none yet */
    guint64 ticket;        /* of the call whose answer still counts */
};

/** For implementations: sets up the common part. */
void kvss_writer_init(KvssWriter *writer, const KvssWriterOps *ops, const char *instance_name);
/** For implementations' free(): frees the common part, not the struct. */
void kvss_writer_clear(KvssWriter *writer);

/**
 * kvss_writer_send:
 * @set: NULL only for Identify, which then cannot be interrupted
 *
 * Delivers one event: checks that the events before it allow it (the table is in
 * writer.c), calls the implementation, times it, moves the state (a failure moves
 * to FAILED_AT_...), prefixes errors with the writer's name and the event's. A
 * function that is NULL succeeds. Does not enforce the time limit: the
 * coordinator does.
 *
 * Anything that speaks of a failure is one: false, an error set, or a component
 * marked with kvss_component_fail() meanwhile (VSS: SetWriterFailure, return true).
 * The failure code is that of the first component that failed in the event, else it
 * follows from the error. An event at the wrong moment is KVSS_WRITER_ERROR_BAD_STATE
 * and leaves the state alone. A call that comes back after kvss_writer_fail() or
 * an Abort has no say in the state any more and is KVSS_WRITER_ERROR_TIMEOUT.
 *
 * Errors: KVSS_WRITER_ERROR, or the implementation's. @error is set whenever
 * false is returned, and writer->failure is not S_OK then.
 * Threads: one event at a time; Abort at any time.
 */
bool kvss_writer_send(KvssWriter *writer, KvssEvent event, KvssSnapshotSet *set, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_writer_fail:
 *
 * The coordinator's verdict on a writer that passed its limit in @event: moves to
 * FAILED_AT_..., and what the stuck call answers later does not count. The first
 * failure code stays. Threads: any.
 */
void kvss_writer_fail(KvssWriter *writer, KvssEvent event, KvssHresult code);

/**
 * kvss_writer_status:
 * @out_failure: (optional) its first error; KVSS_S_OK when none
 *
 * GatherWriterStatus for one writer. Threads: any.
 */
KvssWriterState kvss_writer_status(KvssWriter *writer, KvssHresult *out_failure);

/** What it said with its first error; NULL when there was none. Free with g_free. Threads: any. */
char *kvss_writer_failure_message(KvssWriter *writer);

/** Would kvss_writer_send() deliver this event now? */
bool kvss_writer_may_send(KvssWriter *writer, KvssEvent event);

/**
 * True if it failed at Identify. It takes no part, and its components are not to be looked
 * at: they are half of the truth, and an Identify that hangs may still add to them.
 */
bool kvss_writer_has_dropped_out(const KvssWriter *writer);

/** True if one of @writer's components is chosen in @set. */
bool kvss_writer_is_involved(const KvssWriter *writer, const KvssSnapshotSet *set);

void kvss_writer_free(KvssWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssWriter, kvss_writer_free)

typedef enum {
    KVSS_WRITER_ERROR_FAILED,       /* a component failed; its message says how */
    KVSS_WRITER_ERROR_POLICY,       /* the method demanded cannot be had */
    KVSS_WRITER_ERROR_TIMEOUT,      /* not quiet within the limit */
    KVSS_WRITER_ERROR_BAD_STATE,    /* the event does not fit the state */
    KVSS_WRITER_ERROR_REFUSED,      /* something of others is in the way */
} KvssWriterError;

#define KVSS_WRITER_ERROR (kvss_writer_error_quark())
GQuark kvss_writer_error_quark(void);

G_END_DECLS
