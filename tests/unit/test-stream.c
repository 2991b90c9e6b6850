/*
 * test-stream.c - the copy loop over sources and sinks that are serial, parallel, sparse or broken
 */
#include "stream/copy.h"
#include "stream/pace.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define MIB (1u << 20)

/** A source over memory with holes, that can fail. */
typedef struct {
    KvssSource source;
    const uint8_t *data;
    GArray *holes;         /* KvssExtent: zeroes, or unchanged */
    uint64_t fail_at;      /* reads that touch this byte fail */
    gint in_read;          /* threads inside read() */
    gint was_parallel;
    uint64_t bytes_read;
    GMutex lock;
} FakeSource;

static bool
fake_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out, GError **error)
{
    FakeSource *self = (FakeSource *) source;
    KvssExtent extent = { offset, length, false };

    for (guint i = 0; i < self->holes->len; i++) {
        const KvssExtent *hole = &g_array_index(self->holes, KvssExtent, i);

        if (offset >= hole->offset && offset < hole->offset + hole->length) {
            extent.zero = hole->zero;
            extent.unchanged = hole->unchanged;
            extent.length = MIN(length, hole->offset + hole->length - offset);
        } else if (offset < hole->offset && !extent.zero && !extent.unchanged) {
            extent.length = MIN(extent.length, hole->offset - offset);
        }
    }
    g_array_append_val(out, extent); /* one at a time: the wrapper asks on */
    return true;
}

static bool
fake_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    FakeSource *self = (FakeSource *) source;

    if (g_atomic_int_add(&self->in_read, 1) > 0)
        g_atomic_int_set(&self->was_parallel, 1);
    memcpy(buffer, self->data + offset, length);
    g_usleep(200);
    g_atomic_int_add(&self->in_read, -1);
    g_mutex_lock(&self->lock);
    self->bytes_read += length;
    g_mutex_unlock(&self->lock);
    if (self->fail_at >= offset && self->fail_at < offset + length)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "the fake fails");
    return true;
}

static void
fake_free(KvssSource *source)
{
}

static const KvssSourceOps fake_source_ops = { fake_extents, fake_read, fake_free };

/** A sink into memory, that can fail. */
typedef struct {
    KvssSink sink;
    uint8_t *data;
    uint64_t fail_at;
    gint in_write;
    gint was_parallel;
    bool is_finished;
    uint64_t bytes_zeroed, bytes_kept;
    const uint8_t *base;   /* (nullable) what can be kept */
    GMutex lock;
} FakeSink;

static bool
fake_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    FakeSink *self = (FakeSink *) sink;

    if (g_atomic_int_add(&self->in_write, 1) > 0)
        g_atomic_int_set(&self->was_parallel, 1);
    memcpy(self->data + offset, buffer, length);
    g_atomic_int_add(&self->in_write, -1);
    if (self->fail_at >= offset && self->fail_at < offset + length)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "the fake is full");
    return true;
}

static bool
fake_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    FakeSink *self = (FakeSink *) sink;

    memset(self->data + offset, 0, length);
    g_mutex_lock(&self->lock);
    self->bytes_zeroed += length;
    g_mutex_unlock(&self->lock);
    return true;
}

static bool
fake_forget(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    return true;
}

static bool
fake_forget_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    return true;
}

static bool
fake_finish(KvssSink *sink, GError **error)
{
    ((FakeSink *) sink)->is_finished = true;
    return true;
}

static bool
fake_keep(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    FakeSink *self = (FakeSink *) sink;

    memcpy(self->data + offset, self->base + offset, length);
    g_mutex_lock(&self->lock);
    self->bytes_kept += length;
    g_mutex_unlock(&self->lock);
    return true;
}

static const KvssSinkOps fake_no_sink_ops = { fake_forget, fake_forget_zero, fake_finish, NULL, NULL };
static const KvssSinkOps fake_sink_ops = { fake_write, fake_zero, fake_finish, NULL, fake_keep };

typedef struct {
    FakeSource source;
    FakeSink sink;
    uint8_t *data;
} Pair;

