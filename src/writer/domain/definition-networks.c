/*
 * definition-networks.c - interfaces: connected to what is here, mapped, or with their link down
 */
#include "base/beneath.h"
#include "host/network.h"
#include "writer/domain/definition-private.h"

#include <string.h>

static const char *const sources[] = { "network", "bridge", "dev" };

static char *
source_name(xmlNodePtr node)
{
    xmlNodePtr source = kvss_xml_child(node, "source");
    char *name = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(sources) && !name; i++)
        name = kvss_xml_attribute(source, sources[i]);
    return name;
}

static void
note_inactive(Correction *c, const char *name)
{
    definition_note(c, "network '%s' is not active: start it before the VM (virsh net-start %s)",
                    name, name);
}

static bool
is_here(Correction *c, const char *type, const char *source)
{
    KvssNetworkState state;

    if (!c->host || !source)
        return true;
    if (g_str_equal(type, "bridge") || g_str_equal(type, "direct"))
        return kvss_host_has_network_device(source);
    if (!g_str_equal(type, "network"))
        return true;
    state = kvss_host_network_state(c->host, source);
    if (state == KVSS_NETWORK_INACTIVE)
        note_inactive(c, source);
    return state != KVSS_NETWORK_ABSENT;
}

static bool
is_connectable(const char *type)
{
    return g_str_equal(type, "network") || g_str_equal(type, "bridge")
           || g_str_equal(type, "direct");
}

/*
 * libvirt starts no VM whose network is missing, even with the link down; QEMU's
 * own network needs nothing on the host, and with the link down reaches nobody.
 */
static void
interface_disconnect(xmlNodePtr node)
{
    static const char *const gone[] = { "source", "target", "virtualport", "filterref", "vlan",
                                        "bandwidth", "port", "actual", "backend", "script",
                                        "downscript", "ip", "route", "portForward", NULL };

    for (int i = 0; gone[i]; i++)
        kvss_xml_remove_children(node, gone[i]);
    kvss_xml_set_attribute(node, "type", "user");
    kvss_xml_unset_attribute(node, "trustGuestRxFilters");
    kvss_xml_unset_attribute(node, "managed");
    kvss_xml_set_attribute(kvss_xml_child_or_new(node, "link"), "state", "down");
}

/* ---- mapped ---- */

static JsonObject *
mapping_find(Correction *c, const char *name)
{
    JsonArray *list = c->wishes && json_object_has_member(c->wishes, "networks")
        ? json_object_get_array_member(c->wishes, "networks") : NULL;

    for (guint i = 0; list && name && i < json_array_get_length(list); i++) {
        JsonObject *mapping = json_array_get_object_element(list, i);

        if (g_str_equal(json_object_get_string_member(mapping, "from"), name))
            return mapping;
    }
    return NULL;
}

/* What belongs to the old switch alone goes: its ports, its VLANs, how a card was shared. */
static void
interface_move(xmlNodePtr node, const char *type, const char *name)
{
    static const char *const gone[] = { "source", "virtualport", "vlan", "actual", NULL };

    for (int i = 0; gone[i]; i++)
        kvss_xml_remove_children(node, gone[i]);
    kvss_xml_set_attribute(node, "type", type);
    kvss_xml_unset_attribute(node, "trustGuestRxFilters");
    kvss_xml_set_attribute(kvss_xml_child_or_new(node, "source"), type, name);
}

static void
interface_map(Correction *c, xmlNodePtr node, KvssDefinitionNetwork *network)
{
    JsonObject *mapping = is_connectable(network->type) ? mapping_find(c, network->source) : NULL;

    if (!mapping)
        return;
    interface_move(node, json_object_get_string_member(mapping, "type"),
                   json_object_get_string_member(mapping, "to"));
    g_free(network->was);
    network->was = network->source;
    network->source = source_name(node);
    kvss_set_string(&network->type, json_object_get_string_member(mapping, "type"));
}

/* ---- host access ---- */

/* Sockets of the host, devices of its own, memory shared with another program. */
static bool
reaches_into_host(xmlNodePtr node, const char *type)
{
    static const char *const harmless[] = { "network", "bridge", "direct", "user", "null", NULL };

    /* Taken by the VM alone: the host's own connection would be gone. */
    if (g_str_equal(type, "direct"))
        return kvss_xml_attribute_is(kvss_xml_child(node, "source"), "mode", "passthrough");
    return !g_strv_contains(harmless, type);
}

