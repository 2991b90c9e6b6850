/*
 * test-repository-locks.c - beside others: who may, who must wait, what a dead process left
 */
#include "repository-fixture.h"
#include "repository/file/document.h"
#include "repository/file/key.h"
#include "repository/format/timestamp.h"
#include "repository/repository-private.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A lock as restic would write it, @age_s seconds old. */
static void
write_lock_of(Fixture *f, bool exclusive, gint64 age_s, const char *host, int pid)
{
    g_autoptr(KvssBackend) backend = kvss_backend_open(f->location, NULL);
    g_autofree char *time = kvss_time_format(g_get_real_time() - age_s * G_USEC_PER_SEC);
    g_autoptr(GString) json = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    KvssCodecPool *codecs;
    KvssKey key;

    g_assert_true(kvss_key_open(backend, FIXTURE_PASSWORD, &key, &error));
    codecs = kvss_codec_pool_new(&key);
    g_string_printf(json, "{\"time\":\"%s\",\"exclusive\":%s,\"hostname\":\"%s\","
                    "\"username\":\"ann\",\"pid\":%d}", time, exclusive ? "true" : "false",
                    host, pid);
    g_assert_true(kvss_document_write(backend, codecs, KVSS_FILE_LOCK, json, NULL, &error));
    kvss_codec_pool_free(codecs);
}

static void
write_lock(Fixture *f, bool exclusive, gint64 age_s)
{
    write_lock_of(f, exclusive, age_s, "other", 4711);
}

static void
test_exclusive(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;

    write_lock(f, true, 60);
    for (int mode = KVSS_REPOSITORY_LOOK; mode <= KVSS_REPOSITORY_REMOVE; mode++) {
        g_clear_error(&error);
        g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD,
                                           (KvssRepositoryMode) mode, NULL, f->state, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
        g_assert_nonnull(strstr(error->message, "ann on other (pid 4711)"));
    }
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1); /* theirs; we left none */
}

static void
test_others_that_do_not_matter(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) one = NULL, two = NULL;

    write_lock(f, false, 60);
    write_lock(f, true, 31 * 60);
    one = fixture_open(f, KVSS_REPOSITORY_ADD);
    two = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 4);
    kvss_repository_free(g_steal_pointer(&one));
    kvss_repository_free(g_steal_pointer(&two));
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 2);
}

/* Who removes is alone: any lock is in the way, but an old one. */
static void
test_to_remove(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) alone = NULL, reader = NULL;
    g_autoptr(GError) error = NULL;

    write_lock(f, false, 31 * 60);
    alone = fixture_open(f, KVSS_REPOSITORY_REMOVE);
    for (int mode = KVSS_REPOSITORY_LOOK; mode <= KVSS_REPOSITORY_REMOVE; mode++) {
        g_clear_error(&error);
        g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD,
                                           (KvssRepositoryMode) mode, NULL, f->state, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
        g_assert_nonnull(strstr(error->message, "alone since"));
    }
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 2);
    kvss_repository_free(g_steal_pointer(&alone));

    reader = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_clear_error(&error);
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_REMOVE, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
    g_assert_null(strstr(error->message, "alone"));
    kvss_repository_free(g_steal_pointer(&reader));
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1);
}

/* A process of this host that is gone is named as such; its lock counts all the same. */
static void
test_seems_dead(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    write_lock_of(f, true, 60, g_get_host_name(), pid);
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_LOOK, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
    g_assert_nonnull(strstr(error->message, "does not run any more"));
}

