/*
 * new-blobs.h - the blobs that this run adds, known before any index file names them
 *
 * A blob is claimed by the one thread that will store it, and found once its
 * pack is complete. Sharded, so that threads rarely wait for each other.
 * Memory: about 100 bytes a blob. Threads: any number, in every function.
 */
#pragma once

#include "repository/index/index.h"

typedef struct KvssNewBlobs KvssNewBlobs;

KvssNewBlobs *kvss_new_blobs_new(void);
void kvss_new_blobs_free(KvssNewBlobs *blobs);

/** True: nobody had it, and it is the caller's to store. */
bool kvss_new_blobs_claim(KvssNewBlobs *blobs, bool is_tree, const uint8_t id[KVSS_ID_LENGTH]);

/** Claimed before, or not: it can be found from now on. */
void kvss_new_blobs_add(KvssNewBlobs *blobs, const uint8_t pack[KVSS_ID_LENGTH],
                        const KvssPackEntry *entries, size_t n);

bool kvss_new_blobs_find(KvssNewBlobs *blobs, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                         KvssBlobLocation *out_location);

/** Forgets what is claimed and not stored; or everything. */
void kvss_new_blobs_drop_claims(KvssNewBlobs *blobs);
void kvss_new_blobs_clear(KvssNewBlobs *blobs);
