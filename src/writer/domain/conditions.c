/*
 * conditions.c - C1 to C5: may the guest be cut through its agent?
 *
 * Each condition is told with the value that was seen, whether it holds or not.
 */
#include "host/volume.h"
#include "writer/domain/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* How long a question may take before a backup has begun. */
#define PING_LIMIT_S 3
#define QUESTION_LIMIT_S 5
#define SETTLING_POLL_US (100 * 1000)

static bool
ping(KvssVm *vm, GError **error)
{
    while (!kvss_agent_ping(vm->domain, PING_LIMIT_S, error)) {
        if (!kvss_host_is_settling(kvss_domain_host(vm->domain)))
            return false;
        g_clear_error(error);
        g_usleep(SETTLING_POLL_US);
    }
    return true;
}

/* C1: the agent is there, answers, and offers the freeze. Fills vm->guest. */
static bool
check_agent(KvssVm *vm)
{
    KvssComponent *component = vm->component;
    g_autoptr(GError) error = NULL;

    if (!vm->config->has_agent_channel) {
        kvss_component_add_condition(component, "C1", false,
                                     "the VM has no guest agent channel "
                                     "(org.qemu.guest_agent.0)");
        return false;
    }
    if (vm->prior != KVSS_DOMAIN_RUNNING) {
        kvss_component_add_condition(component, "C1", false,
                                     "not known: the guest agent cannot be asked while the VM "
                                     "is %s",
                                     kvss_domain_state_name(vm->prior));
        return false;
    }
    if (!ping(vm, &error)) {
        kvss_component_add_condition(component, "C1", false,
                                     "the guest agent does not answer a ping within %d s",
                                     PING_LIMIT_S);
        g_debug("%s: %s", kvss_domain_name(vm->domain), error->message);
        return false;
    }
    vm->guest = kvss_agent_look(vm->domain, QUESTION_LIMIT_S, &error);
    if (!vm->guest) {
        kvss_component_add_condition(component, "C1", false, "the guest agent fell silent: %s",
                                     error->message);
        return false;
    }
    if (vm->guest->is_frozen) {
        kvss_component_add_condition(component, "C1", false,
                                     "somebody else has frozen the guest's file systems");
        g_clear_pointer(&vm->guest, kvss_guest_info_free);
        return false;
    }
    if (!vm->guest->can_freeze) {
        kvss_component_add_condition(component, "C1", false,
                                     "the guest agent does not offer to freeze file systems");
        return false;
    }
    kvss_component_add_condition(component, "C1", true,
                                 "the guest agent answers and offers to freeze");
    return true;
}

static bool
check_running(KvssVm *vm)
{
    bool holds = vm->prior == KVSS_DOMAIN_RUNNING;

    kvss_component_add_condition(vm->component, "C2", holds, "the VM is %s",
                                 kvss_domain_state_name(vm->prior));
    return holds;
}

/* ---- C3: overlays would lie on the same volume as each base image ---- */

static const char *
or_unknown(const char *volume)
{
    return volume ? volume : "not known";
}

static bool
lies_beside(const KvssDisk *disk, dev_t device)
{
    struct stat image;

    /* A block device or network disk lies on no volume of the host that overlays could share. */
    return disk->path && g_path_is_absolute(disk->path) && stat(disk->path, &image) == 0
        && !S_ISBLK(image.st_mode) && image.st_dev == device;
}

/* Subvolumes of one btrfs are volumes of their own under one mount point. */
static bool
refuse_location(KvssVm *vm, const KvssDisk *disk, const char *volume)
{
    const char *path = disk->path ? disk->path : "?";

    if (!disk->volume)
        kvss_component_add_condition(vm->component, "C3", false,
                                     "overlays would go to volume %s (folder %s), and disk %s (%s) "
                                     "cannot be looked at",
                                     or_unknown(volume), vm->policy->snapshot_dir, disk->target,
                                     path);
    else
        kvss_component_add_condition(vm->component, "C3", false,
                                     "overlays would go to volume %s (folder %s), disk %s (%s) is "
                                     "on %svolume %s",
                                     or_unknown(volume), vm->policy->snapshot_dir, disk->target,
                                     path,
                                     g_strcmp0(volume, disk->volume) == 0
                                         ? "another subvolume of "
                                         : "",
                                     disk->volume);
    return false;
}

static bool
check_folder(KvssVm *vm, const char *folder)
{
    g_autofree char *volume = NULL;
    struct stat place;

    if (stat(folder, &place) < 0) {
        kvss_component_add_condition(vm->component, "C3", false,
                                     "the snapshot folder %s cannot be looked at: %s", folder,
                                     g_strerror(errno));
        return false;
    }
    volume = kvss_volume_of(folder);
    for (guint i = 0; i < vm->component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);

        if (!lies_beside(disk, place.st_dev))
            return refuse_location(vm, disk, volume);
    }
    kvss_component_add_condition(vm->component, "C3", true,
                                 "overlays would go to volume %s (folder %s), every disk is on it",
                                 or_unknown(volume), folder);
    return true;
}

static bool
check_location(KvssVm *vm)
{
    KvssHost *host = kvss_domain_host(vm->domain);
    const char *folder = vm->policy->snapshot_dir;

    if (!folder) {
        kvss_component_add_condition(vm->component, "C3", true,
                                     "overlays would lie beside each image");
        return true;
    }
    if (!kvss_host_is_local(host)) {
        kvss_component_add_condition(vm->component, "C3", false,
                                     "it cannot be judged from here: the file systems of %s, where "
                                     "the snapshot folder %s would lie, are not seen over %s",
                                     kvss_host_name(host), folder, kvss_host_uri(host));
        return false;
    }
    return check_folder(vm, folder);
}

