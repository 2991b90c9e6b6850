/*
 * host.c - components of writers that are not about VMs, put back
 *
 * What if we die here? Everything is in the journal before it is done: each old file
 * that is set aside, each folder and each file that is made. A new file is written
 * under a name of ours, and gets its own name by a rename that replaces nothing; the
 * journal knows it by its inode, so that undo never removes what somebody else put there.
 */
#include "restore/host.h"
#include "base/beneath.h"
#include "base/fd.h"
#include "base/test-point.h"
#include "provider/files/walk.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"
#include "writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_LENGTH (1024u * 1024)
/* What a writer carries beside its files: a note, a position in a log. */
#define NOTE_MAX (16u * 1024 * 1024)
#define ENTRIES_MAX 200000u
/* A folder that is gone: for its owner, readable for others as is usual. */
#define FOLDER_MODE 0755

void
host_free(gpointer data)
{
    PlanHost *host = data;

    if (!host->component_is_taken)
        kvss_component_free(host->component);
    kvss_restored_component_free(host->result);
    g_ptr_array_unref(host->files);
    g_hash_table_unref(host->kept);
    g_free(host);
}

static const char *
name_of(const PlanHost *host)
{
    return host->stored->component->display_name;
}

/* ---- the plan ---- */

static bool
throw_absent(const PlanHost *host, const char *what, GError **error)
{
    g_autofree char *code = kvss_hresult_in_brackets(KVSS_E_OBJECT_NOT_FOUND);

    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                      "%s: %s: name the VMs to restore them without it, or write its files into a "
                      "folder with --to DIR %s", name_of(host), what, code);
}

static KvssComponent *
find_declared(const KvssWriter *writer, const KvssComponent *stored)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *live = g_ptr_array_index(writer->components, i);

        if (strcmp(live->name, stored->name) == 0
            && g_strcmp0(live->logical_path, stored->logical_path) == 0)
            return live;
    }
    return NULL;
}

/* The writer that is here now, and what it declares now. */
static bool
find_writer(const Plan *plan, PlanHost *host, GError **error)
{
    KvssCoordinator *coordinator = plan->options->host_coordinator;
    GPtrArray *writers = coordinator ? kvss_coordinator_writers(coordinator) : NULL;
    const char *why = "its writer is not here";

    for (guint i = 0; writers && i < writers->len; i++) {
        KvssWriter *writer = g_ptr_array_index(writers, i);

        if (g_ascii_strcasecmp(writer->ops->class_id, host->stored->writer) != 0)
            continue;
        if (kvss_writer_has_dropped_out(writer)) {
            why = "its writer cannot say what it has";
            continue;
        }
        why = "its writer does not have this component now";
        host->writer = writer;
        host->live = find_declared(writer, host->stored->component);
        if (host->live)
            return true;
    }
    return throw_absent(host, why, error);
}

static bool
is_declared(const KvssComponent *live, const char *path)
{
    for (guint i = 0; i < live->file_sets->len; i++)
        if (kvss_file_set_has(g_ptr_array_index(live->file_sets, i), path))
            return true;
    return false;
}

static bool
check_original(const PlanHost *host, const char *original, GError **error)
{
    if (!kvss_is_plain_path(original) || strlen(original) > 3000)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: the backup names a path that is not allowed: %.200s", name_of(host),
                          original);
    if (host->live && !is_declared(host->live, original))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: its writer does not declare %s now, so nothing is written there: "
                          "restore with --to DIR", name_of(host), original);
    return true;
}

static void
plan_file(Plan *plan, PlanHost *host, const KvssFile *stored, const char *relative)
{
    g_autofree char *path = g_build_filename(plan->options->to_dir ? plan->options->to_dir : "/",
                                             relative, NULL);
    PlanFile *file = g_new0(PlanFile, 1);

    file->stored = stored;
    file->file = kvss_component_add_file(host->component, stored->name, path, stored->mode & 0777);
    kvss_set_string(&file->file->original, stored->original);
    file->file->uid = stored->uid;
    file->file->gid = stored->gid;
    g_ptr_array_add(host->files, file);
    g_hash_table_add(plan->host_folders, g_path_get_dirname(path));
}

