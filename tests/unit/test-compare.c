/*
 * test-compare.c - where a disk differs from what is stored of it
 */
#include "repository-fixture.h"
#include "restore/compare.h"
#include "stream/sink.h"

#include <string.h>

#define KIB 1024u
#define GRAIN KVSS_GRAIN_LENGTH
#define CHUNK (256u * KIB)
#define SIZE (4u * 1024 * KIB + 3 * KIB) /* an end that fills no grain */

typedef struct {
    Fixture *fixture;
    KvssRepository *repository;
    uint8_t *now; /* the disk as it is, SIZE bytes */
    char id[KVSS_ID_HEX_LENGTH + 1];
} World;

/* Data, a MiB of zeroes, data. */
static GBytes *
content(void)
{
    g_autoptr(GBytes) noise = fixture_noise(7, SIZE);
    uint8_t *bytes = g_memdup2(g_bytes_get_data(noise, NULL), SIZE);

    memset(bytes + 1024 * KIB, 0, 1024 * KIB);
    return g_bytes_new_take(bytes, SIZE);
}

static void
store(World *w, GBytes *bytes, uint32_t chunk)
{
    g_autoptr(KvssRepository) repository = fixture_open(w->fixture, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    const char *const paths[] = { "/", NULL };
    KvssSnapshotInfo info = { .hostname = "h", .paths = paths, .time_us = 1 };
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSink) sink = kvss_upload_open_file(upload, "disk", g_bytes_get_size(bytes), chunk,
                                                     0600, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(kvss_sink_write(sink, 0, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                                  &error));
    g_assert_true(kvss_sink_finish(sink, &error));
    g_clear_pointer(&sink, kvss_sink_free);
    g_assert_true(kvss_upload_commit(upload, &info, w->id, &error));
    g_assert_no_error(error);
}

static void
world_set_up(World *w, gconstpointer data)
{
    g_autoptr(GBytes) bytes = content();

    w->fixture = fixture_new();
    store(w, bytes, CHUNK);
    w->now = g_memdup2(g_bytes_get_data(bytes, NULL), SIZE);
    w->repository = fixture_open(w->fixture, KVSS_REPOSITORY_LOOK);
}

static void
world_tear_down(World *w, gconstpointer data)
{
    kvss_repository_free(w->repository);
    fixture_free(w->fixture);
    g_free(w->now);
}

static KvssSource *
stored_disk(World *w)
{
    g_autoptr(KvssSnapshot) snapshot = kvss_repository_find_snapshot(w->repository, w->id, NULL);
    g_autoptr(KvssNode) node = kvss_repository_lookup(w->repository, snapshot->tree, "disk", NULL);

    return kvss_repository_open_file(w->repository, node, NULL);
}

static Difference *
find(World *w, KvssSource *old)
{
    g_autoptr(KvssSource) stored = stored_disk(w);
    Difference *difference = difference_new(stored->size);
    g_autoptr(GError) error = NULL;

    g_assert_true(difference_find(difference, old, stored, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
    return difference;
}

static Difference *
find_now(World *w)
{
    g_autoptr(GBytes) bytes = g_bytes_new(w->now, SIZE);
    g_autoptr(KvssSource) old = kvss_source_new_bytes(bytes);

    return find(w, old);
}

/* ---- a source of nothing but a hole ---- */

static bool
hole_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out, GError **error)
{
    KvssExtent extent = { offset, length, true };

    g_array_append_val(out, extent);
    return true;
}

static bool
hole_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    g_assert_not_reached();
}

static void
hole_free(KvssSource *source)
{
}

static const KvssSourceOps hole_ops = { hole_extents, hole_read, hole_free };

/* ---- */

static void
assert_run(const Difference *difference, uint64_t from, uint64_t offset, uint64_t length)
{
    uint64_t at, n;

    g_assert_true(difference_next(difference, from, SIZE + GRAIN, &at, &n));
    g_assert_cmpuint(at, ==, offset);
    g_assert_cmpuint(n, ==, length);
}

static void
assert_no_more(const Difference *difference, uint64_t from)
{
    uint64_t at, n;

    g_assert_false(difference_next(difference, from, SIZE + GRAIN, &at, &n));
}

static void
test_same(World *w, gconstpointer data)
{
    g_autoptr(Difference) difference = find_now(w);

    g_assert_cmpuint(difference->differ_bytes, ==, 0);
    assert_no_more(difference, 0);
}

/* One byte each: in the middle, at the end, in what is stored as zeroes. */
static void
test_bytes(World *w, gconstpointer data)
{
    g_autoptr(Difference) difference = NULL;

    w->now[300 * KIB] ^= 1;
    w->now[1024 * KIB + 5] = 1;
    w->now[SIZE - 1] ^= 1;
    difference = find_now(w);
    assert_run(difference, 0, CHUNK, CHUNK);
    assert_run(difference, 2 * CHUNK, 4 * CHUNK, CHUNK);
    assert_run(difference, 5 * CHUNK, 16 * CHUNK, 3 * KIB);
    assert_no_more(difference, SIZE);
    g_assert_cmpuint(difference->differ_bytes, ==, 2 * CHUNK + 3 * KIB);
    /* Of the second chunk one grain is not zero. */
    g_assert_cmpuint(difference->data_bytes, ==, CHUNK + GRAIN + 3 * KIB);
    g_assert_cmpuint(difference->growth_bytes, ==, CHUNK - GRAIN);
}

/* Zeroes where data is stored, told by the map, not read; and in what is read. */
static void
test_zeroes(World *w, gconstpointer data)
{
    KvssSource hole = { .ops = &hole_ops, .size = SIZE };
    g_autoptr(Difference) all = find(w, &hole);
    g_autoptr(Difference) some = NULL;

    assert_run(all, 0, 0, 4 * CHUNK);
    assert_run(all, 4 * CHUNK, 8 * CHUNK, SIZE - 8 * CHUNK);
    g_assert_cmpuint(all->differ_bytes, ==, SIZE - 4 * CHUNK);
    g_assert_cmpuint(all->data_bytes, ==, 0);
    g_assert_cmpuint(all->growth_bytes, ==, all->differ_bytes);
    memset(w->now, 0, CHUNK);
    some = find_now(w);
    g_assert_cmpuint(some->differ_bytes, ==, CHUNK);
    g_assert_cmpuint(some->data_bytes, ==, 0);
}

/* A run is given in pieces of whole grains. */
static void
test_pieces(World *w, gconstpointer data)
{
    g_autoptr(Difference) difference = NULL;
    uint64_t at, n, next = 0, sum = 0;

    w->now[0] ^= 1;
    w->now[CHUNK] ^= 1;
    difference = find_now(w);
    while (difference_next(difference, next, 3 * GRAIN, &at, &n)) {
        g_assert_cmpuint(at, ==, next);
        g_assert_cmpuint(n, <=, 3 * GRAIN);
        next = at + n;
        sum += n;
    }
    g_assert_cmpuint(sum, ==, 2 * CHUNK);
    g_assert_false(difference_next(difference, 0, GRAIN - 1, &at, &n));
}

/* A file of one chunk, smaller than a grain. */
static void
test_one_chunk(World *w, gconstpointer data)
{
    g_autoptr(GBytes) bytes = fixture_noise(9, 5000);
    g_autoptr(KvssSource) same = kvss_source_new_bytes(bytes);
    g_autoptr(GBytes) others = fixture_noise(10, 5000);
    g_autoptr(KvssSource) other = kvss_source_new_bytes(others);
    g_autoptr(Difference) none = NULL, all = NULL;

    store(w, bytes, 64 * KIB);
    g_clear_pointer(&w->repository, kvss_repository_free);
    w->repository = fixture_open(w->fixture, KVSS_REPOSITORY_LOOK);
    none = find(w, same);
    g_assert_cmpuint(none->differ_bytes, ==, 0);
    all = find(w, other);
    g_assert_cmpuint(all->differ_bytes, ==, 5000);
}

#define TEST(name, function) g_test_add(name, World, NULL, world_set_up, function, world_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/compare/same", test_same);
    TEST("/compare/bytes", test_bytes);
    TEST("/compare/zeroes", test_zeroes);
    TEST("/compare/pieces", test_pieces);
    TEST("/compare/one-chunk", test_one_chunk);
    return g_test_run();
}
