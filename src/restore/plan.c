/*
 * plan.c - what a restore will do, gathered from the backup and the host
 */
#include "restore/plan.h"
#include "catalogue/documents.h"
#include "host/image.h"
#include "restore/host.h"
#include "stream/source.h"
#include "writer/domain/definition.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFINITION_MAX (10u * 1024 * 1024)

/* ---- life ---- */

static void
plan_disk_free(gpointer data)
{
    PlanDisk *disk = data;

    g_free(disk->real);
    g_free(disk);
}

static void
plan_vm_free(gpointer data)
{
    PlanVm *vm = data;

    if (!vm->component_is_taken)
        kvss_component_free(vm->component);
    kvss_domain_config_free(vm->config);
    kvss_domain_free(vm->old);
    g_ptr_array_unref(vm->disks);
    g_ptr_array_unref(vm->files);
    kvss_restored_vm_free(vm->result);
    g_free(vm);
}

void
plan_free(Plan *plan)
{
    if (!plan)
        return;
    g_clear_pointer(&plan->vms, g_ptr_array_unref);
    g_clear_pointer(&plan->hosts, g_ptr_array_unref);
    g_clear_pointer(&plan->host_acts, g_array_unref);
    g_clear_pointer(&plan->host_folders, g_hash_table_unref);
    g_clear_pointer(&plan->ours, g_hash_table_unref);
    g_clear_pointer(&plan->steps, g_ptr_array_unref);
    g_free(plan->id);
    g_free(plan);
}

/* ---- disks ---- */

/* A block device is written through, in place, and must be as large at least. */
static bool
block_check(const PlanDisk *disk, GError **error)
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
    g_autofree char *path = plan_path_in(options->to_dir, vm->component->display_name,
                                         disk->disk->target, disk->disk->format);

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

static bool
disk_count_data(Plan *plan, PlanVm *vm, PlanDisk *disk, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    g_autoptr(KvssSource) source = kvss_backup_open_disk(options->repository, options->backup,
                                                         vm->vm, disk->stored, error);
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));

    if (!source)
        return false;
    disk->disk->size = source->size;
    if (source->size > 0 && !kvss_source_extents(source, 0, source->size, extents, error))
        return false;
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        disk->data_bytes += extent->zero ? 0 : extent->length;
    }
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
    g_ptr_array_add(vm->result->disks, result);
}

static const KvssDiskConfig *
config_find_disk(const KvssDomainConfig *config, const char *target)
{
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        if (g_str_equal(disk->target, target))
            return disk;
    }
    return NULL;
}

static bool
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

    if (!config_find_disk(vm->config, stored->target))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "disk %s is not in the stored definition", stored->target);
    disk_choose_format(vm, disk);
    if (!(plan->options->to_dir ? disk_place_elsewhere(plan->options, vm, disk)
                                : disk_place_where_it_was(disk, error)))
        return false;
    disk->real = kvss_vm_real_path(disk->disk->path);
    disk->is_block = g_str_equal(disk->disk->kind, "block");
    disk->keeps_room = !disk->is_block && g_str_equal(disk->disk->format, "raw")
        && kvss_image_options_preallocate(disk->disk->options);
    if (!disk->is_block && !plan_check_path(disk->real, plan->options->to_dir, error))
        return false;
    if (!disk_count_data(plan, vm, disk, error) || (disk->is_block && !block_check(disk, error)))
        return false;
    disk_add_result(vm, disk);
    return true;
}

/* ---- carried files ---- */

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

