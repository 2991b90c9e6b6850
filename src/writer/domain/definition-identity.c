/*
 * definition-identity.c - a copy becomes another VM: name, UUID, addresses, generation
 */
#include "writer/domain/definition-private.h"

#include <string.h>

static void
child_set(xmlNodePtr node, const char *name, const char *text)
{
    kvss_xml_set_content(kvss_xml_child_or_new(node, name), text);
}

/* libvirt refuses a system UUID in the firmware's tables that is not the VM's. */
static void
firmware_set_uuid(xmlNodePtr root, const char *uuid)
{
    for (xmlNodePtr n = kvss_xml_child(root, "sysinfo"); n; n = kvss_xml_next(n, "sysinfo")) {
        xmlNodePtr system = kvss_xml_child(n, "system");

        for (xmlNodePtr e = kvss_xml_child(system, "entry"); e; e = kvss_xml_next(e, "entry"))
            if (kvss_xml_attribute_is(e, "name", "uuid"))
                kvss_xml_set_content(e, uuid);
    }
}

void
definition_interface_identity(Correction *c, xmlNodePtr interface)
{
    JsonObject *macs = json_object_get_object_member(c->copy, "macs");
    xmlNodePtr mac = kvss_xml_child(interface, "mac");
    g_autofree char *old = kvss_xml_attribute(mac, "address");
    g_autofree char *key = old ? g_ascii_strdown(old, -1) : NULL;

    if (key && json_object_has_member(macs, key))
        kvss_xml_set_attribute(mac, "address", json_object_get_string_member(macs, key));
    else if (mac)
        kvss_xml_remove(mac); /* libvirt makes one up */
}

/* Two VMs cannot listen at one port. */
static void
console_free_port(Correction *c, xmlNodePtr graphics)
{
    static const char *const ports[] = { "port", "tlsPort", "websocket" };

    if (!kvss_xml_attribute_is(graphics, "autoport", "no"))
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(ports); i++)
        kvss_xml_unset_attribute(graphics, ports[i]);
    kvss_xml_set_attribute(graphics, "autoport", "yes");
    definition_note(c, "its console gets a port of its own");
}

static void
device_renew(Correction *c, xmlNodePtr node)
{
    xmlNodePtr cid = kvss_xml_is(node, "vsock") ? kvss_xml_child(node, "cid") : NULL;

    if (kvss_xml_is(node, "graphics"))
        console_free_port(c, node);
    if (cid) {
        kvss_xml_set_attribute(cid, "auto", "yes");
        kvss_xml_unset_attribute(cid, "address");
    }
}

void
definition_identity(Correction *c, xmlNodePtr root)
{
    xmlNodePtr devices = kvss_xml_child(root, "devices");

    if (!c->copy)
        return;
    child_set(root, "name", c->component->display_name);
    child_set(root, "uuid", c->component->name);
    kvss_xml_remove_children(root, "hwuuid");
    firmware_set_uuid(root, c->component->name);
    if (kvss_xml_child(root, "genid"))
        child_set(root, "genid", json_object_get_string_member(c->copy, "genid"));
    for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next)
        if (n->type == XML_ELEMENT_NODE)
            device_renew(c, n);
}
