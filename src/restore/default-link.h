/*
 * default-link.h - a disk restored elsewhere is found in the default location all the same
 *
 * A disk whose image goes to another place than the backup has on record gets a
 * symbolic link NAME-TARGET.EXT in the folder where images are looked for first
 * (kvss_host_images_folder()), unless it goes there itself. A link of an earlier
 * restore that this one makes stale goes. Both happen past the point of no return,
 * by acts of the journal, and neither can fail a restore: it becomes a note.
 */
#pragma once

#include "guardian/run.h"
#include "restore/plan.h"

/** Fills the disk's link and stale_links. Nothing is touched. */
void default_link_plan(const Plan *plan, const PlanVm *vm, PlanDisk *disk);

/** Is something there that is not ours, and stays? */
bool default_link_is_obstructed(const PlanVm *vm, const PlanDisk *disk);

/** Before the point of no return: what will be done, to the journal. */
void default_links_begin(Plan *plan, KvssRun *run);

/** After it: does it, and tells what could not be done in the VM's notes. */
void default_links_make(Plan *plan, KvssRun *run);
