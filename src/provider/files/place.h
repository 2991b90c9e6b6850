/*
 * place.h - where clones and copies of files go, and how they get there
 *
 * Private to provider/files. A place is a folder of ours, for root only: in the run's
 * work folder, or hidden beside the source's folder, where the work folder is on
 * another file system. It is in the journal before it is made.
 */
#pragma once

#include "guardian/run.h"

#include <gio/gio.h>

typedef struct {
    char *path;
    int fd;
    KvssActId act; /* 0: goes with the run's work folder */
    unsigned last; /* number of the newest file in it */
    gint is_closed; /* atomic: nothing is made in it any more */
} Place;

/** The one in the work folder. */
Place *place_new_in_run(KvssRun *run, GError **error);

/**
 * place_new_beside:
 *
 * A hidden folder beside @folder (absolute), if files can be cloned there. NULL without
 * an error: they cannot. @number makes its name unique in the run.
 */
Place *place_new_beside(KvssRun *run, const char *folder, unsigned number, GError **error);

/**
 * place_remove:
 *
 * Nothing is made in it from here on, and what is there goes. Threads: any, also while
 * another one makes a file in it: that one file may be left for the next call.
 */
bool place_remove(Place *place, KvssRun *run, GError **error);

/** Frees; what is in it stays. */
void place_free(Place *place);

/** A new empty file in it, open for writing; its path in @out_path. -1 on failure. */
int place_make_file(Place *place, char **out_path, GError **error);

/** Is it on this file system? */
bool place_is_on(const Place *place, dev_t device);

/** True: @target is a clone of @source now. False: this file system, or this pair of them, has no clones. */
bool place_clone(int source, int target);

/**
 * place_copy:
 * @bytes_left: what may still be copied; taken from
 *
 * Copies as much as @source has at the beginning. TIMED_OUT: larger than what may be copied, or too slow.
 */
bool place_copy(int source, int target, uint64_t *bytes_left, gint64 deadline_us,
                GCancellable *cancellable, GError **error) G_GNUC_WARN_UNUSED_RESULT;