/* What its writer carried beside its files has no place of its own: it is given back to it. */
static bool
plan_note(Plan *plan, PlanHost *host, const KvssFile *stored, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    g_autofree char *relative = g_build_filename(host->stored->dir, stored->name, NULL);
    g_autoptr(GBytes) bytes = NULL;

    if (options->to_dir) {
        plan_file(plan, host, stored, relative);
        return true;
    }
    bytes = kvss_backup_read_file(options->repository, options->backup, host->stored, stored,
                                  NOTE_MAX, error);
    if (bytes)
        (void) kvss_component_add_bytes(host->component, stored->name, bytes, stored->mode);
    return bytes != NULL;
}

static bool
plan_files(Plan *plan, PlanHost *host, GError **error)
{
    const GPtrArray *files = host->stored->component->files;

    for (guint i = 0; i < files->len; i++) {
        const KvssFile *stored = g_ptr_array_index(files, i);
        g_autofree char *relative = NULL;

        if (!stored->original) {
            if (!plan_note(plan, host, stored, error))
                return false;
            continue;
        }
        if (!check_original(host, stored->original, error))
            return false;
        relative = plan->options->to_dir
            ? g_build_filename(host->stored->dir, stored->original + 1, NULL)
            : g_strdup(stored->original + 1);
        plan_file(plan, host, stored, relative);
    }
    return true;
}

static void
component_fill(PlanHost *host)
{
    const KvssComponent *stored = host->stored->component;
    KvssComponent *component = host->component;

    kvss_set_string(&component->logical_path, stored->logical_path);
    kvss_set_string(&component->caption, stored->caption);
    kvss_set_string(&component->metadata, stored->metadata);
    for (guint i = 0; host->live && i < host->live->file_sets->len; i++) {
        const KvssFileSet *live = g_ptr_array_index(host->live->file_sets, i);

        kvss_component_add_file_set(component, live->path, live->filespec, live->is_recursive)
            ->is_stable = live->is_stable;
    }
}

static void
note_not_covered(Plan *plan, PlanHost *host)
{
    const GPtrArray *list = host->stored->component->not_covered;

    for (guint i = 0; i < list->len; i++) {
        const KvssNotCovered *gap = g_ptr_array_index(list, i);

        plan->is_partial |= gap->is_writable;
        g_ptr_array_add(host->result->notes,
                        g_strdup_printf("%s was not in the backup", gap->target));
    }
}

bool
host_plan(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    PlanHost *host = g_new0(PlanHost, 1);

    host->stored = stored;
    host->files = g_ptr_array_new_with_free_func(g_free);
    host->kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->component = kvss_component_new(stored->component->name,
                                         stored->component->display_name);
    host->result = kvss_restored_component_new(stored);
    g_ptr_array_add(plan->hosts, host);
    if (stored->component->disks->len > 0)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: has disks, and is no VM: use restic", name_of(host));
    if (!plan->options->to_dir && !find_writer(plan, host, error))
        return false;
    component_fill(host);
    note_not_covered(plan, host);
    if (!plan_files(plan, host, error))
        return false;
    host->result->files = host->files->len;
    plan->total_bytes += stored->bytes;
    return true;
}

static void G_GNUC_PRINTF(3, 4)
step(Plan *plan, const PlanHost *host, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(plan->steps, g_strdup_printf("%s: %s", name_of(host), text));
}

/* ---- what is there now ---- */

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
    json_object_set_boolean_member(details, "keep", keep);
    act = kvss_run_act_begin(aside->run, KVSS_ACT_ASIDE, details, error);
    if (act)
        g_array_append_val(aside->plan->host_acts, act);
    return act != 0;
}

static void
count_kept(const Aside *aside, const char *path)
{
    char *folder = g_path_get_dirname(path);
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(aside->host->kept, folder));

    g_hash_table_insert(aside->host->kept, folder, GUINT_TO_POINTER(n + 1));
}

static bool
set_aside(const Aside *aside, int folder, const char *name, const char *path, GError **error)
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
        return set_aside(aside, folder, name, path, error);
    step(aside->plan, aside->host, "%s is set aside%s", path,
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
                      "restore with --to DIR", name_of(host), files->path, path, what);
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

static bool
is_folder_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || errno != ENOENT;
}

/* All that the writer declares now goes: a log beside an older database would ruin it. */
static bool
aside_all(Plan *plan, const PlanHost *host, KvssRun *run, GError **error)
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

