/*
 * lock.h - our place among those who work on a repository
 *
 * A lock is a file in locks/ that anybody with the key can read. Who reads or
 * adds takes restic's shared lock: any number of us, and of restic's own
 * backups, but nobody who removes things. Who removes takes the exclusive one,
 * beside which there is nobody. It is written anew every five minutes, since
 * restic takes one that is older than thirty for forgotten, and so do we.
 *
 * What would remain of a killed process is on record on this host: each lock is
 * noted in STATE_DIR/locks before it is written, in a file that is flock()ed
 * while its process lives.
 *
 * Source: restic's design document, "Locks".
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/format/codec.h"

typedef struct KvssLock KvssLock;

/**
 * kvss_lock_take:
 * @is_exclusive: alone, to remove
 *
 * At once or not at all: when somebody is there who may not be beside us, what
 * was written of ours is removed again.
 * Errors: LOCKED, naming who, where and since when.
 */
KvssLock *kvss_lock_take(KvssBackend *backend, KvssCodecPool *codecs, const char *state_dir,
                         bool is_exclusive, GError **error);

/**
 * kvss_lock_check:
 *
 * Is it still ours? A machine that slept for half an hour, or a folder that could
 * not be written for so long, lost its lock, and somebody may have removed what
 * we count on. Errors: LOCKED.
 */
bool kvss_lock_check(KvssLock *lock, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Gives it back. Accepts NULL. */
void kvss_lock_free(KvssLock *lock);

/** What a lock file says. */
typedef struct {
    gint64 time_us;
    bool is_exclusive;
    char *hostname, *username;
    uint64_t pid;
} KvssLockRecord;

void kvss_lock_record_clear(KvssLockRecord *record);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssLockRecord, kvss_lock_record_clear)

/** Errors: CORRUPT. */
bool kvss_lock_record_parse(const void *text, size_t length, KvssLockRecord *out_record,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
