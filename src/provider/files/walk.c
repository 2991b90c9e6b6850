/*
 * walk.c - which files a file set means, right now
 */
#include "provider/files/walk.h"
#include "base/beneath.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define DEPTH_MAX 64
/* A set's document has names of up to 4,095 bytes, and the restore adds to them. */
#define PATH_MAX_LENGTH 3000
/* Of one file set; a folder with a thousand sockets is told as one that has them. */
#define NOTES_MAX 20

char *
walk_folder_key(const struct stat *st)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64) st->st_dev,
                           (guint64) st->st_ino);
}

static const char *
kind_name(mode_t mode)
{
    if (S_ISLNK(mode))
        return "a symbolic link";
    if (S_ISSOCK(mode))
        return "a socket";
    if (S_ISFIFO(mode))
        return "a pipe";
    return "a device";
}

static void
note_left_out(Walk *walk, const char *path, const char *what)
{
    if (!walk->component)
        return;
    if (walk->n_notes < NOTES_MAX)
        kvss_component_add_note(walk->component, "%s is %s: left out", path, what);
    else if (walk->n_notes == NOTES_MAX)
        kvss_component_add_note(walk->component,
                                "%s: more links, sockets, pipes, devices, kept files or folders of kvss are "
                                "left out",
                                walk->files->path);
    walk->n_notes++;
}

/* A name that no document of ours can hold: data is missing, and that is told. */
static void
tell_not_covered(Walk *walk, const char *path, const char *why)
{
    g_autofree char *valid = g_utf8_make_valid(path, -1);

    if (walk->component && walk->n_notes++ < NOTES_MAX)
        kvss_component_add_not_covered(walk->component, valid, "file", true, "%s", why);
}

static const char *
name_trouble(const char *path)
{
    if (strlen(path) > PATH_MAX_LENGTH)
        return "its path is too long";
    return kvss_is_plain_path(path) ? NULL : "its name is no UTF-8 text, or has control characters";
}

static bool
check_limits(Walk *walk, GError **error)
{
    if (!kvss_check_cancelled(walk->cancellable, error))
        return false;
    if (walk->deadline_us && g_get_monotonic_time() > walk->deadline_us)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                          "%s: looking through it takes too long", walk->files->path);
    if (*walk->entries_left == 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "%s: too many files for one backup: declare fewer, or folders of their "
                          "own", walk->files->path);
    --*walk->entries_left;
    return true;
}

static bool
is_meant(const Walk *walk, const char *name)
{
    g_autofree char *valid = g_utf8_make_valid(name, -1);

    return kvss_filespec_matches(walk->files->filespec, valid);
}

/* Kept by a restore, for a person: a set with it could not be put back while it is there. */
static bool
is_kept(const char *name)
{
    return strstr(name, ".kvss-old-") != NULL;
}

static bool
visit_file(Walk *walk, int folder, const char *name, const char *path, const struct stat *st,
           GError **error)
{
    const char *trouble;

    if (!is_meant(walk, name))
        return true;
    trouble = name_trouble(path);
    if (trouble)
        tell_not_covered(walk, path, trouble);
    else if (!S_ISREG(st->st_mode))
        note_left_out(walk, path, kind_name(st->st_mode));
    else if (is_kept(name))
        note_left_out(walk, path, "what a restore has kept");
    else
        return walk->found(walk, folder, name, path, st, error);
    return true;
}

static bool visit_folder(Walk *walk, int fd, const char *path, unsigned depth, GError **error);

static bool
leave_ours(Walk *walk, const char *path, const char *what, GError **error)
{
    if (walk->met_ours)
        return walk->met_ours(walk, path, what, error);
    note_left_out(walk, path, what);
    return true;
}

static bool
descend(Walk *walk, int folder, const char *name, const char *path, const struct stat *st,
        unsigned depth, GError **error)
{
    g_autofree char *key = walk_folder_key(st);
    const char *what = walk->ours ? g_hash_table_lookup(walk->ours, key) : NULL;
    kvss_autofd int fd = -1;

    if (!walk->files->is_recursive || (walk->skip && g_hash_table_contains(walk->skip, key)))
        return true;
    if (what)
        return leave_ours(walk, path, what, error);
    if (depth == DEPTH_MAX)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "%s: folders are nested deeper than %d", walk->files->path, DEPTH_MAX);
    fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        return visit_folder(walk, fd, path, depth, error);
    /* Gone since, or something else by now: nothing of what was declared. */
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        return true;
    return kvss_throw_errno(error, errno, "open folder %s", path);
}

static bool
visit(Walk *walk, int folder, const char *name, const char *above, unsigned depth, GError **error)
{
    g_autofree char *path = g_build_filename(above, name, NULL);
    struct stat st;

    if (!check_limits(walk, error))
        return false;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "look at %s", path);
    if (S_ISDIR(st.st_mode))
        return descend(walk, folder, name, path, &st, depth + 1, error);
    return visit_file(walk, folder, name, path, &st, error);
}

static bool
visit_folder(Walk *walk, int fd, const char *path, unsigned depth, GError **error)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own >= 0 ? fdopendir(own) : NULL;
    struct dirent *entry;
    bool ok = true;

    if (!dir) {
        kvss_throw_errno(error, errno, "read folder %s", path);
        kvss_fd_clear(&own);
        return false;
    }
    while (ok && (errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = visit(walk, fd, entry->d_name, path, depth, error);
    if (ok && errno != 0)
        ok = kvss_throw_errno(error, errno, "read folder %s", path);
    (void) closedir(dir);
    return ok;
}

bool
walk_run(Walk *walk, GError **error)
{
    kvss_autofd int root = kvss_open_real(walk->files->path, O_RDONLY | O_DIRECTORY, error);

    return root >= 0 && visit_folder(walk, root, walk->files->path, 0, error);
}
