/*
 * test-files-provider.c - files of the host, cut and held, with real folders
 *
 * Here everything is copied, since the file system of a build folder seldom has
 * clones; clones are tried where KVSS_TEST_REFLINK names a folder that has them.
 */
#include "base/beneath.h"
#include "guardian/run.h"
#include "host/connection.h"
#include "provider/files/files-provider.h"

#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ID "22222222-2222-4333-8444-555555555555"

typedef struct {
    char *folder, *data, *state;
    KvssHost *host;
    KvssRun *run;
    KvssSnapshotSet *set;
    KvssComponent *component;
    KvssProvider *provider;
} Fixture;

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    const char *base = g_getenv(data ? data : "");
    g_autoptr(GError) error = NULL;

    f->folder = base ? g_build_filename(base, "kvss-files-XXXXXX", NULL)
                     : g_build_filename(g_get_tmp_dir(), "kvss-files-XXXXXX", NULL);
    g_assert_nonnull(g_mkdtemp(f->folder));
    f->data = g_build_filename(f->folder, "data", NULL);
    f->state = base ? g_dir_make_tmp("kvss-files-XXXXXX", NULL)
                    : g_build_filename(f->folder, "state", NULL);
    g_assert_cmpint(g_mkdir(f->data, 0755), ==, 0);
    f->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    f->run = kvss_run_begin(f->state, NULL, f->host, ID, "backup", &error);
    g_assert_no_error(error);
    f->set = kvss_snapshot_set_new();
    f->set->run = f->run;
    f->component = kvss_component_new("inventory", "sqlite:inventory");
    g_ptr_array_add(f->set->components, f->component);
    f->provider = kvss_files_provider_new(NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    kvss_provider_free(f->provider);
    kvss_component_free(f->component);
    kvss_snapshot_set_free(f->set);
    g_assert_true(kvss_run_finish(f->run, &error));
    g_assert_no_error(error);
    kvss_run_free(f->run);
    kvss_host_free(f->host);
    (void) nftw(f->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    (void) nftw(f->state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    g_free(f->folder);
    g_free(f->data);
    g_free(f->state);
}

static void
limit_to(Fixture *f, const KvssFilesLimits *limits)
{
    kvss_provider_free(f->provider);
    f->provider = kvss_files_provider_new(limits);
}

static char *
put(Fixture *f, const char *name, const char *text)
{
    char *path = g_build_filename(f->data, name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static KvssFileSet *
declare(Fixture *f, const char *filespec, bool is_recursive, bool is_stable)
{
    KvssFileSet *files = kvss_component_add_file_set(f->component, f->data, filespec,
                                                     is_recursive);

    files->is_stable = is_stable;
    kvss_set_string(&files->provider, KVSS_FILES_PROVIDER_NAME);
    return files;
}

static bool
run_until(Fixture *f, KvssProviderStep first, KvssProviderStep last, GError **error)
{
    for (KvssProviderStep step = first; step <= last; step++)
        if (!kvss_provider_step(f->provider, step, f->set, error))
            return false;
    return true;
}

static void
run_all(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_POST_FINAL_COMMIT, &error));
    g_assert_no_error(error);
}

static const KvssFile *
find(Fixture *f, const char *path)
{
    g_autofree char *name = g_strconcat("files", path, NULL);

    return kvss_component_find_file(f->component, name);
}

static void
assert_holds(const KvssFile *file, const char *text)
{
    g_autofree char *content = NULL;

    g_assert_nonnull(file);
    g_assert_true(g_file_get_contents(file->path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, text);
}

static guint
count_in(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    guint n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n;
}

/* The end leaves nothing in the work folder and nothing beside the data; twice does no harm. */
static void
assert_all_gone(Fixture *f)
{
    guint before = g_str_has_prefix(f->state, f->folder) ? 2 : 1;

    kvss_provider_abort(f->provider, f->set);
    kvss_provider_abort(f->provider, f->set);
    kvss_provider_delete_copies(f->provider, f->set);
    g_assert_cmpuint(count_in(kvss_run_folder(f->run)), ==, 0);
    g_assert_cmpuint(count_in(f->folder), ==, before);
}

/* What is written after the cut is not in it. */
static void
test_cut(Fixture *f, gconstpointer data)
{
    g_autofree char *db = put(f, "inventory.db", "before"), *wal = put(f, "inventory.db-wal", "w");
    g_autofree char *other = put(f, "other.txt", "o"), *deep = put(f, "sub/x.db", "deep");
    gint64 now_us = g_get_monotonic_time();
    const KvssFile *file;
    struct stat st;

    g_assert_cmpint(g_chmod(db, 0640), ==, 0);
    g_assert_cmpint(chown(db, 1234, 4321), ==, 0);
    declare(f, "inventory.db*", false, false);
    declare(f, "*.db", false, false); /* the same file once more */
    run_all(f);
    g_assert_cmpuint(f->component->files->len, ==, 2);
    file = find(f, db);
    g_assert_true(g_file_set_contents(db, "after!", -1, NULL));
    assert_holds(file, "before");
    assert_holds(find(f, wal), "w");
    g_assert_cmpstr(file->original, ==, db);
    g_assert_cmpuint(file->mode, ==, 0640);
    g_assert_cmpint(file->uid, ==, 1234);
    g_assert_cmpint(file->gid, ==, 4321);
    g_assert_cmpint(stat(file->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
    g_assert_cmpint(f->component->instant_us, >=, now_us);
    g_assert_null(find(f, other));
    g_assert_null(find(f, deep));
    assert_all_gone(f);
}

/* Folders below, but none through a link; what is no file is told, not carried. */
static void
test_walk(Fixture *f, gconstpointer data)
{
    g_autofree char *a = put(f, "a", "1"), *b = put(f, "sub/deep/b", "2");
    g_autofree char *link = g_build_filename(f->data, "link", NULL);
    g_autofree char *folder_link = g_build_filename(f->data, "etc", NULL);
    g_autofree char *pipe = g_build_filename(f->data, "pipe", NULL);
    g_autofree char *bad = g_build_filename(f->data, "bad\nname", NULL);
    g_autofree char *kept = put(f, "a.kvss-old-0123abcd", "0");
    g_autofree char *kept_long = put(f, ".kvss-old-0123abcd-0123456789abcdef", "0");

    g_assert_cmpint(symlink("/etc/passwd", link), ==, 0);
    g_assert_cmpint(symlink("/etc", folder_link), ==, 0);
    g_assert_cmpint(mkfifo(pipe, 0600), ==, 0);
    g_assert_true(g_file_set_contents(bad, "x", -1, NULL));
    declare(f, "*", true, false);
    run_all(f);
    g_assert_cmpuint(f->component->files->len, ==, 2);
    assert_holds(find(f, a), "1");
    assert_holds(find(f, b), "2");
    g_assert_null(find(f, kept));
    g_assert_null(find(f, kept_long));
    g_assert_cmpuint(f->component->notes->len, ==, 5);
    g_assert_cmpuint(f->component->not_covered->len, ==, 1);
    assert_all_gone(f);
}

static void
test_stable(Fixture *f, gconstpointer data)
{
    g_autofree char *dump = put(f, "dump.sql", "text");
    const KvssFile *file;
    g_autoptr(GError) error = NULL;

    declare(f, "*.sql", false, true);
    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_PRE_FINAL_COMMIT, &error));
    g_assert_cmpuint(f->component->files->len, ==, 0);
    g_assert_true(run_until(f, KVSS_PROVIDER_STEP_POST_FINAL_COMMIT,
                            KVSS_PROVIDER_STEP_POST_FINAL_COMMIT, &error));
    file = find(f, dump);
    g_assert_cmpstr(file->path, ==, dump);
    g_assert_true(file->is_identified);
    g_assert_cmpuint(file->size, ==, 4);
    g_assert_cmpint(f->component->instant_us, ==, -1); /* nothing was cut */
    assert_all_gone(f);
    assert_holds(file, "text");
}

static void
assert_refused(Fixture *f, KvssProviderStep last, KvssHresult code, const char *words)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(run_until(f, 0, last, &error));
    g_assert_nonnull(strstr(error->message, "sqlite:inventory"));
    if (!strstr(error->message, words))
        g_error("'%s' is not in '%s'", words, error->message);
    g_assert_cmphex(f->component->failure, ==, code);
    assert_all_gone(f);
}

/* Seen before anybody is frozen. */
static void
test_too_large(Fixture *f, gconstpointer data)
{
    const KvssFilesLimits limits = { .copy_bytes = 5 };
    g_autofree char *a = put(f, "a", "1234"), *b = put(f, "b", "56");

    limit_to(f, &limits);
    declare(f, "*", false, false);
    assert_refused(f, KVSS_PROVIDER_STEP_END_PREPARE, KVSS_E_HOLD_WRITES_TIMEOUT, "reflink");
}

/* It grew since. */
static void
test_grown(Fixture *f, gconstpointer data)
{
    const KvssFilesLimits limits = { .copy_bytes = 5 };
    g_autofree char *a = put(f, "a", "1234");
    g_autoptr(GError) error = NULL;

    limit_to(f, &limits);
    declare(f, "*", false, false);
    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_END_PREPARE, &error));
    g_assert_true(g_file_set_contents(a, "123456", -1, NULL));
    g_assert_false(run_until(f, KVSS_PROVIDER_STEP_PRE_COMMIT, KVSS_PROVIDER_STEP_COMMIT, &error));
    g_assert_nonnull(strstr(error->message, "stable"));
    g_assert_cmphex(f->component->failure, ==, KVSS_E_HOLD_WRITES_TIMEOUT);
    assert_all_gone(f);
}

