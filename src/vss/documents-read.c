/*
 * documents-read.c - the two documents, read as the stranger's text that they are
 *
 * The order of elements is the order of the functions here; what an attribute may
 * hold is said where it is read. The schemas in docs/format say the same: a test
 * feeds both and compares.
 */
#include "vss/documents.h"
#include "vss/tags.h"

#include <string.h>

#define VERSION "1.0"
/* NAME_MAX and PATH_MAX of the host; thrice, since U+FFFD for a byte takes three. */
#define NAME_MAX_LENGTH (3u * 255)
#define PLACE_MAX_LENGTH (3u * 4095)
#define TEXT_MAX_LENGTH 4096u /* sentences and names for people */
#define WORD_MAX_LENGTH 64u   /* numbers and words of a list */
/* As base64; three quarters of it are the writer's own text, which set.json holds to 4 MiB as well. */
#define METADATA_MAX_LENGTH (16u * 1024 * 1024 / 3)

#define corrupt(tags, ...) kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_CORRUPT, __VA_ARGS__)

/* --- values ------------------------------------------------------------------------ */

/* One of @words, which end with NULL; -1 with an error. */
static int
read_word(KvssTags *tags, const char *name, const char *const *words)
{
    g_autofree char *text = kvss_tags_needed(tags, name, WORD_MAX_LENGTH);

    for (int i = 0; text && words[i]; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    if (text)
        corrupt(tags, "%s is '%s', none of the words that are known", name, text);
    return -1;
}

#define EXPECT_WORD(tags, name, ...) \
    (void) read_word(tags, name, (const char *const[]) { __VA_ARGS__, NULL })

static bool
read_yes(KvssTags *tags, const char *name)
{
    static const char *const words[] = { "no", "yes", NULL };

    return read_word(tags, name, words) == 1;
}

/* 0 to 4294967295, in one form only. */
static uint32_t
read_number(KvssTags *tags, const char *name)
{
    g_autofree char *text = kvss_tags_needed(tags, name, WORD_MAX_LENGTH);
    guint64 value = 0;

    if (text && (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &value, NULL)
                 || (text[0] == '0' && text[1])))
        corrupt(tags, "%s is '%s', no number", name, text);
    return (uint32_t) value;
}

static char *
read_guid(KvssTags *tags, const char *name)
{
    char *text = kvss_tags_needed(tags, name, WORD_MAX_LENGTH);

    if (text && (!g_uuid_string_is_valid(text) || strpbrk(text, "ABCDEF")))
        corrupt(tags, "%s is '%s', no GUID in lower case", name, text);
    return text;
}

/* "" when it is absent; else names with '\\' between. */
static char *
read_logical_path(KvssTags *tags)
{
    char *path = kvss_tags_text(tags, "logicalPath", PLACE_MAX_LENGTH);

    if (path && !*path)
        corrupt(tags, "logicalPath is empty, and not left out");
    else if (path
             && (*path == '\\' || g_str_has_suffix(path, "\\") || strstr(path, "\\\\")))
        corrupt(tags, "logicalPath is '%.64s', which has an empty name in it", path);
    return path ? path : g_strdup("");
}

/* It may become the name of something: no path in it. */
static char *
read_component_name(KvssTags *tags)
{
    char *name = kvss_tags_needed(tags, "componentName", NAME_MAX_LENGTH);

    if (name && (!*name || strpbrk(name, "/\\") || !strcmp(name, ".") || !strcmp(name, "..")))
        corrupt(tags, "componentName is '%s', no plain name", name);
    return name;
}

static bool
is_plain_path(const char *path)
{
    if (strcmp(path, "/") == 0 || path[0] != '/')
        return path[0] == '/';
    while (*path == '/') {
        size_t length = strcspn(++path, "/");

        if (length == 0 || (length <= 2 && strspn(path, ".") >= length))
            return false;
        path += length;
    }
    return *path == '\0';
}

