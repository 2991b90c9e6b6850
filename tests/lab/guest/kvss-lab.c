/*
 * kvss-lab.c - what runs inside a lab guest
 *
 *   kvss-lab seq MS FILE...  writes one increasing number to every file in turn and keeps it in RAM; rests MS between two
 *   kvss-lab shell PORT      runs the commands that arrive on a virtio port
 *   kvss-lab power           powers off cleanly when the power button is pressed
 *   kvss-lab nfs PORT DIR    mounts 10.0.2.2:/lab there, NFS version 3
 *   kvss-lab dm DEV...       one volume over these disks, each after the other, as LVM makes it: /dev/dm-0
 *   kvss-lab md DEV...       one volume over these disks, in stripes of 64 KiB, as RAID 0 makes it: /dev/md0
 *
 * The two volumes have no labels of their own on the disks, so that a test can lay out their content outside the guest.
 *
 * The sequence writer's numbers make a point in time checkable. With files a, b, c written in this order, at any instant
 * a >= b >= c >= a - 1. Before it overwrites a file it reads it back past the page cache: if the disk does not hold the
 * numbers that RAM remembers, RAM and disk are of different instants, and it says so on the console ("MISMATCH").
 * In between it makes and removes small files, so that the journal is never idle and a cut without a freeze shows.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <linux/raid/md_p.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define MAX_FILES 16
#define MAX_LINE (256 * 1024)
#define MAX_OUTPUT (1024 * 1024)

static long long
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* One write per line, so that lines of several processes do not mix. */
static void
say(const char *format, ...)
{
    static int console = -1;
    char line[256];
    va_list args;
    int n;

    if (console < 0)
        console = open("/dev/console", O_WRONLY | O_NOCTTY);
    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (write(console, line, n) != n)
        return;
}

static void
churn(const char *file, unsigned long long n)
{
    char path[512];
    int fd;

    snprintf(path, sizeof path, "%.*s/churn-%llu", (int)(strrchr(file, '/') - file), file, n % 8);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return;
    if (write(fd, path, strlen(path)) < 0)
        say("CHURN %s: %s\n", path, strerror(errno));
    close(fd);
    if (n % 3 == 0)
        unlink(path);
}

struct seq_file {
    const char *path;
    int fd;
    unsigned long long slot[2];     /* what the two blocks of the file hold: the last number and the one before */
};

/* The two numbers of a file, read past the page cache. */
static bool
seq_read(struct seq_file *file, char *buffer, unsigned long long slot[2])
{
    if (pread(file->fd, buffer, 2 * BLOCK, 0) != 2 * BLOCK)
        return false;
    slot[0] = strtoull(buffer, NULL, 10);
    slot[1] = strtoull(buffer + BLOCK, NULL, 10);
    return true;
}

/*
 * Numbers go to the two blocks in turn. So even when RAM and disk are torn apart while a write is under way, the block that
 * it does not touch tells.
 */
static void
seq_step(struct seq_file *file, char *buffer, unsigned long long n)
{
    unsigned long long slot[2];

    if (!seq_read(file, buffer, slot))
        say("SEQ read %s: %s\n", file->path, strerror(errno));
    else if (slot[0] != file->slot[0] || slot[1] != file->slot[1])
        say("MISMATCH %s ram %llu %llu disk %llu %llu\n", file->path, file->slot[0], file->slot[1], slot[0], slot[1]);
    memset(buffer, 0, BLOCK);
    snprintf(buffer, BLOCK, "%llu\n", n);
    if (pwrite(file->fd, buffer, BLOCK, n % 2 * BLOCK) != BLOCK)
        say("SEQ write %s: %s\n", file->path, strerror(errno));
    file->slot[n % 2] = n;
}

