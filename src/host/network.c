/*
 * network.c - what interfaces of VMs can be connected to on this host
 */
#include "host/network.h"
#include "host/connection.h"

#include <libvirt/virterror.h>
#include <string.h>

KvssNetworkState
kvss_host_network_state(KvssHost *host, const char *name)
{
    virNetworkPtr network = virNetworkLookupByName(kvss_host_connection(host), name);
    KvssNetworkState state;

    /* Only libvirt's own "no such network" counts: a driver without networks knows nothing. */
    if (!network)
        return virGetLastErrorCode() == VIR_ERR_NO_NETWORK ? KVSS_NETWORK_ABSENT
                                                           : KVSS_NETWORK_UNKNOWN;
    state = virNetworkIsActive(network) == 0 ? KVSS_NETWORK_INACTIVE : KVSS_NETWORK_ACTIVE;
    (void) virNetworkFree(network);
    return state;
}

/* A name is a name in a folder of the kernel's: never a path. */
static bool
has_entry(const char *name, const char *below)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s%s", name, below);

    return *name && !strchr(name, '/') && *name != '.' && g_file_test(path, G_FILE_TEST_EXISTS);
}

bool
kvss_host_has_network_device(const char *name)
{
    return has_entry(name, "");
}

bool
kvss_host_has_bridge(const char *name)
{
    return has_entry(name, "/bridge");
}
