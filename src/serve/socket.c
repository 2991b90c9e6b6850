/*
 * socket.c - a Unix socket to listen on, at a place where one may lie already
 */
#include "serve/socket.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64
/* It is held for a moment only. */
#define LOCK_TURNS 500
#define LOCK_TURN_US 10000

struct KvssSocket {
    char *path;
    int fd;
    dev_t device; /* of the name */
    ino_t inode;
};

typedef enum { NOBODY, LISTENED_ON, GONE, FOREIGN } Found;

/* What lies at @path. A listener with a full queue is one, too. */
static Found
look_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    kvss_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? GONE : FOREIGN;
    if (!S_ISSOCK(st.st_mode) || fd < 0)
        return FOREIGN;
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0 || errno == EAGAIN)
        return LISTENED_ON;
    if (errno == ECONNREFUSED)
        return NOBODY;
    return errno == ENOENT ? GONE : FOREIGN;
}

static bool
throw_found(const char *path, Found found, GError **error)
{
    if (found == LISTENED_ON)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s: somebody serves there already: name another socket, or end that one",
                          path);
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                      "%s exists, is no socket of a server that has ended, and is not replaced",
                      path);
}

/* @part, which listens, takes the place of what lies at @path, if that may be. */
static bool
take_place(const char *part, const char *path, GError **error)
{
    Found found;

    if (renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return true;
    /* EINVAL: a file system that cannot do so. */
    if (errno != EEXIST && errno != EINVAL)
        return kvss_throw_errno(error, errno, "name socket %s", path);
    found = look_at(path);
    if (found == LISTENED_ON || found == FOREIGN)
        return throw_found(path, found, error);
    return rename(part, path) == 0 || kvss_throw_errno(error, errno, "name socket %s", path);
}

/*
 * Two who find the same stale socket must not both replace it: the second would take the
 * place of the first. The lock is on the folder, so that no file is left of it.
 */
static bool
lock_folder(int dir, const char *folder, GError **error)
{
    for (int turn = 0; turn < LOCK_TURNS; turn++) {
        if (flock(dir, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return kvss_throw_errno(error, errno, "lock folder %s", folder);
        g_usleep(LOCK_TURN_US);
    }
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                      "folder %s stays locked by somebody else", folder);
}

/* Listens under a name of its own in @folder, which may be longer than an address. */
static bool
listen_beside(int fd, int dir, const char *folder, char **out_part, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *name = g_strdup_printf(".kvss-%08x", g_random_int());

    (void) g_snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dir, name);
    if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0)
        return kvss_throw_errno(error, errno, "make a socket in %s", folder);
    *out_part = g_build_filename(folder, name, NULL);
    /* Nobody can connect before it listens. */
    if (chmod(*out_part, 0600) < 0 || listen(fd, BACKLOG) < 0)
        return kvss_throw_errno(error, errno, "listen on a socket in %s", folder);
    return true;
}

static bool
socket_open(KvssSocket *self, char **out_part, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(self->path);
    kvss_autofd int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (dir < 0)
        return kvss_throw_errno(error, errno, "folder %s, for the socket", folder);
    self->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (self->fd < 0)
        return kvss_throw_errno(error, errno, "socket");
    if (!lock_folder(dir, folder, error)
        || !listen_beside(self->fd, dir, folder, out_part, error))
        return false;
    if (lstat(*out_part, &st) < 0)
        return kvss_throw_errno(error, errno, "%s", *out_part);
    if (!take_place(*out_part, self->path, error))
        return false;
    self->device = st.st_dev;
    self->inode = st.st_ino;
    return true;
}

KvssSocket *
kvss_socket_listen(const char *path, GError **error)
{
    g_autofree char *part = NULL;
    struct sockaddr_un address;
    KvssSocket *self;

    g_assert(g_path_is_absolute(path));
    if (strlen(path) >= sizeof address.sun_path) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "%s: longer than the %zu characters that a socket may have", path,
                   sizeof address.sun_path - 1);
        return NULL;
    }
    self = g_new0(KvssSocket, 1);
    self->path = g_strdup(path);
    if (socket_open(self, &part, error))
        return self;
    if (part)
        (void) unlink(part);
    kvss_socket_free(self);
    return NULL;
}

int
kvss_socket_fd(const KvssSocket *self)
{
    return self->fd;
}

void
kvss_socket_close(KvssSocket *self)
{
    kvss_fd_clear(&self->fd);
}

void
kvss_socket_free(KvssSocket *self)
{
    struct stat st;

    if (!self)
        return;
    if (self->inode != 0 && lstat(self->path, &st) == 0 && st.st_dev == self->device
        && st.st_ino == self->inode)
        (void) unlink(self->path);
    kvss_fd_clear(&self->fd);
    g_free(self->path);
    g_free(self);
}
