/*
 * list-shadows.c - kvss list shadows: what sets have put on this host, in vssadmin's shape
 */
#include "catalogue/manifest-json.h"
#include "guardian/shadows.h"
#include "requester/list.h"
#include "requester/output.h"

/* What stands for a text that journals of older versions do not have. */
#define NOT_TOLD "not told"

static const char *
or_not_told(const char *text)
{
    return text && *text ? text : NOT_TOLD;
}

/* The copies of a set are cut in one step; the first one's time is the set's. */
static gint64
creation_us(const KvssShadowSet *set)
{
    gint64 first = 0;

    for (guint i = 0; i < set->shadows->len; i++) {
        const KvssShadow *shadow = g_ptr_array_index(set->shadows, i);

        if (shadow->time_us && (!first || shadow->time_us < first))
            first = shadow->time_us;
    }
    return first ? first : set->start_us;
}

static char *
time_text(gint64 time_us)
{
    g_autoptr(GDateTime) time
        = time_us ? g_date_time_new_from_unix_local(time_us / G_USEC_PER_SEC) : NULL;

    return time ? g_date_time_format(time, "%Y-%m-%d %H:%M:%S") : g_strdup(NOT_TOLD);
}

static void
print_shadow(const KvssShadow *shadow)
{
    g_autofree char *attributes = kvss_attributes_text(shadow->attributes);
    const char *host = g_get_host_name();

    kvss_print("      Shadow Copy ID: {%s}\n         Original Volume: (%s: %s)%s\n"
               "         Shadow Copy Volume: %s\n         Originating Machine: %s\n"
               "         Service Machine: %s\n         Provider: '%s'\n"
               "         Type: Backup\n         Attributes: %s\n\n",
               or_not_told(shadow->id), or_not_told(shadow->vm), or_not_told(shadow->target),
               shadow->original ? shadow->original : "", shadow->device, host, host,
               shadow->provider, attributes);
}

static void
print_set(const KvssShadowSet *set)
{
    g_autofree char *time = time_text(creation_us(set));

    kvss_print("Contents of shadow copy set ID: {%s}\n"
               "   Contained %u shadow copies at creation time: %s\n",
               or_not_told(set->id), set->shadows->len, time);
    if (!set->is_alive)
        kvss_print("   Left by an interrupted %s (process %" G_GINT64_FORMAT " is gone): 'kvss "
                   "doctor' removes them\n",
                   or_not_told(set->purpose), set->pid);
    for (guint i = 0; i < set->shadows->len; i++)
        print_shadow(g_ptr_array_index(set->shadows, i));
}

/* ---- JSON ---- */

static void
set_time(JsonObject *object, const char *name, gint64 time_us)
{
    g_autofree char *text = time_us ? kvss_manifest_time(time_us) : NULL;

    kvss_set_text(object, name, text);
}

static JsonObject *
shadow_json(const KvssShadow *shadow)
{
    g_autofree char *attributes = kvss_attributes_text(shadow->attributes);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "id", shadow->id);
    kvss_set_text(object, "vm", shadow->vm);
    kvss_set_text(object, "uuid", shadow->vm_uuid);
    kvss_set_text(object, "target", shadow->target);
    kvss_set_text(object, "original", shadow->original);
    kvss_set_text(object, "device", shadow->device);
    kvss_set_text(object, "provider", shadow->provider);
    set_time(object, "time", shadow->time_us);
    json_object_set_int_member(object, "attributes", shadow->attributes);
    kvss_set_text(object, "attributes_text", attributes);
    return object;
}

static JsonObject *
set_json(const KvssShadowSet *set)
{
    JsonObject *object = json_object_new();
    JsonArray *shadows = json_array_new();

    kvss_set_text(object, "set_id", set->id);
    kvss_set_text(object, "purpose", set->purpose);
    kvss_set_text(object, "uri", set->uri);
    json_object_set_int_member(object, "pid", set->pid);
    json_object_set_boolean_member(object, "alive", set->is_alive);
    set_time(object, "started", set->start_us);
    set_time(object, "time", creation_us(set));
    for (guint i = 0; i < set->shadows->len; i++)
        json_array_add_object_element(shadows, shadow_json(g_ptr_array_index(set->shadows, i)));
    json_object_set_array_member(object, "shadows", shadows);
    return object;
}

/* ---- all ---- */

void
kvss_list_print_shadows(const GPtrArray *sets, bool json)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < sets->len; i++) {
        if (json)
            json_array_add_object_element(array, set_json(g_ptr_array_index(sets, i)));
        else
            print_set(g_ptr_array_index(sets, i));
    }
    if (json)
        kvss_print_json(json_node_init_array(json_node_alloc(), array));
    else if (sets->len == 0)
        kvss_print("No items found that satisfy the query.\n");
    json_array_unref(array);
}

int
kvss_list_shadows(KvssRequester *requester, GError **error)
{
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GPtrArray) sets = NULL;

    /* Journals lie where runs are: those of another machine cannot be seen from here. */
    if (!kvss_requester_check_local(requester, error))
        return -1;
    sets = kvss_shadows_list(requester->config->state_dir, &problems, error);
    if (!sets)
        return -1;
    kvss_list_print_shadows(sets, requester->options->json);
    for (guint i = 0; i < problems->len; i++)
        kvss_say("not looked into: %s", (const char *) g_ptr_array_index(problems, i));
    return problems->len ? KVSS_EXIT_REMARK : KVSS_EXIT_DONE;
}
