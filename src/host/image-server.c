/*
 * image-server.c - an image served as NBD by qemu-nbd
 *
 *   reader or writer ──▶ socket ◀── hold (a connection of ours that only waits)
 *                          │
 *                       qemu-nbd ── image, locked
 *
 * Without --persistent qemu-nbd ends with its last connection. The hold keeps it
 * alive between readers, and the kernel closes the hold when we die.
 */
#include "base/fd.h"
#include "host/image.h"
#include "host/nbd-client.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PID_FILE_ROOM 65536u /* bytes: less is none, on some file systems */
#define START_LIMIT_MS 60000
#define END_LIMIT_MS 10000
/* On its way out it may have metadata to write; the content was flushed before. */
#define FINISH_LIMIT_MS 120000

struct KvssImageServer {
    char *path, *socket, *export_name;
    char *pid_file;      /* qemu-nbd writes it when it is ready */
    KvssProcess *process;
    KvssNbdClient *hold; /* NULL once finished */
    uint64_t size;
};

static bool
check_options(const KvssImageServerOptions *options, GError **error)
{
    struct sockaddr_un address;
    struct stat st;

    if (!g_path_is_absolute(options->path) || !g_path_is_absolute(options->socket))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "%s, %s: image and socket need absolute paths", options->path,
                          options->socket);
    if (strlen(options->socket) >= sizeof address.sun_path)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "%s: longer than the %zu characters a socket may have",
                          options->socket, sizeof address.sun_path - 1);
    if (lstat(options->socket, &st) == 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY, "%s: exists already",
                          options->socket);
    return true;
}

/*
 * qemu-nbd allocates a buffer for each request and gives it back. By the C library's
 * defaults each of them goes back to the kernel, which clears its pages anew for the
 * next: half of what qemu-nbd costs when a disk is written.
 */
static const KvssProcessVariable keeps_buffers[] = {
    { "MALLOC_MMAP_THRESHOLD_", "33554432" },
    { "MALLOC_TRIM_THRESHOLD_", "268435456" },
    { NULL, NULL },
};

/* qemu-nbd would refuse to start where the file system cannot. */
static bool
can_be_direct(const char *path)
{
    kvss_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    kvss_autofd int direct = fd >= 0 ? kvss_fd_open_direct(fd) : -1;

    return direct >= 0;
}

static KvssProcess *
server_spawn(const KvssImageServer *server, const KvssImageServerOptions *options,
             GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const common[] = {
        "qemu-nbd", "--socket", server->socket, "--export-name", server->export_name,
        "--pid-file", server->pid_file, "--shared", "4", "--format", options->format,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(common); i++)
        g_ptr_array_add(argv, (gpointer) common[i]);
    if (!options->is_writable) {
        g_ptr_array_add(argv, (gpointer) "--read-only");
        if (options->bitmap) {
            g_ptr_array_add(argv, (gpointer) "--bitmap");
            g_ptr_array_add(argv, (gpointer) options->bitmap);
        }
    } else {
        g_ptr_array_add(argv, (gpointer) (options->is_new && can_be_direct(server->path)
                                              ? "--cache=none" : "--cache=writeback"));
        g_ptr_array_add(argv, (gpointer) (options->keeps_room ? "--discard=ignore"
                                                              : "--discard=unmap"));
        g_ptr_array_add(argv, (gpointer) (options->keeps_room ? "--detect-zeroes=off"
                                                              : "--detect-zeroes=unmap"));
    }
    g_ptr_array_add(argv, (gpointer) "--");
    g_ptr_array_add(argv, (gpointer) server->path);
    g_ptr_array_add(argv, NULL);
    return kvss_process_start((const char *const *) argv->pdata, keeps_buffers, error);
}

/* qemu-nbd says that it cannot write the file, and not why. */
static bool
pid_file_has_no_room(const KvssImageServer *server, const char *words)
{
    g_autofree char *folder = g_path_get_dirname(server->pid_file);
    uint64_t room;

    return strstr(words, "write pid file") && kvss_image_room(folder, &room, NULL)
           && room < PID_FILE_ROOM;
}

static bool
server_throw_ended(KvssImageServer *server, GError **error)
{
    const char *words = kvss_process_last_words(server->process);

    if (pid_file_has_no_room(server, words))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                          "serving %s: %s: No space left on device", server->path,
                          server->pid_file);

    if (strstr(words, "Is another process using the image") || strstr(words, "\" lock"))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY,
                          "%s is in use: its VM runs, or another program has it open",
                          server->path);
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "serving %s: %s",
                      server->path, *words ? words : "qemu-nbd ended at once");
}

/* The pid file is the last thing that qemu-nbd makes before it serves. */
static bool
server_wait_ready(KvssImageServer *server, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + START_LIMIT_MS * 1000;
    struct stat st;

    while (stat(server->pid_file, &st) != 0 || st.st_size == 0) {
        if (kvss_process_has_ended(server->process))
            return server_throw_ended(server, error);
        if (g_get_monotonic_time() > deadline_us)
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                              "serving %s: qemu-nbd was not ready within %d s", server->path,
                              START_LIMIT_MS / 1000);
        g_usleep(2000);
    }
    return true;
}

KvssImageServer *
kvss_image_server_start(const KvssImageServerOptions *options, GError **error)
{
    g_autoptr(KvssImageServer) server = NULL;

    if (!check_options(options, error))
        return NULL;
    server = g_new0(KvssImageServer, 1);
    server->path = g_strdup(options->path);
    server->socket = g_strdup(options->socket);
    server->export_name = g_strdup(options->export_name);
    server->pid_file = g_strconcat(options->socket, ".pid", NULL);
    (void) unlink(server->pid_file);

    server->process = server_spawn(server, options, error);
    if (!server->process || !server_wait_ready(server, error))
        return NULL;
    server->hold = kvss_nbd_client_new(server->socket, server->export_name, false, NULL, error);
    if (!server->hold)
        return NULL;
    server->size = server->hold->size;
    return g_steal_pointer(&server);
}

pid_t
kvss_image_server_pid(const KvssImageServer *server)
{
    return kvss_process_pid(server->process);
}

uint64_t
kvss_image_server_start_time(const KvssImageServer *server)
{
    return kvss_process_start_time(server->process);
}

const char *
kvss_image_server_socket(const KvssImageServer *server)
{
    return server->socket;
}

const char *
kvss_image_server_export(const KvssImageServer *server)
{
    return server->export_name;
}

uint64_t
kvss_image_server_size(const KvssImageServer *server)
{
    return server->size;
}

static bool
image_sync(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    return kvss_fsync(fd, path, error);
}

bool
kvss_image_server_finish(KvssImageServer *server, GError **error)
{
    g_clear_pointer(&server->hold, kvss_nbd_client_free);
    if (!kvss_process_wait(server->process, FINISH_LIMIT_MS))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                          "%s: qemu-nbd did not end within %d s", server->path,
                          FINISH_LIMIT_MS / 1000);
    if (!kvss_process_succeeded(server->process))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                          "%s: qemu-nbd failed at its end: %s", server->path,
                          kvss_process_last_words(server->process));
    return image_sync(server->path, error);
}

void
kvss_image_server_free(KvssImageServer *server)
{
    if (!server)
        return;
    kvss_nbd_client_free(server->hold);
    if (server->process)
        kvss_process_stop(server->process, END_LIMIT_MS);
    kvss_process_free(server->process);
    (void) unlink(server->pid_file);
    (void) unlink(server->socket);
    g_free(server->path);
    g_free(server->socket);
    g_free(server->export_name);
    g_free(server->pid_file);
    g_free(server);
}
