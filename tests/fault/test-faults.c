/*
 * test-faults.c - one thing goes wrong at one event: nothing is left of the set
 *
 * Every event x every kind of fault x 1, 2, 8 components x 1, 2 writers x 1, 2
 * providers. Whatever happens, in the end no component stands still, no shadow
 * copy lives, states and codes are right, nobody was told of a success, and the
 * histories obey the rules of Abort.
 */
#include "fault/fixture.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef enum {
    REFUSE,      /* fails, with part of the work done */
    STALL,       /* passes its limit, but comes back when it is cancelled */
    HANG,        /* passes its limit and does not come back before the test lets it: then it acts */
    CANCEL,      /* the requester cancels while it works */
    CRASH,       /* dies, and holds nothing any more; says no to everything after */
    LATE_REFUSAL, /* as HANG, but then it fails */
    YES_WITH_ERROR, /* answers in two ways; the same four as ScriptAnswer */
    NO_WITHOUT_ERROR,
    YES_BUT_FAILED,
    TWO_FAILURES,
    N_FAULTS
} Fault;

static const char *const fault_names[N_FAULTS] = {
    "refuse",        "stall",          "hang",             "cancel",         "crash",
    "late-refusal",  "yes-with-error", "no-without-error", "yes-but-failed", "two-failures",
};

typedef struct {
    Fault fault;
    KvssStepId step;
    guint n_writers, n_components, n_providers;
    guint component; /* that refuses; before which it dies */
    guint factor;    /* of the limits */
} Case;

/* Enough for a fake on a busy machine; a case where it was not is run again with more. */
#define LIMIT_MS 100
#define GRACE_MS 50
#define N_TRIES 4

/* --- who it happens to -------------------------------------------------------- */

static bool
is_writers(const Case *k)
{
    return kvss_step(k->step)->receiver == KVSS_RECEIVER_WRITERS;
}

/* The last of its kind, so that the others have done their part before. */
static Script *
victim(const Case *k, Fixture *f)
{
    return is_writers(k) ? f->writer_script[k->n_writers - 1]
                         : f->provider_script[k->n_providers - 1];
}

static void
cancel(gpointer data)
{
    g_cancellable_cancel(data);
}

/* A code that it may return: others become one and the same. */
static KvssHresult
own_code(const Case *k)
{
    return is_writers(k) ? KVSS_E_WRITERERROR_OUTOFRESOURCES : KVSS_E_INSUFFICIENT_STORAGE;
}

/* Does it pass the limit? Does it come back only when the test lets it? */
static bool
is_timed_out(const Case *k)
{
    return k->fault == STALL || k->fault == HANG || k->fault == LATE_REFUSAL;
}

static bool
is_late(const Case *k)
{
    return k->fault == HANG || k->fault == LATE_REFUSAL;
}

/* Does the fault name one component? */
static bool
is_of_component(const Case *k)
{
    return k->step != KVSS_STEP_IDENTIFY
           && (k->fault == REFUSE || k->fault == YES_BUT_FAILED || k->fault == TWO_FAILURES);
}

static void
set_limits(const Case *k, Fixture *f)
{
    f->limits.step_ms[k->step] = LIMIT_MS * k->factor;
    f->limits.grace_ms = GRACE_MS * k->factor;
    fixture_apply_limits(f);
}

static void
arm(const Case *k, Fixture *f)
{
    const char *event = kvss_step(k->step)->name;
    Script *script = victim(k, f);

    if (is_timed_out(k)) {
        set_limits(k, f);
        script_stall(script, event, SCRIPT_FOR_EVER, is_late(k));
    }
    switch (k->fault) {
    case REFUSE:
    case LATE_REFUSAL:
        script_refuse(script, event, k->component, own_code(k));
        break;
    case CANCEL:
        script_on(script, event, cancel, f->user);
        script_stall(script, event, SCRIPT_FOR_EVER, false);
        break;
    case CRASH:
        script_crash(script, event, k->component);
        break;
    case STALL:
    case HANG:
        break;
    default:
        script_answer(script, event,
                      SCRIPT_ANSWER_YES_WITH_ERROR + (ScriptAnswer) (k->fault - YES_WITH_ERROR),
                      k->component, own_code(k));
    }
}

/* --- what must be true afterwards ------------------------------------------------ */

/* The component that a fault is about; NULL: none, or it is not known which. */
static KvssComponent *
culprit(const Case *k, Fixture *f)
{
    if (!is_of_component(k))
        return NULL;
    if (is_writers(k))
        return g_ptr_array_index(f->writer[k->n_writers - 1]->components, k->component);
    return g_ptr_array_index(f->set->components, k->component);
}

static const char *
victim_name(const Case *k, Fixture *f)
{
    return is_writers(k) ? f->writer[k->n_writers - 1]->ops->friendly_name
                         : f->provider[k->n_providers - 1]->ops->name;
}

