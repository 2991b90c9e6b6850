/*
 * fail-io.c - one call of a program fails, as on a disk that is broken
 *
 * Preloaded: LD_PRELOAD=fail-io.so KVSS_TEST_FAIL_IO=PROGRAM:CALL:NUMBER:ERRNO, for example
 * "qemu-nbd:pwrite:3:5": in each process of that name the third call of that kind (from 0)
 * fails with EIO. CALL is write, pwrite, fsync or rename, each with its variants; files of
 * /proc, /dev, sockets and pipes do not count. Says so on standard error.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int count;

static int
fails(const char *call)
{
    const char *wish = getenv("KVSS_TEST_FAIL_IO");
    char program[32], kind[16];
    int number, code;

    if (!wish || sscanf(wish, "%31[^:]:%15[^:]:%d:%d", program, kind, &number, &code) != 4
        || strcmp(program, program_invocation_short_name) != 0 || strcmp(kind, call) != 0
        || atomic_fetch_add(&count, 1) != number)
        return 0;
    dprintf(2, "test: %s %d of %s fails\n", call, number, program);
    errno = code;
    return 1;
}

static int
fails_on(const char *call, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && fd > 2
        && fails(call);
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

#define ON_FD(result, name, call, parameters, arguments) \
    result name parameters; \
    result name parameters { return fails_on(call, fd) ? -1 : NEXT(name) arguments; }

#define ON_PATH(name, parameters, arguments) \
    int name parameters; \
    int name parameters { return fails("rename") ? -1 : NEXT(name) arguments; }

ON_FD(ssize_t, write, "write", (int fd, const void *data, size_t n), (fd, data, n))
ON_FD(ssize_t, pwrite, "pwrite", (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
ON_FD(ssize_t, pwrite64, "pwrite", (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FD(ssize_t, pwritev, "pwrite", (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
ON_FD(ssize_t, pwritev64, "pwrite", (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at))
ON_FD(int, fsync, "fsync", (int fd), (fd))
ON_FD(int, fdatasync, "fsync", (int fd), (fd))
ON_PATH(rename, (const char *from, const char *to), (from, to))
ON_PATH(renameat2, (int fd, const char *from, int fd2, const char *to, unsigned flags), (fd, from, fd2, to, flags))
