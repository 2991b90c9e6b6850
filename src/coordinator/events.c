/*
 * events.c - the order of events as one table
 *
 * The numbers: a writer may be frozen for 60 s and writes may be held for 10 s
 * by VSS's documentation. No figure is published for the slow steps; 600 s is
 * ours, since a guest's memory may have to be written out in PrepareForSnapshot.
 * Where VSS leaves a provider call to "one or two seconds" inside the window, it
 * gets the 10 s after which VSS itself would give up.
 *
 * After PostSnapshot there is no Abort: BackupShutdown cleans up.
 */
#include "coordinator/events.h"

#include "provider/provider.h"
#include "vss/vss.h"

#include <glib.h>

#define SLOW 600000
#define WINDOW 60000
#define HOLD 10000
#define GRACE 10000

#define NOTHING KVSS_STEP_N

#define TO_WRITERS(phase, event) KVSS_RECEIVER_WRITERS, KVSS_PHASE_##phase, KVSS_EVENT_##event
#define TO_PROVIDERS(phase, step) \
    KVSS_RECEIVER_PROVIDERS, KVSS_PHASE_##phase, KVSS_PROVIDER_STEP_##step
#define AT_ONCE KVSS_ORDER_AT_ONCE
#define FRONT_FIRST KVSS_ORDER_FRONT_FIRST
#define FRONT_LAST KVSS_ORDER_FRONT_LAST
/* Not steps forward: the wrapper has a function for each. */
#define TO_PROVIDERS_END(phase) KVSS_RECEIVER_PROVIDERS, KVSS_PHASE_##phase, -1

/* clang-format off */
static const KvssStep steps[KVSS_STEP_N] = {
                                                                                                              /* limit   window fails  together order undo */
    [KVSS_STEP_IDENTIFY]             = { "Identify",                 TO_WRITERS(GATHER, IDENTIFY),               SLOW,   false, true,  false, AT_ONCE,     NOTHING },
    [KVSS_STEP_BEGIN_PREPARE]        = { "BeginPrepareSnapshot",     TO_PROVIDERS(PREPARE, BEGIN_PREPARE),       SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_PREPARE_FOR_BACKUP]   = { "PrepareForBackup",         TO_WRITERS(PREPARE, PREPARE_FOR_BACKUP),    SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT },
    [KVSS_STEP_PREPARE_FOR_SNAPSHOT] = { "PrepareForSnapshot",       TO_WRITERS(SNAPSHOT, PREPARE_FOR_SNAPSHOT), SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT },
    [KVSS_STEP_END_PREPARE]          = { "EndPrepareSnapshots",      TO_PROVIDERS(SNAPSHOT, END_PREPARE),        SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_FREEZE]               = { "Freeze",                   TO_WRITERS(SNAPSHOT, FREEZE),               WINDOW, true,  true,  true, FRONT_FIRST, KVSS_STEP_ABORT },
    [KVSS_STEP_PRE_COMMIT]           = { "PreCommitSnapshots",       TO_PROVIDERS(SNAPSHOT, PRE_COMMIT),         HOLD,   true,  true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_COMMIT]               = { "CommitSnapshots",          TO_PROVIDERS(SNAPSHOT, COMMIT),             HOLD,   true,  true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_POST_COMMIT]          = { "PostCommitSnapshots",      TO_PROVIDERS(SNAPSHOT, POST_COMMIT),        HOLD,   true,  true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_THAW]                 = { "Thaw",                     TO_WRITERS(SNAPSHOT, THAW),                 WINDOW, true,  true,  false, FRONT_LAST,  KVSS_STEP_ABORT },
    [KVSS_STEP_PRE_FINAL_COMMIT]     = { "PreFinalCommitSnapshots",  TO_PROVIDERS(SNAPSHOT, PRE_FINAL_COMMIT),   SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_POST_SNAPSHOT]        = { "PostSnapshot",             TO_WRITERS(SNAPSHOT, POST_SNAPSHOT),        SLOW,   false, true,  false, AT_ONCE,     KVSS_STEP_BACKUP_SHUTDOWN },
    [KVSS_STEP_POST_FINAL_COMMIT]    = { "PostFinalCommitSnapshots", TO_PROVIDERS(SNAPSHOT, POST_FINAL_COMMIT),  SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_ABORT_SNAPSHOTS },
    [KVSS_STEP_BACKUP_COMPLETE]      = { "BackupComplete",           TO_WRITERS(COMPLETE, BACKUP_COMPLETE),      SLOW,   false, true,  false, AT_ONCE,     KVSS_STEP_BACKUP_SHUTDOWN },
    [KVSS_STEP_DELETE_SNAPSHOTS]     = { "DeleteSnapshots",          TO_PROVIDERS_END(COMPLETE),                 SLOW,   false, false, false, AT_ONCE,     NOTHING },
    [KVSS_STEP_BACKUP_SHUTDOWN]      = { "BackupShutdown",           TO_WRITERS(END, BACKUP_SHUTDOWN),           SLOW,   false, false, false, AT_ONCE,     NOTHING },
    [KVSS_STEP_ABORT]                = { "Abort",                    TO_WRITERS(END, ABORT),                     SLOW,   false, false, false, AT_ONCE,     NOTHING },
    [KVSS_STEP_ABORT_SNAPSHOTS]      = { "AbortSnapshots",           TO_PROVIDERS_END(END),                      SLOW,   false, false, false, AT_ONCE,     NOTHING },
    [KVSS_STEP_PRE_RESTORE]          = { "PreRestore",               TO_WRITERS(PRE_RESTORE, PRE_RESTORE),       SLOW,   false, true,  true, AT_ONCE,     KVSS_STEP_POST_RESTORE },
    [KVSS_STEP_POST_RESTORE]         = { "PostRestore",              TO_WRITERS(POST_RESTORE, POST_RESTORE),     SLOW,   false, true,  false, AT_ONCE,     NOTHING },
};
/* clang-format on */

