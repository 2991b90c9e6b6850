/*
 * run.c - one run of kvss: its journal, its work folder, its guardian
 */
#include "guardian/run.h"
#include "base/fd.h"
#include "guardian/claims.h"
#include "guardian/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The guardian connects to libvirt before it says ready. */
#define READY_LIMIT_MS 20000
/* It only has to wake up and answer. */
#define ANSWER_LIMIT_MS 5000
/* On failure the guardian stays behind for a guest that does not answer: we need not. */
#define PATIENCE_S 5

struct KvssRun {
    char *id;
    char *state_dir;
    char *folder;
    char *alive_path;
    int alive_fd;   /* locked by this process only: tells a run from a guardian at work */
    KvssHost *host; /* borrowed */
    KvssJournal *journal;
    GMutex lock;    /* guards what follows */
    KvssActId last_act;
    GPtrArray *open; /* KvssAct, in the order they began */
    GHashTable *given_up; /* ids of acts that this process could not undo: the guardian's now */
    KvssActId folder_act;
    GMutex starting; /* guards the two below while the guardian is started */
    int control;     /* to the guardian; -1 without one */
    bool is_guarded; /* it has said "ready" */
};

/* ---- begin and end ---- */

/*
 * flock()ed by this process alone (the journal's lock is shared with the
 * guardian), so that recovery can tell a live run from a guardian cleaning up.
 * Recovery removes signs without a journal: one that was taken from under our
 * hands before it was locked is made again.
 */
static bool
run_show_alive(KvssRun *run, const char *journals, GError **error)
{
    g_autofree char *journal = g_strdup_printf("%s/%s.journal", journals, run->id);

    run->alive_path = kvss_journal_alive_path(journal);
    do {
        kvss_fd_clear(&run->alive_fd);
        run->alive_fd = open(run->alive_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (run->alive_fd < 0)
            return kvss_throw_errno(error, errno, "create %s", run->alive_path);
        /* Whoever looks holds it for a moment only. */
        if (flock(run->alive_fd, LOCK_EX) < 0)
            return kvss_throw_errno(error, errno, "lock %s", run->alive_path);
    } while (!kvss_fd_is_at(run->alive_fd, run->alive_path));
    return true;
}

/* Short, since a socket's path must stay under 108 characters. */
static bool
run_make_folder(KvssRun *run, const char *scratch_dir, GError **error)
{
    g_autofree char *parent = scratch_dir ? g_strdup(scratch_dir)
                                          : g_build_filename(run->state_dir, "work", NULL);
    g_autofree char *name = g_strdup_printf("kvss-%.8s", run->id);
    JsonObject *details = json_object_new();

    run->folder = g_build_filename(parent, name, NULL);
    json_object_set_string_member(details, "path", run->folder);
    if (!kvss_make_folders(parent, 0711, error)) {
        json_object_unref(details);
        return false;
    }
    run->folder_act = kvss_run_act_begin(run, KVSS_ACT_FOLDER, details, error);
    if (!run->folder_act)
        return false;
    /* QEMU, which may run as another user, must get through to its socket. */
    if (mkdir(run->folder, 0711) < 0)
        return kvss_throw_errno(error, errno, "make work folder %s", run->folder);
    return true;
}

KvssRun *
kvss_run_begin(const char *state_dir, const char *scratch_dir, KvssHost *host, const char *id,
               const char *purpose, GError **error)
{
    g_autoptr(KvssRun) run = g_new0(KvssRun, 1);
    g_autofree char *journals = g_build_filename(state_dir, "journals", NULL);

    run->id = g_strdup(id);
    run->state_dir = g_strdup(state_dir);
    run->host = host;
    run->control = -1;
    run->alive_fd = -1;
    run->open = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_act_free);
    run->given_up = g_hash_table_new(NULL, NULL);
    g_mutex_init(&run->lock);
    g_mutex_init(&run->starting);

    /* QEMU gets through to the work folder; journals hold definitions with their secrets. */
    if (!kvss_make_folders(state_dir, 0711, error) || !kvss_make_folders(journals, 0700, error)
        || !run_show_alive(run, journals, error))
        return NULL;
    run->journal = kvss_journal_create(journals, id, purpose, kvss_host_uri(host), error);
    if (!run->journal || !run_make_folder(run, scratch_dir, error)) {
        if (run->journal)
            (void) unlink(kvss_journal_path(run->journal));
        return NULL;
    }
    return g_steal_pointer(&run);
}

