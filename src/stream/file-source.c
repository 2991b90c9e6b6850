/*
 * file-source.c - a local file or block device as a source
 */
#include "base/fd.h"
#include "stream/source.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

typedef struct {
    KvssSource source;
    char *path;
    int fd;
} FileSource;

/*
 * Where the file system cannot tell holes, SEEK_HOLE answers the end of file or
 * EINVAL: all is data then, which is always true.
 */
static bool
file_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
             GError **error)
{
    FileSource *self = (FileSource *) source;
    KvssExtent extent = { offset, length, false };
    off_t data = lseek(self->fd, (off_t) offset, SEEK_DATA);

    if (data < 0 && errno == ENXIO) {
        extent.zero = true;
    } else if (data > (off_t) offset) {
        extent.zero = true;
        extent.length = MIN(length, (uint64_t) data - offset);
    } else if (data == (off_t) offset) {
        off_t hole = lseek(self->fd, (off_t) offset, SEEK_HOLE);

        if (hole > (off_t) offset)
            extent.length = MIN(length, (uint64_t) hole - offset);
    }
    g_array_append_val(out_extents, extent);
    return true;
}

static bool
file_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    FileSource *self = (FileSource *) source;

    if (kvss_pread_exact(self->fd, buffer, length, offset, error))
        return true;
    g_prefix_error(error, "%s: ", self->path);
    return false;
}

static void
file_free(KvssSource *source)
{
    FileSource *self = (FileSource *) source;

    kvss_fd_clear(&self->fd);
    g_free(self->path);
    g_free(self);
}

static const KvssSourceOps file_ops = {
    .extents = file_extents,
    .read = file_read,
    .free = file_free,
};

KvssSource *
kvss_source_new_fd(int fd, const char *path, GError **error)
{
    off_t size = lseek(fd, 0, SEEK_END); /* also right for block devices */
    FileSource *self;

    if (size < 0) {
        kvss_throw_errno(error, errno, "size of %s", path);
        kvss_fd_clear(&fd);
        return NULL;
    }
    self = g_new0(FileSource, 1);
    self->source.ops = &file_ops;
    self->source.size = (uint64_t) size;
    /* The shared file position that SEEK_DATA moves is never used for reading. */
    self->source.is_parallel = true;
    self->path = g_strdup(path);
    self->fd = fd;
    return &self->source;
}

KvssSource *
kvss_source_new_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open %s", path);
        return NULL;
    }
    return kvss_source_new_fd(fd, path, error);
}
