/*
 * files.c - the middle of a restore: content to disks and small files
 *
 * A new image is made empty with the options of the old one and comes out as sparse as it
 * was (image-write.h).
 */
#include "restore/files.h"
#include "base/fd.h"
#include "base/test-point.h"
#include "host/device-sink.h"
#include "host/image.h"
#include "restore/image-write.h"
#include "restore/in-place.h"
#include "stream/sink.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_LENGTH (4u * 1024 * 1024)

/* ---- in the journal ---- */

/*
 * What the undo must know to tell our file from the one that stood there. @becomes:
 * (nullable) its name from the point of no return on.
 */
static bool
journal_file(Work *work, const char *path, const char *aside, const char *becomes,
             KvssActId *out_act, GError **error)
{
    JsonObject *details = json_object_new();
    struct stat st;
    bool was_there = aside && lstat(aside, &st) == 0;

    json_object_set_string_member(details, "uuid", work->vm->component->name);
    json_object_set_string_member(details, "path", path);
    json_object_set_string_member(details, "aside", was_there ? aside : "");
    if (becomes)
        json_object_set_string_member(details, "becomes", becomes);
    *out_act = kvss_run_act_begin(work->run, KVSS_ACT_FILE, details, error);
    return *out_act != 0;
}

/* Somebody put a file there since: it is none of ours, and the undo must not take it. */
static bool
throw_in_the_way(Work *work, KvssActId act, GError *problem, GError **error)
{
    if (g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY))
        kvss_run_act_end(work->run, act);
    g_propagate_error(error, problem);
    return false;
}

static bool
make_folder_for(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);

    if (g_mkdir_with_parents(folder, 0711) == 0)
        return true;
    return kvss_throw_errno(error, errno, "make folder %s", folder);
}

/* Owner and mode of what stood there; a new one is root's alone until libvirt gives it to QEMU. */
static bool
take_over_owner(const char *path, const char *aside, unsigned mode, GError **error)
{
    struct stat st;

    if (lstat(aside, &st) == 0 && S_ISREG(st.st_mode)) {
        if (chown(path, st.st_uid, st.st_gid) < 0)
            return kvss_throw_errno(error, errno, "give %s to its owner", path);
        mode = st.st_mode & 07777;
    }
    if (chmod(path, mode) < 0)
        return kvss_throw_errno(error, errno, "set the mode of %s", path);
    return true;
}

/* ---- disks ---- */

void
work_tell_progress(uint64_t done, uint64_t size, gpointer data)
{
    const Work *work = data;
    const KvssRestoreOptions *options = work->plan->options;
    KvssRestoreProgressInfo info = {
        .step = "Restore",
        .vm = work->vm->component->display_name,
        .target = work->target,
        .done = work->done_before + done,
        .total = work->plan->total_bytes,
    };

    if (options->progress)
        options->progress(&info, options->progress_data);
}

bool
work_journal_server(const KvssImageServer *server, gpointer data, GError **error)
{
    JsonObject *details = json_object_new();
    Work *work = data;

    json_object_set_int_member(details, "pid", kvss_image_server_pid(server));
    json_object_set_int_member(details, "start", (gint64) kvss_image_server_start_time(server));
    work->server = kvss_run_act_begin(work->run, KVSS_ACT_PROCESS, details, error);
    return work->server != 0;
}

/*
 * QEMU's block layer sees a device in whole; the disk may be smaller. The rest of
 * the device keeps what it had: no guest saw it before, none sees it now.
 */
static bool
device_copy(Work *work, const PlanDisk *disk, KvssSource *source, KvssCopyStats *stats,
            GError **error)
{
    g_autoptr(KvssSink) sink = kvss_device_sink_new(disk->real, source->size, error);

    return sink
        && kvss_copy(source, sink, work_tell_progress, work, work->plan->options->cancellable,
                     stats, error);
}

static const char *
disk_path(const PlanDisk *disk)
{
    return disk->beside ? disk->beside : disk->real;
}

static bool
disk_copy(Work *work, const PlanDisk *disk, KvssSource *source, KvssCopyStats *stats,
          GError **error)
{
    g_autofree char *socket = g_build_filename(kvss_run_folder(work->run), "restore.sock", NULL);
    ImageWrite image = {
        .path = disk_path(disk),
        .format = disk->disk->format,
        .export_name = disk->disk->target,
        .socket = socket,
        .keeps_room = disk->keeps_room,
        .serving = work_journal_server,
        .progress = work_tell_progress,
        .data = work,
        .cancellable = work->plan->options->cancellable,
    };

    bool ok;

    work->server = 0;
    ok = image_write(&image, source, stats, error);
    if (work->server)
        kvss_run_act_end(work->run, work->server);
    return ok;
}

static bool
image_make(Work *work, const PlanDisk *disk, const char *aside, GError **error)
{
    KvssActId act;
    GError *problem = NULL;

    if (!make_folder_for(disk->real, error)
        || !journal_file(work, disk_path(disk), disk->beside ? NULL : aside,
                         disk->beside ? disk->real : NULL, &act, error))
        return false;
    if (kvss_image_create(disk_path(disk), disk->disk->format, disk->disk->size, disk->disk->options,
                          &problem))
        return true;
    return throw_in_the_way(work, act, problem, error);
}

