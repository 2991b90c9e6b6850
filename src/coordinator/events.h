/*
 * events.h - the order of events, who gets them, how long they may take, what
 * undoes them
 *
 * docs/events.md says the same for people; a test compares the two.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

G_BEGIN_DECLS

/** In the order of delivery; the ways out and the restore at the end. */
typedef enum {
    KVSS_STEP_IDENTIFY,
    KVSS_STEP_BEGIN_PREPARE,
    KVSS_STEP_PREPARE_FOR_BACKUP,
    KVSS_STEP_PREPARE_FOR_SNAPSHOT,
    KVSS_STEP_END_PREPARE,
    KVSS_STEP_FREEZE,
    KVSS_STEP_PRE_COMMIT,
    KVSS_STEP_COMMIT,
    KVSS_STEP_POST_COMMIT,
    KVSS_STEP_THAW,
    KVSS_STEP_PRE_FINAL_COMMIT,
    KVSS_STEP_POST_SNAPSHOT,
    KVSS_STEP_POST_FINAL_COMMIT,
    KVSS_STEP_BACKUP_COMPLETE,
    KVSS_STEP_DELETE_SNAPSHOTS,
    KVSS_STEP_BACKUP_SHUTDOWN,
    KVSS_STEP_ABORT,
    KVSS_STEP_ABORT_SNAPSHOTS,
    KVSS_STEP_PRE_RESTORE,
    KVSS_STEP_POST_RESTORE,
    KVSS_STEP_N, /* also: no step */
} KvssStepId;

typedef enum {
    KVSS_RECEIVER_WRITERS,   /* side by side; the step is over when every one has answered */
    KVSS_RECEIVER_PROVIDERS, /* one after the other, in the order of preference */
} KvssReceiver;

/** Which writers come first; those of one KvssApplicationLevel always get it at once. */
typedef enum {
    KVSS_ORDER_AT_ONCE,
    KVSS_ORDER_FRONT_FIRST, /* front end, back end, system */
    KVSS_ORDER_FRONT_LAST,
} KvssOrder;

/** The requester's call that sends it. */
typedef enum {
    KVSS_PHASE_GATHER,
    KVSS_PHASE_PREPARE,
    KVSS_PHASE_SNAPSHOT, /* do_snapshot_set */
    KVSS_PHASE_COMPLETE,
    KVSS_PHASE_END,      /* abort or free */
    KVSS_PHASE_PRE_RESTORE,
    KVSS_PHASE_POST_RESTORE,
    KVSS_PHASE_N
} KvssPhase;

/** "do_snapshot_set", ...: the function's name without its prefix. */
const char *kvss_phase_name(KvssPhase phase);

typedef struct {
    const char *name;      /* "PrepareForSnapshot", "CommitSnapshots", ... */
    KvssReceiver receiver;
    KvssPhase phase;
    int code;              /* KvssEvent, or KvssProviderStep where it is one */
    unsigned limit_ms;     /* for the whole step, all receivers together */
    bool in_window;        /* between Freeze and Thaw: bounded by the window, too */
    bool may_fail;
    bool is_together;      /* one that fails stops its neighbours, and those whose turn comes later get nothing */
    KvssOrder order;       /* of writers */
    KvssStepId undo;       /* what takes it back; KVSS_STEP_N: nothing needs to */
} KvssStep;

/** One row of the table. */
const KvssStep *kvss_step(KvssStepId id);

/** Time limits, in milliseconds; a copy of the table's that may be changed. */
typedef struct {
    unsigned step_ms[KVSS_STEP_N];
    unsigned window_ms; /* Freeze to the end of Thaw */
    unsigned grace_ms;  /* how long one that must stop may take to notice */
} KvssLimits;

/** What the table says: freeze to thaw 60 s, commit 10 s, slow steps 600 s, grace 10 s. */
KvssLimits kvss_limits_default(void);

/**
 * kvss_limits_find:
 * @name: a step's name in small letters with dashes ("prepare-for-snapshot",
 *     "commit-snapshots"), or "window", or "grace"
 *
 * The limit of that name, to be changed; NULL when there is none. The window and what
 * lies in it are bounded by each other: the smaller one counts.
 */
unsigned *kvss_limits_find(KvssLimits *limits, const char *name);

G_END_DECLS