/* The data is noise with zeroes where @holes are; the sink begins with other bytes everywhere. */
static Pair *
pair_new(uint64_t size, uint32_t block, const KvssExtent *holes, guint n_holes)
{
    Pair *pair = g_new0(Pair, 1);

    pair->data = g_malloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        pair->data[i] = (uint8_t) (i * 31 + i / 4096 + 1);
    pair->source = (FakeSource) { .source = { &fake_source_ops, size, true }, .data = pair->data,
                                  .holes = g_array_new(FALSE, FALSE, sizeof(KvssExtent)),
                                  .fail_at = G_MAXUINT64 };
    pair->sink = (FakeSink) { .sink = { &fake_sink_ops, size, block, true },
                              .data = g_malloc(size + 1), .fail_at = G_MAXUINT64 };
    memset(pair->sink.data, 0xee, size);
    if (n_holes > 0)
        g_array_append_vals(pair->source.holes, holes, n_holes);
    for (guint i = 0; i < n_holes; i++)
        if (holes[i].zero)
            memset(pair->data + holes[i].offset, 0, holes[i].length);
    return pair;
}

static void
pair_free(Pair *pair)
{
    g_array_unref(pair->source.holes);
    g_free(pair->data);
    g_free(pair->sink.data);
    g_free(pair);
}

static void
assert_copied(Pair *pair)
{
    uint64_t size = pair->source.source.size;
    KvssCopyStats stats = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_copy(&pair->source.source, &pair->sink.sink, NULL, NULL, NULL, &stats,
                            &error));
    g_assert_true(pair->sink.is_finished);
    g_assert_cmpmem(pair->sink.data, size, pair->data, size);
    g_assert_cmpuint(stats.bytes_read + stats.bytes_zero + stats.bytes_kept, ==, size);
    /* One block of them is read all the same. */
    g_assert_cmpuint(stats.bytes_kept, <=, pair->sink.bytes_kept);
    g_assert_cmpuint(stats.bytes_kept + pair->sink.sink.block, >=, pair->sink.bytes_kept);
    g_assert_cmpuint(stats.bytes_read, ==, pair->source.bytes_read);
}

/* Sizes around windows and blocks, dense and with holes that begin and end anywhere. */
static void
test_copy(void)
{
    static const uint64_t sizes[] = { 0, 1, 511, 512, 65536, 65537, 4 * MIB, 4 * MIB + 1,
                                      9 * MIB + 77 };
    static const uint32_t blocks[] = { 512, 65536, 8 * MIB };
    static const KvssExtent holes[] = { { 1000, 3 * MIB, true }, { 5 * MIB + 1, 3, true },
                                        { 6 * MIB, 3 * MIB + 77, true } };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (size_t b = 0; b < G_N_ELEMENTS(blocks); b++) {
            bool has_holes = sizes[i] == 9 * MIB + 77;
            Pair *dense = pair_new(sizes[i], blocks[b], NULL, 0);
            Pair *sparse = pair_new(sizes[i], blocks[b], holes, has_holes ? 3 : 0);

            assert_copied(dense);
            assert_copied(sparse);
            if (has_holes && blocks[b] < MIB)
                g_assert_cmpuint(sparse->sink.bytes_zeroed, >, 5 * MIB);
            pair_free(dense);
            pair_free(sparse);
        }
    }
}

/* A serial source is read by one thread at a time, a serial sink written by one. */
static void
test_serial(void)
{
    Pair *pair = pair_new(40 * MIB, 65536, NULL, 0);

    pair->source.source.is_parallel = false;
    pair->sink.sink.is_parallel = false;
    assert_copied(pair);
    g_assert_false(pair->source.was_parallel);
    g_assert_false(pair->sink.was_parallel);
    pair_free(pair);
}

/* All of it a hole: nothing is read, however large. */
static void
test_all_hole(void)
{
    const KvssExtent hole = { 0, 30 * MIB, true };
    Pair *pair = pair_new(30 * MIB, 65536, &hole, 1);

    assert_copied(pair);
    g_assert_cmpuint(pair->source.bytes_read, ==, 0);
    pair_free(pair);
}

/* The base is what the disk was: the same where it is unchanged, other bytes elsewhere. */
static uint8_t *
base_of(const Pair *pair)
{
    uint64_t size = pair->source.source.size;
    uint8_t *base = g_memdup2(pair->data, size);

    memset(base, 0x77, size);
    for (guint i = 0; i < pair->source.holes->len; i++) {
        const KvssExtent *same = &g_array_index(pair->source.holes, KvssExtent, i);

        if (same->unchanged)
            memcpy(base + same->offset, pair->data + same->offset, same->length);
    }
    return base;
}

