/*
 * host.h - the hypervisor's host: the handle that a requester holds
 *
 * What may be asked of it by those who speak libvirt is in connection.h.
 */
#pragma once

#include "error.h"

G_BEGIN_DECLS

typedef struct KvssHost KvssHost;

/**
 * kvss_host_keep_quiet:
 *
 * An embedded driver logs like a daemon, to our standard error. Errors come back
 * to us anyway; whoever wants the log says so with libvirt's own variables. Changes
 * the environment: call it first in main(), before there are threads.
 */
void kvss_host_keep_quiet(void);

/**
 * kvss_host_open:
 * @uri: libvirt URI
 *
 * Errors: NO_CONNECTION with the URI and what to do. Blocks: a few ms locally.
 * Source: virConnectOpen, virConnectSetKeepAlive.
 */
KvssHost *kvss_host_open(const char *uri, GError **error);
void kvss_host_free(KvssHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssHost, kvss_host_free)

const char *kvss_host_uri(const KvssHost *host);
/** The hypervisor's host name. */
const char *kvss_host_name(const KvssHost *host);
/** False when the URI names another machine: QEMU's sockets and files are not here. */
bool kvss_host_is_local(const KvssHost *host);
/** qemu:///embed: the driver lives in this process, a second process cannot open it. */
bool kvss_host_is_embedded(const KvssHost *host);
/** "libvirt 9.0.0, QEMU 7.2.22". */
const char *kvss_host_versions(const KvssHost *host);

G_END_DECLS
