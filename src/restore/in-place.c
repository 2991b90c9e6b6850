/*
 * in-place.c - disks that are written over where they are: which, and where they differ
 */
#include "restore/in-place.h"
#include "base/fd.h"
#include "catalogue/manifest.h"
#include "host/image.h"
#include "host/nbd-source.h"
#include "restore/compare.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_LENGTH 512

void
in_place_free(InPlace *in_place)
{
    if (!in_place)
        return;
    difference_free(in_place->difference);
    g_free(in_place->log);
    g_free(in_place->parked);
    g_free(in_place);
}

/* ---- may it be? ---- */

static const KvssDiskConfig *
old_disk(const PlanVm *vm, const KvssDomainConfig *config, const PlanDisk *disk)
{
    const KvssDiskConfig *old
        = config ? kvss_domain_config_find_disk(config, disk->disk->target) : NULL;
    g_autofree char *real = NULL;

    if (!old || !kvss_vm_disk_goes_aside(vm->component, old))
        return NULL;
    real = kvss_vm_real_path(old->source);
    return g_str_equal(real, disk->real) ? old : NULL;
}

static char *
why_not_this_file(const char *path)
{
    kvss_autofd int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return g_strdup_printf("%s cannot be written: %s", path, g_strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return g_strdup_printf("%s is no plain file", path);
    /* Under its other name somebody else may count on what it holds. */
    return st.st_nlink > 1 ? g_strdup_printf("%s has other names (hard links)", path) : NULL;
}

/* NULL: the image may be written over. Metadata only: the VM may run. */
static char *
why_not_this_image(PlanDisk *disk, const char *format)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(KvssImageInfo) info = NULL;

    if (!g_str_equal(format, disk->disk->format))
        return g_strdup_printf("it differs in format: %s, not %s", format, disk->disk->format);
    info = kvss_image_info(disk->real, format, true, &problem);
    if (!info)
        return g_strdup(problem->message);
    if (info->size != disk->disk->size)
        return g_strdup_printf("it differs in size: %" G_GUINT64_FORMAT " bytes, not %"
                               G_GUINT64_FORMAT, info->size, disk->disk->size);
    if (info->backing->len > 0)
        return g_strdup("it has a backing file");
    if (info->is_encrypted)
        return g_strdup("it is encrypted by QEMU");
    if (info->entangled)
        return g_strdup_printf("it has %s", info->entangled);
    disk->keeps_room = kvss_image_options_preallocate(info->options);
    return NULL;
}

static char *
why_not_in_place(const PlanVm *vm, PlanDisk *disk)
{
    g_autoptr(KvssDomainConfig) config = vm->old ? kvss_domain_config(vm->old, NULL) : NULL;
    const KvssDiskConfig *old = old_disk(vm, config, disk);
    char *why;

    if (!old)
        return g_strdup_printf("%s is no disk of the VM that is here", disk->real);
    if (!g_file_test(disk->real, G_FILE_TEST_EXISTS))
        return g_strdup_printf("%s is not there", disk->real);
    /* QEMU knows whole sectors only: the disk would seem longer than it is. */
    if (disk->disk->size % SECTOR_LENGTH)
        return g_strdup("its size is no multiple of 512 bytes");
    why = why_not_this_file(disk->real);
    return why ? why : why_not_this_image(disk, old->format);
}

static char *
scratch_folder(const KvssRestoreOptions *options)
{
    return options->scratch_dir ? g_strdup(options->scratch_dir)
                                : g_build_filename(options->state_dir, "work", NULL);
}

/* A device has no folder of its own for it. */
static char *
device_log(const Plan *plan, const PlanVm *vm, const PlanDisk *disk)
{
    g_autofree char *folder = scratch_folder(plan->options);
    g_autofree char *safe_vm = kvss_manifest_safe_name(vm->component->display_name);
    g_autofree char *safe_target = kvss_manifest_safe_name(disk->disk->target);

    return g_strdup_printf("%s/%s-%s.kvss-undo-%.8s", folder, safe_vm, safe_target, plan->id);
}

void
in_place_plan(const Plan *plan, const PlanVm *vm, PlanDisk *disk)
{
    const KvssRestoreOptions *options = plan->options;
    InPlace *in_place;

    if (disk->is_block ? options->no_rollback && !options->in_place : !options->in_place)
        return;
    if (!disk->is_block) {
        disk->whole_because = why_not_in_place(vm, disk);
        if (disk->whole_because)
            return;
    }
    in_place = g_new0(InPlace, 1);
    if (!disk->is_block && !options->no_rollback) {
        in_place->log = kvss_vm_beside_path(disk->real, "undo", plan->id);
        in_place->parked = kvss_vm_beside_path(disk->real, "half", plan->id);
    } else if (!options->no_rollback) {
        in_place->log = device_log(plan, vm, disk);
    }
    disk->in_place = in_place;
}