static bool
check_places(const PlanHost *host, GHashTable *places, GError **error)
{
    for (guint i = 0; i < host->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(host->files, i);

        if (!g_hash_table_add(places, file->file->path))
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                              "%s: two files of the backup belong to %s", name_of(host),
                              file->file->path);
    }
    return true;
}

static bool
check_apart(const PlanHost *host, const char *path, const char *vm, GError **error)
{
    if (!path || !host->live || !is_declared(host->live, path))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s: its writer declares %s, which belongs to the VM %s of the same restore: "
                      "restore one after the other, or with --to DIR", name_of(host), path, vm);
}

/* What the VMs get is written before a writer's files are set aside: it would be among them. */
static bool
check_apart_from_vms(const Plan *plan, const PlanHost *host, GError **error)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);
        const char *name = vm->component->display_name;

        for (guint k = 0; k < vm->disks->len; k++) {
            const PlanDisk *disk = g_ptr_array_index(vm->disks, k);

            if (!check_apart(host, disk->disk->path, name, error)
                || !check_apart(host, disk->real, name, error))
                return false;
        }
        for (guint k = 0; k < vm->files->len; k++) {
            const PlanFile *file = g_ptr_array_index(vm->files, k);

            if (!check_apart(host, file->file->path, name, error))
                return false;
        }
    }
    return true;
}

bool
host_describe(Plan *plan, GError **error)
{
    g_autoptr(GHashTable) places = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < plan->hosts->len; i++) {
        const PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (!check_places(host, places, error) || !check_apart_from_vms(plan, host, error)
            || !aside_all(plan, host, NULL, error))
            return false;
        for (guint k = 0; k < host->files->len; k++) {
            const PlanFile *file = g_ptr_array_index(host->files, k);

            step(plan, host, "%s is written", file->file->path);
        }
    }
    return true;
}

/* ---- writing ---- */

typedef struct {
    Plan *plan;
    KvssRun *run;
    PlanHost *host;
    unsigned number; /* of the new file's own name of ours */
    uint8_t *buffer;
} Work;

static bool
journal(Work *work, JsonObject *details, KvssActId *out_act, GError **error)
{
    *out_act = kvss_run_act_begin(work->run, KVSS_ACT_FILE, details, error);
    if (*out_act)
        g_array_append_val(work->plan->host_acts, *out_act);
    return *out_act != 0;
}

static bool
throw_folder(const char *path, GError **error)
{
    if (errno == ELOOP || errno == ENOTDIR)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s is a symbolic link, or no folder: nothing is written through it", path);
    return kvss_throw_errno(error, errno, "folder %s", path);
}

/* A folder of the writer's that is gone is made again, for the owner of what goes into it. */
static int
make_folder(Work *work, int above, const char *name, const char *path, const KvssFile *file,
            bool is_declared_place, GError **error)
{
    JsonObject *details = json_object_new();
    KvssActId act;
    int fd;

    json_object_set_string_member(details, "path", path);
    json_object_set_boolean_member(details, "folder", TRUE);
    if (!journal(work, details, &act, error))
        return -1;
    if (mkdirat(above, name, FOLDER_MODE) < 0 && errno != EEXIST) {
        throw_folder(path, error);
        return -1;
    }
    fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsync(above) < 0
        || (is_declared_place && file->uid >= 0 && geteuid() == 0
            && fchown(fd, (uid_t) file->uid, (gid_t) file->gid) < 0)) {
        throw_folder(path, error);
        kvss_fd_clear(&fd);
    }
    return fd;
}

static bool
is_in_declared(const PlanHost *host, const char *path)
{
    for (guint i = 0; host->live && i < host->live->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(host->live->file_sets, i);
        size_t length = strlen(files->path);

        if (strncmp(path, files->path, length) == 0 && (path[length] == '/' || !path[length]))
            return true;
    }
    return false;
}