static int
run_seq(unsigned pause_ms, int n_files, char **paths)
{
    struct seq_file files[MAX_FILES];
    unsigned long long n = 0;
    char *buffer, *shared;
    long long said_ms = 0, turn_ms;
    int status_fd;

    prctl(PR_SET_NAME, "kvss-lab-seq");
    mlockall(MCL_CURRENT | MCL_FUTURE);
    if (n_files > MAX_FILES || posix_memalign((void **)&buffer, BLOCK, 2 * BLOCK) != 0)
        return 1;

    status_fd = open("/run/seq", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (status_fd < 0 || ftruncate(status_fd, 32) != 0)
        return 1;
    shared = mmap(NULL, 32, PROT_READ | PROT_WRITE, MAP_SHARED, status_fd, 0);

    for (int i = 0; i < n_files; i++) {
        struct seq_file *file = &files[i];

        file->path = paths[i];
        file->fd = open(paths[i], O_RDWR | O_DIRECT | O_DSYNC);
        if (file->fd < 0 || !seq_read(file, buffer, file->slot)) {
            say("SEQ cannot use %s: %s\n", paths[i], strerror(errno));
            return 1;
        }
        for (int j = 0; j < 2; j++)
            if (file->slot[j] > n)
                n = file->slot[j];
    }
    turn_ms = now_ms();
    for (;;) {
        long long t;

        n++;
        for (int i = 0; i < n_files; i++) {
            seq_step(&files[i], buffer, n);
            if (n % 16 == (unsigned)i)
                churn(files[i].path, n);
        }
        snprintf(shared, 32, "%llu\n", n);
        t = now_ms();
        if (t - turn_ms > 250)
            say("GAP %lld %llu\n", t - turn_ms, n);
        turn_ms = t;
        if (t - said_ms > 500) {
            say("SEQ %llu\n", n);
            said_ms = t;
        }
        usleep(pause_ms * 1000);
    }
}

/* --- shell: a line in, "ID SECONDS BASE64"; a line out, "ID RC BASE64" ------------------------------------------------ */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t
base64_decode(const char *in, char *out)
{
    unsigned value = 0, bits = 0;
    size_t length = 0;

    for (; *in && *in != '='; in++) {
        const char *p = strchr(alphabet, *in);
        if (!p)
            break;
        value = value << 6 | (unsigned)(p - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[length++] = (char)(value >> bits);
        }
    }
    out[length] = 0;
    return length;
}

static size_t
base64_encode(const unsigned char *in, size_t length, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i += 3) {
        unsigned v = in[i] << 16 | (i + 1 < length ? in[i + 1] << 8 : 0) | (i + 2 < length ? in[i + 2] : 0);
        out[n++] = alphabet[v >> 18];
        out[n++] = alphabet[v >> 12 & 63];
        out[n++] = i + 1 < length ? alphabet[v >> 6 & 63] : '=';
        out[n++] = i + 2 < length ? alphabet[v & 63] : '=';
    }
    return n;
}

static void
write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0) {
            if (errno != EINTR && errno != EAGAIN)
                return;
            usleep(20000);
            continue;
        }
        data += n;
        length -= n;
    }
}

