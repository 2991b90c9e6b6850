/*
 * summary-cache.h - what was found out about sets, kept on this host
 *
 *   magic | SHA-256 of the rest | GVariant a(ayssxta(ss)a(ss)), by snapshot id
 *
 * Safe to delete, and passed over when it is damaged, of another layout or of
 * another byte order. It names VMs and hosts: for root's eyes only.
 */
#pragma once

#include "catalogue/summary.h"

/** What is known, by snapshot. */
typedef struct KvssSummaryCache KvssSummaryCache;

/** @folder: (nullable) the repository's cache folder; NULL: an empty cache that is never saved. */
KvssSummaryCache *kvss_summary_cache_open(const char *folder);
void kvss_summary_cache_free(KvssSummaryCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSummaryCache, kvss_summary_cache_free)

/** What is known of the snapshot, without the snapshot itself; NULL when nothing is. */
KvssSummary *kvss_summary_cache_find(KvssSummaryCache *cache, const char *snapshot_id);

/**
 * kvss_summary_cache_save:
 * @summaries: (element-type KvssSummary) all sets there are, oldest first
 *
 * Makes the cache that of @summaries, if it is not so already: sets that are gone are
 * forgotten. When they are more than the file may hold the newest stay. Best effort.
 */
void kvss_summary_cache_save(KvssSummaryCache *cache, const GPtrArray *summaries);
