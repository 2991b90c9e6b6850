/*
 * device-sink.h - a block device of the host, or its first part, as a sink
 *
 * Written by us and not through QEMU: its block layer sees a device in whole, and a
 * disk may be smaller. What lies behind the disk's end stays as it is.
 */
#pragma once

#include "base/error.h"

struct KvssSink;

/**
 * kvss_device_sink_new:
 * @size: bytes of the disk; the device has as many at least
 *
 * Opens the device for us alone: one that is mounted, or part of another device, is
 * BUSY. Writes go in parallel; finish() syncs.
 *
 * Errors: KVSS_HOST_ERROR_INVALID (no block device, or too small), KVSS_IO_ERROR.
 */
struct KvssSink *kvss_device_sink_new(const char *path, uint64_t size, GError **error);
