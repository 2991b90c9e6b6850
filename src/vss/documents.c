/*
 * documents.c - the two documents that are stored with every backup
 *
 * Names, values and the order of elements and attributes are those seen in real
 * documents. What VSS stores in ways that are not published (whether a component
 * succeeded) has a name of our own.
 */
#include "vss/documents.h"

#include <libxml/tree.h>
#include <string.h>

#define VERSION "1.0"
/* VSS_FSBT_ALL: needed in every kind of backup, and its snapshot too. */
#define FILESPEC_BACKUP_TYPE "3855"
/* VSS_CF_BACKUP_RECOVERY: the shadow copy must be writable for PostSnapshot. */
#define COMPONENT_FLAGS "1"

/* --- text ------------------------------------------------------------------- */

/* The characters of XML 1.0; the others cannot be written in any way. */
static bool
is_xml_char(gunichar c)
{
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0xD7FF)
           || (c >= 0xE000 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0x10FFFF);
}

static char *
to_xml_text(const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    GString *text = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        g_string_append_unichar(text, is_xml_char(c) ? c : 0xFFFD);
    }
    return g_string_free(text, FALSE);
}

/* NULL: the attribute is left out. */
static void
set(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = value ? to_xml_text(value) : NULL;

    if (text)
        xmlNewProp(node, BAD_CAST name, BAD_CAST text);
}

static void
set_unless_empty(xmlNode *node, const char *name, const char *value)
{
    set(node, name, value && *value ? value : NULL);
}

static void
set_number(xmlNode *node, const char *name, unsigned value)
{
    g_autofree char *text = g_strdup_printf("%u", value);

    set(node, name, text);
}

static xmlNode *
add(xmlNode *parent, const char *name)
{
    return xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}

static xmlDoc *
document_new(const char *name, const char *xmlns)
{
    xmlDoc *document = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *root = xmlNewNode(NULL, BAD_CAST name);

    xmlSetNs(root, xmlNewNs(root, BAD_CAST xmlns, NULL));
    set(root, "version", VERSION);
    xmlDocSetRootElement(document, root);
    return document;
}

/* Takes the document. */
static char *
document_to_text(xmlDoc *document)
{
    xmlChar *dump;
    int length;
    char *text;

    xmlDocDumpFormatMemoryEnc(document, &dump, &length, "UTF-8", 1);
    g_assert(dump);
    text = g_strndup((const char *) dump, (gsize) length);
    xmlFree(dump);
    xmlFreeDoc(document);
    return text;
}

/* --- writer metadata ------------------------------------------------------------ */

static void
add_identification(xmlNode *root, const KvssWriterIdentity *writer)
{
    xmlNode *node = add(root, "IDENTIFICATION");

    set(node, "writerId", writer->class_id);
    set(node, "instanceId", writer->instance_id);
    set(node, "instanceName", writer->instance_name);
    set(node, "friendlyName", writer->friendly_name);
    set(node, "usage", "USER_DATA");
    set(node, "dataSource", "OTHER");
    set(node, "majorVersion", "1");
    set(node, "minorVersion", "0");
}

static void
add_restore_method(xmlNode *root)
{
    xmlNode *node = add(root, "RESTORE_METHOD");

    set(node, "method", "RESTORE_IF_CAN_BE_REPLACED");
    set(node, "writerRestore", "always");
    set(node, "rebootRequired", "no");
}

/* A folder and a name in it; what has no place on this host is no file. */
static void
add_file(xmlNode *group, const char *path)
{
    g_autofree char *folder = NULL, *name = NULL;
    xmlNode *node;

    if (!path || !g_path_is_absolute(path))
        return;
    folder = g_path_get_dirname(path);
    name = g_path_get_basename(path);
    node = add(group, "FILE_LIST");
    set(node, "path", folder);
    set(node, "filespec", name);
    set(node, "filespecBackupType", FILESPEC_BACKUP_TYPE);
}