/* Who, where, why, and the code's name and number at the end. */
static void
check_message(const Case *k, Fixture *f, const char *message)
{
    const char *event = kvss_step(k->step)->name;
    KvssHresult code = kvss_coordinator_failure(f->c);
    g_autofree char *who = g_strdup_printf("%s %s: %s: ", is_writers(k) ? "writer" : "provider",
                                           victim_name(k, f), event);
    g_autofree char *end = g_strdup_printf(" (%s, 0x%08X)", kvss_hresult_name(code), code);
    const KvssComponent *component = culprit(k, f);

    g_assert_nonnull(strstr(message, who));
    g_assert_true(g_str_has_suffix(message, end));
    g_assert_cmpint(g_str_has_prefix(message, "shadow copy made, consistency lost: "), ==,
                    k->step == KVSS_STEP_THAW);
    if (component)
        g_assert_nonnull(strstr(message, component->display_name));
    /* Which of its components hangs is not known: all are named. */
    for (guint i = 0; is_timed_out(k) && is_writers(k) && i < k->n_components; i++) {
        component = g_ptr_array_index(f->writer[k->n_writers - 1]->components, i);
        g_assert_nonnull(strstr(message, component->display_name));
    }
}

static void
check_error(const Case *k, Fixture *f, const GError *error)
{
    if (k->fault == CANCEL) {
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
        return;
    }
    if (is_timed_out(k))
        g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT);
    else
        g_assert_error(error, KVSS_COORDINATOR_ERROR,
                       is_writers(k) ? KVSS_COORDINATOR_ERROR_WRITER_FAILED
                                     : KVSS_COORDINATOR_ERROR_PROVIDER_FAILED);
    check_message(k, f, error->message);
}

/* The one that failed says so with its first code; nobody else does. */
static void
check_components(const Case *k, Fixture *f)
{
    for (guint i = 0; i < f->set->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(f->set->components, i);

        g_assert_cmpuint(component->failure, ==,
                         component == culprit(k, f) ? own_code(k) : KVSS_S_OK);
        g_assert_cmpint(component->failure_message != NULL, ==, component == culprit(k, f));
    }
}

