/*
 * test-model.c - random orders of calls against the rules, said a second time
 *
 * The rules here are written down independently of the tables in writer.c and
 * coordinator.c. KVSS_TEST_ROUNDS (default 2000) and KVSS_TEST_SEED choose how
 * many rounds, and which; the seed is printed, and a failure repeats with it.
 */
#include "fault/fixture.h"

#include <stdlib.h>

#define CALLS_A_ROUND 12

static guint rounds = 2000;
static guint32 seed;

/* --- a writer: any event at any time ------------------------------------------------ */

typedef struct {
    int progress;      /* how many events of the sequence have been delivered */
    bool is_aborted, is_shut_down, is_failed, is_restore;
} WriterModel;

static const KvssEvent sequence[] = {
    KVSS_EVENT_IDENTIFY, KVSS_EVENT_PREPARE_FOR_BACKUP, KVSS_EVENT_PREPARE_FOR_SNAPSHOT,
    KVSS_EVENT_FREEZE,   KVSS_EVENT_THAW,               KVSS_EVENT_POST_SNAPSHOT,
    KVSS_EVENT_BACKUP_COMPLETE,
};
#define BEFORE_POST_SNAPSHOT 5

static int
place_of(KvssEvent event)
{
    for (guint i = 0; i < G_N_ELEMENTS(sequence); i++)
        if (sequence[i] == event)
            return (int) i;
    return -1;
}

static bool
model_allows(const WriterModel *m, KvssEvent event, int restore_steps)
{
    bool is_over = m->is_aborted || m->is_shut_down;

    switch (event) {
    case KVSS_EVENT_BACKUP_SHUTDOWN:
        return true;
    case KVSS_EVENT_ABORT:
        return !m->is_shut_down && !m->is_restore && m->progress <= BEFORE_POST_SNAPSHOT;
    case KVSS_EVENT_PRE_RESTORE:
        return !is_over && !m->is_failed && !m->is_restore && m->progress <= 1;
    case KVSS_EVENT_POST_RESTORE:
        return !is_over && restore_steps == 1;
    default:
        return !is_over && !m->is_failed && !m->is_restore && m->progress == place_of(event);
    }
}

static void
model_apply(WriterModel *m, KvssEvent event, int *restore_steps)
{
    if (event == KVSS_EVENT_ABORT)
        m->is_aborted = true;
    else if (event == KVSS_EVENT_BACKUP_SHUTDOWN)
        m->is_shut_down = true;
    else if (event == KVSS_EVENT_PRE_RESTORE || event == KVSS_EVENT_POST_RESTORE) {
        m->is_restore = true;
        (*restore_steps)++;
    } else {
        m->progress++;
    }
}

/* What VSS shows between the events of a healthy writer. */
static KvssWriterState
model_state(const WriterModel *m)
{
    static const KvssWriterState states[] = {
        KVSS_WS_STABLE, KVSS_WS_STABLE, KVSS_WS_STABLE, KVSS_WS_WAITING_FOR_FREEZE,
        KVSS_WS_WAITING_FOR_THAW, KVSS_WS_WAITING_FOR_POST_SNAPSHOT,
        KVSS_WS_WAITING_FOR_BACKUP_COMPLETE, KVSS_WS_STABLE,
    };

    return m->is_aborted || m->is_shut_down || m->is_restore ? KVSS_WS_STABLE
                                                             : states[m->progress];
}

static KvssEvent
random_event(GRand *rand, const WriterModel *m)
{
    /* Mostly the next one, or a round would hardly ever get anywhere. */
    if (m->progress < (int) G_N_ELEMENTS(sequence) && g_rand_int_range(rand, 0, 3) > 0)
        return sequence[m->progress];
    return g_rand_int_range(rand, 0, KVSS_EVENT_N);
}

static bool
can_fail(KvssEvent event)
{
    return event != KVSS_EVENT_ABORT && event != KVSS_EVENT_BACKUP_SHUTDOWN;
}

static void
select_all(KvssWriter *writer, KvssSnapshotSet *set)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (component->is_selected)
            continue;
        component->is_selected = true;
        component->restore_status = KVSS_RS_ALL;
        g_ptr_array_add(set->components, component);
    }
}

static void
writer_round(GRand *rand)
{
    g_autoptr(Script) script = script_new();
    g_autoptr(KvssWriter) writer = fake_writer_new(script, "web", 2);
    g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
    WriterModel m = { 0 };
    int restore_steps = 0;
    KvssEvent failing = g_rand_int_range(rand, 0, 4 * KVSS_EVENT_N);

    if (failing < KVSS_EVENT_N && can_fail(failing))
        script_refuse(script, kvss_event_name(failing), 0, KVSS_E_WRITERERROR_RETRYABLE);

    for (guint i = 0; i < CALLS_A_ROUND; i++) {
        g_autoptr(GError) error = NULL;
        KvssEvent event = random_event(rand, &m);
        bool allowed = model_allows(&m, event, restore_steps);
        guint seen = script_count(script, kvss_event_name(event));
        KvssWriterState before = kvss_writer_status(writer, NULL);
        bool ok = kvss_writer_send(writer, event, set, &error);
        bool has_failed = allowed && event == failing && can_fail(event)
                          && (event == KVSS_EVENT_IDENTIFY || set->components->len > 0);

        g_assert_cmpint(ok, ==, allowed && !has_failed);
        g_assert_cmpuint(script_count(script, kvss_event_name(event)), ==, seen + allowed);
        if (!allowed) {
            g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE);
            g_assert_cmpint(kvss_writer_status(writer, NULL), ==, before);
            continue;
        }
        model_apply(&m, event, &restore_steps);
        m.is_failed |= has_failed;
        g_assert_cmpint(kvss_writer_status(writer, NULL) >= KVSS_WS_FAILED_AT_IDENTIFY, ==,
                        m.is_failed);
        if (!m.is_failed)
            g_assert_cmpint(kvss_writer_status(writer, NULL), ==, model_state(&m));
        select_all(writer, set);
    }
}

