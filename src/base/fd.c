/*
 * fd.c - descriptors that close themselves, and whole reads and writes
 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

void
kvss_fd_clear(int *fd)
{
    int errsv = errno;

    if (*fd >= 0)
        (void) close(*fd);
    *fd = -1;
    errno = errsv;
}

int
kvss_fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

bool
kvss_pread_exact(int fd, void *buffer, size_t length, uint64_t offset, GError **error)
{
    uint8_t *at = buffer;

    while (length > 0) {
        ssize_t n = pread(fd, at, length, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kvss_throw_errno(error, errno, "read at offset %" G_GUINT64_FORMAT, offset);
        if (n == 0)
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "the file ends at offset %" G_GUINT64_FORMAT
                              ", %zu bytes too early", offset, length);
        at += n;
        offset += (uint64_t) n;
        length -= (size_t) n;
    }
    return true;
}

bool
kvss_pwrite_exact(int fd, const void *buffer, size_t length, uint64_t offset, GError **error)
{
    const uint8_t *at = buffer;

    while (length > 0) {
        ssize_t n = pwrite(fd, at, length, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kvss_throw_errno(error, errno, "write at offset %" G_GUINT64_FORMAT, offset);
        at += n;
        offset += (uint64_t) n;
        length -= (size_t) n;
    }
    return true;
}

/* That they only store what they are given is known of these. */
static bool
may_be_direct(int fd)
{
    struct statfs fs;
    struct stat st;

    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return false;
    return S_ISBLK(st.st_mode)
           || (S_ISREG(st.st_mode)
               && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC));
}

/* By its descriptor and not by its path, which may be another file's by now. */
int
kvss_fd_open_direct(int fd)
{
    char path[32];

    if (!may_be_direct(fd))
        return -1;
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

bool
kvss_fd_enter_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && may_be_direct(fd) && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

/* That a flag is taken away is refused by nobody. */
void
kvss_fd_leave_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        (void) fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

bool
kvss_write_exact(int fd, const void *buffer, size_t length, GError **error)
{
    const uint8_t *at = buffer;

    while (length > 0) {
        ssize_t n = write(fd, at, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kvss_throw_errno(error, errno, "write");
        at += n;
        length -= (size_t) n;
    }
    return true;
}

bool
kvss_fsync(int fd, const char *path, GError **error)
{
    if (fsync(fd) == 0)
        return true;
    return kvss_throw_errno(error, errno, "sync %s", path);
}

bool
kvss_fsync_folder(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "open folder %s", path);
    return kvss_fsync(fd, path, error);
}

bool
kvss_make_folders(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int rc = mkdir(path, mode);

    if (rc < 0 && errno == ENOENT && strcmp(parent, path) != 0) {
        if (!kvss_make_folders(parent, mode, error))
            return false;
        rc = mkdir(path, mode);
    }
    if (rc == 0)
        return kvss_fsync_folder(parent, error);
    return (errno == EEXIST && g_file_test(path, G_FILE_TEST_IS_DIR))
        || kvss_throw_errno(error, errno, "make folder %s", path);
}

bool
kvss_fd_is_at(int fd, const char *path)
{
    struct stat open_one, named;

    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0
           && open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}
