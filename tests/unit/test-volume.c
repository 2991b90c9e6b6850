/*
 * test-volume.c - the names of file systems, as the kernel lists them
 */
#include "host/volume.h"

#include <glib/gstdio.h>
#include <unistd.h>

static const char mountinfo[] =
    "21 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
    "36 21 98:0 /@images /srv rw,noatime shared:1 master:2 - btrfs /dev/mapper/vg\\040a-srv rw\n"
    "37 21 0:44 / /mnt/two\\040words\\134x rw - nfs4 server:/export rw,vers=4.2\n"
    "torn 38\n"
    "39 21 0:45 / /no/dash rw\n"
    "40 21 0:46 / /no/source rw - tmpfs\n";

static void
assert_volume(uint64_t mount_id, const char *expected)
{
    g_autofree char *volume = kvss_volume_in_mountinfo(mountinfo, mount_id);

    g_assert_cmpstr(volume, ==, expected);
}

static void
test_mountinfo(void)
{
    assert_volume(21, "/ (ext4 on /dev/root)");
    assert_volume(36, "/srv (btrfs on /dev/mapper/vg a-srv)");
    assert_volume(37, "/mnt/two words\\x (nfs4 on server:/export)");
    assert_volume(38, NULL);
    assert_volume(39, NULL);
    assert_volume(40, NULL);
    assert_volume(0, NULL);
}

/* A link lies where it leads to; what is not there lies nowhere. */
static void
test_paths(void)
{
    g_autofree char *folder = g_dir_make_tmp("kvss-volume-XXXXXX", NULL);
    g_autofree char *link = g_build_filename(folder, "link", NULL);
    g_autofree char *proc = kvss_volume_of("/proc/self/status");
    g_autofree char *linked = NULL, *absent = NULL;

    g_assert_cmpint(symlink("/proc/self/status", link), ==, 0);
    linked = kvss_volume_of(link);
    g_assert_true(g_str_has_prefix(proc, "/proc (proc on "));
    g_assert_cmpstr(linked, ==, proc);
    (void) g_remove(link);
    absent = kvss_volume_of(link);
    g_assert_null(absent);
    (void) g_rmdir(folder);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/volume/mountinfo", test_mountinfo);
    g_test_add_func("/volume/paths", test_paths);
    return g_test_run();
}