static const KvssWriterState failed_at[KVSS_EVENT_N] = {
    [KVSS_EVENT_PREPARE_FOR_BACKUP] = KVSS_WS_FAILED_AT_PREPARE_BACKUP,
    [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = KVSS_WS_FAILED_AT_PREPARE_SNAPSHOT,
    [KVSS_EVENT_FREEZE] = KVSS_WS_FAILED_AT_FREEZE,
    [KVSS_EVENT_THAW] = KVSS_WS_FAILED_AT_THAW,
    [KVSS_EVENT_POST_SNAPSHOT] = KVSS_WS_FAILED_AT_POST_SNAPSHOT,
};

static KvssHresult
writer_code(const Case *k)
{
    if (is_of_component(k))
        return own_code(k);
    if (is_timed_out(k))
        return kvss_step(k->step)->in_window ? KVSS_E_WRITERERROR_TIMEOUT
                                             : KVSS_E_WRITER_NOT_RESPONDING;
    return k->fault == CANCEL ? KVSS_E_WRITERERROR_RETRYABLE : KVSS_E_WRITERERROR_NONRETRYABLE;
}

static void
check_writers(const Case *k, Fixture *f)
{
    for (guint i = 0; i < k->n_writers; i++) {
        bool is_victim = is_writers(k) && i == k->n_writers - 1;
        KvssHresult failure;
        KvssWriterState state = kvss_writer_status(f->writer[i], &failure);

        g_assert_cmpint(state, ==,
                        is_victim ? failed_at[kvss_step(k->step)->code] : KVSS_WS_STABLE);
        g_assert_cmpuint(failure, ==, is_victim ? writer_code(k) : KVSS_S_OK);
    }
}

static KvssHresult
provider_code(const Case *k)
{
    if (is_of_component(k))
        return own_code(k);
    if (k->fault == CANCEL)
        return KVSS_E_PROVIDER_VETO;
    return is_timed_out(k) && kvss_step(k->step)->in_window ? KVSS_E_HOLD_WRITES_TIMEOUT
                                                            : KVSS_E_UNEXPECTED_PROVIDER_ERROR;
}

static void
check_providers(const Case *k, Fixture *f)
{
    for (guint i = 0; i < k->n_providers; i++) {
        bool is_victim = !is_writers(k) && i == k->n_providers - 1;
        KvssHresult failure;

        g_assert_cmpint(kvss_provider_status(f->provider[i], &failure), ==, KVSS_SS_ABORTED);
        g_assert_cmpuint(failure, ==, is_victim ? provider_code(k) : KVSS_S_OK);
    }
}

/* Does a hanging PostSnapshot still hold its VM? Then only recovery can tell. */
static bool
may_hold_until_it_returns(const Case *k)
{
    return is_late(k) && k->step == KVSS_STEP_POST_SNAPSHOT;
}

static void
check_record(const Case *k, Fixture *f)
{
    GArray *history = kvss_coordinator_history(f->c);
    guint n = 0;

    for (guint i = 0; i < history->len; i++) {
        const KvssEventRecord *record = &g_array_index(history, KvssEventRecord, i);

        if (record->result == KVSS_S_OK)
            continue;
        g_assert_cmpstr(record->event, ==, kvss_step(k->step)->name);
        g_assert_cmpuint(record->result, ==, kvss_coordinator_failure(f->c));
        n++;
    }
    g_assert_cmpuint(n, ==, 1);
}

/* --- the rules of Abort, read from what a writer saw --------------------------------- */

static void
check_writer_history(const Case *k, Script *script)
{
    guint aborts = script_count(script, "Abort");
    bool has_post_snapshot = script_count(script, "PostSnapshot") > 0;
    bool has_events = script_count(script, "PrepareForBackup") > 0;
    g_autofree char *history = script_history(script);

    if (has_post_snapshot || !has_events)
        g_assert_cmpuint(aborts, ==, 0);
    else
        g_assert_cmpuint(aborts, >=, 1);
    g_assert_cmpuint(script_count(script, "BackupShutdown"), ==, 1);
    g_assert_true(g_str_has_suffix(history, "BackupShutdown"));
    g_assert_cmpuint(script_count(script, "BackupComplete"), ==, 0);
}

/* A late call meets its Abort a second time, when it has come back. */
static void
check_late(const Case *k, Fixture *f)
{
    const char *undo = kvss_step(kvss_step(k->step)->undo)->name;

    if (is_late(k) && k->step != KVSS_STEP_POST_SNAPSHOT)
        g_assert_cmpuint(script_count(victim(k, f), undo), ==, 2);
}

/* Forward events are a beginning of the table, and end with the fault. */
static void
check_order(const Case *k, Script *script, KvssReceiver receiver)
{
    for (KvssStepId id = KVSS_STEP_PREPARE_FOR_BACKUP; id <= KVSS_STEP_POST_FINAL_COMMIT; id++) {
        if (kvss_step(id)->receiver != receiver)
            continue;
        if (id < k->step)
            g_assert_cmpuint(script_count(script, kvss_step(id)->name), ==, 1);
        else if (id > k->step)
            g_assert_cmpuint(script_count(script, kvss_step(id)->name), ==, 0);
    }
}

static void
check_histories(const Case *k, Fixture *f)
{
    for (guint i = 0; i < k->n_writers; i++) {
        check_writer_history(k, f->writer_script[i]);
        check_order(k, f->writer_script[i], KVSS_RECEIVER_WRITERS);
    }
    for (guint i = 0; i < k->n_providers; i++) {
        g_assert_cmpuint(script_count(f->provider_script[i], "AbortSnapshots"), >=, 1);
        g_assert_cmpuint(script_count(f->provider_script[i], "DeleteSnapshots"), ==, 0);
        check_order(k, f->provider_script[i], KVSS_RECEIVER_PROVIDERS);
    }
}

/* --- it is over ------------------------------------------------------------------------- */

/* Abort comes once more, past the coordinator: allowed, and it changes nothing. */
static void
check_abort_again(const Case *k, Fixture *f)
{
    for (guint i = 0; i < k->n_writers; i++) {
        KvssWriter *writer = f->writer[i];
        bool is_stuck = is_late(k) && f->writer_script[i] == victim(k, f);
        KvssWriterState state = kvss_writer_status(writer, NULL);
        guint held = script_held(f->writer_script[i]);

        if (is_stuck || script_count(f->writer_script[i], "Abort") == 0)
            continue;
        g_assert_cmpuint(script_count(f->writer_script[i], "PostSnapshot"), ==, 0);
        g_assert_true(kvss_writer_send(writer, KVSS_EVENT_ABORT, f->set, NULL));
        g_assert_cmpint(kvss_writer_status(writer, NULL), ==, state);
        g_assert_cmpuint(script_held(f->writer_script[i]), ==, held);
    }
}

/* Nobody takes this set any further, and giving it up once more changes nothing. */
static void
check_end_is_final(const Case *k, Fixture *f)
{
    guint n_events = kvss_coordinator_history(f->c)->len;

    g_assert_false(kvss_coordinator_do_snapshot_set(f->c, NULL));
    g_assert_false(kvss_coordinator_backup_complete(f->c, NULL));
    kvss_coordinator_abort(f->c);
    g_assert_cmpuint(kvss_coordinator_history(f->c)->len, ==, n_events);
    check_abort_again(k, f);
}

/* --- one case, and all of them --------------------------------------------------------- */

/*
 * The limit, and the grace for what is stuck behind it; nobody else is waited for.
 * The rest is for the machine, and less than a second grace.
 */
static gint64
longest_us(const Case *k)
{
    unsigned ms = is_timed_out(k) ? LIMIT_MS + GRACE_MS + GRACE_MS * 3 / 4 : 4 * LIMIT_MS;

    return (gint64) ms * k->factor * 1000;
}

/* Was somebody given up who only had no processor? Then the case says nothing. */
static bool
was_too_slow(const Case *k, Fixture *f, gint64 took_us)
{
    KvssHresult failure;

    if (took_us > longest_us(k))
        return true;
    if (script_count(victim(k, f), kvss_step(k->step)->name) == 0)
        return true;
    for (guint i = 0; i < k->n_writers; i++) {
        kvss_writer_status(f->writer[i], &failure);
        if (f->writer_script[i] != victim(k, f)
            && (failure == KVSS_E_WRITER_NOT_RESPONDING || failure == KVSS_E_WRITERERROR_TIMEOUT))
            return true;
    }
    for (guint i = 0; i < k->n_providers; i++) {
        kvss_provider_status(f->provider[i], &failure);
        if (f->provider_script[i] != victim(k, f) && failure != KVSS_S_OK)
            return true;
    }
    return false;
}

/* Returns: false if the machine was too slow for the limits. */
static bool
try_case(const Case *k)
{
    g_autoptr(Fixture) f = fixture_new(k->n_writers, k->n_components, k->n_providers);
    g_autoptr(GError) error = NULL;
    gint64 start_us = g_get_monotonic_time(), took_us;

    arm(k, f);
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    took_us = g_get_monotonic_time() - start_us;
    if (k->factor < 1u << N_TRIES && was_too_slow(k, f, took_us))
        return false;
    g_assert_cmpint(took_us, <=, longest_us(k));
    check_error(k, f, error);
    check_components(k, f);
    if (!may_hold_until_it_returns(k))
        g_assert_cmpuint(fixture_held(f), ==, 0);
    check_writers(k, f);
    check_providers(k, f);
    check_record(k, f);

    check_end_is_final(k, f);

    fixture_end(f);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    check_histories(k, f);
    check_late(k, f);
    return true;
}

static gpointer
run_case(gpointer data)
{
    g_autofree Case *k = data;

    while (!try_case(k))
        k->factor *= 2;
    return NULL;
}

/* The cases of one event wait most of the time, so they wait side by side. */
static void
start_case(const Case *k, GPtrArray *threads)
{
    g_ptr_array_add(threads, g_thread_new("case", run_case, g_memdup2(k, sizeof *k)));
}

/* With the first component; with the last, or after it, where that makes a difference. */
static void
start_components(Case k, GPtrArray *threads)
{
    guint last = is_writers(&k) ? k.n_components - 1 : k.n_components * k.n_writers - 1;

    start_case(&k, threads);
    if (!(is_of_component(&k) && last > 0) && k.fault != CRASH)
        return;
    k.component = k.fault == CRASH ? SCRIPT_AFTER_ALL : last;
    start_case(&k, threads);
}

static const guint component_counts[] = { 1, 2, 8 };

static void
test_fault(gconstpointer data)
{
    g_autoptr(GPtrArray) threads = g_ptr_array_new();
    Case k = *(const Case *) data;

    for (guint i = 0; i < G_N_ELEMENTS(component_counts); i++)
        for (k.n_writers = 1; k.n_writers <= 2; k.n_writers++)
            for (k.n_providers = 1; k.n_providers <= 2; k.n_providers++) {
                k.n_components = component_counts[i];
                start_components(k, threads);
            }
    for (guint i = 0; i < threads->len; i++)
        g_thread_join(g_ptr_array_index(threads, i));
}

/* --- Identify ---------------------------------------------------------------------- */

/* A writer that fails at Identify is not missed if another one is there. */
static void
test_identify(gconstpointer data)
{
    Case k = *(const Case *) data;
    g_autoptr(GError) error = NULL;
    bool expect_success = k.fault != CANCEL;

    if (k.fault == YES_BUT_FAILED)
        return; /* it has no component yet that it could mark */
    for (k.n_writers = 1; k.n_writers <= 2; k.n_writers++) {
        g_autoptr(Fixture) f = fixture_new(k.n_writers, 2, 1);
        bool ok;

        k.component = 1; /* of those that crash or refuse: half of the truth is told */

        arm(&k, f);
        if (k.n_writers == 2) /* what stopped the one must not stop the other */
            script_stall(f->writer_script[0], "PrepareForSnapshot", 5, false);
        f->n_writers--; /* the victim has nothing to select */
        ok = fixture_backup(f, KVSS_PHASE_COMPLETE, &error);
        f->n_writers++;
        g_assert_cmpint(ok, ==, expect_success && k.n_writers == 2);
        g_clear_error(&error);
        fixture_end(f);
        fixture_settle(f);
        g_assert_cmpuint(fixture_held(f), ==, 0);
        g_assert_cmpuint(script_count(victim(&k, f), "PrepareForBackup"), ==, 0);
    }
}

/* --- the last steps -------------------------------------------------------------------- */

/* The backup is kept, the failure is told, the shadow copies are deleted all the same. */
static void
check_complete(Case k)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Fixture) f = fixture_new(k.n_writers, k.n_components, k.n_providers);

    g_assert_true(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    arm(&k, f);
    g_assert_false(kvss_coordinator_backup_complete(f->c, &error));
    g_assert_nonnull(error);
    if (is_writers(&k))
        g_assert_cmpuint(fixture_held(f), ==, 0);
    for (guint i = 0; i < 2; i++)
        g_assert_cmpint(kvss_provider_status(f->provider[i], NULL), ==,
                        is_writers(&k) || i == 0 ? KVSS_SS_DELETED : KVSS_SS_ABORTED);
    fixture_end(f);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    for (guint i = 0; i < 2; i++) {
        g_assert_cmpuint(script_count(f->writer_script[i], "Abort"), ==, 0);
        g_assert_cmpuint(script_count(f->writer_script[i], "BackupShutdown"), ==, 1);
    }
}