static void
backend_check(Correction *c, xmlNodePtr node)
{
    static const char *const paths[] = { "tap", "vhost", "logFile" };
    xmlNodePtr backend = kvss_xml_child(node, "backend");

    for (gsize i = 0; backend && i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *path = kvss_xml_attribute(backend, paths[i]);
        g_autofree char *what = path ? g_strdup_printf("path %s of an interface", path) : NULL;

        if (path && !definition_may_stay(c, backend, what))
            kvss_xml_unset_attribute(backend, paths[i]);
    }
}

/* What a card starts a guest with is read by the guest: packages' own files, no others. */
static void
rom_check(Correction *c, xmlNodePtr node)
{
    static const char *const packages[] = { "/usr/share", "/usr/lib" };
    xmlNodePtr rom = kvss_xml_child(node, "rom");
    g_autofree char *file = kvss_xml_attribute(rom, "file");
    g_autofree char *what = file ? g_strdup_printf("ROM file %s of an interface", file) : NULL;

    for (gsize i = 0; file && kvss_is_plain_path(file) && i < G_N_ELEMENTS(packages); i++)
        if (definition_leads_into(file, packages[i]))
            return;
    if (file && !definition_may_stay(c, rom, what))
        kvss_xml_unset_attribute(rom, "file");
}

static void
scripts_check(Correction *c, xmlNodePtr node)
{
    static const char *const scripts[] = { "script", "downscript" };

    for (gsize i = 0; i < G_N_ELEMENTS(scripts); i++) {
        xmlNodePtr next;

        for (xmlNodePtr n = kvss_xml_child(node, scripts[i]); n; n = next) {
            next = kvss_xml_next(n, scripts[i]);
            (void) definition_leave_out(c, n, "the script of an interface");
        }
    }
}

/* False: the interface is gone. */
static bool
interface_check_access(Correction *c, xmlNodePtr node, KvssDefinitionNetwork *network)
{
    g_autofree char *what = g_strdup_printf("interface %s (%s)",
                                            network->mac ? network->mac : "without MAC",
                                            network->type);

    if (!reaches_into_host(node, network->type) || definition_may_stay(c, node, what))
        return true;
    network->is_connected = false;
    if (!g_str_equal(network->type, "hostdev")) {
        interface_disconnect(node);
        return true;
    }
    c->report->lost_device = true;
    kvss_xml_remove(node);
    return false;
}

/* ---- */

/* libvirt names ports itself; a name of the VM's own choice may be another's by now. */
static void
port_renew(xmlNodePtr node)
{
    g_autofree char *alias = kvss_xml_attribute(kvss_xml_child(node, "alias"), "name");

    kvss_xml_remove_children(node, "target");
    if (alias && !g_str_has_prefix(alias, "ua-"))
        kvss_xml_remove_children(node, "alias");
}

static KvssDefinitionNetwork *
network_new(xmlNodePtr node)
{
    KvssDefinitionNetwork *network = g_new0(KvssDefinitionNetwork, 1);

    network->type = kvss_xml_attribute(node, "type");
    if (!network->type)
        network->type = g_strdup("user");
    network->mac = kvss_xml_attribute(kvss_xml_child(node, "mac"), "address");
    network->source = source_name(node);
    network->is_connected = true;
    return network;
}

void
definition_interface(Correction *c, xmlNodePtr node)
{
    KvssDefinitionNetwork *network;

    if (c->copy)
        definition_interface_identity(c, node);
    network = network_new(node);
    g_ptr_array_add(c->report->networks, network);
    interface_map(c, node, network);
    if (!interface_check_access(c, node, network))
        return;
    scripts_check(c, node);
    backend_check(c, node);
    rom_check(c, node);
    if (!g_str_equal(network->type, "ethernet"))
        port_renew(node);
    if (!network->is_connected || is_here(c, network->type, network->source))
        return;
    network->is_connected = false;
    interface_disconnect(node);
    definition_note(c, "%s '%s' is not on this host: interface %s has its link down", network->type,
                    network->source, network->mac ? network->mac : "without MAC");
}
