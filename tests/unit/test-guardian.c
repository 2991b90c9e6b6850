/*
 * test-guardian.c - runs, their journals, the guardian process, recovery
 *
 * The real guardian program runs here, beside libvirt's test driver; what needs
 * a guest is tested with guests.
 */
#include "guardian/journal.h"
#include "guardian/recovery.h"
#include "guardian/run.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ID "11111111-2222-4333-8444-555555555555"
#define URI "test:///default"
#define LIMIT_US (10 * G_USEC_PER_SEC)

typedef struct {
    char *state;
    KvssHost *host;
    int is_over;
} Fixture;

static void
fixture_set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->state = g_dir_make_tmp("kvss-guardian-XXXXXX", &error);
    g_assert_no_error(error);
    f->host = kvss_host_open(URI, &error);
    g_assert_no_error(error);
}

static void
remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    (void) g_remove(path);
}

static void
fixture_tear_down(Fixture *f, gconstpointer data)
{
    kvss_host_free(f->host);
    remove_tree(f->state);
    g_free(f->state);
}

static KvssRun *
begin(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    KvssRun *run = kvss_run_begin(f->state, NULL, f->host, ID, "backup", &error);

    g_assert_no_error(error);
    return run;
}

static JsonObject *
details_path(const char *path)
{
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "path", path);
    return details;
}

/* A file of ours, made under an act. */
static char *
make_file(Fixture *f, KvssRun *run, const char *name, KvssActId *out_act)
{
    g_autoptr(GError) error = NULL;
    char *path = g_build_filename(f->state, name, NULL);

    *out_act = kvss_run_act_begin(run, KVSS_ACT_FILE, details_path(path), &error);
    g_assert_no_error(error);
    g_assert_true(g_file_set_contents(path, "x", 1, NULL));
    return path;
}

static char *
journal_path(Fixture *f)
{
    return g_build_filename(f->state, "journals", ID ".journal", NULL);
}

static bool
exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static bool
goes_away(const char *path)
{
    gint64 deadline_us = g_get_monotonic_time() + LIMIT_US;

    while (exists(path) && g_get_monotonic_time() < deadline_us)
        g_usleep(10 * 1000);
    return !exists(path);
}

/* ---- a run that ends well or undoes itself ---- */

static void
test_finish(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    g_autofree char *journal = journal_path(f);
    g_autofree char *folder = g_strdup(kvss_run_folder(run));
    KvssActId act;
    g_autofree char *kept = make_file(f, run, "kept", &act);

    g_assert_true(exists(journal) && exists(folder));
    kvss_run_act_end(run, act);
    g_assert_true(kvss_run_finish(run, &error));
    g_assert_no_error(error);
    g_assert_true(exists(kept));
    g_assert_false(exists(journal));
    g_assert_false(exists(folder));
}

static void
test_undo(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    KvssActId ended, open;
    g_autofree char *kept = make_file(f, run, "kept", &ended);
    g_autofree char *undone = make_file(f, run, "undone", &open);

    kvss_run_act_end(run, ended);
    g_assert_true(kvss_run_undo(run, &error));
    g_assert_no_error(error);
    g_assert_true(exists(kept));
    g_assert_false(exists(undone));
    g_assert_true(kvss_run_undo(run, &error)); /* twice does no harm */
    g_assert_true(kvss_run_finish(run, &error));
}

/* ---- the guardian ---- */

static void
start_guardian(KvssRun *run)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_run_start_guardian(run, &error));
    g_assert_no_error(error);
}

