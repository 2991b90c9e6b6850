/*
 * test-coordinator.c - the sequence when all goes well, its rules, its words
 *
 * What happens when something goes wrong at any event is in tests/fault.
 */
#include "coordinator/coordinator.h"
#include "fault/fixture.h"
#include "provider/provider.h"
#include "stream/source.h"
#include "writer/writer.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WHOLE_WRITER \
    "Identify PrepareForBackup PrepareForSnapshot Freeze Thaw PostSnapshot BackupComplete " \
    "BackupShutdown"
#define WHOLE_PROVIDER \
    "BeginPrepareSnapshot EndPrepareSnapshots PreCommitSnapshots CommitSnapshots " \
    "PostCommitSnapshots PreFinalCommitSnapshots PostFinalCommitSnapshots DeleteSnapshots"

static void
assert_history(Script *script, const char *expected)
{
    g_autofree char *history = script_history(script);

    g_assert_cmpstr(history, ==, expected);
}

/* Every writer and provider sees all events, once, in order; nothing is held in the end. */
static void
test_whole(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 2, 2);
    g_autoptr(GError) error = NULL;

    fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(f->set->components->len, ==, 4);
    g_assert_cmpuint(script_held(f->writer_script[0]), ==, 0);
    g_assert_cmpuint(script_held(f->provider_script[0]), ==, 1 + 4);
    g_assert_cmpfloat(kvss_snapshot_set_skew_ms(f->set), >=, 0);
    g_assert_cmpint(kvss_writer_status(f->writer[0], NULL), ==,
                    KVSS_WS_WAITING_FOR_BACKUP_COMPLETE);
    g_assert_cmpint(kvss_provider_status(f->provider[1], NULL), ==, KVSS_SS_CREATED);

    g_assert_true(kvss_coordinator_backup_complete(f->c, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    g_assert_cmpint(kvss_writer_status(f->writer[0], NULL), ==, KVSS_WS_STABLE);
    g_assert_cmpint(kvss_provider_status(f->provider[1], NULL), ==, KVSS_SS_DELETED);

    fixture_end(f);
    for (guint i = 0; i < 2; i++) {
        assert_history(f->writer_script[i], WHOLE_WRITER);
        assert_history(f->provider_script[i], WHOLE_PROVIDER);
    }
}

/* A shadow copy's disk reads as its provider says; each provider has its own disks. */
static void
test_open(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 2);
    g_autoptr(GError) error = NULL;
    KvssComponent *component;

    g_assert_true(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    component = g_ptr_array_index(f->set->components, 0);
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);
        g_autoptr(GBytes) expected = fake_provider_content(component, disk);
        g_autoptr(KvssSource) source = kvss_coordinator_open(f->c, component, disk, &error);
        g_autofree char *buffer = g_malloc(disk->size);

        g_assert_no_error(error);
        g_assert_true(kvss_coordinator_provider_of(f->c, disk) == f->provider[i]);
        g_assert_true(kvss_source_read(source, 0, buffer, disk->size, &error));
        g_assert_cmpmem(buffer, disk->size, g_bytes_get_data(expected, NULL), disk->size);
    }
}

/* The history names every event with its receiver, in the order of the table. */
static void
test_history(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;
    GArray *history;
    gint64 last_us = 0;

    g_assert_true(fixture_backup(f, KVSS_PHASE_COMPLETE, &error));
    history = kvss_coordinator_history(f->c);
    g_assert_cmpuint(history->len, ==, KVSS_STEP_DELETE_SNAPSHOTS + 1);
    for (guint i = 0; i < history->len; i++) {
        const KvssEventRecord *record = &g_array_index(history, KvssEventRecord, i);

        g_assert_cmpstr(record->event, ==, kvss_step(i)->name);
        g_assert_cmpstr(record->who, ==,
                        kvss_step(i)->receiver == KVSS_RECEIVER_WRITERS ? "web" : "any");
        g_assert_cmpuint(record->result, ==, KVSS_S_OK);
        g_assert_cmpint(record->start_us, >=, last_us);
        g_assert_cmpint(record->end_us, >=, record->start_us);
        last_us = record->start_us;
    }
}

/* A writer that has no component in the set hears nothing after Identify. */
static void
test_uninvolved(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 1, 2);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_coordinator_gather(f->c, &error));
    g_assert_true(kvss_coordinator_select(f->c, "db-0", &error));
    g_assert_true(kvss_coordinator_select(f->c, "db-0", &error));
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, &error));
    g_assert_true(kvss_coordinator_do_snapshot_set(f->c, &error));
    g_assert_true(kvss_coordinator_backup_complete(f->c, &error));
    g_assert_cmpuint(f->set->components->len, ==, 1);

    fixture_end(f);
    assert_history(f->writer_script[0], "Identify");
    assert_history(f->writer_script[1], WHOLE_WRITER);
}

