/*
 * in-place.h - disks that are written over where they are, only where they differ
 *
 *   compare ─▶ room for the way back? ─▶ (log, sync, write over)…
 *
 * Private to restore/. An image of the VM that is replaced (--in-place), or a block
 * device (always, unless --no-rollback), keeps its place. What is stored is known by the
 * SHA-256 of its chunks: what is right already is read once, here, and not fetched.
 */
#pragma once

#include "restore/work.h"

/**
 * in_place_plan:
 *
 * Decides for a disk whose place and format are settled: sets disk->in_place, or leaves it
 * NULL and says why in disk->whole_because where somebody asked for it.
 */
void in_place_plan(const Plan *plan, const PlanVm *vm, PlanDisk *disk);
void in_place_free(InPlace *in_place);

/**
 * in_place_compare:
 *
 * Compares every such disk with what is stored and demands room for its way back. VMs that
 * run are left out. Before anything is written. Errors: NO_ROOM; the disk's, the repository's.
 */
bool in_place_compare(Plan *plan, KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The disk on a block device: its first part. */
struct KvssSource *in_place_device_source(const PlanDisk *disk, GError **error);
/** CONFLICT when the disk is no longer as large as it was planned. */
bool in_place_check_size(const PlanDisk *disk, const struct KvssSource *old, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Writes what differs of the compared disk; rewrite.c. */
bool in_place_write(Work *work, const PlanDisk *disk, GError **error) G_GNUC_WARN_UNUSED_RESULT;
