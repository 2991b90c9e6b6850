/*
 * program.h - an executable that the host's administrator has put there for us
 *
 * It gets one word, an event's name, as its argument, one JSON document on
 * standard input, and nothing else of ours: an environment of four variables,
 * "/" as its folder, a session of its own, no descriptor beside the three. What it
 * says is bounded. It is run as the user that kvss is, so a file that somebody else could
 * have written is not run.
 *
 * Source: docs/writers.md.
 */
#pragma once

#include "host/error.h"

#include <gio/gio.h>

/** The most it may print, bytes. */
#define KVSS_PROGRAM_OUTPUT_MAX (1024u * 1024)
/** The most of its last line on standard error that is told, bytes. */
#define KVSS_PROGRAM_WORDS_MAX 1000u
/** From SIGTERM to SIGKILL. */
#define KVSS_PROGRAM_GRACE_MS 2000u
/** For the calls that undo: nobody else ends them. */
#define KVSS_PROGRAM_UNDO_LIMIT_MS 30000u

/**
 * kvss_program_check:
 * @path: absolute
 *
 * May it be run? A regular file, no link, executable, of root or of our own user, and
 * writable by nobody but its owner; the same of the folder it lies in.
 *
 * Errors: KVSS_IO_ERROR_NOT_FOUND; KVSS_HOST_ERROR_INVALID with what is wrong.
 */
bool kvss_program_check(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** How it ended, and what it said. */
typedef struct {
    int status;     /* exit code; -1: a signal ended it */
    int signal;     /* 0: none */
    GBytes *output; /* standard output; may be empty */
    char *words;    /* the last line of standard error, harmless to print; "" if none */
} KvssProgramEnd;

void kvss_program_end_clear(KvssProgramEnd *end);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssProgramEnd, kvss_program_end_clear)

/**
 * kvss_program_call:
 * @event: its argument: "freeze"
 * @set_id: (nullable) for its environment
 * @input: the document
 * @limit_ms: it is killed when it takes longer; 0: as long as @cancellable lets it
 * @cancellable: (nullable) kills it
 *
 * Checks it, runs it to its end, and ends what it has left in its process group:
 * what must outlive the call makes itself a session of its own. It is killed with
 * SIGTERM to the whole group, and SIGKILL after a grace; also when this thread dies.
 * True: it ended by itself or by a signal of others, see @out_end.
 *
 * The process must not ignore SIGCHLD, nor wait for all its children elsewhere: how
 * the program ended could not be seen, and that is an error.
 *
 * Errors: those of kvss_program_check(); KVSS_HOST_ERROR_FAILED (cannot be run, end unseen),
 * INVALID (said too much), TIMED_OUT; KVSS_IO_ERROR_CANCELLED.
 * Blocks: until it has ended. Threads: any.
 */
bool kvss_program_call(const char *path, const char *event, const char *set_id, GBytes *input,
                       unsigned limit_ms, GCancellable *cancellable, KvssProgramEnd *out_end,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** "ended with status 3: no room", "ended by signal 9 (Killed)". Free with g_free. */
char *kvss_program_end_describe(const KvssProgramEnd *end);
