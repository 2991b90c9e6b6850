/*
 * plan-check.c - what is in the way of a restore: other VMs, and want of room
 */
#include "host/image.h"
#include "guardian/undo-log.h"
#include "restore/compare.h"
#include "restore/plan-others.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"

#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Looking into every image of the host costs time: only where files are in the way at all. */
static bool
something_is_there(const Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++) {
            if (g_file_test(((PlanDisk *) g_ptr_array_index(vm->disks, k))->real,
                            G_FILE_TEST_EXISTS))
                return true;
        }
    }
    return false;
}

/* ---- one VM against the others ---- */

/* The nearest folder above @path that exists. */
static char *
existing_folder(const char *path)
{
    char *folder = g_path_get_dirname(path);

    while (!g_file_test(folder, G_FILE_TEST_IS_DIR) && !g_str_equal(folder, "/")) {
        char *above = g_path_get_dirname(folder);

        g_free(folder);
        folder = above;
    }
    return folder;
}

static bool
throw_conflict(const PlanVm *vm, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool
throw_conflict(const PlanVm *vm, GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "%s: %s",
                      vm->component->display_name, text);
}

static bool
check_path_free(PlanOthers *others, const char *real, const PlanVm *vm, GError **error)
{
    const char *user = plan_others_user_of(others, real);
    struct stat st;

    if (user)
        return throw_conflict(vm, error, "%s is in use by VM %s", real, user);
    if (lstat(real, &st) == 0 && vm->copy_of)
        return throw_conflict(vm, error, "%s is there already: a copy takes the place of nothing",
                              real);
    if (stat(real, &st) == 0 && S_ISDIR(st.st_mode))
        return throw_conflict(vm, error, "%s is a folder", real);
    /* From here on it is this VM's: two of one backup must not share a place either. */
    plan_others_add(others, real, vm->component->display_name);
    return true;
}

static bool
check_mac(const PlanOthers *others, const PlanVm *vm, const char *mac, GError **error)
{
    g_autofree char *key = g_ascii_strdown(mac, -1);
    const char *user = g_hash_table_lookup(others->macs, key);

    return !user
           || throw_conflict(vm, error,
                             "its MAC address %s is that of VM %s: remove that VM, or restore "
                             "under another identity with --as NAME", key, user);
}

static bool
check_identity(const PlanOthers *others, const PlanVm *vm, GError **error)
{
    const char *name = vm->component->display_name;
    const char *uuid = g_hash_table_lookup(others->names, name);

    if (uuid && vm->copy_of)
        return throw_conflict(vm, error, "a VM of this name is here already, with UUID %s: choose "
                              "another name", uuid);
    if (uuid)
        return throw_conflict(vm, error,
                              "another VM of this name is here, with UUID %s: rename or remove it, "
                              "or restore under another name with --as NAME", uuid);
    /* Where the VM is already here, two of one MAC are the host's old habit. */
    for (guint i = 0; !vm->old && !vm->copy_of && i < vm->config->interfaces->len; i++) {
        const KvssInterfaceConfig *interface = g_ptr_array_index(vm->config->interfaces, i);

        if (interface->mac && !check_mac(others, vm, interface->mac, error))
            return false;
    }
    return true;
}

static bool
check_other_disk(const PlanVm *vm, const KvssDiskConfig *disk, GError **error)
{
    g_autofree char *real = disk->source ? kvss_vm_real_path(disk->source) : NULL;

    if (!real || kvss_component_find_disk(vm->component, disk->target))
        return true;
    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *restored = g_ptr_array_index(vm->disks, i);

        if (g_str_equal(restored->real, real))
            return throw_conflict(vm, error,
                                  "disk %s would take the place of disk %s, %s, which is not in "
                                  "the backup", restored->disk->target, disk->target, real);
    }
    return true;
}

/* A disk that the VM has here, and that does not come back, is no old content of another. */
static bool
check_other_disks(const PlanVm *vm, GError **error)
{
    g_autoptr(KvssDomainConfig) config = vm->old ? kvss_domain_config(vm->old, NULL) : NULL;

    for (guint i = 0; config && i < config->disks->len; i++)
        if (!check_other_disk(vm, g_ptr_array_index(config->disks, i), error))
            return false;
    return true;
}