/* From the folder that is trusted down to the file's own, each step by its descriptor. */
static int
open_folder_of(Work *work, const KvssFile *file, GError **error)
{
    const char *to_dir = work->plan->options->to_dir;
    const char *root = to_dir ? to_dir : "/";
    const char *rest = file->path + strlen(root) + (to_dir != NULL);
    g_autofree char *relative = g_path_get_dirname(rest);
    g_auto(GStrv) names = g_strsplit(g_str_equal(relative, ".") ? "" : relative, "/", -1);
    g_autoptr(GString) path = g_string_new(to_dir ? to_dir : "");
    kvss_autofd int at = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (at < 0) {
        throw_folder(root, error);
        return -1;
    }
    for (char **name = names; *name; name++) {
        int next = openat(at, *name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        g_string_append_printf(path, "/%s", *name);
        if (next < 0 && errno == ENOENT)
            next = make_folder(work, at, *name, path->str, file,
                               is_in_declared(work->host, path->str), error);
        else if (next < 0)
            throw_folder(path->str, error);
        if (next < 0)
            return -1;
        kvss_fd_clear(&at);
        at = next;
    }
    return kvss_fd_steal(&at);
}

static bool
write_content(Work *work, const PlanFile *file, int fd, GError **error)
{
    const KvssRestoreOptions *options = work->plan->options;
    g_autoptr(KvssSource) source = kvss_backup_open_file(options->repository, options->backup,
                                                         work->host->stored, file->stored, error);

    if (!source)
        return false;
    for (uint64_t at = 0; at < source->size;) {
        size_t n = MIN(BUFFER_LENGTH, source->size - at);

        if (!kvss_check_cancelled(options->cancellable, error)
            || !kvss_source_read(source, at, work->buffer, n, error)
            || !kvss_write_exact(fd, work->buffer, n, error))
            return false;
        at += n;
    }
    work->host->result->bytes += source->size;
    return true;
}

/* No setuid bit comes out of a backup. */
static bool
finish_file(const KvssFile *file, int fd, GError **error)
{
    if (file->uid >= 0 && file->gid >= 0 && geteuid() == 0
        && fchown(fd, (uid_t) file->uid, (gid_t) file->gid) < 0)
        return kvss_throw_errno(error, errno, "give %s to its owner", file->path);
    if (fchmod(fd, file->mode & 0777) < 0)
        return kvss_throw_errno(error, errno, "set the mode of %s", file->path);
    return kvss_fsync(fd, file->path, error);
}

/* With --to an older file of that name is set aside by itself. */
static bool
make_way(Work *work, int folder, const char *name, const KvssFile *file, GError **error)
{
    Aside aside = { work->plan, work->host, work->run, NULL };
    struct stat st;

    if (!work->plan->options->to_dir || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (S_ISREG(st.st_mode))
        return set_aside(&aside, folder, name, file->path, error);
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s is there, and is no file", file->path);
}

/* The new file gets its name. By its inode the undo knows that it is ours. */
static bool
put_in_place(Work *work, int folder, const char *own, const KvssFile *file, int fd, GError **error)
{
    g_autofree char *name = g_path_get_basename(file->path);
    JsonObject *details;
    KvssActId act;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return kvss_throw_errno(error, errno, "look at %s", file->path);
    if (!make_way(work, folder, name, file, error))
        return false;
    details = json_object_new();
    json_object_set_string_member(details, "path", file->path);
    json_object_set_int_member(details, "device", (gint64) st.st_dev);
    json_object_set_int_member(details, "inode", (gint64) st.st_ino);
    if (!journal(work, details, &act, error))
        return false;
    if (renameat2(folder, own, folder, name, RENAME_NOREPLACE) == 0)
        return fsync(folder) == 0 || kvss_throw_errno(error, errno, "sync the folder of %s", file->path);
    if (errno == EEXIST)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: something is in its place that could not be set aside, or came since",
                          file->path);
    return kvss_throw_errno(error, errno, "rename to %s", file->path);
}

static bool
write_file(Work *work, const PlanFile *file, GError **error)
{
    kvss_autofd int folder = open_folder_of(work, file->file, error);
    g_autofree char *own = g_strdup_printf(".kvss-new-%.8s-%u", work->plan->id, work->number++);
    g_autofree char *above = g_path_get_dirname(file->file->path);
    g_autofree char *own_path = g_build_filename(above, own, NULL);
    JsonObject *details;
    kvss_autofd int fd = -1;
    KvssActId act;

    if (folder < 0)
        return false;
    details = json_object_new();
    json_object_set_string_member(details, "path", own_path);
    if (!journal(work, details, &act, error))
        return false;
    fd = openat(folder, own, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return kvss_throw_errno(error, errno, "create %s", own_path);
    if (!write_content(work, file, fd, error) || !finish_file(file->file, fd, error)
        || !put_in_place(work, folder, own, file->file, fd, error))
        return false;
    kvss_run_act_end(work->run, act);
    return true;
}

static bool
write_component(Work *work, GError **error)
{
    for (guint i = 0; i < work->host->files->len; i++)
        if (!write_file(work, g_ptr_array_index(work->host->files, i), error))
            return false;
    return true;
}

static bool
for_each(Plan *plan, KvssRun *run, bool (*func)(Work *work, GError **error), GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(BUFFER_LENGTH);
    Work work = { .plan = plan, .run = run, .buffer = buffer };

    for (guint i = 0; i < plan->hosts->len; i++) {
        work.host = g_ptr_array_index(plan->hosts, i);
        if (func(&work, error))
            continue;
        g_prefix_error(error, "%s: ", name_of(work.host));
        return false;
    }
    return true;
}

static bool
aside_component(Work *work, GError **error)
{
    work->host->component->restore_status = KVSS_RS_FAILED;
    return aside_all(work->plan, work->host, work->run, error);
}

static void
set_status(Plan *plan, KvssRestoreStatus status)
{
    for (guint i = 0; i < plan->hosts->len; i++)
        ((PlanHost *) g_ptr_array_index(plan->hosts, i))->component->restore_status = status;
}

/* Told once for each folder: there may be thousands of files in it. */
static void
tell_kept(const Plan *plan, PlanHost *host)
{
    g_autoptr(GList) folders = g_list_sort(g_hash_table_get_keys(host->kept), (GCompareFunc) strcmp);

    for (GList *item = folders; item; item = item->next)
        g_ptr_array_add(host->result->notes,
                        g_strdup_printf("%s: the backup has no file of this folder: what was there "
                                        "was kept (files: %u), under names with .kvss-old-%.8s",
                                        (const char *) item->data,
                                        GPOINTER_TO_UINT(g_hash_table_lookup(host->kept, item->data)),
                                        plan->id));
}

char *
host_tell_kept(const Plan *plan)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (g_hash_table_size(host->kept) == 0)
            continue;
        tell_kept(plan, host);
        g_string_append_printf(names, "%s%s", names->len ? ", " : "", name_of(host));
    }
    if (names->len == 0)
        return NULL;
    return g_strdup_printf("the backup has no file of some folders of %s: what was in them was kept "
                           "there, under names with .kvss-old-%.8s", names->str, plan->id);
}

