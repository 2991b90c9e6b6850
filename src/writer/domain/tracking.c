/*
 * tracking.c - which disks of a VM are read only where they changed, and which will be
 *
 * A bitmap is believed only if everything fits: the checkpoint is there and has the
 * random name that the earlier backup noted, and the image is the very file that it
 * saw. Whatever is in doubt is read whole: that costs reads and nothing else.
 *
 * libvirt knows of the checkpoints while a backup goes on. At rest only the bitmaps
 * are there: a VM with checkpoints is not undefined without being told so, and its
 * owner did not ask for any.
 */
#include "writer/domain/vm.h"

#include <string.h>

static bool
has_stamp(const KvssVm *vm, const char *stamp)
{
    return g_ptr_array_find_with_equal_func(vm->stamps, stamp, g_str_equal, NULL);
}

/* Several backups may have the same: those of a VM that was off. */
static GPtrArray *
targets_tracked_by(const KvssVm *vm, const char *stamp)
{
    GPtrArray *targets = g_ptr_array_new();

    for (guint i = 0; i < vm->component->previous->len; i++) {
        const KvssDisk *previous = g_ptr_array_index(vm->component->previous, i);

        if (g_str_equal(previous->tracked_by, stamp)
            && !g_ptr_array_find_with_equal_func(targets, previous->target, g_str_equal, NULL))
            g_ptr_array_add(targets, previous->target);
    }
    g_ptr_array_add(targets, NULL);
    return targets;
}

/* @is_checked: QEMU looks whether the bitmaps are there and good. */
static bool
tell_again(KvssVm *vm, const char *stamp, bool is_checked)
{
    g_autoptr(GPtrArray) targets = targets_tracked_by(vm, stamp);
    g_autoptr(GError) error = NULL;

    if (kvss_domain_redefine_checkpoint(vm->domain, stamp, (const char *const *) targets->pdata,
                                        is_checked, &error)) {
        g_ptr_array_add(vm->stamps, g_strdup(stamp));
        return true;
    }
    g_debug("%s: %s", vm->component->display_name, error->message);
    return false;
}

static const char *
previous_stamp(const KvssVm *vm, guint i)
{
    return ((const KvssDisk *) g_ptr_array_index(vm->component->previous, i))->tracked_by;
}

bool
kvss_vm_find_stamps(KvssVm *vm, GError **error)
{
    g_clear_pointer(&vm->stamps, g_ptr_array_unref);
    vm->stamps = kvss_domain_checkpoints(vm->domain, KVSS_CHECKPOINT_PREFIX, error);
    if (!vm->stamps)
        return false;
    for (guint i = 0; i < vm->component->previous->len; i++)
        if (has_stamp(vm, previous_stamp(vm, i)))
            return true;
    for (guint i = 0; i < vm->component->previous->len; i++)
        if (tell_again(vm, previous_stamp(vm, i), true))
            return true;
    return true;
}

/* Of a VM that is off, QEMU itself says whether the image has it. */
static const KvssDisk *
find_previous(const KvssVm *vm, const char *target, bool *out_any)
{
    *out_any = false;
    for (guint i = 0; i < vm->component->previous->len; i++) {
        const KvssDisk *previous = g_ptr_array_index(vm->component->previous, i);

        if (!g_str_equal(previous->target, target))
            continue;
        *out_any = true;
        if (!vm->stamps || has_stamp(vm, previous->tracked_by))
            return previous;
    }
    return NULL;
}

/* NULL: only what changed is read, or the requester knows why not. */
static char *
doubt_about(const KvssDisk *disk, const KvssDisk *previous, bool is_offered, bool can_track)
{
    if (!can_track)
        return g_strdup_printf("a %s image%s keeps no record of its changes", disk->format,
                               g_strcmp0(disk->format, "qcow2") == 0
                                   ? " of the old version, or with a data file of its own," : "");
    if (!previous)
        return is_offered ? g_strdup("the record of its changes is gone or broken") : NULL;
    if (!disk->image || g_strcmp0(disk->image, previous->image) != 0)
        return g_strdup("its image, or one below it, is another file than at the last backup");
    return NULL;
}

void
kvss_vm_plan_tracking(KvssVm *vm, KvssDisk *disk, const KvssImageInfo *info)
{
    bool is_offered, can_track = info && info->can_track;
    const KvssDisk *previous = find_previous(vm, disk->target, &is_offered);

    g_free(disk->image);
    disk->image = info ? kvss_image_identity(disk->path, info) : NULL;
    g_clear_pointer(&disk->since, g_free);
    g_free(disk->reason);
    disk->reason = vm->component->is_full ? NULL
                                          : doubt_about(disk, previous, is_offered, can_track);
    if (previous && !disk->reason && !vm->component->is_full)
        disk->since = g_strdup(previous->tracked_by);
    kvss_set_string(&disk->tracked_by, can_track ? vm->component->stamp : NULL);
}

bool
kvss_vm_begin_tracking(KvssVm *vm, GError **error)
{
    return vm->method == KVSS_METHOD_OFFLINE || kvss_job_track(vm->run, vm->component, error);
}

/* "kvss-REPOSITORY-RANDOM": one repository's stamps know nothing of another's. */
static bool
is_of_same_repository(const char *stamp, const char *other)
{
    const char *end = strchr(stamp + strlen(KVSS_CHECKPOINT_PREFIX), '-');

    return end && strncmp(stamp, other, (size_t) (end - stamp) + 1) == 0;
}

/* The paths of the images whose changes the new checkpoint tracks. */
static char **
tracked_images(const KvssVm *vm)
{
    g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

    for (guint i = 0; i < vm->component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);

        if (disk->tracked_by)
            g_strv_builder_add(paths, disk->path);
    }
    return g_strv_builder_end(paths);
}

/* The backup stands: what was tracked since earlier ones is of no use. What stays goes with the next. */
static void
delete_older(KvssVm *vm)
{
    g_auto(GStrv) images = tracked_images(vm);

    if (!*images)
        return; /* no new one came about: the older ones still serve */
    /* A bitmap that is broken can be taken out only by what libvirt knows of. */
    for (guint i = 0; i < vm->component->previous->len; i++)
        if (!has_stamp(vm, previous_stamp(vm, i)))
            (void) tell_again(vm, previous_stamp(vm, i), false);
    for (guint i = 0; i < vm->stamps->len; i++) {
        const char *stamp = g_ptr_array_index(vm->stamps, i);
        g_autoptr(GError) error = NULL;

        if (g_str_equal(stamp, vm->component->stamp)
            || !is_of_same_repository(vm->component->stamp, stamp))
            continue;
        if (!kvss_domain_delete_checkpoint(vm->domain, stamp, (const char *const *) images, &error))
            g_warning("%s: %s", vm->component->display_name, error->message);
    }
}

void
kvss_vm_keep_tracking(KvssVm *vm)
{
    if (!vm->component->track_act || !vm->component->backup_succeeded)
        return;
    kvss_run_act_end(vm->run, vm->component->track_act);
    vm->component->track_act = 0;
    delete_older(vm);
    g_ptr_array_add(vm->stamps, g_strdup(vm->component->stamp));
}

void
kvss_vm_forget_stamps(KvssVm *vm)
{
    if (vm->stamps)
        kvss_domain_forget_checkpoints(vm->domain, vm->stamps);
    g_clear_pointer(&vm->stamps, g_ptr_array_unref);
}
