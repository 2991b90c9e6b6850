/*
 * walk.h - which files a file set means, right now
 *
 * For provider/files and for the restore. Folders are gone by descriptor, and no symbolic link is
 * followed: what is found is below the folder that was declared. Other file systems
 * that are mounted below it belong to it.
 */
#pragma once

#include "vss/component.h"

#include <gio/gio.h>
#include <sys/stat.h>

typedef struct Walk Walk;

/** @folder holds @name; @path is absolute. False ends the walk. */
typedef bool (*WalkFound)(Walk *walk, int folder, const char *name, const char *path,
                          const struct stat *st, GError **error);

/** A folder of Walk.ours below the one declared. False ends the walk; true leaves it out. */
typedef bool (*WalkOurs)(Walk *walk, const char *path, const char *what, GError **error);

struct Walk {
    KvssComponent *component;  /* gets notes of what was left out; NULL: nobody is told */
    const KvssFileSet *files;
    GCancellable *cancellable; /* (nullable) */
    gint64 deadline_us;        /* monotonic; 0: none */
    unsigned *entries_left;    /* shared by the walks of a set; counts whatever is met */
    GHashTable *skip;          /* (nullable) "DEVICE:INODE" of folders of ours: passed over in silence */
    GHashTable *ours;          /* (nullable) the same -> char*: what kvss keeps there, "the state folder of kvss" */
    WalkOurs met_ours;         /* (nullable) NULL: such a folder is left out, with a note */
    WalkFound found;
    gpointer data;
    unsigned n_notes;
};

/**
 * Goes through the whole set; files that a restore has kept are none of it.
 * Errors: KVSS_IO_ERROR; TIMED_OUT at the deadline.
 */
bool walk_run(Walk *walk, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A key of the skip table. */
char *walk_folder_key(const struct stat *st);
