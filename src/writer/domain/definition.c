/*
 * definition.c - a stored definition, made true for where the VM is restored
 */
#include "writer/domain/definition.h"
#include "guardian/acts-restore.h"
#include "host/connection.h"

#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>
#include <sys/stat.h>

#define XML_LENGTH_MAX (10 * 1024 * 1024)
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

/* ---- small steps through the tree ---- */

static bool
is_named(xmlNodePtr node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && xmlStrEqual(node->name, X(name));
}

static xmlNodePtr
child(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr n = node ? node->children : NULL; n; n = n->next)
        if (is_named(n, name))
            return n;
    return NULL;
}

static xmlNodePtr
child_or_new(xmlNodePtr node, const char *name)
{
    xmlNodePtr found = child(node, name);

    return found ? found : xmlNewChild(node, NULL, X(name), NULL);
}

static char *
attribute(xmlNodePtr node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, X(name)) : NULL;
    char *copy = g_strdup((const char *) value);

    xmlFree(value);
    return copy;
}

static void
remove_children(xmlNodePtr node, const char *name)
{
    xmlNodePtr next;

    for (xmlNodePtr n = node->children; n; n = next) {
        next = n->next;
        if (is_named(n, name)) {
            xmlUnlinkNode(n);
            xmlFreeNode(n);
        }
    }
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
        (void) xmlUnsetProp(source, X(gone[i]));
    for (xmlNodePtr n = source->children; n; n = next) {
        next = n->next;
        if (n->type == XML_ELEMENT_NODE && !is_named(n, "seclabel")) {
            xmlUnlinkNode(n);
            xmlFreeNode(n);
        }
    }
}

static void
disk_correct(Correction *c, xmlNodePtr node, const KvssDisk *disk)
{
    bool is_block = g_strcmp0(disk->kind, "block") == 0;
    xmlNodePtr source = child_or_new(node, "source");
    xmlNodePtr driver = child(node, "driver");

    if (child(node, "encryption") || child(source, "encryption"))
        note(c, "disk %s was encrypted by QEMU and is restored unencrypted", disk->target);
    remove_children(node, "encryption");
    remove_children(node, "backingStore");
    remove_children(node, "mirror");
    source_reset(source);
    xmlSetProp(node, X("type"), X(is_block ? "block" : "file"));
    xmlSetProp(source, X(is_block ? "dev" : "file"), X(disk->path));

    if (!driver) {
        driver = xmlNewNode(NULL, X("driver"));
        xmlSetProp(driver, X("name"), X("qemu"));
        (void) xmlAddPrevSibling(source, driver);
    }
    xmlSetProp(driver, X("type"), X(disk->format));
    (void) xmlAddNextSibling(source, xmlNewNode(NULL, X("backingStore")));
}

/* A missing CD must not keep the VM from starting. */
static void
media_correct(Correction *c, xmlNodePtr node, const char *target)
{
    g_autofree char *device = attribute(node, "device");
    xmlNodePtr source = child(node, "source");
    g_autofree char *file = attribute(source, "file");
    g_autofree char *policy = attribute(source, "startupPolicy");
    struct stat st;

    if (!file || policy
        || (g_strcmp0(device, "cdrom") != 0 && g_strcmp0(device, "floppy") != 0)
        || stat(file, &st) == 0)
        return;
    xmlSetProp(source, X("startupPolicy"), X("optional"));
    note(c, "%s is not on this host: drive %s starts empty", file, target);
}

static bool
disk_visit(Correction *c, xmlNodePtr node, GError **error)
{
    g_autofree char *target = attribute(child(node, "target"), "dev");
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
        remove_children(node, gone[i]);
    xmlSetProp(node, X("type"), X("user"));
    (void) xmlUnsetProp(node, X("trustGuestRxFilters"));
    xmlSetProp(child_or_new(node, "link"), X("state"), X("down"));
}

