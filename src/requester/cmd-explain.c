/*
 * cmd-explain.c - kvss explain: which method each VM would get, and why
 */
#include "backup/backup.h"
#include "host/connection.h"
#include "requester/describe.h"
#include "requester/output.h"
#include "requester/requester.h"
#include "writer/writer.h"

/* The components named, or all; NOT_FOUND names each that is not there. */
static GPtrArray *
chosen(KvssCoordinator *coordinator, const char *const *names, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    if (!kvss_backup_check_names(coordinator, names, error))
        return NULL;
    for (guint w = 0; w < writers->len; w++) {
        const KvssWriter *writer = g_ptr_array_index(writers, w);

        for (guint i = 0; i < writer->components->len; i++) {
            KvssComponent *component = g_ptr_array_index(writer->components, i);

            if (!*names || kvss_backup_is_named(component, names))
                g_ptr_array_add(list, component);
        }
    }
    return g_steal_pointer(&list);
}

static void
print_plan(const GPtrArray *components, KvssCoordinator *coordinator)
{
    for (guint i = 0; i < components->len; i++)
        kvss_describe_plan_print(g_ptr_array_index(components, i), coordinator);
    if (components->len == 0)
        kvss_print("No items found that satisfy the query.\n");
}

static void
print_plan_json(const GPtrArray *components, KvssCoordinator *coordinator)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < components->len; i++)
        json_array_add_object_element(
            array, kvss_describe_plan_json(g_ptr_array_index(components, i), coordinator));
    kvss_print_json(json_node_init_array(json_node_alloc(), array));
    json_array_unref(array);
}

static char **
joined(const char *const *names, char **others)
{
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();

    g_strv_builder_addv(all, (const char **) names);
    g_strv_builder_addv(all, (const char **) others);
    return g_strv_builder_end(all);
}

int
kvss_cmd_explain(KvssRequester *requester, GError **error)
{
    const char *const *names = kvss_options_list(requester->options->words);
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = NULL;
    g_autoptr(GPtrArray) components = NULL;
    g_auto(GStrv) mentioned = kvss_requester_method_vms(requester);
    g_auto(GStrv) looked_at = *names ? joined(names, mentioned) : NULL;

    if (!kvss_requester_check_options(requester, error) ||
        !kvss_requester_recover(requester, false, error))
        return -1;
    host = kvss_requester_open_host(requester, error);
    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(requester, host, (const char *const *) looked_at,
                                                 error);
    if (!coordinator || !kvss_coordinator_gather(coordinator, error))
        return -1;
    /* A demand of a VM that is not there is a mistake, as in a backup. */
    if (!kvss_backup_check_names(coordinator, (const char *const *) mentioned, error))
        return -1;
    components = chosen(coordinator, names, error);
    if (!components)
        return -1;
    if (requester->options->json)
        print_plan_json(components, coordinator);
    else
        print_plan(components, coordinator);
    return KVSS_EXIT_DONE;
}
