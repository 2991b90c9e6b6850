/*
 * folder.c - which files of a folder are writers
 */
#include "host/program.h"
#include "writer/program/program-writer.h"

#include <errno.h>
#include <string.h>

/* As run-parts has it: no editor's backups, no package manager's leftovers with odd names. */
static bool
check_name(const char *name, GError **error)
{
    for (const char *c = name; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("._-", *c))
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                              "its name has other characters than letters, digits, '.', '_', '-'");
    if (*name == '.')
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID, "it is hidden");
    return true;
}

static int
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

GPtrArray *
kvss_program_writers_find(const char *folder, KvssProgramRefused refused, gpointer data,
                          GError **error)
{
    g_autoptr(GDir) dir = NULL;
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    errno = 0;
    dir = g_dir_open(folder, 0, NULL);
    if (!dir) {
        kvss_throw_errno(error, errno, "look for writers in %s", folder);
        return NULL;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *shown = g_strescape(path, NULL);
        g_autofree char *reason = NULL;
        g_autoptr(GError) problem = NULL;

        if (check_name(name, &problem) && kvss_program_check(path, &problem)) {
            g_ptr_array_add(paths, g_steal_pointer(&path));
            continue;
        }
        reason = strstr(problem->message, path) ? g_strdup(problem->message)
                                                : g_strdup_printf("%s: %s", shown, problem->message);
        refused(reason, data);
    }
    g_ptr_array_sort(paths, by_name);
    return g_steal_pointer(&paths);
}
