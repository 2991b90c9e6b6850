/*
 * writer.c - the one place that calls a writer
 *
 * Which event may follow which, and where each one leads, is the table below. A
 * wrong moment is the caller's error and changes nothing.
 *
 * A call may be stuck while the coordinator gives up on the writer and sends
 * Abort from another thread. Each call therefore takes a ticket, and only the
 * holder of the newest one moves the state: what a late call says is dropped.
 */
#include "writer/writer.h"

G_DEFINE_QUARK(kvss-writer-error-quark, kvss_writer_error)

#define NOTHING (1u << KVSS_EVENT_N)
#define AFTER(event) (1u << KVSS_EVENT_##event)
#define ANYTHING (~0u)

typedef struct {
    unsigned may_follow;    /* the events that may have been the last before it */
    bool even_failed;       /* comes to a writer that has failed, too */
    KvssWriterState done;   /* state after success; UNKNOWN: STABLE. A failed writer stays failed */
    KvssWriterState failed; /* state after failure; UNKNOWN: cannot fail */
} Move;

/* PostSnapshot ends the time of Abort: from there on BackupShutdown cleans up. */
static const Move moves[KVSS_EVENT_N] = {
    [KVSS_EVENT_IDENTIFY] = { NOTHING, false, KVSS_WS_STABLE, KVSS_WS_FAILED_AT_IDENTIFY },
    [KVSS_EVENT_PREPARE_FOR_BACKUP] = { AFTER(IDENTIFY), false, KVSS_WS_STABLE,
                                        KVSS_WS_FAILED_AT_PREPARE_BACKUP },
    [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = { AFTER(PREPARE_FOR_BACKUP), false,
                                          KVSS_WS_WAITING_FOR_FREEZE,
                                          KVSS_WS_FAILED_AT_PREPARE_SNAPSHOT },
    [KVSS_EVENT_FREEZE] = { AFTER(PREPARE_FOR_SNAPSHOT), false, KVSS_WS_WAITING_FOR_THAW,
                            KVSS_WS_FAILED_AT_FREEZE },
    [KVSS_EVENT_THAW] = { AFTER(FREEZE), false, KVSS_WS_WAITING_FOR_POST_SNAPSHOT,
                          KVSS_WS_FAILED_AT_THAW },
    [KVSS_EVENT_POST_SNAPSHOT] = { AFTER(THAW), false, KVSS_WS_WAITING_FOR_BACKUP_COMPLETE,
                                   KVSS_WS_FAILED_AT_POST_SNAPSHOT },
    [KVSS_EVENT_BACKUP_COMPLETE] = { AFTER(POST_SNAPSHOT), false, KVSS_WS_STABLE,
                                     KVSS_WS_FAILED_AT_BACKUP_COMPLETE },
    [KVSS_EVENT_BACKUP_SHUTDOWN] = { ANYTHING, true, KVSS_WS_UNKNOWN,
                                     KVSS_WS_FAILED_AT_BACKUPSHUTDOWN },
    [KVSS_EVENT_ABORT] = { NOTHING | AFTER(IDENTIFY) | AFTER(PREPARE_FOR_BACKUP)
                               | AFTER(PREPARE_FOR_SNAPSHOT) | AFTER(FREEZE) | AFTER(THAW)
                               | AFTER(ABORT),
                           true, KVSS_WS_UNKNOWN, KVSS_WS_UNKNOWN },
    /* Again after PostRestore, when what it has begun to use is taken from it. */
    [KVSS_EVENT_PRE_RESTORE] = { NOTHING | AFTER(IDENTIFY) | AFTER(POST_RESTORE), false,
                                 KVSS_WS_STABLE, KVSS_WS_FAILED_AT_PRE_RESTORE },
    /* Also after a failed PreRestore: it puts back what was set aside. */
    [KVSS_EVENT_POST_RESTORE] = { AFTER(PRE_RESTORE), true, KVSS_WS_STABLE,
                                  KVSS_WS_FAILED_AT_POST_RESTORE },
};

void
kvss_writer_init(KvssWriter *writer, const KvssWriterOps *ops, const char *instance_name)
{
    g_assert(ops->class_id && ops->friendly_name && ops->free);

    writer->ops = ops;
    writer->instance_id = g_uuid_string_random();
    writer->instance_name = g_strdup(instance_name);
    writer->components = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);
    writer->level = KVSS_LEVEL_FRONT_END;
    writer->state = KVSS_WS_STABLE;
    writer->failure = KVSS_S_OK;
    writer->last = KVSS_EVENT_N;
    g_mutex_init(&writer->lock);
}

