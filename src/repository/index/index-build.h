/*
 * index-build.h - a table in the making, within bounded memory however large it gets
 *
 * What is added is sorted in runs, and the runs are merged into the file, together
 * with a table that there was before. In memory are one run and the packs' ids.
 */
#pragma once

#include "repository/index/index-table.h"

typedef struct KvssIndexBuild KvssIndexBuild;

/**
 * kvss_index_build_new:
 * @path: (nullable) the cache file to be made, its folder too; NULL: only for this process
 * @run_max: entries in a run; 0: as many as are good
 *
 * Until it is finished nothing is at @path that was not there before.
 */
KvssIndexBuild *kvss_index_build_new(const char *path, size_t run_max, GError **error);

/** Accepts NULL. */
void kvss_index_build_free(KvssIndexBuild *build);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssIndexBuild, kvss_index_build_free)

/** The entries of a table, with its index ids: once, before anything else. @table must outlive the build. */
void kvss_index_build_add_table(KvssIndexBuild *build, const KvssIndexTable *table);

/** An index file whose packs are added. */
void kvss_index_build_add_index(KvssIndexBuild *build, const uint8_t id[KVSS_ID_LENGTH]);

/** A KvssIndexPackFunc; @build: KvssIndexBuild. A failure to keep it is told at the end. */
void kvss_index_build_add_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries,
                               gpointer build);

/** The table, mapped; with a path it is at its place. Errors: KVSS_IO_ERROR. */
KvssIndexTable *kvss_index_build_finish(KvssIndexBuild *build, GError **error);
