/*
 * plan-paths.c - where a restore may write
 */
#include "base/system-path.h"
#include "catalogue/manifest.h"
#include "restore/plan.h"
#include "writer/domain/restore-steps.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
is_plain(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);

    for (guint i = 1; parts[i]; i++) {
        if (g_str_equal(parts[i], "..") || g_str_equal(parts[i], ".")
            || (!*parts[i] && parts[i + 1] == NULL))
            return false;
    }
    for (const char *c = path; *c; c++) {
        if (g_ascii_iscntrl(*c))
            return false;
    }
    return true;
}

bool
plan_check_path(const char *path, const char *chosen, GError **error)
{
    if (!g_path_is_absolute(path) || strlen(path) > 3000 || !is_plain(path))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "the backup names a path that is not allowed: %.200s", path);
    if (chosen && kvss_path_is_below(path, chosen))
        return true;
    if (kvss_path_is_systems(path))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "the backup names a path in the system's own folders: %.200s; "
                          "restore with --to DIR", path);
    return true;
}

/* The folder that the user named may itself be a link, or lie behind one. */
bool
plan_check_real_path(const char *real, const char *chosen, GError **error)
{
    g_autofree char *folder = chosen ? kvss_vm_real_path(chosen) : NULL;

    return plan_check_path(real, folder && kvss_path_is_below(real, folder) ? folder : chosen, error);
}

/*
 * In a folder that others may write to, a link leads where its maker wants: to a file
 * of the system's, or of another VM. Links that root has made are how the host is built.
 */
bool
plan_check_links(const char *path, const char *chosen, GError **error)
{
    size_t from = chosen && kvss_path_is_below(path, chosen) ? strlen(chosen) : 0;
    struct stat st;

    for (const char *end = strchr(path + from, '/'); end; end = strchr(end + 1, '/')) {
        const char *next = strchr(end + 1, '/');
        g_autofree char *part = next ? g_strndup(path, next - path) : g_strdup(path);

        if (lstat(part, &st) == 0 && S_ISLNK(st.st_mode) && st.st_uid != 0
            && st.st_uid != geteuid())
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                              "%s leads through %s, a symbolic link that user %u has put there",
                              path, part, (unsigned) st.st_uid);
    }
    return true;
}

char *
plan_safe_name(const KvssComponent *vm)
{
    g_autofree char *safe = kvss_manifest_safe_name(vm->display_name);

    if (g_str_equal(safe, vm->display_name))
        return g_steal_pointer(&safe);
    return g_strdup_printf("%s-%.8s", safe, vm->name);
}

static const char *
extension_of(const char *format)
{
    if (g_str_equal(format, "vpc"))
        return "vhd";
    return g_str_equal(format, "raw") ? "img" : format;
}

char *
plan_path_in(const char *folder, const KvssComponent *vm, const char *target, const char *format)
{
    g_autofree char *safe_vm = plan_safe_name(vm);
    g_autofree char *safe_target = kvss_manifest_safe_name(target);
    g_autofree char *name = g_strdup_printf("%s-%s.%s", safe_vm, safe_target,
                                            extension_of(format));

    return g_build_filename(folder, name, NULL);
}
