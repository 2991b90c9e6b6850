/*
 * domain-config.c - what a domain's XML says, as far as a backup cares
 */
#include "host/domain-config.h"
#include "host/xml.h"

#include <string.h>

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

const KvssDiskConfig *
kvss_domain_config_find_disk(const KvssDomainConfig *config, const char *target)
{
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        if (g_str_equal(disk->target, target))
            return disk;
    }
    return NULL;
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
    g_free(config->loader);
    g_free(config->nvram_template);
    g_free(config->kernel);
    g_free(config->initrd);
    g_free(config);
}

/* ---- parts ---- */

/* "0x1f", "3"; 0 when it is absent. */
static unsigned
number(xmlNodePtr node, const char *name)
{
    g_autofree char *value = kvss_xml_attribute(node, name);

    return value ? (unsigned) g_ascii_strtoull(value, NULL, 0) : 0;
}

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
    if (!kvss_xml_attribute_is(address, "type", "pci"))
        return false;
    *out = (KvssPciAddress) { number(address, "domain"), number(address, "bus"),
                              number(address, "slot"), number(address, "function") };
    return true;
}

static bool
controller_find(xmlNodePtr disk, const char *type, unsigned index, KvssPciAddress *out)
{
    for (xmlNodePtr n = kvss_xml_child(disk->parent, "controller"); n;
         n = kvss_xml_next(n, "controller")) {
        if (kvss_xml_attribute_is(n, "type", type) && number(n, "index") == index)
            return pci_parse(kvss_xml_child(n, "address"), out);
    }
    return false;
}

/* NULL for those that a guest does not tell by PCI: USB, floppies, other machines' buses. */
static char *
disk_parse_address(xmlNodePtr disk)
{
    xmlNodePtr address = kvss_xml_child(disk, "address");
    g_autofree char *bus = kvss_xml_attribute(kvss_xml_child(disk, "target"), "bus");
    unsigned drive[3] = { number(address, "bus"), number(address, "target"),
                          number(address, "unit") };
    KvssPciAddress pci;

    if (pci_parse(address, &pci))
        return kvss_disk_address(&pci, NULL);
    if (!bus || !kvss_xml_attribute_is(address, "type", "drive")
        || !controller_find(disk, bus, number(address, "controller"), &pci))
        return NULL;
    return kvss_disk_address(&pci, drive);
}

static char *
server_parse(xmlNodePtr host)
{
    g_autofree char *name = kvss_xml_attribute(host, "name");
    g_autofree char *port = kvss_xml_attribute(host, "port");

    if (!name)
        return kvss_xml_attribute(host, "socket");
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
            disk->source = kvss_xml_attribute(source, by_type[i][1]);
    }
    if (g_str_equal(disk->type, "network")) {
        g_autofree char *name = kvss_xml_attribute(source, "name");

        disk->protocol = kvss_xml_attribute(source, "protocol");
        disk->server = server_parse(kvss_xml_child(source, "host"));
        disk->source = g_strdup_printf("%s:%s", disk->protocol ? disk->protocol : "?",
                                       name ? name : "");
    } else if (g_str_equal(disk->type, "volume")) {
        g_autofree char *pool = kvss_xml_attribute(source, "pool");
        g_autofree char *volume = kvss_xml_attribute(source, "volume");

        disk->source = g_strdup_printf("%s/%s", pool ? pool : "", volume ? volume : "");
    }
}

static bool
disk_parse(KvssDomainConfig *config, xmlNodePtr node, GError **error)
{
    KvssDiskConfig *disk = g_new0(KvssDiskConfig, 1);
    xmlNodePtr source = kvss_xml_child(node, "source");
    xmlNodePtr backing = kvss_xml_child(node, "backingStore");

    g_ptr_array_add(config->disks, disk);
    disk->target = kvss_xml_attribute(kvss_xml_child(node, "target"), "dev");
    if (!disk->target || !*disk->target || strchr(disk->target, '/') || disk->target[0] == '.')
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "the definition of %s has a disk without a proper target",
                          config->name);
    disk->type = kvss_xml_attribute(node, "type");
    disk->device = kvss_xml_attribute(node, "device");
    disk->format = kvss_xml_attribute(kvss_xml_child(node, "driver"), "type");
    if (!disk->type)
        disk->type = g_strdup("file");
    if (!disk->device)
        disk->device = g_strdup("disk");
    if (!disk->format)
        disk->format = g_strdup("raw");
    if (source)
        disk_parse_source(disk, source);
    disk->serial = kvss_xml_content(kvss_xml_child(node, "serial"));
    disk->alias = kvss_xml_attribute(kvss_xml_child(node, "alias"), "name");
    disk->address = disk_parse_address(node);
    disk->is_readonly = kvss_xml_child(node, "readonly") != NULL;
    disk->is_shareable = kvss_xml_child(node, "shareable") != NULL;
    disk->is_transient = kvss_xml_child(node, "transient") != NULL;
    disk->has_backing = kvss_xml_child(backing, "source") != NULL;
    disk->is_encrypted = kvss_xml_child(node, "encryption") || kvss_xml_child(source, "encryption");
    return true;
}