void
kvss_writer_clear(KvssWriter *writer)
{
    g_clear_pointer(&writer->instance_id, g_free);
    g_clear_pointer(&writer->instance_name, g_free);
    g_clear_pointer(&writer->failure_message, g_free);
    g_clear_pointer(&writer->components, g_ptr_array_unref);
    g_mutex_clear(&writer->lock);
}

void
kvss_writer_free(KvssWriter *writer)
{
    if (writer)
        writer->ops->free(writer);
}

static bool
has_failed(const KvssWriter *writer)
{
    return writer->state >= KVSS_WS_FAILED_AT_IDENTIFY;
}

static bool
may_send(const KvssWriter *writer, KvssEvent event)
{
    const Move *move = &moves[event];

    if (!(move->may_follow & (1u << writer->last)))
        return false;
    return move->even_failed || !has_failed(writer);
}

bool
kvss_writer_may_send(KvssWriter *writer, KvssEvent event)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    return may_send(writer, event);
}

/* With the lock held. */
static void
enter(KvssWriter *writer, KvssWriterState next)
{
    g_debug("writer %s: %s -> %s", writer->ops->friendly_name,
            kvss_writer_state_name(writer->state), kvss_writer_state_name(next));
    writer->state = next;
}

static void
enter_failed(KvssWriter *writer, KvssEvent event, KvssHresult code, const char *message)
{
    /* The first failure stays: what fails while cleaning up must not hide it. */
    if (writer->failure == KVSS_S_OK) {
        writer->failure = code;
        kvss_set_string(&writer->failure_message, message);
    }
    if (!has_failed(writer) && moves[event].failed != KVSS_WS_UNKNOWN)
        enter(writer, moves[event].failed);
}

static void
enter_done(KvssWriter *writer, KvssEvent event)
{
    KvssWriterState next = moves[event].done;

    if (has_failed(writer))
        return;
    enter(writer, next == KVSS_WS_UNKNOWN ? KVSS_WS_STABLE : next);
}

/* Returns: the ticket of this call; 0 at the wrong moment. */
static guint64
begin(KvssWriter *writer, KvssEvent event, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    if (!may_send(writer, event)) {
        if (writer->failure == KVSS_S_OK)
            writer->failure = KVSS_E_BAD_STATE;
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE,
                          "does not fit after %s in state %s",
                          writer->last == KVSS_EVENT_N ? "nothing" : kvss_event_name(writer->last),
                          kvss_writer_state_name(writer->state));
    }
    writer->last = event;
    return ++writer->ticket;
}

typedef bool (*EventFunc)(KvssWriter *writer, KvssSnapshotSet *set, GError **error);

/* The functions of one shape; NULL there and here: nothing to do. */
static EventFunc
event_func(const KvssWriterOps *ops, KvssEvent event)
{
    switch (event) {
    case KVSS_EVENT_PREPARE_FOR_BACKUP:
        return ops->prepare_for_backup;
    case KVSS_EVENT_PREPARE_FOR_SNAPSHOT:
        return ops->prepare_for_snapshot;
    case KVSS_EVENT_FREEZE:
        return ops->freeze;
    case KVSS_EVENT_THAW:
        return ops->thaw;
    case KVSS_EVENT_POST_SNAPSHOT:
        return ops->post_snapshot;
    case KVSS_EVENT_BACKUP_COMPLETE:
        return ops->backup_complete;
    case KVSS_EVENT_PRE_RESTORE:
        return ops->pre_restore;
    case KVSS_EVENT_POST_RESTORE:
        return ops->post_restore;
    default:
        return NULL;
    }
}

/* Abort and BackupShutdown have no way to fail; Identify has no set. */
static bool
call(KvssWriter *writer, KvssEvent event, KvssSnapshotSet *set, GError **error)
{
    const KvssWriterOps *ops = writer->ops;
    EventFunc func = event_func(ops, event);

    if (event == KVSS_EVENT_ABORT && ops->abort)
        ops->abort(writer, set);
    else if (event == KVSS_EVENT_BACKUP_SHUTDOWN && ops->backup_shutdown)
        ops->backup_shutdown(writer, set);
    else if (event == KVSS_EVENT_IDENTIFY && ops->identify)
        return ops->identify(writer, set ? g_atomic_pointer_get(&set->cancellable) : NULL, error);
    return !func || func(writer, set, error);
}