static void
test_limit(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    KvssActId act;
    g_autofree char *path = NULL;
    gint64 start_us;

    start_guardian(run);
    path = make_file(f, run, "late", &act);
    start_us = g_get_monotonic_time();
    g_assert_true(kvss_run_arm(run, act, 300, &error));
    g_assert_no_error(error);
    g_assert_true(goes_away(path));
    g_assert_cmpint(g_get_monotonic_time() - start_us, >=, 300 * 1000);
    g_assert_false(kvss_run_disarm(run, act, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT);
    g_clear_error(&error);
    g_assert_true(kvss_run_finish(run, &error));
}

/* Returns: false if the machine was too slow for the limit. */
static bool
try_in_time(Fixture *f, unsigned limit_ms)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    KvssActId act;
    g_autofree char *path = NULL;
    gint64 start_us;

    start_guardian(run);
    path = make_file(f, run, "in-time", &act);
    start_us = g_get_monotonic_time();
    g_assert_true(kvss_run_arm(run, act, limit_ms, &error));
    if (!kvss_run_disarm(run, act, &error)
        && g_get_monotonic_time() - start_us >= (gint64) limit_ms * 1000) {
        g_assert_true(kvss_run_finish(run, NULL));
        return false;
    }
    g_assert_no_error(error);
    g_usleep((limit_ms + 200) * 1000);
    g_assert_true(exists(path));
    kvss_run_act_end(run, act);
    g_assert_true(kvss_run_finish(run, &error));
    g_assert_true(exists(path));
    return true;
}

static void
test_in_time(Fixture *f, gconstpointer data)
{
    for (unsigned limit_ms = 300; !try_in_time(f, limit_ms); limit_ms *= 4)
        ;
}

/* Where the tests of programs keep theirs. Borrowed. */
static const char *
program_path(const char *state)
{
    static char *path;

    g_free(path);
    return path = g_build_filename(state, "program", NULL);
}

/* The process dies with an act open: what it held goes away without it. */
static void
test_death(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->state, "orphan", NULL);
    g_autofree char *journal = journal_path(f);
    int status;
    pid_t child = fork();

    if (child == 0) {
        /* libvirt does not survive a fork: the child begins anew. */
        execl("/proc/self/exe", "test-guardian", "--die", f->state, NULL);
        _exit(127);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    g_assert_true(goes_away(path));
    g_assert_true(goes_away(journal));
}

static KvssActId
begin_program(KvssRun *run, const char *path);

static int
die(const char *state)
{
    Fixture f = { .state = (char *) state, .host = kvss_host_open(URI, NULL) };
    KvssRun *run = begin(&f);
    KvssActId act;

    start_guardian(run);
    g_free(make_file(&f, run, "orphan", &act));
    if (exists(program_path(state)))
        (void) begin_program(run, program_path(state));
    (void) raise(SIGKILL);
    return 1;
}

/* ---- recovery ---- */

/* A dead run without a guardian: only its journal is left. */
static char *
leave_dead_run(Fixture *f)
{
    KvssRun *run = begin(f);
    KvssActId act;
    char *path = make_file(f, run, "left", &act);

    kvss_run_free(run);
    return path;
}

static void
test_recovery(Fixture *f, gconstpointer data)
{
    g_autofree char *path = leave_dead_run(f);
    g_autofree char *journal = journal_path(f);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;

    g_assert_true(kvss_recovery_run(f->state, true, 0, &report, &error));
    g_assert_cmpuint(report.found->len, ==, 2); /* the file and the work folder */
    g_assert_cmpuint(report.undone->len, ==, 0);
    g_assert_true(exists(path));
    kvss_recovery_report_clear(&report);

    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(report.undone->len, ==, 2);
    g_assert_cmpuint(report.left->len, ==, 0);
    g_assert_false(exists(path));
    g_assert_false(exists(journal));
    kvss_recovery_report_clear(&report);
}

static void
test_recovery_leaves_the_living(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;
    KvssActId act;
    g_autofree char *path = make_file(f, run, "alive", &act);

    g_assert_true(kvss_recovery_run(f->state, false, 1, &report, &error));
    g_assert_cmpuint(report.alive, ==, 1);
    g_assert_cmpuint(report.found->len, ==, 0);
    g_assert_true(exists(path));
    kvss_recovery_report_clear(&report);
    g_assert_true(kvss_run_finish(run, &error));
}

