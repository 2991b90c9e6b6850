/*
 * lock-note.c - this host's record of the locks it has in repositories
 */
#include "base/fd.h"
#include "repository/backend/backend.h"
#include "repository/format/id.h"
#include "repository/lock/lock-note.h"

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

/* ---- notes of the dead ---- */

/** A note whose process is gone, locked by us. */
typedef struct {
    char *path;
    int fd;
    char **lines; /* the location, then names of locks: every one since its process began */
} DeadNote;

static void
dead_note_free(gpointer data)
{
    DeadNote *note = data;

    kvss_fd_clear(&note->fd);
    g_strfreev(note->lines);
    g_free(note->path);
    g_free(note);
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
collect_note(const char *folder, const char *name, GPtrArray *notes, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *text = NULL;
    DeadNote *note;

    if (fd < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return true; /* its process lives */
    if (!read_note(fd, &text, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    note = g_new0(DeadNote, 1);
    note->path = g_steal_pointer(&path);
    note->fd = kvss_fd_steal(&fd);
    note->lines = g_strsplit(text, "\n", -1);
    g_ptr_array_add(notes, note);
    return true;
}

/*
 * All there are, each locked: what is then done about them may take its time,
 * while others note locks of theirs.
 */
static GPtrArray *
collect_notes(const char *state_dir, GError **error)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(dead_note_free);
    g_autofree char *folder = g_build_filename(state_dir, "locks", NULL);
    g_autoptr(GDir) dir = NULL;
    kvss_autofd int guard = -1;
    const char *name;

    if (access(folder, F_OK) < 0)
        return g_steal_pointer(&notes);
    guard = open_guard(folder, error);
    if (guard < 0)
        return NULL;
    dir = g_dir_open(folder, 0, NULL);
    while (dir && (name = g_dir_read_name(dir)) != NULL)
        if (name[0] != '.' && !collect_note(folder, name, notes, error))
            return NULL;
    return g_steal_pointer(&notes);
}

/* ---- in folders of this host ---- */

static bool
is_local(const DeadNote *note)
{
    return !note->lines[0] || g_path_is_absolute(note->lines[0]) || !*note->lines[0];
}

/*
 * One lock of a dead process. It counts when it was really there: all but the
 * last of a note are long gone. Returns: false when it is still there.
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
drop_local(const DeadNote *note, bool dry_run, unsigned *out_dropped)
{
    bool all = true;

    for (guint i = 1; note->lines[0] && note->lines[i]; i++)
        if (!drop_lock(note->lines[0], note->lines[i], dry_run, out_dropped))
            all = false;
    return all;
}

bool
kvss_repository_drop_stale_locks(const char *state_dir, bool dry_run, unsigned *out_dropped,
                                 GError **error)
{
    g_autoptr(GPtrArray) notes = collect_notes(state_dir, error);
    unsigned dropped = 0;

    for (guint i = 0; notes && i < notes->len; i++) {
        const DeadNote *note = g_ptr_array_index(notes, i);

        if (is_local(note) && drop_local(note, dry_run, &dropped) && !dry_run)
            (void) unlink(note->path);
    }
    if (out_dropped)
        *out_dropped = dropped;
    return notes != NULL;
}

/* ---- behind servers ---- */

static bool
is_noted(const DeadNote *note, const char *name)
{
    for (guint i = 1; note->lines[i]; i++)
        if (g_str_equal(note->lines[i], name))
            return true;
    return false;
}

/* The listing says which of the noted are still there: a request each would be hundreds in vain. */
static bool
drop_remote(KvssBackend *backend, const DeadNote *note, bool dry_run, unsigned *out_dropped,
            GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(backend, KVSS_FILE_LOCK, error);

    for (guint i = 0; files && i < files->len; i++) {
        g_autoptr(GError) why = NULL;
        char name[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, name);
        if (!is_noted(note, name))
            continue;
        if (!dry_run && !kvss_backend_remove(backend, KVSS_FILE_LOCK, name, &why)
            && !g_error_matches(why, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        g_debug("lock %.8s in %s was left by a process that is gone", name, backend->location);
        (*out_dropped)++;
    }
    return files != NULL;
}

bool
kvss_lock_notes_drop_at(const char *state_dir, KvssBackend *backend, GError **error)
{
    g_autoptr(GPtrArray) notes = NULL;
    unsigned dropped = 0;

    if (!kvss_backend_is_remote(backend))
        return true;
    notes = collect_notes(state_dir, error);
    for (guint i = 0; notes && i < notes->len; i++) {
        const DeadNote *note = g_ptr_array_index(notes, i);
        g_autoptr(GError) why = NULL;

        if (g_strcmp0(note->lines[0], backend->location) != 0)
            continue;
        if (drop_remote(backend, note, false, &dropped, &why))
            (void) unlink(note->path);
        else
            g_debug("locks of a dead process stay for now: %s", why->message);
    }
    return notes != NULL;
}

/* With the credentials of @location where that is the same place, else with the environment's. */
static bool
reach_and_drop(const DeadNote *note, const char *location, bool dry_run, unsigned *out_dropped,
               GError **error)
{
    g_autofree char *shown = location ? kvss_repository_location_text(location) : NULL;
    bool is_same = g_strcmp0(shown, note->lines[0]) == 0;
    g_autoptr(KvssBackend) backend
        = kvss_backend_open(is_same ? location : note->lines[0], error);

    return backend && drop_remote(backend, note, dry_run, out_dropped, error);
}

bool
kvss_repository_drop_remote_locks(const char *state_dir, const char *location, bool dry_run,
                                  unsigned *out_dropped, GPtrArray *out_left, GError **error)
{
    g_autoptr(GPtrArray) notes = collect_notes(state_dir, error);
    unsigned dropped = 0;

    for (guint i = 0; notes && i < notes->len; i++) {
        const DeadNote *note = g_ptr_array_index(notes, i);
        g_autoptr(GError) why = NULL;

        if (is_local(note))
            continue;
        if (!reach_and_drop(note, location, dry_run, &dropped, &why))
            g_ptr_array_add(out_left,
                            g_strdup_printf("a lock that a dead process may have left in %s could "
                                            "not be removed, the next command that opens this "
                                            "repository does it: %s", note->lines[0],
                                            why->message));
        else if (!dry_run)
            (void) unlink(note->path);
    }
    *out_dropped = dropped;
    return notes != NULL;
}
