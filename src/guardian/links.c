/*
 * links.c - symbolic links of ours in the host's default location
 */
#include "guardian/links.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Users' attributes cannot be on a symbolic link; trusted ones are root's, as the links are. */
#define MARK "trusted.kvss.link"
#define MARK_MAX 256

/* ---- questions ---- */

/* What the mark on a link says; NULL: there is none. */
static char *
mark_read(const char *path)
{
    char mark[MARK_MAX];
    ssize_t n = lgetxattr(path, MARK, mark, sizeof mark);

    return n > 0 ? g_strndup(mark, (gsize) n) : NULL;
}

static char *
mark_text(const char *uuid, const char *disk)
{
    return g_strdup_printf("%s/%s", uuid, disk);
}

static bool
is_link(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

bool
kvss_link_is_ours(const char *path)
{
    g_autofree char *mark = is_link(path) ? mark_read(path) : NULL;

    return mark != NULL;
}

bool
kvss_link_leads_to(const char *path, const char *target)
{
    g_autofree char *there = g_file_read_link(path, NULL);

    return there && g_str_equal(there, target);
}

GPtrArray *
kvss_links_find(const char *folder, const char *uuid, const char *disk)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autofree char *wanted = mark_text(uuid, disk);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *mark = is_link(path) ? mark_read(path) : NULL;

        if (mark && g_ascii_strcasecmp(mark, wanted) == 0)
            g_ptr_array_add(paths, g_steal_pointer(&path));
    }
    return paths;
}

/* ---- making and removing ---- */

/* Only the last one: with more missing it is not the place it was thought to be. */
static bool
make_last_folder(const char *folder, GError **error)
{
    if (mkdir(folder, 0711) == 0 || errno == EEXIST)
        return true;
    return kvss_throw_errno(error, errno, "make folder %s", folder);
}

/* Under a name of no meaning, so that no link of ours is ever without its mark. */
static bool
make_beside(const KvssLink *link, const char *beside, GError **error)
{
    g_autofree char *mark = mark_text(link->uuid, link->disk);

    (void) unlink(beside); /* of a run that died here */
    if (symlink(link->target, beside) < 0)
        return kvss_throw_errno(error, errno, "make link %s", link->path);
    if (lsetxattr(beside, MARK, mark, strlen(mark), 0) == 0)
        return true;
    (void) kvss_throw_errno(error, errno, "mark link %s as ours", link->path);
    (void) unlink(beside);
    return false;
}

static bool
throw_in_the_way(const KvssLink *link, GError **error)
{
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                      "%s is there already, and is no link of kvss", link->path);
}

/* One of ours may be written over; whatever else is or comes there makes this fail. */
static bool
move_in(const KvssLink *link, const char *beside, GError **error)
{
    unsigned flags = kvss_link_is_ours(link->path) ? 0 : RENAME_NOREPLACE;
    int problem;

    if (renameat2(AT_FDCWD, beside, AT_FDCWD, link->path, flags) == 0)
        return true;
    problem = errno;
    (void) unlink(beside);
    return problem == EEXIST ? throw_in_the_way(link, error)
                             : kvss_throw_errno(error, problem, "make link %s", link->path);
}

static bool
link_make(const KvssLink *link, const char *folder, GError **error)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, link->path, -1);
    g_autofree char *beside = g_strdup_printf("%s/.kvss-link-%.16s", folder, sum);
    struct stat st;

    if (lstat(link->path, &st) == 0 && !kvss_link_is_ours(link->path))
        return throw_in_the_way(link, error);
    return make_last_folder(folder, error) && make_beside(link, beside, error)
        && move_in(link, beside, error) && kvss_fsync_folder(folder, error);
}

bool
kvss_link_apply(const KvssLink *link, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(link->path);

    if (*link->target)
        return kvss_link_leads_to(link->path, link->target) || link_make(link, folder, error);
    if (!kvss_link_is_ours(link->path))
        return true;
    if (unlink(link->path) < 0 && errno != ENOENT)
        return kvss_throw_errno(error, errno, "remove link %s", link->path);
    return kvss_fsync_folder(folder, error);
}
