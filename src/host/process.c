/*
 * process.c - other people's programs, run without a shell
 */
#include "host/process.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of a program that goes on: enough for its last words. */
#define HEARD_MAX 65536u

struct KvssProcess {
    char *name; /* argv[0], for messages */
    pid_t pid;
    uint64_t start_time;
    bool has_ended;
    int status;         /* as waitpid() gave it; once has_ended */
    int stdout_fd;      /* -1: to /dev/null */
    int stderr_fd;
    GByteArray *said;   /* standard error so far */
    char *last_words;
};

#define PID_VARIABLE "LISTEN_PID="
#define PID_PLACE "###########"

/** What the child does with itself before it is the program. */
typedef struct {
    pid_t parent;    /* 0: it may outlive us */
    int death_signal;
    char *pid_place; /* (nullable) where in its environment its own number goes, which nobody knows before */
} Child;

/* Only what is safe in a signal handler, as all of this. */
static void
write_own_pid(char *at)
{
    char digits[sizeof PID_PLACE];
    int n = 0;

    for (unsigned pid = (unsigned) getpid(); pid > 0; pid /= 10)
        digits[n++] = (char) ('0' + pid % 10);
    while (n > 0)
        *at++ = digits[--n];
    *at = '\0';
}

/*
 * Between fork and exec. The child ends with our process, which may be killed before a
 * journal knows of it. Not by a request: until it has its handlers a program may lose one
 * (measured: qemu-nbd in its first 15 ms, about one of ten). The kernel means the thread that made the child: those that end
 * before the process do without.
 */
static void
child_setup(gpointer data)
{
    const Child *child = data;

    (void) setsid();
    if (child->pid_place)
        write_own_pid(child->pid_place);
    if (!child->parent)
        return;
    (void) prctl(PR_SET_PDEATHSIG, child->death_signal);
    if (getppid() != child->parent)
        _exit(127);
}

static char **
environment_with(const KvssProcessVariable *variables)
{
    char **envp = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);

    for (; variables && variables->name; variables++)
        envp = variables->value ? g_environ_setenv(envp, variables->name, variables->value, TRUE)
                                : g_environ_unsetenv(envp, variables->name);
    return envp;
}

/* What tells a program of its socket. Returns: the environment, with a place for its number. */
static char **
environment_add_socket(char **envp, char **out_pid_place)
{
    guint n;

    envp = g_environ_setenv(envp, "LISTEN_FDS", "1", TRUE);
    envp = g_environ_unsetenv(envp, "LISTEN_FDNAMES");
    envp = g_environ_unsetenv(envp, "LISTEN_PID");
    n = g_strv_length(envp);
    envp = g_renew(char *, envp, n + 2);
    envp[n] = g_strdup(PID_VARIABLE PID_PLACE);
    envp[n + 1] = NULL;
    *out_pid_place = envp[n] + strlen(PID_VARIABLE);
    return envp;
}

static bool
process_fork(KvssProcess *process, const KvssProcessSetup *setup, bool keep_stdout, GError **error)
{
    GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH | G_SPAWN_CLOEXEC_PIPES;
    size_t n = setup->listening < 0 ? 0 : 1 + setup->n_files;
    g_autofree int *ours = g_new(int, n + 1), *theirs = g_new(int, n + 1);
    g_auto(GStrv) envp = environment_with(setup->variables);
    Child child = {
        .parent = gettid() == getpid() ? getpid() : 0,
        .death_signal = setup->ends_politely ? SIGTERM : SIGKILL,
    };

    for (size_t i = 0; i < n; i++) {
        ours[i] = i == 0 ? setup->listening : setup->files[i - 1];
        theirs[i] = 3 + (int) i;
    }
    if (n > 0)
        envp = environment_add_socket(envp, &child.pid_place);
    if (!keep_stdout)
        flags |= G_SPAWN_STDOUT_TO_DEV_NULL;
    return g_spawn_async_with_pipes_and_fds(
        NULL, setup->argv, (const char *const *) envp, flags, child_setup, &child, -1, -1, -1,
        ours, theirs, n, &process->pid, NULL, keep_stdout ? &process->stdout_fd : NULL,
        &process->stderr_fd, error);
}

