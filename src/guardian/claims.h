/*
 * claims.h - what a run uses, no other run may use
 *
 * A claim is a line in the journal of the run. It holds for as long as the journal
 * is held: by the run, or by its guardian that cleans up after it. So there is
 * nothing to be taken back, and a dead run claims nothing.
 */
#pragma once

#include "guardian/journal.h"

/**
 * kvss_claims_add:
 * @journal: of this run; those beside it in its folder are the other runs'
 *
 * Errors: KVSS_IO_ERROR_BUSY, naming the run that has it; could not look.
 * Threads: any; runs exclude each other meanwhile.
 */
bool kvss_claims_add(KvssJournal *journal, const char *id, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