static void
test_too_many(Fixture *f, gconstpointer data)
{
    const KvssFilesLimits limits = { .files = 2 };
    g_autofree char *a = put(f, "a", ""), *b = put(f, "b", ""), *c = put(f, "c", "");

    limit_to(f, &limits);
    declare(f, "*", false, false);
    assert_refused(f, KVSS_PROVIDER_STEP_END_PREPARE, KVSS_E_PROVIDER_VETO, "too many files");
}

static void
test_too_deep(Fixture *f, gconstpointer data)
{
    g_autoptr(GString) name = g_string_new("d");
    g_autofree char *file = NULL;

    for (int i = 0; i < 70; i++)
        g_string_append(name, "/d");
    g_string_append(name, "/file");
    file = put(f, name->str, "");
    declare(f, "*", true, false);
    assert_refused(f, KVSS_PROVIDER_STEP_END_PREPARE, KVSS_E_PROVIDER_VETO, "nested deeper");
}

/* The folder is reached through a link, or becomes one between the look and the cut. */
static void
test_link_in_path(Fixture *f, gconstpointer data)
{
    g_autofree char *a = put(f, "secret", "1"), *real = g_strconcat(f->data, "-real", NULL);
    g_autoptr(GError) error = NULL;

    declare(f, "*", false, false);
    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_END_PREPARE, &error));
    g_assert_cmpint(g_rename(f->data, real), ==, 0);
    g_assert_cmpint(symlink(real, f->data), ==, 0);
    g_assert_false(run_until(f, KVSS_PROVIDER_STEP_PRE_COMMIT, KVSS_PROVIDER_STEP_COMMIT, &error));
    g_assert_nonnull(strstr(error->message, "symbolic link"));
    g_assert_cmpuint(f->component->files->len, ==, 0);
    kvss_provider_abort(f->provider, f->set);
    g_assert_cmpuint(count_in(kvss_run_folder(f->run)), ==, 0);
}

