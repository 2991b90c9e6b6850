/*
 * test-model.c - random orders of calls against the rules, said a second time
 *
 * The rules here are written down independently of the tables in writer.c and
 * coordinator.c. KVSS_TEST_ROUNDS (default 10000) and KVSS_TEST_SEED choose how
 * many rounds, and which; the seed is printed, and a failure repeats with it.
 */
#include "fault/fixture.h"

#include <stdlib.h>

#define CALLS_A_ROUND 12

static guint rounds = 10000;
static guint32 seed;

/* --- what goes wrong: one thing, once ------------------------------------------------- */

typedef enum { REFUSES, DIES, YES_WITH_ERROR, NO_WITHOUT_ERROR, YES_BUT_FAILED, N_KINDS } Kind;

static void
arm(Script *script, const char *event, Kind kind, KvssHresult code)
{
    switch (kind) {
    case REFUSES:
        script_refuse(script, event, 0, code);
        return;
    case DIES:
        script_crash(script, event, 0);
        return;
    case YES_WITH_ERROR:
        script_answer(script, event, SCRIPT_ANSWER_YES_WITH_ERROR, 0, code);
        return;
    case NO_WITHOUT_ERROR:
        script_answer(script, event, SCRIPT_ANSWER_NO_WITHOUT_ERROR, 0, code);
        return;
    default:
        script_answer(script, event, SCRIPT_ANSWER_YES_BUT_FAILED, 0, code);
    }
}

/* Does it name a component, which must be there? Identify has none to mark. */
static bool
is_effective(Kind kind, bool is_identify, bool has_component)
{
    if (is_identify)
        return kind != YES_BUT_FAILED;
    return has_component || (kind != REFUSES && kind != YES_BUT_FAILED);
}

static bool
names_component(Kind kind, bool is_identify)
{
    return !is_identify && (kind == REFUSES || kind == YES_BUT_FAILED);
}

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
        return !is_over && !m->is_failed && restore_steps % 2 == 0 && m->progress <= 1;
    case KVSS_EVENT_POST_RESTORE:
        return !is_over && restore_steps % 2 == 1;
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
check_failure(KvssWriter *writer, KvssHresult *expected, KvssHresult now)
{
    KvssHresult failure;

    if (*expected == KVSS_S_OK)
        *expected = now;
    kvss_writer_status(writer, &failure);
    g_assert_cmpuint(failure, ==, *expected);
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
    Kind kind = g_rand_int_range(rand, 0, N_KINDS);
    KvssHresult failure = KVSS_S_OK;
    bool is_dead = false;

    if (failing < KVSS_EVENT_N && can_fail(failing))
        arm(script, kvss_event_name(failing), kind, KVSS_E_WRITERERROR_RETRYABLE);

    for (guint i = 0; i < CALLS_A_ROUND; i++) {
        g_autoptr(GError) error = NULL;
        KvssEvent event = random_event(rand, &m);
        bool allowed = model_allows(&m, event, restore_steps);
        guint seen = script_count(script, kvss_event_name(event));
        KvssWriterState before = kvss_writer_status(writer, NULL);
        bool ok = kvss_writer_send(writer, event, set, &error);
        bool is_hit = event == failing
                      && is_effective(kind, event == KVSS_EVENT_IDENTIFY,
                                      set->components->len > 0);
        bool has_failed = allowed && can_fail(event) && (is_hit || is_dead);

        g_assert_cmpint(ok, ==, allowed && !has_failed);
        g_assert_cmpuint(script_count(script, kvss_event_name(event)), ==, seen + allowed);
        if (!allowed) {
            g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_BAD_STATE);
            g_assert_cmpint(kvss_writer_status(writer, NULL), ==, before);
            check_failure(writer, &failure, KVSS_E_BAD_STATE);
            continue;
        }
        if (has_failed)
            check_failure(writer, &failure,
                          !is_dead && names_component(kind, event == KVSS_EVENT_IDENTIFY)
                              ? KVSS_E_WRITERERROR_RETRYABLE
                              : KVSS_E_WRITERERROR_NONRETRYABLE);
        is_dead |= has_failed && kind == DIES;
        model_apply(&m, event, &restore_steps);
        m.is_failed |= has_failed;
        g_assert_cmpint(kvss_writer_status(writer, NULL) >= KVSS_WS_FAILED_AT_IDENTIFY, ==,
                        m.is_failed);
        if (!m.is_failed)
            g_assert_cmpint(kvss_writer_status(writer, NULL), ==, model_state(&m));
        if (!m.is_restore && (event == KVSS_EVENT_ABORT || event == KVSS_EVENT_BACKUP_SHUTDOWN))
            g_assert_cmpuint(script_held(script), ==, 0);
        select_all(writer, set);
    }
}