void
kvss_run_free(KvssRun *run)
{
    if (!run)
        return;
    if (run->alive_path)
        (void) unlink(run->alive_path);
    kvss_fd_clear(&run->alive_fd);
    kvss_journal_free(run->journal);
    /* Last: from here on the guardian is alone with what is still open. */
    kvss_fd_clear(&run->control);
    g_ptr_array_unref(run->open);
    g_hash_table_unref(run->given_up);
    g_mutex_clear(&run->lock);
    g_mutex_clear(&run->starting);
    g_free(run->alive_path);
    g_free(run->id);
    g_free(run->state_dir);
    g_free(run->folder);
    g_free(run);
}

const char *
kvss_run_id(const KvssRun *run)
{
    return run->id;
}

const char *
kvss_run_folder(const KvssRun *run)
{
    return run->folder;
}

const char *
kvss_run_state_dir(const KvssRun *run)
{
    return run->state_dir;
}

bool
kvss_run_claim(KvssRun *run, const char *id, const char *name, GError **error)
{
    return kvss_claims_add(run->journal, id, name, error);
}

bool
kvss_run_claim_component(KvssRun *run, const char *id, KvssComponent *component, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (kvss_run_claim(run, id, component->display_name, &local))
        return true;
    kvss_component_fail(component,
                        g_error_matches(local, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY)
                            ? KVSS_E_SNAPSHOT_SET_IN_PROGRESS
                            : KVSS_E_WRITERERROR_RETRYABLE,
                        "%s", local->message);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* ---- acts ---- */

KvssActId
kvss_run_act_begin(KvssRun *run, KvssActKind kind, JsonObject *details, GError **error)
{
    KvssAct *act = g_new0(KvssAct, 1);
    bool ok;

    act->kind = kind;
    act->details = details;
    g_mutex_lock(&run->lock);
    act->id = ++run->last_act;
    ok = kvss_journal_write_act(run->journal, act, error);
    if (ok)
        g_ptr_array_add(run->open, act);
    g_mutex_unlock(&run->lock);
    if (ok)
        return act->id;
    kvss_act_free(act);
    return 0;
}

/*
 * A guest that does not answer would be waited for at every further step of a
 * failing run. Once is enough: the guardian has the patience.
 */
static void
run_give_up(KvssRun *run, KvssActId id)
{
    g_mutex_lock(&run->lock);
    if (run->control >= 0)
        g_hash_table_add(run->given_up, GSIZE_TO_POINTER(id));
    g_mutex_unlock(&run->lock);
}

static KvssAct *
run_find_act(KvssRun *run, KvssActId id, guint *out_index)
{
    /* What is ended began lately, mostly: a restore of many files has many older ones. */
    for (guint i = run->open->len; i-- > 0;) {
        KvssAct *act = g_ptr_array_index(run->open, i);

        *out_index = i;
        if (act->id == id)
            return act;
    }
    return NULL;
}

void
kvss_run_act_end(KvssRun *run, KvssActId id)
{
    g_autoptr(GError) error = NULL;
    KvssAct *act;
    guint index;

    g_mutex_lock(&run->lock);
    act = run_find_act(run, id, &index);
    if (act) {
        if (!kvss_journal_write_end(run->journal, id, &error))
            g_warning("%s", error->message);
        g_ptr_array_remove_index(run->open, index);
    }
    g_mutex_unlock(&run->lock);
}

bool
kvss_run_act_undo(KvssRun *run, KvssActId id, GError **error)
{
    KvssAct copy = { 0 };
    KvssAct *act;
    guint index;
    bool ok;

    g_mutex_lock(&run->lock);
    act = run_find_act(run, id, &index);
    if (act) {
        copy = *act;
        json_object_ref(copy.details);
    }
    g_mutex_unlock(&run->lock);
    if (!act)
        return true;
    /* Outside the lock: it may take seconds, and other guests wait for theirs. */
    ok = kvss_act_undo(&copy, run->host, PATIENCE_S, error);
    json_object_unref(copy.details);
    if (ok)
        kvss_run_act_end(run, id);
    else
        run_give_up(run, id);
    return ok;
}

/* The memory follows the journal: what was ended there is not open here any more. */
static void
run_forget_ended(KvssRun *run)
{
    g_auto(KvssJournalContent) content = { 0 };
    g_autoptr(GError) error = NULL;

    if (!kvss_journal_read(run->journal, &content, &error)) {
        g_warning("%s", error->message);
        return;
    }
    g_mutex_lock(&run->lock);
    g_ptr_array_set_size(run->open, 0);
    for (guint i = 0; i < content.open->len; i++)
        g_ptr_array_add(run->open, g_ptr_array_index(content.open, i));
    g_mutex_unlock(&run->lock);
    g_ptr_array_set_free_func(content.open, NULL);
}

bool
kvss_run_let_stay(KvssRun *run, const char *writer, const char *why, GError **error)
{
    if (!kvss_journal_write_stays(run->journal, writer, why, error))
        return false;
    run_forget_ended(run);
    return true;
}

bool
kvss_run_point_of_no_return(KvssRun *run, GError **error)
{
    return kvss_journal_write_forward(run->journal, error);
}

static void
note_outcome(const KvssAct *act, bool forward, const GError *problem, gpointer data)
{
    KvssRun *run = data;
    g_autofree char *what = kvss_act_describe(act);

    if (problem) {
        run_give_up(run, act->id);
        g_warning("%s: %s", what, problem->message);
    } else {
        g_debug("%s: %s", what, forward ? "completed" : "undone");
    }
}

/* Where nothing else was said: what was given up before has been told. */
static bool
throw_left(GError **error)
{
    if (!error || *error)
        return false;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                      "not everything could be undone yet: the guardian process goes on, and "
                      "'kvss doctor' tells");
}

