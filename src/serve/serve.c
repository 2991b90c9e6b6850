/*
 * serve.c - nbdkit with our plugin: started, watched, ended
 *
 * The password goes to it through a pipe: its arguments and its environment can be
 * read by others. What it has to say comes back through another one.
 */
#include "serve/serve.h"
#include "base/fd.h"
#include "host/process.h"
#include "serve/exports.h"
#include "serve/report.h"
#include "serve/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN "kvss-nbdkit-plugin.so"
/* A request under way may have to wait for a slow disk. */
#define END_LIMIT_MS 10000
#define LOOK_INTERVAL_MS 1000
/* Its files, beside the socket: see KvssProcessSetup. */
#define PASSWORD_FD "4"
#define REPORT_FD "5"

typedef struct {
    const KvssServeOptions *options;
    KvssSocket *socket;
    KvssProcess *process;
    int report;          /* where its reports come from; -1 at their end */
    GString *lines;
    GError *problem;     /* why it does not serve */
    bool is_ready;
    KvssServeResult *result;
} Serve;

static void
serve_clear(Serve *serve)
{
    /* First the server, then the name under which it was found. */
    kvss_process_free(serve->process);
    kvss_socket_free(serve->socket);
    kvss_fd_clear(&serve->report);
    g_string_free(serve->lines, TRUE);
    g_clear_error(&serve->problem);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Serve, serve_clear)

/* ---- starting ---- */

/* Beside this program in a build folder; else where it was installed. NULL: it is not there. */
static char *
plugin_path(GError **error)
{
    const char *wish = g_getenv("KVSS_NBDKIT_PLUGIN");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *beside = folder ? g_build_filename(folder, PLUGIN, NULL) : NULL;
    g_autofree char *path = NULL;

    if (wish)
        path = g_canonicalize_filename(wish, NULL); /* with a '/': nbdkit looks up short names */
    else if (beside && g_file_test(beside, G_FILE_TEST_IS_REGULAR))
        path = g_steal_pointer(&beside);
    else
        path = g_build_filename(KVSS_LIBEXECDIR, PLUGIN, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
        return g_steal_pointer(&path);
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED,
               "%s is not there: kvss is not installed whole", path);
    return NULL;
}

/* Every value behind its key: none can be taken for an option. */
static void
add_setting(GPtrArray *argv, const char *key, const char *value)
{
    if (value)
        g_ptr_array_add(argv, g_strdup_printf("%s=%s", key, value));
}

/*
 * One thread a connection: with more, nbdkit 1.32 ends with a failed assertion when a client
 * goes away while two of them answer it. Clients that are in a hurry have several connections,
 * and the cache reads the pieces of a large request, and those behind it, in threads of its own.
 */
static GPtrArray *
server_words(const KvssServeOptions *options, const char *plugin)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    static const char *const fixed[] = {
        "nbdkit", "--foreground", "--exit-with-parent", "--readonly", "--filter=readahead",
        "--threads=1",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(argv, g_strdup(fixed[i]));
    g_ptr_array_add(argv, g_strdup(plugin));
    add_setting(argv, "state-dir", options->state_dir);
    add_setting(argv, "cache-dir", options->cache_dir);
    add_setting(argv, "backup", options->backup);
    add_setting(argv, "vm", options->vm);
    add_setting(argv, "disk", options->target);
    add_setting(argv, "password-fd", PASSWORD_FD);
    add_setting(argv, "report-fd", REPORT_FD);
    g_ptr_array_add(argv, NULL);
    return argv;
}

/*
 * The password and the location, which may have another one in it, come through the pipe;
 * the password must not be in its environment. Its pieces come
 * from one thread and go in another: with an arena of the C library's for each thread the
 * process had 160 MiB where it has 95 with one, and buffers that go back to the kernel each
 * time cost half of the speed.
 */
static const KvssProcessVariable variables[] = {
    { "MALLOC_ARENA_MAX", "1" },
    { "MALLOC_MMAP_THRESHOLD_", "33554432" },
    { "MALLOC_TRIM_THRESHOLD_", "268435456" },
    { "KVSS_PASSWORD", NULL }, { "KVSS_PASSWORD_FILE", NULL },
    { "RESTIC_PASSWORD", NULL }, { "RESTIC_PASSWORD_FILE", NULL },
    { NULL, NULL },
};

/* What nobody else may read; it fits into the pipe. A server that is gone already says why by itself. */
static void
tell_secrets(int fd, const KvssServeOptions *options)
{
    (void) !kvss_write_exact(fd, options->password, strlen(options->password) + 1, NULL);
    (void) !kvss_write_exact(fd, options->location, strlen(options->location) + 1, NULL);
}

static bool
serve_start(Serve *serve, GError **error)
{
    const KvssServeOptions *options = serve->options;
    g_autofree char *plugin = plugin_path(error);
    g_autoptr(GPtrArray) argv = plugin ? server_words(options, plugin) : NULL;
    int password[2], report[2];
    KvssProcessSetup setup = {
        .argv = argv ? (const char *const *) argv->pdata : NULL,
        .variables = variables,
        .listening = kvss_socket_fd(serve->socket),
        .n_files = 2,
        .ends_politely = true,
    };
    bool ok;

    if (!argv || !g_unix_open_pipe(password, FD_CLOEXEC, error))
        return false;
    if (!g_unix_open_pipe(report, FD_CLOEXEC, error)) {
        (void) close(password[0]);
        (void) close(password[1]);
        return false;
    }
    setup.files = (int[]){ password[0], report[1] };
    serve->process = kvss_process_start_server(&setup, error);
    (void) close(password[0]);
    (void) close(report[1]);
    serve->report = report[0];
    /* From now on a client hears at once when the server is gone. */
    kvss_socket_close(serve->socket);
    ok = serve->process != NULL;
    if (ok)
        tell_secrets(password[1], options);
    (void) close(password[1]);
    if (!ok && error && g_error_matches(*error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED))
        g_prefix_error(error, "a disk is served by nbdkit (package nbdkit): ");
    return ok;
}

