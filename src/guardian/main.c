/*
 * main.c - the guardian: a process that thaws when the run cannot
 *
 *     kvss-guardian JOURNAL URI        descriptors: 3 the journal, 4 the control socket
 *
 * It holds its own connection to libvirt before the first guest is frozen, keeps
 * the time itself, and undoes an armed act when its limit passes. When the control
 * socket closes without "done" the run is dead: everything open is undone. The
 * journal's lock, inherited with descriptor 3, is held until that is finished.
 *
 * On qemu:///embed the driver lives inside the run's process: the guardian must
 * end that process before it can connect.
 */
#include "base/fd.h"
#include "guardian/journal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define JOURNAL_FD 3
#define CONTROL_FD 4
/* A guest that froze late is waited for as long as somebody may still wake its agent. */
#define PATIENCE_US (600 * G_USEC_PER_SEC)
/* One try: short, since libvirt may need a new connection for the next. */
#define TRY_S 10
/* libvirtd may be restarting. */
#define CONNECT_LIMIT_US (120 * G_USEC_PER_SEC)
#define RETRY_INTERVAL_US (500 * 1000)

typedef struct {
    uint64_t act;
    gint64 deadline_us;
    bool fired;
} Armed;

typedef struct {
    KvssJournal *journal;
    const char *uri;
    bool is_embedded;
    KvssHost *host;  /* NULL while embedded; a thread may replace a dead one */
    GArray *armed;   /* Armed */
    pid_t parent;
} Guardian;

static void
answer(const char *text)
{
    (void) send(CONTROL_FD, text, strlen(text), MSG_NOSIGNAL);
}

static Armed *
find_armed(Guardian *guardian, uint64_t act)
{
    for (guint i = 0; i < guardian->armed->len; i++) {
        Armed *armed = &g_array_index(guardian->armed, Armed, i);

        if (armed->act == act)
            return armed;
    }
    return NULL;
}

/* ---- undoing ---- */

static void
tell(const KvssAct *act, bool forward, const GError *problem, gpointer data)
{
    g_autofree char *what = kvss_act_describe(act);

    g_message("%s: %s", what, problem ? problem->message : forward ? "completed" : "undone");
}

/* The connection of before where it still works; else a new one, while libvirtd may be restarting. */
static KvssHost *
usable_host(Guardian *guardian, gint64 deadline_us)
{
    if (guardian->host && virConnectIsAlive(kvss_host_connection(guardian->host)) == 1)
        return guardian->host;
    for (;;) {
        g_autoptr(GError) error = NULL;
        KvssHost *host = kvss_host_open(guardian->uri, &error);

        /* The dead one stays: another thread may be in a call on it. */
        if (host)
            return guardian->host = host;
        if (g_get_monotonic_time() > deadline_us) {
            g_warning("%s", error->message);
            return NULL;
        }
        g_usleep(RETRY_INTERVAL_US);
    }
}

/* Guests are waited for, and what a writer holds; a folder that cannot be removed now is left to doctor. */
static bool
is_anybody_waiting(Guardian *guardian)
{
    g_auto(KvssJournalContent) content = { 0 };

    if (!kvss_journal_read(guardian->journal, &content, NULL))
        return false;
    for (guint i = 0; i < content.open->len; i++) {
        const KvssAct *act = g_ptr_array_index(content.open, i);

        if (kvss_act_needs_host(act) || act->kind == KVSS_ACT_PROGRAM)
            return true;
    }
    return false;
}

static bool
is_anything_to_tell(Guardian *guardian)
{
    g_auto(KvssJournalContent) content = { 0 };

    return kvss_journal_read(guardian->journal, &content, NULL) && content.stays->len > 0;
}

