/*
 * describe.c - one VM of a plan, a run or a stored set, for people and as JSON
 */
#include "requester/describe.h"
#include "catalogue/manifest-json.h"
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

static void
print_disk(const KvssDisk *disk, KvssDescribe what)
{
    g_autofree char *size = disk->size ? kvss_size_text(disk->size) : g_strdup("size unknown");
    g_autofree char *read = kvss_size_text(disk->bytes_read);
    g_autofree char *stored = kvss_size_text(disk->bytes_stored);

    kvss_print("  disk %s: %s, %s", disk->target, or_none(disk->format), size);
    if (what == KVSS_DESCRIBE_PLAN)
        kvss_print("%s%s\n", disk->path ? ", " : "", disk->path ? disk->path : "");
    else
        kvss_print(", read %s%s%s, stored %s\n", read, disk->reason ? ": " : "",
                   disk->reason ? disk->reason : "", stored);
}

static void
print_lists(const KvssComponent *component, KvssDescribe what)
{
    for (guint i = 0; i < component->conditions->len; i++) {
        const KvssCondition *condition = g_ptr_array_index(component->conditions, i);

        /* Afterwards only what stood in the way is of interest. */
        if (condition->holds && what == KVSS_DESCRIBE_RESULT)
            continue;
        kvss_print("  %s %s: %s\n", condition->id, condition->holds ? "holds" : "does not hold",
                   condition->detail);
    }
    for (guint i = 0; i < component->disks->len; i++)
        print_disk(g_ptr_array_index(component->disks, i), what);
    for (guint i = 0; i < component->not_covered->len; i++) {
        const KvssNotCovered *gap = g_ptr_array_index(component->not_covered, i);

        kvss_print("  not covered: %s (%s): %s\n", gap->target, gap->kind, gap->reason);
    }
    for (guint i = 0; i < component->notes->len; i++)
        kvss_print("  note: %s\n", (const char *) g_ptr_array_index(component->notes, i));
}

void
kvss_describe_print(const KvssComponent *component, KvssDescribe what)
{
    kvss_print("%s (%s): %s\n", component->display_name, component->state ? component->state : "?",
               or_none(component->method));
    for (guint i = 0; i < component->reasons->len; i++) {
        const KvssReason *reason = g_ptr_array_index(component->reasons, i);

        kvss_print("  because %s: %s\n", reason->id, reason->detail);
    }
    if (what == KVSS_DESCRIBE_RESULT) {
        kvss_print("  consistency: %s\n", or_none(component->consistency));
        print_times(component);
    }
    print_lists(component, what);
}

/* ---- JSON ---- */

static JsonObject *
disk_json(const KvssDisk *disk, KvssDescribe what)
{
    JsonObject *object = kvss_manifest_disk(disk);

    if (what == KVSS_DESCRIBE_RESULT)
        return object;
    json_object_remove_member(object, "bytes_read");
    json_object_remove_member(object, "bytes_stored");
    json_object_remove_member(object, "incremental");
    json_object_remove_member(object, "reason");
    if (disk->size == 0)
        json_object_set_null_member(object, "size");
    kvss_set_text(object, "kind", disk->kind);
    kvss_set_text(object, "path", disk->path);
    return object;
}

static JsonArray *
disks_json(const KvssComponent *component, KvssDescribe what)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->disks->len; i++)
        json_array_add_object_element(list,
                                      disk_json(g_ptr_array_index(component->disks, i), what));
    return list;
}

JsonObject *
kvss_describe_json(const KvssComponent *component, KvssDescribe what)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", component->display_name);
    kvss_set_text(object, "uuid", component->name);
    kvss_set_text(object, "state", component->state);
    kvss_set_text(object, "method", component->method);
    json_object_set_array_member(object, "reasons", kvss_manifest_reasons(component));
    json_object_set_array_member(object, "conditions", kvss_manifest_conditions(component));
    if (what == KVSS_DESCRIBE_RESULT) {
        kvss_set_text(object, "consistency", component->consistency);
        json_object_set_member(object, "freeze_ms", kvss_manifest_ms(component->freeze_ms));
        json_object_set_member(object, "pause_ms", kvss_manifest_ms(component->pause_ms));
    }
    json_object_set_array_member(object, "disks", disks_json(component, what));
    json_object_set_array_member(object, "not_covered", kvss_manifest_not_covered(component));
    json_object_set_array_member(object, "notes", kvss_manifest_notes(component));
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