static KvssProcess *
process_spawn(const KvssProcessSetup *setup, bool keep_stdout, GError **error)
{
    const char *const *argv = setup->argv;
    g_autoptr(GError) problem = NULL;
    KvssProcess *process = g_new0(KvssProcess, 1);

    process->stdout_fd = process->stderr_fd = -1;
    if (!process_fork(process, setup, keep_stdout, &problem)) {
        bool absent = g_error_matches(problem, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);

        g_free(process);
        kvss_throw(error, KVSS_HOST_ERROR,
                   absent ? KVSS_HOST_ERROR_UNSUPPORTED : KVSS_HOST_ERROR_FAILED, "%s: %s",
                   argv[0], absent ? "not installed" : problem->message);
        return NULL;
    }
    process->name = g_strdup(argv[0]);
    process->start_time = kvss_process_start_time_of(process->pid);
    process->said = g_byte_array_new();
    return process;
}

KvssProcess *
kvss_process_start(const char *const *argv, const KvssProcessVariable *variables, GError **error)
{
    KvssProcessSetup setup = { .argv = argv, .variables = variables, .listening = -1 };

    return process_spawn(&setup, false, error);
}

KvssProcess *
kvss_process_start_server(const KvssProcessSetup *setup, GError **error)
{
    return process_spawn(setup, false, error);
}

int
kvss_process_error_fd(const KvssProcess *process)
{
    return process->stderr_fd;
}

pid_t
kvss_process_pid(const KvssProcess *process)
{
    return process->pid;
}

uint64_t
kvss_process_start_time(const KvssProcess *process)
{
    return process->start_time;
}

bool
kvss_process_has_ended(KvssProcess *process)
{
    if (process->has_ended)
        return true;
    if (waitpid(process->pid, &process->status, WNOHANG) == process->pid)
        process->has_ended = true;
    return process->has_ended;
}

bool
kvss_process_wait(KvssProcess *process, unsigned limit_ms)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64) limit_ms * 1000;

    while (!kvss_process_has_ended(process)) {
        if (g_get_monotonic_time() >= deadline_us)
            return false;
        g_usleep(2000);
    }
    return true;
}

bool
kvss_process_succeeded(KvssProcess *process)
{
    return kvss_process_has_ended(process) && WIFEXITED(process->status)
           && WEXITSTATUS(process->status) == 0;
}

void
kvss_process_stop(KvssProcess *process, unsigned grace_ms)
{
    if (kvss_process_has_ended(process))
        return;
    (void) kill(process->pid, SIGTERM);
    (void) kill(process->pid, SIGCONT); /* one that stands still hears it too */
    if (kvss_process_wait(process, grace_ms))
        return;
    (void) kill(process->pid, SIGKILL);
    while (waitpid(process->pid, &process->status, 0) < 0 && errno == EINTR)
        ;
    process->has_ended = true;
}

/* Reads what is there; false at the end of the stream or past the limit. */
static bool
stream_take(int fd, GByteArray *into)
{
    uint8_t buffer[16384];
    ssize_t n = read(fd, buffer, sizeof buffer);

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    g_byte_array_append(into, buffer, (guint) n);
    return into->len <= KVSS_PROCESS_OUTPUT_MAX;
}

/* The last line that says something, in printable characters. */
static char *
last_line(const GByteArray *said)
{
    /* Of one that said nothing there is no data at all. */
    g_autofree char *text = g_strndup(said->len > 0 ? (const char *) said->data : "", said->len);
    g_autofree char *valid = g_utf8_make_valid(g_strchomp(text), -1);
    const char *line = strrchr(valid, '\n');
    char *result = g_strdup(line ? line + 1 : valid);

    for (char *c = result; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    return result;
}

bool
kvss_process_hear(KvssProcess *process)
{
    (void) fcntl(process->stderr_fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        guint before = process->said->len;

        if (!stream_take(process->stderr_fd, process->said))
            return false;
        if (process->said->len == before)
            return true;
        if (process->said->len > HEARD_MAX)
            g_byte_array_remove_range(process->said, 0, process->said->len - HEARD_MAX / 2);
    }
}

const char *
kvss_process_last_words(KvssProcess *process)
{
    if (process->last_words)
        return process->last_words;
    (void) kvss_process_hear(process);
    process->last_words = last_line(process->said);
    return process->last_words;
}

void
kvss_process_free(KvssProcess *process)
{
    if (!process)
        return;
    kvss_process_stop(process, 0);
    kvss_fd_clear(&process->stdout_fd);
    kvss_fd_clear(&process->stderr_fd);
    g_byte_array_unref(process->said);
    g_free(process->last_words);
    g_free(process->name);
    g_free(process);
}

static bool
process_throw_limit(const KvssProcess *process, unsigned limit_ms, GError **error)
{
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                      "%s: did not end within %u ms", process->name, limit_ms);
}