static GHashTable *
run_given_up(KvssRun *run)
{
    GHashTable *copy = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer id;

    g_mutex_lock(&run->lock);
    g_hash_table_iter_init(&iter, run->given_up);
    while (g_hash_table_iter_next(&iter, &id, NULL))
        g_hash_table_add(copy, id);
    g_mutex_unlock(&run->lock);
    return copy;
}

bool
kvss_run_undo(KvssRun *run, GError **error)
{
    g_autoptr(GHashTable) given_up = run_given_up(run);
    bool ok = kvss_journal_undo(run->journal, run->host, PATIENCE_S, given_up, note_outcome, run,
                                error);

    if (!ok)
        (void) throw_left(error);

    run_forget_ended(run);
    return ok;
}

/* ---- the guardian ---- */

static bool
guardian_ask(KvssRun *run, const char *question, unsigned limit_ms, char *answer, size_t size,
             GError **error)
{
    struct pollfd pfd = { .fd = run->control, .events = POLLIN };
    ssize_t n;

    if (run->control < 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "there is no guardian");
    if (question && send(run->control, question, strlen(question), MSG_NOSIGNAL) < 0)
        return kvss_throw_errno(error, errno, "the guardian process is gone");
    if (poll(&pfd, 1, (int) limit_ms) <= 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                          "the guardian process does not answer");
    n = recv(run->control, answer, size - 1, 0);
    if (n <= 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "the guardian process is gone");
    answer[n] = '\0';
    return true;
}

