/*
 * record-io.c - what a program changes below a folder, call by call, as the kernel saw it
 *
 * Preloaded: LD_PRELOAD=record-io.so KVSS_TEST_RECORD=LOG KVSS_TEST_RECORD_ROOT=FOLDER. Every
 * call that changes something below FOLDER and succeeds is appended to LOG, in the one order that
 * all threads and all recorded processes agree on: a call and its record are made under a lock.
 * A record is a line of fields with tabs between; paths are absolute.
 *
 *   create PATH          mkdir PATH        unlink PATH       rmdir PATH
 *   write PATH OFFSET LENGTH, and then as many bytes
 *   truncate PATH LENGTH
 *   rename FROM TO       link FROM TO
 *   sync PATH            a file or folder; "failed-sync" when it was told to fail
 *   say 1 LENGTH         and then the bytes that went to standard output
 *
 * KVSS_TEST_RECORD_FAIL=N: the N-th fsync below FOLDER in a process (from 0) fails with EIO, and
 * as a kernel does it, no later one of that file or folder tells again.
 * KVSS_TEST_RECORD_STALL=NAME:MS[:N]: each fsync (or only the N-th, from 0) of what is called NAME
 * (a path's end) waits so long, or until there is a file LOG.go, with the lock open: others see what
 * is not durable yet. Then the file LOG.stalled is there.
 *
 * What is not wrapped here (mappings, copy_file_range, ...) is missing in the log: whoever uses it
 * compares the end of the replay with the folder.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static pid_t log_pid;
static int n_syncs, n_stalls;
static const char *root;

/* flock() belongs to the open file: a forked child opens its own. */
static bool
log_open(void)
{
    const char *path = getenv("KVSS_TEST_RECORD");

    root = getenv("KVSS_TEST_RECORD_ROOT");
    if (!path || !root)
        return false;
    if (log_fd < 0 || log_pid != getpid()) {
        log_fd = (int) syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                               0600);
        log_pid = getpid();
    }
    return log_fd >= 0;
}

static bool
enter(void)
{
    int saved = errno;
    bool ok;

    pthread_mutex_lock(&mutex);
    ok = log_open();
    while (ok && flock(log_fd, LOCK_EX) < 0 && errno == EINTR)
        ;
    errno = saved;
    return ok;
}

static void
leave(void)
{
    int saved = errno;

    if (log_fd >= 0)
        flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = saved;
}

static void
log_bytes(const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = syscall(SYS_write, log_fd, (const char *) data + done, length - done);

        if (n < 0)
            abort();
        done += (size_t) n;
    }
}

__attribute__((format(printf, 1, 2))) static void
log_line(const char *format, ...)
{
    char line[3 * PATH_MAX];
    va_list args;
    int saved = errno, length;

    va_start(args, format);
    length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log_bytes(line, (size_t) length);
    errno = saved;
}

static bool
is_below(const char *path)
{
    size_t length = root ? strlen(root) : 0;

    return length && strncmp(path, root, length) == 0 && (path[length] == '/' || !path[length]);
}

/* Where an open file is now; false when it is not below the folder, or has no name any more. */
static bool
path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    ssize_t length;
    int saved = errno;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (length <= 0)
        return false;
    path[length] = '\0';
    return is_below(path) && (length < 10 || strcmp(path + length - 10, " (deleted)") != 0);
}

static bool
path_at(int folder, const char *name, char path[PATH_MAX])
{
    char base[PATH_MAX];

    if (name[0] == '/')
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && is_below(path);
    if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(folder, base))
        return false;
    return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX && is_below(path);
}

/* ---- opening ---- */

static int
opened(int folder, const char *name, int flags, bool was_there, int fd)
{
    char path[PATH_MAX];

    if (fd < 0 || !path_at(folder, name, path))
        return fd;
    if ((flags & O_CREAT) && !was_there)
        log_line("create\t%s\n", path);
    else if (flags & O_TRUNC)
        log_line("truncate\t%s\t0\n", path);
    return fd;
}

