/*
 * list-writers.c - kvss list writers, in the shape of vssadmin and diskshadow
 *
 * How a writer wants to be restored and what it leaves out is read from its own
 * metadata document: what is printed is what would be stored.
 */
#include "host/connection.h"
#include "host/volume.h"
#include "requester/list.h"
#include "requester/output.h"
#include "requester/text-set.h"
#include "vss/documents.h"
#include "writer/writer.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

/* ---- what there is to say of a writer ---- */

typedef struct {
    KvssWriter *writer;
    KvssWriterState state;
    KvssHresult failure;
    char *code;    /* "(NAME, 0x...)" */
    char *reason;  /* (nullable) what it said when it failed */
} Status;

static Status
status_of(KvssWriter *writer)
{
    Status status = { .writer = writer };

    status.state = kvss_writer_status(writer, &status.failure);
    status.code = kvss_hresult_in_brackets(status.failure);
    status.reason = kvss_writer_failure_message(writer);
    return status;
}

static void
status_clear(Status *status)
{
    g_free(status->code);
    g_free(status->reason);
}

/* NULL when there is none that could be stored; why is said. */
static char *
metadata_of(const KvssWriter *writer)
{
    KvssWriterIdentity identity = {
        .class_id = writer->ops->class_id,
        .friendly_name = writer->ops->friendly_name,
        .instance_id = writer->instance_id,
        .instance_name = writer->instance_name,
        .level = writer->level,
        .components = writer->components,
    };
    g_autoptr(GError) error = NULL;
    char *document;

    document = kvss_writer_metadata_document(&identity, &error);
    if (!document)
        kvss_say("writer %s has no metadata document: %s", writer->ops->friendly_name,
                 error->message);
    return document;
}

static bool
supports_restore(const KvssWriter *writer)
{
    return writer->ops->pre_restore || writer->ops->post_restore;
}

/* Of the events that a writer may leave alone, those that this one acts on. */
static GPtrArray *
events_of(const KvssWriter *writer)
{
    const KvssWriterOps *ops = writer->ops;
    const struct {
        KvssEvent event;
        bool is_there;
    } events[] = {
        { KVSS_EVENT_IDENTIFY, ops->identify },
        { KVSS_EVENT_PREPARE_FOR_BACKUP, ops->prepare_for_backup },
        { KVSS_EVENT_PREPARE_FOR_SNAPSHOT, ops->prepare_for_snapshot },
        { KVSS_EVENT_FREEZE, ops->freeze },
        { KVSS_EVENT_THAW, ops->thaw },
        { KVSS_EVENT_POST_SNAPSHOT, ops->post_snapshot },
        { KVSS_EVENT_BACKUP_COMPLETE, ops->backup_complete },
        { KVSS_EVENT_BACKUP_SHUTDOWN, ops->backup_shutdown },
        { KVSS_EVENT_ABORT, ops->abort },
        { KVSS_EVENT_PRE_RESTORE, ops->pre_restore },
        { KVSS_EVENT_POST_RESTORE, ops->post_restore },
    };
    GPtrArray *names = g_ptr_array_new();

    for (gsize i = 0; i < G_N_ELEMENTS(events); i++)
        if (events[i].is_there)
            g_ptr_array_add(names, (gpointer) kvss_event_name(events[i].event));
    g_ptr_array_add(names, NULL);
    return names;
}

/* ---- the metadata document, read again ---- */

static char *
attribute(xmlNode *node, const char *name)
{
    xmlChar *value = xmlGetNoNsProp(node, BAD_CAST name);
    char *copy = g_strdup(value ? (const char *) value : "");

    xmlFree(value);
    return copy;
}

/* The first element of this name below @node, at any depth. */
static xmlNode *
find(xmlNode *node, const char *name)
{
    for (xmlNode *child = node ? node->children : NULL; child; child = child->next) {
        xmlNode *deeper;

        if (child->type == XML_ELEMENT_NODE && strcmp((const char *) child->name, name) == 0)
            return child;
        deeper = find(child, name);
        if (deeper)
            return deeper;
    }
    return NULL;
}

