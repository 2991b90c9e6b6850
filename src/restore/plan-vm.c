/*
 * plan-vm.c - what will be done about one VM: its definition, the old one of that UUID, all its parts
 */
#include "catalogue/catalogue.h"
#include "restore/plan-vm.h"
#include "writer/domain/definition.h"

#define DEFINITION_MAX (10u * 1024 * 1024)

void
plan_vm_free(gpointer data)
{
    PlanVm *vm = data;

    if (!vm->component_is_taken)
        kvss_component_free(vm->component);
    kvss_domain_config_free(vm->config);
    kvss_domain_free(vm->old);
    g_ptr_array_unref(vm->disks);
    g_ptr_array_unref(vm->files);
    g_ptr_array_unref(vm->remarks);
    kvss_restored_vm_free(vm->result);
    g_free(vm);
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
    if (g_ascii_strcasecmp(vm->config->uuid, vm->vm->component->name) != 0
        || !g_str_equal(vm->config->name, vm->vm->component->display_name))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "its stored definition is that of another VM, %s", vm->config->name);
    (void) kvss_component_add_bytes(vm->component, "domain.xml", bytes, 0600);
    return true;
}

/* What is still in the VM, though the backup has nothing of it. */
static bool
config_has(const KvssDomainConfig *config, const char *name)
{
    if (kvss_domain_config_find_disk(config, name))
        return true;
    for (guint i = 0; i < config->passthrough->len; i++) {
        const KvssPassthroughConfig *device = g_ptr_array_index(config->passthrough, i);

        if (g_str_equal(device->name, name))
            return true;
    }
    return false;
}

static void
note_not_covered(Plan *plan, PlanVm *vm, const KvssDomainConfig *config)
{
    GPtrArray *list = vm->vm->component->not_covered;

    for (guint i = 0; i < list->len; i++) {
        const KvssNotCovered *item = g_ptr_array_index(list, i);

        if (!item->is_writable)
            continue;
        plan->is_partial = true;
        if (config_has(config, item->target))
            g_ptr_array_add(vm->result->notes,
                            g_strdup_printf("%s (%s) was not in the backup: it is left as it is",
                                            item->target, item->kind));
    }
}

static void
add_networks(Plan *plan, PlanVm *vm, const GPtrArray *networks)
{
    for (guint i = 0; i < networks->len; i++) {
        const KvssDefinitionNetwork *network = g_ptr_array_index(networks, i);
        KvssRestoredNetwork *result = g_new0(KvssRestoredNetwork, 1);

        result->type = g_strdup(network->type);
        result->source = g_strdup(network->source);
        result->was = g_strdup(network->was);
        result->mac = g_strdup(network->mac);
        result->is_connected = network->is_connected;
        plan->is_partial |= !network->is_connected;
        g_ptr_array_add(vm->result->networks, result);
    }
}

static void
add_remarks(PlanVm *vm, const GPtrArray *texts)
{
    for (guint i = 0; i < texts->len; i++)
        g_ptr_array_add(vm->remarks, g_strdup(g_ptr_array_index(texts, i)));
}

/* Memory knows every device of its guest: without one of them it cannot be loaded, ever. */
static bool
check_saved_state(const PlanVm *vm, const KvssDefinitionReport *report, GError **error)
{
    if (!report->lost_device || !kvss_component_find_file(vm->component, "state.save"))
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "its saved memory cannot be loaded without a device that is left out (%s)",
                      (char *) g_ptr_array_index(report->notes, report->notes->len - 1));
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
    g_autoptr(KvssDomainConfig) config
        = corrected ? kvss_domain_config_parse(corrected, error) : NULL;

    if (!config || !check_saved_state(vm, &report, error))
        return false;
    plan->is_partial |= report.left_out_host_access;
    add_networks(plan, vm, report.networks);
    add_remarks(vm, report.notes);
    add_remarks(vm, report.kept);
    note_not_covered(plan, vm, config);
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
component_fill(KvssComponent *component, const KvssComponent *stored)
{
    kvss_set_string(&component->logical_path, stored->logical_path);
    kvss_set_string(&component->caption, stored->caption);
    kvss_set_string(&component->state, stored->state);
    kvss_set_string(&component->method, stored->method);
    kvss_set_string(&component->consistency, stored->consistency);
    kvss_set_string(&component->metadata, stored->metadata);
}

static bool
plan_vm_fill(Plan *plan, PlanVm *vm, GError **error)
{
    GPtrArray *disks = vm->vm->component->disks;

    if (!g_uuid_string_is_valid(vm->vm->component->name))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "'%s' is no UUID of a VM", vm->vm->component->name);
    /* Beside the VM: it is none of the restore's business. */
    if ((!vm->is_beside && !plan_old(plan, vm, error)) || !plan_definition(plan, vm, error))
        return false;
    if (plan->options->disks)
        return plan_some_disks(plan, vm, error);
    for (guint i = 0; i < disks->len; i++) {
        if (!plan_disk(plan, vm, g_ptr_array_index(disks, i), error))
            return false;
    }
    if (!plan_files(plan, vm, error) || !plan_wishes(plan, vm, error))
        return false;
    plan_note_missing(vm);
    return plan_correction(plan, vm, error);
}

bool
plan_vm(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    const KvssComponent *component = stored->component;
    PlanVm *vm = g_new0(PlanVm, 1);

    vm->vm = stored;
    vm->disks = g_ptr_array_new_with_free_func(plan_disk_free);
    vm->files = g_ptr_array_new_with_free_func(g_free);
    vm->remarks = g_ptr_array_new_with_free_func(g_free);
    vm->component = plan_component_new(plan->options, component);
    vm->is_beside = plan->options->disks && plan->options->to_dir;
    vm->copy_of = plan->options->as_name ? component->display_name : NULL;
    vm->result = kvss_restored_vm_new(vm->component->display_name, vm->component->name);
    kvss_set_string(&vm->result->copy_of, vm->copy_of);
    g_ptr_array_add(plan->vms, vm);
    component_fill(vm->component, component);
    if (vm->copy_of) /* nobody asked for a second one after the next boot of the host */
        kvss_set_string(&vm->component->metadata, NULL);
    if (plan_vm_fill(plan, vm, error))
        return true;
    g_prefix_error(error, "%s: ", component->display_name);
    return false;
}
