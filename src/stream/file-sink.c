/*
 * file-sink.c - an open local file, or block device, as a sink
 *
 * What is written is synced at the end, and read by nobody before: the page cache would
 * only copy it, and threads that write into one file through it wait for each other.
 */
#include "base/fd.h"
#include "stream/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Shorter runs of zeroes inside data are written: a hole each would cut the file to pieces. */
#define BLOCK_LENGTH (64u * 1024)
/* What is there already may begin and end anywhere. */
#define SECTOR_LENGTH 512u
#define ZERO_LENGTH (1024u * 1024)

typedef struct {
    KvssSink sink;
    char *path;
    int fd;
    int direct; /* past the page cache; -1: there is no such way */
} FileSink;

static bool
fits_direct(const FileSink *self, const void *buffer, size_t length, uint64_t offset)
{
    return self->direct >= 0
        && ((uintptr_t) buffer | length | offset) % KVSS_DIRECT_ALIGNMENT == 0;
}

/* What is refused for how it lies, or cut short, goes through the page cache as a whole. */
static bool
write_all(const FileSink *self, const void *buffer, size_t length, uint64_t offset, GError **error)
{
    ssize_t n = fits_direct(self, buffer, length, offset)
                    ? pwrite(self->direct, buffer, length, (off_t) offset) : 0;

    if (n == (ssize_t) length)
        return true;
    if (n < 0 && errno != EINVAL && errno != EINTR)
        return kvss_throw_errno(error, errno, "write at offset %" G_GUINT64_FORMAT, offset);
    return kvss_pwrite_exact(self->fd, buffer, length, offset, error);
}

static bool
file_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    FileSink *self = (FileSink *) sink;

    if (write_all(self, buffer, length, offset, error))
        return true;
    g_prefix_error(error, "%s: ", self->path);
    return false;
}

static bool
write_zeroes(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    g_autofree uint8_t *zeroes = g_malloc0(MIN(length, ZERO_LENGTH));

    while (length > 0) {
        size_t n = MIN(length, ZERO_LENGTH);

        if (!file_write(sink, offset, zeroes, n, error))
            return false;
        offset += n;
        length -= n;
    }
    return true;
}

/* There may be a quicker way; not every device knows one. */
static bool
file_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    FileSink *self = (FileSink *) sink;

    return fallocate(self->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t) offset,
                     (off_t) length) == 0
        || write_zeroes(sink, offset, length, error);
}

/* ---- one that reads as zeroes ---- */

static bool
blank_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    const uint8_t *from = buffer;

    while (length > 0) {
        bool zero;
        size_t n = kvss_sink_run(from, length, BLOCK_LENGTH, &zero);

        if (!zero && !file_write(sink, offset, from, n, error))
            return false;
        from += n;
        offset += n;
        length -= n;
    }
    return true;
}

static bool
blank_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    return true;
}

/* ---- both ---- */

static bool
file_finish(KvssSink *sink, GError **error)
{
    FileSink *self = (FileSink *) sink;

    return kvss_fsync(self->fd, self->path, error);
}

static void
file_free(KvssSink *sink)
{
    FileSink *self = (FileSink *) sink;

    kvss_fd_clear(&self->direct);
    kvss_fd_clear(&self->fd);
    g_free(self->path);
    g_free(self);
}

static const KvssSinkOps file_ops = {
    .write = file_write,
    .zero = file_zero,
    .finish = file_finish,
    .free = file_free,
};

static const KvssSinkOps blank_ops = {
    .write = blank_write,
    .zero = blank_zero,
    .finish = file_finish,
    .free = file_free,
};

KvssSink *
kvss_sink_new_fd(int fd, const char *path, uint64_t size, bool is_blank)
{
    FileSink *self = g_new0(FileSink, 1);

    self->sink.ops = is_blank ? &blank_ops : &file_ops;
    self->sink.size = size;
    self->sink.block = is_blank ? BLOCK_LENGTH : SECTOR_LENGTH;
    self->sink.is_parallel = true;
    self->path = g_strdup(path);
    self->fd = fd;
    self->direct = kvss_fd_open_direct(fd);
    return &self->sink;
}

/* As large as the content, or it would be cut; larger where an image ends on a sector. */
static bool
check_size(int fd, const char *path, uint64_t size, GError **error)
{
    off_t there = lseek(fd, 0, SEEK_END);

    if (there < 0)
        return kvss_throw_errno(error, errno, "size of %s", path);
    return (uint64_t) there >= size
           || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                         "%s has %lld bytes, its content %" G_GUINT64_FORMAT, path,
                         (long long) there, size);
}

KvssSink *
kvss_sink_new_file(const char *path, uint64_t size, GError **error)
{
    kvss_autofd int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open %s", path);
        return NULL;
    }
    if (!check_size(fd, path, size, error))
        return NULL;
    return kvss_sink_new_fd(kvss_fd_steal(&fd), path, size, true);
}