/* What did not change is kept in whole blocks and not read; the rest of its blocks is. */
static void
test_keep(void)
{
    static const uint32_t blocks[] = { 512, 65536, 8 * MIB };
    static const KvssExtent same[] = { { 1000, 3 * MIB, false, true }, { 4 * MIB, 65536, true, true },
                                       { 5 * MIB + 1, 3, false, true },
                                       { 6 * MIB, 3 * MIB + 77, false, true } };
    static const uint64_t keep_ends[] = { 0, 7 * MIB, 9 * MIB + 77 };

    for (size_t b = 0; b < G_N_ELEMENTS(blocks); b++) {
        for (size_t k = 0; k < G_N_ELEMENTS(keep_ends); k++) {
            Pair *pair = pair_new(9 * MIB + 77, blocks[b], same, G_N_ELEMENTS(same));
            g_autofree uint8_t *base = base_of(pair);

            pair->sink.base = base;
            pair->sink.sink.keep_end = blocks[b] == 8 * MIB && k == 1 ? 0 : keep_ends[k];
            assert_copied(pair);
            if (blocks[b] < MIB && k > 0)
                g_assert_cmpuint(pair->sink.bytes_kept, >, 2 * MIB + (k == 2 ? 3 * MIB : MIB));
            if (k == 0)
                g_assert_cmpuint(pair->sink.bytes_kept, ==, 0);
            pair_free(pair);
        }
    }
}

/* Nothing changed: one block is read, however large it is. */
static void
test_all_kept(void)
{
    const KvssExtent same = { 0, 30 * MIB + 5, false, true };
    Pair *pair = pair_new(30 * MIB + 5, 65536, &same, 1);
    g_autofree uint8_t *base = base_of(pair);

    pair->sink.base = base;
    pair->sink.sink.keep_end = 30 * MIB + 5;
    assert_copied(pair);
    g_assert_cmpuint(pair->source.bytes_read, ==, 5);
    pair_free(pair);
}

/*
 * A disk that shrank to a size inside a block and grew again: the rest of the block reads as
 * zeroes, nobody marked it, and the base has what was there before.
 */
static void
test_shrunk_and_grown(void)
{
    static const uint64_t smallest[] = { 3, 65536, 65537, 5 * MIB - 1, 5 * MIB, 5 * MIB + 100000 };

    for (size_t i = 0; i < G_N_ELEMENTS(smallest); i++) {
        const KvssExtent extents[] = { { 0, smallest[i], false, true },
                                       { smallest[i], 9 * MIB + 77 - smallest[i], true, true } };
        Pair *pair = pair_new(9 * MIB + 77, 65536, extents, 2);
        g_autofree uint8_t *base = base_of(pair);

        memset(base + smallest[i], 0x55, 9 * MIB + 77 - smallest[i]);
        pair->sink.base = base;
        pair->sink.sink.keep_end = 9 * MIB + 77;
        assert_copied(pair);
        g_assert_cmpuint(pair->source.bytes_read, <=, 65536);
        pair_free(pair);
    }
}

/* Written since, in the block of the smallest size or behind it. */
static void
test_shrunk_grown_and_written(void)
{
    const KvssExtent extents[] = { { 0, 2 * MIB, false, true },        { 2 * MIB, 100, true, true },
                                   { 2 * MIB + 100, 4096, false, false }, { 2 * MIB + 4196, 2 * MIB, true, true },
                                   { 6 * MIB, 70000, false, false },    { 6 * MIB + 70000, 3 * MIB - 70000, true, true } };
    Pair *pair = pair_new(9 * MIB, 65536, extents, G_N_ELEMENTS(extents));
    g_autofree uint8_t *base = base_of(pair);

    memset(base + 2 * MIB, 0x55, 7 * MIB);
    pair->sink.base = base;
    pair->sink.sink.keep_end = 9 * MIB;
    assert_copied(pair);
    pair_free(pair);
}

/* ---- a qcow2 image with a bitmap, as far as both matter here ---- */

#define CLUSTER 4096u
#define CLUSTERS 512u

typedef struct {
    uint8_t data[CLUSTERS * CLUSTER];
    bool is_data[CLUSTERS], is_dirty[CLUSTERS];
} Image;

static void
image_write(Image *image, guint cluster, uint8_t value)
{
    memset(image->data + (size_t) cluster * CLUSTER, value, CLUSTER);
    image->is_data[cluster] = image->is_dirty[cluster] = true;
}

