/*
 * nbd-source.h - a disk that an NBD server offers, as a source
 *
 * One connection, small requests, few in flight: measured faster than deep
 * queues, and the guest whose QEMU serves it feels it least (libvirt-qemu.md 9).
 */
#pragma once

#include "base/error.h"

#include <sys/types.h>

struct KvssSource;

/**
 * kvss_nbd_source_new:
 * @socket: Unix socket of the server
 * @export_name: what to ask for
 *
 * Connects now. The size is the export's. Holes and zero runs come from
 * base:allocation; a server without it is read whole. Serial: one thread at a
 * time. Once the server is gone, or silent for a minute, every call fails: what
 * was read of the disk is no backup then. Freeing says goodbye to the server;
 * free before the backup job that serves it is ended.
 *
 * Errors: KVSS_HOST_ERROR; KVSS_IO_ERROR for what the server answered.
 */
struct KvssSource *kvss_nbd_source_new(const char *socket, const char *export_name,
                                       GError **error);

/**
 * kvss_nbd_source_new_with_changes:
 * @bitmap: (nullable) a dirty bitmap that the server exports with the disk
 *
 * The same, and what @bitmap has not marked is reported as unchanged.
 * Errors: NOT_FOUND when the server has no such bitmap there.
 */
struct KvssSource *kvss_nbd_source_new_with_changes(const char *socket, const char *export_name,
                                                    const char *bitmap, GError **error);

/** Of such a source: false with an error once its server is gone; does not wait for it. */
bool kvss_nbd_source_check_server(struct KvssSource *source, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Of such a source: the process that serves it; 0 when the system does not tell. */
pid_t kvss_nbd_source_server(struct KvssSource *source);
