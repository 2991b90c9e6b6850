/*
 * cache.h - decoded pieces of stored disks, for many small reads at once
 *
 * A piece is what the repository unpacks as one: it is read whole, checked, and kept
 * until the room is needed. Who wants a piece that is being read waits for it; nobody
 * reads it twice. Pieces of zeroes take no room.
 */
#pragma once

#include "stream/source.h"

typedef struct KvssCache KvssCache;
/** A source whose pieces the cache keeps. */
typedef struct KvssCached KvssCached;

/**
 * @capacity: bytes, of all sources together; exceeded by what is being read
 * @readers: threads that read ahead
 */
KvssCache *kvss_cache_new(uint64_t capacity, unsigned readers);
/** With nobody reading any more; frees its sources, too. Accepts NULL. */
void kvss_cache_free(KvssCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssCache, kvss_cache_free)

/** @source: parallel; taken. @piece: bytes. Belongs to the cache. Threads: any. */
KvssCached *kvss_cache_add(KvssCache *cache, KvssSource *source, uint32_t piece);

KvssSource *kvss_cached_source(KvssCached *cached);

/**
 * kvss_cached_read:
 * @out_bad: (optional) on failure, the offset of the piece that cannot be read
 *
 * The range lies in the source. Errors: the source's; a failure is not kept. Threads: any.
 */
bool kvss_cached_read(KvssCached *cached, uint64_t offset, void *buffer, size_t length,
                      uint64_t *out_bad, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_cached_read_ahead:
 *
 * Begins to read what of the range is not there, in threads of its own; as much as is sensible.
 * Failures are left to who reads it. Does not block. Threads: any.
 */
void kvss_cached_read_ahead(KvssCached *cached, uint64_t offset, uint64_t length);
