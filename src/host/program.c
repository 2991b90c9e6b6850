/*
 * program.c - an executable that the host's administrator has put there for us
 *
 *   kvss ── fork ──▶ setsid ──▶ PROGRAM freeze     its group: killed with it
 *                                  └─ setsid ──▶ a holder   outlives the call
 *
 * The call is over when the program has ended, not when its pipes are closed: a
 * holder may have kept them. The program stays a zombie until its group is dead, so
 * that the group's number cannot be somebody else's by then.
 */
#include "host/program.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
/* Standard error is for people: what comes after this is not kept. */
#define STDERR_MAX (64u * 1024)
#define LOOK_INTERVAL_US 10000

/* ---- may it be run ---- */

static bool
check_owner(const char *path, const struct stat *st, GError **error)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "%s belongs to user %u, neither to root nor to who runs kvss", path,
                          (unsigned) st->st_uid);
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "%s can be written by others than its owner (mode %04o)", path,
                          (unsigned) st->st_mode & 07777);
    return true;
}

bool
kvss_program_check(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct stat st, folder_st;

    if (lstat(path, &st) < 0)
        return kvss_throw_errno(error, errno, "look at %s", path);
    if (!S_ISREG(st.st_mode))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID, "%s is no regular file%s",
                          path, S_ISLNK(st.st_mode) ? " but a link" : "");
    if (!(st.st_mode & S_IXUSR))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID, "%s is not executable",
                          path);
    if (stat(folder, &folder_st) < 0)
        return kvss_throw_errno(error, errno, "look at %s", folder);
    return check_owner(path, &st, error) && check_owner(folder, &folder_st, error);
}

/* ---- the process ---- */

typedef struct {
    pid_t pid, parent;
    int pid_fd, out_fd, err_fd;
    GByteArray *out, *err;
} Child;

/*
 * Between fork and exec: only what is safe in a signal handler. Signals that we
 * ignore would be ignored by the program, too, and a shell could not change that.
 */
static void
child_setup(gpointer data)
{
    const pid_t *parent = data;
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void) signal(number, SIG_DFL);
    (void) sigemptyset(&none);
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    (void) setsid();
    /* What it does after our death could not be taken back by who undoes our run. */
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != *parent)
        _exit(127);
}

/* A file, not a pipe: it cannot be written too slowly, nor break when nobody reads it. */
static int
input_fd(GBytes *input, GError **error)
{
    kvss_autofd int fd = memfd_create("kvss-event", MFD_CLOEXEC);
    gsize length = 0;
    const void *data = g_bytes_get_data(input, &length);

    if (fd < 0) {
        kvss_throw_errno(error, errno, "memfd_create");
        return -1;
    }
    if (!kvss_write_exact(fd, data, length, error))
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0) {
        kvss_throw_errno(error, errno, "lseek");
        return -1;
    }
    return kvss_fd_steal(&fd);
}

static bool
child_start(Child *child, const char *path, const char *event, const char *set_id, GBytes *input,
            GError **error)
{
    const GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES;
    const char *const argv[] = { path, event, NULL };
    g_autofree char *event_variable = g_strconcat("KVSS_EVENT=", event, NULL);
    g_autofree char *set_variable = g_strconcat("KVSS_SET_ID=", set_id ? set_id : "", NULL);
    const char *const envp[]
        = { "PATH=" PATH, "LANG=C.UTF-8", event_variable, set_variable, NULL };
    kvss_autofd int in = input_fd(input, error);
    g_autoptr(GError) problem = NULL;

    if (in < 0)
        return false;
    child->parent = getpid();
    if (!g_spawn_async_with_pipes_and_fds("/", argv, envp, flags, child_setup, &child->parent, in,
                                          -1, -1, NULL, NULL, 0, &child->pid, NULL,
                                          &child->out_fd, &child->err_fd, &problem))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "%s", problem->message);
    child->pid_fd = pidfd_open(child->pid, 0); /* -1 on an old kernel, and in valgrind */
    (void) fcntl(child->out_fd, F_SETFL, O_NONBLOCK);
    (void) fcntl(child->err_fd, F_SETFL, O_NONBLOCK);
    return true;
}

