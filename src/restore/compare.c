/*
 * compare.c - where a disk differs from what is stored of it
 *
 * The copy loop with the disk as its source, and a sink that keeps nothing: it hashes what
 * comes, in several threads, and marks what is not the stored chunk.
 */
#include "repository/read/stored-file.h"
#include "restore/compare.h"
#include "stream/sink.h"

/* Larger chunks would make the copy's windows as large. */
#define CHUNK_MAX (16u * 1024 * 1024)

typedef struct {
    KvssSink sink;
    KvssSource *stored;
    bool has_chunks; /* of one length, the sink's block */
    GMutex lock;     /* guards what follows */
    Difference *difference;
} CompareSink;

Difference *
difference_new(uint64_t size)
{
    Difference *difference = g_new0(Difference, 1);

    difference->size = size;
    difference->differs = g_malloc0(size / KVSS_GRAIN_LENGTH / 8 + 1);
    return difference;
}

void
difference_free(Difference *difference)
{
    if (!difference)
        return;
    g_free(difference->differs);
    g_free(difference);
}

static bool
differs(const Difference *difference, uint64_t grain)
{
    return difference->differs[grain / 8] & (1u << grain % 8);
}

bool
difference_next(const Difference *difference, uint64_t from, uint64_t at_most,
                uint64_t *out_offset, uint64_t *out_length)
{
    uint64_t end = (difference->size + KVSS_GRAIN_LENGTH - 1) / KVSS_GRAIN_LENGTH;
    uint64_t grain = (from + KVSS_GRAIN_LENGTH - 1) / KVSS_GRAIN_LENGTH, first;

    while (grain < end && !differs(difference, grain)) {
        /* Most of a disk is right: eight at a time. */
        grain = grain % 8 == 0 && difference->differs[grain / 8] == 0 ? grain + 8 : grain + 1;
    }
    if (grain >= end)
        return false;
    first = grain;
    while (grain < end && differs(difference, grain)
           && (grain + 1 - first) * KVSS_GRAIN_LENGTH <= at_most)
        grain++;
    if (grain == first)
        return false;
    *out_offset = first * KVSS_GRAIN_LENGTH;
    *out_length = MIN(grain * KVSS_GRAIN_LENGTH, difference->size) - *out_offset;
    return true;
}

/* ---- marking ---- */

/* @old: (nullable) NULL: zeroes. */
static void
mark(CompareSink *self, uint64_t offset, const uint8_t *old, uint64_t length)
{
    Difference *difference = self->difference;

    g_mutex_lock(&self->lock);
    difference->differ_bytes += length;
    for (uint64_t at = 0; at < length; at += KVSS_GRAIN_LENGTH) {
        uint64_t n = MIN(KVSS_GRAIN_LENGTH, length - at), grain = (offset + at) / KVSS_GRAIN_LENGTH;
        bool zero = !old || kvss_is_zero(old + at, n);

        difference->differs[grain / 8] |= (uint8_t) (1u << grain % 8);
        *(zero ? &difference->growth_bytes : &difference->data_bytes) += n;
    }
    g_mutex_unlock(&self->lock);
}

/* The disk is zero there: it differs where something else is stored. */
static bool
mark_stored_data(CompareSink *self, uint64_t offset, uint64_t length, GError **error)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));

    if (!kvss_source_extents(self->stored, offset, length, extents, error))
        return false;
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);
        uint64_t from = extent->offset / KVSS_GRAIN_LENGTH * KVSS_GRAIN_LENGTH;
        uint64_t end = extent->offset + extent->length;

        end = (end + KVSS_GRAIN_LENGTH - 1) / KVSS_GRAIN_LENGTH * KVSS_GRAIN_LENGTH;
        if (!extent->zero)
            mark(self, from, NULL, MIN(end, offset + length) - from);
    }
    return true;
}

static bool
compare_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    CompareSink *self = (CompareSink *) sink;
    const uint8_t *old = buffer;

    if (!self->has_chunks)
        mark(self, offset, old, length);
    while (self->has_chunks && length > 0) {
        size_t n = MIN(length, sink->block);

        if (!kvss_stored_file_chunk_is(self->stored, offset / sink->block, old, n))
            mark(self, offset, old, n);
        offset += n;
        old += n;
        length -= n;
    }
    return true;
}

static bool
compare_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    return mark_stored_data((CompareSink *) sink, offset, length, error);
}

static bool
compare_finish(KvssSink *sink, GError **error)
{
    return true;
}

static const KvssSinkOps compare_ops = {
    .write = compare_write,
    .zero = compare_zero,
    .finish = compare_finish,
};

/* Grains must not be of two chunks; a file of one chunk has only one. */
static bool
chunks_fit(const KvssSource *stored, uint32_t length)
{
    return length > 0 && length <= CHUNK_MAX
        && (length % KVSS_GRAIN_LENGTH == 0 || length >= stored->size);
}

bool
difference_find(Difference *difference, KvssSource *old, KvssSource *stored,
                KvssCopyProgress progress, gpointer data, GCancellable *cancellable,
                GError **error)
{
    uint32_t chunk = kvss_stored_file_chunk_length(stored);
    CompareSink self = {
        .sink = { .ops = &compare_ops, .size = stored->size, .is_parallel = true },
        .stored = stored,
        .has_chunks = chunks_fit(stored, chunk),
        .difference = difference,
    };
    bool ok;

    self.sink.block = self.has_chunks ? MAX(chunk, 512u) : KVSS_GRAIN_LENGTH;
    g_mutex_init(&self.lock);
    ok = kvss_copy(old, &self.sink, progress, data, cancellable, NULL, error);
    g_mutex_clear(&self.lock);
    return ok;
}