static void
test_absent(Fixture *f, gconstpointer data)
{
    declare(f, "*", false, false);
    g_assert_cmpint(g_rmdir(f->data), ==, 0);
    {
        g_autoptr(GError) error = NULL;

        g_assert_false(run_until(f, 0, KVSS_PROVIDER_STEP_COMMIT, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
    }
    g_assert_cmpint(g_mkdir(f->data, 0755), ==, 0);
    assert_all_gone(f);
}

static void
test_cancelled(Fixture *f, gconstpointer data)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autofree char *a = put(f, "a", "1");
    g_autoptr(GError) error = NULL;

    declare(f, "*", false, false);
    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_END_PREPARE, &error));
    f->set->cancellable = cancellable;
    g_cancellable_cancel(cancellable);
    g_assert_false(run_until(f, KVSS_PROVIDER_STEP_PRE_COMMIT, KVSS_PROVIDER_STEP_COMMIT, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
    g_assert_cmphex(f->component->failure, ==, KVSS_S_OK);
    assert_all_gone(f);
}

static gpointer
commit_thread(gpointer data)
{
    Fixture *f = data;

    (void) run_until(f, KVSS_PROVIDER_STEP_PRE_COMMIT, KVSS_PROVIDER_STEP_COMMIT, NULL);
    return NULL;
}

/* The abort comes while the commit is at work, and once more when it has come back. */
static void
test_abort_meanwhile(Fixture *f, gconstpointer data)
{
    GThread *thread;

    for (unsigned i = 0; i < 3000; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        g_autofree char *path = put(f, name, "x");
    }
    declare(f, "*", false, false);
    g_assert_true(run_until(f, 0, KVSS_PROVIDER_STEP_END_PREPARE, NULL));
    thread = g_thread_new("commit", commit_thread, f);
    g_usleep(5000);
    kvss_provider_abort(f->provider, f->set);
    g_thread_join(thread);
    assert_all_gone(f);
}

/* Our own folders are never part of what is carried; that journals are not is told. */
static void
test_not_ourselves(Fixture *f, gconstpointer data)
{
    g_autofree char *a = put(f, "a", "1"), *work = g_path_get_dirname(kvss_run_folder(f->run));
    g_autofree char *note = g_strdup_printf("%s is the state folder of kvss: left out", f->state);

    kvss_set_string(&declare(f, "*", true, false)->path, f->folder);
    kvss_set_string(&declare(f, "*", true, false)->path, work);
    run_all(f);
    assert_holds(find(f, a), "1");
    g_assert_cmpuint(f->component->files->len, ==, 1);
    g_assert_cmpuint(f->component->notes->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(f->component->notes, 0), ==, note);
    assert_all_gone(f);
}

static void
test_supported(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *path, *filespec;
        bool is_supported;
    } cases[] = {
        { "/srv/db", "*", true },      { "/srv/db", "*.d?", true },  { "srv/db", "*", false },
        { "/srv/../etc", "*", false }, { "/srv//db", "*", false },   { "/srv/db/", "*", false },
        { "/srv/db", "", false },      { "/srv/db", "a/b", false },  { "/proc/1", "*", false },
        { "/sys", "*", false },        { "/srv/d\nb", "*", false },  { "/", "*", false },
        { "/srv/\xff", "*", false },   { "/process", "*", true },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *reason = NULL;
        KvssFileSet *files = kvss_component_add_file_set(f->component, cases[i].path,
                                                         cases[i].filespec, true);

        g_assert_cmpint(kvss_provider_is_file_set_supported(f->provider, f->component, files,
                                                            &reason), ==, cases[i].is_supported);
        g_assert_cmpint(reason == NULL, ==, cases[i].is_supported);
    }
    g_ptr_array_set_size(f->component->file_sets, 0);
}

