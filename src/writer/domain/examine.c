/*
 * examine.c - looking at a VM: which method it gets, and why
 */
#include "writer/domain/vm.h"

#include <string.h>

static const char *const method_names[] = {
    [KVSS_METHOD_NONE] = "",
    [KVSS_METHOD_CHILD_SNAPSHOT] = "child-snapshot",
    [KVSS_METHOD_SAVED_STATE] = "saved-state",
    [KVSS_METHOD_OFFLINE] = "offline",
    [KVSS_METHOD_CRASH_CONSISTENT] = "crash-consistent",
};

const char *
kvss_method_name(KvssMethod method)
{
    return method_names[method];
}

bool
kvss_method_from_name(const char *name, KvssMethod *out_method)
{
    for (gsize i = 1; i < G_N_ELEMENTS(method_names); i++) {
        if (g_str_equal(method_names[i], name)) {
            *out_method = (KvssMethod) i;
            return true;
        }
    }
    return false;
}

static KvssMethod
demand_of(const KvssVmPolicy *policy, KvssDomain *domain, const char **out_by)
{
    gpointer value = NULL;

    if (policy->method_of) {
        value = g_hash_table_lookup(policy->method_of, kvss_domain_name(domain));
        if (!value)
            value = g_hash_table_lookup(policy->method_of, kvss_domain_uuid(domain));
    }
    *out_by = value ? policy->method_of_by : policy->method_by;
    return value ? (KvssMethod) GPOINTER_TO_INT(value) : policy->method;
}

KvssVm *
kvss_vm_new(KvssDomain *domain, const KvssVmPolicy *policy, KvssComponent *component)
{
    KvssVm *vm = g_new0(KvssVm, 1);

    vm->domain = domain;
    vm->policy = policy;
    vm->component = component;
    vm->demand = demand_of(policy, domain, &vm->demanded_by);
    component->domain = domain;
    return vm;
}

void
kvss_vm_free(KvssVm *vm)
{
    if (!vm)
        return;
    kvss_vm_release(vm);
    kvss_domain_config_free(vm->config);
    kvss_guest_info_free(vm->guest);
    g_clear_pointer(&vm->stamps, g_ptr_array_unref);
    kvss_domain_free(vm->domain);
    g_free(vm->folder);
    g_free(vm);
}

/* Everything that an earlier look said is said again, but for the disks: providers were chosen for them. */
static void
component_reset(KvssComponent *component)
{
    g_ptr_array_set_size(component->files, 0);
    g_ptr_array_set_size(component->not_covered, 0);
    g_ptr_array_set_size(component->conditions, 0);
    g_ptr_array_set_size(component->reasons, 0);
    g_ptr_array_set_size(component->notes, 0);
    kvss_set_string(&component->demanded_by, NULL);
}

/* Host devices and shared folders keep QEMU from saving the VM's state. */
static const char *
obstacle_to_saving(const KvssVm *vm)
{
    const KvssPassthroughConfig *first;

    if (vm->config->passthrough->len == 0)
        return NULL;
    first = g_ptr_array_index(vm->config->passthrough, 0);
    return first->detail;
}

/* What nobody could be asked about did not decide anything: that nobody could be asked did. */
static bool
was_seen(const KvssVm *vm, const KvssCondition *condition)
{
    if (g_str_equal(condition->id, "C4") || g_str_equal(condition->id, "C5"))
        return vm->guest != NULL;
    if (g_str_equal(condition->id, "C1"))
        return vm->prior == KVSS_DOMAIN_RUNNING || !vm->config->has_agent_channel;
    return true;
}

static void
add_failed_conditions(KvssVm *vm)
{
    for (guint i = 0; i < vm->component->conditions->len; i++) {
        const KvssCondition *condition = g_ptr_array_index(vm->component->conditions, i);

        if (!condition->holds && was_seen(vm, condition))
            kvss_component_add_reason(vm->component, condition->id, "%s", condition->detail);
    }
}

static KvssMethod
choose_saved_state(KvssVm *vm)
{
    const char *obstacle = obstacle_to_saving(vm);

    if (!obstacle)
        return KVSS_METHOD_SAVED_STATE;
    kvss_component_add_reason(vm->component, "saved-state",
                              "its state cannot be saved, since it uses a %s; only "
                              "child-snapshot or --method crash-consistent can back it up",
                              obstacle);
    return KVSS_METHOD_NONE;
}

static KvssMethod
choose_by_demand(KvssVm *vm, bool all_hold)
{
    switch (vm->demand) {
    case KVSS_METHOD_CHILD_SNAPSHOT:
        if (all_hold)
            break;
        add_failed_conditions(vm);
        return KVSS_METHOD_NONE;
    case KVSS_METHOD_SAVED_STATE:
        if (choose_saved_state(vm) == KVSS_METHOD_NONE)
            return KVSS_METHOD_NONE;
        break;
    case KVSS_METHOD_OFFLINE:
        kvss_component_add_reason(vm->component, "state", "it is %s, not shut off",
                                  kvss_domain_state_name(vm->prior));
        return KVSS_METHOD_NONE;
    default:
        break;
    }
    kvss_component_add_reason(vm->component, "policy", "%s was demanded%s%s",
                              kvss_method_name(vm->demand), vm->demanded_by ? " by " : "",
                              vm->demanded_by ? vm->demanded_by : "");
    return vm->demand;
}