typedef struct {
    char *method;      /* "RESTORE_IF_CAN_BE_REPLACED" */
    char *conditions;  /* "VSS_WRE_ALWAYS" */
    bool needs_reboot;
    GPtrArray *excluded; /* char*: paths */
} RestoreWishes;

static void
add_excluded(GPtrArray *list, xmlNode *node)
{
    for (xmlNode *n = node; n; n = xmlNextElementSibling(n)) {
        g_autofree char *path = NULL, *filespec = NULL, *recursive = NULL;

        if (strcmp((const char *) n->name, "EXCLUDE_FILES") != 0)
            continue;
        path = attribute(n, "path");
        filespec = attribute(n, "filespec");
        recursive = attribute(n, "recursive");
        g_ptr_array_add(list, g_strdup_printf("%s/%s%s", path, filespec,
                                              strcmp(recursive, "yes") == 0 ? " (recursive)"
                                                                            : ""));
    }
}

static void
wishes_read(RestoreWishes *wishes, const char *document)
{
    xmlDoc *xml = document ? xmlReadMemory(document, (int) strlen(document), NULL, NULL,
                                           XML_PARSE_NONET)
                           : NULL;
    xmlNode *root = xml ? xmlDocGetRootElement(xml) : NULL;
    xmlNode *method = find(root, "RESTORE_METHOD");
    g_autofree char *writer = method ? attribute(method, "writerRestore") : g_strdup("");
    g_autofree char *reboot = method ? attribute(method, "rebootRequired") : g_strdup("");
    g_autofree char *word = g_ascii_strup(*writer ? writer : "undefined", -1);

    wishes->method = method ? attribute(method, "method") : g_strdup("UNDEFINED");
    g_strdelimit(word, "-", '_');
    wishes->conditions = g_strconcat("VSS_WRE_", word, NULL);
    wishes->needs_reboot = strcmp(reboot, "yes") == 0;
    wishes->excluded = g_ptr_array_new_with_free_func(g_free);
    add_excluded(wishes->excluded, find(root, "EXCLUDE_FILES"));
    xmlFreeDoc(xml);
}

static void
wishes_clear(RestoreWishes *wishes)
{
    g_free(wishes->method);
    g_free(wishes->conditions);
    g_ptr_array_unref(wishes->excluded);
}

/* ---- components ---- */

static char *
full_path(const KvssComponent *component)
{
    bool is_deep = component->logical_path && *component->logical_path;

    return g_strdup_printf("%s%s\\%s", is_deep ? "\\" : "", is_deep ? component->logical_path : "",
                           component->name);
}

static GPtrArray *
paths_of(const KvssComponent *component)
{
    KvssTextSet paths;

    kvss_text_set_init(&paths);
    for (guint i = 0; i < component->disks->len; i++)
        kvss_text_set_add(&paths, ((KvssDisk *) g_ptr_array_index(component->disks, i))->path);
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);

        kvss_text_set_add(&paths, file->original ? file->original : file->path);
    }
    for (guint i = 0; i < component->file_sets->len; i++) {
        const KvssFileSet *set = g_ptr_array_index(component->file_sets, i);
        g_autofree char *path = g_strdup_printf("%s/%s%s", set->path, set->filespec,
                                                set->is_recursive ? " (recursive)" : "");

        kvss_text_set_add(&paths, path);
    }
    return kvss_text_set_end(&paths);
}

static GPtrArray *
volumes_of(const KvssComponent *component)
{
    KvssTextSet volumes;

    kvss_text_set_init(&volumes);
    for (guint i = 0; i < component->disks->len; i++)
        kvss_text_set_add(&volumes, ((KvssDisk *) g_ptr_array_index(component->disks, i))->volume);
    for (guint i = 0; i < component->file_sets->len; i++) {
        const KvssFileSet *set = g_ptr_array_index(component->file_sets, i);
        g_autofree char *volume = kvss_volume_of(set->path);

        kvss_text_set_add(&volumes, volume);
    }
    return kvss_text_set_end(&volumes);
}

