/*
 * test-set.c - whatever goes wrong in a backup, there is no partial set
 *
 * The real requester's run with fakes on both sides, into a real repository. After
 * each fault nothing is held, the repository has no snapshot more than before, no
 * temporary file, and verify reads every byte of it without a finding.
 */
#include "backup/backup.h"
#include "fault/fixture.h"
#include "repository/repository-private.h"
#include "unit/cheap-key.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>

#define PASSWORD "secret"

/* Of the one step that hangs; a case where a healthy one had no processor is run again. */
#define LIMIT_MS 100
#define GRACE_MS 50
#define N_TRIES 4

/* --- one repository for all, opened anew for each test -------------------------- */

static char *folder;

static char *
path_of(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static KvssRepository *
open_repository(void)
{
    g_autofree char *location = path_of("repository"), *cache = path_of("cache"),
                    *state = path_of("state");
    g_autoptr(GError) error = NULL;
    KvssRepository *repository = kvss_repository_open(location, PASSWORD, KVSS_REPOSITORY_ADD,
                                                      cache, state, &error);

    g_assert_no_error(error);
    return repository;
}

/* Files in a folder of the repository, as anybody sees them who lists it. */
static guint
count_files(const char *name)
{
    g_autofree char *path = g_build_filename(folder, "repository", name, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n;
}

static void
on_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    g_test_message("damage: %s", what);
}

static void
assert_whole(KvssRepository *repository, guint n_snapshots)
{
    const KvssVerifyOptions options = { .read_data = true, .damage = on_damage };
    g_autoptr(GError) error = NULL;
    KvssVerifyResult result;

    g_assert_cmpuint(count_files("snapshots"), ==, n_snapshots);
    g_assert_cmpuint(count_files("tmp"), ==, 0);
    g_assert_true(kvss_repository_verify(repository, NULL, &options, &result, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(result.damaged, ==, 0);
    g_assert_cmpuint(result.snapshots, ==, n_snapshots);
}

/* --- one run ---------------------------------------------------------------------- */

static bool
run(Fixture *f, KvssRepository *repository, KvssBackupResult *out_result, GError **error)
{
    const KvssBackupRequest request = {
        .coordinator = f->c,
        .repository = repository,
        .all = true,
        .cancellable = f->user,
    };

    return kvss_backup_run(&request, out_result, error);
}

static void
assert_fails(Fixture *f, KvssRepository *repository, GError **out_error)
{
    KvssBackupResult result;

    g_assert_false(run(f, repository, &result, out_error));
    g_assert_nonnull(*out_error);
    g_assert_null(result.manifest);
    g_assert_null(result.warning);
    g_assert_cmpstr(result.id, ==, "");
}

static void
assert_succeeds(Fixture *f, KvssRepository *repository, bool has_warning)
{
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;

    g_assert_true(run(f, repository, &result, &error));
    g_assert_no_error(error);
    g_assert_cmpint(result.warning != NULL, ==, has_warning);
    kvss_backup_result_clear(&result);
}

/* --- a fault at an event ------------------------------------------------------------ */

typedef enum {
    REFUSE,
    HANG,
    CRASH,
    CRASH_AFTER,
    YES_WITH_ERROR,
    NO_WITHOUT_ERROR,
    YES_BUT_FAILED,
    TWO_FAILURES,
    N_FAULTS
} Fault;

static const char *const fault_names[N_FAULTS] = {
    "refuse",         "hang",             "crash",          "crash-after",
    "yes-with-error", "no-without-error", "yes-but-failed", "two-failures",
};

static Script *
victim_of(Fixture *f, KvssStepId id)
{
    return kvss_step(id)->receiver == KVSS_RECEIVER_WRITERS
               ? f->writer_script[f->n_writers - 1]
               : f->provider_script[f->n_providers - 1];
}

static void
arm(Fixture *f, Fault fault, KvssStepId id, unsigned factor)
{
    const char *event = kvss_step(id)->name;
    Script *victim = victim_of(f, id);

    switch (fault) {
    case REFUSE:
        script_refuse(victim, event, f->n_components - 1, KVSS_E_WRITERERROR_RETRYABLE);
        return;
    case HANG:
        f->limits.step_ms[id] = LIMIT_MS * factor;
        f->limits.grace_ms = GRACE_MS * factor;
        fixture_apply_limits(f);
        script_stall(victim, event, SCRIPT_FOR_EVER, true);
        return;
    case CRASH:
        script_crash(victim, event, 0);
        return;
    case CRASH_AFTER:
        script_crash(victim, event, SCRIPT_AFTER_ALL);
        return;
    default:
        script_answer(victim, event,
                      SCRIPT_ANSWER_YES_WITH_ERROR + (ScriptAnswer) (fault - YES_WITH_ERROR),
                      f->n_components - 1, KVSS_E_WRITERERROR_RETRYABLE);
    }
}

/* False: somebody was given up who only had no processor. */
static bool
try_step(KvssRepository *repository, Fault fault, KvssStepId id, guint n_writers,
         guint n_components, guint n_providers, unsigned factor)
{
    g_autoptr(Fixture) f = fixture_new(n_writers, n_components, n_providers);
    g_autoptr(GError) error = NULL;
    guint before = count_files("snapshots");

    arm(f, fault, id, factor);
    assert_fails(f, repository, &error);
    if (factor < 1u << N_TRIES && script_count(victim_of(f, id), kvss_step(id)->name) == 0)
        return false;
    g_assert_nonnull(strstr(error->message, kvss_step(id)->name));
    if (fault != HANG || id != KVSS_STEP_POST_SNAPSHOT) /* then it holds its VM: for recovery */
        g_assert_cmpuint(fixture_held(f), ==, 0);
    fixture_end(f);
    fixture_settle(f);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    assert_whole(repository, before);
    return true;
}

static void
test_step(KvssRepository *repository, Fault fault, KvssStepId id, guint n_writers,
          guint n_components, guint n_providers)
{
    unsigned factor = 1;

    while (!try_step(repository, fault, id, n_writers, n_components, n_providers, factor))
        factor *= 2;
}

static void
test_fault(gconstpointer data)
{
    static const struct {
        guint n_writers, n_components, n_providers;
    } sizes[] = { { 2, 2, 2 }, { 1, 1, 1 }, { 1, 2, 2 }, { 2, 8, 1 } };
    Fault fault = (Fault) GPOINTER_TO_UINT(data);
    g_autoptr(KvssRepository) repository = open_repository();

    for (KvssStepId id = KVSS_STEP_BEGIN_PREPARE; id <= KVSS_STEP_POST_FINAL_COMMIT; id++)
        for (guint i = 0; i < (fault == HANG ? 1 : G_N_ELEMENTS(sizes)); i++)
            test_step(repository, fault, id, sizes[i].n_writers, sizes[i].n_components,
                      sizes[i].n_providers);
}

/* --- while the shadow copies are read -------------------------------------------------- */

static void
kill_it(gpointer data)
{
    script_kill(data);
}

/* The provider is dead, or dies, or has no source, when the last disk is opened. */
static void
test_open(void)
{
    g_autoptr(KvssRepository) repository = open_repository();
    guint before = count_files("snapshots");

    for (guint way = 0; way < 4; way++) {
        g_autoptr(Fixture) f = fixture_new(2, 2, 2);
        Script *right = f->provider_script[1];
        g_autoptr(GError) error = NULL;

        if (way == 0)
            script_on(right, "Open", kill_it, right);
        else if (way == 1)
            script_on(right, "Read", kill_it, right);
        else if (way == 2)
            script_answer(right, "Open", SCRIPT_ANSWER_NO_WITHOUT_ERROR, 0, KVSS_S_OK);
        else
            script_answer(right, "Open", SCRIPT_ANSWER_YES_WITH_ERROR, 0, KVSS_S_OK);
        assert_fails(f, repository, &error);
        g_assert_true(g_str_has_prefix(error->message, "web-0: vdb: "));
        g_assert_cmpuint(fixture_held(f), ==, 0);
        fixture_end(f);
        assert_whole(repository, before);
    }
}

/* --- the repository breaks ---------------------------------------------------------------- */

typedef enum { PUT_INDEX, PUT_SNAPSHOT, SPOOL_NEW, APPEND, STORE, SYNC, N_OPS } Op;

static const char *const op_names[N_OPS] = { "put an index", "put the snapshot", "new pack",
                                             "append", "store", "sync" };

/* Takes the place of the local folder's functions; there is one at a time. */
static struct {
    const KvssBackendOps *real;
    KvssBackendOps ops;
    Op op;
    bool is_done_all_the_same; /* it did what it says it could not: a sync failed after the rename */
    gint calls_left;
} breaking;

static bool
is_now(Op op)
{
    return op == breaking.op && g_atomic_int_add(&breaking.calls_left, -1) <= 1;
}

static bool
throw_full(GError **error)
{
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "No space left on device");
}

static bool
breaking_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
             size_t length, GError **error)
{
    bool breaks = (type == KVSS_FILE_INDEX && is_now(PUT_INDEX))
                  || (type == KVSS_FILE_SNAPSHOT && is_now(PUT_SNAPSHOT));

    if (breaks && breaking.is_done_all_the_same)
        g_assert_true(breaking.real->put(backend, type, name, data, length, NULL));
    return breaks ? throw_full(error)
                  : breaking.real->put(backend, type, name, data, length, error);
}

static KvssSpool *
breaking_spool_new(KvssBackend *backend, GError **error)
{
    if (!is_now(SPOOL_NEW))
        return breaking.real->spool_new(backend, error);
    throw_full(error);
    return NULL;
}

static bool
breaking_append(KvssSpool *spool, const void *data, size_t length, GError **error)
{
    return is_now(APPEND) ? throw_full(error)
                          : breaking.real->spool_append(spool, data, length, error);
}

static bool
breaking_store(KvssSpool *spool, KvssFileType type, const char *name, GError **error)
{
    return is_now(STORE) ? throw_full(error)
                         : breaking.real->spool_store(spool, type, name, error);
}

static bool
breaking_sync(KvssBackend *backend, GError **error)
{
    return is_now(SYNC) ? throw_full(error) : breaking.real->sync(backend, error);
}

static void
break_repository(KvssRepository *repository, Op op, bool is_done_all_the_same, gint nth)
{
    breaking.real = repository->backend->ops;
    breaking.ops = *breaking.real;
    breaking.ops.put = breaking_put;
    breaking.ops.spool_new = breaking_spool_new;
    breaking.ops.spool_append = breaking_append;
    breaking.ops.spool_store = breaking_store;
    breaking.ops.sync = breaking_sync;
    breaking.op = op;
    breaking.is_done_all_the_same = is_done_all_the_same;
    breaking.calls_left = nth;
    repository->backend->ops = &breaking.ops;
}

/* New content for each case, or there would be nothing to store. */
static Fixture *
fresh_fixture(void)
{
    static guint n;
    Fixture *f = fixture_new(2, 2, 2);

    fake_provider_set_salt(f->provider[0], ++n);
    fake_provider_set_salt(f->provider[1], n);
    return f;
}

/* Returns: false when there is no such call any more: the backup was a success. */
static bool
backup_breaks(Op op, bool is_done_all_the_same, gint nth)
{
    g_autoptr(KvssRepository) repository = open_repository(), again = NULL;
    g_autoptr(Fixture) f = fresh_fixture();
    g_autoptr(GError) error = NULL;
    guint before = count_files("snapshots");
    KvssBackupResult result;
    bool ok;

    break_repository(repository, op, is_done_all_the_same, nth);
    ok = run(f, repository, &result, &error);
    repository->backend->ops = breaking.real;
    if (ok) {
        g_assert_cmpint(breaking.calls_left, >, 0);
        kvss_backup_result_clear(&result);
        return false;
    }
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NO_SPACE);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    g_clear_pointer(&repository, kvss_repository_free);
    again = open_repository();
    assert_whole(again, before);
    return true;
}

