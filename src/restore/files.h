/*
 * files.h - the middle of a restore: content to disks and small files
 *
 * Private to restore/. Every file is in the journal before it is made.
 */
#pragma once

#include "guardian/run.h"
#include "restore/plan.h"

/** Writes every disk and carried file of @plan. On failure some may be there: the undo list knows them. */
bool files_write(Plan *plan, KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** After PostRestore: the save images that libvirt has taken over go away. */
void files_remove_saved_states(Plan *plan);