static int
record_open(int folder, const char *name, int flags, mode_t mode)
{
    struct stat st;
    bool was_there;
    int fd;

    if (!(flags & (O_CREAT | O_TRUNC)) || !enter()) {
        if (flags & (O_CREAT | O_TRUNC))
            leave();
        return NEXT(openat)(folder, name, flags, mode);
    }
    was_there = fstatat(folder, name, &st, 0) == 0;
    fd = opened(folder, name, flags, was_there, NEXT(openat)(folder, name, flags, mode));
    leave();
    return fd;
}

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { \
        va_list args; \
        va_start(args, flags); \
        mode = (mode_t) va_arg(args, int); \
        va_end(args); \
    }

int
open(const char *name, int flags, ...)
{
    MODE_OF(flags, mode)
    return record_open(AT_FDCWD, name, flags, mode);
}

int
open64(const char *name, int flags, ...)
{
    MODE_OF(flags, mode)
    return record_open(AT_FDCWD, name, flags, mode);
}

int
openat(int folder, const char *name, int flags, ...)
{
    MODE_OF(flags, mode)
    return record_open(folder, name, flags, mode);
}

int
openat64(int folder, const char *name, int flags, ...)
{
    MODE_OF(flags, mode)
    return record_open(folder, name, flags, mode);
}

int
creat(const char *name, mode_t mode)
{
    return record_open(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int
creat64(const char *name, mode_t mode)
{
    return record_open(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

/* ---- data ---- */

static void
wrote(int fd, const void *data, ssize_t done, off_t at)
{
    char path[PATH_MAX];

    if (done <= 0)
        return;
    if (fd == STDOUT_FILENO)
        log_line("say\t1\t%zd\n", done);
    else if (path_of(fd, path))
        log_line("write\t%s\t%lld\t%zd\n", path, (long long) at, done);
    else
        return;
    log_bytes(data, (size_t) done);
}

ssize_t
write(int fd, const void *data, size_t length)
{
    struct stat st;
    ssize_t done;
    off_t at;

    if (!enter()) {
        leave();
        return NEXT(write)(fd, data, length);
    }
    at = lseek(fd, 0, SEEK_CUR);
    if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &st) == 0)
        at = st.st_size;
    done = NEXT(write)(fd, data, length);
    wrote(fd, data, done, at);
    leave();
    return done;
}

static ssize_t
record_pwrite(int fd, const void *data, size_t length, off_t at)
{
    ssize_t done;
    bool on = enter();

    done = NEXT(pwrite)(fd, data, length, at);
    if (on)
        wrote(fd, data, done, at);
    leave();
    return done;
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t at)
{
    return record_pwrite(fd, data, length, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    return record_pwrite(fd, data, length, at);
}

static int
record_truncate(int fd, off_t length)
{
    char path[PATH_MAX];
    bool on = enter();
    int rc = NEXT(ftruncate)(fd, length);

    if (on && rc == 0 && path_of(fd, path))
        log_line("truncate\t%s\t%lld\n", path, (long long) length);
    leave();
    return rc;
}

int
ftruncate(int fd, off_t length)
{
    return record_truncate(fd, length);
}

int
ftruncate64(int fd, off64_t length)
{
    return record_truncate(fd, length);
}

/* ---- fsync ---- */

static bool
ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), end_length = strlen(end);

    return length >= end_length && strcmp(path + length - end_length, end) == 0;
}

static void
tell_stall(void)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s.stalled", getenv("KVSS_TEST_RECORD"));
    fd = (int) syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        syscall(SYS_close, fd);
}

static void
wait_for_go(long ms)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s.go", getenv("KVSS_TEST_RECORD"));
    for (; ms > 0 && access(path, F_OK) != 0; ms -= 20)
        nanosleep(&(struct timespec) { 0, (ms < 20 ? ms : 20) * 1000000 }, NULL);
}