/* --- the coordinator: any call at any time --------------------------------------------- */

typedef enum { GATHER, SELECT, PREPARE, SNAPSHOT, COMPLETE, ABORT, PRE_RESTORE, POST_RESTORE,
               N_CALLS } CallId;

/* Where the set is: the calls that have succeeded. */
typedef enum { NEW, GATHERED, PREPARED, CREATED, RESTORING, OVER } Place;

/* The rules for one set, its writers and its providers. */
typedef struct {
    Fixture *f;
    GRand *rand;
    Place place;
    guint n_components[2];          /* of each writer */
    guint n_selected[2];
    bool is_selected[2][3];
    KvssWriterState state[2];
    KvssSnapshotState copies[2];
    KvssHresult writer_code[2], provider_code[2], first_code;
    bool is_out[2];                 /* failed at Identify */
    bool is_left_aside;             /* PostRestore refused: it is its own to say what is left */

    struct {
        bool is_armed;
        guint victim;
        KvssStepId step;
        Kind kind;
    } fault[2];                     /* one of the writers', one of the providers' */
} SetModel;

static guint
total_selected(const SetModel *m)
{
    return m->n_selected[0] + m->n_selected[1];
}

static bool
is_involved(const SetModel *m, KvssReceiver receiver, guint i)
{
    return receiver == KVSS_RECEIVER_WRITERS ? m->n_selected[i] > 0 : total_selected(m) > 0;
}

static void
arm_one(SetModel *m, KvssReceiver receiver)
{
    bool is_writers = receiver == KVSS_RECEIVER_WRITERS;
    guint n = is_writers ? m->f->n_writers : m->f->n_providers;
    KvssStepId id = g_rand_int_range(m->rand, 0, 2 * KVSS_STEP_N);
    Kind kind = g_rand_int_range(m->rand, 0, N_KINDS);
    guint victim = g_rand_int_range(m->rand, 0, n);

    if (id >= KVSS_STEP_N || !kvss_step(id)->may_fail || kvss_step(id)->receiver != receiver)
        return;
    m->fault[receiver].is_armed = true;
    m->fault[receiver].victim = victim;
    m->fault[receiver].step = id;
    m->fault[receiver].kind = kind;
    arm(is_writers ? m->f->writer_script[victim] : m->f->provider_script[victim],
        kvss_step(id)->name, kind,
        is_writers ? KVSS_E_WRITERERROR_RETRYABLE : KVSS_E_PROVIDER_VETO);
}

/* Does this step go wrong? Then the victim's own state and code are noted. */
static bool
goes_wrong(SetModel *m, KvssStepId id)
{
    KvssReceiver receiver = kvss_step(id)->receiver;
    bool is_writers = receiver == KVSS_RECEIVER_WRITERS;
    guint victim = m->fault[receiver].victim;
    bool is_identify = id == KVSS_STEP_IDENTIFY;
    KvssHresult code;

    if (!m->fault[receiver].is_armed || m->fault[receiver].step != id
        || !(is_identify || is_involved(m, receiver, victim))
        || !is_effective(m->fault[receiver].kind, is_identify, total_selected(m) > 0))
        return false;
    if (names_component(m->fault[receiver].kind, is_identify))
        code = is_writers ? KVSS_E_WRITERERROR_RETRYABLE : KVSS_E_PROVIDER_VETO;
    else
        code = is_writers ? KVSS_E_WRITERERROR_NONRETRYABLE : KVSS_E_UNEXPECTED_PROVIDER_ERROR;
    *(is_writers ? &m->writer_code[victim] : &m->provider_code[victim]) = code;
    if (m->first_code == KVSS_S_OK && !is_identify)
        m->first_code = code;
    return true;
}

