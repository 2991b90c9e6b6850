/*
 * recovery.c - what dead runs left behind, found and undone
 */
#include "guardian/recovery.h"
#include "base/fd.h"
#include "guardian/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* A guest that does not answer is not waited for: the report names it. */
#define PATIENCE_S 10
#define POLL_INTERVAL_US (50 * 1000)
#define SEEMS_ALIVE_US (200 * 1000)

void
kvss_recovery_report_clear(KvssRecoveryReport *report)
{
    g_clear_pointer(&report->found, g_ptr_array_unref);
    g_clear_pointer(&report->undone, g_ptr_array_unref);
    g_clear_pointer(&report->left, g_ptr_array_unref);
}

/* The journal is held: by a live run, or by the guardian of a dead one? */
static bool
is_alive(const char *journal_path)
{
    g_autofree char *alive = kvss_journal_alive_path(journal_path);

    return kvss_journal_is_held(alive);
}

/*
 * True once nobody holds the journal; a live run, which may not hold it yet, is not waited
 * for. A run that was killed while it started a program seems alive until that program, which
 * has a copy of all it had open, is one of its own or ends as well.
 */
static bool
wait_for_guardian(const char *path, unsigned wait_s)
{
    gint64 begin_us = g_get_monotonic_time();
    gint64 deadline_us = begin_us + (gint64) wait_s * G_USEC_PER_SEC;

    while (kvss_journal_is_held(path)) {
        gint64 now_us = g_get_monotonic_time();

        if (now_us > deadline_us || (is_alive(path) && now_us > begin_us + SEEMS_ALIVE_US))
            return false;
        g_usleep(POLL_INTERVAL_US);
    }
    return !is_alive(path);
}

static void
list_only(const KvssJournalContent *content, KvssRecoveryReport *report)
{
    for (guint i = 0; i < content->open->len; i++)
        g_ptr_array_add(report->found, kvss_act_describe(g_ptr_array_index(content->open, i)));
}

/*
 * A guardian tries for minutes: whoever waits for it must not take the VM for whole. Only what
 * the journal says is told, nothing of it is touched.
 */
static void
tell_guardian_at_work(const char *path, const char *state_dir, KvssRecoveryReport *report)
{
    g_autoptr(KvssJournal) journal = kvss_journal_open_look(path, NULL);
    g_auto(KvssJournalContent) content = { 0 };

    if (!journal || !kvss_journal_read(journal, &content, NULL))
        return;
    list_only(&content, report);
    g_ptr_array_add(report->left,
                    g_strdup_printf("an interrupted %s is still being undone by its guardian: "
                                    "%s/guardian.log says what keeps it; 'kvss doctor' goes on "
                                    "when it has given up",
                                    content.purpose ? content.purpose : "run", state_dir));
}

static void
tell(const KvssAct *act, bool forward, const GError *problem, gpointer data)
{
    KvssRecoveryReport *report = data;
    char *what = kvss_act_describe(act);

    g_ptr_array_add(report->found, what);
    if (problem)
        g_ptr_array_add(report->left, g_strdup_printf("%s: %s", what, problem->message));
    else
        g_ptr_array_add(report->undone, g_strdup(what));
}

/* Decided by a guardian, which has nobody to tell. */
static void
tell_stays(const KvssJournalContent *content, KvssRecoveryReport *report)
{
    for (guint i = 0; i < content->stays->len; i++)
        g_ptr_array_add(report->left, g_strdup(g_ptr_array_index(content->stays, i)));
}

static bool
recover_journal(const char *path, bool dry_run, KvssRecoveryReport *report, GError **error)
{
    g_autoptr(KvssJournal) journal = kvss_journal_open_dead(path, error);
    g_auto(KvssJournalContent) content = { 0 };
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(GError) problem = NULL;
    KvssApart *apart;
    bool ok;

    if (!journal || !kvss_journal_read(journal, &content, error))
        return false;
    tell_stays(&content, report);
    if (dry_run) {
        list_only(&content, report);
        return true;
    }
    /* First: libvirt may let us wait. */
    apart = kvss_journal_start_apart(journal, NULL, tell, report);
    if (kvss_journal_needs_host(&content))
        host = kvss_host_open(content.uri ? content.uri : "qemu:///system", &problem);
    g_clear_error(&problem);
    kvss_journal_settle(journal, host, PATIENCE_S);
    ok = kvss_journal_undo(journal, host, PATIENCE_S, NULL, tell, report, &problem);
    ok = kvss_apart_wait(apart, NULL) && ok;
    return !ok || kvss_journal_remove(journal, error);
}

/* One journal's trouble must not keep the others from being looked at. */
static void
recover_one(const char *path, const char *state_dir, bool dry_run, unsigned wait_s,
            KvssRecoveryReport *report)
{
    g_autoptr(GError) problem = NULL;

    if (!wait_for_guardian(path, wait_s)) {
        if (wait_s == 0 || is_alive(path))
            report->alive++;
        else
            tell_guardian_at_work(path, state_dir, report);
        return;
    }
    if (!recover_journal(path, dry_run, report, &problem)) {
        /* Its guardian finished and removed it under our eyes, or another command is at it. */
        if (g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND)
            || g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY))
            return;
        g_ptr_array_add(report->left, g_strdup(problem->message));
    }
}

/*
 * Under its lock: a run that begins holds it before it has a journal, and looks
 * again when it gets it. So do we: another may have removed this one before us, and
 * what the path names now is a living run's.
 */
static void
remove_stale_sign(const char *path)
{
    g_autofree char *stem = g_strndup(path, strlen(path) - strlen(".alive"));
    g_autofree char *journal = g_strconcat(stem, ".journal", NULL);
    kvss_autofd int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && access(journal, F_OK) < 0
        && kvss_fd_is_at(fd, path))
        (void) unlink(path);
}

bool
kvss_recovery_run(const char *state_dir, bool dry_run, unsigned wait_s,
                  KvssRecoveryReport *out_report, GError **error)
{
    g_autofree char *folder = g_build_filename(state_dir, "journals", NULL);
    g_autoptr(GError) trouble = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &trouble);
    const char *name;

    memset(out_report, 0, sizeof *out_report);
    out_report->found = g_ptr_array_new_with_free_func(g_free);
    out_report->undone = g_ptr_array_new_with_free_func(g_free);
    out_report->left = g_ptr_array_new_with_free_func(g_free);
    if (g_error_matches(trouble, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return true;
    if (!dir)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "cannot look for interrupted runs: %s", trouble->message);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (g_str_has_suffix(name, ".journal"))
            recover_one(path, state_dir, dry_run, wait_s, out_report);
        else if (g_str_has_suffix(name, ".alive") && !dry_run)
            remove_stale_sign(path);
    }
    return true;
}
