/*
 * carried.c - one file of the host that is carried in a set, while it is read
 */
#include "backup/carried.h"
#include "base/beneath.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SMALL (1024u * 1024)

struct KvssCarried {
    const KvssFile *file;
    KvssSource *source;
    int fd;
};

static gint64
nanoseconds(const struct timespec *time)
{
    return (gint64) time->tv_sec * 1000000000 + time->tv_nsec;
}

/* The time of the last change of status as well: a tool may write in place and put the other time back. */
static bool
is_as_found(const KvssFile *file, const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_dev == file->device && st->st_ino == file->inode
           && (uint64_t) st->st_size == file->size && nanoseconds(&st->st_mtim) == file->mtime_ns
           && nanoseconds(&st->st_ctim) == file->ctime_ns;
}

static bool
throw_changed(const KvssFile *file, GError **error)
{
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "%s changed while it was read, though nothing should change it", file->path);
}

bool
kvss_carried_check(const KvssCarried *carried, GError **error)
{
    struct stat st;

    if (!carried->file->is_identified)
        return true;
    if (fstat(carried->fd, &st) < 0)
        return kvss_throw_errno(error, errno, "look at %s", carried->file->path);
    return is_as_found(carried->file, &st) || throw_changed(carried->file, error);
}

/* The folder may be somebody else's: no link is followed, and a pipe put there is not waited for. */
static bool
open_identified(KvssCarried *carried, GError **error)
{
    int fd;

    carried->fd = kvss_open_real(carried->file->path, O_RDONLY | O_NONBLOCK, error);
    if (carried->fd < 0 || !kvss_carried_check(carried, error))
        return false;
    fd = fcntl(carried->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return kvss_throw_errno(error, errno, "open %s", carried->file->path);
    carried->source = kvss_source_new_fd(fd, carried->file->path, error);
    return carried->source != NULL;
}

KvssCarried *
kvss_carried_open(const KvssFile *file, KvssPace *pace, GError **error)
{
    g_autoptr(KvssCarried) carried = g_new0(KvssCarried, 1);

    carried->file = file;
    carried->fd = -1;
    if (!file->is_identified)
        carried->source = kvss_source_new_file(file->path, error);
    else if (!open_identified(carried, error))
        return NULL;
    carried->source = kvss_paced_source_new(carried->source, pace);
    return carried->source ? g_steal_pointer(&carried) : NULL;
}

void
kvss_carried_free(KvssCarried *carried)
{
    if (!carried)
        return;
    g_clear_pointer(&carried->source, kvss_source_free);
    kvss_fd_clear(&carried->fd);
    g_free(carried);
}

KvssSource *
kvss_carried_source(KvssCarried *carried)
{
    return carried->source;
}

bool
kvss_carried_read_if_small(KvssCarried *carried, GBytes **out_bytes, GError **error)
{
    size_t length = (size_t) carried->source->size;
    char *content;

    *out_bytes = NULL;
    if (carried->source->size > SMALL)
        return true;
    content = g_malloc(length + 1);
    *out_bytes = g_bytes_new_take(content, length);
    if (length == 0 || kvss_source_read(carried->source, 0, content, length, error))
        return true;
    g_clear_pointer(out_bytes, g_bytes_unref);
    return false;
}
