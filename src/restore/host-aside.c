/*
 * host-aside.c - what a writer has now is set aside, or only told
 */
#include "guardian/place.h"
#include "restore/host-parts.h"
#include "provider/files/walk.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 200000u

/** The walk over what the writer declares now. */
typedef struct {
    Plan *plan;
    const PlanHost *host;
    KvssRun *run; /* NULL: only told */
    GHashTable *seen;
} Aside;

/*
 * A stale file beside those of the set goes. A folder of which the set has nothing (a new
 * tablespace, files of a component that was not asked for) is not known to be stale.
 */
static bool
is_unknown_folder(const Aside *aside, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return !g_hash_table_contains(aside->plan->host_folders, folder);
}

static bool
journal_aside(const Aside *aside, const char *from, const char *to, bool keep, GError **error)
{
    JsonObject *details = json_object_new();
    KvssActId act;

    json_object_set_string_member(details, "from", from);
    json_object_set_string_member(details, "to", to);
    json_object_set_int_member(details, "place", kvss_place_number(from));
    json_object_set_boolean_member(details, "keep", keep);
    return host_journal(aside->plan, aside->host, aside->run, KVSS_ACT_ASIDE, details, &act, error);
}

static void
count_kept(const Aside *aside, const char *path)
{
    char *folder = g_path_get_dirname(path);
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(aside->host->kept, folder));

    g_hash_table_insert(aside->host->kept, folder, GUINT_TO_POINTER(n + 1));
}

static bool
aside_one(const Aside *aside, int folder, const char *name, const char *path, GError **error)
{
    g_autofree char *to = kvss_vm_aside_path(path, aside->plan->id);
    g_autofree char *to_name = g_path_get_basename(to);
    bool is_unknown = is_unknown_folder(aside, path);
    bool keep_old = aside->plan->options->keep_old;

    if (!journal_aside(aside, path, to, keep_old || is_unknown, error))
        return false;
    if (renameat2(folder, name, folder, to_name, RENAME_NOREPLACE) < 0)
        return kvss_throw_errno(error, errno, "set %s aside", path);
    if (fsync(folder) < 0)
        return kvss_throw_errno(error, errno, "sync the folder of %s", path);
    if (is_unknown && !keep_old)
        count_kept(aside, path);
    if (keep_old)
        g_ptr_array_add(aside->host->result->notes, g_strdup_printf("%s was kept as %s", path, to));
    return true;
}

/* Found twice where sets overlap, or where a folder is read while it changes. */
static bool
aside_found(Walk *walk, int folder, const char *name, const char *path, const struct stat *st,
            GError **error)
{
    Aside *aside = walk->data;

    if (!g_hash_table_add(aside->seen, g_strdup(path)))
        return true;
    if (aside->run)
        return aside_one(aside, folder, name, path, error);
    aside->plan->sets_aside = true;
    host_say(aside->plan, aside->host, "%s is set aside%s", path,
         is_unknown_folder(aside, path) ? " and kept: the backup has no file of its folder" : "");
    return true;
}

/* ---- folders of our own ---- */

static void
add_ours(GHashTable *ours, const char *path, const char *what)
{
    struct stat st;

    if (path && stat(path, &st) == 0)
        g_hash_table_insert(ours, walk_folder_key(&st), (gpointer) what);
}

GHashTable *
host_ours(const KvssRestoreOptions *options)
{
    GHashTable *ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    add_ours(ours, options->state_dir, "the state folder of kvss");
    add_ours(ours, kvss_repository_folder(options->repository), "the repository");
    return ours;
}

static bool
throw_ours(const PlanHost *host, const KvssFileSet *files, const char *path, const char *what,
           GError **error)
{
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s: its writer declares %s, and %s is %s, which the restore itself needs: "
                      "restore with --to DIR", host_name(host), files->path, path, what);
}

/* Not even with a name that does not match: what matches today is the writer's to say. */
static bool
refuse_ours(Walk *walk, const char *path, const char *what, GError **error)
{
    const Aside *aside = walk->data;

    return throw_ours(aside->host, walk->files, path, what, error);
}

static const char *
what_of_ours(GHashTable *ours, const char *path)
{
    struct stat st;
    g_autofree char *key = stat(path, &st) == 0 ? walk_folder_key(&st) : NULL;

    return key ? g_hash_table_lookup(ours, key) : NULL;
}

/* The declared folder itself, or one above it, is ours. */
static bool
check_above(const Aside *aside, const KvssFileSet *files, GError **error)
{
    g_autofree char *path = g_strdup(files->path);
    char *slash;

    do {
        const char *what = what_of_ours(aside->plan->ours, path);

        if (what)
            return throw_ours(aside->host, files, path, what, error);
        slash = strrchr(path, '/');
        if (slash)
            *slash = '\0';
    } while (slash && *path);
    return true;
}

/* Of our run's own work folder nothing is any writer's. */
static GHashTable *
skip_of(const KvssRun *run)
{
    GHashTable *skip = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (run)
        add_ours(skip, kvss_run_folder(run), "");
    return skip;
}

/* ---- all of it ---- */

static bool
is_folder_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || errno != ENOENT;
}

/* All that the writer declares now goes: a log beside an older database would ruin it. */
bool
host_aside_all(Plan *plan, const PlanHost *host, KvssRun *run, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) skip = skip_of(run);
    Aside aside = { plan, host, run, seen };
    unsigned entries_left = ENTRIES_MAX;

    for (guint i = 0; host->live && i < host->live->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(host->live->file_sets, i);
        Walk walk = {
            .files = files,
            .cancellable = plan->options->cancellable,
            .entries_left = &entries_left,
            .skip = skip,
            .ours = plan->ours,
            .met_ours = refuse_ours,
            .found = aside_found,
            .data = &aside,
        };

        if (!check_above(&aside, files, error)
            || (is_folder_there(files->path) && !walk_run(&walk, error)))
            return false;
    }
    return true;
}

bool
host_aside_file(Plan *plan, const PlanHost *host, KvssRun *run, int folder, const char *name,
                const char *path, GError **error)
{
    Aside aside = { plan, host, run, NULL };

    return aside_one(&aside, folder, name, path, error);
}
