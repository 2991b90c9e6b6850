/*
 * list-providers.c - kvss list providers, in vssadmin's shape
 */
#include "host/connection.h"
#include "provider/provider.h"
#include "requester/list.h"
#include "requester/output.h"

static JsonObject *
provider_json(const KvssProvider *provider)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", provider->ops->name);
    kvss_set_text(object, "type", provider->ops->type);
    kvss_set_text(object, "id", provider->ops->id);
    kvss_set_text(object, "version", provider->ops->version);
    return object;
}

static void
print_provider(const KvssProvider *provider)
{
    g_autofree char *type = g_strdup(provider->ops->type);

    *type = g_ascii_toupper(*type);
    kvss_print("Provider name: '%s'\n   Provider type: %s\n   Provider Id: {%s}\n"
               "   Version: %s\n\n",
               provider->ops->name, type, provider->ops->id, provider->ops->version);
}

void
kvss_list_print_providers(const GPtrArray *providers, bool json)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < providers->len; i++) {
        const KvssProvider *provider = g_ptr_array_index(providers, i);

        if (json)
            json_array_add_object_element(array, provider_json(provider));
        else
            print_provider(provider);
    }
    if (json)
        kvss_print_json(json_node_init_array(json_node_alloc(), array));
    else if (providers->len == 0)
        kvss_print("No items found that satisfy the query.\n");
    json_array_unref(array);
}

int
kvss_list_providers(KvssRequester *requester, GError **error)
{
    g_autoptr(KvssHost) host = kvss_requester_open_host(requester, error);
    g_autoptr(KvssCoordinator) coordinator = NULL;
    static const char *const none[] = { NULL };

    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(requester, host, none, error);
    if (!coordinator)
        return -1;
    kvss_list_print_providers(kvss_coordinator_providers(coordinator), requester->options->json);
    return KVSS_EXIT_DONE;
}
