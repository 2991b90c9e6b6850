/*
 * error.h - how failures are told
 *
 * GError everywhere, one domain per role. The function that finds the trouble
 * says what; each caller that knows more adds where, with g_prefix_error().
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

G_BEGIN_DECLS

/** Trouble with files and descriptors of this host, as the kernel told it. */
typedef enum {
    KVSS_IO_ERROR_FAILED,     /* anything not named below */
    KVSS_IO_ERROR_NOT_FOUND,  /* absent: the caller decides whether that matters */
    KVSS_IO_ERROR_NO_SPACE,   /* ENOSPC, EDQUOT, EFBIG */
    KVSS_IO_ERROR_BUSY,       /* somebody else holds it, or was there first */
    KVSS_IO_ERROR_TIMED_OUT,  /* a time limit of ours passed */
    KVSS_IO_ERROR_CANCELLED,  /* the user or a failed neighbour asked us to stop */
    KVSS_IO_ERROR_CORRUPT,    /* present, but not what it must be */
} KvssIoError;

#define KVSS_IO_ERROR (kvss_io_error_quark())
GQuark kvss_io_error_quark(void);

/**
 * kvss_throw:
 * @error: where to put it, or NULL
 * @format: one phrase with the value that was wrong, no newline, no full stop
 *
 * Sets the error. Returns: false always, so that it can be returned at once.
 */
bool kvss_throw(GError **error, GQuark domain, int code, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/**
 * kvss_throw_errno:
 * @errsv: an errno value
 *
 * Sets a KVSS_IO_ERROR whose code follows from @errsv; the message ends with
 * ": " and the system's text. Returns: false always.
 */
bool kvss_throw_errno(GError **error, int errsv, const char *format, ...) G_GNUC_PRINTF(3, 4);

/**
 * kvss_check_cancelled:
 * @cancellable: (nullable) a GCancellable
 *
 * Returns: true to go on; false with KVSS_IO_ERROR_CANCELLED once cancelled.
 */
struct _GCancellable;
bool kvss_check_cancelled(struct _GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
