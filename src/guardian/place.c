/*
 * place.c - a folder, known again by its number in its file system
 *
 * The number of the file system itself may be another one after a boot.
 */
#include "guardian/place.h"

#include <sys/stat.h>

gint64
kvss_place_number(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct stat st;

    return stat(folder, &st) == 0 ? (gint64) st.st_ino : 0;
}

bool
kvss_place_check(gint64 noted, const char *path, GError **error)
{
    if (noted == 0 || noted == kvss_place_number(path))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                      "the folder of %s is not the one that it was: mount its file system, then run "
                      "'kvss doctor'", path);
}