/* ---- what it reports ---- */

static const char *
text_of(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, "");
}

static void
served_free(gpointer data)
{
    KvssServedDisk *disk = data;

    g_free(disk->name);
    g_free(disk->uri);
    g_free(disk->vm);
    g_free(disk->uuid);
    g_free(disk->target);
    g_free(disk);
}

static void
hear_ready(Serve *serve, JsonObject *object)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(served_free);
    JsonArray *exports = json_object_get_array_member(object, "exports");

    for (guint i = 0; exports && i < json_array_get_length(exports); i++) {
        JsonObject *export = json_array_get_object_element(exports, i);
        KvssServedDisk *disk = g_new0(KvssServedDisk, 1);

        disk->name = g_strdup(text_of(export, "name"));
        disk->uri = kvss_serve_uri(disk->name, serve->options->socket);
        disk->vm = g_strdup(text_of(export, "vm"));
        disk->uuid = g_strdup(text_of(export, "uuid"));
        disk->target = g_strdup(text_of(export, "target"));
        disk->size = (uint64_t) json_object_get_int_member_with_default(export, "size", 0);
        g_ptr_array_add(disks, disk);
    }
    serve->is_ready = true;
    serve->options->ready(text_of(object, "backup_id"), disks, serve->options->data);
}

static void
hear_damage(Serve *serve, JsonObject *object)
{
    KvssServeDamage damage = {
        .name = text_of(object, "name"),
        .vm = text_of(object, "vm"),
        .target = text_of(object, "target"),
        .offset = (uint64_t) json_object_get_int_member_with_default(object, "offset", 0),
        .message = text_of(object, "message"),
    };

    if (serve->options->damage)
        serve->options->damage(&damage, serve->options->data);
}

static void
hear(Serve *serve, JsonObject *object)
{
    const char *type = text_of(object, "type");

    if (g_str_equal(type, "ready")) {
        hear_ready(serve, object);
    } else if (g_str_equal(type, "damage")) {
        hear_damage(serve, object);
    } else if (g_str_equal(type, "warning")) {
        g_warning("%s", text_of(object, "message"));
    } else if (g_str_equal(type, "error") && !serve->problem) {
        serve->problem = kvss_report_error(object);
    } else if (g_str_equal(type, "end")) {
        serve->result->bytes_read
            = (uint64_t) json_object_get_int_member_with_default(object, "bytes_read", 0);
        serve->result->damaged
            = (uint64_t) json_object_get_int_member_with_default(object, "damaged", 0);
    }
}

/* What is there now. At the end of the pipe it is closed. */
static void
serve_hear(Serve *serve)
{
    char buffer[16384];
    ssize_t n = read(serve->report, buffer, sizeof buffer);
    JsonObject *object;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        kvss_fd_clear(&serve->report);
        return;
    }
    g_string_append_len(serve->lines, buffer, n);
    while ((object = kvss_report_take(serve->lines)) != NULL) {
        hear(serve, object);
        json_object_unref(object);
    }
}

/* ---- watching ---- */

/* Until it is cancelled, or the server has said its last. */
static void
serve_watch(Serve *serve)
{
    GCancellable *cancellable = serve->options->cancellable;
    struct pollfd fds[] = {
        { .fd = serve->report, .events = POLLIN },
        { .fd = kvss_process_error_fd(serve->process), .events = POLLIN },
        { .fd = g_cancellable_get_fd(cancellable), .events = POLLIN },
    };

    while (serve->report >= 0 && !g_cancellable_is_cancelled(cancellable)) {
        if (poll(fds, G_N_ELEMENTS(fds), LOOK_INTERVAL_MS) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            serve_hear(serve);
        if (fds[1].revents && !kvss_process_hear(serve->process))
            fds[1].fd = -1;
    }
    if (fds[2].fd >= 0)
        g_cancellable_release_fd(cancellable);
}

/* Lets it end, and hears what it still has to say. */
static void
serve_end(Serve *serve)
{
    kvss_process_stop(serve->process, END_LIMIT_MS);
    while (serve->report >= 0)
        serve_hear(serve);
}

static bool
throw_ended(Serve *serve, GError **error)
{
    const char *words = kvss_process_last_words(serve->process);

    if (serve->problem) {
        g_propagate_error(error, g_steal_pointer(&serve->problem));
        return false;
    }
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "nbdkit has ended%s%s",
                      *words ? ": " : "", words);
}

bool
kvss_serve_run(const KvssServeOptions *options, KvssServeResult *out_result, GError **error)
{
    g_auto(Serve) serve = {
        .options = options,
        .report = -1,
        .lines = g_string_new(NULL),
        .result = out_result,
    };

    memset(out_result, 0, sizeof *out_result);
    serve.socket = kvss_socket_listen(options->socket, error);
    if (!serve.socket || !serve_start(&serve, error))
        return false;
    serve_watch(&serve);
    serve_end(&serve);
    if (!g_cancellable_is_cancelled(options->cancellable))
        return throw_ended(&serve, error);
    return serve.is_ready || kvss_check_cancelled(options->cancellable, error);
}