/* ---- C4 and C5 ---- */

static bool
is_covered(const KvssVm *vm, const char *target)
{
    return kvss_component_find_disk(vm->component, target) != NULL;
}

static const char *
first_uncovered(const KvssVm *vm, char **targets)
{
    for (; *targets; targets++) {
        if (!is_covered(vm, *targets))
            return *targets;
    }
    return NULL;
}

static bool
has_covered(const KvssVm *vm, char **targets)
{
    for (; *targets; targets++) {
        if (is_covered(vm, *targets))
            return true;
    }
    return false;
}

/* A stack that touches no disk of the set is the business of what is not covered. */
static bool
check_stack(KvssVm *vm, const KvssGuestStack *stack)
{
    g_autofree char *on = g_strjoinv(", ", stack->targets);
    const char *missing = first_uncovered(vm, stack->targets);

    if (!has_covered(vm, stack->targets))
        return true;
    if (missing || !stack->is_complete) {
        kvss_component_add_condition(vm->component, "C4", false,
                                     "%s in the guest is built on %s and reaches %s, which is not "
                                     "cut",
                                     stack->name, on, missing ? missing : "a device outside the VM");
        return false;
    }
    if (vm->policy->strict_conditions) {
        kvss_component_add_condition(vm->component, "C4", false,
                                     "%s in the guest is stacked on %s, and --strict-conditions "
                                     "allows basic volumes only",
                                     stack->name, on);
        return false;
    }
    kvss_component_add_note(vm->component,
                            "%s in the guest is stacked on %s: all of it is cut at one instant",
                            stack->name, on);
    return true;
}

static bool
check_basic_volumes(KvssVm *vm)
{
    if (!vm->guest) {
        kvss_component_add_condition(vm->component, "C4", false,
                                     "not known: the guest agent could not be asked");
        return false;
    }
    for (guint i = 0; i < vm->guest->stacks->len; i++) {
        if (!check_stack(vm, g_ptr_array_index(vm->guest->stacks, i)))
            return false;
    }
    kvss_component_add_condition(vm->component, "C4", true,
                                 "no guest volume reaches a device that is not cut");
    return true;
}

static bool
is_freezable(const char *type)
{
    static const char *const types[] = {
        "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2", "reiserfs",
        "gfs2", "ocfs2", "bcachefs", "NTFS", "ntfs", "ReFS", NULL,
    };

    return g_strv_contains(types, type);
}

/* Where loaders look for it; a Windows agent says "System Reserved" of what has no letter. */
static bool
is_efi_partition(const KvssGuestMount *mount)
{
    static const char *const places[] = {
        "/boot/efi", "/efi", "/boot", "/boot/firmware", "System Reserved", NULL,
    };

    return (g_str_equal(mount->type, "vfat") || g_str_equal(mount->type, "FAT32"))
        && g_strv_contains(places, mount->mountpoint);
}

/* C5, for one file system; true if it stands in nobody's way. */
static bool
check_file_system(KvssVm *vm, const KvssGuestMount *mount)
{
    if (mount->is_remote || mount->is_readonly || !has_covered(vm, mount->targets)
        || is_freezable(mount->type))
        return true;
    if (is_efi_partition(mount)) {
        kvss_component_add_note(vm->component,
                                "the EFI system partition (%s) cannot be frozen: tolerated",
                                mount->mountpoint);
        return true;
    }
    kvss_component_add_condition(vm->component, "C5", false,
                                 "%s is a %s file system, which cannot be frozen",
                                 mount->mountpoint, mount->type);
    return false;
}

static bool
check_file_systems(KvssVm *vm)
{
    unsigned n = 0;

    if (!vm->guest) {
        kvss_component_add_condition(vm->component, "C5", false,
                                     "not known: the guest agent could not be asked");
        return false;
    }
    for (guint i = 0; i < vm->guest->mounts->len; i++) {
        const KvssGuestMount *mount = g_ptr_array_index(vm->guest->mounts, i);

        if (!check_file_system(vm, mount))
            return false;
        n += !mount->is_remote && is_freezable(mount->type);
    }
    kvss_component_add_condition(vm->component, "C5", true,
                                 "%u mounted file systems, all can be frozen", n);
    return true;
}

/* Bind mounts show a file system twice; the freeze counts it once. */
unsigned
kvss_vm_count_freezable(const KvssVm *vm)
{
    g_autoptr(GHashTable) devices = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < vm->guest->mounts->len; i++) {
        const KvssGuestMount *mount = g_ptr_array_index(vm->guest->mounts, i);

        if (!mount->is_remote && !mount->is_readonly && mount->device
            && has_covered(vm, mount->targets) && is_freezable(mount->type))
            g_hash_table_add(devices, mount->device);
    }
    return g_hash_table_size(devices);
}

bool
kvss_vm_check_conditions(KvssVm *vm)
{
    bool c1 = check_agent(vm);
    bool c2 = check_running(vm);
    bool c3 = check_location(vm);
    bool c4, c5;

    if (vm->guest)
        kvss_vm_find_guest_coverage(vm);
    c4 = check_basic_volumes(vm);
    c5 = check_file_systems(vm);
    return c1 && c2 && c3 && c4 && c5;
}