static void
test_selection(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_coordinator_gather(f->c, &error));
    g_assert_false(kvss_coordinator_select(f->c, "web", &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND);
    g_clear_error(&error);

    g_assert_false(kvss_coordinator_prepare_for_backup(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOTHING);
    g_clear_error(&error);

    /* Nothing was changed by either. */
    g_assert_true(kvss_coordinator_select(f->c, "web-0", &error));
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, &error));
}

/* A demanded provider is used, or nothing is. */
static void
test_demand(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 2);
    g_autoptr(GError) error = NULL;

    kvss_coordinator_demand_provider(f->c, "left");
    g_assert_false(fixture_backup(f, KVSS_PHASE_PREPARE, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_UNSUPPORTED);
    g_assert_cmpstr(error->message, ==,
                    "web-0: vdb: no provider can cut this disk: left: cuts vda only "
                    "(VSS_E_VOLUME_NOT_SUPPORTED, 0x8004230C)");
    g_assert_cmpuint(kvss_coordinator_failure(f->c), ==, KVSS_E_VOLUME_NOT_SUPPORTED);
    fixture_end(f);
    assert_history(f->provider_script[0], "");
}

static void
test_demand_unknown(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    kvss_coordinator_demand_provider(f->c, "zfs");
    g_assert_false(fixture_backup(f, KVSS_PHASE_PREPARE, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "there is no provider zfs"));
}

static void
add_disk(gpointer data)
{
    KvssWriter *writer = data;
    KvssComponent *component = g_ptr_array_index(writer->components, 0);

    kvss_component_add_disk(component, "vdb")->size = 4096;
}

/* A disk that appears in PrepareForBackup gets its provider, and that one is begun. */
static void
test_late_disk(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 2);
    g_autoptr(GError) error = NULL;
    KvssComponent *component;

    g_assert_true(fixture_select_all(f, &error));
    component = g_ptr_array_index(f->set->components, 0);
    g_ptr_array_set_size(component->disks, 1);
    script_on(f->writer_script[0], "PrepareForBackup", add_disk, f->writer[0]);

    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, &error));
    g_assert_true(kvss_coordinator_do_snapshot_set(f->c, &error));
    g_assert_cmpstr(kvss_component_find_disk(component, "vdb")->provider, ==, "right");
    g_assert_cmpuint(script_held(f->provider_script[1]), ==, 2);
    g_assert_true(kvss_coordinator_backup_complete(f->c, &error));
    fixture_end(f);
    assert_history(f->provider_script[0], WHOLE_PROVIDER);
    assert_history(f->provider_script[1], WHOLE_PROVIDER);
}

/* The sentence for people: writer, event, each component with its message, code, number. */
static void
test_message(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 2, 1);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[0], "PrepareForSnapshot", 1, KVSS_E_WRITERERROR_TIMEOUT);
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED);
    g_assert_cmpstr(error->message, ==,
                    "writer web: PrepareForSnapshot: web-1: refuses PrepareForSnapshot "
                    "(VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)");
    g_assert_cmpuint(kvss_coordinator_failure(f->c), ==, KVSS_E_WRITERERROR_TIMEOUT);
}

static void
test_message_provider(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 2, 1);
    g_autoptr(GError) error = NULL;

    script_throw(f->provider_script[0], "CommitSnapshots",
                 g_error_new(KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "/scratch is full"));
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_PROVIDER_FAILED);
    g_assert_cmpstr(error->message, ==,
                    "provider any: CommitSnapshots: /scratch is full "
                    "(VSS_E_INSUFFICIENT_STORAGE, 0x8004231F)");
}

/* A hung writer's message names all its VMs: which of them hangs is not known. */
static void
test_message_timeout(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 2, 1);
    g_autoptr(GError) error = NULL;

    f->limits.step_ms[KVSS_STEP_PREPARE_FOR_SNAPSHOT] = 20;
    f->limits.grace_ms = 10;
    fixture_apply_limits(f);
    script_stall(f->writer_script[0], "PrepareForSnapshot", SCRIPT_FOR_EVER, true);
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT);
    g_assert_true(g_str_has_prefix(error->message,
                                   "writer web: PrepareForSnapshot: no answer within "));
    g_assert_true(g_str_has_suffix(error->message,
                                   ": web-0, web-1 (VSS_E_WRITER_NOT_RESPONDING, 0x80042319)"));
}

/* One of two writers drops out at Identify: the other one's set is whole. */
static void
test_drop_out(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 1, 1);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[0], "Identify", 0, KVSS_E_WRITERERROR_NONRETRYABLE);
    g_assert_true(fixture_backup(f, KVSS_PHASE_COMPLETE, &error));
    g_assert_cmpint(kvss_writer_status(f->writer[0], NULL), ==, KVSS_WS_FAILED_AT_IDENTIFY);
    g_assert_cmpuint(kvss_coordinator_failure(f->c), ==, KVSS_S_OK);
}

