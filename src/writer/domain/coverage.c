/*
 * coverage.c - which disks can be cut, and what no backup of ours holds
 *
 * A disk that QEMU's block layer cannot cut is named wherever the backup is
 * spoken of: nobody must learn at restore time that it was never there.
 */
#include "host/volume.h"
#include "writer/domain/vm.h"

#include <string.h>

/* NULL: the disk is covered. Else the kind of reason, with a phrase. */
static const char *
why_not(const KvssDiskConfig *disk, bool *out_is_writable, const char **out_phrase)
{
    static const struct {
        const char *device, *type, *protocol, *kind, *phrase;
        bool is_writable;
    } rules[] = {
        { "lun", NULL, NULL, "lun",
          "a SCSI device passed through to the guest; back it up inside the guest", true },
        { "cdrom", NULL, NULL, "cdrom", "removable media: only the path is kept", false },
        { "floppy", NULL, NULL, "floppy", "removable media: only the path is kept", false },
        { NULL, "vhostuser", NULL, "vhostuser",
          "its data go past QEMU; back it up inside the guest", true },
        { NULL, "vhostvdpa", NULL, "vhostvdpa",
          "its data go past QEMU; back it up inside the guest", true },
        { NULL, "nvme", NULL, "nvme",
          "an NVMe device given to the guest; back it up inside the guest", true },
        { NULL, "dir", NULL, "dir", "a folder of the host shown as a disk", true },
        { NULL, "network", "iscsi", "iscsi",
          "an iSCSI disk that belongs to another machine; back it up there or inside the guest",
          true },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        if ((rules[i].device && !g_str_equal(rules[i].device, disk->device))
            || (rules[i].type && !g_str_equal(rules[i].type, disk->type))
            || (rules[i].protocol && g_strcmp0(rules[i].protocol, disk->protocol) != 0))
            continue;
        *out_is_writable = rules[i].is_writable && !disk->is_readonly;
        *out_phrase = rules[i].phrase;
        return rules[i].kind;
    }
    if (disk->is_transient) {
        *out_is_writable = true;
        *out_phrase = "a transient disk: what the guest writes is thrown away at shut-down";
        return "transient";
    }
    if (disk->is_readonly) {
        *out_is_writable = false;
        *out_phrase = "read-only: the guest cannot change it";
        return "readonly";
    }
    return NULL;
}

static char *
disk_path(KvssVm *vm, const KvssDiskConfig *config)
{
    if (g_str_equal(config->type, "volume") && config->source) {
        g_auto(GStrv) parts = g_strsplit(config->source, "/", 2);

        return kvss_host_volume_path(kvss_domain_host(vm->domain), parts[0],
                                     parts[1] ? parts[1] : "", NULL);
    }
    return g_strdup(config->source);
}

/*
 * What of the host a disk lies on. Of another machine only the definition is seen:
 * a path there says nothing about the file systems here.
 */
static char *
disk_volume(const KvssVm *vm, const KvssDiskConfig *config, const char *path)
{
    if (g_str_equal(config->type, "network"))
        return g_strdup_printf("%s server %s", config->protocol ? config->protocol : "?",
                               config->server ? config->server : "by default");
    if (!path || !g_path_is_absolute(path) || !kvss_host_is_local(kvss_domain_host(vm->domain)))
        return NULL;
    return kvss_volume_of(path);
}

static void
add_covered(KvssVm *vm, const KvssDiskConfig *config)
{
    KvssDisk *disk = kvss_component_find_disk(vm->component, config->target);
    g_autofree char *path = disk_path(vm, config);
    g_autofree char *volume = disk_volume(vm, config, path);

    if (!disk)
        disk = kvss_component_add_disk(vm->component, config->target);

    kvss_set_string(&disk->format, config->format);
    kvss_set_string(&disk->kind, config->type);
    kvss_set_string(&disk->path, path);
    kvss_set_string(&disk->volume, volume);
    if (config->is_shareable)
        kvss_component_add_note(vm->component,
                                "%s is shared with other VMs: their writes are not held",
                                config->target);
    if (config->is_encrypted)
        kvss_component_add_note(vm->component,
                                "%s is encrypted: the backup holds its plain content under the "
                                "repository's own encryption",
                                config->target);
}

static void
add_passthrough(KvssVm *vm)
{
    for (guint i = 0; i < vm->config->passthrough->len; i++) {
        const KvssPassthroughConfig *p = g_ptr_array_index(vm->config->passthrough, i);
        /* A PCI or USB device may be no storage at all: named, but no cause for alarm. */
        bool is_storage = g_str_equal(p->kind, "filesystem") || g_str_has_prefix(p->detail, "scsi");

        kvss_component_add_not_covered(vm->component, p->name, p->kind, is_storage,
                                       "%s: QEMU does not see its data; back it up on its own",
                                       p->detail);
    }
}

void
kvss_vm_find_coverage(KvssVm *vm)
{
    for (guint i = 0; i < vm->config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(vm->config->disks, i);
        bool is_writable = false;
        const char *phrase = NULL;
        const char *kind = why_not(disk, &is_writable, &phrase);

        if (kind)
            kvss_component_add_not_covered(vm->component, disk->target, kind, is_writable, "%s",
                                           phrase);
        else if (!disk->source)
            kvss_component_add_not_covered(vm->component, disk->target, "empty", false,
                                           "a drive without a medium");
        else
            add_covered(vm, disk);
    }
    add_passthrough(vm);
}

static bool
is_image_of_media(const KvssGuestMount *mount)
{
    static const char *const types[] = { "iso9660", "udf", "squashfs", "cramfs", "erofs", NULL };

    return g_strv_contains(types, mount->type)
        || (mount->device && strstr(mount->device, "loop") != NULL);
}

/* What the guest fetches by itself, over its own network, is seen only through its agent. */
void
kvss_vm_find_guest_coverage(KvssVm *vm)
{
    for (guint i = 0; i < vm->guest->mounts->len; i++) {
        const KvssGuestMount *mount = g_ptr_array_index(vm->guest->mounts, i);

        if (mount->is_remote)
            kvss_component_add_not_covered(vm->component, mount->mountpoint, "guest-mount",
                                           !mount->is_readonly,
                                           "the guest itself mounts %s (%s); back it up at its "
                                           "server",
                                           mount->device, mount->type);
        else if (!mount->targets[0] && !is_image_of_media(mount))
            kvss_component_add_not_covered(vm->component, mount->mountpoint, "guest-mount",
                                           !mount->is_readonly,
                                           "a %s on %s, which is no disk of the VM (iSCSI inside "
                                           "the guest, perhaps); back it up at its server",
                                           mount->type, mount->device ? mount->device : "?");
    }
    if (!vm->guest->mounts_complete)
        kvss_component_add_note(vm->component,
                                "its agent does not show /proc/mounts: network file systems that "
                                "the guest mounts by itself cannot be listed");
}
