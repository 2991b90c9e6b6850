/*
 * undo-log.h - what a disk held before it was written over in place
 *
 *   header | record | record | … sync …| record | … sync …|
 *
 * The way back of a disk that is not set aside. Old content is added, then synced,
 * and only then written over. A record that was not synced is torn at worst, and what
 * it holds was not written over. Each carries its checksum and how much of the log was
 * synced before it, which tells a torn tail from damage in the middle. Runs of zeroes
 * have no payload. Records are marked with the run's id, which no guest knows: old
 * content cannot pass for a record.
 */
#pragma once

#include "base/error.h"

struct KvssSink;

/** A record carries no more than this: longer runs are several. */
#define KVSS_UNDO_LOG_RECORD_MAX (4u * 1024 * 1024)

typedef struct KvssUndoLog KvssUndoLog;

/**
 * kvss_undo_log_create:
 * @run_id: of the run, a GUID
 * @disk_size: guest-visible bytes
 *
 * Makes the file, exclusive, mode 0600; it and its name are on disk when this returns.
 * Errors: KVSS_IO_ERROR (BUSY: there is one already).
 */
KvssUndoLog *kvss_undo_log_create(const char *path, const char *run_id, uint64_t disk_size,
                                  GError **error);

/** The disk held @length bytes of @old at @offset; NULL: zeroes. Not safe before sync(). */
bool kvss_undo_log_add(KvssUndoLog *log, uint64_t offset, const void *old, uint64_t length,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** What was added is on disk: it may be written over. A failure is final. */
bool kvss_undo_log_sync(KvssUndoLog *log, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Bytes of the file so far. */
uint64_t kvss_undo_log_length(const KvssUndoLog *log);

/** Closes; the file stays. Accepts NULL. */
void kvss_undo_log_free(KvssUndoLog *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssUndoLog, kvss_undo_log_free)

/**
 * kvss_undo_log_bytes:
 *
 * How long a log for so much becomes at most: @data bytes of old content in @records
 * runs. For a look at the room beforehand.
 */
uint64_t kvss_undo_log_bytes(uint64_t data, uint64_t records);

/**
 * kvss_undo_log_replay:
 * @sink: the disk; of the size that the log was made for
 *
 * Writes everything back; does not finish the sink. May be done any number of times. A
 * torn tail is passed over; damage in the middle is KVSS_IO_ERROR_CORRUPT, after all
 * that is whole was written back. Errors: NOT_FOUND (no such log), KVSS_IO_ERROR, the sink's.
 */
bool kvss_undo_log_replay(const char *path, const char *run_id, struct KvssSink *sink,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