static KvssHresult
code_of(const KvssComponent *failed, const GError *error)
{
    if (failed)
        return failed->failure;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT)
        || g_error_matches(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_TIMEOUT))
        return KVSS_E_WRITERERROR_TIMEOUT;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE))
        return KVSS_E_WRITERERROR_OUTOFRESOURCES;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        return KVSS_E_WRITERERROR_RETRYABLE; /* nothing is wrong with the writer */
    return KVSS_E_WRITERERROR_NONRETRYABLE;
}

/*
 * Whatever speaks of a failure counts as one: false, an error, a component marked
 * (VSS's SetWriterFailure and return true). Abort has no way to fail.
 */
static void
settle(KvssEvent event, bool said_yes, const KvssComponent *failed, GError **error)
{
    if (*error || moves[event].failed == KVSS_WS_UNKNOWN)
        return;
    if (failed)
        kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED, "%s: %s",
                   failed->display_name, failed->failure_message);
    else if (!said_yes)
        kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                   "failed and did not say why");
}

/* Moves the state by what the call said, unless the call was given up meanwhile. */
static bool
finish(KvssWriter *writer, KvssEvent event, const KvssComponent *failed, guint64 ticket,
       GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    if (writer->ticket != ticket) {
        g_clear_error(error);
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_TIMEOUT,
                          "came back after it was given up");
    }
    if (*error) {
        enter_failed(writer, event, code_of(failed, *error), (*error)->message);
        return false;
    }
    enter_done(writer, event);
    return true;
}

static bool
deliver(KvssWriter *writer, KvssEvent event, KvssSnapshotSet *set, GError **error)
{
    gint64 start_us = g_get_monotonic_time();
    guint64 ticket = begin(writer, event, error);
    g_autoptr(GPtrArray) healthy = NULL;
    const KvssComponent *failed;
    bool said_yes;

    if (ticket == 0)
        return false;
    healthy = kvss_components_healthy(writer->components);
    said_yes = call(writer, event, set, error);
    failed = kvss_components_first_failed(healthy);
    settle(event, said_yes, failed, error);

    g_debug("writer %s: %s took %" G_GINT64_FORMAT " us%s%s", writer->ops->friendly_name,
            kvss_event_name(event), g_get_monotonic_time() - start_us, *error ? ": " : "",
            *error ? (*error)->message : "");
    return finish(writer, event, failed, ticket, error);
}

bool
kvss_writer_send(KvssWriter *writer, KvssEvent event, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GError) inner = NULL;

    g_assert((unsigned) event < KVSS_EVENT_N);
    g_assert(set || event == KVSS_EVENT_IDENTIFY);

    if (deliver(writer, event, set, &inner))
        return true;
    g_propagate_prefixed_error(error, g_steal_pointer(&inner), "writer %s: %s: ",
                               writer->ops->friendly_name, kvss_event_name(event));
    return false;
}

void
kvss_writer_fail(KvssWriter *writer, KvssEvent event, KvssHresult code)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    g_assert(code != KVSS_S_OK);
    writer->ticket++;
    enter_failed(writer, event, code, "it did not answer in time");
}

KvssWriterState
kvss_writer_status(KvssWriter *writer, KvssHresult *out_failure)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    if (out_failure)
        *out_failure = writer->failure;
    return writer->state;
}

char *
kvss_writer_failure_message(KvssWriter *writer)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writer->lock);

    return g_strdup(writer->failure_message);
}

bool
kvss_writer_has_dropped_out(const KvssWriter *writer)
{
    /* The lock is what is not const. */
    return kvss_writer_status((KvssWriter *) writer, NULL) == KVSS_WS_FAILED_AT_IDENTIFY;
}

bool
kvss_writer_is_involved(const KvssWriter *writer, const KvssSnapshotSet *set)
{
    if (kvss_writer_has_dropped_out(writer))
        return false;
    for (guint i = 0; i < writer->components->len; i++)
        if (g_ptr_array_find(set->components, g_ptr_array_index(writer->components, i), NULL))
            return true;
    return false;
}
