/*
 * host.h - components of writers that are not about VMs, put back
 *
 *   plan ─▶ PreRestore ─▶ set aside ─▶ write ─▶ PostRestore ─▶ (point of no return)
 *
 * Private to restore/. In place a file goes only where the component's own writer, which
 * must be here, declares files now: a set is a stranger's and has no say in that. With
 * a folder of the user's everything goes below it, and no writer is asked or told.
 * No symbolic link is followed below "/" or that folder.
 */
#pragma once

#include "guardian/run.h"
#include "restore/plan.h"

/** The folders of kvss that a restore needs itself; a table for Walk.ours. */
GHashTable *host_ours(const KvssRestoreOptions *options);

/** Adds a component of the set to the plan. Errors: KVSS_RESTORE_ERROR_INVALID, NOT_FOUND. */
bool host_plan(Plan *plan, const KvssManifestVm *stored, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * Two components must not share a place: with --to, or in place; and no writer may declare
 * a folder of ours, or what a VM of the same restore gets. Says the steps. Errors: KVSS_RESTORE_ERROR_CONFLICT.
 */
bool host_describe(Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** PreRestore to the writers of the components; nothing with --to. */
bool host_pre_restore(Plan *plan, KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Everything that the writers declare now is set aside, then the files of the set are written. */
bool host_write(Plan *plan, KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** PostRestore. */
bool host_post_restore(Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * host_take_back:
 *
 * After a failure, first of all: writers that have accepted PostRestore hear PreRestore
 * again and stop; the old files are put back; and only then the writers hear PostRestore,
 * by which they may use them again. For one that does not stop what was restored stays,
 * and @error says so. Cannot fail: what cannot be taken back is the journal's.
 */
void host_take_back(Plan *plan, KvssRun *run, GError **error);

/**
 * host_tell_kept:
 *
 * After success: notes in the results of the components, and (nullable) a sentence for people
 * on what was kept without being asked for. Free with g_free.
 */
char *host_tell_kept(const Plan *plan);

void host_free(gpointer component);