static void
stall(const char *path)
{
    const char *wish = getenv("KVSS_TEST_RECORD_STALL");
    char name[PATH_MAX];
    int fields, only = -1, number;
    long ms;

    fields = wish ? sscanf(wish, "%4095[^:]:%ld:%d", name, &ms, &only) : 0;
    if (fields < 2 || !ends_with(path, name))
        return;
    pthread_mutex_lock(&mutex);
    number = n_stalls++;
    pthread_mutex_unlock(&mutex);
    if (fields == 3 && number != only)
        return;
    tell_stall();
    wait_for_go(ms);
}

static bool
is_to_fail(void)
{
    const char *wish = getenv("KVSS_TEST_RECORD_FAIL");

    return wish && n_syncs++ == atoi(wish);
}

static int
record_sync(int fd, int (*next)(int))
{
    char path[PATH_MAX];
    int rc = 0;

    if (!log_open() || !path_of(fd, path))
        return next(fd);
    stall(path);
    enter();
    if (!path_of(fd, path)) {
        leave();
        return next(fd);
    }
    if (is_to_fail()) {
        log_line("failed-sync\t%s\n", path);
        errno = EIO;
        rc = -1;
    } else if ((rc = next(fd)) == 0) {
        log_line("sync\t%s\n", path);
    }
    leave();
    return rc;
}

int
fsync(int fd)
{
    return record_sync(fd, NEXT(fsync));
}

int
fdatasync(int fd)
{
    return record_sync(fd, NEXT(fdatasync));
}

/* ---- names ---- */

static int
moved(const char *what, int folder, const char *from, int folder2, const char *to, int rc)
{
    char path[PATH_MAX], path2[PATH_MAX];

    if (rc == 0 && path_at(folder, from, path) && path_at(folder2, to, path2))
        log_line("%s\t%s\t%s\n", what, path, path2);
    return rc;
}

static int
changed(const char *what, int folder, const char *name, int rc)
{
    char path[PATH_MAX];

    if (rc == 0 && path_at(folder, name, path))
        log_line("%s\t%s\n", what, path);
    return rc;
}

#define UNDER_LOCK(call, report) \
    bool on = enter(); \
    int rc = call; \
    if (on) \
        rc = report; \
    leave(); \
    return rc;

int
rename(const char *from, const char *to)
{
    UNDER_LOCK(NEXT(rename)(from, to), moved("rename", AT_FDCWD, from, AT_FDCWD, to, rc))
}

int
renameat(int folder, const char *from, int folder2, const char *to)
{
    UNDER_LOCK(NEXT(renameat)(folder, from, folder2, to),
               moved("rename", folder, from, folder2, to, rc))
}

int
renameat2(int folder, const char *from, int folder2, const char *to, unsigned flags)
{
    UNDER_LOCK(NEXT(renameat2)(folder, from, folder2, to, flags),
               moved("rename", folder, from, folder2, to, rc))
}

int
link(const char *from, const char *to)
{
    UNDER_LOCK(NEXT(link)(from, to), moved("link", AT_FDCWD, from, AT_FDCWD, to, rc))
}

int
linkat(int folder, const char *from, int folder2, const char *to, int flags)
{
    UNDER_LOCK(NEXT(linkat)(folder, from, folder2, to, flags),
               moved("link", folder, from, folder2, to, rc))
}

int
unlink(const char *name)
{
    UNDER_LOCK(NEXT(unlink)(name), changed("unlink", AT_FDCWD, name, rc))
}

int
unlinkat(int folder, const char *name, int flags)
{
    UNDER_LOCK(NEXT(unlinkat)(folder, name, flags),
               changed(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, name, rc))
}

int
rmdir(const char *name)
{
    UNDER_LOCK(NEXT(rmdir)(name), changed("rmdir", AT_FDCWD, name, rc))
}

int
mkdir(const char *name, mode_t mode)
{
    UNDER_LOCK(NEXT(mkdir)(name, mode), changed("mkdir", AT_FDCWD, name, rc))
}

int
mkdirat(int folder, const char *name, mode_t mode)
{
    UNDER_LOCK(NEXT(mkdirat)(folder, name, mode), changed("mkdir", folder, name, rc))
}
