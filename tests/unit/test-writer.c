/*
 * test-writer.c - the wrapper: moments, states, codes, and calls that come too late
 */
#include "writer/fake/fake-writer.h"

#include <string.h>

typedef struct {
    Script *script;
    KvssWriter *writer;
    KvssSnapshotSet *set;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->script = script_new();
    f->writer = fake_writer_new(f->script, "web", 2);
    f->set = kvss_snapshot_set_new();
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_IDENTIFY, NULL, NULL));
    for (guint i = 0; i < 2; i++) {
        KvssComponent *component = g_ptr_array_index(f->writer->components, i);

        component->is_selected = true;
        g_ptr_array_add(f->set->components, component);
    }
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    kvss_writer_free(f->writer);
    kvss_snapshot_set_free(f->set);
    script_unref(f->script);
}

static void
assert_status(Fixture *f, KvssWriterState state, KvssHresult failure)
{
    KvssHresult seen;

    g_assert_cmpint(kvss_writer_status(f->writer, &seen), ==, state);
    g_assert_cmpuint(seen, ==, failure);
}

static void
test_states(Fixture *f, gconstpointer data)
{
    static const struct {
        KvssEvent event;
        KvssWriterState state;
    } steps[] = {
        { KVSS_EVENT_PREPARE_FOR_BACKUP, KVSS_WS_STABLE },
        { KVSS_EVENT_PREPARE_FOR_SNAPSHOT, KVSS_WS_WAITING_FOR_FREEZE },
        { KVSS_EVENT_FREEZE, KVSS_WS_WAITING_FOR_THAW },
        { KVSS_EVENT_THAW, KVSS_WS_WAITING_FOR_POST_SNAPSHOT },
        { KVSS_EVENT_POST_SNAPSHOT, KVSS_WS_WAITING_FOR_BACKUP_COMPLETE },
        { KVSS_EVENT_BACKUP_COMPLETE, KVSS_WS_STABLE },
    };

    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_assert_true(kvss_writer_may_send(f->writer, steps[i].event));
        g_assert_true(kvss_writer_send(f->writer, steps[i].event, f->set, NULL));
        g_assert_false(kvss_writer_may_send(f->writer, steps[i].event));
        assert_status(f, steps[i].state, KVSS_S_OK);
    }
}

/* A wrong moment is an error with the names people search for; nothing was called. */
static void
test_wrong_moment(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_FREEZE, f->set, &error));
    g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE);
    g_assert_cmpstr(error->message, ==,
                    "writer web: Freeze: does not fit after Identify in state VSS_WS_STABLE");
    g_assert_cmpuint(script_count(f->script, "Freeze"), ==, 0);
    assert_status(f, KVSS_WS_STABLE, KVSS_E_BAD_STATE);
}

static void
test_no_abort_after_post_snapshot(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    for (KvssEvent event = KVSS_EVENT_PREPARE_FOR_BACKUP; event <= KVSS_EVENT_POST_SNAPSHOT;
         event++)
        g_assert_true(kvss_writer_send(f->writer, event, f->set, NULL));
    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_ABORT, f->set, &error));
    g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE);
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_BACKUP_SHUTDOWN, f->set, NULL));
    g_assert_cmpuint(script_count(f->script, "Abort"), ==, 0);
}

static void
test_abort_twice(Fixture *f, gconstpointer data)
{
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, f->set, NULL));
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_SNAPSHOT, f->set, NULL));
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_ABORT, f->set, NULL));
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_ABORT, f->set, NULL));
    g_assert_cmpuint(script_held(f->script), ==, 0);
    assert_status(f, KVSS_WS_STABLE, KVSS_S_OK);
}

/* The code follows from the component that failed, else from the error. */
static void
test_codes(Fixture *f, gconstpointer data)
{
    const struct {
        GQuark domain;
        int code;
        KvssHresult expected;
    } codes[] = {
        { KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT, KVSS_E_WRITERERROR_TIMEOUT },
        { KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_TIMEOUT, KVSS_E_WRITERERROR_TIMEOUT },
        { KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, KVSS_E_WRITERERROR_OUTOFRESOURCES },
        { KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, KVSS_E_WRITERERROR_RETRYABLE },
        { KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_POLICY, KVSS_E_WRITERERROR_NONRETRYABLE },
    };

    for (guint i = 0; i < G_N_ELEMENTS(codes); i++) {
        Fixture g;
        g_autoptr(GError) error = NULL;

        set_up(&g, NULL);
        script_throw(g.script, "PrepareForBackup",
                     g_error_new(codes[i].domain, codes[i].code, "because"));
        g_assert_false(kvss_writer_send(g.writer, KVSS_EVENT_PREPARE_FOR_BACKUP, g.set, &error));
        g_assert_error(error, codes[i].domain, codes[i].code);
        g_assert_cmpstr(error->message, ==, "writer web: PrepareForBackup: because");
        assert_status(&g, KVSS_WS_FAILED_AT_PREPARE_BACKUP, codes[i].expected);
        tear_down(&g, NULL);
    }

    script_refuse(f->script, "PrepareForBackup", 1, KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT);
    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, f->set, NULL));
    assert_status(f, KVSS_WS_FAILED_AT_PREPARE_BACKUP, KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT);
}

