/*
 * plan-disk.c - where each disk will be, in which format, and how much of it is data
 */
#include "catalogue/catalogue.h"
#include "host/image.h"
#include "restore/default-link.h"
#include "restore/in-place.h"
#include "restore/plan-vm.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void
plan_disk_free(gpointer data)
{
    PlanDisk *disk = data;

    g_free(disk->real);
    g_free(disk->beside);
    g_free(disk->whole_because);
    in_place_free(disk->in_place);
    g_free(disk->link);
    g_clear_pointer(&disk->stale_links, g_ptr_array_unref);
    g_clear_pointer(&disk->link_acts, g_array_unref);
    g_free(disk);
}

/* Of the VM that is here now: this host's administrator gave it the device. */
static bool
device_is_vms(const PlanVm *vm, dev_t device)
{
    g_autoptr(KvssDomainConfig) config = vm->old ? kvss_domain_config(vm->old, NULL) : NULL;
    struct stat st;

    for (guint i = 0; config && i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        if (disk->source && stat(disk->source, &st) == 0 && S_ISBLK(st.st_mode)
            && st.st_rdev == device)
            return true;
    }
    return false;
}

/* A piece of hardware, or a partition of one: volumes that are made for VMs have neither file. */
static bool
device_is_hardware(dev_t device)
{
    static const char *const signs[] = { "device", "partition" };

    for (gsize i = 0; i < G_N_ELEMENTS(signs); i++) {
        g_autofree char *path = g_strdup_printf("/sys/dev/block/%u:%u/%s", major(device),
                                                minor(device), signs[i]);

        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return true;
    }
    return false;
}

/* A backup may name any device: one of the host's own disks only where it was given to this VM. */
static bool
block_check_owner(const KvssRestoreOptions *options, const PlanVm *vm, const char *path,
                  dev_t device, GError **error)
{
    if (options->allow_host_access || !device_is_hardware(device) || device_is_vms(vm, device))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s is a disk of this host itself and of no VM that is replaced: "
                      "--allow-host-access writes it over, --to DIR writes a file", path);
}

/* A block device is written through, in place, and must be as large at least. */
static bool
block_check(const KvssRestoreOptions *options, const PlanVm *vm, const PlanDisk *disk,
            GError **error)
{
    const char *path = disk->disk->path;
    struct stat st;
    int fd;
    off_t size;

    if (!g_str_equal(disk->disk->format, "raw"))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "block device %s held a %s image: restore with --to DIR", path,
                          disk->disk->format);
    if (stat(disk->real, &st) < 0 || !S_ISBLK(st.st_mode))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "block device %s is not on this host: create it, or use --to DIR", path);
    if (!block_check_owner(options, vm, path, st.st_rdev, error))
        return false;
    fd = open(disk->real, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    size = lseek(fd, 0, SEEK_END);
    (void) close(fd);
    if (size < 0 || (uint64_t) size < disk->disk->size)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM,
                          "block device %s has %lld bytes, the disk needs %" G_GUINT64_FORMAT,
                          path, (long long) size, disk->disk->size);
    return true;
}

static bool
disk_place_elsewhere(const KvssRestoreOptions *options, PlanVm *vm, PlanDisk *disk)
{
    g_autofree char *path = plan_path_in(options->to_dir, vm->component, disk->disk->target,
                                         disk->disk->format);

    kvss_set_string(&disk->disk->path, path);
    kvss_set_string(&disk->disk->kind, "file");
    return true;
}

static bool
disk_place_where_it_was(PlanDisk *disk, GError **error)
{
    const KvssDisk *stored = disk->stored;
    bool is_block = g_strcmp0(stored->kind, "block") == 0;

    if (!stored->path || !*stored->path || g_strcmp0(stored->kind, "network") == 0)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "disk %s was on the network: restore with --to DIR", stored->target);
    if (is_block)
        return g_str_has_prefix(stored->path, "/dev/")
            || kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "disk %s: %s is no block device's path", stored->target, stored->path);
    /* A volume of a pool is a file too, once its path is known. */
    kvss_set_string(&disk->disk->kind, "file");
    return plan_check_path(stored->path, NULL, error);
}

/* Beside the disk that it is a copy of. */
static bool
disk_place_beside(PlanVm *vm, PlanDisk *disk, GError **error)
{
    const KvssDisk *stored = disk->stored;
    g_autofree char *folder = NULL, *path = NULL;

    if (!stored->path || !g_path_is_absolute(stored->path)
        || g_strcmp0(stored->kind, "network") == 0 || g_strcmp0(stored->kind, "block") == 0)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "disk %s was no file: say with --to DIR where the copy goes",
                          stored->target);
    folder = g_path_get_dirname(stored->path);
    path = plan_path_in(folder, vm->component, disk->disk->target, disk->disk->format);
    kvss_set_string(&disk->disk->path, path);
    kvss_set_string(&disk->disk->kind, "file");
    return plan_check_path(path, NULL, error);
}

