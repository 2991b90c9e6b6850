/*
 * scratch-watch.h - a scratch area that fills ends the backup, never the VM
 *
 * When the scratch files of a backup job have no room left, QEMU fails the
 * guest's own writes and stops the guest. Before that happens the jobs are ended.
 */
#pragma once

#include "vss/snapshot-set.h"

typedef struct KvssScratchWatch KvssScratchWatch;

/**
 * kvss_scratch_watch_start:
 * @set: (borrowed) with its run; must outlive the watch
 *
 * Watches the file system of the run's work folder from a thread of its own. When
 * it is nearly full, marks every component whose disks are served by a job as
 * failed and ends the jobs; whoever reads from them then gets an error.
 */
KvssScratchWatch *kvss_scratch_watch_start(KvssSnapshotSet *set);

/** Stops and frees. Accepts NULL. */
void kvss_scratch_watch_stop(KvssScratchWatch *watch);
