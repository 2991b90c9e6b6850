/*
 * progress.h - how far a long command is
 *
 * A bar on stderr when that is a terminal; with -v a line a step where it is none;
 * with --json status objects on stdout, at most one a second and one a step.
 */
#pragma once

#include "base/error.h"

typedef struct KvssProgress KvssProgress;

KvssProgress *kvss_progress_new(bool json, bool quiet, unsigned verbose);

/** The last line of it is wiped. Accepts NULL. */
void kvss_progress_free(KvssProgress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssProgress, kvss_progress_free)

/**
 * kvss_progress_update:
 * @step: what is being done, in VSS words
 * @vm, @target: (nullable)
 * @done, @total: bytes; 0 of 0 where nothing is counted
 *
 * Cheap when nothing is due. Threads: any, one at a time.
 */
void kvss_progress_update(KvssProgress *progress, const char *step, const char *vm,
                          const char *target, uint64_t done, uint64_t total);

/** Wipes the bar, if one stands there, before something else is written to stderr. */
void kvss_progress_clear_line(void);