static bool
make_to_dir(const char *to_dir, GError **error)
{
    if (!to_dir || g_mkdir_with_parents(to_dir, 0711) == 0)
        return true;
    return kvss_throw_errno(error, errno, "make folder %s", to_dir);
}

/* First all old files of all components, so that none of the new ones is taken for old. */
bool
host_write(Plan *plan, KvssRun *run, GError **error)
{
    if (plan->hosts->len == 0)
        return true;
    if (!make_to_dir(plan->options->to_dir, error)
        || !for_each(plan, run, aside_component, error)
        || !for_each(plan, run, write_component, error))
        return false;
    set_status(plan, KVSS_RS_ALL);
    kvss_test_point("restore-files");
    return true;
}

/* ---- the writers ---- */

static bool
has_writers(const Plan *plan)
{
    return plan->hosts->len > 0 && !plan->options->to_dir;
}

bool
host_pre_restore(Plan *plan, KvssRun *run, GError **error)
{
    KvssCoordinator *coordinator = plan->options->host_coordinator;

    if (!has_writers(plan))
        return true;
    kvss_coordinator_set(coordinator)->run = run;
    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        kvss_coordinator_take_component(coordinator, host->writer, host->component);
        host->component_is_taken = true;
    }
    return kvss_coordinator_pre_restore(coordinator, error);
}

bool
host_post_restore(Plan *plan, GError **error)
{
    return !has_writers(plan)
           || kvss_coordinator_post_restore(plan->options->host_coordinator, error);
}

void
host_take_back(Plan *plan, KvssRun *run)
{
    bool ok = true;

    if (plan->hosts->len == 0)
        return;
    for (guint i = plan->host_acts->len; i-- > 0;) {
        g_autoptr(GError) problem = NULL;

        if (kvss_run_act_undo(run, g_array_index(plan->host_acts, KvssActId, i), &problem))
            continue;
        ok = false;
        g_warning("%s", problem->message);
    }
    set_status(plan, ok ? KVSS_RS_NONE : KVSS_RS_FAILED);
    if (has_writers(plan))
        kvss_coordinator_abort(plan->options->host_coordinator);
}
