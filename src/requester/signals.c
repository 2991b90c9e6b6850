/*
 * signals.c - Ctrl-C and its kin
 *
 * The handler writes one byte into a pipe; a thread reads it and triggers the
 * cancellable, which may run callbacks that a signal handler must not. Nothing is
 * blocked: children that are started inherit no strange signal mask.
 */
#include "requester/signals.h"
#include "requester/output.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <unistd.h>

static int pipe_fds[2] = { -1, -1 };
static const char *what_is_done = "putting everything back (once more to end at once)";

/*
 * A terminal that hangs up is told by the kernel. A SIGHUP from a process is restic's way to ask
 * whether the holder of a lock lives ("restic unlock" sends it to each on its host): we do.
 */
static bool
is_question(int number, const siginfo_t *info)
{
    return number == SIGHUP && info->si_code <= 0;
}

static void
on_signal(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    ssize_t n = is_question(number, info) ? 0 : write(pipe_fds[1], "!", 1);

    (void) n; /* a full pipe has enough of them already */
    errno = saved;
}

static gpointer
wait_for_signals(gpointer data)
{
    GCancellable *cancellable = data;
    char byte;

    for (;;) {
        if (read(pipe_fds[0], &byte, 1) != 1)
            continue;
        if (g_cancellable_is_cancelled(cancellable))
            _exit(130);
        kvss_say("interrupted: %s", what_is_done);
        g_cancellable_cancel(cancellable);
    }
    return NULL;
}

void
kvss_signals_say(const char *what)
{
    what_is_done = what;
}

void
kvss_signals_cancel(GCancellable *cancellable)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO };

    (void) signal(SIGPIPE, SIG_IGN);
    /* Who started us may have ignored it, and that is inherited: no child's end would be seen. */
    (void) signal(SIGCHLD, SIG_DFL);
    if (!g_unix_open_pipe(pipe_fds, FD_CLOEXEC, NULL))
        return; /* without a pipe a signal ends us, and the guardian puts things back */
    g_thread_unref(g_thread_new("signals", wait_for_signals, cancellable));
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
        (void) sigaction(numbers[i], &action, NULL);
}
