/*
 * domain-config.c - what a domain's XML says, as far as a backup cares
 */
#include "host/domain-config.h"

#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <string.h>

/* libvirt itself refuses definitions larger than this. */
#define XML_LENGTH_MAX (10 * 1024 * 1024)
#define AGENT_CHANNEL "org.qemu.guest_agent.0"

static void
disk_config_free(KvssDiskConfig *disk)
{
    g_free(disk->target);
    g_free(disk->device);
    g_free(disk->type);
    g_free(disk->format);
    g_free(disk->source);
    g_free(disk->protocol);
    g_free(disk->server);
    g_free(disk->serial);
    g_free(disk->alias);
    g_free(disk->address);
    g_free(disk);
}

static void
interface_config_free(KvssInterfaceConfig *interface)
{
    g_free(interface->type);
    g_free(interface->source);
    g_free(interface->mac);
    g_free(interface);
}

static void
passthrough_config_free(KvssPassthroughConfig *passthrough)
{
    g_free(passthrough->name);
    g_free(passthrough->kind);
    g_free(passthrough->detail);
    g_free(passthrough);
}

void
kvss_domain_config_free(KvssDomainConfig *config)
{
    if (!config)
        return;
    g_free(config->name);
    g_free(config->uuid);
    g_clear_pointer(&config->disks, g_ptr_array_unref);
    g_clear_pointer(&config->interfaces, g_ptr_array_unref);
    g_clear_pointer(&config->passthrough, g_ptr_array_unref);
    g_free(config->nvram);
    g_free(config->kernel);
    g_free(config->initrd);
    g_free(config);
}

/* ---- small steps through the tree ---- */

static xmlNodePtr
child(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr n = node ? node->children : NULL; n; n = n->next) {
        if (n->type == XML_ELEMENT_NODE && g_str_equal((const char *) n->name, name))
            return n;
    }
    return NULL;
}

static xmlNodePtr
next_named(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr n = node->next; n; n = n->next) {
        if (n->type == XML_ELEMENT_NODE && g_str_equal((const char *) n->name, name))
            return n;
    }
    return NULL;
}

static char *
attribute(xmlNodePtr node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, (const xmlChar *) name) : NULL;
    char *copy = g_strdup((const char *) value);

    xmlFree(value);
    return copy;
}

/* "0x1f", "3"; 0 when it is absent. */
static unsigned
number(xmlNodePtr node, const char *name)
{
    g_autofree char *value = attribute(node, name);

    return value ? (unsigned) g_ascii_strtoull(value, NULL, 0) : 0;
}

static bool
attribute_is(xmlNodePtr node, const char *name, const char *expected)
{
    g_autofree char *value = attribute(node, name);

    return g_strcmp0(value, expected) == 0;
}

static char *
content(xmlNodePtr node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup((const char *) text);

    xmlFree(text);
    if (copy)
        g_strstrip(copy);
    return copy;
}

/* ---- parts ---- */

char *
kvss_disk_address(const KvssPciAddress *pci, const unsigned drive[3])
{
    g_autofree char *place = g_strdup_printf("%x:%x:%x.%x", pci->domain, pci->bus, pci->slot,
                                             pci->function);

    if (!drive)
        return g_steal_pointer(&place);
    return g_strdup_printf("%s/%u:%u:%u", place, drive[0], drive[1], drive[2]);
}

static bool
pci_parse(xmlNodePtr address, KvssPciAddress *out)
{
    if (!attribute_is(address, "type", "pci"))
        return false;
    *out = (KvssPciAddress) { number(address, "domain"), number(address, "bus"),
                              number(address, "slot"), number(address, "function") };
    return true;
}

static bool
controller_find(xmlNodePtr disk, const char *type, unsigned index, KvssPciAddress *out)
{
    for (xmlNodePtr n = child(disk->parent, "controller"); n; n = next_named(n, "controller")) {
        if (attribute_is(n, "type", type) && number(n, "index") == index)
            return pci_parse(child(n, "address"), out);
    }
    return false;
}

