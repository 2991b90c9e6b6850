/*
 * network.h - what interfaces of VMs can be connected to on this host
 */
#pragma once

#include "host/host.h"

typedef enum {
    KVSS_NETWORK_ABSENT,
    KVSS_NETWORK_INACTIVE, /* defined, but no VM that is connected to it starts */
    KVSS_NETWORK_ACTIVE,
    KVSS_NETWORK_UNKNOWN,  /* this driver knows nothing of networks */
} KvssNetworkState;

/** A network of libvirt. */
KvssNetworkState kvss_host_network_state(KvssHost *host, const char *name);

/** A network device of the host: a bridge, a card, a tap. */
bool kvss_host_has_network_device(const char *name);
bool kvss_host_has_bridge(const char *name);