static void
test_drop_out_all(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[0], "Identify", 0, KVSS_E_WRITERERROR_NONRETRYABLE);
    g_assert_false(kvss_coordinator_gather(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED);
}

/* The requester gives up: before PostSnapshot Abort, after it BackupShutdown. */
static void
test_abort(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Fixture) early = fixture_new(1, 1, 1);
    g_autoptr(Fixture) late = fixture_new(1, 1, 1);

    g_assert_true(fixture_backup(early, KVSS_PHASE_PREPARE, &error));
    kvss_coordinator_abort(early->c);
    kvss_coordinator_abort(early->c);
    g_assert_cmpuint(fixture_held(early), ==, 0);
    fixture_end(early);
    assert_history(early->writer_script[0], "Identify PrepareForBackup Abort BackupShutdown");
    assert_history(early->provider_script[0], "BeginPrepareSnapshot AbortSnapshots");

    g_assert_true(fixture_backup(late, KVSS_PHASE_SNAPSHOT, &error));
    fixture_end(late);
    g_assert_cmpuint(fixture_held(late), ==, 0);
    assert_history(late->writer_script[0],
                   "Identify PrepareForBackup PrepareForSnapshot Freeze Thaw PostSnapshot "
                   "BackupShutdown");
    g_assert_cmpuint(script_count(late->provider_script[0], "AbortSnapshots"), ==, 1);
}

/* It is too late to interrupt a backup that is kept. */
static void
test_cancel_at_complete(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    g_assert_true(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_cancellable_cancel(f->user);
    script_stall(f->writer_script[0], "BackupComplete", 20, false);
    g_assert_true(kvss_coordinator_backup_complete(f->c, &error));
    g_assert_no_error(error);
}

static void
nap(gpointer data)
{
    g_usleep(GPOINTER_TO_UINT(data) * 1000);
}

/* The window is over before the thaw began on a machine that is busy: then more time is given. */
#define FACTOR_MAX 64

/* Returns: false if the machine was too slow for the window. */
static bool
try_late_thaw(unsigned factor)
{
    g_autoptr(Fixture) f = fixture_new(2, 1, 1);
    g_autoptr(GError) error = NULL;
    KvssWriterState state;
    KvssHresult failure;

    f->limits.window_ms = 60 * factor;
    f->limits.grace_ms = 1000 * factor;
    fixture_apply_limits(f);
    script_on(f->writer_script[1], "Thaw", nap, GUINT_TO_POINTER(200 * factor));
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT);
    state = kvss_writer_status(f->writer[1], &failure);
    if (state != KVSS_WS_FAILED_AT_THAW && factor < FACTOR_MAX)
        return false;
    g_assert_true(g_str_has_prefix(error->message, "shadow copy made, consistency lost: "));
    g_assert_cmpint(state, ==, KVSS_WS_FAILED_AT_THAW);
    g_assert_cmpuint(failure, ==, KVSS_E_WRITERERROR_TIMEOUT);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    return true;
}

/* All answer well, but not in time: as after a SIGSTOP of this process. */
static void
test_late_thaw(void)
{
    for (unsigned factor = 1; !try_late_thaw(factor); factor *= 4)
        ;
}

/* Stops this whole process for so many milliseconds. */
static void
stop(gpointer data)
{
    pid_t parent = getpid();
    pid_t child = fork();

    if (child == 0) {
        g_usleep(GPOINTER_TO_UINT(data) * 1000);
        kill(parent, SIGCONT);
        _exit(0);
    }
    g_assert_cmpint(child, >, 0);
    raise(SIGSTOP);
    waitpid(child, NULL, 0);
}

static bool
try_stopped(unsigned factor)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    f->limits.window_ms = 200 * factor;
    fixture_apply_limits(f);
    script_on(f->writer_script[0], "Thaw", stop, GUINT_TO_POINTER(300 * factor));
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT);
    if (script_count(f->writer_script[0], "Thaw") == 0 && factor < FACTOR_MAX)
        return false;
    g_assert_true(g_str_has_prefix(error->message, "shadow copy made, consistency lost: "));
    g_assert_nonnull(strstr(error->message, "web-0"));
    g_assert_cmpint(kvss_writer_status(f->writer[0], NULL), ==, KVSS_WS_FAILED_AT_THAW);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    return true;
}

/* Nobody could have kept the limit, and nobody may call this consistent. */
static void
test_stopped(void)
{
    for (unsigned factor = 1; !try_stopped(factor); factor *= 4)
        ;
}

