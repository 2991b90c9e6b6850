/*
 * documents-write.c - the two documents, written
 *
 * Names, values and the order of elements and attributes are those seen in real
 * documents. What VSS stores in ways that are not published (whether and how a
 * component failed) has names of our own. Every text is read back before it is
 * handed out: a set must not hold a document that its own restore would refuse.
 */
#include "vss/documents.h"

#include <libxml/tree.h>
#include <string.h>

#define VERSION "1.0"
/* VSS_FSBT_ALL: needed in every kind of backup, and its snapshot too. */
#define FILESPEC_BACKUP_TYPE "3855"
/* VSS_CF_BACKUP_RECOVERY: the shadow copy must be writable for PostSnapshot. */
#define COMPONENT_FLAGS "1"
/* Sentences and names for people are cut; names that mean something never. */
#define TEXT_MAX_LENGTH 4096u

/* --- text ------------------------------------------------------------------- */

/* What XML has no way to write, and what a terminal would obey. */
static bool
is_writable(gunichar c)
{
    return (c >= 0x20 && c < 0x7F) || (c > 0x9F && c != 0xFFFE && c != 0xFFFF);
}

static char *
to_xml_text(const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    GString *text = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (memchr("\t\n\r", (int) c, 3) && c < 0x80)
            g_string_append_c(text, ' ');
        else
            g_string_append_unichar(text, is_writable(c) ? c : 0xFFFD);
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

/* For people: cut where it gets too long, between characters. */
static char *
sentence(const char *value)
{
    char *text = to_xml_text(value);

    if (strlen(text) > TEXT_MAX_LENGTH)
        *g_utf8_find_prev_char(text, text + TEXT_MAX_LENGTH + 1) = '\0';
    return text;
}

static void
set_sentence(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = value ? sentence(value) : NULL;

    set_unless_empty(node, name, text);
}

static void
set_yes(xmlNode *node, const char *name, bool value)
{
    set(node, name, value ? "yes" : "no");
}

/* Printed in lower case; others' programs may give theirs in upper case. */
static void
set_guid(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *lower = g_ascii_strdown(value, -1);

    set(node, name, lower);
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

static const char *
level_name(KvssApplicationLevel level)
{
    switch (level) {
    case KVSS_LEVEL_SYSTEM:
        return "SYSTEM";
    case KVSS_LEVEL_BACK_END:
        return "BACK_END";
    case KVSS_LEVEL_FRONT_END:
        break;
    }
    return "FRONT_END";
}

static void
add_identification(xmlNode *root, const KvssWriterIdentity *writer)
{
    xmlNode *node = add(root, "IDENTIFICATION");
    g_autofree char *friendly_name = sentence(writer->friendly_name);

    set_guid(node, "writerId", writer->class_id);
    set_guid(node, "instanceId", writer->instance_id);
    set_sentence(node, "instanceName", writer->instance_name);
    set(node, "friendlyName", friendly_name); /* even when it is empty */
    set(node, "usage", "USER_DATA");
    set(node, "dataSource", "OTHER");
    set(node, "majorVersion", "1");
    set(node, "minorVersion", "0");
    set(node, "applicationLevel", level_name(writer->level));
}

static void
add_restore_method(xmlNode *root)
{
    xmlNode *node = add(root, "RESTORE_METHOD");

    set(node, "method", "RESTORE_IF_CAN_BE_REPLACED");
    set(node, "writerRestore", "always");
    set(node, "rebootRequired", "no");
}

/*
 * As a document may hold it; NULL when it is no place on this host. A ".." is not
 * taken out: with a symbolic link before it, that would name another file.
 */
static char *
plain_path(const char *path)
{
    g_autoptr(GString) plain = g_string_new(NULL);

    if (!path || path[0] != '/')
        return NULL;
    while (*path == '/') {
        size_t length = strcspn(++path, "/");

        if (length == 2 && strncmp(path, "..", 2) == 0)
            return NULL;
        if (length > 1 || (length == 1 && *path != '.'))
            g_string_append_len(g_string_append_c(plain, '/'), path, (gssize) length);
        path += length;
    }
    if (plain->len == 0)
        g_string_append_c(plain, '/');
    return g_string_free(g_steal_pointer(&plain), FALSE);
}

/* @folder is plain. */
static void
add_file_list(xmlNode *group, GHashTable *seen, const char *folder, const char *filespec,
              bool is_recursive)
{
    xmlNode *node;

    if (!g_hash_table_add(seen, g_strdup_printf("%d %s/%s", is_recursive, folder, filespec)))
        return;
    node = add(group, "FILE_LIST");
    set(node, "path", folder);
    set(node, "filespec", filespec);
    set(node, "recursive", is_recursive ? "yes" : NULL);
    set(node, "filespecBackupType", FILESPEC_BACKUP_TYPE);
}

static void
add_file_set(xmlNode *group, GHashTable *seen, const KvssFileSet *files)
{
    g_autofree char *folder = plain_path(files->path);

    if (folder && *files->filespec)
        add_file_list(group, seen, folder, files->filespec, files->is_recursive);
}

static bool
is_in_file_set(const KvssFileSet *files, const char *folder, const char *name)
{
    g_autofree char *top = plain_path(files->path);
    size_t length = top ? strlen(top) : 0;
    bool is_below = top && files->is_recursive
                    && (length == 1 || (strncmp(folder, top, length) == 0 && folder[length] == '/'));

    return top && (is_below || strcmp(folder, top) == 0)
           && g_pattern_match_simple(files->filespec, name);
}

/* What a file set already says is not said again for each of its files: there may be thousands. */
static void
add_file(xmlNode *group, GHashTable *seen, const KvssComponent *component, const char *path)
{
    g_autofree char *plain = plain_path(path);
    g_autofree char *folder = NULL, *name = NULL;

    if (!plain || strcmp(plain, "/") == 0)
        return;
    folder = g_path_get_dirname(plain);
    name = g_path_get_basename(plain);
    for (guint i = 0; i < component->file_sets->len; i++)
        if (is_in_file_set(g_ptr_array_index(component->file_sets, i), folder, name))
            return;
    add_file_list(group, seen, folder, name, false);
}

static void
add_files(xmlNode *group, const KvssComponent *component)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < component->file_sets->len; i++)
        add_file_set(group, seen, g_ptr_array_index(component->file_sets, i));
    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        add_file(group, seen, component, disk->path);
    }
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);

        add_file(group, seen, component, file->original ? file->original : file->path);
    }
}