/* The states that VSS shows after each step that goes well, and after one that does not. */
static const struct {
    KvssWriterState done, failed;
} writer_states[KVSS_STEP_N] = {
    [KVSS_STEP_IDENTIFY] = { 1, 6 },        [KVSS_STEP_PREPARE_FOR_BACKUP] = { 1, 7 },
    [KVSS_STEP_PREPARE_FOR_SNAPSHOT] = { 2, 8 }, [KVSS_STEP_FREEZE] = { 3, 9 },
    [KVSS_STEP_THAW] = { 4, 10 },           [KVSS_STEP_POST_SNAPSHOT] = { 5, 11 },
    [KVSS_STEP_BACKUP_COMPLETE] = { 1, 12 }, [KVSS_STEP_PRE_RESTORE] = { 1, 13 },
    [KVSS_STEP_POST_RESTORE] = { 1, 14 },
};

static const KvssSnapshotState copy_states[KVSS_STEP_N] = {
    [KVSS_STEP_BEGIN_PREPARE] = 1, [KVSS_STEP_END_PREPARE] = 3,       [KVSS_STEP_PRE_COMMIT] = 5,
    [KVSS_STEP_COMMIT] = 7,        [KVSS_STEP_POST_COMMIT] = 15,      [KVSS_STEP_PRE_FINAL_COMMIT] = 10,
    [KVSS_STEP_POST_FINAL_COMMIT] = 12, [KVSS_STEP_DELETE_SNAPSHOTS] = 14,
};

/* Writers all get the step; providers one after the other until one fails. */
static bool
take_step(SetModel *m, KvssStepId id)
{
    KvssReceiver receiver = kvss_step(id)->receiver;
    bool is_writers = receiver == KVSS_RECEIVER_WRITERS, fails = goes_wrong(m, id);
    guint n = is_writers ? m->f->n_writers : m->f->n_providers;

    for (guint i = 0; i < n; i++) {
        bool is_victim = fails && i == m->fault[receiver].victim;

        if (id != KVSS_STEP_IDENTIFY && !is_involved(m, receiver, i))
            continue;
        if (is_writers)
            m->state[i] = is_victim ? writer_states[id].failed : writer_states[id].done;
        else
            m->copies[i] = is_victim ? KVSS_SS_ABORTED : copy_states[id];
        if (is_victim && !is_writers)
            break;
    }
    return !fails;
}

/* Whoever has failed stays failed; the others are stable, and no copy lives. */
static void
undo(SetModel *m)
{
    for (guint i = 0; i < m->f->n_writers; i++)
        if (m->state[i] < KVSS_WS_FAILED_AT_IDENTIFY)
            m->state[i] = KVSS_WS_STABLE;
    for (guint i = 0; i < m->f->n_providers; i++)
        if (m->copies[i] != KVSS_SS_UNKNOWN)
            m->copies[i] = KVSS_SS_ABORTED;
}

/* PostRestore to everybody, and nothing was written: the fakes tell that as a failure. */
static void
undo_restore(SetModel *m)
{
    KvssHresult first = m->first_code;

    for (guint i = 0; i < m->f->n_writers; i++) {
        if (m->n_selected[i] == 0 || m->state[i] >= KVSS_WS_FAILED_AT_IDENTIFY)
            continue;
        m->state[i] = KVSS_WS_FAILED_AT_POST_RESTORE;
        m->writer_code[i] = KVSS_E_WRITERERROR_NONRETRYABLE;
    }
    if (goes_wrong(m, KVSS_STEP_POST_RESTORE))
        m->is_left_aside = true;
    m->first_code = first; /* what fails on the way back is not the story */
}

static bool
take_phase(SetModel *m, KvssPhase phase)
{
    for (KvssStepId id = 0; id < KVSS_STEP_N; id++)
        if (kvss_step(id)->phase == phase && !take_step(m, id))
            return false;
    return true;
}

static bool
all_are_out(const SetModel *m)
{
    for (guint i = 0; i < m->f->n_writers; i++)
        if (!m->is_out[i])
            return false;
    return true;
}

/* --- what each call should do: true if it should succeed ---------------------------------- */