static const char *
yes_no(bool yes)
{
    return yes ? "TRUE" : "FALSE";
}

static void
print_list(const char *heading, const GPtrArray *lines)
{
    kvss_print("        - %s:\n", heading);
    for (guint i = 0; i < lines->len; i++)
        kvss_print("            - %s\n", (const char *) g_ptr_array_index(lines, i));
}

static void
print_component(const KvssWriter *writer, const KvssComponent *component)
{
    g_autofree char *path = full_path(component);
    g_autoptr(GPtrArray) paths = paths_of(component);
    g_autoptr(GPtrArray) volumes = volumes_of(component);

    kvss_print("    + Component \"%s:%s\"\n        - Name: %s\n        - Logical path: %s\n"
               "        - Full path: %s\n        - Caption: %s\n        - Type: VSS_CT_FILEGROUP [2]\n"
               "        - Is selectable: %s\n        - Is top level: %s\n"
               "        - Notify on backup complete: %s\n",
               writer->ops->friendly_name, path, component->name,
               component->logical_path ? component->logical_path : "", path,
               component->caption ? component->caption : component->display_name,
               yes_no(component->is_selectable),
               yes_no(!component->logical_path || !*component->logical_path),
               yes_no(component->is_notified));
    kvss_print("        - Disks:\n");
    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        kvss_print("            - %s: %s, %s\n", disk->target, disk->format ? disk->format : "?",
                   disk->path ? disk->path : "no path on this host");
    }
    print_list("Paths affected by this component", paths);
    print_list("Volumes affected by this component", volumes);
}

static JsonArray *
texts(const GPtrArray *list)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < list->len; i++)
        json_array_add_string_element(array, g_ptr_array_index(list, i));
    return array;
}

static JsonArray *
disks_json(const KvssComponent *component)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);
        JsonObject *object = json_object_new();

        kvss_set_text(object, "target", disk->target);
        kvss_set_text(object, "format", disk->format);
        kvss_set_text(object, "path", disk->path);
        kvss_set_text(object, "volume", disk->volume);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonObject *
component_json(const KvssComponent *component)
{
    g_autofree char *path = full_path(component);
    g_autoptr(GPtrArray) paths = paths_of(component);
    g_autoptr(GPtrArray) volumes = volumes_of(component);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", component->name);
    kvss_set_text(object, "logical_path", component->logical_path ? component->logical_path : "");
    kvss_set_text(object, "full_path", path);
    kvss_set_text(object, "caption", component->caption);
    kvss_set_text(object, "display_name", component->display_name);
    json_object_set_boolean_member(object, "selectable", component->is_selectable);
    json_object_set_boolean_member(object, "selectable_for_restore",
                                   component->is_selectable_for_restore);
    json_object_set_boolean_member(object, "notify_on_backup_complete", component->is_notified);
    json_object_set_array_member(object, "disks", disks_json(component));
    json_object_set_array_member(object, "files", texts(paths));
    json_object_set_array_member(object, "volumes", texts(volumes));
    return object;
}

/* ---- one writer ---- */

static void
print_plain(const Status *status)
{
    const KvssWriter *writer = status->writer;

    kvss_print("Writer name: '%s'\n   Writer Id: {%s}\n   Writer Instance Id: {%s}\n"
               "   Writer Instance Name: %s\n   State: [%d] %s\n   Last error: %s",
               writer->ops->friendly_name, writer->ops->class_id, writer->instance_id,
               writer->instance_name, status->state, kvss_writer_state_text(status->state),
               kvss_hresult_text(status->failure));
    if (status->failure != KVSS_S_OK)
        kvss_print(" %s", status->code);
    kvss_print("\n");
    if (status->reason)
        kvss_print("   Reason: %s\n", status->reason);
    kvss_print("\n");
}

