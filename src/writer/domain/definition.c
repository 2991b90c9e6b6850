/*
 * definition.c - a stored definition, made true for where the VM is restored
 */
#include "writer/domain/definition.h"
#include "guardian/acts-restore.h"
#include "host/connection.h"
#include "host/xml.h"

#include <libvirt/virterror.h>
#include <string.h>
#include <sys/stat.h>

#define X(text) ((const xmlChar *) (text))

typedef struct {
    const KvssComponent *component;
    KvssHost *host;
    KvssDefinitionReport *report;
} Correction;

static void
network_free(gpointer data)
{
    KvssDefinitionNetwork *network = data;

    g_free(network->type);
    g_free(network->source);
    g_free(network->mac);
    g_free(network);
}

static void
report_init(KvssDefinitionReport *report)
{
    report->networks = g_ptr_array_new_with_free_func(network_free);
    report->notes = g_ptr_array_new_with_free_func(g_free);
}

void
kvss_definition_report_clear(KvssDefinitionReport *report)
{
    g_clear_pointer(&report->networks, g_ptr_array_unref);
    g_clear_pointer(&report->notes, g_ptr_array_unref);
}

static void G_GNUC_PRINTF(2, 3)
note(Correction *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(c->report->notes, g_strdup_vprintf(format, args));
    va_end(args);
}

/* ---- disks ---- */

/* Everything that says how the old image was found or opened; labels stay. */
static void
source_reset(xmlNodePtr source)
{
    static const char *const gone[] = { "file", "dev", "dir", "protocol", "name", "pool", "volume",
                                        "mode", "tls", "index", "query", NULL };
    xmlNodePtr next;

    for (int i = 0; gone[i]; i++)
        kvss_xml_unset_attribute(source, gone[i]);
    for (xmlNodePtr n = source->children; n; n = next) {
        next = n->next;
        if (n->type == XML_ELEMENT_NODE && !kvss_xml_is(n, "seclabel")) {
            kvss_xml_remove(n);
        }
    }
}

static void
disk_correct(Correction *c, xmlNodePtr node, const KvssDisk *disk)
{
    bool is_block = g_strcmp0(disk->kind, "block") == 0;
    xmlNodePtr source = kvss_xml_child_or_new(node, "source");
    xmlNodePtr driver = kvss_xml_child(node, "driver");

    if (kvss_xml_child(node, "encryption") || kvss_xml_child(source, "encryption"))
        note(c, "disk %s was encrypted by QEMU and is restored unencrypted", disk->target);
    kvss_xml_remove_children(node, "encryption");
    kvss_xml_remove_children(node, "backingStore");
    kvss_xml_remove_children(node, "mirror");
    source_reset(source);
    kvss_xml_set_attribute(node, "type", is_block ? "block" : "file");
    kvss_xml_set_attribute(source, is_block ? "dev" : "file", disk->path);

    if (!driver) {
        driver = xmlNewNode(NULL, X("driver"));
        kvss_xml_set_attribute(driver, "name", "qemu");
        (void) xmlAddPrevSibling(source, driver);
    }
    kvss_xml_set_attribute(driver, "type", disk->format);
    (void) xmlAddNextSibling(source, xmlNewNode(NULL, X("backingStore")));
}

/* A missing CD must not keep the VM from starting. */
static void
media_correct(Correction *c, xmlNodePtr node, const char *target)
{
    g_autofree char *device = kvss_xml_attribute(node, "device");
    xmlNodePtr source = kvss_xml_child(node, "source");
    g_autofree char *file = kvss_xml_attribute(source, "file");
    g_autofree char *policy = kvss_xml_attribute(source, "startupPolicy");
    struct stat st;

    if (!file || policy
        || (g_strcmp0(device, "cdrom") != 0 && g_strcmp0(device, "floppy") != 0)
        || stat(file, &st) == 0)
        return;
    kvss_xml_set_attribute(source, "startupPolicy", "optional");
    note(c, "%s is not on this host: drive %s starts empty", file, target);
}

static bool
disk_visit(Correction *c, xmlNodePtr node, GError **error)
{
    g_autofree char *target = kvss_xml_attribute(kvss_xml_child(node, "target"), "dev");
    KvssDisk *disk;

    if (!target)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "a disk of the definition has no target");
    disk = kvss_component_find_disk(c->component, target);
    if (disk && disk->path)
        disk_correct(c, node, disk);
    else
        media_correct(c, node, target);
    return true;
}

/* ---- interfaces ---- */

static bool
network_exists(KvssHost *host, const char *name)
{
    virNetworkPtr network = virNetworkLookupByName(kvss_host_connection(host), name);

    /* Only libvirt's own "no such network" counts: a driver without networks knows nothing. */
    if (!network)
        return virGetLastErrorCode() != VIR_ERR_NO_NETWORK;
    (void) virNetworkFree(network);
    return true;
}

