/*
 * lock-note.h - this host's record of the locks it has in repositories
 *
 *   STATE_DIR/locks/NAME:   the repository's location, then one lock's name a line
 *
 * The file is flock()ed while the process that owns it lives: when it can be
 * locked, its owner is gone, whatever pid numbers and clocks say. Making a note
 * and looking through them are kept apart by a lock on STATE_DIR/locks/.guard.
 * Locks in folders are removed by whoever comes by; those behind a server need
 * credentials, and wait for the next who opens that repository, or for doctor.
 */
#pragma once

#include "repository/backend/backend.h"

typedef struct KvssLockNote KvssLockNote;

/** @location: the backend's: an absolute folder, or a URL without credentials. Makes @state_dir when it is absent. */
KvssLockNote *kvss_lock_note_new(const char *state_dir, const char *location, GError **error);

/** Puts @name on record, durable, before that lock is written. */
bool kvss_lock_note_add(KvssLockNote *note, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Removes the note: all of its locks are gone. Accepts NULL. */
void kvss_lock_note_free(KvssLockNote *note);

/** Like free, but leaves the note: a lock could not be removed, and the next run shall try. */
void kvss_lock_note_abandon(KvssLockNote *note);

/** Removes what dead processes left in the repository that is open as @backend, if it is behind a server. What fails stays noted. */
bool kvss_lock_notes_drop_at(const char *state_dir, KvssBackend *backend, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