/* Nobody may take for whole what a guardian does not get undone. */
static void
test_recovery_tells_of_a_guardian_at_work(Fixture *f, gconstpointer data)
{
    g_autofree char *made = leave_dead_run(f);
    g_autofree char *path = journal_path(f);
    g_autoptr(KvssJournal) guardian = kvss_journal_open_dead(path, NULL);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;

    g_assert_nonnull(guardian);
    g_assert_true(kvss_recovery_run(f->state, false, 1, &report, &error));
    g_assert_cmpuint(report.alive, ==, 0);
    g_assert_cmpuint(report.found->len, ==, 2);
    g_assert_cmpuint(report.undone->len, ==, 0);
    g_assert_cmpuint(report.left->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(report.left, 0), "guardian.log"));
    g_assert_true(exists(made));
    kvss_recovery_report_clear(&report);
}

static void
append(const char *path, const char *text)
{
    FILE *file = g_fopen(path, "a");

    g_assert_nonnull(file);
    g_assert_cmpint(fputs(text, file), >=, 0);
    (void) fclose(file);
}

/* As doctor does, of which another one is killed later: half a line does not run into it. */
static void
write_a_line_more(const char *path)
{
    g_autoptr(KvssJournal) journal = kvss_journal_open_dead(path, NULL);

    g_assert_nonnull(journal);
    g_assert_true(kvss_journal_write_end(journal, 77, NULL));
}

/* The power failed in the middle of a line: it was never acknowledged. */
static void
test_torn_journal(Fixture *f, gconstpointer data)
{
    g_autofree char *path = leave_dead_run(f);
    g_autofree char *journal = journal_path(f);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;

    append(journal, "{\"act\":9,\"kind\":\"fi");
    write_a_line_more(journal);
    append(journal, "{\"act\":9,\"kind\":\"fi");
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(report.left->len, ==, 0);
    g_assert_cmpuint(report.undone->len, ==, 2);
    g_assert_false(exists(path));
    kvss_recovery_report_clear(&report);
}

/* So long that an act more could not be read again: it is refused, and what was begun can be ended. */
static void
test_full_journal(Fixture *f, gconstpointer data)
{
    g_autofree char *journal = journal_path(f), *path = NULL, *line = NULL;
    KvssRun *run = begin(f);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;
    struct stat before, after;
    KvssActId act;
    FILE *file;

    path = make_file(f, run, "left", &act);
    /* One long claim, as thousands of acts would be: all of it can be read. */
    g_assert_cmpint(stat(journal, &before), ==, 0);
    line = g_strnfill(KVSS_JOURNAL_ACTS_MAX - (gsize) before.st_size - 100, 'x');
    file = g_fopen(journal, "a");
    g_assert_nonnull(file);
    g_assert_cmpint(fprintf(file, "{\"claim\":\"%s\"}\n", line), >, 0);
    g_assert_cmpint(fclose(file), ==, 0);
    g_assert_cmpint(stat(journal, &before), ==, 0);
    g_assert_cmpuint(kvss_run_act_begin(run, KVSS_ACT_FILE, details_path("/no/such/file/that/is/so/"
                     "long/that/it/does/not/fit/any/more/into/the/rest"), &error), ==, 0);
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "greatest length"));
    g_clear_error(&error);
    g_assert_cmpint(stat(journal, &after), ==, 0);
    g_assert_cmpint(after.st_size, ==, before.st_size);
    file = g_fopen(journal, "a");
    g_assert_cmpint(fprintf(file, "{\"x\":\"%080d\"}\n", 0), >, 0);
    g_assert_cmpint(fclose(file), ==, 0);
    g_assert_false(kvss_run_claim(run, "a", "b", &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE);
    g_clear_error(&error);
    g_assert_cmpint(truncate(journal, before.st_size), ==, 0);
    g_assert_true(kvss_run_act_undo(run, act, &error));
    g_assert_no_error(error);
    g_assert_false(exists(path));
    kvss_run_free(run);
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(report.left->len, ==, 0);
    g_assert_false(exists(journal));
    kvss_recovery_report_clear(&report);
}

