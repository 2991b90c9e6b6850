/*
 * connection.h - the hypervisor's host, as libvirt shows it
 *
 * The event loop that libvirt needs runs in a thread of ours from the first
 * open on. Domains that are worked on in parallel get connections of their own
 * (a daemon serves at most five calls of one connection at a time), which this
 * object makes.
 */
#pragma once

#include "host/domain-config.h"
#include "host/host.h"

#include <libvirt/libvirt.h>

struct KvssDomain;

/**
 * True for the first seconds of an embedded driver: it learns of running guests'
 * agents and jobs only some time after it was opened.
 */
bool kvss_host_is_settling(const KvssHost *host);
/** Where libvirt keeps managed save images: folder, by URI. Source: libvirt-qemu.md 5.3. */
const char *kvss_host_save_folder(const KvssHost *host);

/**
 * kvss_host_nvram_path:
 * @name: the VM's
 *
 * The VM's variable store: where its definition says; or, where libvirt chooses the
 * firmware, the place it takes for granted. NULL: it has none. Free with g_free.
 */
char *kvss_host_nvram_path(const KvssHost *host, const KvssDomainConfig *config, const char *name);

/** Where emulated TPMs keep their state: a folder with one folder a UUID. */
const char *kvss_host_tpm_folder(const KvssHost *host);

/**
 * kvss_host_images_folder:
 *
 * Where disk images are looked for first: the folder of the storage pool "default",
 * if that is a plain folder, active or not; else libvirt's images folder. NULL: this
 * driver has none. Free with g_free.
 */
char *kvss_host_images_folder(KvssHost *host);

/** The shared connection, borrowed. For calls in one thread at a time that do not block long. */
virConnectPtr kvss_host_connection(KvssHost *host);

/**
 * kvss_host_settle:
 *
 * libvirt carries out what a process has asked for although that process died meanwhile.
 * After this such a request has been carried out, or its work is to be seen as a job of its
 * domain: the daemon has answered a question of ours, which came later, and was given a
 * second more. Without a daemon there is nothing to wait for. Blocks.
 */
void kvss_host_settle(KvssHost *host);

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
