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

/** Reads one by its full id. */
KvssSnapshot *kvss_snapshot_read(KvssRepository *repository, const char *id, GError **error);
