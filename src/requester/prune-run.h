/*
 * prune-run.h - a prune as prune and forget --prune run it
 */
#pragma once

#include "requester/requester.h"

/** --max-unused and --max-repack make sense; checked before anything is touched. */
bool kvss_prune_check_usage(KvssRequester *requester, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** @without: (nullable) as in KvssPruneOptions. Prints; returns the exit code, or -1 with @error. */
int kvss_prune_run(KvssRequester *requester, KvssRepository *repository,
                   const char *const *without, GError **error);
