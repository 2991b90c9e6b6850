/*
 * atomic-file.c - a file that appears whole or not at all
 */
#include "base/atomic-file.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
write_and_sync(int fd, const char *path, const void *data, size_t length, unsigned mode,
               GError **error)
{
    if (!kvss_write_exact(fd, data, length, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (fchmod(fd, mode) < 0)
        return kvss_throw_errno(error, errno, "chmod %s", path);
    return kvss_fsync(fd, path, error);
}

bool
kvss_atomic_file_write(const char *path, const void *data, size_t length, unsigned mode,
                       GError **error)
{
    g_autofree char *beside = g_strconcat(path, ".XXXXXX", NULL);
    g_autofree char *folder = g_path_get_dirname(path);
    kvss_autofd int fd = mkostemp(beside, O_CLOEXEC);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "create %s", beside);
    if (!write_and_sync(fd, path, data, length, mode, error))
        goto fail;
    if (rename(beside, path) < 0) {
        kvss_throw_errno(error, errno, "rename to %s", path);
        goto fail;
    }
    return kvss_fsync_folder(folder, error);

fail:
    (void) unlink(beside);
    return false;
}
