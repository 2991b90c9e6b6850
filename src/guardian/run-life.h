/*
 * run-life.h - the journal and the guardian of a set, as its requester has them
 *
 *   gather ─▶ select ─▶ begin ─▶ prepare_for_backup ─▶ do_snapshot_set ─▶ (copy) ─▶ backup_complete ─▶ finish
 *                                                  any failure ─▶ kvss_coordinator_abort() ─▶ finish
 *
 * For a requester that calls the coordinator by itself, and puts it into the set:
 * what writers and providers do to the world is written in it before they do it.
 * kvss_backup_run() and kvss_restore_run() begin their own.
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

typedef struct KvssRun KvssRun;
struct KvssHost;

/**
 * kvss_run_begin:
 * @state_dir: where journals lie; made when absent
 * @scratch_dir: (nullable) where the work folder goes; NULL: @state_dir/work
 * @host: (borrowed) outlives the run
 * @id: GUID of the set
 * @purpose: "backup", "restore"
 *
 * Makes and locks the journal and the work folder. From here on recovery leaves
 * the run alone until this process is dead. Errors: KVSS_IO_ERROR.
 */
KvssRun *kvss_run_begin(const char *state_dir, const char *scratch_dir, struct KvssHost *host,
                        const char *id, const char *purpose, GError **error);

const char *kvss_run_id(const KvssRun *run);

/** Private folder for sockets, scratch and memory files; short path, mode 0711; removed with the run. */
const char *kvss_run_folder(const KvssRun *run);

/**
 * kvss_run_finish:
 *
 * The end, good or bad: every act was ended or is undone now; journal and work
 * folder go, the guardian is dismissed. False: something could not be undone; the
 * guardian goes on with it when this process ends, then recovery.
 */
bool kvss_run_finish(KvssRun *run, GError **error);

/**
 * kvss_run_free:
 *
 * Frees. Acts still open stay in the journal for the guardian, which then acts.
 * After the coordinator is freed only; not at all when a call was given up as stuck:
 * it may still look at the run. Accepts NULL.
 */
void kvss_run_free(KvssRun *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssRun, kvss_run_free)

G_END_DECLS