static void
test_matches(void)
{
    static const struct {
        const char *filespec, *name;
        bool matches;
    } cases[] = {
        { "*", "", true },          { "*", "a", true },           { "", "a", false },
        { "?", "a", true },         { "?", "", false },           { "?", "\303\274", true },
        { "a*b*c", "aXbYc", true }, { "a*b*c", "aXbY", false },   { "*.db", "x.db", true },
        { "*.db", "x.dbx", false }, { "*a?", "xaab", true },      { "x.db*", "x.db-wal", true },
        { "A", "a", false },        { "*\303\274?", "x\303\274y", true },
    };
    KvssFileSet flat = { .path = (char *) "/srv/db", .filespec = (char *) "*.db" };
    KvssFileSet deep = { .path = (char *) "/srv/db", .filespec = (char *) "*", .is_recursive = true };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(kvss_filespec_matches(cases[i].filespec, cases[i].name), ==,
                        cases[i].matches);
    g_assert_true(kvss_file_set_has(&flat, "/srv/db/x.db"));
    g_assert_false(kvss_file_set_has(&flat, "/srv/db/sub/x.db"));
    g_assert_false(kvss_file_set_has(&flat, "/srv/dbx.db"));
    g_assert_false(kvss_file_set_has(&flat, "/srv/db"));
    g_assert_true(kvss_file_set_has(&deep, "/srv/db/sub/x"));
    g_assert_false(kvss_file_set_has(&deep, "/etc/shadow"));
}

/* On a file system with clones: beside the data, without a limit in bytes. */
static void
test_clones(Fixture *f, gconstpointer data)
{
    const KvssFilesLimits limits = { .copy_bytes = 5 };
    g_autofree char *db = put(f, "db", "a database that is larger than five bytes");
    const KvssFile *file;

    limit_to(f, &limits);
    declare(f, "*", false, false);
    run_all(f);
    file = find(f, db);
    g_assert_true(g_file_set_contents(db, "after", -1, NULL));
    assert_holds(file, "a database that is larger than five bytes");
    g_assert_true(g_str_has_prefix(file->path, f->folder));
    g_assert_nonnull(strstr(file->path, "/.kvss-"));
    assert_all_gone(f);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    TEST("/files-provider/cut", test_cut);
    TEST("/files-provider/walk", test_walk);
    TEST("/files-provider/stable", test_stable);
    TEST("/files-provider/too-large", test_too_large);
    TEST("/files-provider/grown", test_grown);
    TEST("/files-provider/too-many", test_too_many);
    TEST("/files-provider/too-deep", test_too_deep);
    TEST("/files-provider/link-in-path", test_link_in_path);
    TEST("/files-provider/absent", test_absent);
    TEST("/files-provider/cancelled", test_cancelled);
    TEST("/files-provider/abort-meanwhile", test_abort_meanwhile);
    TEST("/files-provider/not-ourselves", test_not_ourselves);
    TEST("/files-provider/supported", test_supported);
    g_test_add_func("/files-provider/matches", test_matches);
    if (g_getenv("KVSS_TEST_REFLINK"))
        g_test_add("/files-provider/clones", Fixture, "KVSS_TEST_REFLINK", set_up, test_clones,
                   tear_down);
    return g_test_run();
}