static void
image_discard(Image *image, guint cluster)
{
    memset(image->data + (size_t) cluster * CLUSTER, 0, CLUSTER);
    image->is_data[cluster] = false;
    image->is_dirty[cluster] = true;
}

/* To a smaller size, and back: the cluster in which that lies stays, and no mark is made or kept behind it. */
static void
image_shrink_and_grow(Image *image, guint cluster)
{
    for (guint i = cluster + 1; i < CLUSTERS; i++) {
        image_discard(image, i);
        image->is_dirty[i] = false;
    }
}

static void
image_change(Image *image)
{
    guint n = (guint) g_test_rand_int_range(0, 12);

    for (guint i = 0; i < n; i++) {
        guint first = (guint) g_test_rand_int_range(0, CLUSTERS);
        guint length = (guint) g_test_rand_int_range(1, 40);
        guint end = MIN(CLUSTERS, first + length);
        int what = g_test_rand_int_range(0, 10);

        if (what == 0)
            image_shrink_and_grow(image, first);
        for (guint at = first; what > 0 && at < end; at++)
            what < 7 ? image_write(image, at, (uint8_t) g_test_rand_int()) : image_discard(image, at);
    }
}

/* Whatever happened since the base: the copy is the image. */
static void
test_model(void)
{
    g_autofree Image *image = g_new0(Image, 1);

    for (guint round = 0; round < 100; round++) {
        g_autofree uint8_t *base = NULL;
        Pair *pair;

        memset(image->is_dirty, 0, sizeof image->is_dirty);
        base = g_memdup2(image->data, sizeof image->data);
        image_change(image);
        pair = pair_new(sizeof image->data, CLUSTER << g_test_rand_int_range(0, 6), NULL, 0);
        memcpy(pair->data, image->data, sizeof image->data);
        for (guint i = 0; i < CLUSTERS; i++) {
            KvssExtent extent = { (uint64_t) i * CLUSTER, CLUSTER, !image->is_data[i], !image->is_dirty[i] };

            g_array_append_val(pair->source.holes, extent);
        }
        pair->sink.base = base;
        pair->sink.sink.keep_end = sizeof image->data;
        assert_copied(pair);
        pair_free(pair);
    }
}

static void
assert_fails(Pair *pair, GCancellable *cancellable, int code, const char *prefix)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_copy(&pair->source.source, &pair->sink.sink, NULL, NULL, cancellable, NULL,
                             &error));
    g_assert_error(error, KVSS_IO_ERROR, code);
    g_assert_true(g_str_has_prefix(error->message, prefix));
    g_assert_false(pair->sink.is_finished);
}

static void
test_failures(void)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    Pair *reads = pair_new(20 * MIB, 65536, NULL, 0), *writes = pair_new(20 * MIB, 65536, NULL, 0);

    reads->source.fail_at = 11 * MIB;
    assert_fails(reads, NULL, KVSS_IO_ERROR_FAILED, "read: the fake fails");
    writes->sink.fail_at = 3 * MIB;
    assert_fails(writes, NULL, KVSS_IO_ERROR_NO_SPACE, "write: the fake is full");
    g_cancellable_cancel(cancellable);
    assert_fails(writes, cancellable, KVSS_IO_ERROR_CANCELLED, "interrupted");
    pair_free(reads);
    pair_free(writes);
}

typedef struct {
    uint64_t last, size;
    unsigned n;
} Progress;

static void
progress(uint64_t done, uint64_t size, gpointer data)
{
    Progress *seen = data;

    g_assert_cmpuint(done, >, seen->last);
    seen->last = done;
    seen->size = size;
    seen->n++;
}

static void
test_progress(void)
{
    Pair *pair = pair_new(20 * MIB, 65536, NULL, 0);
    Progress seen = { 0 };

    g_assert_true(kvss_copy(&pair->source.source, &pair->sink.sink, progress, &seen, NULL, NULL,
                            NULL));
    g_assert_cmpuint(seen.last, ==, 20 * MIB);
    g_assert_cmpuint(seen.size, ==, 20 * MIB);
    g_assert_cmpuint(seen.n, >=, 5);
    pair_free(pair);
}

/** A source that looks whether it is read too fast. */
typedef struct {
    KvssSource source;
    uint64_t rate, bytes_read; /* of all that share the pace: guarded by the lock */
    size_t longest_read;
    gint64 start_us;
    GMutex lock;
} Watched;

