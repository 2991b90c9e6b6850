/*
 * describe.c - one VM of a plan, a run or a stored set, for people and as JSON
 */
#include "requester/describe.h"
#include "catalogue/manifest-json.h"
#include "coordinator/coordinator.h"
#include "provider/provider.h"
#include "requester/output.h"

static const char *
or_none(const char *text)
{
    return text && *text ? text : "none";
}

static void
print_times(const KvssComponent *component)
{
    if (component->freeze_ms >= 0) {
        g_autofree char *text = kvss_ms_text(component->freeze_ms);

        kvss_print("  frozen for %s\n", text);
    }
    if (component->pause_ms >= 0) {
        g_autofree char *text = kvss_ms_text(component->pause_ms);

        kvss_print("  stood still for %s\n", text);
    }
}

/* Of a plan: what of the host it lies on, and who would cut it. */
static void
print_plan_of_disk(KvssComponent *component, KvssDisk *disk, KvssCoordinator *coordinator)
{
    g_autofree char *reason = NULL;
    const KvssProvider *provider
        = kvss_coordinator_find_provider(coordinator, component, disk, &reason);

    kvss_print("%s%s%s%s", disk->path ? ", " : "", disk->path ? disk->path : "",
               disk->volume ? ", on " : "", disk->volume ? disk->volume : "");
    if (provider)
        kvss_print(", cut by %s\n", provider->ops->name);
    else
        kvss_print(", no provider can cut it: %s\n", reason);
}

/* What the image was built on: it is stored as one, flat, and the chain is for the record only. */
static void
print_chain(const KvssDisk *disk)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *options;
    JsonArray *chain;

    if (!disk->options || !json_parser_load_from_data(parser, disk->options, -1, NULL)
        || !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser)))
        return;
    options = json_node_get_object(json_parser_get_root(parser));
    if (!json_object_has_member(options, "backing_chain")
        || !JSON_NODE_HOLDS_ARRAY(json_object_get_member(options, "backing_chain")))
        return;
    chain = json_object_get_array_member(options, "backing_chain");
    for (guint i = 0; i < json_array_get_length(chain); i++) {
        JsonNode *link = json_array_get_element(chain, i);

        if (JSON_NODE_HOLDS_VALUE(link) && json_node_get_value_type(link) == G_TYPE_STRING)
            kvss_print("    built on %s, stored within it\n", json_node_get_string(link));
    }
}

/* @coordinator: of a plan; NULL: of a result. */
static void
print_disk(const KvssComponent *component, KvssDisk *disk, KvssCoordinator *coordinator)
{
    g_autofree char *size = disk->size ? kvss_size_text(disk->size) : g_strdup("size unknown");
    g_autofree char *read = kvss_size_text(disk->bytes_read);
    g_autofree char *stored = kvss_size_text(disk->bytes_stored);

    kvss_print("  disk %s: %s, %s", disk->target, or_none(disk->format), size);
    if (coordinator)
        print_plan_of_disk((KvssComponent *) component, disk, coordinator);
    else
        kvss_print(", read %s%s%s, stored %s\n", read, disk->reason ? ": " : "",
                   disk->reason ? disk->reason : "", stored);
    if (!coordinator)
        print_chain(disk);
}

/* Afterwards only what stood in the way is of interest; of a VM that was off nothing was asked. */
static bool
is_of_interest(const KvssComponent *component, const KvssCondition *condition)
{
    return !condition->holds && g_strcmp0(component->method, "offline") != 0;
}

static void
print_all(const KvssComponent *component, KvssCoordinator *coordinator)
{
    for (guint i = 0; i < component->conditions->len; i++) {
        const KvssCondition *condition = g_ptr_array_index(component->conditions, i);

        if (!coordinator && !is_of_interest(component, condition))
            continue;
        kvss_print("  %s %s: %s\n", condition->id, condition->holds ? "holds" : "does not hold",
                   condition->detail);
    }
    for (guint i = 0; i < component->disks->len; i++)
        print_disk(component, g_ptr_array_index(component->disks, i), coordinator);
    for (guint i = 0; i < component->not_covered->len; i++) {
        const KvssNotCovered *gap = g_ptr_array_index(component->not_covered, i);

        kvss_print("  not covered: %s (%s): %s\n", gap->target, gap->kind, gap->reason);
    }
    for (guint i = 0; i < component->notes->len; i++)
        kvss_print("  note: %s\n", (const char *) g_ptr_array_index(component->notes, i));
}

static void
print_lists(const KvssComponent *component, KvssDescribe what)
{
    print_all(component, NULL);
}

static void
print_head(const KvssComponent *component)
{
    kvss_print("%s (%s): %s\n", component->display_name, component->state ? component->state : "?",
               or_none(component->method));
    for (guint i = 0; i < component->reasons->len; i++) {
        const KvssReason *reason = g_ptr_array_index(component->reasons, i);

        kvss_print("  because %s: %s\n", reason->id, reason->detail);
    }
}

