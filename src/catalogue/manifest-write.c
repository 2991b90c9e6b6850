/*
 * manifest-write.c - set.json from what the writers and the engine filled in
 */
#include "catalogue/manifest-json.h"

#include <math.h>
#include <string.h>

char *
kvss_manifest_time(gint64 time_us)
{
    g_autoptr(GDateTime) seconds = g_date_time_new_from_unix_utc(time_us / G_USEC_PER_SEC);
    g_autofree char *text = seconds ? g_date_time_format(seconds, "%Y-%m-%dT%H:%M:%S") : NULL;

    return g_strdup_printf("%s.%06dZ", text ? text : "1970-01-01T00:00:00",
                           (int) (time_us % G_USEC_PER_SEC));
}

/*
 * Rounded to eighths: those have an exact decimal form, where any other fraction
 * would be written with seventeen digits.
 */
JsonNode *
kvss_manifest_ms(double ms)
{
    JsonNode *node = json_node_alloc();

    if (ms < 0)
        return json_node_init_null(node);
    return json_node_init_double(node, round(ms * 8) / 8);
}

static void
set_string(JsonObject *object, const char *name, const char *value)
{
    if (value)
        json_object_set_string_member(object, name, value);
    else
        json_object_set_null_member(object, name);
}

/* Both are lists of an id and a text; the table of conditions has a verdict as well. */
JsonArray *
kvss_manifest_reasons(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->reasons->len; i++) {
        const KvssReason *reason = g_ptr_array_index(component->reasons, i);
        JsonObject *object = json_object_new();

        set_string(object, "id", reason->id);
        set_string(object, "detail", reason->detail);
        json_array_add_object_element(list, object);
    }
    return list;
}

JsonArray *
kvss_manifest_conditions(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->conditions->len; i++) {
        const KvssCondition *condition = g_ptr_array_index(component->conditions, i);
        JsonObject *object = json_object_new();

        set_string(object, "id", condition->id);
        json_object_set_boolean_member(object, "holds", condition->holds);
        set_string(object, "detail", condition->detail);
        json_array_add_object_element(list, object);
    }
    return list;
}

JsonArray *
kvss_manifest_not_covered(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->not_covered->len; i++) {
        const KvssNotCovered *gap = g_ptr_array_index(component->not_covered, i);
        JsonObject *object = json_object_new();

        set_string(object, "target", gap->target);
        set_string(object, "kind", gap->kind);
        set_string(object, "reason", gap->reason);
        json_object_set_boolean_member(object, "writable", gap->is_writable);
        json_array_add_object_element(list, object);
    }
    return list;
}

JsonArray *
kvss_manifest_notes(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->notes->len; i++)
        json_array_add_string_element(list, g_ptr_array_index(component->notes, i));
    return list;
}

JsonObject *
kvss_manifest_disk(const KvssDisk *disk)
{
    JsonObject *object = json_object_new();

    set_string(object, "target", disk->target);
    set_string(object, "format", disk->format);
    json_object_set_int_member(object, "size", (gint64) disk->size);
    json_object_set_int_member(object, "bytes_read", (gint64) disk->bytes_read);
    json_object_set_int_member(object, "bytes_stored", (gint64) disk->bytes_stored);
    json_object_set_boolean_member(object, "incremental", disk->incremental);
    set_string(object, "reason", disk->reason);
    return object;
}

/* The options are JSON themselves; a text that is not stays a text. */
static JsonNode *
options_node(const char *options)
{
    JsonNode *node = options ? json_from_string(options, NULL) : NULL;

    if (node)
        return node;
    node = json_node_alloc();
    return options ? json_node_init_string(node, options) : json_node_init_null(node);
}

static JsonArray *
disks_array(const KvssManifestVm *vm)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < vm->component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(vm->component->disks, i);
        JsonObject *object = kvss_manifest_disk(disk);

        set_string(object, "kind", disk->kind);
        set_string(object, "path", disk->path);
        json_object_set_member(object, "options", options_node(disk->options));
        json_object_set_int_member(object, "chunk_size", disk->chunk_size);
        set_string(object, "image", disk->image);
        set_string(object, "tracked_by", disk->tracked_by);
        set_string(object, "file", kvss_manifest_disk_path(vm, disk->target));
        json_array_add_object_element(list, object);
    }
    return list;
}

/* -1 is an owner that nobody told. */
static void
set_owner(JsonObject *object, const char *name, gint64 id)
{
    if (id >= 0)
        json_object_set_int_member(object, name, id);
    else
        json_object_set_null_member(object, name);
}

static JsonArray *
files_array(const KvssManifestVm *vm)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < vm->component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(vm->component->files, i);
        g_autofree char *mode = g_strdup_printf("%04o", file->mode & 07777);
        JsonObject *object = json_object_new();

        set_string(object, "name", file->name);
        set_string(object, "original", file->original);
        set_string(object, "mode", mode);
        set_owner(object, "uid", file->uid);
        set_owner(object, "gid", file->gid);
        set_string(object, "file", kvss_manifest_file_path(vm, file->name));
        json_array_add_object_element(list, object);
    }
    return list;
}

