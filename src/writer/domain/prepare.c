/*
 * prepare.c - PrepareForBackup of one VM: everything slow, and nothing a guest feels
 */
#include "host/save-image.h"
#include "writer/domain/link.h"
#include "writer/domain/vm.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Scratch takes what the guest overwrites during the copy: rarely more than a tenth of its disks. */
#define SCRATCH_SHARE 10
#define SCRATCH_MIN (G_GUINT64_CONSTANT(1) << 30)

/* QEMU binds its socket here itself, so the folder is its own. */
static bool
make_folder(KvssVm *vm, unsigned number, GError **error)
{
    vm->folder = g_strdup_printf("%s/%u", kvss_run_folder(vm->run), number);
    if (mkdir(vm->folder, 0700) < 0)
        return kvss_throw_errno(error, errno, "make work folder %s", vm->folder);
    if (vm->config->owner_uid >= 0
        && chown(vm->folder, (uid_t) vm->config->owner_uid, (gid_t) vm->config->owner_gid) < 0)
        return kvss_throw_errno(error, errno, "give work folder %s to QEMU", vm->folder);
    kvss_set_string(&vm->component->work_folder, vm->folder);
    return true;
}

/*
 * How to make such an image again, and whether its changes are known. What cannot be
 * looked at costs that, not the backup.
 */
static void
look_at_image(KvssVm *vm, KvssDisk *disk)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssImageInfo) info = NULL;

    if (disk->path && g_path_is_absolute(disk->path))
        info = kvss_image_info(disk->path, disk->format, true, &error);
    kvss_vm_plan_tracking(vm, disk, info);
    if (info)
        kvss_set_string(&disk->options, info->options);
    else if (error)
        kvss_component_add_note(vm->component, "%s: its creation options are not known: %s",
                                disk->target, error->message);
}

/* What a restore must know that neither the definition nor the state says. */
static void
note_metadata(KvssVm *vm)
{
    int autostart = 0;
    g_autofree char *text = NULL;

    (void) virDomainGetAutostart(kvss_domain_handle(vm->domain), &autostart);
    text = g_strdup_printf("{\"autostart\":%s}", autostart ? "true" : "false");
    kvss_set_string(&vm->component->metadata, text);
}

/* ---- VMs that are off: the images are held, so that the VM cannot start meanwhile ---- */

/* A bitmap that QEMU does not offer, being broken or gone, costs reads. */
static KvssImageServer *
serve_disk(KvssDisk *disk, const char *socket, GError **error)
{
    KvssImageServerOptions options = {
        .path = disk->path,
        .format = disk->format,
        .socket = socket,
        .export_name = disk->target,
        .bitmap = disk->since,
    };
    g_autoptr(GError) local = NULL;
    KvssImageServer *server = kvss_image_server_start(&options, &local);

    if (server || !disk->since || g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY)) {
        if (!server)
            g_propagate_error(error, g_steal_pointer(&local));
        return server;
    }
    disk->reason = g_strdup_printf("what changed is not known: %s", local->message);
    g_clear_pointer(&disk->since, g_free);
    options.bitmap = NULL;
    return kvss_image_server_start(&options, error);
}

/*
 * Nobody writes to it: what tracks the changes since the last backup tracks those
 * since this one, too.
 */
static void
go_on_tracking(KvssDisk *disk)
{
    kvss_set_string(&disk->tracked_by, disk->since);
}

/* Only the QEMU of a running VM can: no one else knows the way, or has the key. */
static bool
check_readable_off(const KvssVm *vm, const KvssDisk *disk, GError **error)
{
    const KvssDiskConfig *config = kvss_domain_config_find_disk(vm->config, disk->target);

    if (!disk->path || !g_path_is_absolute(disk->path))
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "disk %s (%s) is on the network and can be read only while the VM runs: "
                          "start it, or leave it out with --exclude",
                          disk->target, disk->path ? disk->path : "?");
    if (config && config->is_encrypted)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                          "disk %s is encrypted and can be read only while the VM runs, by the "
                          "QEMU that has the key: start it, or leave it out with --exclude",
                          disk->target);
    return true;
}