/* Something else in the middle: nothing is guessed, a person is told. */
static void
test_damaged_journal(Fixture *f, gconstpointer data)
{
    g_autofree char *path = leave_dead_run(f);
    g_autofree char *journal = journal_path(f);
    g_autoptr(GError) error = NULL;
    KvssRecoveryReport report;

    append(journal, "nonsense\n{\"end\":1}\n");
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    g_assert_cmpuint(report.left->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(report.left, 0), "line 4"));
    g_assert_true(exists(path) && exists(journal));
    kvss_recovery_report_clear(&report);
}

/* ---- writers that are programs ---- */

/* In a folder that nobody else can write to; it notes what it is told. */
static char *
make_program(Fixture *f, const char *more)
{
    char *path = g_strdup(program_path(f->state));
    g_autofree char *text = g_strdup_printf(
        "#!/bin/sh\n%s\necho \"$1 $KVSS_EVENT $KVSS_SET_ID $(cat)\" >> %s/told\n", more, f->state);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_cmpint(g_chmod(path, 0755), ==, 0);
    return path;
}

static KvssActId
begin_program_for(KvssRun *run, const char *path, const char *event)
{
    JsonObject *details = json_object_new();
    JsonArray *components = json_array_new();
    KvssActId act;

    json_array_add_string_element(components, "inventory");
    json_object_set_string_member(details, "name", "sqlite");
    json_object_set_string_member(details, "path", path);
    json_object_set_string_member(details, "set_id", ID);
    json_object_set_string_member(details, "event", event);
    json_object_set_array_member(details, "components", components);
    act = kvss_run_act_begin(run, KVSS_ACT_PROGRAM, details, NULL);
    g_assert_cmpuint(act, !=, 0);
    return act;
}

static KvssActId
begin_program(KvssRun *run, const char *path)
{
    return begin_program_for(run, path, "abort");
}