static bool
check_old(const PlanVm *vm, GError **error)
{
    const char *name = vm->component->display_name;

    if (!vm->old)
        return true;
    if (vm->old_state == KVSS_DOMAIN_OTHER)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s is in transition (starting, shutting down or crashed): wait, or "
                          "shut it off", name);
    if (!kvss_domain_is_persistent(vm->old))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s runs as a transient VM, which cannot be set aside: shut it off",
                          name);
    if (vm->old_state == KVSS_DOMAIN_OFF || vm->old_state == KVSS_DOMAIN_SAVED)
        return true;
    return kvss_domain_check_idle(vm->old, error);
}

static bool
is_in_memory(const char *path)
{
    g_autofree char *folder = existing_folder(path);
    struct statfs st;

    return statfs(folder, &st) == 0 && (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC);
}

/* A disk that is written over: its way back must be as safe as the disk itself. */
static bool
check_way_back(const PlanVm *vm, const PlanDisk *disk, GError **error)
{
    const char *name = vm->component->display_name, *target = disk->disk->target;
    const char *log = disk->in_place ? disk->in_place->log : NULL;

    if (!disk->in_place && !disk->is_block)
        return true;
    /* Its memory, put back to a disk that is half new, would ruin what is left of it. */
    if (!log && vm->old && vm->old_state != KVSS_DOMAIN_OFF)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: disk %s is to be written over without a way back, and the VM is %s: "
                          "shut it off, or leave --no-rollback away", name, target,
                          kvss_domain_state_name(vm->old_state));
    if (log && disk->is_block && is_in_memory(log))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: disk %s: its old content would go to %s, which a power cut empties: "
                          "name another scratch-dir in the configuration, or give --no-rollback",
                          name, target, log);
    return true;
}

static bool
check_vm(PlanOthers *others, const PlanVm *vm, GError **error)
{
    if (!vm->is_beside
        && (!check_old(vm, error) || !check_identity(others, vm, error)
            || !check_other_disks(vm, error)))
        return false;
    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (!check_path_free(others, disk->real, vm, error) || !check_way_back(vm, disk, error))
            return false;
    }
    for (guint i = 0; i < vm->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(vm->files, i);
        g_autofree char *real = kvss_vm_real_path(file->file->path);

        if (!check_path_free(others, real, vm, error))
            return false;
    }
    return true;
}

bool
plan_check_conflicts(Plan *plan, GError **error)
{
    g_auto(PlanOthers) others = { 0 };

    if (!plan_others_learn(&others, plan, something_is_there(plan), error))
        return false;
    for (guint i = 0; i < plan->vms->len; i++) {
        if (!check_vm(&others, g_ptr_array_index(plan->vms, i), error))
            return false;
    }
    return true;
}

/* ---- room ---- */

/** What goes to one file system. */
typedef struct {
    dev_t device;
    char *folder; /* one on it */
    uint64_t need;
    uint64_t logs; /* of it: roll-back logs */
} Need;

static void
need_free(gpointer data)
{
    Need *need = data;

    g_free(need->folder);
    g_free(need);
}

static bool
need_add_some(GPtrArray *needs, const char *path, uint64_t bytes, bool is_log, GError **error)
{
    g_autofree char *folder = existing_folder(path);
    struct stat st;
    Need *need;

    if (stat(folder, &st) < 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "cannot look at folder %s",
                          folder);
    for (guint i = 0; i < needs->len; i++) {
        need = g_ptr_array_index(needs, i);
        if (need->device == st.st_dev) {
            need->need += bytes;
            need->logs += is_log ? bytes : 0;
            return true;
        }
    }
    need = g_new0(Need, 1);
    need->device = st.st_dev;
    need->folder = g_steal_pointer(&folder);
    need->need = bytes;
    need->logs = is_log ? bytes : 0;
    g_ptr_array_add(needs, need);
    return true;
}

