/*
 * link.c - a second name for a file that somebody may take away
 */
#include "writer/domain/link.h"

#include <errno.h>
#include <gio/gio.h>
#include <unistd.h>

bool
kvss_link_or_copy(const char *from, const char *to, GError **error)
{
    g_autoptr(GFile) source = NULL;
    g_autoptr(GFile) target = NULL;

    if (link(from, to) == 0)
        return true;
    if (errno != EXDEV && errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
        return kvss_throw_errno(error, errno, "link %s", from);
    source = g_file_new_for_path(from);
    target = g_file_new_for_path(to);
    return g_file_copy(source, target, G_FILE_COPY_TARGET_DEFAULT_PERMS, NULL, NULL, NULL, error);
}
