/*
 * recovery.h - what dead runs left behind, found and undone
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

/** Enough for anything but a guest that does not answer. */
#define KVSS_RECOVERY_WAIT_S 120
/** For commands that only look: the usual case, and no patience for the rest. */
#define KVSS_RECOVERY_WAIT_SHORT_S 15

typedef struct {
    GPtrArray *found;   /* char*: one phrase a thing */
    GPtrArray *undone;  /* char* */
    GPtrArray *left;    /* char*: could not be undone: needs a person; the phrase says what to do */
    unsigned alive;     /* runs that are alive: nothing of them was touched */
} KvssRecoveryReport;

void kvss_recovery_report_clear(KvssRecoveryReport *report);

/**
 * kvss_recovery_run:
 * @state_dir: where journals lie; absent means nothing to do
 * @dry_run: look only
 * @wait_s: how long to wait for a guardian that is cleaning up after a dead run
 *
 * For every journal whose lock is free: undoes its open acts, removes it. A run
 * whose lock is held is alive, or its guardian is at work: one that does not get done
 * within @wait_s (0: none is waited for, all count as alive) is among what is left.
 * Errors: could not look. What could not be undone is in the report, not an error.
 */
bool kvss_recovery_run(const char *state_dir, bool dry_run, unsigned wait_s,
                       KvssRecoveryReport *out_report, GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
