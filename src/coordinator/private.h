/*
 * private.h - what the files of the coordinator share
 */
#pragma once

#include "coordinator/coordinator.h"
#include "coordinator/session.h"

/* Where the coordinator is with its one set. The table of moves is in coordinator.c. */
typedef enum {
    SET_NEW,       /* taking writers and providers */
    SET_GATHERED,  /* components are known and can be selected */
    SET_PREPARED,  /* PrepareForBackup is over; guests run */
    SET_CREATED,   /* shadow copies can be read; guests are back in their prior state */
    SET_COMPLETE,  /* BackupComplete is over */
    SET_ABORTED,
    SET_RESTORING, /* PreRestore is over: files may be written */
    SET_RESTORED,
    SET_N_STATES
} SetState;

struct KvssCoordinator {
    Estate *estate;
    KvssSnapshotSet *set;     /* the estate's */
    GPtrArray *writers;       /* KvssWriter, borrowed from the estate */
    GPtrArray *providers;     /* KvssProvider, borrowed from the estate */
    SetState state;
    KvssLimits limits;
    char *demanded;           /* (nullable) the one provider that may be used */
    gint64 window_end_us;     /* monotonic; 0 while no window is open */
    KvssHresult failure;      /* of the first error */
    GArray *history;          /* KvssEventRecord */

    GCancellable *user;       /* (nullable) the requester's, while it is listened to */
    gulong user_handler;
    GCancellable *cancellable; /* (nullable) ours: the set's; the estate holds it */
};

/** Does the call @what fit the state? The requester's to get right: BAD_STATE. */
bool expect_state(const KvssCoordinator *c, SetState state, const char *what, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* --- assignment.c: who cuts what ------------------------------------------ */

/** NULL: there is none of this name. */
KvssProvider *assignment_find(KvssCoordinator *c, const char *name);

/**
 * Chooses a provider for whatever has none yet; those chosen are involved from now
 * on. A piece that nobody can cut is UNSUPPORTED, and its component fails.
 */
bool assignment_make(KvssCoordinator *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- cancel.c: the set's cancellable -------------------------------------- */

/** Puts our own cancellable in the set; the requester's triggers it from now on. */
void cancel_attach(KvssCoordinator *c);
/** From here on the requester's cancellable is not listened to. */
void cancel_detach(KvssCoordinator *c);
/** What was triggered before must not stop what comes now. After attach. */
void cancel_refresh(KvssCoordinator *c);
bool cancel_is_asked(const KvssCoordinator *c);

/* --- round.c: one step to its receivers ----------------------------------- */

/**
 * Sends one step forward to every involved receiver and waits, no longer than
 * its limit. Undoes nothing. Errors: KVSS_COORDINATOR_ERROR, and
 * KVSS_IO_ERROR_CANCELLED when the requester asked to stop.
 */
bool round_run(KvssCoordinator *c, KvssStepId id, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** See kvss_coordinator_pre_restore_again(). */
void round_pre_restore_again(KvssCoordinator *c, GPtrArray *stays);

/** Takes back whatever the table says must be, of everybody. Cannot fail. */
void round_undo(KvssCoordinator *c);

/** Sends DeleteSnapshots or BackupShutdown to whom it concerns. Cannot fail; false: not in time. */
bool round_end(KvssCoordinator *c, KvssStepId id);

/* --- report.c: what people are told --------------------------------------- */

/**
 * One error for all that went wrong in a step: each receiver, each component that
 * failed with its message, the code's name and number. Sets the first failure.
 * Returns: false.
 * @calls: (element-type Call) ended or given up
 */
bool report_failure(KvssCoordinator *c, KvssStepId id, GPtrArray *calls, GError **error);
/** The window passed before step @id was over, and nobody in particular is to blame. Returns: false. */
bool report_late(KvssCoordinator *c, KvssStepId id, GError **error);
void report_record(KvssCoordinator *c, const Call *call);
/** "(VSS_E_BAD_STATE, 0x80042301)". */
char *report_code(KvssHresult code);