/* What it was told, one line a call; "" when nothing. Free with g_free. */
static char *
told(Fixture *f)
{
    g_autofree char *path = g_build_filename(f->state, "told", NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

#define TOLD(event)                                                                     \
    event " " event " " ID " {\"version\":1,\"event\":\"" event "\",\"set_id\":\"" ID \
          "\",\"components\":[\"inventory\"]}\n"
#define TOLD_BOTH TOLD("abort") TOLD("backup-shutdown")

/* A run's own undo leaves it to its writer; at the end of the run it is undone, once. */
static void
test_program(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    g_autofree char *program = make_program(f, "");
    g_autofree char *before = NULL, *after = NULL;
    KvssActId act = begin_program(run, program);

    g_assert_true(kvss_run_undo(run, &error));
    before = told(f);
    g_assert_cmpstr(before, ==, "");
    g_assert_true(kvss_run_finish(run, &error));
    g_assert_no_error(error);
    g_assert_true(kvss_run_act_undo(run, act, &error)); /* it is gone */
    after = told(f);
    g_assert_cmpstr(after, ==, TOLD_BOTH);
}

/* The limit passes: the guardian tells it. A second arming moves the limit. */
static void
test_program_limit(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    g_autofree char *program = make_program(f, ""), *mark = NULL, *text = NULL;
    KvssActId act;
    gint64 deadline_us = g_get_monotonic_time() + LIMIT_US;

    start_guardian(run);
    act = begin_program(run, program);
    g_assert_true(kvss_run_arm(run, act, 600 * 1000, &error));
    g_assert_true(kvss_run_arm(run, act, 100, &error));
    do {
        g_clear_pointer(&text, g_free);
        g_usleep(10 * 1000);
        text = told(f);
    } while (!strstr(text, "backup-shutdown\"") && g_get_monotonic_time() < deadline_us);
    g_assert_cmpstr(text, ==, TOLD_BOTH);
    g_assert_false(kvss_run_arm(run, act, 600 * 1000, NULL)); /* too late */
    g_assert_false(kvss_run_disarm(run, act, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT);
    g_clear_error(&error);
    g_assert_true(kvss_run_finish(run, &error));
}

/* The run dies: the guardian tells it, beside all else that is open. */
static void
test_program_death(Fixture *f, gconstpointer data)
{
    g_autofree char *program = make_program(f, "");
    g_autofree char *text = NULL;

    test_death(f, NULL);
    text = told(f);
    g_assert_cmpstr(text, ==, TOLD_BOTH);
}

/* Both died, and the program is not what it was: it is not run, and a person is told. */
static void
test_program_not_trusted(Fixture *f, gconstpointer data)
{
    g_autofree char *program = make_program(f, "");
    g_autofree char *journal = journal_path(f);
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;
    KvssRun *run = begin(f);
    KvssRecoveryReport report;

    (void) begin_program(run, program);
    kvss_run_free(run);
    g_assert_cmpint(g_chmod(program, 0777), ==, 0);
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    before = told(f);
    g_assert_cmpstr(before, ==, "");
    g_assert_cmpuint(report.left->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(report.left, 0), "writer sqlite may hold its data"));
    g_assert_nonnull(strstr(g_ptr_array_index(report.left, 0), "can be written by others"));
    kvss_recovery_report_clear(&report);
    g_assert_true(exists(journal));

    g_assert_cmpint(g_chmod(program, 0755), ==, 0);
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    after = told(f);
    g_assert_cmpstr(after, ==, TOLD_BOTH);
    g_assert_cmpuint(report.left->len, ==, 0);
    kvss_recovery_report_clear(&report);
    g_assert_false(exists(journal));
}

/* One that refuses keeps the journal; the last event came to it all the same. */
static void
test_program_refuses(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autoptr(GError) error = NULL;
    g_autofree char *program
        = make_program(f, "test $1 = backup-shutdown || { echo 'cannot let go' >&2; exit 3; }");
    g_autofree char *journal = journal_path(f), *text = NULL;

    (void) begin_program(run, program);
    g_test_expect_message("kvss-guardian", G_LOG_LEVEL_WARNING, "*cannot let go*");
    g_assert_false(kvss_run_finish(run, &error));
    g_test_assert_expected_messages();
    g_assert_nonnull(strstr(error->message, "abort: ended with status 3: cannot let go"));
    text = told(f);
    g_assert_cmpstr(text, ==, TOLD("backup-shutdown"));
    g_assert_true(exists(journal));
}

/* ---- taking a folder away ---- */

/* Links are removed, and what they lead to stays; so does what lies beside. */
static void
test_folder_with_links(Fixture *f, gconstpointer data)
{
    g_autofree char *kept = g_build_filename(f->state, "kept", NULL);
    g_autofree char *folder = g_build_filename(f->state, "ours/deep/er", NULL);
    g_autofree char *top = g_build_filename(f->state, "ours", NULL);
    g_autofree char *file = g_build_filename(folder, "1", NULL);
    g_autofree char *link = g_build_filename(top, "link", NULL);
    g_autofree char *precious = g_build_filename(kept, "1", NULL);
    g_autofree char *alias = g_build_filename(f->state, "alias", NULL);
    g_autoptr(GError) error = NULL;
    KvssAct act = { .kind = KVSS_ACT_FOLDER, .details = details_path(top) };
    KvssAct through = { .kind = KVSS_ACT_FOLDER, .details = details_path(alias) };

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(kept, 0700), ==, 0);
    g_assert_true(g_file_set_contents(file, "x", 1, NULL));
    g_assert_true(g_file_set_contents(precious, "x", 1, NULL));
    g_assert_cmpint(symlink(kept, link), ==, 0);
    g_assert_cmpint(symlink(kept, alias), ==, 0);

    g_assert_true(kvss_act_undo(&act, NULL, 1, &error));
    g_assert_true(kvss_act_undo(&act, NULL, 1, &error)); /* twice does no harm */
    g_assert_true(kvss_act_undo(&through, NULL, 1, &error));
    g_assert_false(exists(top));
    g_assert_false(g_file_test(alias, G_FILE_TEST_IS_SYMLINK));
    g_assert_true(exists(precious));
    json_object_unref(act.details);
    json_object_unref(through.details);
}

/* ---- beginning while others look ---- */

static gpointer
look_all_the_time(gpointer data)
{
    Fixture *f = data;

    while (!g_atomic_int_get(&f->is_over)) {
        KvssRecoveryReport report = { 0 };

        g_assert_true(kvss_recovery_run(f->state, false, 0, &report, NULL));
        g_assert_cmpuint(report.found->len, ==, 0);
        kvss_recovery_report_clear(&report);
    }
    return NULL;
}

/* A run that begins while recovery looks keeps its journal and its sign of life. */
static void
begin_and_look(Fixture *f)
{
    g_autofree char *id = g_uuid_string_random();
    g_autofree char *journal = g_strdup_printf("%s/journals/%s.journal", f->state, id);
    g_autofree char *alive = g_strdup_printf("%s/journals/%s.alive", f->state, id);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssRun) run = kvss_run_begin(f->state, NULL, f->host, id, "backup", &error);

    g_assert_no_error(error);
    g_assert_true(kvss_journal_is_held(journal));
    g_assert_true(kvss_journal_is_held(alive));
    g_assert_true(kvss_run_finish(run, NULL));
}

