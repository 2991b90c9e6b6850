/*
 * process.h - other people's programs, run without a shell
 *
 * Programs get their arguments as they are, /dev/null as input, LC_ALL=C and a
 * session of their own (an interrupt from the terminal is for us to handle, not
 * for them). What they say is bounded; an error ends with their last line.
 */
#pragma once

#include "host/error.h"

#include <gio/gio.h>
#include <sys/types.h>

/** The most that is kept of what a program says, bytes a stream. */
#define KVSS_PROCESS_OUTPUT_MAX (4u * 1024 * 1024)

/**
 * kvss_process_run:
 * @argv: NULL-terminated; argv[0] is looked up in PATH
 * @limit_ms: the program is killed when it takes longer
 * @cancellable: (nullable) kills it too
 * @out_stdout: (optional) what it printed, NUL-terminated; free with g_free
 *
 * Runs a program to its end. True: it ended with status 0.
 *
 * Errors: UNSUPPORTED (not installed), FAILED (another status, a signal),
 * INVALID (said more than KVSS_PROCESS_OUTPUT_MAX), TIMED_OUT;
 * KVSS_IO_ERROR_CANCELLED. Blocks: until it ended. Threads: any.
 */
bool kvss_process_run(const char *const *argv, unsigned limit_ms, GCancellable *cancellable,
                      char **out_stdout, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A program that goes on while we do: a server. */
typedef struct KvssProcess KvssProcess;

/** One of its environment, beside those it inherits. */
typedef struct {
    const char *name, *value;
} KvssProcessVariable;

/** @variables: (nullable) borrowed; ends with a name of NULL. */
KvssProcess *kvss_process_start(const char *const *argv, const KvssProcessVariable *variables,
                                GError **error);

typedef struct {
    const char *const *argv;
    const KvssProcessVariable *variables; /* (nullable) as above; a value of NULL takes one away */
    int listening;    /* its file 3: a listening socket, told as systemd tells it (LISTEN_FDS) */
    const int *files; /* open files that become its 4, 5, ... */
    size_t n_files;
    bool ends_politely; /* when we die it is asked to end, and not killed: it has something to put away */
} KvssProcessSetup;

/** The same for a server that gets its socket and other open files from us; they stay ours, too. */
KvssProcess *kvss_process_start_server(const KvssProcessSetup *setup, GError **error);

/** Readable when the program says something on standard error: then hear it. Borrowed. */
int kvss_process_error_fd(const KvssProcess *process);

/**
 * kvss_process_hear:
 *
 * Takes what the program has said meanwhile: one that lives long and is never heard would
 * stand still some day. Only the end is kept. Does not block. False: it has closed its output.
 */
bool kvss_process_hear(KvssProcess *process);

/** Names the process beyond the reuse of its number: with its start, in clock ticks since boot. */
pid_t kvss_process_pid(const KvssProcess *process);
uint64_t kvss_process_start_time(const KvssProcess *process);

/** True once it has ended; it is reaped then. Does not block. */
bool kvss_process_has_ended(KvssProcess *process);

/** Waits at most @limit_ms for its end. */
bool kvss_process_wait(KvssProcess *process, unsigned limit_ms);

/** True if it ended with status 0. */
bool kvss_process_succeeded(KvssProcess *process);

/** The last line it wrote to standard error, "" if none. Once it has ended. Borrowed. */
const char *kvss_process_last_words(KvssProcess *process);

/** Ends it: SIGTERM, SIGKILL after @grace_ms. Several times does no harm. */
void kvss_process_stop(KvssProcess *process, unsigned grace_ms);

/** Stops at once if it still runs, and frees. Accepts NULL. */
void kvss_process_free(KvssProcess *process);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssProcess, kvss_process_free)

/** Start time of any process, clock ticks since boot (/proc/PID/stat field 22); 0: no such process. */
uint64_t kvss_process_start_time_of(pid_t pid);