/* --- the coordinator: any call at any time --------------------------------------------- */

typedef enum { GATHER, SELECT, PREPARE, SNAPSHOT, COMPLETE, ABORT, PRE_RESTORE, POST_RESTORE,
               N_CALLS } CallId;

/* Where the set is: the calls that have succeeded. */
typedef enum { NEW, GATHERED, PREPARED, CREATED, RESTORING, OVER } Place;

static bool
call(Fixture *f, CallId id, GError **error)
{
    switch (id) {
    case GATHER:
        return kvss_coordinator_gather(f->c, error);
    case SELECT:
        return kvss_coordinator_select(f->c, "web-0", error);
    case PREPARE:
        return kvss_coordinator_prepare_for_backup(f->c, error);
    case SNAPSHOT:
        return kvss_coordinator_do_snapshot_set(f->c, error);
    case COMPLETE:
        return kvss_coordinator_backup_complete(f->c, error);
    case PRE_RESTORE:
        return kvss_coordinator_pre_restore(f->c, error);
    case POST_RESTORE:
        for (guint i = 0; i < f->set->components->len; i++)
            ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status
                = KVSS_RS_ALL;
        return kvss_coordinator_post_restore(f->c, error);
    default:
        kvss_coordinator_abort(f->c);
        return true;
    }
}

static const struct {
    Place from, to;
} places[N_CALLS] = {
    [GATHER] = { NEW, GATHERED },       [SELECT] = { GATHERED, GATHERED },
    [PREPARE] = { GATHERED, PREPARED }, [SNAPSHOT] = { PREPARED, CREATED },
    [COMPLETE] = { CREATED, OVER },     [PRE_RESTORE] = { GATHERED, RESTORING },
    [POST_RESTORE] = { RESTORING, OVER },
};

static CallId
random_call(GRand *rand, Place place)
{
    static const CallId next[] = { [NEW] = GATHER, [GATHERED] = PREPARE, [PREPARED] = SNAPSHOT,
                                   [CREATED] = COMPLETE, [RESTORING] = POST_RESTORE };

    if (place != OVER && g_rand_int_range(rand, 0, 2) > 0)
        return place == GATHERED && g_rand_boolean(rand) ? SELECT : next[place];
    return g_rand_int_range(rand, 0, N_CALLS);
}

/* Somewhere, something may refuse; then every call that fails must leave nothing. */
static bool
arm(GRand *rand, Fixture *f)
{
    KvssStepId id = g_rand_int_range(rand, 0, 3 * KVSS_STEP_N);

    if (id >= KVSS_STEP_N || !kvss_step(id)->may_fail)
        return false;
    script_refuse(kvss_step(id)->receiver == KVSS_RECEIVER_WRITERS ? f->writer_script[0]
                                                                   : f->provider_script[0],
                  kvss_step(id)->name, 0, KVSS_E_WRITERERROR_RETRYABLE);
    return true;
}

static void
check_over(Fixture *f)
{
    /* PostRestore may be what refuses: it leaves aside what it could not put back. */
    if (script_count(f->writer_script[0], "PostRestore") == 0)
        g_assert_cmpuint(fixture_held(f), ==, 0);
}

static void
coordinator_round(GRand *rand)
{
    g_autoptr(Fixture) f = fixture_new(1, 2, 1);
    bool is_armed = arm(rand, f);
    Place place = NEW;
    bool is_selected = false;

    for (guint i = 0; i < CALLS_A_ROUND; i++) {
        g_autoptr(GError) error = NULL;
        CallId id = random_call(rand, place);
        bool is_empty = (id == PREPARE || id == PRE_RESTORE) && !is_selected;
        bool ok = call(f, id, &error);

        if (id == ABORT) {
            if (place != OVER)
                check_over(f);
            place = OVER;
        } else if (place != places[id].from) {
            g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_BAD_STATE);
        } else if (is_empty) {
            g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOTHING);
        } else if (ok) {
            place = places[id].to;
            is_selected |= id == SELECT;
            if (place == OVER)
                check_over(f);
        } else {
            g_assert_true(is_armed);
            place = OVER;
            if (id != COMPLETE)
                check_over(f);
        }
    }

    fixture_end(f);
    for (guint i = 0; i < f->n_providers; i++)
        g_assert_cmpuint(script_held(f->provider_script[i]), ==, 0);
    check_over(f);
}

/* --- rounds --------------------------------------------------------------------------------- */

static void
test_rounds(gconstpointer data)
{
    void (*round)(GRand *rand) = (void (*)(GRand *)) data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (guint i = 0; i < rounds; i++)
        round(rand);
}

static guint32
number_from(const char *name, guint32 fallback)
{
    const char *text = g_getenv(name);

    return text ? (guint32) strtoul(text, NULL, 0) : fallback;
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    rounds = number_from("KVSS_TEST_ROUNDS", rounds);
    seed = number_from("KVSS_TEST_SEED", g_random_int());
    g_print("# KVSS_TEST_SEED=%u KVSS_TEST_ROUNDS=%u\n", seed, rounds);

    g_test_add_data_func("/model/writer", (gconstpointer) writer_round, test_rounds);
    g_test_add_data_func("/model/coordinator", (gconstpointer) coordinator_round, test_rounds);
    return g_test_run();
}
