/*
 * host-write.c - files of a component written, each by way of a name of ours
 *
 * No symbolic link is followed: from the folder that is trusted down each step goes
 * by its descriptor.
 */
#include "restore/host-parts.h"
#include "base/fd.h"
#include "stream/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_LENGTH (1024u * 1024)
/* A folder that is gone: for its owner, readable for others as is usual. */
#define FOLDER_MODE 0755

typedef struct {
    Plan *plan;
    KvssRun *run;
    PlanHost *host;
    uint8_t *buffer;
} Work;

static bool
journal(Work *work, JsonObject *details, KvssActId *out_act, GError **error)
{
    return host_journal(work->plan, work->host, work->run, KVSS_ACT_FILE, details, out_act, error);
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
    struct stat st;

    if (!work->plan->options->to_dir || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (S_ISREG(st.st_mode))
        return host_aside_file(work->plan, work->host, work->run, folder, name, file->path, error);
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
    g_autofree char *own = g_strdup_printf(".kvss-new-%.8s-%u", work->plan->id, work->plan->host_number++);
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

bool
host_write_component(Plan *plan, PlanHost *host, KvssRun *run, GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(BUFFER_LENGTH);
    Work work = { plan, run, host, buffer };

    for (guint i = 0; i < host->files->len; i++)
        if (!write_file(&work, g_ptr_array_index(host->files, i), error))
            return false;
    return true;
}