static void
set_time(JsonObject *object, const char *name, const KvssManifest *manifest, gint64 time_us)
{
    g_autofree char *text
        = time_us >= 0 ? kvss_manifest_time(time_us + manifest->clock_offset_us) : NULL;

    set_string(object, name, text);
}

/* What a VM and a component of another writer have in common. */
static void
set_component(JsonObject *object, const KvssManifest *manifest, const KvssManifestVm *vm)
{
    const KvssComponent *component = vm->component;

    set_string(object, "dir", vm->dir);
    set_string(object, "writer", vm->writer);
    set_string(object, "caption", component->caption);
    set_string(object, "state", component->state);
    set_string(object, "method", component->method);
    set_string(object, "consistency", component->consistency);
    json_object_set_array_member(object, "reasons", kvss_manifest_reasons(component));
    json_object_set_array_member(object, "conditions", kvss_manifest_conditions(component));
    set_time(object, "instant", manifest, component->instant_us);
    set_time(object, "frozen", manifest, component->frozen_us);
    set_time(object, "thawed", manifest, component->thawed_us);
    json_object_set_member(object, "freeze_ms", kvss_manifest_ms(component->freeze_ms));
    json_object_set_member(object, "pause_ms", kvss_manifest_ms(component->pause_ms));
    json_object_set_array_member(object, "disks", disks_array(vm));
    json_object_set_array_member(object, "files", files_array(vm));
    json_object_set_array_member(object, "not_covered", kvss_manifest_not_covered(component));
    json_object_set_array_member(object, "notes", kvss_manifest_notes(component));
    set_string(object, "metadata", component->metadata);
}

static JsonObject *
vm_object(const KvssManifest *manifest, const KvssManifestVm *vm)
{
    JsonObject *object = json_object_new();

    set_string(object, "name", vm->component->display_name);
    set_string(object, "uuid", vm->component->name);
    set_component(object, manifest, vm);
    return object;
}

static JsonObject *
host_object(const KvssManifest *manifest, const KvssManifestVm *vm)
{
    JsonObject *object = json_object_new();

    set_string(object, "name", vm->component->name);
    set_string(object, "logical_path", vm->component->logical_path);
    set_string(object, "display_name", vm->component->display_name);
    set_string(object, "writer_name", vm->writer_name);
    json_object_set_int_member(object, "bytes", (gint64) vm->bytes);
    set_component(object, manifest, vm);
    return object;
}

static JsonArray *
events_array(const KvssManifest *manifest)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < manifest->events->len; i++) {
        const KvssManifestEvent *event = g_ptr_array_index(manifest->events, i);
        g_autofree char *start = kvss_manifest_time(event->start_us);
        g_autofree char *end = kvss_manifest_time(event->end_us);
        g_autofree char *result = g_strdup_printf("0x%08X", event->result);
        JsonObject *object = json_object_new();

        set_string(object, "event", event->event);
        set_string(object, "who", event->who);
        set_string(object, "start", start);
        set_string(object, "end", end);
        set_string(object, "result", result);
        json_array_add_object_element(list, object);
    }
    return list;
}

static JsonArray *
list_array(const KvssManifest *manifest, const GPtrArray *vms,
           JsonObject *(*object_of)(const KvssManifest *, const KvssManifestVm *))
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < vms->len; i++)
        json_array_add_object_element(list, object_of(manifest, g_ptr_array_index(vms, i)));
    return list;
}

GBytes *
kvss_manifest_to_json(const KvssManifest *manifest)
{
    g_autoptr(JsonNode) root = json_node_init_object(json_node_alloc(), NULL);
    JsonObject *object = json_object_new();
    g_autofree char *time = kvss_manifest_time(manifest->time_us);
    char *text;

    json_object_set_int_member(object, "schema", KVSS_MANIFEST_SCHEMA);
    set_string(object, "set_id", manifest->set_id);
    set_string(object, "program", manifest->program);
    set_string(object, "tools", manifest->tools);
    set_string(object, "time", time);
    set_string(object, "host", manifest->host);
    set_string(object, "uri", manifest->uri);
    set_string(object, "backup_type", manifest->backup_type == KVSS_BT_FULL ? "full" : "copy");
    json_object_set_boolean_member(object, "same_instant", manifest->same_instant);
    json_object_set_member(object, "skew_ms", kvss_manifest_ms(manifest->skew_ms));
    json_object_set_int_member(object, "size", (gint64) manifest->size);
    json_object_set_int_member(object, "bytes_read", (gint64) manifest->bytes_read);
    json_object_set_int_member(object, "bytes_stored", (gint64) manifest->bytes_stored);
    json_object_set_array_member(object, "vms", list_array(manifest, manifest->vms, vm_object));
    json_object_set_array_member(object, "components",
                                 list_array(manifest, manifest->components, host_object));
    json_object_set_array_member(object, "events", events_array(manifest));
    json_node_take_object(root, object);
    text = json_to_string(root, TRUE);
    return g_bytes_new_take(text, strlen(text));
}
