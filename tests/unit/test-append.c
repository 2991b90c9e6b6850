/*
 * A file written from its beginning to its end: the same bytes past the page cache and through it.
 */
#include "base/fd.h"
#include "repository/backend/append.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define MIB (1u << 20)

/* Without a name; -1 where there is no such folder. */
static int
new_file(const char *folder)
{
    return open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static bool
is_direct(int fd)
{
    return (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
}

/* Writes @length bytes in parts of @part at the file's position, and reads them again. */
static void
check_written(int fd, size_t length, size_t part)
{
    g_autofree uint8_t *data = g_malloc(length + 1), *found = g_malloc(length + 1);
    g_autoptr(GError) error = NULL;
    off_t start = lseek(fd, 0, SEEK_CUR);
    KvssAppend append;

    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t) (i * 2654435761u >> 13);
    kvss_append_begin(&append, fd);
    for (size_t at = 0; at < length; at += part)
        g_assert_true(kvss_append_write(&append, data + at, MIN(part, length - at), &error));
    g_assert_true(kvss_append_end(&append, &error));
    kvss_append_clear(&append);
    g_assert_no_error(error);
    g_assert_false(is_direct(fd));
    g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, start + (off_t) length);
    g_assert_true(kvss_pread_exact(fd, found, length, (uint64_t) start, NULL));
    g_assert_cmpmem(found, length, data, length);
}

static void
check_folder(const char *folder)
{
    static const size_t lengths[] = { 0, 1, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 4097 };
    static const size_t parts[] = { 1000, 4096, 130001, MIB, 5 * MIB };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++)
        for (size_t k = 0; k < G_N_ELEMENTS(parts); k++) {
            kvss_autofd int fd = new_file(folder);

            if (fd < 0) {
                g_test_skip(folder);
                return;
            }
            check_written(fd, lengths[i], parts[k]);
        }
}

/* On a disk, where the file system most likely allows it. */
static void
test_disk(void)
{
    check_folder(".");
    check_folder(g_get_tmp_dir());
}

/* In memory there is nothing to go past. */
static void
test_memory(void)
{
    kvss_autofd int fd = new_file("/dev/shm");

    if (fd >= 0)
        g_assert_false(kvss_fd_enter_direct(fd));
    check_folder("/dev/shm");
}

/* Where the disk refuses a piece for how it lies the file is whole all the same. */
static void
test_refused(void)
{
    kvss_autofd int fd = new_file(".");

    if (fd < 0 || !kvss_fd_enter_direct(fd)) {
        g_test_skip("no way past the page cache here");
        return;
    }
    kvss_fd_leave_direct(fd);
    g_assert_cmpint(lseek(fd, 1, SEEK_SET), ==, 1);
    check_written(fd, 2 * MIB + 3, 100000);
}

/* Dropped in the middle: nothing leaks, and what is not written out is not missed. */
static void
test_dropped(void)
{
    kvss_autofd int fd = new_file(".");
    KvssAppend append;

    if (fd < 0) {
        g_test_skip("no nameless files here");
        return;
    }
    kvss_append_begin(&append, fd);
    g_assert_true(kvss_append_write(&append, "abc", 3, NULL));
    kvss_append_clear(&append);
    kvss_append_clear(&append);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/append/disk", test_disk);
    g_test_add_func("/append/memory", test_memory);
    g_test_add_func("/append/refused", test_refused);
    g_test_add_func("/append/dropped", test_dropped);
    return g_test_run();
}
