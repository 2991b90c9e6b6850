/*
 * definition.c - a stored definition, made true for where the VM is restored
 */
#include "writer/domain/definition-private.h"
#include "guardian/acts-restore.h"

#include <string.h>

#define X(text) ((const xmlChar *) (text))

/* ---- the report ---- */

static void
network_free(gpointer data)
{
    KvssDefinitionNetwork *network = data;

    g_free(network->type);
    g_free(network->source);
    g_free(network->was);
    g_free(network->mac);
    g_free(network);
}

static void
report_init(KvssDefinitionReport *report)
{
    report->networks = g_ptr_array_new_with_free_func(network_free);
    report->notes = g_ptr_array_new_with_free_func(g_free);
    report->kept = g_ptr_array_new_with_free_func(g_free);
    report->lost_disks = g_ptr_array_new_with_free_func(g_free);
}

void
kvss_definition_report_clear(KvssDefinitionReport *report)
{
    g_clear_pointer(&report->networks, g_ptr_array_unref);
    g_clear_pointer(&report->notes, g_ptr_array_unref);
    g_clear_pointer(&report->kept, g_ptr_array_unref);
    g_clear_pointer(&report->lost_disks, g_ptr_array_unref);
}

/* Once: a serial port is also the console. */
void
definition_note(Correction *c, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (!g_ptr_array_find_with_equal_func(c->report->notes, text, g_str_equal, NULL))
        g_ptr_array_add(c->report->notes, g_steal_pointer(&text));
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

void
definition_drop_chain(xmlNodePtr disk)
{
    kvss_xml_remove_children(disk, "backingStore");
    kvss_xml_remove_children(disk, "mirror");
}

static void
disk_correct(Correction *c, xmlNodePtr node, const KvssDisk *disk)
{
    bool is_block = g_strcmp0(disk->kind, "block") == 0;
    xmlNodePtr source = kvss_xml_child_or_new(node, "source");
    xmlNodePtr driver = kvss_xml_child(node, "driver");
    g_autofree char *raw = kvss_xml_attribute(node, "rawio");

    if (g_strcmp0(raw, "yes") == 0 && !definition_may_stay(c, node, "a disk's way to raw devices"))
        kvss_xml_unset_attribute(node, "rawio");
    if (kvss_xml_child(node, "encryption") || kvss_xml_child(source, "encryption"))
        definition_note(c, "disk %s was encrypted by QEMU and is restored unencrypted", disk->target);
    kvss_xml_remove_children(node, "encryption");
    definition_drop_chain(node);
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

static bool
is_shared(xmlNodePtr disk)
{
    return kvss_xml_child(disk, "readonly") || kvss_xml_child(disk, "shareable");
}

/*
 * Not in the backup: it would be whatever lies at that place of this host. A
 * medium may be; a disk is the VM's that is replaced, or goes.
 */
static void
foreign_disk_correct(Correction *c, xmlNodePtr node, const char *target)
{
    g_autofree char *device = kvss_xml_attribute(node, "device");
    g_autofree char *what = g_strdup_printf("disk %s, which is not in the backup,", target);

    if (g_strcmp0(device, "cdrom") == 0 || g_strcmp0(device, "floppy") == 0) {
        definition_media(c, node, target);
        return;
    }
    /* Whatever is allowed: two VMs that write one disk ruin it. */
    if (c->copy && !is_shared(node)) {
        definition_note(c, "%s stays with the VM that this is a copy of", what);
        kvss_xml_remove(node);
    } else if (definition_leave_out(c, node, what)) {
        if (!c->allows_host_access) /* its image is granted, not what else is said of it */
            definition_drop_chain(node);
        return;
    }
    c->report->lost_device = true;
    g_ptr_array_add(c->report->lost_disks, g_strdup(target));
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
        foreign_disk_correct(c, node, target);
    return true;
}

/* ---- the whole ---- */

static bool
device_visit(Correction *c, xmlNodePtr node, GError **error)
{
    if (kvss_xml_is(node, "disk"))
        return disk_visit(c, node, error);
    if (kvss_xml_is(node, "interface"))
        definition_interface(c, node);
    else
        definition_access_device(c, node);
    return true;
}

static bool
devices_visit(Correction *c, xmlNodePtr devices, GError **error)
{
    xmlNodePtr next;

    for (xmlNodePtr n = devices ? devices->children : NULL; n; n = next) {
        next = n->next;
        if (n->type == XML_ELEMENT_NODE && !device_visit(c, n, error))
            return false;
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
        xmlNodePtr source = kvss_xml_child_or_new(nvram, "source");

        source_reset(source);
        definition_drop_chain(nvram);
        kvss_xml_set_attribute(source, "file", file->path);
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

/* ---- wishes ---- */

static JsonObject *
wishes_parse(JsonParser *parser, const KvssComponent *component)
{
    JsonNode *root = component->restore_options
            && json_parser_load_from_data(parser, component->restore_options, -1, NULL)
        ? json_parser_get_root(parser) : NULL;

    return root && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
}

static void
wishes_read(Correction *c, JsonObject *wishes)
{
    const char *present;

    c->wishes = wishes;
    if (!wishes)
        return;
    c->allows_host_access
        = json_object_get_boolean_member_with_default(wishes, "allow-host-access", FALSE);
    if (json_object_has_member(wishes, "copy"))
        c->copy = json_object_get_object_member(wishes, "copy");
    present = json_object_get_string_member_with_default(wishes, "present", NULL);
    if (present)
        definition_access_learn(c, present);
}

/* The copy last: grants and mappings are found by what the definition was. */
static bool
definition_change(Correction *c, xmlNodePtr root, const char *mark_run, GError **error)
{
    xmlNodePtr os = kvss_xml_child(root, "os");

    if (!devices_visit(c, kvss_xml_child(root, "devices"), error))
        return false;
    nvram_correct(c, root);
    if (os)
        definition_boot_files(c, os);
    definition_access_root(c, root);
    definition_identity(c, root);
    if (mark_run)
        mark_add(root, mark_run);
    return true;
}

char *
kvss_definition_correct(const char *xml, const KvssComponent *component, KvssHost *host,
                        const char *mark_run, KvssDefinitionReport *out_report, GError **error)
{
    g_auto(KvssDefinitionReport) report = { 0 };
    g_autoptr(JsonParser) parser = json_parser_new();
    Correction correction = { .component = component, .host = host, .report = &report };
    xmlDocPtr document = kvss_xml_parse_domain(xml, error);
    char *text = NULL;

    if (!document) {
        g_prefix_error(error, "the stored definition: ");
        return NULL;
    }
    report_init(&report);
    wishes_read(&correction, wishes_parse(parser, component));
    if (definition_change(&correction, xmlDocGetRootElement(document), mark_run, error))
        text = kvss_xml_text(document);
    g_clear_pointer(&correction.present, g_hash_table_unref);
    xmlFreeDoc(document);
    if (text && out_report) {
        *out_report = report;
        report = (KvssDefinitionReport){ 0 };
    }
    return text;
}
