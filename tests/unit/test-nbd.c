/*
 * test-nbd.c - images served by qemu-nbd, read and written through NBD
 */
#include "host/image.h"
#include "host/nbd-sink.h"
#include "host/nbd-source.h"
#include "host/process.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (G_GUINT64_CONSTANT(1) << 20)
#define DISK_LENGTH (64 * MIB)

static char folder[] = "/tmp/kvss-nbd-XXXXXX";

static char *
in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

/* A disk with data at both ends, one hole of 40 MiB and a run of written zeroes. */
static GBytes *
pattern_new(void)
{
    uint8_t *data = g_malloc0(DISK_LENGTH);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20);

    for (uint64_t at = 0; at < 5 * MIB + 4096; at += 4)
        *(uint32_t *) (data + at) = g_rand_int(rand) | 1;
    for (uint64_t at = 50 * MIB - 512; at < 52 * MIB; at += 4)
        *(uint32_t *) (data + at) = g_rand_int(rand) | 1;
    data[DISK_LENGTH - 1] = 0x7e;
    return g_bytes_new_take(data, DISK_LENGTH);
}

static KvssImageServer *
serve(const char *image, const char *format, bool is_writable, GError **error)
{
    g_autofree char *socket = in_folder("s");
    KvssImageServerOptions options = {
        .path = image,
        .format = format,
        .socket = socket,
        .export_name = "vda",
        .is_writable = is_writable,
    };

    return kvss_image_server_start(&options, error);
}

/* The way of a restore: create, serve, copy, finish. */
static void
write_image(const char *image, const char *format, GBytes *content)
{
    g_autoptr(KvssSource) source = kvss_source_new_bytes(content);
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_image_create(image, format, DISK_LENGTH, NULL, &error));
    g_assert_no_error(error);
    server = serve(image, format, true, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(kvss_image_server_size(server), ==, DISK_LENGTH);
    sink = kvss_nbd_sink_new(kvss_image_server_socket(server), "vda", DISK_LENGTH, true, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
    g_clear_pointer(&sink, kvss_sink_free);
    g_assert_true(kvss_image_server_finish(server, &error));
    g_assert_no_error(error);
}

/* The way of a backup of a VM that is off: serve, look, read. */
static void
read_image(const char *image, const char *format, GBytes *content)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssImageServer) server = serve(image, format, false, &error);
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    g_autoptr(KvssSource) source = NULL;
    const uint8_t *expect = g_bytes_get_data(content, NULL);
    g_autofree uint8_t *buffer = g_malloc(4 * MIB);
    uint64_t bytes_data = 0;

    g_assert_no_error(error);
    source = kvss_nbd_source_new(kvss_image_server_socket(server), "vda", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(source->size, ==, DISK_LENGTH);
    g_assert_true(kvss_source_extents(source, 0, source->size, extents, &error));
    g_assert_no_error(error);
    for (guint i = 0; i < extents->len; i++)
        if (!g_array_index(extents, KvssExtent, i).zero)
            bytes_data += g_array_index(extents, KvssExtent, i).length;
    g_assert_cmpuint(bytes_data, >=, 7 * MIB);
    /* QEMU does not tell the holes of the other formats. */
    if (g_str_equal(format, "raw") || g_str_equal(format, "qcow2"))
        g_assert_cmpuint(bytes_data, <, 16 * MIB);

    for (uint64_t at = 0; at < DISK_LENGTH; at += 4 * MIB) {
        g_assert_true(kvss_source_read(source, at, buffer, 4 * MIB, &error));
        g_assert_cmpint(memcmp(buffer, expect + at, 4 * MIB), ==, 0);
    }
}