static void
add_files(xmlNode *group, const KvssComponent *component)
{
    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        add_file(group, disk->path);
    }
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);

        add_file(group, file->original ? file->original : file->path);
    }
}

static void
add_file_group(xmlNode *locations, const KvssComponent *component)
{
    xmlNode *group = add(locations, "FILE_GROUP");

    set_unless_empty(group, "logicalPath", component->logical_path);
    set(group, "componentName", component->name);
    set_unless_empty(group, "caption", component->caption);
    set(group, "restoreMetadata", "yes");
    set(group, "notifyOnBackupComplete", "yes");
    set(group, "selectable", "yes");
    set(group, "selectableForRestore", "yes");
    set(group, "componentFlags", COMPONENT_FLAGS);
    add_files(group, component);
}

char *
kvss_writer_metadata_document(const KvssWriterIdentity *writer)
{
    xmlDoc *document = document_new("WRITER_METADATA", KVSS_WRITER_METADATA_NS);
    xmlNode *root = xmlDocGetRootElement(document);
    xmlNode *locations;

    set_number(root, "backupSchema", KVSS_BACKUP_SCHEMA);
    add_identification(root, writer);
    add_restore_method(root);
    locations = add(root, "BACKUP_LOCATIONS");
    for (guint i = 0; i < writer->components->len; i++)
        add_file_group(locations, g_ptr_array_index(writer->components, i));
    return document_to_text(document);
}

/* --- backup components ------------------------------------------------------------ */

static bool
is_in_set(const KvssSnapshotSet *snapshot_set, const KvssComponent *component)
{
    return g_ptr_array_find(snapshot_set->components, component, NULL);
}

static bool
has_any(const KvssSnapshotSet *snapshot_set, const KvssWriterIdentity *writer)
{
    for (guint i = 0; i < writer->components->len; i++)
        if (is_in_set(snapshot_set, g_ptr_array_index(writer->components, i)))
            return true;
    return false;
}

static void
add_metadata(xmlNode *node, const char *metadata)
{
    g_autofree char *text = NULL;

    if (!metadata)
        return;
    text = g_base64_encode((const guchar *) metadata, strlen(metadata));
    set(add(node, "BACKUP_METADATA"), "metadata", text);
}

static void
add_component(xmlNode *parent, const KvssComponent *component)
{
    xmlNode *node = add(parent, "COMPONENT");

    set_unless_empty(node, "logicalPath", component->logical_path);
    set(node, "componentName", component->name);
    set(node, "componentType", "filegroup");
    set(node, "backupSucceeded", component->backup_succeeded ? "yes" : "no");
    add_metadata(node, component->metadata);
}

static void
add_writer(xmlNode *root, const KvssSnapshotSet *snapshot_set, const KvssWriterIdentity *writer)
{
    xmlNode *node;

    if (!has_any(snapshot_set, writer))
        return;
    node = add(root, "WRITER_COMPONENTS");
    set(node, "instanceId", writer->instance_id);
    set(node, "writerId", writer->class_id);
    set(node, "instanceName", writer->instance_name);
    set_number(node, "backupSchema", KVSS_BACKUP_SCHEMA);
    for (guint i = 0; i < writer->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (is_in_set(snapshot_set, component))
            add_component(node, component);
    }
}

char *
kvss_backup_components_document(const KvssSnapshotSet *snapshot_set,
                                const KvssWriterIdentity *writers, size_t n_writers)
{
    xmlDoc *document = document_new("BACKUP_COMPONENTS", KVSS_BACKUP_COMPONENTS_NS);
    xmlNode *root = xmlDocGetRootElement(document);

    set(root, "bootableSystemStateBackup", "no");
    set(root, "selectComponents", "yes");
    set(root, "backupType", snapshot_set->backup_type == KVSS_BT_FULL ? "full" : "copy");
    set(root, "partialFileSupport", "no");
    set(root, "snapshotSetId", snapshot_set->id);
    for (size_t i = 0; i < n_writers; i++)
        add_writer(root, snapshot_set, &writers[i]);
    return document_to_text(document);
}