static bool
hold_disk(KvssVm *vm, KvssDisk *disk, GError **error)
{
    g_autofree char *socket = g_strdup_printf("%s/%u", vm->folder, vm->servers->len);
    KvssImageServer *server;

    if (!check_readable_off(vm, disk, error))
        return false;
    server = serve_disk(disk, socket, error);
    go_on_tracking(disk);
    if (!server) {
        g_prefix_error(error, "disk %s: ", disk->target);
        return false;
    }
    g_ptr_array_add(vm->servers, server);
    disk->size = kvss_image_server_size(server);
    kvss_set_string(&disk->nbd_socket, kvss_image_server_socket(server));
    kvss_set_string(&disk->nbd_export, disk->target);
    disk->is_held = true;
    kvss_set_string(&disk->nbd_bitmap, disk->since);
    return true;
}

/* The state can be consumed by a start under our hands: the link keeps the file. */
static bool
hold_saved_state(KvssVm *vm, GError **error)
{
    g_autofree char *path = kvss_domain_managed_save_path(vm->domain);
    g_autofree char *ours = g_build_filename(vm->folder, "state.save", NULL);
    KvssSaveImage *image;
    KvssFile *file;

    if (!kvss_link_or_copy(path, ours, error))
        return false;
    image = kvss_save_image_read(ours, error);
    if (!image)
        return false;
    kvss_save_image_free(image);
    file = kvss_component_add_file(vm->component, "state.save", ours, 0600);
    kvss_set_string(&file->original, path);
    return true;
}

/* Looked at again under the locks: whoever started it first wins. */
static bool
check_still_off(KvssVm *vm, GError **error)
{
    KvssDomainState now;

    if (!kvss_domain_get_state(vm->domain, &now, NULL, error))
        return false;
    if (now == vm->prior)
        return true;
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                      "it was %s and is %s now: try again", kvss_domain_state_name(vm->prior),
                      kvss_domain_state_name(now));
}

static bool
prepare_offline(KvssVm *vm, GError **error)
{
    for (guint i = 0; i < vm->component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);

        look_at_image(vm, disk);
        if (!hold_disk(vm, disk, error))
            return false;
    }
    if (vm->prior == KVSS_DOMAIN_SAVED && !hold_saved_state(vm, error))
        return false;
    return check_still_off(vm, error) && kvss_vm_capture_firmware(vm, error);
}

static bool
prepare_live(KvssVm *vm, GError **error)
{
    if (!kvss_domain_check_idle(vm->domain, error) || !kvss_vm_find_stamps(vm, error))
        return false;
    for (guint i = 0; i < vm->component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);

        if (!kvss_domain_disk_size(vm->domain, disk->target, &disk->size, error))
            return false;
        look_at_image(vm, disk);
    }
    return true;
}

bool
kvss_vm_prepare(KvssVm *vm, KvssRun *run, unsigned number, GError **error)
{
    vm->run = run;
    vm->servers = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_image_server_free);
    vm->component->is_cut_at_commit = vm->method == KVSS_METHOD_SAVED_STATE;
    note_metadata(vm);
    if (!make_folder(vm, number, error) || !kvss_vm_capture_definition(vm, error))
        return false;
    return vm->method == KVSS_METHOD_OFFLINE ? prepare_offline(vm, error)
                                             : prepare_live(vm, error);
}

uint64_t
kvss_vm_room_needed(const KvssVm *vm)
{
    uint64_t disks = 0, memory = 0;

    if (vm->method == KVSS_METHOD_OFFLINE)
        return 0;
    for (guint i = 0; i < vm->component->disks->len; i++)
        disks += ((const KvssDisk *) g_ptr_array_index(vm->component->disks, i))->size;
    if (vm->method == KVSS_METHOD_SAVED_STATE
        && !kvss_domain_memory_size(vm->domain, &memory, NULL))
        memory = 0;
    return memory + MIN(disks, MAX(SCRATCH_MIN, disks / SCRATCH_SHARE));
}

void
kvss_vm_release(KvssVm *vm)
{
    g_clear_pointer(&vm->servers, g_ptr_array_unref);
}