static bool
model_gather(SetModel *m)
{
    if (!take_step(m, KVSS_STEP_IDENTIFY))
        m->is_out[m->fault[KVSS_RECEIVER_WRITERS].victim] = true;
    m->place = all_are_out(m) ? OVER : GATHERED;
    if (m->place == OVER)
        m->first_code = m->writer_code[0];
    return m->place == GATHERED;
}

static bool
model_forward(SetModel *m, KvssPhase phase, Place next)
{
    bool ok = take_phase(m, phase);

    m->place = ok ? next : OVER;
    if (!ok)
        undo(m);
    return ok;
}

/* The copies go whatever the writers say; nothing is taken back. */
static bool
model_complete(SetModel *m)
{
    bool ok = take_step(m, KVSS_STEP_BACKUP_COMPLETE);

    (void) take_step(m, KVSS_STEP_DELETE_SNAPSHOTS);
    m->place = OVER;
    return ok;
}

static bool
model_pre_restore(SetModel *m)
{
    bool ok = take_step(m, KVSS_STEP_PRE_RESTORE);

    m->place = ok ? RESTORING : OVER;
    if (!ok)
        undo_restore(m);
    return ok;
}

static bool
model_post_restore(SetModel *m)
{
    bool ok = take_step(m, KVSS_STEP_POST_RESTORE);

    m->is_left_aside = !ok;
    m->place = OVER;
    return ok;
}

static void
model_abort(SetModel *m)
{
    if (m->place == RESTORING)
        undo_restore(m);
    else if (m->place != OVER)
        undo(m);
    m->place = OVER;
}

/* --- the same, asked of the coordinator ------------------------------------------------------ */

static const Place places[N_CALLS] = {
    [GATHER] = NEW,       [SELECT] = GATHERED,      [PREPARE] = GATHERED,       [SNAPSHOT] = PREPARED,
    [COMPLETE] = CREATED, [PRE_RESTORE] = GATHERED, [POST_RESTORE] = RESTORING,
};

static bool
call(SetModel *m, CallId id, GError **error)
{
    Fixture *f = m->f;

    switch (id) {
    case GATHER:
        return kvss_coordinator_gather(f->c, error);
    case PREPARE:
        return kvss_coordinator_prepare_for_backup(f->c, error);
    case SNAPSHOT:
        return kvss_coordinator_do_snapshot_set(f->c, error);
    case COMPLETE:
        return kvss_coordinator_backup_complete(f->c, error);
    case PRE_RESTORE:
        return kvss_coordinator_pre_restore(f->c, error);
    case POST_RESTORE:
        for (guint i = 0; m->place == RESTORING && i < f->set->components->len; i++)
            ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status
                = KVSS_RS_ALL;
        return kvss_coordinator_post_restore(f->c, error);
    default:
        kvss_coordinator_abort(f->c);
        return true;
    }
}

static bool
should_succeed(SetModel *m, CallId id)
{
    switch (id) {
    case GATHER:
        return model_gather(m);
    case PREPARE:
        return model_forward(m, KVSS_PHASE_PREPARE, PREPARED);
    case SNAPSHOT:
        return model_forward(m, KVSS_PHASE_SNAPSHOT, CREATED);
    case COMPLETE:
        return model_complete(m);
    case PRE_RESTORE:
        return model_pre_restore(m);
    case POST_RESTORE:
        return model_post_restore(m);
    default:
        model_abort(m);
        return true;
    }
}

/* Any component of any writer, of those that are there and one that is not. */
static void
select_one(SetModel *m)
{
    static const char *const names[] = { "web", "db" };
    guint w = g_rand_int_range(m->rand, 0, 2), i = g_rand_int_range(m->rand, 0, 3);
    g_autofree char *name = g_strdup_printf("%s-%u", names[w], i);
    g_autoptr(GError) error = NULL;
    bool is_there = w < m->f->n_writers && i < m->n_components[w] && !m->is_out[w];
    bool ok = kvss_coordinator_select(m->f->c, name, &error);

    g_assert_cmpint(ok, ==, m->place == GATHERED && is_there);
    if (m->place != GATHERED)
        g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_BAD_STATE);
    else if (!is_there)
        g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND);
    if (!ok || m->is_selected[w][i])
        return;
    m->is_selected[w][i] = true;
    m->n_selected[w]++;
}

