/*
 * test-read-ahead.c - packs in windows: the same bytes, in fewer requests
 */
#include "repository/backend/read-ahead.h"

#include <string.h>

#define PACK_LENGTH ((size_t) 18 << 20)
#define CHUNK_LENGTH ((size_t) 256 << 10)
#define N_PACKS 3

/* A server: what byte lies where, how often it was asked, and whether it works. */
typedef struct {
    KvssBackend backend;
    gint n_fetches, n_bytes;
    bool is_broken;
    gulong delay_us;
    KvssReadAhead *ahead;
} Fixture;

static uint8_t
byte_at(const char *name, uint64_t offset)
{
    return (uint8_t) (name[0] * 7u + offset * 2654435761u + (offset >> 11));
}

static void
fill(const char *name, uint64_t offset, uint8_t *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = byte_at(name, offset + i);
}

static GBytes *
fetch(KvssBackend *backend, const char *name, uint64_t offset, size_t max_length, GError **error)
{
    Fixture *f = (Fixture *) backend;
    size_t length = offset < PACK_LENGTH ? MIN(max_length, PACK_LENGTH - offset) : 0;
    uint8_t *bytes;

    g_atomic_int_inc(&f->n_fetches);
    g_usleep(f->delay_us);
    if (f->is_broken || length == 0) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "no");
        return NULL;
    }
    g_atomic_int_add(&f->n_bytes, (gint) (length >> 10));
    bytes = g_malloc(length);
    fill(name, offset, bytes, length);
    return g_bytes_new_take(bytes, length);
}

static char *
pack_name(unsigned number)
{
    char *name = g_strnfill(KVSS_ID_HEX_LENGTH, 'a');

    name[0] = (char) ('0' + number);
    return name;
}

static void
fixture_set_up(Fixture *f, gconstpointer data)
{
    f->ahead = kvss_read_ahead_new(&f->backend, fetch);
}

static void
fixture_tear_down(Fixture *f, gconstpointer data)
{
    kvss_read_ahead_free(f->ahead);
}

/* Returns: was it served? Then the bytes are right. */
static bool
serve(Fixture *f, unsigned pack, uint64_t offset, size_t length)
{
    g_autofree char *name = pack_name(pack);
    g_autofree uint8_t *got = g_malloc(length), *want = g_malloc(length);

    if (!kvss_read_ahead_serve(f->ahead, name, offset, got, length))
        return false;
    fill(name, offset, want, length);
    g_assert_cmpmem(got, length, want, length);
    return true;
}

/* Chunks one behind the other, over the edges of windows: a request for each window. */
static void
test_in_order(Fixture *f, gconstpointer data)
{
    const size_t length = CHUNK_LENGTH + 32;

    for (unsigned pack = 0; pack < N_PACKS; pack++)
        for (uint64_t at = 0; at + length <= PACK_LENGTH; at += length)
            g_assert_true(serve(f, pack, at, length));
    g_assert_cmpint(g_atomic_int_get(&f->n_fetches), <=, N_PACKS * 5);
}

/* Here and there: nothing is fetched for it. */
static void
test_at_random(Fixture *f, gconstpointer data)
{
    static const uint64_t places[] = { 9, 3, 15, 6, 12 };

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++)
        g_assert_false(serve(f, 0, places[i] << 20, CHUNK_LENGTH));
    g_assert_false(serve(f, 0, 1 << 20, KVSS_READ_AHEAD_WINDOW));
    g_assert_cmpint(g_atomic_int_get(&f->n_fetches), ==, 0);
}

/* At the end of a pack there is no more; past it the reader asks himself. */
static void
test_end(Fixture *f, gconstpointer data)
{
    g_assert_true(serve(f, 0, 0, 100));
    for (uint64_t at = 0; at < PACK_LENGTH; at += 1 << 20)
        g_assert_true(serve(f, 0, at, 1 << 20));
    g_assert_false(serve(f, 0, PACK_LENGTH - 10, 11));
    g_assert_true(serve(f, 0, PACK_LENGTH - 10, 10));
    g_assert_false(serve(f, 0, PACK_LENGTH, 10));
}

/* A server that fails costs nobody his answer: it is asked the plain way, and again later. */
static void
test_broken(Fixture *f, gconstpointer data)
{
    f->is_broken = true;
    for (unsigned i = 0; i < 30; i++)
        g_assert_false(serve(f, 0, i * CHUNK_LENGTH, CHUNK_LENGTH));
    f->is_broken = false;
    g_assert_true(serve(f, 0, 30 * CHUNK_LENGTH, CHUNK_LENGTH));
}

typedef struct {
    Fixture *f;
    gint *next;     /* chunk of all packs, one behind the other */
    gint *served;
} Reader;

static gpointer
read_chunks(gpointer data)
{
    const gint per_pack = PACK_LENGTH / CHUNK_LENGTH;
    Reader *reader = data;

    for (;;) {
        gint number = g_atomic_int_add(reader->next, 1);

        if (number >= 4 * N_PACKS * per_pack)
            return NULL;
        number %= N_PACKS * per_pack;
        if (serve(reader->f, (unsigned) (number / per_pack), number % per_pack * CHUNK_LENGTH,
                  CHUNK_LENGTH))
            g_atomic_int_inc(reader->served);
    }
}

/* Several threads take turns, as the copy loop's do, and some others read elsewhere. */
static void
test_threads(Fixture *f, gconstpointer data)
{
    gint next[2] = { 0, 40 }, served = 0;
    Reader readers[2] = { { f, &next[0], &served }, { f, &next[1], &served } };
    GThread *threads[8];

    f->delay_us = 3000;
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reader", read_chunks, &readers[i % 2]);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(served, >, 4 * N_PACKS * 72); /* of twice as many: most */
    g_assert_cmpint(g_atomic_int_get(&f->n_fetches), <, served / 4);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) \
    g_test_add("/read-ahead/" path, Fixture, NULL, fixture_set_up, test, fixture_tear_down)
    ADD("in-order", test_in_order);
    ADD("at-random", test_at_random);
    ADD("end", test_end);
    ADD("broken", test_broken);
    ADD("threads", test_threads);
    return g_test_run();
}
