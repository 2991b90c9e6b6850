/*
 * snapshot.h - the files that make a backup exist, as JSON both ways
 */
#pragma once

#include "repository/repository.h"

/** @id is put in. Errors: CORRUPT. */
KvssSnapshot *kvss_snapshot_parse(const void *text, size_t length, const char *id,
                                  GError **error);

/** The JSON of a new one. */
GString *kvss_snapshot_text(const KvssSnapshotInfo *info, const uint8_t tree[KVSS_ID_LENGTH]);

/** Snapshots by their hex ids, which are their own: those that an open repository has read. */
GHashTable *kvss_snapshot_table_new(void);
