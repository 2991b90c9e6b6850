/*
 * test-held-image.c - images that a server holds still, read from their files
 *
 * What an image holds is what qemu-img convert makes of it before it is served.
 */
#include "base/fd.h"
#include "host/held-image.h"
#include "host/image-map.h"
#include "host/image.h"
#include "host/process.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB G_GUINT64_CONSTANT(1024)
#define MIB (KIB * 1024)

static char folder[] = "/tmp/kvss-held-XXXXXX";

static char *
in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static bool
try_shell(const char *command, GError **error)
{
    g_autofree char *there = g_strdup_printf("cd %s && { %s\n}", folder, command);

    return kvss_process_run((const char *const[]){ "sh", "-e", "-c", there, NULL }, 120000, NULL,
                            NULL, error);
}

static void
shell(const char *command)
{
    g_autoptr(GError) error = NULL;

    (void) !try_shell(command, &error);
    g_assert_no_error(error);
}

static void
empty_folder(void)
{
    shell("rm -f -- *");
}

static KvssImageServer *
serve(const char *name, const char *format)
{
    g_autofree char *path = in_folder(name);
    g_autofree char *socket = in_folder("s");
    KvssImageServerOptions options = {
        .path = path,
        .format = format,
        .socket = socket,
        .export_name = "vda",
    };
    g_autoptr(GError) error = NULL;
    KvssImageServer *server = kvss_image_server_start(&options, &error);

    g_assert_no_error(error);
    return server;
}

static KvssSource *
open_held(const char *name, const char *format)
{
    g_autofree char *path = in_folder(name);
    g_autofree char *socket = in_folder("s");
    g_autoptr(GError) error = NULL;
    KvssSource *source = kvss_held_image_new(path, format, socket, "vda", &error);

    g_assert_no_error(error);
    return source;
}