static KvssMethod
choose_method(KvssVm *vm)
{
    /* They are told of a VM that is off as well, where they decide nothing. */
    bool all_hold = kvss_vm_check_conditions(vm);

    if (vm->prior == KVSS_DOMAIN_OFF || vm->prior == KVSS_DOMAIN_SAVED) {
        kvss_component_add_reason(vm->component, "state", "it is %s",
                                  kvss_domain_state_name(vm->prior));
        return KVSS_METHOD_OFFLINE;
    }
    if (vm->prior == KVSS_DOMAIN_OTHER) {
        kvss_component_add_reason(vm->component, "state",
                                  "it is neither running nor paused nor off: try again when it is");
        return KVSS_METHOD_NONE;
    }
    if (vm->demand != KVSS_METHOD_NONE) {
        kvss_set_string(&vm->component->demanded_by, vm->demanded_by);
        return choose_by_demand(vm, all_hold);
    }
    if (all_hold) {
        kvss_component_add_reason(vm->component, "conditions", "all five conditions hold");
        return KVSS_METHOD_CHILD_SNAPSHOT;
    }
    add_failed_conditions(vm);
    return choose_saved_state(vm);
}

static const char *
consistency_of(KvssMethod method)
{
    switch (method) {
    case KVSS_METHOD_CHILD_SNAPSHOT:
        return "application";
    case KVSS_METHOD_SAVED_STATE:
        return "memory";
    case KVSS_METHOD_OFFLINE:
        return "offline";
    case KVSS_METHOD_CRASH_CONSISTENT:
        return "crash";
    default:
        return "";
    }
}

/* The caption tells requesters the method, as Hyper-V's does. */
static void
component_name_method(KvssComponent *component, KvssMethod method)
{
    g_autofree char *caption = g_strdup_printf(
        "%s\\%s", method == KVSS_METHOD_CHILD_SNAPSHOT ? "Online" : "Offline",
        component->display_name);

    kvss_set_string(&component->caption, caption);
    kvss_set_string(&component->method, kvss_method_name(method));
    kvss_set_string(&component->consistency, consistency_of(method));
}

static bool
is_configured(const KvssVm *vm, const KvssDisk *disk)
{
    for (guint i = 0; i < vm->config->disks->len; i++) {
        const KvssDiskConfig *config = g_ptr_array_index(vm->config->disks, i);

        if (g_str_equal(config->target, disk->target) && g_strcmp0(config->format, disk->format) == 0)
            return true;
    }
    return false;
}

/* Hot-plugging between two looks: the plan that was made does not fit any more. */
static bool
check_same_disks(const KvssVm *vm, guint n_before, GError **error)
{
    bool same = n_before == 0 || n_before == vm->component->disks->len;

    for (guint i = 0; same && i < vm->component->disks->len; i++)
        same = is_configured(vm, g_ptr_array_index(vm->component->disks, i));
    if (same)
        return true;
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                      "the disks of %s changed while it was being looked at: try again",
                      kvss_domain_name(vm->domain));
}

/* For the plan; a disk that cannot be asked now shows its trouble when it is cut. */
static void
look_at_sizes(KvssVm *vm)
{
    for (guint i = 0; i < vm->component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);
        g_autoptr(GError) error = NULL;

        if (!kvss_domain_disk_size(vm->domain, disk->target, &disk->size, &error))
            g_debug("%s", error->message);
    }
}

bool
kvss_vm_examine(KvssVm *vm, GError **error)
{
    guint n_before = vm->component->disks->len;

    component_reset(vm->component);
    g_clear_pointer(&vm->config, kvss_domain_config_free);
    g_clear_pointer(&vm->guest, kvss_guest_info_free);
    if (!kvss_domain_get_state(vm->domain, &vm->prior, NULL, error))
        return false;
    kvss_set_string(&vm->component->state, kvss_domain_state_name(vm->prior));
    vm->config = kvss_domain_config(vm->domain, error);
    if (!vm->config)
        return false;
    kvss_vm_find_coverage(vm);
    if (!check_same_disks(vm, n_before, error))
        return false;
    look_at_sizes(vm);
    vm->method = choose_method(vm);
    component_name_method(vm->component, vm->method);
    return true;
}

/* What was true when it was looked at is not any more, and the result must not say both. */
static void
correct_c1(KvssComponent *component, const char *detail)
{
    for (guint i = 0; i < component->conditions->len; i++) {
        KvssCondition *condition = g_ptr_array_index(component->conditions, i);

        if (!g_str_equal(condition->id, "C1"))
            continue;
        condition->holds = false;
        kvss_set_string(&condition->detail, detail);
    }
}

bool
kvss_vm_fall_back(KvssVm *vm)
{
    static const char detail[] = "the guest agent fell silent directly before the freeze";

    if (obstacle_to_saving(vm))
        return false;
    g_ptr_array_set_size(vm->component->reasons, 0);
    correct_c1(vm->component, detail);
    kvss_component_add_reason(vm->component, "C1", "%s", detail);
    vm->method = KVSS_METHOD_SAVED_STATE;
    vm->component->is_cut_at_commit = true;
    component_name_method(vm->component, vm->method);
    return true;
}