static bool
watched_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out, GError **error)
{
    bool in_hole = offset >= 3 * MIB; /* up to the end */
    KvssExtent extent = { offset, in_hole ? length : MIN(length, 3 * MIB - offset), in_hole };

    g_array_append_val(out, extent);
    return true;
}

/* However slow the machine is: by now no more was read than the rate allows. */
static bool
watched_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    Watched *self = (Watched *) source;
    gint64 elapsed_us;

    memset(buffer, 7, length);
    g_mutex_lock(&self->lock);
    elapsed_us = g_get_monotonic_time() - self->start_us;
    self->bytes_read += length;
    self->longest_read = MAX(self->longest_read, length);
    g_assert_cmpuint(self->bytes_read, <=,
                     self->rate * (uint64_t) (elapsed_us + 1) / G_USEC_PER_SEC);
    g_mutex_unlock(&self->lock);
    return true;
}

static const KvssSourceOps watched_ops = { watched_extents, watched_read, fake_free };

/* Two sources of a run, one after the other, by one pace: holes of a terabyte cost nothing. */
static void
test_pace(void)
{
    Watched watched = { .rate = 24 * MIB, .start_us = g_get_monotonic_time() };
    KvssPace *pace = kvss_pace_new(watched.rate, NULL);

    watched.source.ops = &watched_ops;
    watched.source.size = G_GUINT64_CONSTANT(1) << 40;
    watched.source.is_parallel = true;
    for (guint i = 0; i < 2; i++) {
        g_autoptr(KvssSource) source = kvss_paced_source_new(&watched.source, pace);
        FakeSink sink = { .sink = { .ops = &fake_no_sink_ops, .size = source->size,
                                    .block = MIB, .is_parallel = true } };
        KvssCopyStats stats;
        g_autoptr(GError) error = NULL;

        g_assert_true(kvss_copy(source, &sink.sink, NULL, NULL, NULL, &stats, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(stats.bytes_read, ==, 3 * MIB);
        g_assert_cmpuint(watched.bytes_read, ==, (i + 1) * 3 * MIB);
    }
    g_assert_cmpuint(watched.longest_read, <=, 256 * 1024);
    kvss_pace_free(pace);
}

static gpointer
cancel_soon(gpointer cancellable)
{
    g_usleep(20 * 1000);
    g_cancellable_cancel(cancellable);
    return NULL;
}

/* Without a limit there is no wrapper; a wait of half a year ends when it is told to. */
static void
test_pace_ends(void)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    KvssPace *pace = kvss_pace_new(1, cancellable);
    GThread *thread = g_thread_new("cancel", cancel_soon, cancellable);
    g_autoptr(GError) error = NULL;
    Watched plain = { .rate = 1 };

    g_assert_true(kvss_paced_source_new(&plain.source, NULL) == &plain.source);
    g_assert_null(kvss_paced_source_new(NULL, pace));
    g_assert_false(kvss_pace_wait(pace, 16 * MIB, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
    g_thread_join(thread);
    kvss_pace_free(pace);
    kvss_pace_free(NULL);
}

/* A map of extents with a gap, or beyond what was asked, is not believed. */
static bool
lying_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out, GError **error)
{
    KvssExtent extent = { offset + 1, length, true };

    g_array_append_val(out, extent);
    return true;
}

static void
test_lying_extents(void)
{
    static const KvssSourceOps ops = { lying_extents, fake_read, fake_free };
    Pair *pair = pair_new(MIB, 65536, NULL, 0);

    pair->source.source.ops = &ops;
    assert_fails(pair, NULL, KVSS_IO_ERROR_CORRUPT, "");
    pair_free(pair);
}

static void
test_file_source(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "kvss-source-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t end = 0;
    char word[4];

    g_assert_cmpint(ftruncate(fd, 3 * MIB), ==, 0);
    g_assert_cmpint(pwrite(fd, "word", 4, MIB), ==, 4);
    source = kvss_source_new_file(path, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(source->size, ==, 3 * MIB);
    g_assert_true(kvss_source_read(source, MIB, word, 4, &error));
    g_assert_cmpmem(word, 4, "word", 4);
    g_assert_true(kvss_source_extents(source, 0, source->size, extents, &error));
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        g_assert_cmpuint(extent->offset, ==, end);
        end += extent->length;
        if (extent->zero)
            g_assert_true(MIB < extent->offset || MIB >= end);
    }
    g_assert_cmpuint(end, ==, 3 * MIB);

    /* It shrinks under us. */
    g_assert_cmpint(ftruncate(fd, 10), ==, 0);
    g_assert_false(kvss_source_read(source, MIB, word, 4, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    close(fd);
    g_unlink(path);
    g_clear_error(&error);
    g_assert_null(kvss_source_new_file(path, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
}

/* Content with holes and with runs of zeroes inside, into a new file: equal, and no larger than its data. */
static void
test_file_sink(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "kvss-sink-XXXXXX", NULL);
    g_autofree char *link = g_strconcat(path, ".link", NULL);
    const uint64_t size = 9 * MIB + 5000;
    g_autofree uint8_t *data = g_malloc0(size);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *found = NULL;
    gsize length;
    struct stat st;
    int fd = g_mkstemp(path);

    memset(data + MIB, 7, MIB);
    data[5 * MIB + 70000] = 1;
    data[size - 1] = 2;
    bytes = g_bytes_new(data, size);
    source = kvss_source_new_bytes(bytes);
    g_assert_null(kvss_sink_new_file(path, size, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    g_clear_error(&error);

    g_assert_cmpint(ftruncate(fd, (off_t) size), ==, 0);
    sink = kvss_sink_new_file(path, size, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error));
    g_assert_true(g_file_get_contents(path, &found, &length, &error));
    g_assert_cmpmem(found, length, data, size);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 2 * MIB);

    /* From memory that lies anywhere, and over what was written already. */
    g_assert_true(kvss_sink_write(sink, MIB, data + MIB - 1, MIB, &error));
    g_assert_true(kvss_sink_finish(sink, &error));
    g_free(g_steal_pointer(&found));
    g_assert_true(g_file_get_contents(path, &found, &length, &error));
    data[MIB] = 0;
    g_assert_cmpmem(found, length, data, size);

    g_assert_cmpint(symlink(path, link), ==, 0);
    g_assert_null(kvss_sink_new_file(link, size, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED);
    close(fd);
    g_unlink(link);
    g_unlink(path);
}

static void
test_data_bytes(void)
{
    g_autofree char *path = g_strdup("/tmp/kvss-data-XXXXXX");
    g_autoptr(KvssSource) source = NULL, none = NULL;
    g_autoptr(GBytes) empty = g_bytes_new_static("", 0);
    g_autoptr(GError) error = NULL;
    int fd = g_mkstemp(path);
    uint64_t bytes;

    /* More than one stretch of holes. */
    g_assert_cmpint(ftruncate(fd, G_GINT64_CONSTANT(200) << 30), ==, 0);
    g_assert_cmpint(pwrite(fd, "word", 4, G_GINT64_CONSTANT(130) << 30), ==, 4);
    source = kvss_source_new_file(path, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_source_data_bytes(source, &bytes, &error));
    g_assert_cmpuint(bytes, >=, 4);
    g_assert_cmpuint(bytes, <=, MIB);
    close(fd);
    g_unlink(path);

    none = kvss_source_new_bytes(empty);
    g_assert_true(kvss_source_data_bytes(none, &bytes, &error));
    g_assert_cmpuint(bytes, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/copy", test_copy);
    g_test_add_func("/stream/serial", test_serial);
    g_test_add_func("/stream/all-hole", test_all_hole);
    g_test_add_func("/stream/keep", test_keep);
    g_test_add_func("/stream/model", test_model);
    g_test_add_func("/stream/shrunk-and-grown", test_shrunk_and_grown);
    g_test_add_func("/stream/shrunk-grown-and-written", test_shrunk_grown_and_written);
    g_test_add_func("/stream/all-kept", test_all_kept);
    g_test_add_func("/stream/failures", test_failures);
    g_test_add_func("/stream/progress", test_progress);
    g_test_add_func("/stream/pace", test_pace);
    g_test_add_func("/stream/pace-ends", test_pace_ends);
    g_test_add_func("/stream/lying-extents", test_lying_extents);
    g_test_add_func("/stream/file-source", test_file_source);
    g_test_add_func("/stream/data-bytes", test_data_bytes);
    g_test_add_func("/stream/file-sink", test_file_sink);
    return g_test_run();
}
