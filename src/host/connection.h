/*
 * connection.h - the hypervisor's host, as libvirt shows it
 *
 * The event loop that libvirt needs runs in a thread of ours from the first
 * open on. Domains that are worked on in parallel get connections of their own
 * (a daemon serves at most five calls of one connection at a time), which this
 * object makes.
 */
#pragma once

#include "host/error.h"

#include <libvirt/libvirt.h>

typedef struct KvssHost KvssHost;
struct KvssDomain;

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
/**
 * True for the first seconds of an embedded driver: it learns of running guests'
 * agents and jobs only some time after it was opened.
 */
bool kvss_host_is_settling(const KvssHost *host);
/** "libvirt 9.0.0, QEMU 7.2.22". */
const char *kvss_host_versions(const KvssHost *host);

/** Where libvirt keeps managed save images: folder, by URI. Source: libvirt-qemu.md 5.3. */
const char *kvss_host_save_folder(const KvssHost *host);

/** Where emulated TPMs keep their state: a folder with one folder a UUID. */
const char *kvss_host_tpm_folder(const KvssHost *host);

/** The shared connection, borrowed. For calls in one thread at a time that do not block long. */
virConnectPtr kvss_host_connection(KvssHost *host);

/** A connection of one's own: close with virConnectClose. Embedded: a reference to the shared one. */
virConnectPtr kvss_host_new_connection(KvssHost *host, GError **error);

/** All domains, by name. (element-type KvssDomain) */
GPtrArray *kvss_host_list_domains(KvssHost *host, GError **error);

/** By UUID when it looks like one and exists, else by name. NOT_FOUND. */
struct KvssDomain *kvss_host_find_domain(KvssHost *host, const char *name_or_uuid,
                                         GError **error);

/** Path of a volume in a storage pool; NULL with NOT_FOUND. Free with g_free. */
char *kvss_host_volume_path(KvssHost *host, const char *pool, const char *volume,
                            GError **error);