/* Reads what is there. False: the stream is at its end, or past @max. */
static bool
take(int fd, GByteArray *into, guint max)
{
    uint8_t buffer[16384];

    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        g_byte_array_append(into, buffer, (guint) n);
        if (into->len > max)
            return false;
    }
}

/* Of standard error the end counts. */
static bool
take_words(Child *child)
{
    bool more = take(child->err_fd, child->err, 2 * STDERR_MAX);

    if (child->err->len > STDERR_MAX) {
        more = more || child->err->len > 2 * STDERR_MAX;
        g_byte_array_remove_range(child->err, 0, child->err->len - STDERR_MAX);
    }
    return more;
}

static bool
check_output(const Child *child, GError **error)
{
    return child->out->len <= KVSS_PROGRAM_OUTPUT_MAX
           || kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                         "said more than %u bytes", KVSS_PROGRAM_OUTPUT_MAX);
}

/* It stays a zombie, see the top; but where this process ignores SIGCHLD nothing is left of it. */
static bool
has_ended(const Child *child)
{
    siginfo_t info = { 0 };

    if (waitid(P_PID, (id_t) child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return errno == ECHILD;
    return info.si_pid != 0;
}

static int
ms_until(const Child *child, gint64 deadline_us)
{
    gint64 left_us = deadline_us - g_get_monotonic_time();

    if (child->pid_fd < 0) /* nobody wakes us */
        left_us = MIN(left_us, LOOK_INTERVAL_US);
    else if (deadline_us == G_MAXINT64)
        return -1;
    return left_us <= 0 ? 0 : (int) MIN(left_us / 1000 + 1, G_MAXINT);
}

/* Listens until the program has ended. False: it has not, and must not go on. */
static bool
listen_to(Child *child, gint64 deadline_us, unsigned limit_ms, GCancellable *cancellable,
          GError **error)
{
    struct pollfd fds[] = {
        { child->pid_fd, POLLIN, 0 },
        { child->out_fd, POLLIN, 0 },
        { child->err_fd, POLLIN, 0 },
        { cancellable ? g_cancellable_get_fd(cancellable) : -1, POLLIN, 0 },
    };
    bool ok = true;

    while (ok && !has_ended(child)) {
        if (poll(fds, G_N_ELEMENTS(fds), ms_until(child, deadline_us)) < 0 && errno != EINTR)
            ok = kvss_throw_errno(error, errno, "poll");
        if (fds[1].revents && !take(child->out_fd, child->out, KVSS_PROGRAM_OUTPUT_MAX))
            fds[1].fd = -1;
        if (fds[2].revents && !take_words(child))
            fds[2].fd = -1;
        ok = ok && check_output(child, error);
        if (ok && !has_ended(child))
            ok = kvss_check_cancelled(cancellable, error);
        if (ok && !has_ended(child) && g_get_monotonic_time() >= deadline_us)
            ok = kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                            "did not end within %u ms", limit_ms);
    }
    if (fds[3].fd >= 0)
        g_cancellable_release_fd(cancellable);
    return ok;
}

/* SIGTERM to all of it; true if the program heeds it within the grace. */
static void
ask_to_end(Child *child)
{
    gint64 deadline_us = g_get_monotonic_time() + KVSS_PROGRAM_GRACE_MS * 1000;

    (void) kill(-child->pid, SIGTERM);
    (void) kill(-child->pid, SIGCONT); /* one that stands still hears it too */
    (void) listen_to(child, deadline_us, 0, NULL, NULL);
}

/*
 * Ends whatever is left of the group, and the program with it. False: how it ended is
 * not known, and nothing was ended, since its number may be somebody else's by now.
 */
static bool
child_end(Child *child, int *out_status)
{
    siginfo_t info = { 0 };

    if (waitid(P_PID, (id_t) child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return false;
    /* Before setsid() it is no group yet, and nothing but itself. */
    (void) kill(-child->pid, SIGKILL);
    (void) kill(child->pid, SIGKILL);
    while (waitpid(child->pid, out_status, 0) < 0)
        if (errno != EINTR)
            return false;
    return true;
}

static void
child_clear(Child *child)
{
    kvss_fd_clear(&child->pid_fd);
    kvss_fd_clear(&child->out_fd);
    kvss_fd_clear(&child->err_fd);
    g_byte_array_unref(child->out);
    g_byte_array_unref(child->err);
}

/* ---- what it said ---- */

/* The last line that says something; nothing in it moves a terminal's cursor or hides text. */
static char *
last_words(const GByteArray *said)
{
    /* One that said nothing has no data at all. */
    g_autofree char *text = g_strndup(said->len ? (const char *) said->data : "", said->len);
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    const char *line = strrchr(g_strchomp(valid), '\n');
    g_autoptr(GString) words = g_string_new(NULL);

    for (const char *at = line ? line + 1 : valid; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        GUnicodeType type = g_unichar_type(c);

        if (words->len + 4 > KVSS_PROGRAM_WORDS_MAX)
            break;
        if (type == G_UNICODE_CONTROL || type == G_UNICODE_FORMAT
            || type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR)
            c = ' ';
        g_string_append_unichar(words, c);
    }
    return g_strdup(g_strstrip(words->str));
}

void
kvss_program_end_clear(KvssProgramEnd *end)
{
    g_clear_pointer(&end->output, g_bytes_unref);
    g_clear_pointer(&end->words, g_free);
}

char *
kvss_program_end_describe(const KvssProgramEnd *end)
{
    const char *colon = *end->words ? ": " : "";

    if (end->signal)
        return g_strdup_printf("ended by signal %d (%s)%s%s", end->signal,
                               g_strsignal(end->signal), colon, end->words);
    return g_strdup_printf("ended with status %d%s%s", end->status, colon, end->words);
}

static void
end_fill(KvssProgramEnd *end, Child *child, int status)
{
    end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    end->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    end->output = g_byte_array_free_to_bytes(g_steal_pointer(&child->out));
    child->out = g_byte_array_new();
    end->words = last_words(child->err);
}

/* ---- */

static bool
call(Child *child, unsigned limit_ms, GCancellable *cancellable, KvssProgramEnd *out_end,
     GError **error)
{
    gint64 deadline_us
        = limit_ms ? g_get_monotonic_time() + (gint64) limit_ms * 1000 : G_MAXINT64;
    bool ok = listen_to(child, deadline_us, limit_ms, cancellable, error);
    int status = 0;
    bool is_known;

    if (!ok)
        ask_to_end(child);
    is_known = child_end(child, &status);
    if (!ok)
        return false;
    if (!is_known)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                          "how it ended is not known: this process ignores SIGCHLD, or waits for "
                          "all its children elsewhere");
    (void) take(child->out_fd, child->out, KVSS_PROGRAM_OUTPUT_MAX);
    (void) take_words(child);
    if (!check_output(child, error))
        return false;
    end_fill(out_end, child, status);
    return true;
}

bool
kvss_program_call(const char *path, const char *event, const char *set_id, GBytes *input,
                  unsigned limit_ms, GCancellable *cancellable, KvssProgramEnd *out_end,
                  GError **error)
{
    Child child = { .pid = 0, .pid_fd = -1, .out_fd = -1, .err_fd = -1 };
    bool ok;

    if (!kvss_check_cancelled(cancellable, error) || !kvss_program_check(path, error))
        return false;
    child.out = g_byte_array_new();
    child.err = g_byte_array_new();
    ok = child_start(&child, path, event, set_id, input, error);
    if (ok)
        ok = call(&child, limit_ms, cancellable, out_end, error);
    child_clear(&child);
    return ok;
}