static bool
disk_place(const KvssRestoreOptions *options, PlanVm *vm, PlanDisk *disk, GError **error)
{
    if (options->to_dir)
        return disk_place_elsewhere(options, vm, disk);
    if (options->disks)
        return plan_disk_as_present(vm, disk, error);
    return vm->copy_of ? disk_place_beside(vm, disk, error) : disk_place_where_it_was(disk, error);
}

/* What this QEMU can only read comes back in its own format. */
static void
disk_choose_format(PlanVm *vm, PlanDisk *disk)
{
    if (kvss_image_can_create(disk->disk->format))
        return;
    g_ptr_array_add(vm->result->notes,
                    g_strdup_printf("disk %s had format %s, which cannot be written here: it is "
                                    "restored as qcow2",
                                    disk->disk->target, disk->disk->format));
    kvss_set_string(&disk->disk->format, "qcow2");
    kvss_set_string(&disk->disk->options, NULL);
}

/* One file comes back, as an export of the image shows it: whole. */
static void
note_data_file(PlanVm *vm, const PlanDisk *disk)
{
    g_autofree char *file = kvss_image_options_data_file(disk->disk->options);

    if (file)
        g_ptr_array_add(vm->result->notes,
                        g_strdup_printf("disk %s had its data in a file of its own, %s: it is "
                                        "restored as one image", disk->disk->target, file));
}

static bool
disk_count_data(Plan *plan, PlanVm *vm, PlanDisk *disk, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    g_autoptr(KvssSource) source = kvss_backup_open_disk(options->repository, options->backup,
                                                         vm->vm, disk->stored, error);

    if (!source || !kvss_source_data_bytes(source, &disk->data_bytes, error))
        return false;
    disk->disk->size = source->size;
    plan->total_bytes += source->size;
    return true;
}

static void
disk_add_result(PlanVm *vm, const PlanDisk *disk)
{
    KvssRestoredDisk *result = g_new0(KvssRestoredDisk, 1);

    result->target = g_strdup(disk->disk->target);
    result->format = g_strdup(disk->disk->format);
    result->path = g_strdup(disk->disk->path);
    result->size = disk->disk->size;
    result->is_in_place = disk->in_place != NULL;
    if (disk->link && !default_link_is_obstructed(vm, disk))
        result->link = g_strdup(disk->link);
    g_ptr_array_add(vm->result->disks, result);
}

bool
plan_disk(Plan *plan, PlanVm *vm, const KvssDisk *stored, GError **error)
{
    PlanDisk *disk = g_new0(PlanDisk, 1);

    g_ptr_array_add(vm->disks, disk);
    disk->stored = stored;
    disk->disk = kvss_component_add_disk(vm->component, stored->target);
    kvss_set_string(&disk->disk->format, stored->format && *stored->format ? stored->format : "raw");
    kvss_set_string(&disk->disk->kind, stored->kind ? stored->kind : "file");
    kvss_set_string(&disk->disk->path, stored->path);
    kvss_set_string(&disk->disk->options, stored->options);
    disk->disk->size = stored->size;

    if (!kvss_domain_config_find_disk(vm->config, stored->target))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "disk %s is not in the stored definition", stored->target);
    disk_choose_format(vm, disk);
    note_data_file(vm, disk);
    if (!disk_place(plan->options, vm, disk, error))
        return false;
    disk->real = kvss_vm_place_of(disk->disk->path);
    disk->is_block = g_str_equal(disk->disk->kind, "block");
    disk->keeps_room = !disk->is_block && kvss_image_options_preallocate(disk->disk->options);
    /* This host's own definition may name any path. */
    if (!disk->is_block && !(plan->options->disks && !plan->options->to_dir)
        && (!plan_check_links(disk->disk->path, plan->options->to_dir, error)
            || !plan_check_real_path(disk->real, plan->options->to_dir, error)))
        return false;
    if (!disk_count_data(plan, vm, disk, error) || (disk->is_block && !block_check(plan->options, vm, disk, error)))
        return false;
    if (!plan->options->disks)
        default_link_plan(plan, vm, disk);
    in_place_plan(plan, vm, disk);
    /* Half of a disk at its place could be started with, by hand or after a power cut. */
    if (plan->options->disks && !vm->is_beside && !disk->is_block && !disk->in_place)
        disk->beside = kvss_vm_beside_path(disk->real, "new", plan->id);
    /* It is read once to compare it. */
    plan->total_bytes += disk->in_place ? disk->disk->size : 0;
    disk_add_result(vm, disk);
    return true;
}