static const char *const phase_names[KVSS_PHASE_N] = {
    [KVSS_PHASE_GATHER] = "gather",
    [KVSS_PHASE_PREPARE] = "prepare_for_backup",
    [KVSS_PHASE_SNAPSHOT] = "do_snapshot_set",
    [KVSS_PHASE_COMPLETE] = "backup_complete",
    [KVSS_PHASE_END] = "abort, free",
    [KVSS_PHASE_PRE_RESTORE] = "pre_restore",
    [KVSS_PHASE_POST_RESTORE] = "post_restore",
};

const char *
kvss_phase_name(KvssPhase phase)
{
    g_assert((unsigned) phase < KVSS_PHASE_N);
    return phase_names[phase];
}

const KvssStep *
kvss_step(KvssStepId id)
{
    g_assert((unsigned) id < KVSS_STEP_N);
    return &steps[id];
}

KvssLimits
kvss_limits_default(void)
{
    KvssLimits limits = { .window_ms = WINDOW, .grace_ms = GRACE };

    for (int i = 0; i < KVSS_STEP_N; i++)
        limits.step_ms[i] = steps[i].limit_ms;
    return limits;
}

/* "PrepareForSnapshot" is called "prepare-for-snapshot"? */
static bool
is_called(const KvssStep *step, const char *name)
{
    for (const char *c = step->name; *c; c++) {
        if (g_ascii_isupper(*c) && c > step->name && *name++ != '-')
            return false;
        if (*name++ != g_ascii_tolower(*c))
            return false;
    }
    return *name == '\0';
}

unsigned *
kvss_limits_find(KvssLimits *limits, const char *name)
{
    if (g_str_equal(name, "window"))
        return &limits->window_ms;
    if (g_str_equal(name, "grace"))
        return &limits->grace_ms;
    for (int i = 0; i < KVSS_STEP_N; i++)
        if (is_called(&steps[i], name))
            return &limits->step_ms[i];
    return NULL;
}
