/*
 * plan-file.c - where the carried files of a VM will be: NVRAM, TPM state, saved state
 */
#include "catalogue/catalogue.h"
#include "host/connection.h"
#include "restore/plan-vm.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"

#include <string.h>

static PlanFile *
plan_file(PlanVm *vm, const KvssFile *stored, const char *path)
{
    PlanFile *file = g_new0(PlanFile, 1);

    file->stored = stored;
    file->file = kvss_component_add_file(vm->component, stored->name, path, stored->mode);
    kvss_set_string(&file->file->original, stored->original);
    g_ptr_array_add(vm->files, file);
    return file;
}

/*
 * Where it was; of a copy, beside it. Where libvirt chooses the firmware by itself the
 * definition has no room for another place: like a TPM's state it stays where libvirt
 * looks for it. NULL: a definition without a place for it has no use for it.
 */
static char *
nvram_path(const Plan *plan, const PlanVm *vm)
{
    const char *to = plan->options->to_dir;
    g_autofree char *safe = plan_safe_name(vm->component);
    g_autofree char *name = g_strdup_printf("%s_VARS.fd", safe);
    g_autofree char *folder = vm->config->nvram ? g_path_get_dirname(vm->config->nvram) : NULL;

    if (to && folder)
        return g_build_filename(to, name, NULL);
    if (folder && vm->copy_of)
        return g_build_filename(folder, name, NULL);
    return kvss_host_nvram_path(plan->options->host, vm->config, vm->component->display_name);
}

/*
 * A variable store may be a qcow2 image, for a libvirt that knows such. One that names
 * another file would give that file's content to the guest.
 */
static bool
nvram_check_content(Plan *plan, PlanVm *vm, const KvssFile *stored, GError **error)
{
    g_autoptr(KvssSource) source = kvss_backup_open_file(
        plan->options->repository, plan->options->backup, vm->vm, stored, error);
    uint8_t header[80] = { 0 };
    uint32_t version;
    uint64_t backing_file_offset, features;

    if (!source
        || !kvss_source_read(source, 0, header, MIN(sizeof header, source->size), error))
        return false;
    if (memcmp(header, "QFI\xfb", 4) != 0)
        return true;
    memcpy(&version, header + 4, sizeof version);
    memcpy(&backing_file_offset, header + 8, sizeof backing_file_offset);
    memcpy(&features, header + 72, sizeof features);
    /* Bit 2 of the incompatible features: the data lies in another file. */
    if (backing_file_offset == 0
        && (GUINT32_FROM_BE(version) < 3 || !(GUINT64_FROM_BE(features) & 4)))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                      "%s of the backup is an image that names other files of the host",
                      stored->name);
}

static bool
plan_nvram(Plan *plan, PlanVm *vm, const KvssFile *stored, GError **error)
{
    const char *to = vm->config->nvram ? plan->options->to_dir : NULL;
    g_autofree char *path = nvram_path(plan, vm);
    g_autofree char *real = path ? kvss_vm_real_path(path) : NULL;

    if (!path)
        return true;
    (void) plan_file(vm, stored, path);
    return nvram_check_content(plan, vm, stored, error) && plan_check_path(path, to, error)
           && plan_check_links(path, to, error)
           && plan_check_real_path(real, to, error);
}

/* "tpm/tpm2/NAME" goes to the place that libvirt takes it from; no other path will do. */
static bool
plan_tpm(Plan *plan, PlanVm *vm, const KvssFile *stored, GError **error)
{
    const char *folder = kvss_host_tpm_folder(plan->options->host);
    g_autofree char *path = g_build_filename(folder, vm->component->name,
                                             stored->name + strlen("tpm/"), NULL);

    (void) plan_file(vm, stored, path);
    return plan_check_path(path, folder, error);
}

/* Beside the first disk, where there is room for large things. */
static bool
plan_saved_state(Plan *plan, PlanVm *vm, const KvssFile *stored, GError **error)
{
    const PlanDisk *first = NULL;
    g_autofree char *safe = plan_safe_name(vm->component);
    g_autofree char *name = g_strdup_printf(".%s.kvss-state-%.8s", safe, plan->id);
    g_autofree char *folder = NULL;
    g_autofree char *path = NULL;

    for (guint i = 0; i < vm->disks->len && !first; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (!disk->is_block)
            first = disk;
    }
    folder = first ? g_path_get_dirname(first->real)
                   : g_strdup(kvss_host_save_folder(plan->options->host));
    path = g_build_filename(folder, name, NULL);
    (void) plan_file(vm, stored, path);
    return true;
}

bool
plan_files(Plan *plan, PlanVm *vm, GError **error)
{
    GPtrArray *stored_files = vm->vm->component->files;

    for (guint i = 0; i < stored_files->len; i++) {
        const KvssFile *stored = g_ptr_array_index(stored_files, i);
        bool ok = true;

        if (g_str_equal(stored->name, "nvram.fd"))
            ok = plan_nvram(plan, vm, stored, error);
        else if (g_str_has_prefix(stored->name, "tpm/"))
            ok = plan_tpm(plan, vm, stored, error);
        else if (g_str_equal(stored->name, "state.save"))
            ok = plan_saved_state(plan, vm, stored, error);
        if (!ok)
            return false;
    }
    return true;
}
