/*
 * nbd-sink.h - a disk that an NBD server lets us write, as a sink
 */
#pragma once

#include "base/error.h"

struct KvssSink;

/**
 * kvss_nbd_sink_new:
 * @size: bytes that will be written; the export may be larger by less than one
 *     sector (QEMU rounds up), never smaller
 * @is_blank: the export reads as zeroes already (a new image): zero() does nothing
 *
 * Connects now, and again for threads that write at the same time, a few at most.
 * zero() lets the server make holes. Parallel.
 * finish() flushes: when it returns true the server has synced everything.
 *
 * Errors: KVSS_HOST_ERROR; KVSS_IO_ERROR for what the server answered (NO_SPACE).
 */
struct KvssSink *kvss_nbd_sink_new(const char *socket, const char *export_name, uint64_t size,
                                   bool is_blank, GError **error);
