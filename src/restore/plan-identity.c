/*
 * plan-identity.c - who the restored VM is, and what it may touch: the wishes for the VM writer
 */
#include "restore/plan-others.h"
#include "restore/plan-vm.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define NAME_MAX_BYTES 200u

/* ---- a copy ---- */

/* What libvirt refuses as a name, and what nobody could tell from a UUID or an option. */
bool
plan_check_name(const char *name, GError **error)
{
    g_autofree char *trimmed = g_strstrip(g_strdup(name));
    bool ok = *trimmed && g_str_equal(trimmed, name) && strlen(name) <= NAME_MAX_BYTES
        && *name != '-' && *name != '.' && !strchr(name, '/') && g_utf8_validate(name, -1, NULL)
        && !g_uuid_string_is_valid(name);

    for (const char *c = name; ok && *c; c++)
        ok = !g_ascii_iscntrl(*c);
    return ok
           || kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                         "'%.200s' cannot be the name of a VM", name);
}

KvssComponent *
plan_component_new(const KvssRestoreOptions *options, const KvssComponent *stored)
{
    g_autofree char *uuid = options->as_name ? g_uuid_string_random() : NULL;

    return kvss_component_new(uuid ? uuid : stored->name,
                              uuid ? options->as_name : stored->display_name);
}

/* QEMU's own range. */
static char *
mac_new(const PlanOthers *others, GHashTable *taken)
{
    for (;;) {
        guint32 tail = g_random_int();
        g_autofree char *mac = g_strdup_printf("52:54:00:%02x:%02x:%02x", tail & 0xff,
                                               tail >> 8 & 0xff, tail >> 16 & 0xff);

        if (!g_hash_table_contains(others->macs, mac) && g_hash_table_add(taken, g_strdup(mac)))
            return g_steal_pointer(&mac);
    }
}

static JsonObject *
copy_wish(const Plan *plan, const PlanVm *vm, GError **error)
{
    g_auto(PlanOthers) others = { 0 };
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *genid = g_uuid_string_random();
    JsonObject *copy, *macs;

    if (!plan_others_learn(&others, plan, false, error))
        return NULL;
    copy = json_object_new();
    macs = json_object_new();
    for (guint i = 0; i < vm->config->interfaces->len; i++) {
        const KvssInterfaceConfig *interface = g_ptr_array_index(vm->config->interfaces, i);
        g_autofree char *old = interface->mac ? g_ascii_strdown(interface->mac, -1) : NULL;
        g_autofree char *mac = old ? mac_new(&others, taken) : NULL;

        if (old)
            json_object_set_string_member(macs, old, mac);
    }
    json_object_set_string_member(copy, "genid", genid);
    json_object_set_object_member(copy, "macs", macs);
    return copy;
}

/* ---- all wishes ---- */

static JsonArray *
network_wishes(const Plan *plan)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < plan->networks->len; i++) {
        const PlanNetwork *network = g_ptr_array_index(plan->networks, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "from", network->from);
        json_object_set_string_member(object, "type", network->type);
        json_object_set_string_member(object, "to", network->to);
        json_array_add_object_element(array, object);
    }
    return array;
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

/* What is written over where it is, and where its old content goes. */
static JsonObject *
disks_that_stay(const PlanVm *vm)
{
    JsonObject *stays = json_object_new();

    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (disk->in_place)
            json_object_set_string_member(stays, disk->disk->target,
                                          disk->in_place->log ? disk->in_place->log : "");
    }
    return stays;
}

bool
plan_wishes(const Plan *plan, PlanVm *vm, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    g_autoptr(JsonObject) wishes = json_object_new();
    g_autoptr(JsonNode) node = NULL;
    JsonObject *copy = vm->copy_of ? copy_wish(plan, vm, error) : NULL;
    g_autofree char *present = vm->old ? kvss_domain_xml(vm->old, true, NULL) : NULL;
    g_autofree char *text = NULL;

    if (vm->copy_of && !copy)
        return false;
    json_object_set_boolean_member(wishes, "keep-old", options->keep_old);
    json_object_set_boolean_member(wishes, "only-disks", options->disks != NULL);
    json_object_set_boolean_member(wishes, "beside", vm->is_beside);
    json_object_set_boolean_member(wishes, "stop", must_be_stopped(vm));
    json_object_set_boolean_member(wishes, "allow-host-access", options->allow_host_access);
    json_object_set_array_member(wishes, "networks", network_wishes(plan));
    json_object_set_object_member(wishes, "stays", disks_that_stay(vm));
    if (present)
        json_object_set_string_member(wishes, "present", present);
    if (copy)
        json_object_set_object_member(wishes, "copy", copy);
    node = json_node_init_object(json_node_alloc(), wishes);
    text = json_to_string(node, FALSE);
    kvss_set_string(&vm->component->restore_options, text);
    return true;
}