/* Runs one command; a command that outlives its time is left alone (it may hang on a frozen file system) and counts as 124. */
static int
run_command(const char *command, int seconds, unsigned char *output, size_t *out_length)
{
    long long end_ms = now_ms() + seconds * 1000LL;
    int pipe_fd[2], status = 0;
    size_t length = 0;
    pid_t pid;

    if (pipe2(pipe_fd, O_CLOEXEC) != 0)
        return 126;
    pid = fork();
    if (pid == 0) {
        setsid();
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(pipe_fd[1], 1);
        dup2(pipe_fd[1], 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(126);
    }
    close(pipe_fd[1]);
    for (;;) {
        struct pollfd p = { .fd = pipe_fd[0], .events = POLLIN };
        long long left = end_ms - now_ms();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
            close(pipe_fd[0]);
            *out_length = length;
            return 124;
        }
        n = read(pipe_fd[0], output + length, MAX_OUTPUT - length);
        if (n <= 0)
            break;
        length += n;
    }
    close(pipe_fd[0]);
    *out_length = length;
    if (waitpid(pid, &status, 0) != pid)
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void
serve_line(int fd, char *line)
{
    static unsigned char output[MAX_OUTPUT];
    static char reply[MAX_OUTPUT / 3 * 4 + 64];
    static char command[MAX_LINE], encoded[MAX_LINE];
    unsigned id;
    int seconds, rc;
    size_t length = 0, n;

    if (sscanf(line, "%u %d %s", &id, &seconds, encoded) != 3)
        return;
    base64_decode(encoded, command);
    rc = run_command(command, seconds, output, &length);
    n = snprintf(reply, 64, "%u %d ", id, rc);
    n += base64_encode(output, length, reply + n);
    reply[n++] = '\n';
    write_all(fd, reply, n);
}

static int
run_shell(const char *port)
{
    static char line[MAX_LINE];
    size_t used = 0;
    int fd = open(port, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return 1;
    for (;;) {
        ssize_t n = read(fd, line + used, sizeof line - 1 - used);
        char *end;

        if (n <= 0) {        /* nobody is connected on the host's side */
            used = 0;
            usleep(30000);
            continue;
        }
        used += n;
        line[used] = 0;
        while ((end = strchr(line, '\n'))) {
            *end = 0;
            serve_line(fd, line);
            used -= end + 1 - line;
            memmove(line, end + 1, used + 1);
        }
        if (used >= sizeof line - 1)
            used = 0;
    }
}

static int
run_power(void)
{
    struct pollfd p[8];
    int n = 0;

    for (int i = 0; i < 8; i++) {
        char path[32];

        snprintf(path, sizeof path, "/dev/input/event%d", i);
        p[n].fd = open(path, O_RDONLY);
        p[n].events = POLLIN;
        if (p[n].fd >= 0)
            n++;
    }
    if (n == 0)
        return 0;
    while (poll(p, n, -1) > 0)
        for (int i = 0; i < n; i++) {
            struct input_event e;

            if (p[i].revents && read(p[i].fd, &e, sizeof e) == sizeof e && e.type == EV_KEY &&
                e.code == KEY_POWER && e.value == 1)
                execl("/sbin/shutdown", "shutdown", (char *)NULL);
        }
    return 0;
}

static int
run_nfs(const char *port, const char *dir)
{
    char options[256];

    snprintf(options, sizeof options, "vers=3,nolock,soft,timeo=50,retrans=2,proto=tcp,mountproto=tcp,mountvers=3,"
             "addr=10.0.2.2,port=%s,mountport=%s", port, port);
    if (mount("10.0.2.2:/lab", dir, "nfs", 0, options) != 0) {
        say("nfs: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}

/* --- volumes over several disks --------------------------------------------------------------------------------------- */

#define STRIPE (64 * 1024)
#define MAX_PARTS 8

struct part {
    dev_t device;
    unsigned long long bytes;
};

/* Disks behind a bus turn up some time after their driver was loaded. */
static int
open_disk(const char *name)
{
    char path[64];
    int fd = -1;

    snprintf(path, sizeof path, "/dev/%s", name);
    for (int i = 0; i < 100 && fd < 0; i++) {
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            usleep(50000);
    }
    return fd;
}

static bool
part_look(const char *name, struct part *part)
{
    struct stat st;
    int fd = open_disk(name);
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && ioctl(fd, BLKGETSIZE64, &part->bytes) == 0;

    if (!ok)
        say("volume: %s: %s\n", name, strerror(errno));
    else
        part->device = st.st_rdev;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool
dm_call(int fd, unsigned long request, struct dm_ioctl *io, size_t length)
{
    io->version[0] = DM_VERSION_MAJOR;
    io->data_size = length;
    io->data_start = sizeof *io;
    snprintf(io->name, sizeof io->name, "volume");
    if (ioctl(fd, request, io) == 0)
        return true;
    say("volume: device-mapper: %s\n", strerror(errno));
    return false;
}

static int
run_dm(const struct part *parts, int n)
{
    static struct {
        struct dm_ioctl io;
        struct {
            struct dm_target_spec spec;
            char table[32];
        } target[MAX_PARTS];
    } request, plain;
    int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    unsigned long long start = 0;

    request.io.target_count = n;
    for (int i = 0; i < n; i++) {
        struct dm_target_spec *spec = &request.target[i].spec;

        spec->sector_start = start;
        spec->length = parts[i].bytes / 512;
        spec->next = sizeof request.target[i];
        strcpy(spec->target_type, "linear");
        snprintf(request.target[i].table, sizeof request.target[i].table, "%u:%u 0", major(parts[i].device),
                 minor(parts[i].device));
        start += spec->length;
    }
    if (!dm_call(fd, DM_DEV_CREATE, &plain.io, sizeof plain.io) || !dm_call(fd, DM_TABLE_LOAD, &request.io, sizeof request))
        return 1;
    memset(&plain, 0, sizeof plain);
    return dm_call(fd, DM_DEV_SUSPEND, &plain.io, sizeof plain.io) ? 0 : 1;     /* without its flag: begin */
}

static int
run_md(const struct part *parts, int n)
{
    mdu_array_info_t array = { .major_version = 0, .minor_version = 90, .level = 0, .raid_disks = n, .nr_disks = n,
                               .active_disks = n, .working_disks = n, .not_persistent = 1, .chunk_size = STRIPE };
    int fd;

    if (mknod("/dev/md0", S_IFBLK | 0600, makedev(MD_MAJOR, 0)) != 0 && errno != EEXIST)
        return 1;
    fd = open("/dev/md0", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, SET_ARRAY_INFO, &array) != 0) {
        say("volume: md: %s\n", strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        mdu_disk_info_t disk = { .number = i, .raid_disk = i, .major = (int)major(parts[i].device),
                                 .minor = (int)minor(parts[i].device),
                                 .state = 1 << MD_DISK_ACTIVE | 1 << MD_DISK_SYNC };

        if (ioctl(fd, ADD_NEW_DISK, &disk) != 0) {
            say("volume: md, disk %d: %s\n", i, strerror(errno));
            return 1;
        }
    }
    if (ioctl(fd, RUN_ARRAY, NULL) != 0) {
        say("volume: md: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}

static int
run_volume(const char *kind, int n, char **names)
{
    struct part parts[MAX_PARTS];

    if (n > MAX_PARTS)
        return 2;
    for (int i = 0; i < n; i++)
        if (!part_look(names[i], &parts[i]))
            return 1;
    return strcmp(kind, "dm") == 0 ? run_dm(parts, n) : run_md(parts, n);
}

int
main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "seq") == 0)
        return run_seq(strtoul(argv[2], NULL, 10), argc - 3, argv + 3);
    if (argc > 3 && (strcmp(argv[1], "dm") == 0 || strcmp(argv[1], "md") == 0))
        return run_volume(argv[1], argc - 2, argv + 2);
    if (argc == 3 && strcmp(argv[1], "shell") == 0)
        return run_shell(argv[2]);
    if (argc == 2 && strcmp(argv[1], "power") == 0)
        return run_power();
    if (argc == 4 && strcmp(argv[1], "nfs") == 0)
        return run_nfs(argv[2], argv[3]);
    return 2;
}