/* Beside this program in a build folder; else where it was installed. */
static char *
guardian_path(void)
{
    const char *wish = g_getenv("KVSS_GUARDIAN");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *beside = folder ? g_build_filename(folder, "kvss-guardian", NULL) : NULL;

    if (wish)
        return g_strdup(wish);
    if (beside && g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
        return g_steal_pointer(&beside);
    return g_build_filename(KVSS_LIBEXECDIR, "kvss-guardian", NULL);
}

/*
 * The guardian must not keep our caller's pipes open after we are gone, so its
 * output goes to a log of its own.
 */
static GSubprocess *
guardian_spawn(KvssRun *run, int control, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autofree char *path = guardian_path();
    g_autofree char *log = g_build_filename(run->state_dir, "guardian.log", NULL);
    kvss_autofd int journal = fcntl(kvss_journal_fd(run->journal), F_DUPFD_CLOEXEC, 3);
    int out = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    if (out < 0 || journal < 0) {
        kvss_throw_errno(error, errno, "open %s", log);
        kvss_fd_clear(&out);
        return NULL;
    }
    /* A test that makes the run stand still does not mean its guardian. */
    g_subprocess_launcher_unsetenv(launcher, "KVSS_TEST_STALL");
    g_subprocess_launcher_take_fd(launcher, kvss_fd_steal(&journal), 3);
    g_subprocess_launcher_take_fd(launcher, fcntl(control, F_DUPFD_CLOEXEC, 3), 4);
    g_subprocess_launcher_take_stderr_fd(launcher, dup(out));
    g_subprocess_launcher_take_stdout_fd(launcher, out);
    return g_subprocess_launcher_spawn(launcher, error, path, kvss_journal_path(run->journal),
                                       kvss_host_uri(run->host), NULL);
}

static bool
start_guardian(KvssRun *run, GError **error)
{
    int pair[2];
    char answer[64];
    g_autoptr(GSubprocess) process = NULL;

    if (run->is_guarded)
        return true;
    if (run->control >= 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "the guardian process could not be started");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return kvss_throw_errno(error, errno, "socketpair");
    run->control = pair[0];
    process = guardian_spawn(run, pair[1], error);
    kvss_fd_clear(&pair[1]);
    if (!process) {
        g_prefix_error(error, "cannot start the guardian process: ");
        kvss_fd_clear(&run->control);
        return false;
    }
    if (!guardian_ask(run, NULL, READY_LIMIT_MS, answer, sizeof answer, error))
        return false;
    run->is_guarded = g_str_equal(answer, "ready");
    if (run->is_guarded)
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "the guardian process cannot do its work: %s", answer);
}

bool
kvss_run_start_guardian(KvssRun *run, GError **error)
{
    bool ok;

    g_mutex_lock(&run->starting);
    ok = start_guardian(run, error);
    g_mutex_unlock(&run->starting);
    return ok;
}

/* One question at a time: the answers carry no number. */
static bool
guardian_command(KvssRun *run, const char *command, char *answer, size_t size, GError **error)
{
    bool ok;

    g_mutex_lock(&run->lock);
    ok = guardian_ask(run, command, ANSWER_LIMIT_MS, answer, size, error);
    g_mutex_unlock(&run->lock);
    return ok;
}

bool
kvss_run_arm(KvssRun *run, KvssActId act, unsigned limit_ms, GError **error)
{
    g_autofree char *command = g_strdup_printf("arm %" G_GUINT64_FORMAT " %u", act, limit_ms);
    char answer[64];

    if (!guardian_command(run, command, answer, sizeof answer, error))
        return false;
    if (g_str_equal(answer, "ok"))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "the guardian process refuses: %s", answer);
}

bool
kvss_run_disarm(KvssRun *run, KvssActId act, GError **error)
{
    g_autofree char *command = g_strdup_printf("disarm %" G_GUINT64_FORMAT, act);
    char answer[64];

    if (!guardian_command(run, command, answer, sizeof answer, error))
        return false;
    if (g_str_equal(answer, "ok"))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                      "the limit passed and the guardian released the guest");
}

bool
kvss_run_finish(KvssRun *run, GError **error)
{
    g_autoptr(GHashTable) given_up = run_given_up(run);
    KvssApart *apart = kvss_journal_start_apart(run->journal, given_up, note_outcome, run);
    bool undone = kvss_run_undo(run, error);
    bool ok;

    ok = kvss_apart_wait(apart, undone ? error : NULL) && undone;
    run_forget_ended(run);
    if (!ok)
        return throw_left(error); /* the guardian and doctor go on with the journal */
    ok = kvss_journal_remove(run->journal, error);
    if (run->control >= 0)
        (void) send(run->control, "done", strlen("done"), MSG_NOSIGNAL);
    return ok;
}
