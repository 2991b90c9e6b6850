/*
 * copy.h - the one loop that moves a disk, for backup and for restore
 *
 *   source ──(serial or parallel)──▶ window of memory ──(parallel)──▶ sink
 *
 * A few threads each take the next window, read it and write it. A source that
 * is not parallel is read by one thread at a time while the others write, so
 * that reading, hashing and compressing overlap without a queue.
 * Memory: threads x window, whatever the size of the disk. A window is 4 MiB, or one block.
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

struct KvssSource;
struct KvssSink;
struct _GCancellable;

typedef struct {
    uint64_t bytes_read;  /* read from the source: data, not holes */
    uint64_t bytes_zero;  /* known to be zeroes, not read */
    uint64_t bytes_kept;  /* known to be as in the base, not read */
} KvssCopyStats;

/** Called now and then from the copying threads, one at a time. @done: bytes of the disk behind us. */
typedef void (*KvssCopyProgress)(uint64_t done, uint64_t size, gpointer data);

/**
 * kvss_copy:
 * @source, @sink: (borrowed) of the same size
 * @progress: (nullable)
 * @cancellable: (nullable) ends the copy with KVSS_IO_ERROR_CANCELLED
 * @out_stats: (optional)
 *
 * Copies everything and finishes the sink. Ranges that the source reports as
 * zero are not read; they reach the sink as zero() in whole blocks. So do ranges
 * that are unchanged, as keep(), as far as the sink has a base; but the last block of them that
 * holds data is read all the same, since a source that shrank and grew calls it unchanged.
 * After a failure the sink was not finished. The first error of any thread wins.
 *
 * Errors: the source's, with "read: "; the sink's, with "write: ".
 * Blocks: until done. Threads: makes its own, up to one more than there are cores.
 */
bool kvss_copy(struct KvssSource *source, struct KvssSink *sink, KvssCopyProgress progress,
               gpointer progress_data, struct _GCancellable *cancellable,
               KvssCopyStats *out_stats, GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