/* Gathers both streams until both have ended. */
static bool
process_listen(KvssProcess *process, unsigned limit_ms, gint64 deadline_us,
               GCancellable *cancellable, GByteArray *output, GError **error)
{
    struct pollfd fds[] = {
        { process->stdout_fd, POLLIN, 0 },
        { process->stderr_fd, POLLIN, 0 },
        { g_cancellable_get_fd(cancellable), POLLIN, 0 },
    };
    GByteArray *into[] = { output, process->said };
    bool ok = true;

    while (ok && (fds[0].fd >= 0 || fds[1].fd >= 0)) {
        gint64 left_us = deadline_us - g_get_monotonic_time();

        ok = kvss_check_cancelled(cancellable, error);
        if (ok && left_us <= 0)
            ok = process_throw_limit(process, limit_ms, error);
        if (!ok || poll(fds, G_N_ELEMENTS(fds), (int) MIN(left_us / 1000 + 1, 1000)) <= 0)
            continue;
        for (int i = 0; ok && i < 2; i++) {
            if (fds[i].fd < 0 || !fds[i].revents || stream_take(fds[i].fd, into[i]))
                continue;
            fds[i].fd = -1;
            if (into[i]->len > KVSS_PROCESS_OUTPUT_MAX)
                ok = kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                                "%s: said more than %u bytes", process->name,
                                KVSS_PROCESS_OUTPUT_MAX);
        }
    }
    if (fds[2].fd >= 0)
        g_cancellable_release_fd(cancellable);
    return ok;
}

static bool
process_check_status(KvssProcess *process, GError **error)
{
    const char *words;

    if (kvss_process_succeeded(process))
        return true;
    words = kvss_process_last_words(process);
    if (WIFSIGNALED(process->status))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                          "%s: ended by signal %d%s%s", process->name, WTERMSIG(process->status),
                          *words ? ": " : "", words);
    if (!*words)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                          "%s: ended with status %d", process->name,
                          WEXITSTATUS(process->status));
    /* Programs begin their complaints with their own name. */
    if (g_str_has_prefix(words, process->name))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "%s", words);
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "%s: %s", process->name,
                      words);
}

bool
kvss_process_run(const char *const *argv, unsigned limit_ms, GCancellable *cancellable,
                 char **out_stdout, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64) limit_ms * 1000;
    KvssProcessSetup setup = { .argv = argv, .listening = -1 };
    g_autoptr(GByteArray) output = g_byte_array_new();
    g_autoptr(KvssProcess) process = process_spawn(&setup, true, error);
    gint64 left_us;

    if (!process
        || !process_listen(process, limit_ms, deadline_us, cancellable, output, error))
        return false;
    left_us = MAX(deadline_us - g_get_monotonic_time(), 1000);
    if (!kvss_process_wait(process, (unsigned) (left_us / 1000)))
        return process_throw_limit(process, limit_ms, error);
    if (!process_check_status(process, error))
        return false;
    if (out_stdout)
        *out_stdout = g_strndup((const char *) output->data, output->len);
    return true;
}

uint64_t
kvss_process_start_time_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;
    const char *after_name;

    if (pid <= 0 || !g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    /* The name, field 2, may hold anything; it ends with the last bracket. */
    after_name = strrchr(text, ')');
    if (!after_name || after_name[1] == '\0')
        return 0;
    fields = g_strsplit(after_name + 2, " ", 24);
    if (g_strv_length(fields) < 20)
        return 0;
    return g_ascii_strtoull(fields[19], NULL, 10); /* field 22, counted from field 3 */
}
