/*
 * held-image.h - an image that an image server holds still, read from its files
 *
 *              ┌─ what is plain ──── pread ───────────┐
 *   reader ────┤                                      ├── image and those below, locked by the server
 *              └─ all else ─── NBD ─── image server ──┘
 *
 * The server's lock keeps every QEMU from writing; while it holds, bytes that stand in a
 * file as they are need not come through a socket. Measured: a third of the time of a
 * disk that is read again (docs/performance.md).
 */
#pragma once

#include "base/error.h"

struct KvssSource;

/**
 * kvss_held_image_new:
 * @path, @format: the image that the server serves read-only
 * @socket, @export_name: where
 *
 * The same disk, byte for byte, as kvss_nbd_source_new() gives; parallel. A file is read
 * directly only if the server has that very file open. What is in doubt comes through NBD: other formats
 * than raw and qcow2, what is compressed or encrypted, data files of their own, parts
 * whose map is too long or cannot be had. Holes are told by the server.
 * Once the server is gone, and its lock with it, every call fails: what a call
 * has given was read under the lock.
 *
 * Errors: as of kvss_nbd_source_new(); KVSS_IO_ERROR of a file.
 */
struct KvssSource *kvss_held_image_new(const char *path, const char *format, const char *socket,
                                       const char *export_name, GError **error);
