/*
 * system-path.c - the system's own folders, which no VM's data belongs into
 */
#include "base/system-path.h"

#include <stddef.h>
#include <string.h>

static const char *const systems[] = {
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run",
    "/sbin", "/sys", "/usr", "/var/cache", "/var/lib/dpkg", "/var/lib/kvss", "/var/run", "/var/spool",
    NULL,
};

bool
kvss_path_is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);

    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

bool
kvss_path_is_systems(const char *path)
{
    for (int i = 0; systems[i]; i++)
        if (kvss_path_is_below(path, systems[i]))
            return true;
    return false;
}
