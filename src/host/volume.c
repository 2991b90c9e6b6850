/*
 * volume.c - which file system of this host a path lies on, by its name
 */
#include "host/volume.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Where fields stand in a line, before the optional ones; and behind the "-". */
enum { MOUNT_ID = 0, MOUNT_POINT = 4, N_FIRST = 6 };
enum { TYPE = 0, SOURCE = 1, N_LAST = 2 };

/* Blanks, tabs, line ends and backslashes stand there as octal numbers. */
static char *
unescape(const char *field)
{
    return g_strcompress(field);
}

static char *
describe(char **first, const char *behind_dash)
{
    g_auto(GStrv) last = g_strsplit(behind_dash, " ", 3);
    g_autofree char *point = unescape(first[MOUNT_POINT]);
    g_autofree char *source = NULL;

    if (g_strv_length(last) < N_LAST)
        return NULL;
    source = unescape(last[SOURCE]);
    return g_strdup_printf("%s (%s on %s)", point, last[TYPE], source);
}

char *
kvss_volume_in_mountinfo(const char *text, uint64_t mount_id)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        /* "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw" */
        const char *dash = strstr(*line, " - ");
        g_auto(GStrv) first = g_strsplit(*line, " ", N_FIRST + 1);

        if (dash && g_strv_length(first) >= N_FIRST &&
            g_ascii_strtoull(first[MOUNT_ID], NULL, 10) == mount_id)
            return describe(first, dash + strlen(" - "));
    }
    return NULL;
}

char *
kvss_volume_of(const char *path)
{
    struct statx found;
    g_autofree char *text = NULL;

    if (statx(AT_FDCWD, path, 0, STATX_TYPE | STATX_MNT_ID, &found) < 0)
        return NULL;
    if (S_ISBLK(found.stx_mode))
        return g_strdup(path);
    if (!(found.stx_mask & STATX_MNT_ID) ||
        !g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;
    return kvss_volume_in_mountinfo(text, found.stx_mnt_id);
}