/* NULL for those that a guest does not tell by PCI: USB, floppies, other machines' buses. */
static char *
disk_parse_address(xmlNodePtr disk)
{
    xmlNodePtr address = child(disk, "address");
    g_autofree char *bus = attribute(child(disk, "target"), "bus");
    unsigned drive[3] = { number(address, "bus"), number(address, "target"),
                          number(address, "unit") };
    KvssPciAddress pci;

    if (pci_parse(address, &pci))
        return kvss_disk_address(&pci, NULL);
    if (!bus || !attribute_is(address, "type", "drive")
        || !controller_find(disk, bus, number(address, "controller"), &pci))
        return NULL;
    return kvss_disk_address(&pci, drive);
}

static char *
server_parse(xmlNodePtr host)
{
    g_autofree char *name = attribute(host, "name");
    g_autofree char *port = attribute(host, "port");

    if (!name)
        return attribute(host, "socket");
    return port ? g_strdup_printf("%s:%s", name, port) : g_steal_pointer(&name);
}

static void
disk_parse_source(KvssDiskConfig *disk, xmlNodePtr source)
{
    static const char *const by_type[][2] = {
        { "file", "file" }, { "block", "dev" }, { "dir", "dir" }, { "vhostvdpa", "dev" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(by_type); i++) {
        if (g_str_equal(disk->type, by_type[i][0]))
            disk->source = attribute(source, by_type[i][1]);
    }
    if (g_str_equal(disk->type, "network")) {
        g_autofree char *name = attribute(source, "name");

        disk->protocol = attribute(source, "protocol");
        disk->server = server_parse(child(source, "host"));
        disk->source = g_strdup_printf("%s:%s", disk->protocol ? disk->protocol : "?",
                                       name ? name : "");
    } else if (g_str_equal(disk->type, "volume")) {
        g_autofree char *pool = attribute(source, "pool");
        g_autofree char *volume = attribute(source, "volume");

        disk->source = g_strdup_printf("%s/%s", pool ? pool : "", volume ? volume : "");
    }
}

static bool
disk_parse(KvssDomainConfig *config, xmlNodePtr node, GError **error)
{
    KvssDiskConfig *disk = g_new0(KvssDiskConfig, 1);
    xmlNodePtr source = child(node, "source");
    xmlNodePtr backing = child(node, "backingStore");

    g_ptr_array_add(config->disks, disk);
    disk->target = attribute(child(node, "target"), "dev");
    if (!disk->target || !*disk->target || strchr(disk->target, '/') || disk->target[0] == '.')
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "the definition of %s has a disk without a proper target",
                          config->name);
    disk->type = attribute(node, "type");
    disk->device = attribute(node, "device");
    disk->format = attribute(child(node, "driver"), "type");
    if (!disk->type)
        disk->type = g_strdup("file");
    if (!disk->device)
        disk->device = g_strdup("disk");
    if (!disk->format)
        disk->format = g_strdup("raw");
    if (source)
        disk_parse_source(disk, source);
    disk->serial = content(child(node, "serial"));
    disk->alias = attribute(child(node, "alias"), "name");
    disk->address = disk_parse_address(node);
    disk->is_readonly = child(node, "readonly") != NULL;
    disk->is_shareable = child(node, "shareable") != NULL;
    disk->is_transient = child(node, "transient") != NULL;
    disk->has_backing = child(backing, "source") != NULL;
    disk->is_encrypted = child(node, "encryption") || child(source, "encryption");
    return true;
}

static void
interface_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    KvssInterfaceConfig *interface = g_new0(KvssInterfaceConfig, 1);
    xmlNodePtr source = child(node, "source");

    interface->type = attribute(node, "type");
    if (!interface->type)
        interface->type = g_strdup("user");
    interface->mac = attribute(child(node, "mac"), "address");
    interface->source = attribute(source, "network");
    if (!interface->source)
        interface->source = attribute(source, "bridge");
    if (!interface->source)
        interface->source = attribute(source, "dev");
    g_ptr_array_add(config->interfaces, interface);
}

static void
passthrough_add(KvssDomainConfig *config, char *name, const char *kind, char *detail)
{
    KvssPassthroughConfig *passthrough = g_new0(KvssPassthroughConfig, 1);

    passthrough->name = name;
    passthrough->kind = g_strdup(kind);
    passthrough->detail = detail;
    g_ptr_array_add(config->passthrough, passthrough);
}

