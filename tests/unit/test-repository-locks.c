/*
 * test-repository-locks.c - beside others: who may, who must wait, what a dead process left
 */
#include "repository-fixture.h"
#include "repository/key.h"
#include "repository/repository-private.h"
#include "repository/timestamp.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A lock as restic would write it, @age_s seconds old. */
static void
write_lock(Fixture *f, bool exclusive, gint64 age_s)
{
    g_autoptr(KvssBackend) backend = kvss_backend_open(f->location, NULL);
    g_autofree char *time = kvss_time_format(g_get_real_time() - age_s * G_USEC_PER_SEC);
    g_autoptr(GString) json = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    KvssCodecPool *codecs;
    KvssKey key;

    g_assert_true(kvss_key_open(backend, FIXTURE_PASSWORD, &key, &error));
    codecs = kvss_codec_pool_new(&key);
    g_string_printf(json, "{\"time\":\"%s\",\"exclusive\":%s,\"hostname\":\"other\","
                    "\"username\":\"ann\",\"pid\":4711}", time, exclusive ? "true" : "false");
    g_assert_true(kvss_document_write(backend, codecs, KVSS_FILE_LOCK, json, NULL, &error));
    kvss_codec_pool_free(codecs);
}

static void
test_exclusive(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;

    write_lock(f, true, 60);
    for (int mode = KVSS_REPOSITORY_LOOK; mode <= KVSS_REPOSITORY_ADD; mode++) {
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
    g_test_add_func("/repository/locks/damaged", test_damaged_lock);
    g_test_add_func("/repository/locks/killed", test_killed);
    g_test_add_func("/repository/locks/strange-notes", test_strange_notes);
    g_test_add_func("/repository/locks/lost", test_lock_lost);
    return g_test_run();
}