static bool
need_add(GPtrArray *needs, const char *path, uint64_t bytes, GError **error)
{
    return need_add_some(needs, path, bytes, false, error);
}

/* Images carry tables of their own: one part in a hundred, and a little. */
static uint64_t
image_bytes(const PlanDisk *disk)
{
    uint64_t bytes = disk->keeps_room ? disk->disk->size : disk->data_bytes;

    return bytes + bytes / 100 + 1024 * 1024;
}

/* Known once it was compared; until then nothing is written. */
static bool
need_add_in_place(GPtrArray *needs, const PlanDisk *disk, GError **error)
{
    const Difference *difference = disk->in_place->difference;
    uint64_t log = difference ? kvss_undo_log_bytes(difference->data_bytes,
                                                    difference->differ_bytes / KVSS_GRAIN_LENGTH)
                              : 0;

    if (!difference)
        return true;
    return (!disk->in_place->log || need_add_some(needs, disk->in_place->log, log, true, error))
        && (disk->is_block || need_add(needs, disk->real, difference->growth_bytes, error));
}

static bool
file_bytes(const Plan *plan, const PlanVm *vm, const PlanFile *file, uint64_t *out_bytes,
           GError **error)
{
    g_autoptr(KvssSource) source = kvss_backup_open_file(
        plan->options->repository, plan->options->backup, vm->vm, file->stored, error);

    if (!source)
        return false;
    *out_bytes = source->size;
    return true;
}

static bool
needs_of_vm(GPtrArray *needs, const Plan *plan, const PlanVm *vm, GError **error)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (disk->in_place ? !need_add_in_place(needs, disk, error)
                           : !disk->is_block && !need_add(needs, disk->real, image_bytes(disk), error))
            return false;
    }
    for (guint i = 0; i < vm->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(vm->files, i);
        uint64_t bytes;

        if (!file_bytes(plan, vm, file, &bytes, error)
            || !need_add(needs, file->file->path, bytes, error))
            return false;
        /* libvirt saves it once more, as its own. */
        if (g_str_equal(file->stored->name, "state.save")
            && !need_add(needs, kvss_host_save_folder(plan->options->host), bytes, error))
            return false;
    }
    return true;
}

static bool
throw_no_room_for_logs(const Need *need, uint64_t room, GError **error)
{
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM,
                      "no room in %s: the restore needs %" G_GUINT64_FORMAT " bytes there, %"
                      G_GUINT64_FORMAT " are free; %" G_GUINT64_FORMAT " of them are for the old "
                      "content of disks that are written over where they are: name another "
                      "scratch-dir in the configuration (block devices), or give that way back up "
                      "with --no-rollback", need->folder, need->need, room, need->logs);
}

bool
plan_check_room(Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) needs = g_ptr_array_new_with_free_func(need_free);

    for (guint i = 0; i < plan->vms->len; i++) {
        if (!needs_of_vm(needs, plan, g_ptr_array_index(plan->vms, i), error))
            return false;
    }
    for (guint i = 0; i < plan->hosts->len; i++) {
        const PlanHost *host = g_ptr_array_index(plan->hosts, i);
        const PlanFile *first = host->files->len > 0 ? g_ptr_array_index(host->files, 0) : NULL;

        /* All of them where the first one goes: a set of files is seldom on several file systems. */
        if (first && !need_add(needs, first->file->path, host->stored->bytes, error))
            return false;
    }
    for (guint i = 0; i < needs->len; i++) {
        const Need *need = g_ptr_array_index(needs, i);
        uint64_t room;

        if (!kvss_image_room(need->folder, &room, error))
            return false;
        if (room < need->need && need->logs > 0)
            return throw_no_room_for_logs(need, room, error);
        if (room < need->need)
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM,
                              "no room in %s: the restore needs %" G_GUINT64_FORMAT
                              " MiB there, %" G_GUINT64_FORMAT
                              " MiB are free (old disks stay until the new ones are registered)",
                              need->folder, need->need >> 20, room >> 20);
    }
    return true;
}