/* ---- the disk as it is ---- */

/* QEMU sees a device in whole; the disk is its first part. */
KvssSource *
in_place_device_source(const PlanDisk *disk, GError **error)
{
    KvssSource *source = kvss_source_new_file(disk->real, error);

    if (source)
        source->size = MIN(source->size, disk->disk->size);
    return source;
}

bool
in_place_check_size(const PlanDisk *disk, const KvssSource *old, GError **error)
{
    return old->size == disk->disk->size
        || kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s has %" G_GUINT64_FORMAT " bytes now, the disk %" G_GUINT64_FORMAT,
                      disk->real, old->size, disk->disk->size);
}

/* ---- compare ---- */

static bool
compare_with(Work *work, const PlanDisk *disk, KvssSource *old, GError **error)
{
    const KvssRestoreOptions *options = work->plan->options;
    g_autoptr(Difference) difference = difference_new(disk->disk->size);
    g_autoptr(KvssSource) stored = kvss_backup_open_disk(options->repository, options->backup,
                                                         work->vm->vm, disk->stored, error);

    if (!stored || !in_place_check_size(disk, old, error)
        || !difference_find(difference, old, stored, work_tell_progress, work,
                            options->cancellable, error))
        return false;
    work_result(work)->bytes_differing = difference->differ_bytes;
    disk->in_place->difference = g_steal_pointer(&difference);
    return true;
}

static bool
compare_image(Work *work, const PlanDisk *disk, const char *socket, GError **error)
{
    KvssImageServerOptions options = {
        .path = disk->real,
        .format = disk->disk->format,
        .socket = socket,
        .export_name = disk->disk->target,
    };
    g_autoptr(KvssImageServer) server = kvss_image_server_start(&options, error);
    g_autoptr(KvssSource) old = NULL;

    if (server)
        old = kvss_nbd_source_new(socket, options.export_name, error);
    return old && compare_with(work, disk, old, error);
}

static bool
compare_device(Work *work, const PlanDisk *disk, GError **error)
{
    g_autoptr(KvssSource) old = in_place_device_source(disk, error);

    return old && compare_with(work, disk, old, error);
}

static bool
compare_disk(Work *work, const PlanDisk *disk, const char *folder, GError **error)
{
    g_autofree char *socket = g_build_filename(folder, "compare.sock", NULL);
    bool ok;

    work->target = disk->disk->target;
    ok = disk->is_block ? compare_device(work, disk, error)
                        : compare_image(work, disk, socket, error);
    if (!ok) {
        g_prefix_error(error, "%s: disk %s: ", work->vm->component->display_name, work->target);
        return false;
    }
    work->done_before += disk->disk->size;
    return true;
}

static bool
compare_all(Plan *plan, const char *folder, bool only_those_off, GError **error)
{
    Work work = { .plan = plan };

    for (guint i = 0; i < plan->vms->len; i++) {
        work.vm = g_ptr_array_index(plan->vms, i);
        if (only_those_off && work.vm->old && work.vm->old_state != KVSS_DOMAIN_OFF
            && work.vm->old_state != KVSS_DOMAIN_SAVED)
            continue;
        for (guint k = 0; k < work.vm->disks->len; k++) {
            const PlanDisk *disk = g_ptr_array_index(work.vm->disks, k);

            if (disk->in_place && !compare_disk(&work, disk, folder, error))
                return false;
        }
    }
    return true;
}

static bool
has_any(const Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++)
            if (((PlanDisk *) g_ptr_array_index(vm->disks, k))->in_place)
                return true;
    }
    return false;
}

/* A look without a run has no folder for sockets. */
static bool
compare_in_new_folder(Plan *plan, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *folder = g_dir_make_tmp("kvss-look-XXXXXX", &problem);
    bool ok;

    if (!folder)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "make a folder: %s",
                          problem->message);
    ok = compare_all(plan, folder, true, error);
    (void) rmdir(folder);
    return ok;
}

bool
in_place_compare(Plan *plan, KvssRun *run, GError **error)
{
    if (!has_any(plan))
        return true;
    return (run ? compare_all(plan, kvss_run_folder(run), false, error)
                : compare_in_new_folder(plan, error))
        && plan_check_room(plan, error);
}
