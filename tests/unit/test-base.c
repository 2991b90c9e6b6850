/*
 * test-base.c - errors, undo, whole reads and writes, files that appear whole
 */
#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/members.h"
#include "base/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
test_error_codes(void)
{
    static const struct {
        int errsv;
        int code;
    } cases[] = {
        { ENOENT, KVSS_IO_ERROR_NOT_FOUND }, { ENOSPC, KVSS_IO_ERROR_NO_SPACE },
        { EDQUOT, KVSS_IO_ERROR_NO_SPACE },  { EBUSY, KVSS_IO_ERROR_BUSY },
        { ETIMEDOUT, KVSS_IO_ERROR_TIMED_OUT }, { EIO, KVSS_IO_ERROR_FAILED },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_throw_errno(&error, cases[i].errsv, "open %s", "x"));
        g_assert_error(error, KVSS_IO_ERROR, cases[i].code);
        g_assert_true(g_str_has_prefix(error->message, "open x: "));
    }
    g_assert_false(kvss_throw(NULL, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "nobody hears it"));
}

static void
test_cancelled(void)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_check_cancelled(NULL, &error));
    g_assert_true(kvss_check_cancelled(cancellable, &error));
    g_cancellable_cancel(cancellable);
    g_assert_false(kvss_check_cancelled(cancellable, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
}

static GString *order;

static void
note(gpointer data)
{
    g_string_append(order, data);
}

/* Last done, first undone; released, nothing runs; what was given to it is freed either way. */
static void
test_undo(void)
{
    KvssUndo *undo = kvss_undo_new();

    order = g_string_new(NULL);
    kvss_undo_push(undo, note, (gpointer) "a");
    kvss_undo_push_full(undo, note, g_strdup("b"), g_free);
    kvss_undo_push(undo, note, (gpointer) "c");
    kvss_undo_free(undo);
    g_assert_cmpstr(order->str, ==, "cba");

    undo = kvss_undo_new();
    kvss_undo_push_full(undo, note, g_strdup("d"), g_free);
    kvss_undo_release(undo);
    kvss_undo_push(undo, note, (gpointer) "e");
    kvss_undo_free(undo);
    kvss_undo_free(NULL);
    g_assert_cmpstr(order->str, ==, "cbae");
    g_string_free(order, TRUE);
}

/* Not every file system that tests run on has such a way. */
static void
test_fd_direct(int fd)
{
    kvss_autofd int direct = kvss_fd_open_direct(fd);
    uint8_t *block = g_aligned_alloc(1, KVSS_DIRECT_ALIGNMENT, KVSS_DIRECT_ALIGNMENT);
    uint8_t found[3];
    int pipes[2];

    memset(block, 7, KVSS_DIRECT_ALIGNMENT);
    if (direct >= 0) {
        g_assert_cmpint(pwrite(direct, block, KVSS_DIRECT_ALIGNMENT, 0), ==, KVSS_DIRECT_ALIGNMENT);
        g_assert_true(kvss_pread_exact(fd, found, sizeof found, 1, NULL));
        g_assert_cmpmem(found, sizeof found, "\7\7\7", 3);
    }
    g_assert_cmpint(pipe(pipes), ==, 0);
    g_assert_cmpint(kvss_fd_open_direct(pipes[1]), ==, -1);
    (void) close(pipes[0]);
    (void) close(pipes[1]);
    g_aligned_free(block);
}

static void
test_fd(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "kvss-fd-XXXXXX", NULL);
    kvss_autofd int fd = g_mkstemp(path);
    g_autoptr(GError) error = NULL;
    char buffer[8] = "";
    int taken;

    g_assert_true(kvss_write_exact(fd, "0123456789", 10, &error));
    g_assert_true(kvss_pwrite_exact(fd, "AB", 2, 4, &error));
    g_assert_true(kvss_pread_exact(fd, buffer, 4, 3, &error));
    g_assert_cmpmem(buffer, 4, "3AB6", 4);
    g_assert_false(kvss_pread_exact(fd, buffer, 4, 8, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    g_clear_error(&error);
    g_assert_false(kvss_pread_exact(-1, buffer, 1, 0, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED);

    test_fd_direct(fd);
    taken = kvss_fd_steal(&fd);
    g_assert_cmpint(fd, ==, -1);
    errno = 77;
    kvss_fd_clear(&taken);
    g_assert_cmpint(errno, ==, 77);
    g_assert_cmpint(taken, ==, -1);
    g_unlink(path);
}

static void
test_atomic_file(void)
{
    g_autofree char *dir = g_dir_make_tmp("kvss-atomic-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "file", NULL);
    g_autofree char *nowhere = g_build_filename(dir, "no", "file", NULL);
    g_autofree char *content = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_true(kvss_atomic_file_write(path, "old", 3, 0600, &error));
    g_assert_true(kvss_atomic_file_write(path, "newer", 5, 0644, &error));
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "newer");
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0644);
    g_assert_false(kvss_atomic_file_write(nowhere, "x", 1, 0600, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);

    /* A folder in the way: it stays, and nothing is left beside it. */
    g_unlink(path);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    g_clear_error(&error);
    g_assert_false(kvss_atomic_file_write(path, "x", 1, 0600, &error));
    g_rmdir(path);
    g_assert_cmpint(g_rmdir(dir), ==, 0);
}

static void
test_make_folders(void)
{
    g_autofree char *dir = g_dir_make_tmp("kvss-base-XXXXXX", NULL);
    g_autofree char *above = g_build_filename(dir, "a", NULL);
    g_autofree char *deep = g_build_filename(above, "b", NULL);
    g_autofree char *file = g_build_filename(deep, "file", NULL);
    g_autofree char *below = g_build_filename(file, "c", NULL);
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_true(kvss_make_folders(deep, 0700, &error));
    g_assert_true(kvss_make_folders(deep, 0700, &error));
    g_assert_cmpint(stat(above, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0700);

    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    g_assert_false(kvss_make_folders(file, 0700, &error));
    g_assert_nonnull(strstr(error->message, file));
    g_clear_error(&error);
    g_assert_false(kvss_make_folders(below, 0700, &error));
    g_assert_nonnull(strstr(error->message, below));
    g_assert_true(unlink(file) == 0 && rmdir(deep) == 0 && rmdir(above) == 0 && rmdir(dir) == 0);
}

static void
test_members(void)
{
    static const struct {
        const char *text, *complaint; /* NULL: it is good */
    } cases[] = {
        { "{}", NULL },
        { " {\"a\":[{\"a\":1},{\"a\":\":{\"}]}\n", NULL },
        { "", "is not UTF-8 text" },
        { "[{}]", "is not an object" },
        { "{} {}", "byte 3 comes after its end" },
        { "{\"a\":1}{\"a\":2}", "byte 7 comes after its end" },
        { "{\"a\":1} x", "byte 8 comes after its end" },
        { "{\"a\":1,\"b\":[{\"c\":1,\"c\":2}]}", "has a member twice" },
        { "{\"a\":1", "is no JSON" },
        { "{\"a", "a string has no end" },
        { "{\"a\":\"x\\u0000y\"}", "a NUL in it" },
        { "{\"a\":\"x\\\\u0000y\"}", NULL },
        { "}", "byte 0 closes what was not open" },
        { "/* */ {}", "byte 0 is no JSON" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) bytes = g_bytes_new_static(cases[i].text, strlen(cases[i].text));
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = kvss_members_parse(bytes, &error);

        g_test_message("%s", cases[i].text);
        g_assert_true((node != NULL) == (cases[i].complaint == NULL));
        if (!cases[i].complaint)
            continue;
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, cases[i].complaint));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/error-codes", test_error_codes);
    g_test_add_func("/base/cancelled", test_cancelled);
    g_test_add_func("/base/undo", test_undo);
    g_test_add_func("/base/fd", test_fd);
    g_test_add_func("/base/atomic-file", test_atomic_file);
    g_test_add_func("/base/make-folders", test_make_folders);
    g_test_add_func("/base/members", test_members);
    return g_test_run();
}
