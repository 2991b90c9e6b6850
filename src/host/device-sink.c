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

#define BLOCK_LENGTH 512u
#define ZERO_LENGTH (1024u * 1024)

typedef struct {
    KvssSink sink;
    char *path;
    int fd;
} DeviceSink;

static bool
device_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    DeviceSink *self = (DeviceSink *) sink;

    if (kvss_pwrite_exact(self->fd, buffer, length, offset, error))
        return true;
    g_prefix_error(error, "block device %s: ", self->path);
    return false;
}

static bool
write_zeroes(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    g_autofree uint8_t *zeroes = g_malloc0(MIN(length, ZERO_LENGTH));

    while (length > 0) {
        size_t n = MIN(length, ZERO_LENGTH);

        if (!device_write(sink, offset, zeroes, n, error))
            return false;
        offset += n;
        length -= n;
    }
    return true;
}

/* The device may know a quicker way; not every one does. */
static bool
device_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    DeviceSink *self = (DeviceSink *) sink;

    return fallocate(self->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                     (off_t) length) == 0
        || write_zeroes(sink, offset, length, error);
}

static bool
device_finish(KvssSink *sink, GError **error)
{
    DeviceSink *self = (DeviceSink *) sink;

    return kvss_fsync(self->fd, self->path, error);
}

static void
device_free(KvssSink *sink)
{
    DeviceSink *self = (DeviceSink *) sink;

    kvss_fd_clear(&self->fd);
    g_free(self->path);
    g_free(self);
}

static const KvssSinkOps device_ops = {
    .write = device_write,
    .zero = device_zero,
    .finish = device_finish,
    .free = device_free,
};

KvssSink *
kvss_device_sink_new(const char *path, uint64_t size, GError **error)
{
    kvss_autofd int fd = open(path, O_WRONLY | O_EXCL | O_CLOEXEC);
    DeviceSink *self;
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
    self = g_new0(DeviceSink, 1);
    self->sink.ops = &device_ops;
    self->sink.size = size;
    self->sink.block = BLOCK_LENGTH;
    self->sink.is_parallel = true;
    self->path = g_strdup(path);
    self->fd = kvss_fd_steal(&fd);
    return &self->sink;
}
