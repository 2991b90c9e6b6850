/*
 * lock-note.c - this host's record of the locks it has in repositories
 */
#include "base/fd.h"
#include "repository/backend/backend.h"
#include "repository/id.h"
#include "repository/lock-note.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_MAX (1u << 20)

struct KvssLockNote {
    char *folder, *path;
    int fd;
};

static int
open_guard(const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, ".guard", NULL);
    kvss_autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        kvss_throw_errno(error, errno, "lock %s", path);
        return -1;
    }
    return kvss_fd_steal(&fd);
}

static bool
note_write(KvssLockNote *note, const char *line, GError **error)
{
    g_autofree char *text = g_strconcat(line, "\n", NULL);

    return kvss_write_exact(note->fd, text, strlen(text), error)
        && kvss_fsync(note->fd, note->path, error);
}

KvssLockNote *
kvss_lock_note_new(const char *state_dir, const char *location, GError **error)
{
    g_autofree char *folder = g_build_filename(state_dir, "locks", NULL);
    g_autofree char *name = g_strdup_printf("%d-%08x", (int) getpid(), g_random_int());
    KvssLockNote *note;
    kvss_autofd int guard = -1;

    if (!kvss_make_folders(folder, 0700, error))
        return NULL;
    guard = open_guard(folder, error);
    if (guard < 0)
        return NULL;

    note = g_new0(KvssLockNote, 1);
    note->path = g_build_filename(folder, name, NULL);
    note->folder = g_steal_pointer(&folder);
    note->fd = open(note->path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (note->fd >= 0 && flock(note->fd, LOCK_EX | LOCK_NB) == 0) {
        if (note_write(note, location, error) && kvss_fsync_folder(note->folder, error))
            return note;
    } else {
        kvss_throw_errno(error, errno, "create %s", note->path);
    }
    kvss_lock_note_free(note);
    return NULL;
}

bool
kvss_lock_note_add(KvssLockNote *note, const char *name, GError **error)
{
    return note_write(note, name, error);
}

void
kvss_lock_note_free(KvssLockNote *note)
{
    if (!note)
        return;
    if (note->fd >= 0)
        (void) unlink(note->path);
    kvss_lock_note_abandon(note);
}

void
kvss_lock_note_abandon(KvssLockNote *note)
{
    kvss_fd_clear(&note->fd);
    g_free(note->path);
    g_free(note->folder);
    g_free(note);
}

/*
 * One lock of a dead process. It counts when it was really there: a note has
 * every lock since its process began, and all but the last are long gone.
 * Returns: false when it is still there.
 */
static bool
drop_lock(const char *location, const char *name, bool dry_run, unsigned *out_dropped)
{
    g_autofree char *path = g_build_filename(location, "locks", name, NULL);
    g_autoptr(GError) error = NULL;
    uint8_t id[KVSS_ID_LENGTH];

    if (!kvss_id_from_hex(name, strlen(name), id))
        return true; /* half a line: the lock it announces was never written */
    if (access(path, F_OK) < 0)
        return errno == ENOENT || errno == ENOTDIR;
    if (!dry_run && !kvss_backend_local_remove_lock(location, name, &error)
        && !g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND)) {
        g_debug("lock of a dead process: %s", error->message);
        return false;
    }
    g_debug("lock %.8s in %s was left by a process that is gone", name, location);
    (*out_dropped)++;
    return true;
}

static bool
drop_locks_of(const char *text, bool dry_run, unsigned *out_dropped)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool all = true;

    for (guint i = 1; lines[0] && lines[i]; i++)
        if (!drop_lock(lines[0], lines[i], dry_run, out_dropped))
            all = false;
    return all;
}

static bool
read_note(int fd, char **out_text, GError **error)
{
    struct stat st;
    char *text;

    if (fstat(fd, &st) < 0)
        return kvss_throw_errno(error, errno, "look at the note");
    if (st.st_size > (off_t) NOTE_MAX)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, "it is too long");
    text = g_malloc0((gsize) st.st_size + 1);
    if (kvss_pread_exact(fd, text, (size_t) st.st_size, 0, error)) {
        *out_text = text;
        return true;
    }
    g_free(text);
    return false;
}

static bool
drop_note(const char *folder, const char *name, bool dry_run, unsigned *out_dropped,
          GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *text = NULL;

    if (fd < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return true; /* its process lives */
    if (!read_note(fd, &text, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (drop_locks_of(text, dry_run, out_dropped) && !dry_run)
        (void) unlink(path);
    return true;
}

static bool
drop_notes(const char *folder, bool dry_run, unsigned *out_dropped, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)) != NULL)
        if (name[0] != '.' && !drop_note(folder, name, dry_run, out_dropped, error))
            return false;
    return true;
}

bool
kvss_repository_drop_stale_locks(const char *state_dir, bool dry_run, unsigned *out_dropped,
                                 GError **error)
{
    g_autofree char *folder = g_build_filename(state_dir, "locks", NULL);
    kvss_autofd int guard = -1;
    unsigned dropped = 0;

    if (access(folder, F_OK) == 0) {
        guard = open_guard(folder, error);
        if (guard < 0 || !drop_notes(folder, dry_run, &dropped, error))
            return false;
    }
    if (out_dropped)
        *out_dropped = dropped;
    return true;
}
