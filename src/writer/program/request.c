/*
 * request.c - what a writer's program is told of the set
 */
#include "writer/program/request.h"
#include "guardian/acts-program.h"
#include "writer/program/answer.h"

#include <string.h>

static const char *const event_names[KVSS_EVENT_N] = {
    [KVSS_EVENT_IDENTIFY] = "identify",
    [KVSS_EVENT_PREPARE_FOR_BACKUP] = "prepare-for-backup",
    [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = "prepare-for-snapshot",
    [KVSS_EVENT_FREEZE] = "freeze",
    [KVSS_EVENT_THAW] = "thaw",
    [KVSS_EVENT_POST_SNAPSHOT] = "post-snapshot",
    [KVSS_EVENT_BACKUP_COMPLETE] = "backup-complete",
    [KVSS_EVENT_BACKUP_SHUTDOWN] = "backup-shutdown",
    [KVSS_EVENT_ABORT] = "abort",
    [KVSS_EVENT_PRE_RESTORE] = "pre-restore",
    [KVSS_EVENT_POST_RESTORE] = "post-restore",
};

const char *
request_event_name(KvssEvent event)
{
    g_assert((unsigned) event < KVSS_EVENT_N);
    return event_names[event];
}

static const char *
restore_status_name(KvssRestoreStatus status)
{
    static const char *const names[] = {
        [KVSS_RS_UNDEFINED] = "undefined",
        [KVSS_RS_NONE] = "none",
        [KVSS_RS_ALL] = "all",
        [KVSS_RS_FAILED] = "failed",
    };

    return (unsigned) status < G_N_ELEMENTS(names) ? names[status] : names[KVSS_RS_UNDEFINED];
}

static bool
is_restore(KvssEvent event)
{
    return event == KVSS_EVENT_PRE_RESTORE || event == KVSS_EVENT_POST_RESTORE;
}

static JsonObject *
component_names(const KvssComponent *component)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", component->name);
    json_object_set_string_member(object, "logical_path", component->logical_path);
    return object;
}

static JsonArray *
file_sets(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(component->file_sets, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "path", files->path);
        json_object_set_string_member(object, "filespec", files->filespec);
        json_object_set_boolean_member(object, "recursive", files->is_recursive);
        json_array_add_object_element(list, object);
    }
    return list;
}

/* Where each file of a restore goes, and where it was. */
static JsonArray *
restored_files(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", file->name);
        json_object_set_string_member(object, "path", file->path);
        json_object_set_string_member(object, "original", file->original);
        json_array_add_object_element(list, object);
    }
    return list;
}

static JsonObject *
describe(const KvssComponent *component, KvssEvent event)
{
    JsonObject *object = component_names(component);

    json_object_set_boolean_member(object, "explicit", component->is_explicit);
    json_object_set_string_member(object, "metadata", component->metadata);
    if (event == KVSS_EVENT_BACKUP_COMPLETE)
        json_object_set_boolean_member(object, "backup_succeeded", component->backup_succeeded);
    if (event == KVSS_EVENT_POST_RESTORE)
        json_object_set_string_member(object, "restore_status",
                                      restore_status_name(component->restore_status));
    if (is_restore(event) && component->restore_options)
        json_object_set_string_member(object, "restore_options", component->restore_options);
    json_object_set_array_member(object, "files", is_restore(event) ? restored_files(component)
                                                                    : file_sets(component));
    return object;
}

static void
add_set(JsonObject *object, const KvssWriter *writer, KvssEvent event, const KvssSnapshotSet *set)
{
    JsonArray *components = json_array_new(), *all = json_array_new();

    for (guint i = 0; i < writer->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (component->is_selected)
            json_array_add_object_element(components, describe(component, event));
    }
    for (guint i = 0; i < set->components->len; i++)
        json_array_add_string_element(
            all, ((KvssComponent *) g_ptr_array_index(set->components, i))->display_name);

    json_object_set_string_member(object, "set_id", set->id);
    if (!is_restore(event)) {
        json_object_set_string_member(object, "backup_type",
                                      set->backup_type == KVSS_BT_FULL ? "full" : "copy");
        json_object_set_boolean_member(object, "same_instant", set->same_instant);
    }
    json_object_set_array_member(object, "components", components);
    json_object_set_array_member(object, "all", all);
}

GBytes *
request_new(const KvssWriter *writer, KvssEvent event, const KvssSnapshotSet *set)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();
    char *text;

    json_object_set_int_member(object, "version", KVSS_PROGRAM_VERSION);
    json_object_set_string_member(object, "event", request_event_name(event));
    if (set)
        add_set(object, writer, event, set);
    json_node_take_object(node, object);
    text = json_to_string(node, FALSE);
    return g_bytes_new_take(text, strlen(text));
}

JsonArray *
request_components_for_undo(const KvssWriter *writer, const char *status)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < writer->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(writer->components, i);
        JsonObject *object;

        if (!component->is_selected)
            continue;
        object = component_names(component);
        if (status)
            json_object_set_string_member(object, "restore_status", status);
        json_array_add_object_element(list, object);
    }
    return list;
}
