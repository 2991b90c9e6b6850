/*
 * beneath.c - paths gone step by step, so that no symbolic link leads elsewhere
 */
#include "base/beneath.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static bool
is_step(const char *name)
{
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

bool
kvss_is_plain_path(const char *path)
{
    g_auto(GStrv) names = NULL;

    if (*path != '/' || !g_utf8_validate(path, -1, NULL))
        return false;
    for (const char *c = path; *c; c++)
        if (g_ascii_iscntrl(*c))
            return false;
    names = g_strsplit(path + 1, "/", -1);
    for (char **name = names; *name; name++)
        if (!is_step(*name))
            return false;
    return names[0] != NULL;
}

static int
open_step(int folder, const char *name, unsigned make_mode)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(folder, name, flags);

    if (fd >= 0 || errno != ENOENT || make_mode == 0)
        return fd;
    if (mkdirat(folder, name, make_mode) < 0 && errno != EEXIST)
        return -1;
    return openat(folder, name, flags);
}

static int
throw_step(int errsv, const char *what, const char *path, GError **error)
{
    if (errsv == ELOOP || errsv == ENOTDIR)
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "%s %s: a symbolic link, or no folder, is on the way there, and none is followed",
                   what, path);
    else
        kvss_throw_errno(error, errsv, "%s %s", what, path);
    return -1;
}

int
kvss_open_folder_beneath(int root, const char *relative, unsigned make_mode, GError **error)
{
    g_auto(GStrv) names = g_strsplit(relative, "/", -1);
    kvss_autofd int at = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (char **name = names; at >= 0 && *name; name++) {
        int next;

        if (!is_step(*name)) {
            errno = EINVAL;
            return throw_step(errno, "open folder", relative, error);
        }
        next = open_step(at, *name, make_mode);
        kvss_fd_clear(&at);
        at = next;
    }
    return at >= 0 ? kvss_fd_steal(&at) : throw_step(errno, "open folder", relative, error);
}

int
kvss_open_real(const char *path, int flags, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    kvss_autofd int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    kvss_autofd int above = -1;
    int fd;

    if (!kvss_is_plain_path(path)) {
        errno = EINVAL;
        return throw_step(errno, "open", path, error);
    }
    if (root < 0)
        return throw_step(errno, "open", "/", error);
    above = kvss_open_folder_beneath(root, folder + 1, 0, error);
    if (above < 0) {
        g_prefix_error(error, "%s: ", path);
        return -1;
    }
    fd = openat(above, name, flags | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : throw_step(errno, "open", path, error);
}