/* Wrong calls are told and change nothing. */
static void
test_bad_state(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_coordinator_do_snapshot_set(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_BAD_STATE);
    g_assert_cmpstr(error->message, ==,
                    "do_snapshot_set does not fit: the set is new, not prepared "
                    "(VSS_E_BAD_STATE, 0x80042301)");
    g_clear_error(&error);
    g_assert_true(fixture_backup(f, KVSS_PHASE_COMPLETE, &error));
}

/* --- restore ----------------------------------------------------------------------- */

static void
set_status(Fixture *f, KvssRestoreStatus status)
{
    for (guint i = 0; i < f->set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(f->set->components, i);

        component->restore_status = status;
    }
}

static void
test_restore(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 1, 0);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_coordinator_gather(f->c, &error));
    kvss_coordinator_take_component(f->c, f->writer[0], kvss_component_new("uuid", "gone"));
    g_assert_true(kvss_coordinator_pre_restore(f->c, &error));
    g_assert_cmpuint(fixture_held(f), ==, 1);
    set_status(f, KVSS_RS_ALL);
    g_assert_true(kvss_coordinator_post_restore(f->c, &error));
    fixture_end(f);
    assert_history(f->writer_script[0], "Identify PreRestore PostRestore");
    assert_history(f->writer_script[1], "Identify");
}

/* Not all was written: the writer's PostRestore fails, state 14. */
static void
test_restore_failed(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 0);
    g_autoptr(GError) error = NULL;

    g_assert_true(fixture_select_all(f, &error));
    g_assert_true(kvss_coordinator_pre_restore(f->c, &error));
    set_status(f, KVSS_RS_FAILED);
    g_assert_false(kvss_coordinator_post_restore(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED);
    g_assert_cmpint(kvss_writer_status(f->writer[0], NULL), ==, KVSS_WS_FAILED_AT_POST_RESTORE);
}

/* One PreRestore fails: both writers put back what they had set aside. */
static void
test_pre_restore_refused(void)
{
    g_autoptr(Fixture) f = fixture_new(2, 2, 0);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[1], "PreRestore", 1, KVSS_E_WRITERERROR_NONRETRYABLE);
    g_assert_true(fixture_select_all(f, &error));
    g_assert_false(kvss_coordinator_pre_restore(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED);
    g_assert_nonnull(strstr(error->message, "db-1"));
    g_assert_cmpuint(fixture_held(f), ==, 0);
    g_assert_cmpint(kvss_writer_status(f->writer[1], NULL), ==, KVSS_WS_FAILED_AT_PRE_RESTORE);
    fixture_end(f);
    assert_history(f->writer_script[0], "Identify PreRestore PostRestore");
    assert_history(f->writer_script[1], "Identify PreRestore PostRestore");
}

/* The requester goes away between the two. */
static void
test_restore_given_up(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 2, 0);
    g_autoptr(GError) error = NULL;

    g_assert_true(fixture_select_all(f, &error));
    g_assert_true(kvss_coordinator_pre_restore(f->c, &error));
    g_assert_cmpuint(fixture_held(f), ==, 2);
    fixture_end(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    assert_history(f->writer_script[0], "Identify PreRestore PostRestore");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/coordinator/whole", test_whole);
    g_test_add_func("/coordinator/open", test_open);
    g_test_add_func("/coordinator/history", test_history);
    g_test_add_func("/coordinator/uninvolved", test_uninvolved);
    g_test_add_func("/coordinator/selection", test_selection);
    g_test_add_func("/coordinator/demand", test_demand);
    g_test_add_func("/coordinator/demand-unknown", test_demand_unknown);
    g_test_add_func("/coordinator/late-disk", test_late_disk);
    g_test_add_func("/coordinator/message", test_message);
    g_test_add_func("/coordinator/message-provider", test_message_provider);
    g_test_add_func("/coordinator/message-timeout", test_message_timeout);
    g_test_add_func("/coordinator/drop-out", test_drop_out);
    g_test_add_func("/coordinator/drop-out-all", test_drop_out_all);
    g_test_add_func("/coordinator/abort", test_abort);
    g_test_add_func("/coordinator/cancel-at-complete", test_cancel_at_complete);
    g_test_add_func("/coordinator/late-thaw", test_late_thaw);
    g_test_add_func("/coordinator/stopped", test_stopped);
    g_test_add_func("/coordinator/bad-state", test_bad_state);
    g_test_add_func("/coordinator/restore", test_restore);
    g_test_add_func("/coordinator/restore-failed", test_restore_failed);
    g_test_add_func("/coordinator/pre-restore-refused", test_pre_restore_refused);
    g_test_add_func("/coordinator/restore-given-up", test_restore_given_up);
    return g_test_run();
}