static bool
plan_nvram(Plan *plan, PlanVm *vm, const KvssFile *stored, GError **error)
{
    g_autofree char *safe = kvss_manifest_safe_name(vm->component->display_name);
    g_autofree char *name = g_strdup_printf("%s_VARS.fd", safe);
    g_autofree char *path = plan->options->to_dir
        ? g_build_filename(plan->options->to_dir, name, NULL) : g_strdup(vm->config->nvram);

    /* A definition without a place for it has no use for it. */
    if (!path)
        return true;
    (void) plan_file(vm, stored, path);
    return plan_check_path(path, plan->options->to_dir, error);
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
    g_autofree char *safe = kvss_manifest_safe_name(vm->component->display_name);
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

static bool
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

/* ---- definition ---- */

static bool
plan_definition(Plan *plan, PlanVm *vm, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    const KvssFile *stored = kvss_component_find_file(vm->vm->component, "domain.xml");
    g_autoptr(GBytes) bytes = NULL;
    g_autofree char *xml = NULL;

    if (!stored)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "the backup holds no definition of it");
    bytes = kvss_backup_read_file(options->repository, options->backup, vm->vm, stored,
                                  DEFINITION_MAX, error);
    if (!bytes)
        return false;
    xml = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    vm->config = kvss_domain_config_parse(xml, error);
    if (!vm->config)
        return false;
    if (g_ascii_strcasecmp(vm->config->uuid, vm->component->name) != 0
        || !g_str_equal(vm->config->name, vm->component->display_name))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "its stored definition is that of another VM, %s", vm->config->name);
    (void) kvss_component_add_bytes(vm->component, "domain.xml", bytes, 0600);
    return true;
}

/* What PostRestore will make of the definition, seen beforehand. */
static bool
plan_correction(Plan *plan, PlanVm *vm, GError **error)
{
    const KvssFile *file = kvss_component_find_file(vm->component, "domain.xml");
    g_autofree char *xml = g_strndup(g_bytes_get_data(file->bytes, NULL),
                                     g_bytes_get_size(file->bytes));
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autofree char *corrected = kvss_definition_correct(xml, vm->component, plan->options->host,
                                                         NULL, &report, error);

    if (!corrected)
        return false;
    plan->is_partial |= report.left_out_host_access;
    for (guint i = 0; i < report.networks->len; i++) {
        const KvssDefinitionNetwork *network = g_ptr_array_index(report.networks, i);
        KvssRestoredNetwork *result = g_new0(KvssRestoredNetwork, 1);

        result->type = g_strdup(network->type);
        result->source = g_strdup(network->source);
        result->mac = g_strdup(network->mac);
        result->is_connected = network->is_connected;
        plan->is_partial |= !network->is_connected;
        g_ptr_array_add(vm->result->networks, result);
    }
    return true;
}

/* ---- VMs ---- */

static bool
plan_old(Plan *plan, PlanVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssDomain) old
        = kvss_host_find_domain(plan->options->host, vm->component->name, &local);

    if (!old && !g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!old || g_ascii_strcasecmp(kvss_domain_uuid(old), vm->component->name) != 0)
        return true;
    vm->old = g_steal_pointer(&old);
    return kvss_domain_get_state(vm->old, &vm->old_state, NULL, error);
}

static void
note_not_covered(Plan *plan, PlanVm *vm)
{
    GPtrArray *list = vm->vm->component->not_covered;

    for (guint i = 0; i < list->len; i++) {
        const KvssNotCovered *item = g_ptr_array_index(list, i);

        if (!item->is_writable)
            continue;
        plan->is_partial = true;
        g_ptr_array_add(vm->result->notes,
                        g_strdup_printf("%s (%s) was not in the backup: it is left as it is",
                                        item->target, item->kind));
    }
}

static void
component_fill(KvssComponent *component, const KvssComponent *stored)
{
    kvss_set_string(&component->logical_path, stored->logical_path);
    kvss_set_string(&component->caption, stored->caption);
    kvss_set_string(&component->state, stored->state);
    kvss_set_string(&component->method, stored->method);
    kvss_set_string(&component->consistency, stored->consistency);
    kvss_set_string(&component->metadata, stored->metadata);
}

/* Its memory cannot be saved: the writer may shut it off, and the plan says so. */
static bool
must_be_stopped(const PlanVm *vm)
{
    g_autoptr(KvssDomainConfig) config = NULL;

    if (!vm->old
        || (vm->old_state != KVSS_DOMAIN_RUNNING && vm->old_state != KVSS_DOMAIN_PAUSED))
        return false;
    config = kvss_domain_config(vm->old, NULL);
    return config && config->passthrough->len > 0;
}

static void
component_set_options(const Plan *plan, PlanVm *vm)
{
    g_autofree char *text = g_strdup_printf("{\"keep-old\":%s,\"stop\":%s}",
                                            plan->options->keep_old ? "true" : "false",
                                            must_be_stopped(vm) ? "true" : "false");

    kvss_set_string(&vm->component->restore_options, text);
}