static void
test_begin_while_others_look(Fixture *f, gconstpointer data)
{
    GThread *threads[3];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("look", look_all_the_time, f);
    for (guint i = 0; i < 300; i++)
        begin_and_look(f);
    g_atomic_int_set(&f->is_over, 1);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

/* ---- claims ---- */

#define OTHER_ID "22222222-2222-4333-8444-555555555555"

static KvssRun *
begin_other(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    KvssRun *run = kvss_run_begin(f->state, NULL, f->host, OTHER_ID, "restore", &error);

    g_assert_no_error(error);
    return run;
}

/* What one run has, another cannot have; when the first one is over, it can. */
static void
test_claim(Fixture *f, gconstpointer data)
{
    KvssRun *first = begin(f), *second = begin_other(f);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_run_claim(first, "uuid-web", "web", &error));
    g_assert_true(kvss_run_claim(first, "uuid-web", "web", &error));
    g_assert_true(kvss_run_claim(second, "uuid-db", "db", &error));
    g_assert_false(kvss_run_claim(second, "uuid-web", "web", &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
    g_assert_nonnull(strstr(error->message, "web is in use by another run (backup, set " ID));
    g_clear_error(&error);

    g_assert_true(kvss_run_finish(first, NULL));
    kvss_run_free(first);
    g_assert_true(kvss_run_claim(second, "uuid-web", "web", &error));
    g_assert_true(kvss_run_finish(second, NULL));
    kvss_run_free(second);
}

/* ---- files that are told by more than their name ---- */

static void
test_file_of_another(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssRun) run = begin(f);
    g_autofree char *ours = g_build_filename(f->state, "ours", NULL);
    g_autofree char *theirs = g_build_filename(f->state, "theirs", NULL);
    g_autofree char *full = g_build_filename(f->state, "full", NULL);
    g_autofree char *inside = g_build_filename(full, "inside", NULL);
    g_autofree char *empty = g_build_filename(f->state, "empty", NULL);
    const char *const files[] = { ours, theirs }, *const folders[] = { full, empty };
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 2; i++) {
        JsonObject *details = details_path(files[i]);
        struct stat st;

        g_assert_true(g_file_set_contents(files[i], "x", 1, NULL));
        g_assert_cmpint(stat(files[i], &st), ==, 0);
        json_object_set_int_member(details, "device", (gint64) st.st_dev);
        json_object_set_int_member(details, "inode", (gint64) st.st_ino + i);
        g_assert_cmpuint(kvss_run_act_begin(run, KVSS_ACT_FILE, details, NULL), >, 0);
    }
    for (int i = 0; i < 2; i++) {
        JsonObject *details = details_path(folders[i]);

        json_object_set_boolean_member(details, "folder", TRUE);
        g_assert_cmpuint(kvss_run_act_begin(run, KVSS_ACT_FILE, details, NULL), >, 0);
        g_assert_cmpint(g_mkdir(folders[i], 0700), ==, 0);
    }
    g_assert_true(g_file_set_contents(inside, "x", 1, NULL));
    g_assert_true(kvss_run_finish(run, &error));
    g_assert_no_error(error);
    g_assert_false(exists(ours));
    g_assert_true(exists(theirs));
    g_assert_true(exists(inside));
    g_assert_false(exists(empty));
}

