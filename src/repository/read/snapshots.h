/*
 * snapshots.h - snapshot files of an open repository, each read once
 */
#pragma once

#include "repository/repository-private.h"

/**
 * Reads one by its full id: its file only once, for its name is the hash of its content.
 * So it does not say that the file is still there: a listing does.
 */
KvssSnapshot *kvss_snapshot_read(KvssRepository *repository, const char *id, GError **error);

/** The next time the file is read again. */
void kvss_snapshot_forget(KvssRepository *repository, const char *id);