static void
add_file_group(xmlNode *locations, const KvssComponent *component)
{
    xmlNode *group = add(locations, "FILE_GROUP");

    set_unless_empty(group, "logicalPath", component->logical_path);
    set(group, "componentName", component->name);
    set_sentence(group, "caption", component->caption);
    set_yes(group, "restoreMetadata", component->metadata != NULL);
    set_yes(group, "notifyOnBackupComplete", component->is_notified);
    set_yes(group, "selectable", component->is_selectable);
    set_yes(group, "selectableForRestore", component->is_selectable_for_restore);
    set(group, "componentFlags", COMPONENT_FLAGS);
    add_files(group, component);
}

/* Takes @text. */
static char *
checked(char *text, bool is_readable)
{
    if (is_readable)
        return text;
    g_free(text);
    return NULL;
}

char *
kvss_writer_metadata_document(const KvssWriterIdentity *writer, GError **error)
{
    xmlDoc *document = document_new("WRITER_METADATA", KVSS_WRITER_METADATA_NS);
    xmlNode *root = xmlDocGetRootElement(document);
    xmlNode *locations;
    char *text;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(KvssWriterMetadata) again = NULL;

    set_number(root, "backupSchema", KVSS_BACKUP_SCHEMA);
    add_identification(root, writer);
    add_restore_method(root);
    locations = add(root, "BACKUP_LOCATIONS");
    for (guint i = 0; i < writer->components->len; i++)
        add_file_group(locations, g_ptr_array_index(writer->components, i));
    text = document_to_text(document);
    bytes = g_bytes_new_static(text, strlen(text));
    again = kvss_writer_metadata_read(bytes, error);
    if (!again)
        g_prefix_error(error, "%s: ", writer->friendly_name);
    return checked(text, again != NULL);
}

/* --- backup components ------------------------------------------------------------ */

/* Brought along by another: that one speaks for it. */
static bool
is_chosen(const KvssSnapshotSet *snapshot_set, const KvssComponent *component)
{
    return component->is_explicit && g_ptr_array_find(snapshot_set->components, component, NULL);
}

static bool
has_any(const KvssSnapshotSet *snapshot_set, const KvssWriterIdentity *writer)
{
    for (guint i = 0; i < writer->components->len; i++)
        if (is_chosen(snapshot_set, g_ptr_array_index(writer->components, i)))
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
add_failure(xmlNode *node, const KvssComponent *component)
{
    g_autofree char *value = NULL;
    xmlNode *failure;

    if (component->failure == KVSS_S_OK)
        return;
    value = g_strdup_printf("0x%08x", component->failure);
    failure = add(node, "BACKUP_FAILURE");
    set(failure, "code", kvss_hresult_name(component->failure));
    set(failure, "hresult", value);
    set_sentence(failure, "message", component->failure_message);
}

static void
add_component(xmlNode *parent, const KvssComponent *component)
{
    xmlNode *node = add(parent, "COMPONENT");

    set_unless_empty(node, "logicalPath", component->logical_path);
    set(node, "componentName", component->name);
    set(node, "componentType", "filegroup");
    set_yes(node, "backupSucceeded", component->backup_succeeded);
    add_metadata(node, component->metadata);
    add_failure(node, component);
}

static void
add_writer(xmlNode *root, const KvssSnapshotSet *snapshot_set, const KvssWriterIdentity *writer)
{
    xmlNode *node;

    if (!has_any(snapshot_set, writer))
        return;
    node = add(root, "WRITER_COMPONENTS");
    set_guid(node, "instanceId", writer->instance_id);
    set_guid(node, "writerId", writer->class_id);
    set_sentence(node, "instanceName", writer->instance_name);
    set_number(node, "backupSchema", KVSS_BACKUP_SCHEMA);
    for (guint i = 0; i < writer->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (is_chosen(snapshot_set, component))
            add_component(node, component);
    }
}

char *
kvss_backup_components_document(const KvssSnapshotSet *snapshot_set,
                                const KvssWriterIdentity *writers, size_t n_writers,
                                GError **error)
{
    xmlDoc *document = document_new("BACKUP_COMPONENTS", KVSS_BACKUP_COMPONENTS_NS);
    xmlNode *root = xmlDocGetRootElement(document);
    char *text;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(KvssBackupComponents) again = NULL;

    set(root, "bootableSystemStateBackup", "no");
    set(root, "selectComponents", "yes");
    set(root, "backupType", snapshot_set->backup_type == KVSS_BT_FULL ? "full" : "copy");
    set(root, "partialFileSupport", "no");
    set_guid(root, "snapshotSetId", snapshot_set->id);
    set_number(root, "contextAttributes", snapshot_set->context);
    for (size_t i = 0; i < n_writers; i++)
        add_writer(root, snapshot_set, &writers[i]);
    text = document_to_text(document);
    bytes = g_bytes_new_static(text, strlen(text));
    again = kvss_backup_components_read(bytes, error);
    return checked(text, again != NULL);
}
