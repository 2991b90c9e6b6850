/*
 * append.c - a new file that is written once from its beginning to its end
 */
#include "base/fd.h"
#include "repository/backend/append.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A disk that turns is at its full speed with that; each file being written holds as much. */
#define PIECE_LENGTH (1u << 20)

void
kvss_append_begin(KvssAppend *append, int fd)
{
    *append = (KvssAppend) { .fd = fd };
    if (kvss_fd_enter_direct(fd))
        append->buffer = g_aligned_alloc(1, PIECE_LENGTH, KVSS_DIRECT_ALIGNMENT);
}

/* What is held from @from on, and all that comes later, through the page cache. */
static bool
go_on_cached(KvssAppend *append, size_t from, GError **error)
{
    bool ok;

    kvss_fd_leave_direct(append->fd);
    ok = kvss_write_exact(append->fd, append->buffer + from, append->held - from, error);
    kvss_append_clear(append);
    return ok;
}

/* A whole piece. One that is refused for how it lies, or cut short, ends this way for the file. */
static bool
write_piece(KvssAppend *append, GError **error)
{
    ssize_t n;

    do
        n = write(append->fd, append->buffer, append->held);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EINVAL)
        return kvss_throw_errno(error, errno, "write");
    if (n != (ssize_t) append->held)
        return go_on_cached(append, n < 0 ? 0 : (size_t) n, error);
    append->held = 0;
    return true;
}

bool
kvss_append_write(KvssAppend *append, const void *data, size_t length, GError **error)
{
    const uint8_t *at = data;

    while (append->buffer && length > 0) {
        size_t part = MIN(length, PIECE_LENGTH - append->held);

        memcpy(append->buffer + append->held, at, part);
        append->held += part;
        at += part;
        length -= part;
        if (append->held == PIECE_LENGTH && !write_piece(append, error))
            return false;
    }
    return length == 0 || kvss_write_exact(append->fd, at, length, error);
}

bool
kvss_append_end(KvssAppend *append, GError **error)
{
    return !append->buffer || go_on_cached(append, 0, error);
}

void
kvss_append_clear(KvssAppend *append)
{
    g_clear_pointer(&append->buffer, g_aligned_free);
    append->held = 0;
}
