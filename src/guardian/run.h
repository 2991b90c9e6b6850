/*
 * run.h - one run of kvss: its journal, its work folder, its guardian
 *
 * Before each act that must be taken back if we die, the act is written to the
 * journal and synced; when it has been taken back or needs no undo any more, it
 * is ended. What is open is the undo list: this process runs it on failure, the
 * guardian when this process dies, doctor when both did. One undo function per
 * kind of act serves all three (acts.h).
 *
 * The journal file is flock()ed by this process and the guardian together: the
 * run is dead only when that lock is free.
 */
#pragma once

#include "guardian/acts.h"
#include "guardian/run-life.h"
#include "vss/component.h"

#include <json-glib/json-glib.h>

/** The folder of the journals, and of all that outlives a run. */
const char *kvss_run_state_dir(const KvssRun *run);

/** Names one act of one run; 0 is none. */
typedef uint64_t KvssActId;

/**
 * kvss_run_claim:
 * @id: of what is claimed: a VM's UUID, or whatever names a component for good
 * @name: for people
 *
 * From here until the run is over, and until its guardian has cleaned up after it, no
 * other run with the same state folder can have it. Twice does no harm.
 *
 * Errors: KVSS_IO_ERROR_BUSY, naming the run that holds it. Blocks: on disk.
 */
bool kvss_run_claim(KvssRun *run, const char *id, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The same for a component, which fails: VSS_E_SNAPSHOT_SET_IN_PROGRESS when it is in use. */
bool kvss_run_claim_component(KvssRun *run, const char *id, KvssComponent *component,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_run_start_guardian:
 *
 * Starts the guardian process and waits for its "ready" (it holds a connection
 * of its own by then; on qemu:///embed it connects when it must act). Before any
 * freeze. Started already: does nothing. Threads: any.
 */
bool kvss_run_start_guardian(KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_run_act_begin:
 * @details: (transfer full) what the undo needs
 *
 * Written and synced when this returns; call it before the act. Returns 0 on
 * failure: then do not act.
 */
KvssActId kvss_run_act_begin(KvssRun *run, KvssActKind kind, JsonObject *details, GError **error);

/** The act needs no undo any more. Logged, not fatal: an undo too many does no harm. */
void kvss_run_act_end(KvssRun *run, KvssActId act);

/** Undoes one open act now and ends it if that worked. */
bool kvss_run_act_undo(KvssRun *run, KvssActId act, GError **error);

/** What was restored for this writer stays: see kvss_journal_write_stays(). */
bool kvss_run_let_stay(KvssRun *run, const char *writer, const char *why, GError **error);

/**
 * kvss_run_arm:
 *
 * The guardian undoes @act by itself when @limit_ms pass without disarm, whatever
 * this process does. Armed already: this limit takes the place of the one before. When this returns the guardian has confirmed. Errors: the
 * guardian is gone (do not go on).
 */
bool kvss_run_arm(KvssRun *run, KvssActId act, unsigned limit_ms, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** False, with TIMED_OUT, when the guardian had to act: the guest was thawed behind our back. */
bool kvss_run_disarm(KvssRun *run, KvssActId act, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_run_point_of_no_return:
 *
 * From here on recovery goes forward: acts with a forward way (files set aside)
 * are completed, no longer undone.
 */
bool kvss_run_point_of_no_return(KvssRun *run, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * Undoes every open act (most urgent first, else last first) but those apart (acts.h), which
 * are their writer's. What cannot be undone is logged and stays open.
 */
bool kvss_run_undo(KvssRun *run, GError **error);