static void
interface_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    KvssInterfaceConfig *interface = g_new0(KvssInterfaceConfig, 1);
    xmlNodePtr source = kvss_xml_child(node, "source");

    interface->type = kvss_xml_attribute(node, "type");
    if (!interface->type)
        interface->type = g_strdup("user");
    interface->mac = kvss_xml_attribute(kvss_xml_child(node, "mac"), "address");
    interface->source = kvss_xml_attribute(source, "network");
    if (!interface->source)
        interface->source = kvss_xml_attribute(source, "bridge");
    if (!interface->source)
        interface->source = kvss_xml_attribute(source, "dev");
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
    g_autofree char *type = kvss_xml_attribute(node, "type");
    char *alias = kvss_xml_attribute(kvss_xml_child(node, "alias"), "name");

    passthrough_add(config, alias ? alias : g_strdup_printf("hostdev%u", number), "hostdev",
                    g_strdup_printf("%s device of the host", type ? type : "a"));
}

static void
filesystem_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    char *folder = kvss_xml_attribute(kvss_xml_child(node, "source"), "dir");
    char *tag = kvss_xml_attribute(kvss_xml_child(node, "target"), "dir");

    passthrough_add(config, tag ? tag : g_strdup("filesystem"), "filesystem",
                    g_strdup_printf("folder %s of the host", folder ? folder : "?"));
    g_free(folder);
}

static void
channel_parse(KvssDomainConfig *config, xmlNodePtr node)
{
    xmlNodePtr target = kvss_xml_child(node, "target");

    if (!kvss_xml_attribute_is(target, "name", AGENT_CHANNEL))
        return;
    config->has_agent_channel = true;
    config->agent_connected = kvss_xml_attribute_is(target, "state", "connected");
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
        else if (g_str_equal(name, "tpm")
                 && kvss_xml_attribute_is(kvss_xml_child(n, "backend"), "type", "emulator"))
            config->has_tpm = true;
    }
    return true;
}

/* "+64055:+106", as libvirt writes the DAC label of a running domain. */
static void
owner_parse(KvssDomainConfig *config, xmlNodePtr root)
{
    config->owner_uid = config->owner_gid = -1;
    for (xmlNodePtr n = kvss_xml_child(root, "seclabel"); n; n = kvss_xml_next(n, "seclabel")) {
        g_autofree char *label = kvss_xml_content(kvss_xml_child(n, "label"));
        long uid, gid;

        if (kvss_xml_attribute_is(n, "model", "dac") && label
            && sscanf(label, "+%ld:+%ld", &uid, &gid) == 2) {
            config->owner_uid = uid;
            config->owner_gid = gid;
        }
    }
}

/* Two ways to say it: <nvram>PATH</nvram>, <nvram type='file'><source file='PATH'/></nvram>. */
static char *
nvram_parse(xmlNodePtr nvram)
{
    g_autofree char *path = kvss_xml_attribute(kvss_xml_child(nvram, "source"), "file");

    if (!path)
        path = kvss_xml_content(nvram);
    return path && *path ? g_steal_pointer(&path) : NULL;
}

static void
boot_parse(KvssDomainConfig *config, xmlNodePtr os)
{
    config->nvram = nvram_parse(kvss_xml_child(os, "nvram"));
    config->nvram_template = kvss_xml_attribute(kvss_xml_child(os, "nvram"), "template");
    config->loader = kvss_xml_content(kvss_xml_child(os, "loader"));
    config->chooses_firmware = kvss_xml_attribute_is(os, "firmware", "efi");
    config->kernel = kvss_xml_content(kvss_xml_child(os, "kernel"));
    config->initrd = kvss_xml_content(kvss_xml_child(os, "initrd"));
}

static bool
root_parse(KvssDomainConfig *config, xmlNodePtr root, GError **error)
{
    config->name = kvss_xml_content(kvss_xml_child(root, "name"));
    config->uuid = kvss_xml_content(kvss_xml_child(root, "uuid"));
    if (!config->name || !*config->name || !config->uuid
        || !g_uuid_string_is_valid(config->uuid))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "the definition has no name or no proper UUID");
    boot_parse(config, kvss_xml_child(root, "os"));
    owner_parse(config, root);
    return devices_parse(config, kvss_xml_child(root, "devices"), error);
}

KvssDomainConfig *
kvss_domain_config_parse(const char *xml, GError **error)
{
    g_autoptr(KvssDomainConfig) config = NULL;
    xmlDocPtr document = kvss_xml_parse_domain(xml, error);
    bool ok;

    if (!document)
        return NULL;
    config = g_new0(KvssDomainConfig, 1);
    config->disks = g_ptr_array_new_with_free_func((GDestroyNotify) disk_config_free);
    config->interfaces = g_ptr_array_new_with_free_func((GDestroyNotify) interface_config_free);
    config->passthrough
        = g_ptr_array_new_with_free_func((GDestroyNotify) passthrough_config_free);
    ok = root_parse(config, xmlDocGetRootElement(document), error);
    xmlFreeDoc(document);
    return ok ? g_steal_pointer(&config) : NULL;
}
