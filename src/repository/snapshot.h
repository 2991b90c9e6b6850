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

/**
 * Reads one by its full id: its file only once, for its name is the hash of its content.
 * So it does not say that the file is still there: a listing does.
 */
KvssSnapshot *kvss_snapshot_read(KvssRepository *repository, const char *id, GError **error);

/** The next time the file is read again. */
void kvss_snapshot_forget(KvssRepository *repository, const char *id);