/* A restore is taken back: its writer hears of it when its files are back, and only then. */
static void
test_program_last(Fixture *f, gconstpointer can_put_back)
{
    g_autofree char *from = g_build_filename(f->state, "data/db", NULL);
    g_autofree char *to = g_build_filename(f->state, "data/db.kvss-old", NULL);
    g_autofree char *folder = g_path_get_dirname(from), *text = NULL;
    g_autofree char *check = g_strdup_printf("test -f %s || exit 1", from);
    g_autofree char *program = make_program(f, check);
    g_autoptr(GError) error = NULL;
    JsonObject *aside = json_object_new();
    KvssRun *run = begin(f);
    KvssRecoveryReport report;

    g_assert_cmpint(g_mkdir(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(to, "old", -1, NULL));
    g_assert_cmpuint(begin_program_for(run, program, "post-restore"), >, 0);
    json_object_set_string_member(aside, "from", from);
    json_object_set_string_member(aside, "to", to);
    g_assert_cmpuint(kvss_run_act_begin(run, KVSS_ACT_ASIDE, aside, NULL), >, 0);
    if (!can_put_back) /* a folder with something in it cannot be replaced */
        g_assert_cmpint(g_mkdir_with_parents(from, 0755), ==, 0);
    kvss_run_free(run);
    g_assert_true(kvss_recovery_run(f->state, false, 0, &report, &error));
    text = told(f);
    g_assert_cmpint(strstr(text, "post-restore") != NULL, ==, can_put_back != NULL);
    g_assert_cmpuint(report.left->len, ==, can_put_back ? 0 : 1);
    kvss_recovery_report_clear(&report);
}

static void
begin_for_vm(KvssRun *run, KvssActKind kind, const char *uuid, const char *path, const char *aside)
{
    JsonObject *details = details_path(path);

    json_object_set_string_member(details, "uuid", uuid);
    json_object_set_string_member(details, "run", kvss_run_id(run));
    json_object_set_string_member(details, "from", path);
    json_object_set_string_member(details, "to", aside);
    json_object_set_string_member(details, "aside", aside);
    g_assert_cmpuint(kvss_run_act_begin(run, kind, details, NULL), >, 0);
}

static void
assert_content(const char *path, const char *content)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, content);
}

/*
 * libvirt cannot be asked to take the new VM away: under it nothing is swapped. It could be
 * started with the old disk before the way back is done. Another VM does not wait.
 */