static void
test_complete(gconstpointer data)
{
    Case k = *(const Case *) data;

    k.n_writers = k.n_providers = 2;
    for (guint i = 0; i < G_N_ELEMENTS(component_counts); i++) {
        k.n_components = component_counts[i];
        check_complete(k);
    }
}

/*
 * The way back goes wrong for one of them: it hangs or dies. The others get everything
 * that is due to them, in bounded time; all that can be left over is what it holds itself.
 */
static void
test_undo(gconstpointer data)
{
    const Case *k = data;
    const char *event = kvss_step(k->step)->name;
    g_autoptr(GError) error = NULL;
    g_autoptr(Fixture) f = fixture_new(2, 2, 2);
    Script *script = is_writers(k) ? f->writer_script[0] : f->provider_script[1];
    gint64 start_us = g_get_monotonic_time();

    f->limits.step_ms[k->step] = LIMIT_MS;
    f->limits.grace_ms = GRACE_MS;
    fixture_apply_limits(f);
    script_refuse(f->provider_script[0], "CommitSnapshots", 1, KVSS_E_PROVIDER_VETO);
    if (k->fault == CRASH)
        script_crash(script, event, 0);
    else
        script_stall(script, event, SCRIPT_FOR_EVER, true);

    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_PROVIDER_FAILED);
    g_assert_cmpuint(kvss_coordinator_failure(f->c), ==, KVSS_E_PROVIDER_VETO);
    fixture_end(f);
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 60 * G_USEC_PER_SEC);
    g_assert_cmpuint(fixture_held(f), ==, script_held(script));
    g_assert_cmpuint(script_count(f->writer_script[1], "Abort"), ==, 1);
    g_assert_cmpuint(script_count(f->writer_script[1], "BackupShutdown"), ==, 1);
    for (guint i = 0; i < 2; i++)
        g_assert_cmpuint(script_count(f->provider_script[i], "AbortSnapshots"), ==, 1);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
}