/* By the loop that makes backups, in several threads. */
static void
copy_to(KvssSource *source, const char *name)
{
    g_autofree char *path = in_folder(name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(ftruncate(fd, (off_t) source->size), ==, 0);
    sink = kvss_sink_new_fd(fd, path, source->size, true);
    g_assert_true(kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
}

/* All of it, and pieces at odd places, whose ends lie anywhere. */
static void
check_content(const char *name, const char *format)
{
    g_autofree char *convert
        = g_strdup_printf("qemu-img convert -f %s -O raw %s expect", format, name);
    g_autofree char *expect_path = in_folder("expect");
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree uint8_t *expect = g_malloc(MIB), *found = g_malloc(MIB);
    kvss_autofd int fd = -1;

    shell(convert);
    server = serve(name, format);
    source = open_held(name, format);
    copy_to(source, "found");
    shell("cmp expect found");

    fd = open(expect_path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    for (int i = 0; i < 12; i++) {
        uint64_t at = g_rand_int(rand) % source->size;
        size_t most = MIN(MIB, source->size - at);
        size_t length = 1 + g_rand_int(rand) % most;
        g_autoptr(GError) error = NULL;

        (void) !kvss_pread_exact(fd, expect, length, at, &error);
        g_assert_no_error(error);
        g_assert_true(kvss_source_read(source, at, found, length, &error));
        g_assert_no_error(error);
        g_assert_cmpmem(found, length, expect, length);
    }
    shell("rm expect found");
}

/* ---- one image of each kind ---- */

typedef struct {
    const char *name, *format, *make;
} Kind;

#define IO "qemu-io -f qcow2 "

static const Kind kinds[] = {
    { "raw", "raw", "head -c 3000000 /dev/urandom >i; truncate -s 9M i; head -c 70000 /dev/urandom >>i" },
    { "raw-odd", "raw", "head -c 1048877 /dev/urandom >i" },
    { "qcow2", "qcow2",
      "qemu-img create -q -f qcow2 i 20M;"
      IO "-c 'write -P 1 0 3M' -c 'write -P 2 7777k 33k' -c 'write -z 1M 128k' -c 'discard 2M 64k' i" },
    { "qcow2-odd", "qcow2",
      "qemu-img create -q -f qcow2 -o cluster_size=4k i 1049088; " IO "-c 'write -P 9 1M 512' i" },
    { "compressed", "qcow2",
      "yes kvss | head -c 5000000 >r; head -c 300000 /dev/urandom >>r; truncate -s 8M r;"
      "qemu-img convert -c -f raw -O qcow2 r i; " IO "-c 'write -P 5 1M 100k' i" },
    { "compressed-zstd", "qcow2",
      "yes kvss | head -c 5000000 >r; truncate -s 8M r;"
      "qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd r i;" IO "-c 'write -P 5 1M 100k' i" },
    { "snapshot", "qcow2",
      "qemu-img create -q -f qcow2 i 8M; " IO "-c 'write -P 1 0 4M' i; qemu-img snapshot -c s i;"
      IO "-c 'write -P 2 1M 1M' -c 'write -z 3M 512k' i" },
    { "chain", "qcow2",
      "head -c 2500000 /dev/urandom >base; truncate -s 2500096 base;"
      "qemu-img create -q -f qcow2 -b base -F raw middle 6M; " IO "-c 'write -P 2 1M 300k' -c 'write -c -P 4 5M 64k' middle;"
      "qemu-img create -q -f qcow2 -b middle -F qcow2 i 9M;"
      IO "-c 'write -P 3 1100k 5k' -c 'write -z 2M 64k' -c 'write -P 8 8M 1k' i" },
    { "chain-of-another-kind", "qcow2",
      "qemu-img create -q -f vmdk base 4M; qemu-io -f vmdk -c 'write -P 7 1M 1M' base;"
      "qemu-img create -q -f qcow2 -b base -F vmdk i 4M; " IO "-c 'write -P 3 1500k 64k' i" },
    { "data-file", "qcow2",
      "qemu-img create -q -f qcow2 -o data_file=$PWD/d i 8M; " IO "-c 'write -P 1 1M 1M' -c 'write -z 1M 64k' i" },
    { "data-file-raw", "qcow2",
      "qemu-img create -q -f qcow2 -o data_file=$PWD/d,data_file_raw=on i 8M; " IO "-c 'write -P 1 1M 1M' i" },
    { "data-file-below", "qcow2",
      "qemu-img create -q -f qcow2 -o data_file=$PWD/d base 8M; " IO "-c 'write -P 1 1M 1M' base;"
      "qemu-img create -q -f qcow2 -b base -F qcow2 i; " IO "-c 'write -P 2 1500k 64k' i" },
    { "subclusters", "qcow2",
      "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k i 8M;"
      IO "-c 'write -P 1 1M 5k' -c 'write -P 2 1200k 4k' -c 'write -z 1028k 4k' i" },
    { "preallocated", "qcow2",
      "qemu-img create -q -f qcow2 -o preallocation=metadata i 8M; " IO "-c 'write -P 1 1M 5k' i" },
    { "allocated", "qcow2",
      "qemu-img create -q -f qcow2 -o preallocation=falloc i 8M; " IO "-c 'write -P 1 1M 5k' i" },
    { "empty", "qcow2", "qemu-img create -q -f qcow2 i 8M" },
    { "vmdk", "vmdk", "qemu-img create -q -f vmdk i 8M; qemu-io -f vmdk -c 'write -P 7 1M 1M' i" },
    { "vmdk-flat", "vmdk",
      "qemu-img create -q -f vmdk -o subformat=monolithicFlat i 8M;"
      "qemu-io -f vmdk -c 'write -P 7 1M 1M' i" },
};

static void
test_kind(gconstpointer data)
{
    const Kind *kind = data;

    empty_folder();
    shell(kind->make);
    check_content("i", kind->format);
}

/*
 * Writes of all sorts at random places, over a base, with an internal snapshot between.
 * QEMU refuses to write compressed where something is; the others are done all the same.
 */
static void
test_random(gconstpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data));
    static const char *const sorts[] = { "write -P 3", "write -P 4", "write -z", "discard", "write -c -P 5" };
    static const char *const clusters[] = { "512", "4k", "64k" };
    g_autoptr(GString) script = g_string_new("head -c 3M /dev/urandom >base; qemu-img create -q -f qcow2 -o cluster_size=");

    empty_folder();
    g_string_append_printf(script, "%s -b base -F raw i 5M\n",
                           clusters[g_rand_int_range(rand, 0, G_N_ELEMENTS(clusters))]);
    for (int part = 0; part < 2; part++) {
        g_string_append(script, "qemu-io -f qcow2");
        for (int i = 0; i < 60; i++) {
            int sort = g_rand_int_range(rand, 0, G_N_ELEMENTS(sorts));
            int unit = sort == 4 ? 64 : 1; /* what is compressed is whole clusters */

            g_string_append_printf(script, " -c '%s %dk %dk'", sorts[sort],
                                   g_rand_int_range(rand, 0, 4800 / unit) * unit,
                                   sort == 4 ? 64 : g_rand_int_range(rand, 1, 300));
        }
        g_string_append(script, part == 0 ? " i || :\nqemu-img snapshot -c s i\n" : " i || :\n");
    }
    shell(script->str);
    check_content("i", "qcow2");
}

/* More pieces than one answer may tell: asked for again, in smaller windows. */
static void
test_many_pieces(void)
{
    g_autofree char *image = in_folder("i");
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(KvssImageRun));
    g_autoptr(GError) error = NULL;

    empty_folder();
    shell("{ head -c 1024 /dev/zero | tr '\\0' x; head -c 1024 /dev/zero; } >piece\n"
          "for i in $(seq 13); do cat piece piece >two; mv two piece; done\n"
          "for at in 0 130 260; do dd if=piece of=r bs=1M seek=$at conv=notrunc status=none; done\n"
          "truncate -s 280M r; qemu-img convert -f raw -O qcow2 -S 1k -o cluster_size=1k r i; rm r piece");
    g_assert_false(kvss_image_map(image, "qcow2", 0, 280 * MIB, runs, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_true(kvss_image_map(image, "qcow2", 128 * MIB, 128 * MIB, runs, &error));
    g_assert_cmpuint(runs->len, ==, 8192);
    check_content("i", "qcow2");
}

/* A qemu-img that does not tell, or not so that it makes sense: all comes from the server. */
static void
test_no_map(gconstpointer data)
{
    const char *instead = data;
    const char *path = g_getenv("PATH");
    g_autofree char *real = g_find_program_in_path("qemu-img");
    g_autofree char *fakes = in_folder("fakes");
    g_autofree char *fake = g_build_filename(fakes, "qemu-img", NULL);
    g_autofree char *script = g_strdup_printf("#!/bin/sh\n%s\nexec %s \"$@\"\n", instead, real);
    g_autofree char *first = g_strconcat(fakes, ":", path, NULL);
    g_autofree char *saved = g_strdup(path);

    empty_folder();
    shell("qemu-img create -q -f qcow2 i 400M; " IO "-c 'write -P 1 1M 1M' -c 'write -P 2 300M 9M' i");
    g_assert_cmpint(g_mkdir(fakes, 0700), ==, 0);
    g_assert_true(g_file_set_contents(fake, script, -1, NULL));
    g_assert_cmpint(g_chmod(fake, 0700), ==, 0);
    g_setenv("PATH", first, TRUE);
    check_content("i", "qcow2");
    g_setenv("PATH", saved, TRUE);
    (void) g_remove(fake);
    (void) g_rmdir(fakes);
}

/* ---- where it is read ---- */

static void
make_plain(void)
{
    empty_folder();
    shell("qemu-img create -q -f qcow2 i 8M; " IO "-c 'write -P 1 0 4M' i");
}

/* A server that stands still: what is plain does not come from it. */
static void
test_past_server(void)
{
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autofree uint8_t *buffer = g_malloc(4 * MIB);
    g_autoptr(GError) error = NULL;
    bool ok;

    make_plain();
    server = serve("i", "qcow2");
    source = open_held("i", "qcow2");
    g_assert_true(source->is_parallel);
    g_assert_cmpint(kill(kvss_image_server_pid(server), SIGSTOP), ==, 0);
    ok = kvss_source_read(source, 0, buffer, 4 * MIB, &error);
    g_assert_cmpint(kill(kvss_image_server_pid(server), SIGCONT), ==, 0);
    g_assert_true(ok);
    for (size_t i = 0; i < 4 * MIB; i++)
        g_assert_cmpuint(buffer[i], ==, 1);
}

/* Its lock went with it: what is read now may be written now. */
static void
test_server_gone(void)
{
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autofree uint8_t *buffer = g_malloc(MIB);
    g_autoptr(GError) error = NULL;
    siginfo_t info;

    make_plain();
    server = serve("i", "qcow2");
    source = open_held("i", "qcow2");
    g_assert_true(kvss_source_read(source, 0, buffer, MIB, &error));
    g_assert_cmpint(kill(kvss_image_server_pid(server), SIGKILL), ==, 0);
    g_assert_cmpint(waitid(P_PID, (id_t) kvss_image_server_pid(server), &info, WEXITED | WNOWAIT),
                    ==, 0);
    g_assert_false(kvss_source_read(source, MIB, buffer, MIB, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);
}

/* Nobody can write while it is read, neither what is on top nor what is below. */
static void
test_locked(void)
{
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autofree uint8_t *buffer = g_malloc(MIB);
    g_autoptr(GError) error = NULL;

    empty_folder();
    shell("qemu-img create -q -f qcow2 base 8M; " IO "-c 'write -P 1 0 4M' base;"
          "qemu-img create -q -f qcow2 -b base -F qcow2 i; " IO "-c 'write -P 2 1M 1M' i");
    server = serve("i", "qcow2");
    source = open_held("i", "qcow2");
    g_assert_true(kvss_source_read(source, MIB / 2, buffer, MIB, &error));
    shell("! " IO "-c 'write -P 7 0 4M' i 2>said; grep -q lock said;"
          "! " IO "-c 'write -P 7 0 4M' base 2>said; grep -q lock said");
    g_assert_true(kvss_source_read(source, MIB / 2, buffer, MIB, &error));
    g_assert_cmpuint(buffer[0], ==, 1);
    g_assert_cmpuint(buffer[MIB - 1], ==, 2);
}

/* Another file under the name, with the map of the first: what is served is what counts. */
static void
test_replaced(gconstpointer data)
{
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autofree uint8_t *buffer = g_malloc(MIB);
    g_autoptr(GError) error = NULL;
    const char *replaced = data;
    g_autofree char *replace
        = g_strdup_printf("mv %s old; cp old %s; qemu-io -f qcow2 -c 'write -P 9 0 4M' %s", replaced,
                          replaced, replaced);

    empty_folder();
    shell("qemu-img create -q -f qcow2 base 8M; " IO "-c 'write -P 1 0 4M' base;"
          "qemu-img create -q -f qcow2 -b base -F qcow2 i; " IO "-c 'write -P 1 1M 1M' i");
    server = serve("i", "qcow2");
    shell(replace);
    source = open_held("i", "qcow2");
    for (uint64_t at = 0; at < 4 * MIB; at += MIB) {
        g_assert_true(kvss_source_read(source, at, buffer, MIB, &error));
        for (size_t i = 0; i < MIB; i++)
            g_assert_cmpuint(buffer[i], ==, 1);
    }
}

/* ---- what qemu-img says is believed only where it makes sense ---- */

static void
test_map_read(void)
{
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(KvssImageRun));
    g_autoptr(GError) error = NULL;
    const KvssImageRun *run;

    g_assert_true(kvss_image_map_parse(
        "[{\"start\":512,\"length\":512,\"depth\":1,\"zero\":false,\"data\":true,\"offset\":4096},"
        "{\"start\":1024,\"length\":10,\"depth\":0,\"zero\":true,\"data\":false,\"offset\":9},"
        "{\"start\":1034,\"length\":10,\"depth\":0,\"zero\":false,\"data\":true},"
        "{\"start\":1044,\"length\":10,\"depth\":0,\"zero\":false,\"data\":true,\"compressed\":true,"
        "\"offset\":9},"
        "{\"start\":1054,\"length\":10,\"depth\":0,\"zero\":true,\"data\":true,\"offset\":9},"
        "{\"start\":1064,\"length\":10,\"depth\":0,\"zero\":false,\"data\":false,\"offset\":9}]",
        512, 4096, runs, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(runs->len, ==, 1);
    run = &g_array_index(runs, KvssImageRun, 0);
    g_assert_cmpuint(run->start, ==, 512);
    g_assert_cmpuint(run->length, ==, 512);
    g_assert_cmpuint(run->offset, ==, 4096);
    g_assert_cmpuint(run->depth, ==, 1);
    g_assert_true(kvss_image_map_parse("[]", 0, 4096, runs, &error));
    g_assert_cmpuint(runs->len, ==, 0);
}

static void
test_map_hostile(void)
{
#define ENTRY(start, length, depth, offset)                                                       \
    "{\"start\":" start ",\"length\":" length ",\"depth\":" depth                                   \
    ",\"zero\":false,\"data\":true,\"offset\":" offset "}"
    static const char *const texts[] = {
        "", "{}", "7", "[7]", "[[]]", "[{}]", "[null]",
        "[" ENTRY("1", "8", "0", "0") "]",
        "[" ENTRY("-1", "8", "0", "0") "]",
        "[" ENTRY("0", "0", "0", "0") "]",
        "[" ENTRY("0", "-8", "0", "0") "]",
        "[" ENTRY("0", "101", "0", "0") "]",
        "[" ENTRY("0", "8", "-1", "0") "]",
        "[" ENTRY("0", "8", "201", "0") "]",
        "[" ENTRY("0", "8", "4294967296", "0") "]",
        "[" ENTRY("0", "8", "0", "-1") "]",
        "[" ENTRY("0", "8", "0", "9223372036854775807") "]",
        "[" ENTRY("0", "8", "0", "\"0\"") "]",
        "[" ENTRY("0", "8", "0", "1.5") "]",
        "[" ENTRY("0", "8", "0", "0") "," ENTRY("7", "8", "0", "0") "]",
        "[" ENTRY("0", "8", "0", "0") "," ENTRY("9", "8", "0", "0") "]",
        "[" ENTRY("0", "60", "0", "0") "," ENTRY("60", "41", "0", "0") "]",
        "[" ENTRY("0", "9223372036854775807", "0", "0") "]",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(KvssImageRun));
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_image_map_parse(texts[i], 0, 100, runs, &error));
        g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
        g_assert_cmpuint(runs->len, ==, 0);
    }
}

static void
test_files_parse(void)
{
    g_autoptr(GPtrArray) files = NULL;
    g_autoptr(GError) error = NULL;

    files = kvss_image_files_parse(
        "[{\"filename\":\"/a\",\"format\":\"qcow2\"},{\"filename\":\"/b\",\"format\":\"raw\"},"
        "{\"filename\":\"/c\",\"format\":\"vmdk\"},{\"filename\":\"nbd://c\",\"format\":\"raw\"},"
        "{\"filename\":\"/e\",\"format\":\"qcow2\",\"encrypted\":true},7,{\"format\":\"raw\"},"
        "{\"filename\":\"/d\",\"format\":\"qcow2\",\"format-specific\":{\"data\":{\"data-file\":\"x\"}}}]",
        &error);
    g_assert_no_error(error);
    g_assert_cmpuint(files->len, ==, 8);
    g_assert_cmpstr(g_ptr_array_index(files, 0), ==, "/a");
    g_assert_cmpstr(g_ptr_array_index(files, 1), ==, "/b");
    for (guint i = 2; i < files->len; i++)
        g_assert_null(g_ptr_array_index(files, i));
    g_assert_null(kvss_image_files_parse("{}", &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    g_assert_nonnull(g_mkdtemp(folder));
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strconcat("/held-image/", kinds[i].name, NULL);

        g_test_add_data_func(path, &kinds[i], test_kind);
    }
    for (guint seed = 1; seed <= 4; seed++) {
        g_autofree char *path = g_strdup_printf("/held-image/random/%u", seed);

        g_test_add_data_func(path, GUINT_TO_POINTER(seed), test_random);
    }
    g_test_add_func("/held-image/pieces", test_many_pieces);
    g_test_add_data_func("/held-image/map/too-long", "[ $1 != map ] || exec head -c 5000000 /dev/zero",
                         test_no_map);
    g_test_add_data_func("/held-image/map/fails", "[ $1 != map ] || exit 1", test_no_map);
    g_test_add_data_func("/held-image/map/nonsense",
                         "[ $1 != map ] || { echo '[{\"start\":7,\"length\":1}]'; exit; }",
                         test_no_map);
    g_test_add_data_func("/held-image/map/no-files", "[ $1 != info ] || exit 1", test_no_map);
    g_test_add_func("/held-image/past-server", test_past_server);
    g_test_add_func("/held-image/server-gone", test_server_gone);
    g_test_add_func("/held-image/locked", test_locked);
    g_test_add_data_func("/held-image/replaced/image", "i", test_replaced);
    g_test_add_data_func("/held-image/replaced/below", "base", test_replaced);
    g_test_add_func("/held-image/map/read", test_map_read);
    g_test_add_func("/held-image/map/hostile", test_map_hostile);
    g_test_add_func("/held-image/files", test_files_parse);
    result = g_test_run();
    empty_folder();
    (void) g_rmdir(folder);
    return result;
}