/* What is left stays in the journal for doctor. */
static int
recover_all(Guardian *guardian)
{
    gint64 deadline_us = g_get_monotonic_time() + PATIENCE_US;
    g_autoptr(GError) error = NULL;
    bool is_settled = false;

    for (;;) {
        /* First: libvirtd may be restarting, and a guest may not answer. */
        KvssApart *apart = kvss_journal_start_apart(guardian->journal, NULL, tell, NULL);
        KvssHost *host = usable_host(guardian, g_get_monotonic_time() + CONNECT_LIMIT_US);
        bool ok;

        if (!is_settled)
            kvss_journal_settle(guardian->journal, host, TRY_S);
        is_settled = host != NULL;
        g_clear_error(&error);
        ok = kvss_journal_undo(guardian->journal, host, TRY_S, NULL, tell, NULL, &error);
        if (kvss_apart_wait(apart, ok ? &error : NULL) && ok)
            break;
        if (!is_anybody_waiting(guardian) || g_get_monotonic_time() > deadline_us) {
            g_warning("%s", error->message);
            return EXIT_FAILURE;
        }
        g_usleep(RETRY_INTERVAL_US);
    }
    /* Nobody reads our log: doctor tells of what was left, and removes the journal. */
    if (is_anything_to_tell(guardian))
        return EXIT_FAILURE;
    if (!kvss_journal_remove(guardian->journal, &error)) {
        g_warning("%s", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

typedef struct {
    Guardian *guardian;
    uint64_t act;
} Firing;

/* One try; true when there is nothing more to do for the act. */
static bool
try_one(Guardian *guardian, uint64_t id)
{
    g_auto(KvssJournalContent) content = { 0 };
    g_autoptr(GError) error = NULL;

    if (!kvss_journal_read(guardian->journal, &content, &error)) {
        g_warning("%s", error->message);
        return false;
    }
    for (guint i = 0; i < content.open->len; i++) {
        const KvssAct *act = g_ptr_array_index(content.open, i);
        KvssHost *host = NULL;
        bool ok;

        if (act->id != id)
            continue;
        if (kvss_act_needs_host(act))
            host = usable_host(guardian, g_get_monotonic_time() + CONNECT_LIMIT_US);
        ok = (host || !kvss_act_needs_host(act)) && kvss_act_undo(act, host, TRY_S, &error);
        tell(act, false, error, NULL);
        return ok;
    }
    return true;
}

/* In a thread of its own: another guest's limit may pass meanwhile. */
static gpointer
undo_one(gpointer data)
{
    g_autofree Firing *firing = data;
    gint64 deadline_us = g_get_monotonic_time() + PATIENCE_US;

    while (!try_one(firing->guardian, firing->act) && g_get_monotonic_time() < deadline_us)
        g_usleep(RETRY_INTERVAL_US);
    return NULL;
}

/* Never returns on embed: the run is over. */
static void
fire(Guardian *guardian, Armed *armed)
{
    Firing *firing;

    armed->fired = true;
    if (guardian->is_embedded) {
        g_message("the limit passed: ending process %d, which holds the embedded driver",
                  (int) guardian->parent);
        (void) kill(guardian->parent, SIGKILL);
        exit(recover_all(guardian));
    }
    firing = g_new0(Firing, 1);
    firing->guardian = guardian;
    firing->act = armed->act;
    g_thread_unref(g_thread_new("undo", undo_one, firing));
}

static void
fire_what_is_due(Guardian *guardian)
{
    gint64 now_us = g_get_monotonic_time();

    for (guint i = 0; i < guardian->armed->len; i++) {
        Armed *armed = &g_array_index(guardian->armed, Armed, i);

        if (!armed->fired && armed->deadline_us <= now_us)
            fire(guardian, armed);
    }
}

static int
ms_to_next_deadline(Guardian *guardian)
{
    gint64 now_us = g_get_monotonic_time(), next_us = G_MAXINT64;

    for (guint i = 0; i < guardian->armed->len; i++) {
        const Armed *armed = &g_array_index(guardian->armed, Armed, i);

        if (!armed->fired)
            next_us = MIN(next_us, armed->deadline_us);
    }
    if (next_us == G_MAXINT64)
        return -1;
    return next_us <= now_us ? 0 : (int) ((next_us - now_us + 999) / 1000);
}

/* ---- commands ---- */

/* Armed already: from now on this limit holds. False: the last one has passed. */
static bool
arm(Guardian *guardian, uint64_t act, unsigned limit_ms)
{
    Armed armed = { act, g_get_monotonic_time() + (gint64) limit_ms * 1000, false };
    Armed *before = find_armed(guardian, act);

    if (before && before->fired)
        return false;
    if (before)
        *before = armed;
    else
        g_array_append_val(guardian->armed, armed);
    return true;
}

static void
handle(Guardian *guardian, const char *command)
{
    uint64_t act;
    unsigned limit_ms;

    if (sscanf(command, "arm %" G_GUINT64_FORMAT " %u", &act, &limit_ms) == 2) {
        answer(arm(guardian, act, limit_ms) ? "ok" : "its limit has passed already");
    } else if (sscanf(command, "disarm %" G_GUINT64_FORMAT, &act) == 1) {
        Armed *armed = find_armed(guardian, act);

        answer(armed && armed->fired ? "late" : "ok");
        if (armed)
            armed->fired = true; /* never again */
    } else {
        answer("not understood");
    }
}

static int
watch(Guardian *guardian)
{
    for (;;) {
        struct pollfd pfd = { .fd = CONTROL_FD, .events = POLLIN };
        int n = poll(&pfd, 1, ms_to_next_deadline(guardian));
        char command[128];
        ssize_t length;

        fire_what_is_due(guardian);
        if (n <= 0)
            continue;
        length = recv(CONTROL_FD, command, sizeof command - 1, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return recover_all(guardian);
        command[length] = '\0';
        if (g_str_equal(command, "done"))
            return EXIT_SUCCESS;
        handle(guardian, command);
    }
}

/* Ctrl-C at the terminal, a closing session: the run may die of them, its guardian must not. */
static void
detach(void)
{
    int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU };

    (void) setsid();
    (void) signal(SIGCHLD, SIG_DFL); /* a writer's end must be seen */
    for (gsize i = 0; i < G_N_ELEMENTS(signals); i++)
        (void) signal(signals[i], SIG_IGN);
    if (chdir("/") < 0)
        g_warning("chdir: %s", g_strerror(errno));
}

int
main(int argc, char **argv)
{
    Guardian guardian = { .parent = getppid() };
    g_autoptr(GError) error = NULL;

    if (argc != 3) {
        fputs("kvss-guardian is started by kvss, not by hand\n", stderr);
        return 2;
    }
    kvss_host_keep_quiet();
    detach();
    guardian.journal = kvss_journal_from_fd(JOURNAL_FD, argv[1]);
    guardian.uri = argv[2];
    guardian.armed = g_array_new(FALSE, FALSE, sizeof(Armed));
    guardian.is_embedded = strstr(guardian.uri, "///embed") != NULL;
    if (!guardian.is_embedded) {
        guardian.host = kvss_host_open(guardian.uri, &error);
        if (!guardian.host) {
            g_warning("%s", error->message);
            answer(error->message);
            return EXIT_FAILURE;
        }
    }
    answer("ready");
    return watch(&guardian);
}