/* The copies are deleted and everybody is shut down, though one hangs or dies at it. */
static void
test_delete(gconstpointer data)
{
    const Case *k = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(Fixture) f = fixture_new(2, 2, 2);

    f->limits.step_ms[k->step] = 20 * LIMIT_MS; /* the other one must keep it, too */
    fixture_apply_limits(f);
    if (k->fault == CRASH)
        script_crash(f->provider_script[0], "DeleteSnapshots", 0);
    else
        script_stall(f->provider_script[0], "DeleteSnapshots", SCRIPT_FOR_EVER, true);
    /* Who dies while deleting cannot be asked: what is left of it is for recovery. */
    g_assert_cmpint(fixture_backup(f, KVSS_PHASE_COMPLETE, &error), ==, k->fault == CRASH);
    g_assert_cmpuint(script_held(f->provider_script[1]), ==, 0);
    g_assert_cmpint(kvss_provider_status(f->provider[1], NULL), ==, KVSS_SS_DELETED);
    fixture_end(f);
    for (guint i = 0; i < 2; i++)
        g_assert_cmpuint(script_count(f->writer_script[i], "BackupShutdown"), ==, 1);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
}

/* Both of them, and providers besides: the coordinator comes back, all is undone when they do. */
static void
test_hang_twice(gconstpointer data)
{
    const Case *k = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(Fixture) f = fixture_new(2, 2, 1);

    set_limits(k, f);
    script_refuse(f->provider_script[0], "CommitSnapshots", 1, KVSS_E_PROVIDER_VETO);
    for (guint i = 0; i < 2; i++)
        script_stall(f->writer_script[i], kvss_step(k->step)->name, SCRIPT_FOR_EVER, true);
    script_stall(f->provider_script[0], kvss_step(k->step)->name, SCRIPT_FOR_EVER, true);

    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_PROVIDER_FAILED);
    fixture_end(f);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
}

/* --- what was looked at before, and who comes first --------------------------------------- */

typedef struct {
    Fixture *f;
    KvssStepId step;      /* at which "web" fails */
    GMutex lock;
    GString *order;       /* "Abort Abort AbortSnapshots/right AbortSnapshots/left" */
} Order;