void
kvss_describe_plan_print(KvssComponent *component, KvssCoordinator *coordinator)
{
    print_head(component);
    if (component->demanded_by)
        kvss_print("  demanded by: %s\n", component->demanded_by);
    kvss_print("  prior state: %s\n  consistency: %s\n",
               component->state ? component->state : "?", or_none(component->consistency));
    print_all(component, coordinator);
}

void
kvss_describe_print(const KvssComponent *component, KvssDescribe what)
{
    print_head(component);
    kvss_print("  consistency: %s\n", or_none(component->consistency));
    print_times(component);
    print_lists(component, what);
}

void
kvss_describe_print_host(const KvssManifestVm *component)
{
    const KvssComponent *what = component->component;
    g_autofree char *size = kvss_size_text(component->bytes);

    kvss_print("%s (%s): %u file%s, %s\n", what->display_name,
               component->writer_name ? component->writer_name : or_none(component->writer),
               what->files->len, what->files->len == 1 ? "" : "s", size);
    print_lists(what, KVSS_DESCRIBE_RESULT);
}

/* ---- JSON ---- */

static JsonObject *
planned_disk_json(KvssComponent *component, KvssDisk *disk, KvssCoordinator *coordinator)
{
    JsonObject *object = kvss_manifest_disk(disk);
    g_autofree char *reason = NULL;
    const KvssProvider *provider
        = kvss_coordinator_find_provider(coordinator, component, disk, &reason);

    json_object_remove_member(object, "bytes_read");
    json_object_remove_member(object, "bytes_stored");
    json_object_remove_member(object, "incremental");
    json_object_remove_member(object, "reason");
    if (disk->size == 0)
        json_object_set_null_member(object, "size");
    kvss_set_text(object, "kind", disk->kind);
    kvss_set_text(object, "path", disk->path);
    kvss_set_text(object, "volume", disk->volume);
    kvss_set_text(object, "provider", provider ? provider->ops->name : NULL);
    kvss_set_text(object, "provider_reason", reason);
    return object;
}

static JsonObject *
head_json(const KvssComponent *component)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", component->display_name);
    kvss_set_text(object, "uuid", component->name);
    kvss_set_text(object, "state", component->state);
    kvss_set_text(object, "method", component->method);
    json_object_set_array_member(object, "reasons", kvss_manifest_reasons(component));
    json_object_set_array_member(object, "conditions", kvss_manifest_conditions(component));
    return object;
}

static void
add_gaps(JsonObject *object, const KvssComponent *component)
{
    json_object_set_array_member(object, "not_covered", kvss_manifest_not_covered(component));
    json_object_set_array_member(object, "notes", kvss_manifest_notes(component));
}

JsonObject *
kvss_describe_json(const KvssComponent *component, KvssDescribe what)
{
    JsonObject *object = head_json(component);
    JsonArray *disks = json_array_new();

    kvss_set_text(object, "consistency", component->consistency);
    json_object_set_member(object, "freeze_ms", kvss_manifest_ms(component->freeze_ms));
    json_object_set_member(object, "pause_ms", kvss_manifest_ms(component->pause_ms));
    for (guint i = 0; i < component->disks->len; i++)
        json_array_add_object_element(disks,
                                      kvss_manifest_disk(g_ptr_array_index(component->disks, i)));
    json_object_set_array_member(object, "disks", disks);
    add_gaps(object, component);
    return object;
}

JsonObject *
kvss_describe_plan_json(KvssComponent *component, KvssCoordinator *coordinator)
{
    JsonObject *object = head_json(component);
    JsonArray *disks = json_array_new();

    kvss_set_text(object, "demanded_by", component->demanded_by);
    kvss_set_text(object, "consistency", component->consistency);
    for (guint i = 0; i < component->disks->len; i++)
        json_array_add_object_element(
            disks,
            planned_disk_json(component, g_ptr_array_index(component->disks, i), coordinator));
    json_object_set_array_member(object, "disks", disks);
    add_gaps(object, component);
    return object;
}

JsonObject *
kvss_describe_host_json(const KvssManifestVm *component)
{
    const KvssComponent *what = component->component;
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", what->display_name);
    kvss_set_text(object, "writer", component->writer);
    kvss_set_text(object, "writer_name", component->writer_name);
    json_object_set_int_member(object, "files", what->files->len);
    json_object_set_int_member(object, "bytes", (gint64) component->bytes);
    json_object_set_array_member(object, "not_covered", kvss_manifest_not_covered(what));
    json_object_set_array_member(object, "notes", kvss_manifest_notes(what));
    return object;
}

bool
kvss_describe_has_gap(const KvssComponent *component)
{
    for (guint i = 0; i < component->not_covered->len; i++)
        if (((KvssNotCovered *) g_ptr_array_index(component->not_covered, i))->is_writable)
            return true;
    return false;
}