static char *
read_path(KvssTags *tags)
{
    char *path = kvss_tags_needed(tags, "path", PLACE_MAX_LENGTH);

    if (path && !is_plain_path(path))
        corrupt(tags, "path is '%.64s', no absolute path without '.' and '..'", path);
    return path;
}

static char *
read_filespec(KvssTags *tags)
{
    char *name = kvss_tags_needed(tags, "filespec", NAME_MAX_LENGTH);

    if (name && (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..")))
        corrupt(tags, "filespec is '%s', no name in a folder", name);
    return name;
}

/* The writer's own text out of base64 in its one form: what is written again is the same. */
static char *
read_base64(KvssTags *tags, const char *name)
{
    g_autofree char *text = kvss_tags_needed(tags, name, METADATA_MAX_LENGTH);
    g_autofree guchar *bytes = NULL;
    g_autofree char *again = NULL;
    gsize length;

    if (!text)
        return NULL;
    bytes = g_base64_decode(text, &length);
    again = g_base64_encode(bytes, length);
    if (strcmp(again, text) != 0)
        corrupt(tags, "%s is no base64", name);
    else if (memchr(bytes, 0, length))
        corrupt(tags, "%s has a NUL byte in it", name);
    return g_strndup((const char *) bytes, length);
}

/* --- what both documents have -------------------------------------------------------- */

/* @in_kind: what the namespaces of all versions begin with. */
static bool
read_root(KvssTags *tags, const char *name, const char *ns, const char *in_kind)
{
    g_autofree char *found = NULL, *version = NULL;

    if (!kvss_tags_expect(tags, name))
        return false;
    found = kvss_tags_needed(tags, "xmlns", TEXT_MAX_LENGTH);
    version = kvss_tags_needed(tags, "version", WORD_MAX_LENGTH);
    if (!found || !version)
        return false;
    if (!g_str_has_prefix(found, in_kind))
        corrupt(tags, "the namespace is '%.64s', not %s", found, ns);
    else if (strcmp(found, ns) != 0 || strcmp(version, VERSION) != 0)
        kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_VERSION,
                       "is of version %.64s in %.64s: this kvss reads %s in %s", version, found,
                       VERSION, ns);
    return !tags->error;
}

static int
compare_keys(gconstpointer a, gconstpointer b, gpointer data)
{
    return strcmp(a, b);
}

/* A tree and no hash table: names can be made up so that all of them have one hash. */
static GTree *
seen_new(void)
{
    return g_tree_new_full(compare_keys, NULL, g_free, NULL);
}

/* Notes that the @what of @a and @b was there; they are values, so they have no newline. */
static void
check_once(KvssTags *tags, GTree *seen, const char *what, const char *a, const char *b)
{
    g_autofree char *key = NULL;

    if (tags->error)
        return;
    key = g_strconcat(what, "\n", a, "\n", b, NULL);
    if (g_tree_lookup_extended(seen, key, NULL, NULL))
        corrupt(tags, "%s '%.64s' is there twice in '%.64s'", what, b, a);
    else
        g_tree_insert(seen, g_steal_pointer(&key), NULL);
}

/* --- writer metadata ------------------------------------------------------------------ */

static void
files_free(gpointer data)
{
    KvssDocumentFiles *files = data;

    g_free(files->path);
    g_free(files->filespec);
    g_free(files);
}

static void
group_free(gpointer data)
{
    KvssFileGroup *group = data;

    g_free(group->logical_path);
    g_free(group->name);
    g_free(group->caption);
    g_ptr_array_unref(group->files);
    g_free(group);
}

void
kvss_writer_metadata_free(KvssWriterMetadata *metadata)
{
    if (!metadata)
        return;
    g_free(metadata->class_id);
    g_free(metadata->instance_id);
    g_free(metadata->friendly_name);
    g_free(metadata->instance_name);
    g_ptr_array_unref(metadata->groups);
    g_ptr_array_unref(metadata->excludes);
    g_free(metadata);
}

static void
read_level(KvssTags *tags, KvssWriterMetadata *metadata)
{
    static const char *const words[] = { "SYSTEM", "BACK_END", "FRONT_END", NULL };
    g_autofree char *text = kvss_tags_text(tags, "applicationLevel", WORD_MAX_LENGTH);

    metadata->level = KVSS_LEVEL_FRONT_END;
    if (text)
        metadata->level = (KvssApplicationLevel) (read_word(tags, "applicationLevel", words) + 1);
}

static void
read_identification(KvssTags *tags, KvssWriterMetadata *metadata)
{
    if (!kvss_tags_expect(tags, "IDENTIFICATION"))
        return;
    metadata->class_id = read_guid(tags, "writerId");
    metadata->instance_id = read_guid(tags, "instanceId");
    metadata->instance_name = kvss_tags_text(tags, "instanceName", TEXT_MAX_LENGTH);
    metadata->friendly_name = kvss_tags_needed(tags, "friendlyName", TEXT_MAX_LENGTH);
    EXPECT_WORD(tags, "usage", "USER_DATA", "SYSTEM_SERVICE", "BOOTABLE_SYSTEM_STATE", "OTHER");
    EXPECT_WORD(tags, "dataSource", "OTHER", "TRANSACTION_DB");
    (void) read_number(tags, "majorVersion");
    (void) read_number(tags, "minorVersion");
    read_level(tags, metadata);
    kvss_tags_end(tags);
}

static void
read_restore_method(KvssTags *tags)
{
    if (!kvss_tags_expect(tags, "RESTORE_METHOD"))
        return;
    EXPECT_WORD(tags, "method", "RESTORE_IF_CAN_BE_REPLACED", "REPLACE_AT_REBOOT",
                "REPLACE_AT_REBOOT_IF_CANNOT_REPLACE");
    EXPECT_WORD(tags, "writerRestore", "always", "never");
    (void) read_yes(tags, "rebootRequired");
    kvss_tags_end(tags);
}

/* FILE_LIST, EXCLUDE_FILES: into @list. */
static void
read_files(KvssTags *tags, GPtrArray *list, GTree *seen)
{
    KvssDocumentFiles *files = g_new0(KvssDocumentFiles, 1);
    g_autofree char *recursive = kvss_tags_text(tags, "recursive", WORD_MAX_LENGTH);

    g_ptr_array_add(list, files);
    files->path = read_path(tags);
    files->filespec = read_filespec(tags);
    files->is_recursive = recursive && read_yes(tags, "recursive");
    check_once(tags, seen, files->is_recursive ? "recursive filespec" : "filespec", files->path,
               files->filespec);
}

static void
read_group(KvssTags *tags, GPtrArray *groups, GTree *names)
{
    KvssFileGroup *group = g_new0(KvssFileGroup, 1);
    g_autoptr(GTree) seen = seen_new();

    group->files = g_ptr_array_new_with_free_func(files_free);
    g_ptr_array_add(groups, group);
    group->logical_path = read_logical_path(tags);
    group->name = read_component_name(tags);
    group->caption = kvss_tags_text(tags, "caption", TEXT_MAX_LENGTH);
    group->restores_metadata = read_yes(tags, "restoreMetadata");
    group->is_notified = read_yes(tags, "notifyOnBackupComplete");
    group->is_selectable = read_yes(tags, "selectable");
    group->is_selectable_for_restore = read_yes(tags, "selectableForRestore");
    group->flags = read_number(tags, "componentFlags");
    check_once(tags, names, "component", group->logical_path, group->name);
    while (kvss_tags_child(tags)) {
        if (!kvss_tags_is(tags, "FILE_LIST"))
            corrupt(tags, "a <FILE_GROUP> holds something other than <FILE_LIST>");
        read_files(tags, group->files, seen);
        (void) read_number(tags, "filespecBackupType");
        kvss_tags_end(tags);
    }
}

static void
read_locations(KvssTags *tags, KvssWriterMetadata *metadata)
{
    g_autoptr(GTree) names = seen_new();
    g_autoptr(GTree) excluded = seen_new();

    if (!kvss_tags_expect(tags, "BACKUP_LOCATIONS"))
        return;
    while (kvss_tags_child(tags)) {
        if (kvss_tags_is(tags, "FILE_GROUP")) {
            read_group(tags, metadata->groups, names);
        } else if (kvss_tags_is(tags, "EXCLUDE_FILES")) {
            read_files(tags, metadata->excludes, excluded);
            kvss_tags_end(tags);
        } else {
            corrupt(tags, "<BACKUP_LOCATIONS> holds something other than <FILE_GROUP> and "
                          "<EXCLUDE_FILES>");
        }
    }
}

KvssWriterMetadata *
kvss_writer_metadata_read(GBytes *text, GError **error)
{
    g_autoptr(KvssWriterMetadata) metadata = g_new0(KvssWriterMetadata, 1);
    KvssTags tags;

    metadata->groups = g_ptr_array_new_with_free_func(group_free);
    metadata->excludes = g_ptr_array_new_with_free_func(files_free);
    kvss_tags_init(&tags, text, KVSS_DOCUMENT_MAX_LENGTH);
    if (read_root(&tags, "WRITER_METADATA", KVSS_WRITER_METADATA_NS, "urn:kvss:writer-metadata:")) {
        metadata->backup_schema = read_number(&tags, "backupSchema");
        read_identification(&tags, metadata);
        read_restore_method(&tags);
        read_locations(&tags, metadata);
        kvss_tags_end(&tags);
    }
    if (kvss_tags_finish(&tags, error))
        return g_steal_pointer(&metadata);
    g_prefix_error(error, "writer metadata document: ");
    return NULL;
}

/* --- backup components ------------------------------------------------------------------ */

static void
component_free(gpointer data)
{
    KvssChosenComponent *component = data;

    g_free(component->logical_path);
    g_free(component->name);
    g_free(component->failure_message);
    g_free(component->metadata);
    g_free(component);
}

static void
writer_free(gpointer data)
{
    KvssChosenWriter *writer = data;

    g_free(writer->class_id);
    g_free(writer->instance_id);
    g_free(writer->instance_name);
    g_ptr_array_unref(writer->components);
    g_free(writer);
}

void
kvss_backup_components_free(KvssBackupComponents *components)
{
    if (!components)
        return;
    g_free(components->set_id);
    g_ptr_array_unref(components->writers);
    g_free(components);
}

/* "VSS_E_WRITERERROR_TIMEOUT"; "unknown": a newer kvss may know more of them. */
static bool
is_result_name(const char *name)
{
    size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

    return strcmp(name, "unknown") == 0
           || (g_str_has_prefix(name, "VSS_E_") && length > 6 && !name[length]);
}

static void
read_failure(KvssTags *tags, KvssChosenComponent *component)
{
    g_autofree char *name = kvss_tags_needed(tags, "code", WORD_MAX_LENGTH);
    g_autofree char *value = kvss_tags_needed(tags, "hresult", WORD_MAX_LENGTH);
    guint64 number = 0;

    component->failure_message = kvss_tags_text(tags, "message", TEXT_MAX_LENGTH);
    if (name && !is_result_name(name))
        corrupt(tags, "code is '%s', no name of a result", name);
    if (value
        && (strlen(value) != 10 || !g_str_has_prefix(value, "0x") || strpbrk(value, "ABCDEF")
            || !g_ascii_string_to_unsigned(value + 2, 16, 1, G_MAXUINT32, &number, NULL)))
        corrupt(tags, "hresult is '%s', not 0x and eight digits in lower case", value);
    component->failure = (KvssHresult) number;
    kvss_tags_end(tags);
}

static void
read_component(KvssTags *tags, GPtrArray *components, GTree *names)
{
    KvssChosenComponent *component = g_new0(KvssChosenComponent, 1);
    bool more;

    g_ptr_array_add(components, component);
    component->logical_path = read_logical_path(tags);
    component->name = read_component_name(tags);
    EXPECT_WORD(tags, "componentType", "filegroup");
    component->backup_succeeded = read_yes(tags, "backupSucceeded");
    check_once(tags, names, "component", component->logical_path, component->name);
    more = kvss_tags_child(tags);
    if (more && kvss_tags_is(tags, "BACKUP_METADATA")) {
        component->metadata = read_base64(tags, "metadata");
        kvss_tags_end(tags);
        more = kvss_tags_child(tags);
    }
    if (more && kvss_tags_is(tags, "BACKUP_FAILURE")) {
        read_failure(tags, component);
        more = kvss_tags_child(tags);
    }
    if (more)
        corrupt(tags, "a <COMPONENT> holds something other than <BACKUP_METADATA> and "
                      "<BACKUP_FAILURE>, each once and in this order");
}

static void
read_writer(KvssTags *tags, GPtrArray *writers, GTree *instances)
{
    KvssChosenWriter *writer = g_new0(KvssChosenWriter, 1);
    g_autoptr(GTree) names = seen_new();

    writer->components = g_ptr_array_new_with_free_func(component_free);
    g_ptr_array_add(writers, writer);
    if (!kvss_tags_is(tags, "WRITER_COMPONENTS"))
        corrupt(tags, "<BACKUP_COMPONENTS> holds something other than <WRITER_COMPONENTS>");
    writer->instance_id = read_guid(tags, "instanceId");
    writer->class_id = read_guid(tags, "writerId");
    writer->instance_name = kvss_tags_text(tags, "instanceName", TEXT_MAX_LENGTH);
    writer->backup_schema = read_number(tags, "backupSchema");
    check_once(tags, instances, "instance", writer->class_id, writer->instance_id);
    while (kvss_tags_child(tags)) {
        if (!kvss_tags_is(tags, "COMPONENT"))
            corrupt(tags, "<WRITER_COMPONENTS> holds something other than <COMPONENT>");
        read_component(tags, writer->components, names);
    }
    if (writer->components->len == 0)
        corrupt(tags, "<WRITER_COMPONENTS> holds no <COMPONENT>");
}

static void
read_set(KvssTags *tags, KvssBackupComponents *components)
{
    static const char *const types[] = { "full", "copy", NULL };
    g_autofree char *context = kvss_tags_text(tags, "contextAttributes", WORD_MAX_LENGTH);
    g_autoptr(GTree) instances = seen_new();

    EXPECT_WORD(tags, "bootableSystemStateBackup", "no");
    EXPECT_WORD(tags, "selectComponents", "yes");
    components->backup_type
        = read_word(tags, "backupType", types) == 0 ? KVSS_BT_FULL : KVSS_BT_COPY;
    EXPECT_WORD(tags, "partialFileSupport", "no");
    components->set_id = read_guid(tags, "snapshotSetId");
    components->context = context ? read_number(tags, "contextAttributes") : KVSS_CTX_BACKUP;
    while (kvss_tags_child(tags))
        read_writer(tags, components->writers, instances);
}

KvssBackupComponents *
kvss_backup_components_read(GBytes *text, GError **error)
{
    g_autoptr(KvssBackupComponents) components = g_new0(KvssBackupComponents, 1);
    KvssTags tags;

    components->writers = g_ptr_array_new_with_free_func(writer_free);
    kvss_tags_init(&tags, text, KVSS_DOCUMENT_MAX_LENGTH);
    if (read_root(&tags, "BACKUP_COMPONENTS", KVSS_BACKUP_COMPONENTS_NS,
                  "urn:kvss:backup-components:"))
        read_set(&tags, components);
    if (kvss_tags_finish(&tags, error))
        return g_steal_pointer(&components);
    g_prefix_error(error, "backup components document: ");
    return NULL;
}