static void
print_status(const Status *status)
{
    const KvssWriter *writer = status->writer;

    kvss_print("* WRITER \"%s\"\n    - Status: %d (%s)\n    - Writer Failure code: 0x%08X (%s)\n"
               "    - Writer ID: {%s}\n    - Instance ID: {%s}\n",
               writer->ops->friendly_name, status->state, kvss_writer_state_name(status->state),
               status->failure, kvss_hresult_name(status->failure), writer->ops->class_id,
               writer->instance_id);
    if (status->reason)
        kvss_print("    - Reason: %s\n", status->reason);
    kvss_print("\n");
}

static void
print_detailed(const Status *status)
{
    const KvssWriter *writer = status->writer;
    g_autofree char *document = metadata_of(writer);
    g_autoptr(GPtrArray) events = events_of(writer);
    g_autofree char *event_list = g_strjoinv(", ", (char **) events->pdata);
    RestoreWishes wishes;

    wishes_read(&wishes, document);
    kvss_print("* WRITER \"%s\"\n    - Writer ID = {%s}\n    - Writer instance ID = {%s}\n"
               "    - Writer instance name = %s\n    - Status = %d (%s)\n"
               "    - Writer failure code = 0x%08X (%s)\n",
               writer->ops->friendly_name, writer->ops->class_id, writer->instance_id,
               writer->instance_name, status->state, kvss_writer_state_name(status->state),
               status->failure, kvss_hresult_name(status->failure));
    if (status->reason)
        kvss_print("    - Reason = %s\n", status->reason);
    kvss_print("    - Supports restore events = %s\n    - Events = %s\n"
               "    - Writer restore conditions = %s\n    - Restore method = VSS_RME_%s\n"
               "    - Requires reboot after restore = %s\n    - Excluded files:\n",
               yes_no(supports_restore(writer)), event_list, wishes.conditions, wishes.method,
               yes_no(wishes.needs_reboot));
    for (guint i = 0; i < wishes.excluded->len; i++)
        kvss_print("        - %s\n", (const char *) g_ptr_array_index(wishes.excluded, i));
    for (guint i = 0; i < writer->components->len; i++)
        print_component(writer, g_ptr_array_index(writer->components, i));
    kvss_print("\n");
    wishes_clear(&wishes);
}

static void
print_metadata(const KvssWriter *writer)
{
    g_autofree char *document = metadata_of(writer);

    if (document)
        kvss_print("%s", document);
}

static void
print_writer(const Status *status, KvssListWriters how)
{
    switch (how) {
    case KVSS_LIST_PLAIN:
        print_plain(status);
        break;
    case KVSS_LIST_STATUS:
        print_status(status);
        break;
    case KVSS_LIST_DETAILED:
        print_detailed(status);
        break;
    case KVSS_LIST_METADATA:
        print_metadata(status->writer);
        break;
    }
}

/* ---- one writer as JSON ---- */

static void
add_details(JsonObject *object, const KvssWriter *writer)
{
    g_autofree char *document = metadata_of(writer);
    g_autoptr(GPtrArray) events = events_of(writer);
    JsonArray *components = json_array_new();
    RestoreWishes wishes;

    wishes_read(&wishes, document);
    json_object_set_boolean_member(object, "supports_restore_events", supports_restore(writer));
    json_object_set_array_member(object, "events", kvss_texts((const char *const *) events->pdata));
    kvss_set_text(object, "restore_conditions", wishes.conditions);
    kvss_set_text(object, "restore_method", wishes.method);
    json_object_set_boolean_member(object, "reboot_required", wishes.needs_reboot);
    json_object_set_array_member(object, "excluded_files", texts(wishes.excluded));
    for (guint i = 0; i < writer->components->len; i++)
        json_array_add_object_element(components,
                                      component_json(g_ptr_array_index(writer->components, i)));
    json_object_set_array_member(object, "components", components);
    wishes_clear(&wishes);
}

