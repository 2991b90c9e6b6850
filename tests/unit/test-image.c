/*
 * test-image.c - disk images: looked at, made again, refused
 */
#include "host/image.h"
#include "host/process.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (G_GUINT64_CONSTANT(1) << 20)

static char folder[] = "/tmp/kvss-image-XXXXXX";

static char *
in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void
run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;

    (void) !kvss_process_run(argv, 30000, NULL, NULL, &error);
    g_assert_no_error(error);
}

/* Makes an image with qemu-img, looks at it, makes the same again, compares what both say. */
static void
check_again(const char *format, const char *made_with, uint64_t size, const char *expect)
{
    g_autofree char *first = in_folder("first");
    g_autofree char *second = in_folder("second");
    g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    g_autoptr(KvssImageInfo) a = NULL;
    g_autoptr(KvssImageInfo) b = NULL;
    g_autoptr(GError) error = NULL;

    run((const char *[]){ "qemu-img", "create", "-q", "-f", format, "-o", made_with, first, number,
                          NULL });
    a = kvss_image_info(first, format, false, &error);
    g_assert_no_error(error);
    g_assert_nonnull(strstr(a->options, expect));

    g_assert_true(kvss_image_create(second, format, a->size, a->options, &error));
    g_assert_no_error(error);
    b = kvss_image_info(second, format, false, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(b->size, ==, a->size);
    g_assert_cmpstr(b->options, ==, a->options);
    (void) g_remove(first);
    (void) g_remove(second);
}

static void
test_made_again(void)
{
    check_again("qcow2", "cluster_size=64k", 10 * MIB, "\"compat\":\"1.1\"");
    check_again("qcow2", "compat=0.10", 10 * MIB, "\"compat\":\"0.10\"");
    check_again("qcow2", "cluster_size=2M,lazy_refcounts=on,refcount_bits=64", 10 * MIB,
                "\"refcount_bits\":64");
    check_again("qcow2", "extended_l2=on,cluster_size=128k,compression_type=zstd", 10 * MIB,
                "\"extended_l2\":true");
    check_again("qcow2", "preallocation=falloc", 3 * MIB, "falloc");
    check_again("raw", "preallocation=off", 3 * MIB, "{}");
    check_again("raw", "preallocation=falloc", 3 * MIB, "falloc");
    check_again("vpc", "subformat=fixed", 10 * MIB, "\"fixed\"");
    check_again("vpc", "subformat=dynamic,force_size=on", 10 * MIB + 512, "\"dynamic\"");
    check_again("vhdx", "subformat=fixed,block_size=2M", 10 * MIB, "\"block_size\":2097152");
    check_again("vhdx", "subformat=dynamic,log_size=2M", 10 * MIB, "\"log_size\":2097152");
    check_again("vdi", "static=on", 10 * MIB, "\"static\":true");
    check_again("vdi", "static=off", 10 * MIB, "\"static\":false");
    check_again("qed", "cluster_size=128k", 10 * MIB, "131072");
    check_again("vmdk", "adapter_type=ide", 10 * MIB, "{}");
}

static void
test_chain(void)
{
    g_autofree char *base = in_folder("base.raw");
    g_autofree char *top = in_folder("top.qcow2");
    g_autoptr(KvssImageInfo) info = NULL;
    g_autoptr(GError) error = NULL;
    const KvssImageLink *link;

    run((const char *[]){ "qemu-img", "create", "-q", "-f", "raw", base, "1M", NULL });
    run((const char *[]){ "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top,
                          NULL });
    info = kvss_image_info(top, "qcow2", false, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(info->backing->len, ==, 1);
    link = g_ptr_array_index(info->backing, 0);
    g_assert_cmpstr(link->path, ==, base);
    g_assert_cmpstr(link->format, ==, "raw");
    g_assert_nonnull(strstr(info->options, "base.raw (raw)"));

    (void) g_remove(top);
    g_assert_true(kvss_image_create(top, "qcow2", info->size, info->options, &error));
    g_clear_pointer(&info, kvss_image_info_free);
    info = kvss_image_info(top, "qcow2", false, &error);
    g_assert_cmpuint(info->backing->len, ==, 0);
    (void) g_remove(top);
    (void) g_remove(base);
}

static void
assert_not_created(const char *format, const char *options)
{
    g_autofree char *path = in_folder("hostile");
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_image_create(path, format, MIB, options, &error));
    g_assert_nonnull(error);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static char *
identity(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssImageInfo) info = kvss_image_info(path, "qcow2", false, &error);

    g_assert_no_error(error);
    return kvss_image_identity(path, info);
}

/* What lies below is a part of the content that no bitmap above tells of. */
static void
test_identity(void)
{
    g_autofree char *base = in_folder("base"), *other = in_folder("other"), *top = in_folder("top");
    g_autofree char *first = NULL, *again = NULL, *written = NULL, *exchanged = NULL, *gone = NULL;

    run((const char *[]){ "qemu-img", "create", "-q", "-f", "raw", base, "1M", NULL });
    run((const char *[]){ "qemu-img", "create", "-q", "-f", "raw", other, "1M", NULL });
    run((const char *[]){ "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top, NULL });
    first = identity(top);
    again = identity(top);
    g_assert_nonnull(first);
    g_assert_cmpstr(again, ==, first);

    run((const char *[]){ "touch", "-d", "2001-01-01", base, NULL });
    written = identity(top);
    g_assert_cmpstr(written, !=, first);

    run((const char *[]){ "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", other, "-F", "raw", top, NULL });
    exchanged = identity(top);
    g_assert_nonnull(exchanged);
    g_assert_cmpstr(exchanged, !=, written);

    (void) g_remove(other);
    gone = identity(top);
    g_assert_null(gone);
    (void) g_remove(top);
    (void) g_remove(base);
}

static void
test_hostile_options(void)
{
    g_autofree char *path = in_folder("hostile");
    g_autoptr(KvssImageInfo) info = NULL;
    g_autoptr(GError) error = NULL;

    assert_not_created("qcow2", "not json");
    assert_not_created("qcow2", "[1]");
    assert_not_created("qcow2", "{\"cluster_size\":\"65536,backing_file=/etc/shadow\"}");
    assert_not_created("qcow2", "{\"cluster_size\":1}");
    assert_not_created("qcow2", "{\"cluster_size\":65537}");
    assert_not_created("qcow2", "{\"cluster_size\":{}}");
    assert_not_created("qcow2", "{\"compat\":\"1.1,backing_file=/etc/shadow\"}");
    assert_not_created("qcow2", "{\"lazy_refcounts\":\"on\"}");
    assert_not_created("raw", "{\"preallocation\":\"full\"}");
    assert_not_created("dmg", "{}");
    assert_not_created("qcow2 -o backing_file=x", "{}");

    /* Names that are not in the table do nothing. */
    g_assert_true(kvss_image_create(
        path, "qcow2", MIB, "{\"backing_file\":\"/etc/shadow\",\"data_file\":\"/tmp/x\"}",
        &error));
    g_assert_no_error(error);
    info = kvss_image_info(path, "qcow2", false, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(info->backing->len, ==, 0);
    g_assert_null(strstr(info->options, "data_file"));
    (void) g_remove(path);
}

/* What lies in the way is neither written nor followed. */
static void
test_in_the_way(void)
{
    g_autofree char *path = in_folder("there");
    g_autofree char *link = in_folder("link");
    g_autofree char *missing = in_folder("missing/image");
    g_autofree char *text = NULL;
    GError *error = NULL;

    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    g_assert_cmpint(symlink(path, link), ==, 0);
    g_assert_false(kvss_image_create(path, "raw", MIB, NULL, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_false(kvss_image_create(link, "raw", MIB, NULL, &error));
    g_clear_error(&error);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");

    g_assert_false(kvss_image_create(missing, "raw", MIB, NULL, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(kvss_image_info(missing, "raw", false, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(kvss_image_info("nbd:localhost:1", "raw", false, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    g_clear_error(&error);
    (void) g_remove(link);
    (void) g_remove(path);
}

static void
test_process(void)
{
    g_autofree char *text = NULL;
    GError *error = NULL;
    gint64 start_us = g_get_monotonic_time();

    g_assert_true(kvss_process_run((const char *[]){ "echo", "a;b", NULL }, 5000, NULL, &text,
                                   &error));
    g_assert_cmpstr(text, ==, "a;b\n");

    g_assert_false(kvss_process_run((const char *[]){ "sleep", "600", NULL }, 200, NULL, NULL,
                                    &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT);
    g_clear_error(&error);
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 300 * G_USEC_PER_SEC);

    g_assert_false(kvss_process_run((const char *[]){ "kvss-no-such-program", NULL }, 200, NULL,
                                    NULL, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED);
    g_clear_error(&error);

    g_assert_false(kvss_process_run(
        (const char *[]){ "sh", "-c", "echo first >&2; echo the reason >&2; exit 3", NULL }, 5000,
        NULL, NULL, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);
    g_assert_cmpstr(error->message, ==, "sh: the reason");
    g_clear_error(&error);

    g_assert_false(kvss_process_run((const char *[]){ "yes", NULL }, 5000, NULL, NULL, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID);
    g_clear_error(&error);
}

static void
test_process_cancelled(void)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;

    g_cancellable_cancel(cancellable);
    g_assert_false(kvss_process_run((const char *[]){ "sleep", "600", NULL }, 20000, cancellable,
                                    NULL, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
}

int
main(int argc, char **argv)
{
    g_autofree char *tool = g_find_program_in_path("qemu-img");
    int result;

    g_test_init(&argc, &argv, NULL);
    g_assert_nonnull(g_mkdtemp(folder));
    g_test_add_func("/process/run", test_process);
    g_test_add_func("/process/cancelled", test_process_cancelled);
    if (tool) {
        g_test_add_func("/image/made-again", test_made_again);
        g_test_add_func("/image/chain", test_chain);
        g_test_add_func("/image/identity", test_identity);
        g_test_add_func("/image/hostile-options", test_hostile_options);
        g_test_add_func("/image/in-the-way", test_in_the_way);
    }
    result = g_test_run();
    (void) g_rmdir(folder);
    return result;
}