static bool
device_exists(const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s", name);

    return !strchr(name, '/') && g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool
is_here(Correction *c, const char *type, const char *source)
{
    if (!c->host || !source)
        return true;
    if (g_str_equal(type, "network"))
        return network_exists(c->host, source);
    if (g_str_equal(type, "bridge") || g_str_equal(type, "direct"))
        return device_exists(source);
    return true;
}

/*
 * libvirt starts no VM whose network is missing, even with the link down; QEMU's
 * own network needs nothing on the host, and with the link down reaches nobody.
 */
static void
interface_disconnect(xmlNodePtr node)
{
    static const char *const gone[] = { "source", "target", "virtualport", "filterref", "vlan",
                                        "bandwidth", "port", "actual", NULL };

    for (int i = 0; gone[i]; i++)
        kvss_xml_remove_children(node, gone[i]);
    kvss_xml_set_attribute(node, "type", "user");
    kvss_xml_unset_attribute(node, "trustGuestRxFilters");
    kvss_xml_set_attribute(kvss_xml_child_or_new(node, "link"), "state", "down");
}

static void
interface_visit(Correction *c, xmlNodePtr node)
{
    KvssDefinitionNetwork *network = g_new0(KvssDefinitionNetwork, 1);
    xmlNodePtr source = kvss_xml_child(node, "source");

    network->type = kvss_xml_attribute(node, "type");
    if (!network->type)
        network->type = g_strdup("user");
    network->mac = kvss_xml_attribute(kvss_xml_child(node, "mac"), "address");
    network->source = kvss_xml_attribute(source, "network");
    if (!network->source)
        network->source = kvss_xml_attribute(source, "bridge");
    if (!network->source)
        network->source = kvss_xml_attribute(source, "dev");
    network->is_connected = is_here(c, network->type, network->source);
    g_ptr_array_add(c->report->networks, network);
    if (network->is_connected)
        return;
    interface_disconnect(node);
    note(c, "%s '%s' is not on this host: interface %s has its link down", network->type,
         network->source, network->mac ? network->mac : "without MAC");
}

/* ---- what a stranger's definition must not make the host run ---- */

/* Extensions of one hypervisor: command-line arguments, among others. */
static bool
is_extension(xmlNodePtr node)
{
    return node->type == XML_ELEMENT_NODE && node->ns && node->ns->href
        && g_str_has_prefix((const char *) node->ns->href, "http://libvirt.org/schemas/domain/");
}

static void
leave_out(Correction *c, xmlNodePtr node, const char *what)
{
    c->report->left_out_host_access = true;
    note(c, "%s was left out: it makes the host run what the backup says", what);
    kvss_xml_remove(node);
}

static void
extensions_leave_out(Correction *c, xmlNodePtr root)
{
    xmlNodePtr next;

    for (xmlNodePtr n = root->children; n; n = next) {
        g_autofree char *what = NULL;

        next = n->next;
        if (!is_extension(n))
            continue;
        what = g_strdup_printf("the extension <%s>", (const char *) n->name);
        leave_out(c, n, what);
    }
}

/* Without one libvirt takes the host's own. */
static void
emulator_check(Correction *c, xmlNodePtr devices)
{
    xmlNodePtr emulator = kvss_xml_child(devices, "emulator");
    xmlChar *path = emulator ? xmlNodeGetContent(emulator) : NULL;

    if (path && (!g_str_has_prefix((const char *) path, "/usr/") || strstr((char *) path, "..")))
        leave_out(c, emulator, "the emulator of its own");
    xmlFree(path);
}

static void
scripts_leave_out(Correction *c, xmlNodePtr interface)
{
    xmlNodePtr script;

    while ((script = kvss_xml_child(interface, "script")) || (script = kvss_xml_child(interface, "downscript")))
        leave_out(c, script, "the script of an interface");
}

/* ---- the whole ---- */

static bool
devices_visit(Correction *c, xmlNodePtr devices, GError **error)
{
    for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next) {
        if (kvss_xml_is(n, "disk") && !disk_visit(c, n, error))
            return false;
        if (kvss_xml_is(n, "interface")) {
            interface_visit(c, n);
            scripts_leave_out(c, n);
        }
    }
    return true;
}

static void
nvram_correct(Correction *c, xmlNodePtr root)
{
    xmlNodePtr nvram = kvss_xml_child(kvss_xml_child(root, "os"), "nvram");
    KvssFile *file = kvss_component_find_file(c->component, "nvram.fd");
    g_autofree char *type = kvss_xml_attribute(nvram, "type");

    if (!nvram || !file || !file->path || (type && !g_str_equal(type, "file")))
        return;
    if (type) {
        kvss_xml_set_attribute(kvss_xml_child_or_new(nvram, "source"), "file", file->path);
        return;
    }
    kvss_xml_set_content(nvram, file->path);
}

static void
mark_add(xmlNodePtr root, const char *run)
{
    xmlNodePtr metadata = kvss_xml_child(root, "metadata");
    xmlNodePtr mark = xmlNewNode(NULL, X("restore"));
    xmlNsPtr ns = xmlNewNs(mark, X(KVSS_RESTORE_MARK_URI), X(KVSS_RESTORE_MARK_PREFIX));

    xmlSetNs(mark, ns);
    kvss_xml_set_attribute(mark, "run", run);
    if (!metadata) {
        metadata = xmlNewNode(NULL, X("metadata"));
        (void) xmlAddNextSibling(kvss_xml_child_or_new(root, "name"), metadata);
    }
    (void) xmlAddChild(metadata, mark);
}

char *
kvss_definition_correct(const char *xml, const KvssComponent *component, KvssHost *host,
                        const char *mark_run, KvssDefinitionReport *out_report, GError **error)
{
    g_auto(KvssDefinitionReport) report = { 0 };
    Correction correction = { component, host, &report };
    xmlDocPtr document = kvss_xml_parse_domain(xml, error);
    xmlNodePtr root;
    char *text = NULL;

    if (!document)
        return NULL;
    report_init(&report);
    root = xmlDocGetRootElement(document);
    if (devices_visit(&correction, kvss_xml_child(root, "devices"), error)) {
        nvram_correct(&correction, root);
        extensions_leave_out(&correction, root);
        emulator_check(&correction, kvss_xml_child(root, "devices"));
        if (mark_run)
            mark_add(root, mark_run);
        text = kvss_xml_text(document);
    }
    xmlFreeDoc(document);
    if (text && out_report) {
        *out_report = report;
        report = (KvssDefinitionReport){ 0 };
    }
    return text;
}