static void
count_begin(const GError *in_the_way, gpointer data)
{
    g_assert_error(in_the_way, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
    g_atomic_int_inc((unsigned *) data);
}

typedef struct {
    KvssRepository *repository;
    unsigned *n_begun;
} Holder;

/* When somebody waits for it. */
static gpointer
free_then(gpointer data)
{
    Holder *holder = data;

    while (g_atomic_int_get(holder->n_begun) == 0)
        g_usleep(10 * 1000);
    kvss_repository_free(holder->repository);
    return NULL;
}

static void
test_waiting(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    unsigned n_begun = 0;
    KvssLockWait wait = { .limit_ms = 300, .begin = count_begin, .data = &n_begun };
    Holder holder = { .n_begun = &n_begun };
    g_autoptr(GError) error = NULL;
    GThread *thread;

    /* too short */
    repository = fixture_open(f, KVSS_REPOSITORY_REMOVE);
    g_assert_null(kvss_repository_open_patiently(f->location, FIXTURE_PASSWORD,
                                                 KVSS_REPOSITORY_ADD, NULL, f->state, &wait,
                                                 &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
    g_assert_cmpuint(n_begun, ==, 1);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1);

    /* cancelled */
    g_clear_error(&error);
    wait.limit_ms = 60000;
    wait.cancellable = cancellable;
    g_cancellable_cancel(cancellable);
    g_assert_null(kvss_repository_open_patiently(f->location, FIXTURE_PASSWORD,
                                                 KVSS_REPOSITORY_ADD, NULL, f->state, &wait,
                                                 &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);

    /* long enough; told once */
    g_clear_error(&error);
    wait.cancellable = NULL;
    n_begun = 0;
    holder.repository = g_steal_pointer(&repository);
    thread = g_thread_new("holder", free_then, &holder);
    repository = kvss_repository_open_patiently(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_ADD,
                                                NULL, f->state, &wait, &error);
    g_assert_no_error(error);
    g_assert_nonnull(repository);
    g_assert_cmpuint(n_begun, ==, 1);
    g_thread_join(thread);
}

/* Of two that want to be alone at most one is, and nobody's lock stays. */
static gpointer
open_alone(gpointer data)
{
    Fixture *f = data;
    KvssLockWait wait = { .limit_ms = 60000 };
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssRepository) repository
        = kvss_repository_open_patiently(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_REMOVE,
                                         NULL, f->state, &wait, &error);
    static gint n_alone;

    g_assert_no_error(error);
    g_assert_cmpint(g_atomic_int_add(&n_alone, 1), ==, 0);
    g_usleep(50 * 1000);
    g_assert_cmpint(g_atomic_int_add(&n_alone, -1), ==, 1);
    return NULL;
}

static void
test_race(void)
{
    g_autoptr(Fixture) f = fixture_new();
    GThread *threads[4];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("alone", open_alone, f);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 0);
}

static void
test_damaged_lock(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    write_lock(f, false, 60);
    path = fixture_file(f, "locks", 0);
    fixture_flip(path, 20);
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_LOOK, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
}

static unsigned
count_notes(Fixture *f)
{
    g_autofree char *folder = g_build_filename(f->state, "locks", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned n = 0;
    const char *name;

    while (dir && (name = g_dir_read_name(dir)) != NULL)
        n += name[0] != '.';
    return n;
}

/* A child opens the repository and stays there until it is killed. */
static pid_t
start_holder(Fixture *f)
{
    int ready[2];
    char c;
    pid_t pid;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid = fork();
    if (pid == 0) {
        KvssRepository *repository
            = kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_ADD, NULL,
                                   f->state, NULL);

        if (!repository || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &c, 1), ==, 1);
    close(ready[0]);
    return pid;
}

static void
test_killed(void)
{
    g_autoptr(Fixture) f = fixture_new();
    pid_t pid = start_holder(f);
    g_autoptr(KvssRepository) repository = NULL;
    unsigned dropped = 99;

    /* It lives: its lock is respected, by a look without and with a password. */
    g_assert_true(kvss_repository_drop_stale_locks(f->state, false, &dropped, NULL));
    g_assert_cmpuint(dropped, ==, 0);
    repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 2);
    kvss_repository_free(g_steal_pointer(&repository));
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1);

    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_assert_true(kvss_repository_drop_stale_locks(f->state, true, &dropped, NULL));
    g_assert_cmpuint(dropped, ==, 1);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1);
    g_assert_cmpuint(count_notes(f), ==, 1);

    repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 1); /* our own */
    kvss_repository_free(g_steal_pointer(&repository));
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 0);
    g_assert_cmpuint(count_notes(f), ==, 0);
}

/* A note that points nowhere, or has nonsense in it, neither stops us nor removes anything. */
static void
test_strange_notes(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *folder = g_build_filename(f->state, "locks", NULL);
    g_autofree char *gone = g_build_filename(folder, "1-gone", NULL);
    g_autofree char *nonsense = g_build_filename(folder, "2-nonsense", NULL);
    g_autofree char *text = g_strconcat(f->location, "\n../config\nconfig\n", NULL);
    g_autoptr(GError) error = NULL;
    unsigned dropped;

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_assert_true(g_file_set_contents(gone, "/no/where\n" "0011", -1, NULL));
    g_assert_true(g_file_set_contents(nonsense, text, -1, NULL));
    g_assert_true(kvss_repository_drop_stale_locks(f->state, false, &dropped, &error));
    g_assert_cmpuint(dropped, ==, 0);
    g_assert_cmpuint(count_notes(f), ==, 0);
    g_assert_cmpuint(fixture_count(f, "config"), ==, 1);
}

/* Our lock was removed by somebody: the backup does not claim to exist. */
static void
test_lock_lost(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    g_autofree char *lock = fixture_file(f, "locks", 0);
    g_autoptr(GBytes) one = g_bytes_new("x", 1);
    KvssSnapshotInfo info = { .hostname = "h" };
    char id[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_upload_add_bytes(upload, "x", one, 0600, &error));
    g_assert_cmpint(unlink(lock), ==, 0);
    g_assert_false(kvss_upload_commit(upload, &info, id, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
    g_assert_cmpuint(fixture_count(f, "snapshots"), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repository/locks/exclusive", test_exclusive);
    g_test_add_func("/repository/locks/others", test_others_that_do_not_matter);
    g_test_add_func("/repository/locks/to-remove", test_to_remove);
    g_test_add_func("/repository/locks/seems-dead", test_seems_dead);
    g_test_add_func("/repository/locks/waiting", test_waiting);
    g_test_add_func("/repository/locks/race", test_race);
    g_test_add_func("/repository/locks/damaged", test_damaged_lock);
    g_test_add_func("/repository/locks/killed", test_killed);
    g_test_add_func("/repository/locks/strange-notes", test_strange_notes);
    g_test_add_func("/repository/locks/lost", test_lock_lost);
    return g_test_run();
}
