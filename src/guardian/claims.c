/*
 * claims.c - what a run uses, no other run may use
 */
#include "guardian/claims.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

/* Whoever has the lock needs milliseconds; one that was stopped meanwhile is not waited for. */
#define LOCK_LIMIT_US (10 * G_USEC_PER_SEC)
#define LOCK_POLL_US (10 * 1000)

/* Looking and claiming is one step: two runs that begin together must not both find nothing. */
static int
lock_claims(const char *folder, GError **error)
{
    kvss_autofd int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gint64 deadline_us = g_get_monotonic_time() + LOCK_LIMIT_US;

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open %s", folder);
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || g_get_monotonic_time() > deadline_us) {
            kvss_throw_errno(error, errno, "lock %s", folder);
            return -1;
        }
        g_usleep(LOCK_POLL_US);
    }
    return kvss_fd_steal(&fd);
}

static bool
has_claim(const KvssJournalContent *content, const char *id)
{
    return g_ptr_array_find_with_equal_func(content->claims, id, g_str_equal, NULL);
}

/* Another run's journal. One that is not held is dead: recovery's business. */
static bool
check_journal(const char *path, const char *id, const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssJournal) journal = NULL;
    g_auto(KvssJournalContent) content = { 0 };

    if (!kvss_journal_is_held(path))
        return true;
    journal = kvss_journal_open_look(path, &local);
    if (!journal && g_error_matches(local, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true; /* it has just finished */
    if (!journal || !kvss_journal_read(journal, &content, &local)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "is %s in use? ", name);
        return false;
    }
    if (!has_claim(&content, id))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                      "%s is in use by another run (%s, set %s, process %" G_GINT64_FORMAT
                      "): wait until it is over",
                      name, content.purpose, content.id, content.pid);
}

static bool
check_others(KvssJournal *own, const char *folder, const char *id, const char *name,
             GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, error);
    const char *entry;

    if (!dir)
        return false;
    while ((entry = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, entry, NULL);

        if (g_str_has_suffix(entry, ".journal")
            && !g_str_equal(path, kvss_journal_path(own))
            && !check_journal(path, id, name, error))
            return false;
    }
    return true;
}

bool
kvss_claims_add(KvssJournal *journal, const char *id, const char *name, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(kvss_journal_path(journal));
    kvss_autofd int lock = lock_claims(folder, error);

    return lock >= 0 && check_others(journal, folder, id, name, error)
           && kvss_journal_write_claim(journal, id, name, error);
}