static void
test_stack_of_a_vm(Fixture *f, gconstpointer data)
{
    static const char *const uuids[] = { "11111111-1111-4111-8111-111111111111",
                                         "22222222-2222-4222-8222-222222222222" };
    g_autoptr(KvssHost) host = kvss_host_open("test:///default", NULL);
    g_autoptr(KvssJournal) journal = NULL;
    g_autofree char *journal_path = NULL;
    g_autoptr(GError) error = NULL;
    char *disks[2], *asides[2];
    KvssRun *run = begin(f);

    for (int i = 0; i < 2; i++) {
        disks[i] = g_strdup_printf("%s/disk%d", f->state, i);
        asides[i] = g_strdup_printf("%s.kvss-old", disks[i]);
        g_assert_true(g_file_set_contents(asides[i], "old", -1, NULL));
        g_assert_true(g_file_set_contents(disks[i], "new", -1, NULL));
        begin_for_vm(run, KVSS_ACT_ASIDE, uuids[i], disks[i], asides[i]);
        begin_for_vm(run, KVSS_ACT_FILE, uuids[i], disks[i], asides[i]);
    }
    begin_for_vm(run, KVSS_ACT_DEFINE, uuids[0], disks[0], asides[0]);
    journal_path = g_strdup_printf("%s/journals/%s.journal", f->state, kvss_run_id(run));
    kvss_run_free(run);
    journal = kvss_journal_open_dead(journal_path, &error);
    g_assert_no_error(error);
    g_assert_false(kvss_journal_undo(journal, NULL, 1, NULL, NULL, NULL, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NO_CONNECTION);
    assert_content(disks[0], "new");
    assert_content(asides[0], "old");
    assert_content(disks[1], "old");
    g_assert_true(kvss_journal_undo(journal, host, 1, NULL, NULL, NULL, NULL));
    assert_content(disks[0], "old");
    g_assert_true(kvss_journal_remove(journal, NULL));
    for (int i = 0; i < 2; i++) {
        g_assert_false(exists(asides[i]));
        g_free(disks[i]);
        g_free(asides[i]);
    }
}

/* A run that died claims nothing: its journal lies there and nobody holds it. */
static void
test_claim_of_the_dead(Fixture *f, gconstpointer data)
{
    KvssRun *first = begin(f), *second = begin_other(f);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_run_claim(first, "uuid-web", "web", &error));
    kvss_run_free(first); /* not finished, and without a guardian */
    g_assert_true(kvss_run_claim(second, "uuid-web", "web", &error));
    g_assert_true(kvss_run_finish(second, NULL));
    kvss_run_free(second);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && g_str_equal(argv[1], "--die"))
        return die(argv[2]);
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) \
    g_test_add("/guardian/" name, Fixture, NULL, fixture_set_up, func, fixture_tear_down)
    ADD("finish", test_finish);
    ADD("undo", test_undo);
    ADD("limit", test_limit);
    ADD("in-time", test_in_time);
    ADD("death", test_death);
    ADD("recovery", test_recovery);
    ADD("recovery-leaves-the-living", test_recovery_leaves_the_living);
    ADD("recovery-tells-of-a-guardian-at-work", test_recovery_tells_of_a_guardian_at_work);
    ADD("stack-of-a-vm", test_stack_of_a_vm);
    ADD("program", test_program);
    ADD("program-limit", test_program_limit);
    ADD("program-death", test_program_death);
    ADD("program-not-trusted", test_program_not_trusted);
    ADD("program-refuses", test_program_refuses);
    ADD("file-of-another", test_file_of_another);
    g_test_add("/guardian/program-last", Fixture, "yes", fixture_set_up, test_program_last,
               fixture_tear_down);
    g_test_add("/guardian/program-last-waits", Fixture, NULL, fixture_set_up, test_program_last,
               fixture_tear_down);
    ADD("torn-journal", test_torn_journal);
    ADD("damaged-journal", test_damaged_journal);
    ADD("full-journal", test_full_journal);
    ADD("folder-with-links", test_folder_with_links);
    ADD("begin-while-others-look", test_begin_while_others_look);
    ADD("claim", test_claim);
    ADD("claim-of-the-dead", test_claim_of_the_dead);
    return g_test_run();
}