KvssRestoredDisk *
work_result(const Work *work)
{
    for (guint i = 0; i < work->vm->result->disks->len; i++) {
        KvssRestoredDisk *result = g_ptr_array_index(work->vm->result->disks, i);

        if (g_str_equal(result->target, work->target))
            return result;
    }
    g_assert_not_reached();
}

static bool
disk_write_whole(Work *work, const PlanDisk *disk, GError **error)
{
    const KvssRestoreOptions *options = work->plan->options;
    g_autoptr(KvssSource) source = kvss_backup_open_disk(options->repository, options->backup,
                                                         work->vm->vm, disk->stored, error);
    g_autofree char *aside = kvss_vm_aside_path(disk->real, work->plan->id);
    g_autofree char *folder = g_path_get_dirname(disk->real);
    KvssCopyStats stats = { 0 };

    if (!source)
        return false;
    if (disk->is_block) {
        if (!device_copy(work, disk, source, &stats, error))
            return false;
    } else if (!image_make(work, disk, aside, error)
               || !disk_copy(work, disk, source, &stats, error)
               || !take_over_owner(disk_path(disk), aside, 0600, error)
               || !kvss_fsync_folder(folder, error)) {
        return false;
    }
    work_result(work)->bytes_written = stats.bytes_read;
    work->done_before += source->size;
    return true;
}

static bool
disk_write(Work *work, const PlanDisk *disk, GError **error)
{
    return disk->in_place ? in_place_write(work, disk, error)
                          : disk_write_whole(work, disk, error);
}

/* ---- carried files ---- */

static bool
source_to_fd(Work *work, KvssSource *source, int fd, GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(BUFFER_LENGTH);

    for (uint64_t at = 0; at < source->size;) {
        size_t n = MIN(BUFFER_LENGTH, source->size - at);

        if (!kvss_check_cancelled(work->plan->options->cancellable, error)
            || !kvss_source_read(source, at, buffer, n, error)
            || !kvss_write_exact(fd, buffer, n, error))
            return false;
        at += n;
    }
    return true;
}

static bool
file_make(Work *work, const char *path, const char *aside, int *out_fd, GError **error)
{
    GError *problem = NULL;
    KvssActId act;

    if (!make_folder_for(path, error) || !journal_file(work, path, aside, NULL, &act, error))
        return false;
    *out_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*out_fd >= 0)
        return true;
    kvss_throw_errno(&problem, errno, "create %s", path);
    return throw_in_the_way(work, act, problem, error);
}

static bool
file_write(Work *work, const PlanFile *file, GError **error)
{
    const KvssRestoreOptions *options = work->plan->options;
    g_autoptr(KvssSource) source = kvss_backup_open_file(options->repository, options->backup,
                                                         work->vm->vm, file->stored, error);
    g_autofree char *real = kvss_vm_real_path(file->file->path);
    g_autofree char *aside = kvss_vm_aside_path(real, work->plan->id);
    g_autofree char *folder = g_path_get_dirname(real);
    kvss_autofd int fd = -1;

    return source && file_make(work, real, aside, &fd, error)
        && source_to_fd(work, source, fd, error) && kvss_fsync(fd, real, error)
        && take_over_owner(real, aside, file->stored->mode & 0777 ? file->stored->mode & 0777
                                                                  : 0600, error)
        && kvss_fsync_folder(folder, error);
}

/* ---- all ---- */

static bool
vm_write(Work *work, GError **error)
{
    for (guint i = 0; i < work->vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(work->vm->disks, i);

        work->target = disk->disk->target;
        if (!disk_write(work, disk, error)) {
            g_prefix_error(error, "disk %s: ", disk->disk->target);
            return false;
        }
    }
    for (guint i = 0; i < work->vm->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(work->vm->files, i);

        if (!file_write(work, file, error)) {
            g_prefix_error(error, "%s: ", file->file->name);
            return false;
        }
    }
    return true;
}

bool
files_write(Plan *plan, KvssRun *run, GError **error)
{
    Work work = { .plan = plan, .run = run };

    if (!in_place_compare(plan, run, error))
        return false;
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++) {
            const PlanDisk *disk = g_ptr_array_index(vm->disks, k);

            work.done_before += disk->in_place ? disk->disk->size : 0;
        }
    }
    for (guint i = 0; i < plan->vms->len; i++) {
        PlanVm *vm = g_ptr_array_index(plan->vms, i);

        work.vm = vm;
        vm->component->restore_status = KVSS_RS_FAILED;
        if (!vm_write(&work, error)) {
            g_prefix_error(error, "%s: ", vm->component->display_name);
            return false;
        }
        vm->component->restore_status = KVSS_RS_ALL;
        kvss_test_point("restore-files");
    }
    return true;
}

void
files_remove_saved_states(Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);
        const KvssFile *file = kvss_component_find_file(vm->component, "state.save");

        if (file && file->path)
            (void) unlink(file->path);
    }
}
