/*
 * packer.h - new blobs into packs, packs into the index
 *
 *   add() in many threads ──▶ open packs ──full──▶ finisher thread: header, sync, rename
 *                                                     └─ now and then ──▶ index file
 *
 * A few packs are open at once, at most one a thread; a blob's thread writes it
 * to the pack's file itself. Syncing waits on the disk, so one thread of its own
 * does that, and a short queue before it keeps memory and unsynced data bounded.
 */
#pragma once

#include "repository/repository-private.h"

typedef struct KvssPacker KvssPacker;

KvssPacker *kvss_packer_new(KvssRepository *repository);

/**
 * Before the first add: its blobs are not to be found in this run, which saves 100
 * bytes each. For blobs that are in the index already.
 */
void kvss_packer_leave_lookup(KvssPacker *packer);

/**
 * kvss_packer_add:
 *
 * Stores one blob, claimed before. It can be found when its pack is complete.
 * May wait for the disk. After an error of any thread all calls give that error.
 * Threads: any.
 */
bool kvss_packer_add(KvssPacker *packer, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                     const KvssSealedBlob *blob, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Index files written so far. Only after a flush. */
unsigned kvss_packer_indexes(const KvssPacker *packer);

/** A whole pack that an earlier run stored, its blobs claimed: goes into the next index file. Takes what is in @indexed. Before the first add. */
void kvss_packer_adopt(KvssPacker *packer, KvssIndexedPack *indexed);

/** Everything added is in packs that an index file names, all of it durable. */
bool kvss_packer_flush(KvssPacker *packer, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Bytes written into packs so far. Threads: any. */
uint64_t kvss_packer_bytes(KvssPacker *packer);

/**
 * Without a flush: what can still be completed is, so that a later run finds it. Accepts NULL.
 * Returns: is every pack that may be in the repository named by an index file?
 */
bool kvss_packer_free(KvssPacker *packer);