static JsonObject *
writer_json(const Status *status, KvssListWriters how)
{
    const KvssWriter *writer = status->writer;
    g_autofree char *code = g_strdup_printf("0x%08X", status->failure);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", writer->ops->friendly_name);
    kvss_set_text(object, "id", writer->ops->class_id);
    kvss_set_text(object, "instance_id", writer->instance_id);
    kvss_set_text(object, "instance_name", writer->instance_name);
    json_object_set_int_member(object, "state", status->state);
    kvss_set_text(object, "state_name", kvss_writer_state_name(status->state));
    kvss_set_text(object, "state_text", kvss_writer_state_text(status->state));
    kvss_set_text(object, "last_error", code);
    kvss_set_text(object, "last_error_name", kvss_hresult_name(status->failure));
    kvss_set_text(object, "last_error_text", kvss_hresult_text(status->failure));
    kvss_set_text(object, "reason", status->reason);
    if (how == KVSS_LIST_DETAILED)
        add_details(object, writer);
    if (how == KVSS_LIST_METADATA) {
        g_autofree char *document = metadata_of(writer);

        kvss_set_text(object, "metadata", document);
    }
    return object;
}

/* ---- all writers ---- */

static void
print_writers_json(const GPtrArray *writers, KvssListWriters how)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < writers->len; i++) {
        Status status = status_of(g_ptr_array_index(writers, i));

        json_array_add_object_element(array, writer_json(&status, how));
        status_clear(&status);
    }
    kvss_print_json(json_node_init_array(json_node_alloc(), array));
    json_array_unref(array);
}

void
kvss_list_print_writers(const GPtrArray *writers, KvssListWriters how, bool json)
{
    if (json) {
        print_writers_json(writers, how);
        return;
    }
    for (guint i = 0; i < writers->len; i++) {
        Status status = status_of(g_ptr_array_index(writers, i));

        print_writer(&status, how);
        status_clear(&status);
    }
    if (how == KVSS_LIST_STATUS || how == KVSS_LIST_DETAILED)
        kvss_print("%u writers listed.\n", writers->len);
    else if (writers->len == 0)
        kvss_print("No items found that satisfy the query.\n");
}

static bool
choose_shape(const KvssOptions *options, KvssListWriters *out_how, GError **error)
{
    if (options->status + options->metadata + options->detailed > 1)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "give one of --status, --metadata and --detailed");
    *out_how = options->status     ? KVSS_LIST_STATUS
               : options->metadata ? KVSS_LIST_METADATA
               : options->detailed ? KVSS_LIST_DETAILED
                                   : KVSS_LIST_PLAIN;
    return true;
}

static bool
have_all_failed(const GPtrArray *writers)
{
    for (guint i = 0; i < writers->len; i++)
        if (kvss_writer_status(g_ptr_array_index(writers, i), NULL) != KVSS_WS_FAILED_AT_IDENTIFY)
            return false;
    return true;
}

/* Where every writer fails there is no set; who they are and why is what was asked here. */
static bool
gather(KvssRequester *requester, KvssCoordinator *coordinator, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (kvss_coordinator_gather(coordinator, &local))
        return true;
    if (!g_cancellable_is_cancelled(requester->cancellable) &&
        have_all_failed(kvss_coordinator_writers(coordinator)))
        return true;
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

int
kvss_list_writers(KvssRequester *requester, GError **error)
{
    /* What a writer is does not depend on the VMs; what it declares does. */
    static const char *const none[] = { NULL };
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = NULL;
    KvssListWriters how = KVSS_LIST_PLAIN;

    if (!choose_shape(requester->options, &how, error))
        return -1;
    host = kvss_requester_open_host(requester, error);
    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(
        requester, host, how == KVSS_LIST_PLAIN || how == KVSS_LIST_STATUS ? none : NULL, error);
    if (!coordinator || !kvss_requester_take_host_writers(requester, coordinator, NULL, error) ||
        !gather(requester, coordinator, error))
        return -1;
    kvss_list_print_writers(kvss_coordinator_writers(coordinator), how, requester->options->json);
    return KVSS_EXIT_DONE;
}
