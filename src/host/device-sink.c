/*
 * device-sink.c - a block device of the host, or its first part, as a sink
 */
#include "host/device-sink.h"
#include "base/fd.h"
#include "host/error.h"
#include "stream/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

KvssSink *
kvss_device_sink_new(const char *path, uint64_t size, GError **error)
{
    kvss_autofd int fd = open(path, O_WRONLY | O_EXCL | O_CLOEXEC);
    struct stat st;
    off_t room;

    if (fd < 0 || fstat(fd, &st) < 0 || (room = lseek(fd, 0, SEEK_END)) < 0) {
        kvss_throw_errno(error, errno, "open block device %s", path);
        return NULL;
    }
    if (!S_ISBLK(st.st_mode) || (uint64_t) room < size) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "%s is no block device of %" G_GUINT64_FORMAT " bytes", path, size);
        return NULL;
    }
    return kvss_sink_new_fd(kvss_fd_steal(&fd), path, size, false);
}
