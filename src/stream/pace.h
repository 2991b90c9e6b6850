/*
 * pace.h - how fast a run may read, all its sources together
 *
 * One pace for a run, one wrapper around each source that shall keep it. What a bucket
 * of tokens would hold back at the start is not there: up to any moment no more bytes
 * were read than the rate allows since the pace was made.
 */
#pragma once

#include "stream/source.h"

struct _GCancellable;

typedef struct KvssPace KvssPace;

/**
 * kvss_pace_new:
 * @rate: bytes a second, at least 1
 * @cancellable: (nullable) (borrowed) ends every wait; must outlive the pace
 */
KvssPace *kvss_pace_new(uint64_t rate, struct _GCancellable *cancellable);
/** Accepts NULL. Nobody may be waiting. */
void kvss_pace_free(KvssPace *pace);

/**
 * kvss_pace_wait:
 *
 * Returns when @bytes more may be read. A run that was slower than its rate for a while may
 * catch up on an eighth of a second of it, and no more.
 *
 * Errors: KVSS_IO_ERROR_CANCELLED. Blocks: yes, that is its purpose. Threads: any, in turn.
 */
bool kvss_pace_wait(KvssPace *pace, uint64_t bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_paced_source_new:
 * @source: taken
 * @pace: (nullable) (borrowed) NULL: @source itself comes back
 *
 * The same source, read in small pieces that keep the pace: whoever serves it has few
 * requests at a time and rests in between. Holes and what did not change cost nothing.
 */
KvssSource *kvss_paced_source_new(KvssSource *source, KvssPace *pace);