static void
hostdev_parse(KvssDomainConfig *config, xmlNodePtr node, unsigned number)
{
    g_autofree char *type = attribute(node, "type");
    char *alias = attribute(child(node, "alias"), "name");

    passthrough_add(config, alias ? alias : g_strdup_printf("hostdev%u", number), "hostdev",
                    g_strdup_printf("%s device of the host", type ? type : "a"));
}

static void
filesystem_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    char *folder = attribute(child(node, "source"), "dir");
    char *tag = attribute(child(node, "target"), "dir");

    passthrough_add(config, tag ? tag : g_strdup("filesystem"), "filesystem",
                    g_strdup_printf("folder %s of the host", folder ? folder : "?"));
    g_free(folder);
}

static void
channel_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    xmlNodePtr target = child(node, "target");

    if (!attribute_is(target, "name", AGENT_CHANNEL))
        return;
    config->has_agent_channel = true;
    config->agent_connected = attribute_is(target, "state", "connected");
}

static bool
devices_parse(KvssDomainConfig *config, xmlNodePtr devices, GError **error)
{
    unsigned hostdevs = 0;

    for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next) {
        const char *name = (const char *) n->name;

        if (n->type != XML_ELEMENT_NODE)
            continue;
        if (g_str_equal(name, "disk") && !disk_parse(config, n, error))
            return false;
        if (g_str_equal(name, "interface"))
            interface_parse(config, n);
        else if (g_str_equal(name, "hostdev"))
            hostdev_parse(config, n, hostdevs++);
        else if (g_str_equal(name, "filesystem"))
            filesystem_parse(config, n);
        else if (g_str_equal(name, "channel"))
            channel_parse(config, n);
        else if (g_str_equal(name, "tpm") && attribute_is(child(n, "backend"), "type", "emulator"))
            config->has_tpm = true;
    }
    return true;
}

/* "+64055:+106", as libvirt writes the DAC label of a running domain. */
static void
owner_parse(KvssDomainConfig *config, xmlNodePtr root)
{
    config->owner_uid = config->owner_gid = -1;
    for (xmlNodePtr n = child(root, "seclabel"); n; n = next_named(n, "seclabel")) {
        g_autofree char *label = content(child(n, "label"));
        long uid, gid;

        if (attribute_is(n, "model", "dac") && label
            && sscanf(label, "+%ld:+%ld", &uid, &gid) == 2) {
            config->owner_uid = uid;
            config->owner_gid = gid;
        }
    }
}

static bool
root_parse(KvssDomainConfig *config, xmlNodePtr root, GError **error)
{
    xmlNodePtr os;

    if (!root || !g_str_equal((const char *) root->name, "domain"))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "the definition is not a <domain>");
    config->name = content(child(root, "name"));
    config->uuid = content(child(root, "uuid"));
    if (!config->name || !*config->name || !config->uuid
        || !g_uuid_string_is_valid(config->uuid))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "the definition has no name or no proper UUID");
    os = child(root, "os");
    config->nvram = content(child(os, "nvram"));
    config->kernel = content(child(os, "kernel"));
    config->initrd = content(child(os, "initrd"));
    if (config->nvram && !*config->nvram)
        g_clear_pointer(&config->nvram, g_free);
    owner_parse(config, root);
    return devices_parse(config, child(root, "devices"), error);
}

KvssDomainConfig *
kvss_domain_config_parse(const char *xml, GError **error)
{
    g_autoptr(KvssDomainConfig) config = g_new0(KvssDomainConfig, 1);
    size_t length = strlen(xml);
    xmlDocPtr document;
    bool ok;

    config->disks = g_ptr_array_new_with_free_func((GDestroyNotify) disk_config_free);
    config->interfaces = g_ptr_array_new_with_free_func((GDestroyNotify) interface_config_free);
    config->passthrough
        = g_ptr_array_new_with_free_func((GDestroyNotify) passthrough_config_free);
    if (length > XML_LENGTH_MAX) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "the definition is too long: %zu bytes", length);
        return NULL;
    }
    document = xmlReadMemory(xml, (int) length, NULL, NULL,
                             XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!document) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "the definition is not well-formed XML");
        return NULL;
    }
    ok = root_parse(config, xmlDocGetRootElement(document), error);
    xmlFreeDoc(document);
    return ok ? g_steal_pointer(&config) : NULL;
}