/* Both writers have answered, and been looked at, before the first of them is undone. */
static void
check_looked_at(Order *order)
{
    GArray *history = kvss_coordinator_history(order->f->c);
    static const KvssWriterState done[KVSS_EVENT_N] = {
        [KVSS_EVENT_PREPARE_FOR_BACKUP] = KVSS_WS_STABLE,
        [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = KVSS_WS_WAITING_FOR_FREEZE,
        [KVSS_EVENT_FREEZE] = KVSS_WS_WAITING_FOR_THAW,
        [KVSS_EVENT_THAW] = KVSS_WS_WAITING_FOR_POST_SNAPSHOT,
        [KVSS_EVENT_POST_SNAPSHOT] = KVSS_WS_WAITING_FOR_BACKUP_COMPLETE,
    };
    const KvssEvent event = kvss_step(order->step)->code;
    guint n = 0;

    for (guint i = 0; i < history->len; i++)
        n += g_str_equal(g_array_index(history, KvssEventRecord, i).event,
                         kvss_step(order->step)->name);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(kvss_writer_status(order->f->writer[0], NULL), ==, failed_at[event]);
    g_assert_cmpint(kvss_writer_status(order->f->writer[1], NULL), ==, done[event]);
}

/* In a writer's thread: the other one's undoing waits for the lock, or has waited. */
static void
note_writer(gpointer data)
{
    Order *order = data;

    g_mutex_lock(&order->lock);
    if (order->order->len == 0)
        check_looked_at(order);
    g_string_append(order->order, "writer ");
    g_mutex_unlock(&order->lock);
}

static void
note_left(gpointer data)
{
    g_string_append(((Order *) data)->order, "left");
}

static void
note_right(gpointer data)
{
    g_string_append(((Order *) data)->order, "right ");
}

/*
 * A writer that fails takes nothing back by itself. Every status is read, then writers
 * are undone, then providers, last first.
 */
static void
test_order(gconstpointer data)
{
    const Case *k = data;
    g_autoptr(Fixture) f = fixture_new(2, 2, 2);
    g_autoptr(GString) text = g_string_new(NULL);
    Order order = { .f = f, .step = k->step, .order = text };
    const char *undo = kvss_step(kvss_step(k->step)->undo)->name;

    g_mutex_init(&order.lock);
    script_refuse(f->writer_script[0], kvss_step(k->step)->name, 1,
                  KVSS_E_WRITERERROR_NONRETRYABLE);
    /* Slow, but not stopped: the failure of the other one is not a reason not to wait. */
    script_stall(f->writer_script[1], kvss_step(k->step)->name, 30, true);
    for (guint i = 0; i < 2; i++)
        script_on(f->writer_script[i], undo, note_writer, &order);
    script_on(f->provider_script[0], "AbortSnapshots", note_left, &order);
    script_on(f->provider_script[1], "AbortSnapshots", note_right, &order);
    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, NULL));
    g_assert_cmpstr(text->str, ==, "writer writer right left");
    fixture_end(f);
    g_mutex_clear(&order.lock);
}

/* --- the thaw comes too late ------------------------------------------------------------------ */

#define WINDOW_MS 200
#define WINDOW_FACTOR_MAX 64

/* Stops this whole process for so many milliseconds, until the window is over. */
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

typedef struct {
    KvssStepId step;         /* where the time goes */
    bool is_stopped;         /* the process stands still; else this one is slow */
    KvssWriterState states[2];
    bool is_made;            /* there was a shadow copy whose consistency is lost */
} Late;

static const Late lates[] = {
    { KVSS_STEP_FREEZE, false, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, false },
    { KVSS_STEP_FREEZE, true, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, false },
    { KVSS_STEP_PRE_COMMIT, false, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, false },
    { KVSS_STEP_COMMIT, false, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, false },
    { KVSS_STEP_POST_COMMIT, false, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, true },
    { KVSS_STEP_POST_COMMIT, true, { KVSS_WS_FAILED_AT_FREEZE, KVSS_WS_FAILED_AT_FREEZE }, true },
    { KVSS_STEP_THAW, false, { KVSS_WS_STABLE, KVSS_WS_FAILED_AT_THAW }, true },
    { KVSS_STEP_THAW, true, { KVSS_WS_FAILED_AT_THAW, KVSS_WS_FAILED_AT_THAW }, true },
};

/* On a machine that is busy the window may be over before. */
static bool
is_as_meant(const Late *late, Fixture *f, const GError *error)
{
    if (g_str_has_prefix(error->message, "shadow copy made, consistency lost: ") != late->is_made)
        return false;
    for (guint i = 0; i < 2; i++) {
        KvssWriterState state = kvss_writer_status(f->writer[i], NULL);

        if (state != late->states[i] && !(late->is_stopped && state == KVSS_WS_STABLE))
            return false;
    }
    return true;
}