static void
test_full(gconstpointer data)
{
    Op op = (Op) GPOINTER_TO_UINT(data);
    gint nth = 1;

    while (backup_breaks(op, false, nth))
        nth *= 2;
    g_assert_cmpint(nth, >, 1); /* there was such a call */
}

/* The disk gives up between the rename and its sync: a failed backup is not there all the same. */
static void
test_half_put(void)
{
    g_assert_true(backup_breaks(PUT_INDEX, true, 1));
    g_assert_true(backup_breaks(PUT_SNAPSHOT, true, 1));
}

/* --- after the commit ---------------------------------------------------------------------- */

/* The backup is in the repository: what fails now is told and no more. */
static void
test_kept(void)
{
    g_autoptr(KvssRepository) repository = open_repository();

    for (Fault fault = 0; fault < N_FAULTS; fault++) {
        g_autoptr(Fixture) f = fixture_new(2, 2, 2);
        guint before = count_files("snapshots");

        arm(f, fault, KVSS_STEP_BACKUP_COMPLETE, 1);
        assert_succeeds(f, repository, true);
        g_assert_cmpuint(fixture_held(f), ==, 0);
        fixture_end(f);
        assert_whole(repository, before + 1);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static void
make_repository(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *location = NULL;

    folder = g_dir_make_tmp("kvss-test-XXXXXX", &error);
    g_assert_no_error(error);
    location = path_of("repository");
    g_assert_true(cheap_init(location, PASSWORD, &error));
}

static void
add(const char *prefix, const char *name, GTestDataFunc func, guint data)
{
    g_autofree char *path = g_strdup_printf("/%s/%s", prefix, name);

    g_test_add_data_func(path, GUINT_TO_POINTER(data), func);
}

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    make_repository();
    for (Fault fault = 0; fault < N_FAULTS; fault++)
        add("event", fault_names[fault], test_fault, fault);
    g_test_add_func("/copy/open", test_open);
    for (Op op = 0; op < N_OPS; op++)
        add("full", op_names[op], test_full, op);
    g_test_add_func("/full/half-put", test_half_put);
    g_test_add_func("/event/kept", test_kept);
    status = g_test_run();
    (void) nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    g_free(folder);
    return status;
}