static void
test_there_and_back(gconstpointer data)
{
    const char *format = data;
    g_autofree char *image = in_folder("image");
    g_autoptr(GBytes) content = pattern_new();
    struct stat st;

    write_image(image, format, content);
    g_assert_cmpint(stat(image, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 24 * MIB); /* sparse */
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    read_image(image, format, content);
    (void) g_remove(image);
}

static void
run_tool(const char *first, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    va_list args;
    int status;

    va_start(args, first);
    for (const char *word = first; word; word = va_arg(args, const char *))
        g_ptr_array_add(argv, (gpointer) word);
    va_end(args);
    g_ptr_array_add(argv, NULL);
    g_assert_true(g_spawn_sync(NULL, (char **) argv->pdata, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                               NULL, &status, &error));
    g_assert_true(g_spawn_check_wait_status(status, &error));
}

/* Ranges that were touched since the bitmap began, in its own grains of 64 KiB. */
static const KvssExtent touched[] = {
    { 0, 65536, .zero = false },                    /* 1 byte at 5 */
    { 40 * MIB, MIB, .zero = false },               /* into the hole */
    { 51 * MIB, 128 * 1024, .zero = true },         /* discarded */
    { DISK_LENGTH - 65536, 65536, .zero = false },
};

static bool
is_touched(uint64_t offset)
{
    for (size_t i = 0; i < G_N_ELEMENTS(touched); i++)
        if (offset >= touched[i].offset && offset < touched[i].offset + touched[i].length)
            return true;
    return false;
}

static void
touch(const char *image)
{
    run_tool("qemu-img", "bitmap", "--add", image, "since", NULL);
    run_tool("qemu-io", "-f", "qcow2", "-c", "write -P 0x11 5 1", "-c", "write -P 0x22 40M 1M", "-c",
             "write -z -u 51M 128k", "-c", "write -P 0x33 67108863 1", image, NULL);
}

/* What a bitmap has not marked is unchanged; zeroes are told beside it. */
static void
test_changes(void)
{
    g_autofree char *image = in_folder("image"), *socket = in_folder("s");
    g_autoptr(GBytes) content = pattern_new();
    KvssImageServerOptions options = { .path = image, .format = "qcow2", .socket = socket,
                                       .export_name = "vda", .bitmap = "since" };
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t touched_and_zero = 0;

    write_image(image, "qcow2", content);
    touch(image);
    server = kvss_image_server_start(&options, &error);
    g_assert_no_error(error);
    source = kvss_nbd_source_new_with_changes(socket, "vda", "since", &error);
    g_assert_no_error(error);
    g_assert_true(kvss_source_extents(source, 0, source->size, extents, &error));
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        for (uint64_t at = extent->offset; at < extent->offset + extent->length; at += 65536)
            g_assert_true(extent->unchanged == !is_touched(at));
        if (extent->zero && !extent->unchanged)
            touched_and_zero += extent->length;
    }
    g_assert_cmpuint(touched_and_zero, ==, 128 * 1024);
    (void) g_remove(image);
}