static bool
plan_vm_fill(Plan *plan, PlanVm *vm, GError **error)
{
    GPtrArray *disks = vm->vm->component->disks;

    if (!g_uuid_string_is_valid(vm->component->name))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "'%s' is no UUID of a VM", vm->component->name);
    if (!plan_old(plan, vm, error) || !plan_definition(plan, vm, error))
        return false;
    for (guint i = 0; i < disks->len; i++) {
        if (!plan_disk(plan, vm, g_ptr_array_index(disks, i), error))
            return false;
    }
    component_set_options(plan, vm);
    note_not_covered(plan, vm);
    return plan_files(plan, vm, error) && plan_correction(plan, vm, error);
}

static bool
plan_vm(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    const KvssComponent *component = stored->component;
    PlanVm *vm = g_new0(PlanVm, 1);

    vm->vm = stored;
    vm->disks = g_ptr_array_new_with_free_func(plan_disk_free);
    vm->files = g_ptr_array_new_with_free_func(g_free);
    vm->component = kvss_component_new(component->name, component->display_name);
    vm->result = kvss_restored_vm_new(component->display_name, component->name);
    g_ptr_array_add(plan->vms, vm);
    component_fill(vm->component, component);
    if (plan_vm_fill(plan, vm, error))
        return true;
    g_prefix_error(error, "%s: ", component->display_name);
    return false;
}

static bool
plan_has(const Plan *plan, const KvssManifestVm *stored)
{
    for (guint i = 0; i < plan->hosts->len; i++) {
        if (((PlanHost *) g_ptr_array_index(plan->hosts, i))->stored == stored)
            return true;
    }
    for (guint i = 0; i < plan->vms->len; i++) {
        if (((PlanVm *) g_ptr_array_index(plan->vms, i))->vm == stored)
            return true;
    }
    return false;
}

static bool
plan_one(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    bool is_vm = g_ptr_array_find(plan->options->backup->manifest->vms, stored, NULL);

    return is_vm ? plan_vm(plan, stored, error) : host_plan(plan, stored, error);
}

static bool
plan_named(Plan *plan, GError **error)
{
    const KvssManifest *manifest = plan->options->backup->manifest;

    for (const char *const *name = plan->options->vms; *name; name++) {
        KvssManifestVm *stored = kvss_manifest_find(manifest, *name, error);

        if (!stored || (!plan_has(plan, stored) && !plan_one(plan, stored, error)))
            return false;
    }
    return true;
}

static bool
plan_all(Plan *plan, GError **error)
{
    const KvssManifest *manifest = plan->options->backup->manifest;
    GPtrArray *lists[] = { manifest->vms, manifest->components };

    for (guint l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (guint i = 0; i < lists[l]->len; i++) {
            if (!plan_one(plan, g_ptr_array_index(lists[l], i), error))
                return false;
        }
    }
    return true;
}

Plan *
plan_new(const KvssRestoreOptions *options, GError **error)
{
    g_autoptr(Plan) plan = g_new0(Plan, 1);

    plan->options = options;
    plan->id = g_uuid_string_random();
    plan->vms = g_ptr_array_new_with_free_func(plan_vm_free);
    plan->hosts = g_ptr_array_new_with_free_func(host_free);
    plan->host_acts = g_array_new(FALSE, FALSE, sizeof(KvssActId));
    plan->host_folders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    plan->ours = host_ours(options);
    plan->steps = g_ptr_array_new_with_free_func(g_free);
    if (!kvss_host_is_local(options->host)) {
        kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                   "a restore runs on the host itself: run it on %s",
                   kvss_host_name(options->host));
        return NULL;
    }
    if (options->to_dir && !plan_check_path(options->to_dir, options->to_dir, error))
        return NULL;
    if (!(options->vms && *options->vms ? plan_named(plan, error) : plan_all(plan, error)))
        return NULL;
    if (!kvss_backup_check_succeeded(options->repository, options->backup, options->vms, error))
        return NULL;
    if (plan->vms->len == 0 && plan->hosts->len == 0) {
        kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                   "the backup holds no VM");
        return NULL;
    }
    if (!plan_check_conflicts(plan, error) || !plan_check_room(plan, error))
        return NULL;
    if (!host_describe(plan, error))
        return NULL;
    plan_describe(plan);
    return g_steal_pointer(&plan);
}