/* After a failure only the ways out are open, and they do not hide it. */
static void
test_after_failure(Fixture *f, gconstpointer data)
{
    g_autofree char *message = NULL;

    g_assert_null(kvss_writer_failure_message(f->writer));
    script_refuse(f->script, "PrepareForBackup", 0, KVSS_E_WRITERERROR_RETRYABLE);
    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, f->set, NULL));
    message = kvss_writer_failure_message(f->writer);
    g_assert_nonnull(message);
    g_assert_false(kvss_writer_may_send(f->writer, KVSS_EVENT_PREPARE_FOR_SNAPSHOT));
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_ABORT, f->set, NULL));
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_BACKUP_SHUTDOWN, f->set, NULL));
    assert_status(f, KVSS_WS_FAILED_AT_PREPARE_BACKUP, KVSS_E_WRITERERROR_RETRYABLE);
}

static bool
silent(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    return false;
}

/* An implementation that fails without a word still gives an error. */
static void
test_silent(Fixture *f, gconstpointer data)
{
    KvssWriterOps ops = *f->writer->ops;
    const KvssWriterOps *own = f->writer->ops;
    g_autoptr(GError) error = NULL;

    ops.prepare_for_backup = silent;
    f->writer->ops = &ops;
    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, f->set, &error));
    g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED);
    f->writer->ops = own;
}

/* A function that is NULL succeeds. */
static void
test_nothing_to_do(Fixture *f, gconstpointer data)
{
    const KvssWriterOps *own = f->writer->ops;
    KvssWriterOps none = { .class_id = own->class_id, .friendly_name = "none", .free = own->free };

    f->writer->ops = &none;
    for (KvssEvent event = KVSS_EVENT_PREPARE_FOR_BACKUP; event <= KVSS_EVENT_BACKUP_SHUTDOWN;
         event++)
        g_assert_true(kvss_writer_send(f->writer, event, f->set, NULL));
    f->writer->ops = own;
}

static gpointer
send_prepare(gpointer data)
{
    Fixture *f = data;
    GError *error = NULL;

    g_assert_false(kvss_writer_send(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, f->set, &error));
    return error;
}

/* A call that was given up comes back as a success: the verdict stays. */
static void
test_too_late(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    GThread *thread;

    script_stall(f->script, "PrepareForBackup", SCRIPT_FOR_EVER, true);
    thread = g_thread_new("stuck", send_prepare, f);
    while (script_count(f->script, "PrepareForBackup") == 0)
        g_usleep(1000);

    kvss_writer_fail(f->writer, KVSS_EVENT_PREPARE_FOR_BACKUP, KVSS_E_WRITER_NOT_RESPONDING);
    g_assert_true(kvss_writer_send(f->writer, KVSS_EVENT_ABORT, f->set, NULL));
    script_release(f->script);
    error = g_thread_join(thread);
    g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_TIMEOUT);
    assert_status(f, KVSS_WS_FAILED_AT_PREPARE_BACKUP, KVSS_E_WRITER_NOT_RESPONDING);
}

static void
test_involved(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssSnapshotSet) other = kvss_snapshot_set_new();

    g_assert_true(kvss_writer_is_involved(f->writer, f->set));
    g_assert_false(kvss_writer_is_involved(f->writer, other));
}

#define ADD(name, func) g_test_add("/writer/" name, Fixture, NULL, set_up, func, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("states", test_states);
    ADD("wrong-moment", test_wrong_moment);
    ADD("no-abort-after-post-snapshot", test_no_abort_after_post_snapshot);
    ADD("abort-twice", test_abort_twice);
    ADD("codes", test_codes);
    ADD("after-failure", test_after_failure);
    ADD("silent", test_silent);
    ADD("nothing-to-do", test_nothing_to_do);
    ADD("too-late", test_too_late);
    ADD("involved", test_involved);
    return g_test_run();
}
