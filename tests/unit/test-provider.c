/*
 * test-provider.c - the wrapper: order, states, codes, sources, and the end
 */
#include "provider/fake/fake-provider.h"
#include "stream/source.h"

typedef struct {
    Script *script;
    KvssProvider *provider;
    KvssSnapshotSet *set;
    KvssComponent *component;
    KvssDisk *disk;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->script = script_new();
    f->provider = fake_provider_new(f->script, "fake", "vda");
    f->set = kvss_snapshot_set_new();
    f->component = kvss_component_new("uuid", "web");
    f->disk = kvss_component_add_disk(f->component, "vda");
    f->disk->size = 4096;
    kvss_set_string(&f->disk->provider, "fake");
    g_ptr_array_add(f->set->components, f->component);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    kvss_provider_free(f->provider);
    kvss_snapshot_set_free(f->set);
    kvss_component_free(f->component);
    script_unref(f->script);
}

static bool
run(Fixture *f, KvssProviderStep last, GError **error)
{
    for (KvssProviderStep step = 0; step <= last; step++)
        if (!kvss_provider_step(f->provider, step, f->set, error))
            return false;
    return true;
}

static void
test_states(Fixture *f, gconstpointer data)
{
    static const KvssSnapshotState after[KVSS_PROVIDER_STEP_N] = {
        KVSS_SS_PREPARING,     KVSS_SS_PREPARED,          KVSS_SS_PRECOMMITTED, KVSS_SS_COMMITTED,
        KVSS_SS_POSTCOMMITTED, KVSS_SS_PREFINALCOMMITTED, KVSS_SS_CREATED,
    };

    for (KvssProviderStep step = 0; step < KVSS_PROVIDER_STEP_N; step++) {
        for (KvssProviderStep other = 0; other < KVSS_PROVIDER_STEP_N; other++)
            g_assert_cmpint(kvss_provider_may_step(f->provider, other), ==, other == step);
        g_assert_true(kvss_provider_step(f->provider, step, f->set, NULL));
        g_assert_cmpint(kvss_provider_status(f->provider, NULL), ==, after[step]);
    }
    kvss_provider_delete_copies(f->provider, f->set);
    kvss_provider_delete_copies(f->provider, f->set);
    g_assert_cmpint(kvss_provider_status(f->provider, NULL), ==, KVSS_SS_DELETED);
    g_assert_cmpuint(script_held(f->script), ==, 0);
}

static void
test_failure(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssHresult failure;

    script_throw(f->script, "EndPrepareSnapshots",
                 g_error_new(KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "no room"));
    g_assert_false(run(f, KVSS_PROVIDER_STEP_COMMIT, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE);
    g_assert_cmpstr(error->message, ==, "provider fake: EndPrepareSnapshots: no room");
    g_assert_cmpint(kvss_provider_status(f->provider, &failure), ==, KVSS_SS_ABORTED);
    g_assert_cmpuint(failure, ==, KVSS_E_INSUFFICIENT_STORAGE);
    for (KvssProviderStep step = 0; step < KVSS_PROVIDER_STEP_N; step++)
        g_assert_false(kvss_provider_may_step(f->provider, step));

    kvss_provider_abort(f->provider, f->set);
    kvss_provider_abort(f->provider, f->set);
    g_assert_cmpuint(script_held(f->script), ==, 0);
}

/* VSS lets a provider return few codes; any other becomes one and the same. */
static void
test_codes(Fixture *f, gconstpointer data)
{
    static const struct {
        KvssHresult marked, expected;
    } cases[] = {
        { KVSS_E_PROVIDER_VETO, KVSS_E_PROVIDER_VETO },
        { KVSS_E_INSUFFICIENT_STORAGE, KVSS_E_INSUFFICIENT_STORAGE },
        { KVSS_E_WRITERERROR_RETRYABLE, KVSS_E_UNEXPECTED_PROVIDER_ERROR },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Script) script = script_new();
        g_autoptr(KvssProvider) provider = fake_provider_new(script, "other", NULL);
        g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
        g_autoptr(KvssComponent) component = kvss_component_new("web-0", "web-0");
        g_autoptr(GError) error = NULL;
        KvssHresult failure;

        component->is_selected = true;
        g_ptr_array_add(set->components, component);
        script_answer(script, "BeginPrepareSnapshot", SCRIPT_ANSWER_YES_BUT_FAILED, 0,
                      cases[i].marked);
        g_assert_false(kvss_provider_step(provider, KVSS_PROVIDER_STEP_BEGIN_PREPARE, set, &error));
        g_assert_cmpstr(error->message, ==, "provider other: BeginPrepareSnapshot: web-0: fails");
        g_assert_cmpint(kvss_provider_status(provider, &failure), ==, KVSS_SS_ABORTED);
        g_assert_cmpuint(failure, ==, cases[i].expected);
    }
}

static void
test_supported(Fixture *f, gconstpointer data)
{
    g_autofree char *reason = NULL;
    KvssDisk *other = kvss_component_add_disk(f->component, "vdb");

    g_assert_true(kvss_provider_is_supported(f->provider, f->component, f->disk, &reason));
    g_assert_null(reason);
    g_assert_false(kvss_provider_is_supported(f->provider, f->component, other, &reason));
    g_assert_cmpstr(reason, ==, "cuts vda only");
}

static void
test_open(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSource) source = NULL;

    g_assert_true(run(f, KVSS_PROVIDER_STEP_POST_FINAL_COMMIT, &error));
    source = kvss_provider_open(f->provider, f->component, f->disk, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(source->size, ==, 4096);
}

/* It said that it had made the copies: open tells, with the disk's name. */
static void
test_open_after_lie(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    script_lie(f->script, "CommitSnapshots");
    g_assert_true(run(f, KVSS_PROVIDER_STEP_POST_FINAL_COMMIT, &error));
    g_assert_null(kvss_provider_open(f->provider, f->component, f->disk, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
    g_assert_cmpstr(error->message, ==, "provider fake: open web: vda: there is no shadow copy");
}

static gpointer
run_to_commit(gpointer data)
{
    GError *error = NULL;

    g_assert_false(run(data, KVSS_PROVIDER_STEP_COMMIT, &error));
    return error;
}

static void
test_too_late(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    GThread *thread;

    script_stall(f->script, "CommitSnapshots", SCRIPT_FOR_EVER, true);
    thread = g_thread_new("stuck", run_to_commit, f);
    while (script_count(f->script, "CommitSnapshots") == 0)
        g_usleep(1000);

    kvss_provider_fail(f->provider, KVSS_E_HOLD_WRITES_TIMEOUT);
    kvss_provider_abort(f->provider, f->set);
    script_release(f->script);
    error = g_thread_join(thread);
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT);
    g_assert_cmpint(kvss_provider_status(f->provider, NULL), ==, KVSS_SS_ABORTED);

    /* It has made copies after all: the second abort is for those. */
    g_assert_cmpuint(script_held(f->script), >, 0);
    kvss_provider_abort(f->provider, f->set);
    g_assert_cmpuint(script_held(f->script), ==, 0);
}

#define ADD(name, func) g_test_add("/provider/" name, Fixture, NULL, set_up, func, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("states", test_states);
    ADD("failure", test_failure);
    ADD("codes", test_codes);
    ADD("supported", test_supported);
    ADD("open", test_open);
    ADD("open-after-lie", test_open_after_lie);
    ADD("too-late", test_too_late);
    return g_test_run();
}
