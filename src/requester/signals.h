/*
 * signals.h - Ctrl-C and its kin
 */
#pragma once

#include <gio/gio.h>

/**
 * kvss_signals_cancel:
 * @cancellable: kept for the life of the process
 *
 * The first SIGINT, SIGTERM or SIGHUP of a terminal that is gone triggers @cancellable: the run
 * aborts and everything is put back. A SIGHUP that a process sent is passed over: restic asks so
 * whether a lock's holder lives. The second ends the process at once with code 130; the
 * guardian puts back what is open then. SIGPIPE is ignored from here on. Once.
 */
void kvss_signals_cancel(GCancellable *cancellable);

/** What is said then, in place of that everything is put back. @what lives as long as the process. */
void kvss_signals_say(const char *what);