static void
call_one(SetModel *m, CallId id)
{
    g_autoptr(GError) error = NULL;
    bool is_empty = (id == PREPARE || id == PRE_RESTORE) && total_selected(m) == 0;
    bool ok = call(m, id, &error);

    if (id != ABORT && m->place != places[id])
        g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_BAD_STATE);
    else if (id != ABORT && is_empty)
        g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOTHING);
    else
        g_assert_cmpint(ok, ==, should_succeed(m, id));
    g_assert_cmpint(ok, ==, error == NULL);
}

/* What is held between two calls: scratch space, copies, what a restore has set aside. */
static guint
should_be_held(const SetModel *m)
{
    switch (m->place) {
    case PREPARED:
        return m->f->n_providers;
    case CREATED:
        return m->f->n_providers + 2 * total_selected(m);
    case RESTORING:
        return total_selected(m);
    default:
        return 0;
    }
}

static void
check_states(SetModel *m)
{
    KvssHresult failure;

    for (guint i = 0; i < m->f->n_writers; i++) {
        g_assert_cmpint(kvss_writer_status(m->f->writer[i], &failure), ==, m->state[i]);
        g_assert_cmpuint(failure, ==, m->writer_code[i]);
    }
    for (guint i = 0; i < m->f->n_providers; i++) {
        g_assert_cmpint(kvss_provider_status(m->f->provider[i], &failure), ==, m->copies[i]);
        g_assert_cmpuint(failure, ==, m->provider_code[i]);
    }
    g_assert_cmpuint(kvss_coordinator_failure(m->f->c), ==, m->first_code);
    if (!m->is_left_aside)
        g_assert_cmpuint(fixture_held(m->f), ==, should_be_held(m));
}

static CallId
random_call(GRand *rand, Place place)
{
    static const CallId next[] = { [NEW] = GATHER, [GATHERED] = PREPARE, [PREPARED] = SNAPSHOT,
                                   [CREATED] = COMPLETE, [RESTORING] = POST_RESTORE };

    if (place != OVER && g_rand_int_range(rand, 0, 2) > 0)
        return place == GATHERED && g_rand_int_range(rand, 0, 4) > 0 ? SELECT : next[place];
    return g_rand_int_range(rand, 0, N_CALLS);
}

static void
coordinator_round(GRand *rand)
{
    guint n_writers = g_rand_int_range(rand, 1, 3), n_providers = g_rand_int_range(rand, 1, 3);
    SetModel m = {
        .rand = rand,
        .state = { KVSS_WS_STABLE, KVSS_WS_STABLE },
        .n_components = { g_rand_int_range(rand, 1, 4), g_rand_int_range(rand, 0, 3) },
    };
    g_autoptr(Fixture) f = fixture_new_uneven(n_writers, m.n_components, n_providers);

    m.f = f;
    arm_one(&m, KVSS_RECEIVER_WRITERS);
    arm_one(&m, KVSS_RECEIVER_PROVIDERS);
    for (guint i = 0; i < CALLS_A_ROUND; i++) {
        CallId id = random_call(rand, m.place);

        if (id == SELECT)
            select_one(&m);
        else
            call_one(&m, id);
        check_states(&m);
    }
    model_abort(&m); /* the requester goes away */
    fixture_end(f);
    if (!m.is_left_aside)
        g_assert_cmpuint(fixture_held(f), ==, 0);
}

/* --- rounds --------------------------------------------------------------------------------- */

static void
test_rounds(gconstpointer data)
{
    void (*round)(GRand *rand) = (void (*)(GRand *)) data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (guint i = 0; i < rounds; i++)
        round(rand);
    g_test_message("%u rounds from seed %u", rounds, seed);
}

/* What each round says would be hundreds of megabytes. */
static void
only_trouble(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING))
        g_log_default_handler(domain, level, message, data);
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
    g_log_set_default_handler(only_trouble, NULL);
    rounds = number_from("KVSS_TEST_ROUNDS", rounds);
    seed = number_from("KVSS_TEST_SEED", g_random_int());
    g_print("# KVSS_TEST_SEED=%u KVSS_TEST_ROUNDS=%u\n", seed, rounds);

    g_test_add_data_func("/model/writer", (gconstpointer) writer_round, test_rounds);
    g_test_add_data_func("/model/coordinator", (gconstpointer) coordinator_round, test_rounds);
    return g_test_run();
}
