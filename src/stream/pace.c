/*
 * pace.c - how fast a run may read, all its sources together
 *
 * A reader waits for the time that its bytes take at the rate, and reads then. Who comes
 * next waits behind it, in whichever thread.
 */
#include "stream/pace.h"
#include "base/fd.h"

#include <gio/gio.h>

/* What a slow moment may be caught up on, and what is read at once: parts of a second. */
#define CREDIT_US (G_USEC_PER_SEC / 8)
#define PIECES_PER_SECOND 16
/* A request to QEMU's server at most; less would cost more than it rests. */
#define PIECE_MAX (256u * 1024)
#define PIECE_MIN (64u * 1024)
/* How soon a wait notices that it was cancelled. */
#define NAP_MAX_US (50 * 1000)

struct KvssPace {
    uint64_t rate; /* bytes a second */
    GCancellable *cancellable;

    GMutex lock;    /* guards what follows */
    gint64 free_us; /* monotonic: until then the rate is used up */
    uint64_t rest;  /* of a division: microseconds times the rate, less than one microsecond */
};

KvssPace *
kvss_pace_new(uint64_t rate, GCancellable *cancellable)
{
    KvssPace *pace = g_new0(KvssPace, 1);

    g_assert(rate > 0);
    pace->rate = rate;
    pace->cancellable = cancellable;
    pace->free_us = g_get_monotonic_time();
    g_mutex_init(&pace->lock);
    return pace;
}

void
kvss_pace_free(KvssPace *pace)
{
    if (!pace)
        return;
    g_mutex_clear(&pace->lock);
    g_free(pace);
}

/* When @bytes more have had their time. */
static gint64
take_turn(KvssPace *pace, uint64_t bytes)
{
    gint64 until_us, earliest_us = g_get_monotonic_time() - CREDIT_US;
    uint64_t cost;

    g_mutex_lock(&pace->lock);
    if (pace->free_us < earliest_us)
        pace->free_us = earliest_us;
    cost = bytes * G_USEC_PER_SEC + pace->rest;
    pace->rest = cost % pace->rate;
    pace->free_us += (gint64) (cost / pace->rate);
    until_us = pace->free_us;
    g_mutex_unlock(&pace->lock);
    return until_us;
}

bool
kvss_pace_wait(KvssPace *pace, uint64_t bytes, GError **error)
{
    gint64 until_us, left_us;

    g_assert(bytes <= G_MAXUINT64 / (2 * G_USEC_PER_SEC));
    until_us = take_turn(pace, bytes);
    for (;;) {
        if (!kvss_check_cancelled(pace->cancellable, error))
            return false;
        left_us = until_us - g_get_monotonic_time();
        if (left_us <= 0)
            return true;
        g_usleep((gulong) MIN(left_us, NAP_MAX_US));
    }
}

/* ---- a source that keeps it ---- */

typedef struct {
    KvssSource source;
    KvssSource *inner;
    KvssPace *pace;
    uint32_t piece;
} PacedSource;

static bool
paced_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
              GError **error)
{
    PacedSource *self = (PacedSource *) source;
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));

    if (!kvss_source_extents(self->inner, offset, length, extents, error))
        return false;
    g_array_append_vals(out_extents, extents->data, extents->len);
    return true;
}

static bool
paced_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    PacedSource *self = (PacedSource *) source;
    uint8_t *to = buffer;

    while (length > 0) {
        size_t n = MIN(length, self->piece);

        if (!kvss_pace_wait(self->pace, n, error)
            || !kvss_source_read(self->inner, offset, to, n, error))
            return false;
        to += n;
        offset += n;
        length -= n;
    }
    return true;
}

static void
paced_free(KvssSource *source)
{
    kvss_source_free(((PacedSource *) source)->inner);
    g_free(source);
}

static const KvssSourceOps paced_ops = {
    .extents = paced_extents,
    .read = paced_read,
    .free = paced_free,
};

KvssSource *
kvss_paced_source_new(KvssSource *source, KvssPace *pace)
{
    PacedSource *self;

    if (!source || !pace)
        return source;
    self = g_new0(PacedSource, 1);
    self->source = *source;
    self->source.ops = &paced_ops;
    self->inner = source;
    self->pace = pace;
    self->piece = (uint32_t) CLAMP(pace->rate / PIECES_PER_SECOND, PIECE_MIN, PIECE_MAX);
    return &self->source;
}
