/*
 * plan-networks.c - which networks take the place of which
 */
#include "host/network.h"
#include "restore/plan-vm.h"

#include <string.h>

void
plan_network_free(gpointer data)
{
    PlanNetwork *network = data;

    g_free(network->from);
    g_free(network->to);
    g_free(network);
}

/* libvirt's network first: it may well be the one that has made a bridge of that name. */
static const char *
type_of(KvssHost *host, const char *name)
{
    KvssNetworkState state = kvss_host_network_state(host, name);

    if (state == KVSS_NETWORK_ACTIVE || state == KVSS_NETWORK_INACTIVE)
        return "network";
    return kvss_host_has_bridge(name) ? "bridge" : NULL;
}

static const char *
type_said(KvssHost *host, const char *word, const char **out_name)
{
    if (g_str_has_prefix(word, "network:")) {
        *out_name = word + strlen("network:");
        return kvss_host_network_state(host, *out_name) != KVSS_NETWORK_ABSENT ? "network" : NULL;
    }
    if (g_str_has_prefix(word, "bridge:")) {
        *out_name = word + strlen("bridge:");
        return kvss_host_has_bridge(*out_name) ? "bridge" : NULL;
    }
    *out_name = word;
    return type_of(host, word);
}

static bool
network_add(Plan *plan, const char *word, GError **error)
{
    const char *equals = strrchr(word, '=');
    g_autofree char *from = equals ? g_strndup(word, equals - word) : NULL;
    const char *type, *to = NULL;
    PlanNetwork *network;

    if (!equals || equals == word || !equals[1])
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "'%s' does not say which network takes the place of which: OLD=NEW", word);
    type = type_said(plan->options->host, equals + 1, &to);
    if (!type)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                          "there is no network or bridge '%s' on this host (virsh net-list --all)",
                          to);
    for (guint i = 0; i < plan->networks->len; i++)
        if (g_str_equal(((PlanNetwork *) g_ptr_array_index(plan->networks, i))->from, from))
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                              "two networks are to take the place of '%s'", from);
    network = g_new0(PlanNetwork, 1);
    network->from = g_steal_pointer(&from);
    network->type = type;
    network->to = g_strdup(to);
    g_ptr_array_add(plan->networks, network);
    return true;
}

bool
plan_networks(Plan *plan, GError **error)
{
    const char *const *words = plan->options->networks;

    plan->networks = g_ptr_array_new_with_free_func(plan_network_free);
    for (; words && *words; words++)
        if (!network_add(plan, *words, error))
            return false;
    return true;
}

/* ---- afterwards ---- */

static void
collect(const PlanVm *vm, GHashTable *names)
{
    for (guint i = 0; i < vm->result->networks->len; i++) {
        const KvssRestoredNetwork *network = g_ptr_array_index(vm->result->networks, i);
        const char *name = network->was ? network->was : network->source;

        if (name)
            g_hash_table_add(names, (gpointer) name);
    }
}

/* A mapping that maps nothing is a slip of the pen: the VM would come back unconnected. */
bool
plan_networks_check(const Plan *plan, GError **error)
{
    g_autoptr(GHashTable) used = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree gpointer *list = NULL;
    g_autofree char *names = NULL;

    for (guint i = 0; i < plan->vms->len; i++)
        collect(g_ptr_array_index(plan->vms, i), used);
    list = g_hash_table_get_keys_as_array(used, NULL);
    names = g_strjoinv(", ", (char **) list);
    for (guint i = 0; i < plan->networks->len; i++) {
        const PlanNetwork *network = g_ptr_array_index(plan->networks, i);

        if (!g_hash_table_contains(used, network->from))
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                              "none of the chosen VMs was connected to '%s'; their networks: %s",
                              network->from, *names ? names : "none");
    }
    return true;
}