/* Returns: false if the machine was too slow for the window. */
static bool
try_late(const Late *late, unsigned factor)
{
    g_autoptr(Fixture) f = fixture_new(2, 1, 1);
    g_autoptr(GError) error = NULL;
    bool is_writers_step = kvss_step(late->step)->receiver == KVSS_RECEIVER_WRITERS;
    Script *script = is_writers_step ? f->writer_script[1] : f->provider_script[0];

    f->limits.window_ms = WINDOW_MS * factor;
    f->limits.grace_ms = GRACE_MS * factor;
    fixture_apply_limits(f);
    if (late->is_stopped)
        script_on(script, kvss_step(late->step)->name, stop,
                  GUINT_TO_POINTER(2 * WINDOW_MS * factor));
    else
        script_stall(script, kvss_step(late->step)->name, SCRIPT_FOR_EVER, true);

    g_assert_false(fixture_backup(f, KVSS_PHASE_SNAPSHOT, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT);
    if (factor < WINDOW_FACTOR_MAX && !is_as_meant(late, f, error)) {
        fixture_end(f);
        fixture_settle(f);
        return false;
    }
    g_assert_cmpint(g_str_has_prefix(error->message, "shadow copy made, consistency lost: "), ==,
                    late->is_made);
    for (guint i = 0; i < 2; i++) {
        KvssHresult failure;
        KvssWriterState state = kvss_writer_status(f->writer[i], &failure);

        /* Who was thawed before the process stood still has kept its limit. */
        if (late->is_stopped && late->step == KVSS_STEP_THAW && state == KVSS_WS_STABLE)
            continue;
        g_assert_cmpint(state, ==, late->states[i]);
        g_assert_cmpuint(failure, ==, late->states[i] == KVSS_WS_STABLE
                                          ? KVSS_S_OK
                                          : KVSS_E_WRITERERROR_TIMEOUT);
    }
    g_assert_cmpuint(fixture_held(f), ==, 0);
    fixture_end(f);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    return true;
}

/* However it happens, nobody calls it consistent, and whoever was frozen is told. */
static void
test_late(gconstpointer data)
{
    for (unsigned factor = 1; !try_late(data, factor); factor *= 4)
        ;
}

/* A writer says that it has done an event, and has not: BackupShutdown still ends it. */
static void
test_lie(void)
{
    for (KvssStepId id = 0; id <= KVSS_STEP_ABORT; id++) {
        g_autoptr(Fixture) f = fixture_new(2, 2, 2);

        if (kvss_step(id)->receiver != KVSS_RECEIVER_WRITERS || id == KVSS_STEP_IDENTIFY
            || id == KVSS_STEP_BACKUP_SHUTDOWN)
            continue;
        script_lie(f->writer_script[0], kvss_step(id)->name);
        if (id == KVSS_STEP_ABORT)
            script_refuse(f->writer_script[1], "Thaw", 1, KVSS_E_WRITERERROR_RETRYABLE);
        g_assert_cmpint(fixture_backup(f, KVSS_PHASE_COMPLETE, NULL), ==, id != KVSS_STEP_ABORT);
        fixture_end(f);
        g_assert_cmpuint(fixture_held(f), ==, 0);
    }
}

/* PreRestore goes wrong: what was set aside is put back, a hung one's when it returns. */
static void
check_restore(Case k)
{
    g_autoptr(GError) error = NULL;

    for (k.n_writers = 1; k.n_writers <= 2; k.n_writers++) {
        g_autoptr(Fixture) f = fixture_new(k.n_writers, k.n_components, 0);

        g_assert_true(fixture_select_all(f, &error));
        arm(&k, f);
        if (k.step == KVSS_STEP_POST_RESTORE)
            g_assert_true(kvss_coordinator_pre_restore(f->c, &error));
        for (guint i = 0; i < f->set->components->len; i++)
            ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status
                = k.step == KVSS_STEP_POST_RESTORE ? KVSS_RS_ALL : KVSS_RS_UNDEFINED;
        g_assert_false(k.step == KVSS_STEP_POST_RESTORE
                           ? kvss_coordinator_post_restore(f->c, &error)
                           : kvss_coordinator_pre_restore(f->c, &error));
        check_error(&k, f, error);
        g_clear_error(&error);
        fixture_end(f);
        fixture_settle(f);
        /* A refused PostRestore leaves aside what it could not register: that is its to say. */
        if (k.step == KVSS_STEP_PRE_RESTORE)
            g_assert_cmpuint(fixture_held(f), ==, 0);
        for (guint i = 0; i < k.n_writers; i++) {
            g_assert_cmpuint(script_count(f->writer_script[i], "Abort"), ==, 0);
            g_assert_cmpuint(script_count(f->writer_script[i], "PostRestore"), ==, 1);
        }
    }
}

static void
test_restore(gconstpointer data)
{
    Case k = *(const Case *) data;

    for (guint i = 0; i < G_N_ELEMENTS(component_counts); i++) {
        k.n_components = component_counts[i];
        check_restore(k);
    }
}

/*
 * "db" says no to PostRestore, "web" has said yes: before the old files come back web hears
 * PreRestore again. Where it refuses that, it keeps what it has and hears nothing more.
 */
static void
test_restore_again(gconstpointer data)
{
    bool refuses = GPOINTER_TO_INT(data);
    g_autoptr(Fixture) f = fixture_new(2, 1, 0);
    g_autoptr(GPtrArray) stays = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *web = NULL, *db = NULL;

    g_assert_true(fixture_select_all(f, &error));
    script_refuse(f->writer_script[1], "PostRestore", 0, KVSS_E_WRITERERROR_NONRETRYABLE);
    g_assert_true(kvss_coordinator_pre_restore(f->c, &error));
    kvss_coordinator_pre_restore_again(f->c, stays); /* not yet: does nothing */
    for (guint i = 0; i < f->set->components->len; i++)
        ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status = KVSS_RS_ALL;
    g_assert_false(kvss_coordinator_post_restore(f->c, &error));
    if (refuses)
        script_refuse(f->writer_script[0], "PreRestore", 0, KVSS_E_WRITERERROR_RETRYABLE);
    kvss_coordinator_pre_restore_again(f->c, stays);
    g_assert_cmpuint(stays->len, ==, refuses);
    if (refuses)
        g_assert_true(g_ptr_array_index(stays, 0) == f->writer[0]);
    for (guint i = 0; i < f->set->components->len; i++)
        ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status = KVSS_RS_NONE;
    kvss_coordinator_abort(f->c);
    kvss_coordinator_abort(f->c);
    web = script_history(f->writer_script[0]);
    db = script_history(f->writer_script[1]);
    g_assert_cmpstr(web, ==, refuses ? "Identify PreRestore PostRestore PreRestore"
                                     : "Identify PreRestore PostRestore PreRestore PostRestore");
    g_assert_cmpstr(db, ==, "Identify PreRestore PostRestore");
    fixture_end(f);
    fixture_settle(f);
}

/* --- the list ----------------------------------------------------------------------------- */

static void
add_to(const char *group, Fault fault, KvssStepId step, GTestDataFunc func)
{
    Case k = { .fault = fault, .step = step, .n_writers = 1, .n_components = 1,
               .n_providers = 1, .factor = 1 };
    g_autofree char *path = g_strdup_printf("/%s/%s", group, kvss_step(step)->name);

    g_test_add_data_func_full(path, g_memdup2(&k, sizeof k), func, g_free);
}

static void
add(Fault fault, KvssStepId step, GTestDataFunc func)
{
    add_to(fault_names[fault], fault, step, func);
}

static void
add_late(const Late *late)
{
    g_autofree char *path = g_strdup_printf("/late/%s-%s", kvss_step(late->step)->name,
                                            late->is_stopped ? "host-stopped" : "slow");

    g_test_add_data_func(path, late, test_late);
}

static void
add_fault(Fault fault)
{
    add(fault, KVSS_STEP_IDENTIFY, test_identify);
    for (KvssStepId id = KVSS_STEP_BEGIN_PREPARE; id <= KVSS_STEP_POST_FINAL_COMMIT; id++)
        add(fault, id, test_fault);
    add(fault, KVSS_STEP_PRE_RESTORE, test_restore);
    if (fault != CANCEL) { /* they are not listened to at the end */
        add(fault, KVSS_STEP_BACKUP_COMPLETE, test_complete);
        add(fault, KVSS_STEP_POST_RESTORE, test_restore);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (Fault fault = 0; fault < N_FAULTS; fault++)
        add_fault(fault);
    add(HANG, KVSS_STEP_ABORT, test_hang_twice);
    add(HANG, KVSS_STEP_ABORT_SNAPSHOTS, test_hang_twice);
    add(HANG, KVSS_STEP_BACKUP_SHUTDOWN, test_hang_twice);
    for (guint i = 0; i < 2; i++) {
        static const Fault faults[] = { HANG, CRASH };

        static const char *const groups[] = { "undo-hangs", "undo-crashes" };

        add_to(groups[i], faults[i], KVSS_STEP_ABORT, test_undo);
        add_to(groups[i], faults[i], KVSS_STEP_ABORT_SNAPSHOTS, test_undo);
        add_to(groups[i], faults[i], KVSS_STEP_BACKUP_SHUTDOWN, test_undo);
        add_to(groups[i], faults[i], KVSS_STEP_DELETE_SNAPSHOTS, test_delete);
    }
    for (KvssStepId id = KVSS_STEP_PREPARE_FOR_BACKUP; id <= KVSS_STEP_POST_SNAPSHOT; id++)
        if (kvss_step(id)->receiver == KVSS_RECEIVER_WRITERS)
            add_to("order", REFUSE, id, test_order);
    for (guint i = 0; i < G_N_ELEMENTS(lates); i++)
        add_late(&lates[i]);
    g_test_add_func("/lie", test_lie);
    g_test_add_data_func("/restore-again/stops", GINT_TO_POINTER(false), test_restore_again);
    g_test_add_data_func("/restore-again/refuses", GINT_TO_POINTER(true), test_restore_again);
    return g_test_run();
}