static void
interface_visit(Correction *c, xmlNodePtr node)
{
    KvssDefinitionNetwork *network = g_new0(KvssDefinitionNetwork, 1);
    xmlNodePtr source = child(node, "source");

    network->type = attribute(node, "type");
    if (!network->type)
        network->type = g_strdup("user");
    network->mac = attribute(child(node, "mac"), "address");
    network->source = attribute(source, "network");
    if (!network->source)
        network->source = attribute(source, "bridge");
    if (!network->source)
        network->source = attribute(source, "dev");
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
    xmlUnlinkNode(node);
    xmlFreeNode(node);
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
    xmlNodePtr emulator = child(devices, "emulator");
    xmlChar *path = emulator ? xmlNodeGetContent(emulator) : NULL;

    if (path && (!g_str_has_prefix((const char *) path, "/usr/") || strstr((char *) path, "..")))
        leave_out(c, emulator, "the emulator of its own");
    xmlFree(path);
}

static void
scripts_leave_out(Correction *c, xmlNodePtr interface)
{
    xmlNodePtr script;

    while ((script = child(interface, "script")) || (script = child(interface, "downscript")))
        leave_out(c, script, "the script of an interface");
}

/* ---- the whole ---- */

static bool
devices_visit(Correction *c, xmlNodePtr devices, GError **error)
{
    for (xmlNodePtr n = devices ? devices->children : NULL; n; n = n->next) {
        if (is_named(n, "disk") && !disk_visit(c, n, error))
            return false;
        if (is_named(n, "interface")) {
            interface_visit(c, n);
            scripts_leave_out(c, n);
        }
    }
    return true;
}

static void
nvram_correct(Correction *c, xmlNodePtr root)
{
    xmlNodePtr nvram = child(child(root, "os"), "nvram");
    KvssFile *file = kvss_component_find_file(c->component, "nvram.fd");
    g_autofree char *type = attribute(nvram, "type");

    if (!nvram || !file || !file->path || (type && !g_str_equal(type, "file")))
        return;
    if (type) {
        xmlSetProp(child_or_new(nvram, "source"), X("file"), X(file->path));
        return;
    }
    xmlNodeSetContent(nvram, NULL);
    xmlNodeAddContent(nvram, X(file->path));
}

static void
mark_add(xmlNodePtr root, const char *run)
{
    xmlNodePtr metadata = child(root, "metadata");
    xmlNodePtr mark = xmlNewNode(NULL, X("restore"));
    xmlNsPtr ns = xmlNewNs(mark, X(KVSS_RESTORE_MARK_URI), X(KVSS_RESTORE_MARK_PREFIX));

    xmlSetNs(mark, ns);
    xmlSetProp(mark, X("run"), X(run));
    if (!metadata) {
        metadata = xmlNewNode(NULL, X("metadata"));
        (void) xmlAddNextSibling(child_or_new(root, "name"), metadata);
    }
    (void) xmlAddChild(metadata, mark);
}

static xmlDocPtr
document_parse(const char *xml, GError **error)
{
    size_t length = strlen(xml);
    xmlDocPtr document = NULL;
    xmlNodePtr root;

    if (length <= XML_LENGTH_MAX)
        document = xmlReadMemory(xml, (int) length, NULL, NULL,
                                 XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    root = document ? xmlDocGetRootElement(document) : NULL;
    /* libvirt writes no document type; with one come entities. */
    if (root && !xmlGetIntSubset(document) && is_named(root, "domain"))
        return document;
    if (document)
        xmlFreeDoc(document);
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
               "the stored definition is no definition of a domain");
    return NULL;
}

static char *
document_text(xmlDocPtr document)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    char *text;

    (void) xmlNodeDump(buffer, document, xmlDocGetRootElement(document), 0, 0);
    text = g_strdup((const char *) xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

char *
kvss_definition_correct(const char *xml, const KvssComponent *component, KvssHost *host,
                        const char *mark_run, KvssDefinitionReport *out_report, GError **error)
{
    g_auto(KvssDefinitionReport) report = { 0 };
    Correction correction = { component, host, &report };
    xmlDocPtr document = document_parse(xml, error);
    xmlNodePtr root;
    char *text = NULL;

    if (!document)
        return NULL;
    report_init(&report);
    root = xmlDocGetRootElement(document);
    if (devices_visit(&correction, child(root, "devices"), error)) {
        nvram_correct(&correction, root);
        extensions_leave_out(&correction, root);
        emulator_check(&correction, child(root, "devices"));
        if (mark_run)
            mark_add(root, mark_run);
        text = document_text(document);
    }
    xmlFreeDoc(document);
    if (text && out_report) {
        *out_report = report;
        report = (KvssDefinitionReport){ 0 };
    }
    return text;
}
