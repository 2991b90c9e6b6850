/*
 * fault-io.c - a disk that cannot be read in places, and a process that dies at a certain step
 *
 * Preloaded. KVSS_TEST_FAIL_READ=PART: reading a file whose path has PART in it is EIO.
 * KVSS_TEST_KILL_AT=N: before the N-th (from 0) rename, unlink or fsync in this process it is
 * killed. KVSS_TEST_COUNT=FILE: writes there how many of those there were.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int steps;

static int
is_unreadable(int fd)
{
    const char *part = getenv("KVSS_TEST_FAIL_READ");
    char link[64], path[4096];
    ssize_t n;

    if (!part || fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return 0;
    path[n] = '\0';
    return strstr(path, part) != NULL;
}

static void
step(void)
{
    const char *at = getenv("KVSS_TEST_KILL_AT"), *count = getenv("KVSS_TEST_COUNT");
    int n = atomic_fetch_add(&steps, 1);

    if (at && n == atoi(at))
        kill(getpid(), SIGKILL);
    if (count) {
        FILE *file = fopen(count, "w");

        if (file) {
            fprintf(file, "%d\n", n + 1);
            fclose(file);
        }
    }
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

#define READS(name, parameters, arguments) \
    ssize_t name parameters; \
    ssize_t name parameters \
    { \
        if (is_unreadable(fd)) { \
            errno = EIO; \
            return -1; \
        } \
        return NEXT(name) arguments; \
    }

#define STEPS(name, parameters, arguments) \
    int name parameters; \
    int name parameters \
    { \
        step(); \
        return NEXT(name) arguments; \
    }

READS(read, (int fd, void *data, size_t n), (fd, data, n))
READS(pread, (int fd, void *data, size_t n, off_t at), (fd, data, n, at))
READS(pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at))
STEPS(renameat, (int old_folder, const char *old, int folder, const char *name),
      (old_folder, old, folder, name))
STEPS(unlinkat, (int folder, const char *name, int flags), (folder, name, flags))
STEPS(fsync, (int fd), (fd))