static void
test_no_such_bitmap(void)
{
    g_autofree char *image = in_folder("image");
    g_autoptr(GBytes) content = pattern_new();
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(GError) error = NULL;

    write_image(image, "qcow2", content);
    server = serve(image, "qcow2", false, &error);
    g_assert_no_error(error);
    g_assert_null(kvss_nbd_source_new_with_changes(kvss_image_server_socket(server), "vda", "since",
                                                   &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND);
    (void) g_remove(image);
}

/* What was there before must be gone: zeroes are written when the target is not blank. */
static void
test_overwrite(void)
{
    g_autofree char *image = in_folder("image");
    g_autoptr(GBytes) content = pattern_new();
    g_autofree uint8_t *old = g_malloc(DISK_LENGTH);
    g_autoptr(KvssSource) source = kvss_source_new_bytes(content);
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(GError) error = NULL;

    memset(old, 0xee, DISK_LENGTH);
    g_assert_true(g_file_set_contents(image, (char *) old, DISK_LENGTH, &error));
    server = serve(image, "raw", true, &error);
    sink = kvss_nbd_sink_new(kvss_image_server_socket(server), "vda", DISK_LENGTH, false, &error);
    g_assert_true(kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
    g_clear_pointer(&sink, kvss_sink_free);
    g_assert_true(kvss_image_server_finish(server, &error));
    g_clear_pointer(&server, kvss_image_server_free);
    read_image(image, "raw", content);
    (void) g_remove(image);
}

/* While we hold an image nobody may write it, and one that is written is not ours. */
static void
test_locks(void)
{
    g_autofree char *image = in_folder("image");
    g_autofree char *other_socket = in_folder("other");
    g_autoptr(KvssImageServer) writer = NULL;
    g_autoptr(KvssImageServer) reader = NULL;
    g_autoptr(KvssImageInfo) info = NULL;
    KvssImageServerOptions other = { image, "qcow2", other_socket, "vda", true, false };
    GError *error = NULL;

    g_assert_true(kvss_image_create(image, "qcow2", MIB, NULL, NULL));
    reader = serve(image, "qcow2", false, &error);
    g_assert_no_error(error);
    g_assert_null(kvss_image_server_start(&other, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY);
    g_clear_error(&error);
    g_clear_pointer(&reader, kvss_image_server_free);

    writer = kvss_image_server_start(&other, &error);
    g_assert_no_error(error);
    reader = serve(image, "qcow2", false, &error);
    g_assert_null(reader);
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_null(kvss_image_info(image, "qcow2", false, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY);
    g_clear_error(&error);
    info = kvss_image_info(image, "qcow2", true, &error);
    g_assert_no_error(error);
    g_clear_pointer(&writer, kvss_image_server_free);
    g_assert_false(g_file_test(other_socket, G_FILE_TEST_EXISTS));
    (void) g_remove(image);
}

static void
test_start_fails(void)
{
    g_autofree char *image = in_folder("absent");
    g_autofree char *long_name = g_strnfill(120, 'x');
    g_autofree char *long_socket = in_folder(long_name);
    KvssImageServerOptions options = { image, "raw", long_socket, "vda", false, false };
    g_autofree char *socket = in_folder("s");
    GError *error = NULL;

    g_assert_null(serve(image, "raw", false, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);
    g_assert_nonnull(strstr(error->message, "No such file"));
    g_clear_error(&error);
    g_assert_false(g_file_test(socket, G_FILE_TEST_EXISTS));

    g_assert_null(kvss_image_server_start(&options, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    g_clear_error(&error);

    g_assert_null(kvss_nbd_source_new(socket, "vda", &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);
    g_clear_error(&error);
}

/* A server that dies makes every later read fail. */
static void
test_server_dies(void)
{
    g_autofree char *image = in_folder("image");
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autofree uint8_t *buffer = g_malloc(MIB);
    GError *error = NULL;

    g_assert_true(kvss_image_create(image, "raw", 8 * MIB, NULL, NULL));
    server = serve(image, "raw", false, NULL);
    source = kvss_nbd_source_new(kvss_image_server_socket(server), "vda", &error);
    g_assert_no_error(error);
    g_assert_true(kvss_source_read(source, 0, buffer, MIB, &error));
    g_assert_cmpint(kill(kvss_image_server_pid(server), SIGKILL), ==, 0);
    for (int i = 0; i < 2; i++) {
        g_assert_false(kvss_source_read(source, 0, buffer, MIB, &error));
        g_assert_nonnull(error);
        g_clear_error(&error);
    }
    (void) g_remove(image);
}

/* When the program that started a server is killed, the server ends by itself. */
static void
test_owner_dies(void)
{
    g_autofree char *image = in_folder("image");
    g_autofree char *socket = in_folder("s"), *pid_file = in_folder("s.pid");
    int pipe_fds[2];
    pid_t owner, server_pid = 0;

    g_assert_true(kvss_image_create(image, "raw", 8 * MIB, NULL, NULL));
    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    owner = fork();
    if (owner == 0) {
        KvssImageServer *server = serve(image, "raw", true, NULL);
        pid_t pid = server ? kvss_image_server_pid(server) : 0;

        (void) !write(pipe_fds[1], &pid, sizeof pid);
        pause();
        _exit(0);
    }
    g_assert_cmpint(read(pipe_fds[0], &server_pid, sizeof server_pid), ==, sizeof server_pid);
    g_assert_cmpint(server_pid, >, 0);
    g_assert_cmpuint(kvss_process_start_time_of(server_pid), >, 0);
    g_assert_cmpint(kill(owner, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(owner, NULL, 0), ==, owner);
    for (int i = 0; i < 500 && kill(server_pid, 0) == 0; i++)
        g_usleep(10000);
    g_assert_cmpint(kill(server_pid, 0), ==, -1);
    g_assert_cmpint(errno, ==, ESRCH);
    (void) close(pipe_fds[0]);
    (void) close(pipe_fds[1]);
    /* It was killed, too: the folder goes with the journal of its owner. */
    (void) g_remove(socket);
    (void) g_remove(pid_file);
    (void) g_remove(image);
}

/* No room is told as that. */
static void
test_full(void)
{
    if (geteuid() != 0
        || !kvss_process_run((const char *[]){ "mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs",
                                               folder, NULL },
                             5000, NULL, NULL, NULL)) {
        g_test_skip("mounting a small tmpfs needs root");
        return;
    }
    {
        g_autofree char *image = in_folder("image");
        g_autoptr(GBytes) content = pattern_new();
        g_autoptr(KvssSource) source = kvss_source_new_bytes(content);
        g_autoptr(KvssImageServer) server = NULL;
        g_autoptr(KvssSink) sink = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_true(kvss_image_create(image, "qcow2", DISK_LENGTH, NULL, &error));
        server = serve(image, "qcow2", true, &error);
        sink = kvss_nbd_sink_new(kvss_image_server_socket(server), "vda", DISK_LENGTH, true,
                                 &error);
        g_assert_no_error(error);
        g_assert_false(kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE);
    }
    g_assert_true(kvss_process_run((const char *[]){ "umount", folder, NULL }, 5000, NULL, NULL,
                                   NULL));
}

int
main(int argc, char **argv)
{
    g_autofree char *tool = g_find_program_in_path("qemu-nbd");
    int result;

    g_test_init(&argc, &argv, NULL);
    g_assert_nonnull(g_mkdtemp(folder));
    if (tool) {
        g_test_add_data_func("/nbd/there-and-back/raw", "raw", test_there_and_back);
        g_test_add_data_func("/nbd/there-and-back/qcow2", "qcow2", test_there_and_back);
        g_test_add_data_func("/nbd/there-and-back/vpc", "vpc", test_there_and_back);
        g_test_add_data_func("/nbd/there-and-back/vhdx", "vhdx", test_there_and_back);
        g_test_add_func("/nbd/changes", test_changes);
        g_test_add_func("/nbd/no-such-bitmap", test_no_such_bitmap);
        g_test_add_func("/nbd/overwrite", test_overwrite);
        g_test_add_func("/nbd/locks", test_locks);
        g_test_add_func("/nbd/start-fails", test_start_fails);
        g_test_add_func("/nbd/server-dies", test_server_dies);
        g_test_add_func("/nbd/owner-dies", test_owner_dies);
        g_test_add_func("/nbd/full", test_full);
    }
    result = g_test_run();
    (void) g_rmdir(folder);
    return result;
}
