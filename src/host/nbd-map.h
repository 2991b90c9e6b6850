/*
 * nbd-map.h - what an NBD server says of an export's bytes without sending them
 */
#pragma once

#include "host/nbd-client.h"

/**
 * kvss_nbd_map:
 * @out_extents: (element-type KvssExtent) appended to
 *
 * As KvssSourceOps.extents: zeroes are what base:allocation says reads as zeroes; unchanged
 * is what the client's bitmap has not marked. The two are cut at each other's borders.
 * Without either, all is data.
 *
 * Errors: KVSS_HOST_ERROR; INVALID for an answer that makes no sense. Blocks: for the
 * server. Threads: as the client.
 */
bool kvss_nbd_map(KvssNbdClient *client, uint64_t offset, uint64_t length, GArray *out_extents,
                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
