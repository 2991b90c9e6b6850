/*
 * test-index-build.c - the same table comes out however it was made: in one run or in many, at
 * once or on top of an older one
 */
#include "repository/format/id.h"
#include "repository/index/index-build.h"

#include <glib/gstdio.h>
#include <string.h>

#define N_PACKS 40u
#define N_BLOBS 50u /* of a pack */

/* Few ids, so that blobs come several times, in other packs, as data and as trees. */
static GArray *
pack_entries(GRand *dice)
{
    GArray *entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));

    for (unsigned i = 0; i < N_BLOBS; i++) {
        KvssPackEntry entry = { .offset = i * 100, .length = 100, .is_tree = i % 7 == 0 };
        uint32_t number = (uint32_t) g_rand_int_range(dice, 0, 1500);

        entry.is_compressed = i % 3 != 0;
        entry.plain_length = entry.is_compressed ? 500 + i : 100 - KVSS_CRYPTO_OVERHEAD;
        memcpy(entry.id + 28, &number, sizeof number); /* alike in front: the order is found behind it */
        entry.id[0] = (uint8_t) (number % 3);
        g_array_append_val(entries, entry);
    }
    return entries;
}

/* Packs [@first, @end), each an index file of its own, and the first of them twice. */
static void
add_packs(KvssIndexBuild *build, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        g_autoptr(GRand) dice = g_rand_new_with_seed(i);
        g_autoptr(GArray) entries = pack_entries(dice);
        uint8_t id[KVSS_ID_LENGTH] = { 1, (uint8_t) i };

        kvss_index_build_add_pack(id, entries, build);
        if (i == first)
            kvss_index_build_add_pack(id, entries, build);
        kvss_index_build_add_index(build, id);
    }
}

static KvssIndexTable *
table_made(const char *path, size_t run_max, const KvssIndexTable *old, unsigned first)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(path, run_max, &error);
    KvssIndexTable *table;

    g_assert_no_error(error);
    if (old)
        kvss_index_build_add_table(build, old);
    add_packs(build, first, N_PACKS);
    table = kvss_index_build_finish(build, &error);
    g_assert_no_error(error);
    return table;
}

static KvssIndexTable *
table_of_first(unsigned end)
{
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(NULL, 11, NULL);

    add_packs(build, 0, end);
    return kvss_index_build_finish(build, NULL);
}

static void
assert_same(const KvssIndexTable *a, const KvssIndexTable *b)
{
    g_assert_cmpmem(a->mapped, a->length, b->mapped, b->length);
}

/* All are there, in order, none twice; a lookup finds each. */
static void
test_sorted(void)
{
    g_autoptr(KvssIndexTable) table = table_made(NULL, 0, NULL, 0);

    g_assert_cmpuint(table->n_entries, ==, N_PACKS * N_BLOBS);
    g_assert_cmpuint(table->n_pack_ids, ==, N_PACKS);
    g_assert_cmpuint(table->n_index_ids, ==, N_PACKS);
    for (size_t i = 1; i < table->n_entries; i++)
        g_assert_cmpint(kvss_index_table_compare(&table->entries[i - 1], &table->entries[i]), <, 0);
    for (unsigned i = 0; i < N_PACKS; i++) {
        g_autoptr(GRand) dice = g_rand_new_with_seed(i);
        g_autoptr(GArray) entries = pack_entries(dice);

        for (guint n = 0; n < entries->len; n++) {
            const KvssPackEntry *entry = &g_array_index(entries, KvssPackEntry, n);
            KvssBlobLocation found;

            g_assert_true(kvss_index_table_find(table, entry->is_tree, entry->id, 0, NULL, &found));
            g_assert_cmpuint(found.length, ==, 100);
        }
    }
}

/* What is there is found, what is not is not: over the mapping, and by reading. */
static void
assert_lookups(KvssIndexTable *table, GArray *entries)
{
    for (unsigned n = 0; n < 2 * entries->len; n++) {
        KvssPackEntry *entry = &g_array_index(entries, KvssPackEntry, n / 2);
        uint8_t absent[KVSS_ID_LENGTH];
        KvssBlobLocation found;
        size_t number;

        table->is_read = n % 2 == 1;
        g_assert_true(kvss_index_table_find(table, false, entry->id, 0, &number, &found));
        g_assert_cmpuint(found.offset, ==, entry->offset);
        g_assert_cmpmem(table->entries[number].id, KVSS_ID_LENGTH, entry->id, KVSS_ID_LENGTH);
        memcpy(absent, entry->id, sizeof absent);
        absent[KVSS_ID_LENGTH - 1] ^= 1;
        g_assert_false(kvss_index_table_find(table, false, absent, 0, NULL, NULL));
        g_assert_false(kvss_index_table_find(table, true, entry->id, 0, NULL, NULL));
        g_assert_false(kvss_index_table_find(table, false, entry->id, 1, NULL, NULL));
    }
}

/* @n blobs with random ids, but for the first @n_alike bytes of each. */
static void
check_lookups(unsigned n, size_t n_alike, GRand *dice)
{
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(NULL, 0, NULL);
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    g_autoptr(KvssIndexTable) table = NULL;
    const uint8_t pack[KVSS_ID_LENGTH] = { 9 };

    for (unsigned i = 0; i < n; i++) {
        KvssPackEntry entry = { .offset = i, .length = 100 };

        memset(entry.id, 0x5a, sizeof entry.id);
        for (size_t byte = n_alike; byte < KVSS_ID_LENGTH; byte++)
            entry.id[byte] = (uint8_t) g_rand_int(dice);
        g_array_append_val(entries, entry);
    }
    kvss_index_build_add_pack(pack, entries, build);
    table = kvss_index_build_finish(build, NULL);
    assert_lookups(table, entries);
}

/* Every length of table. Ids as even as hashes are, and ids whose front tells nothing. */
static void
test_lookups(void)
{
    static const size_t alike[] = { 0, 6, 8, 20 };
    g_autoptr(GRand) dice = g_rand_new_with_seed(1);

    for (size_t i = 0; i < G_N_ELEMENTS(alike); i++) {
        for (unsigned n = 1; n < 3000; n = n * 3 / 2 + 1)
            check_lookups(n, alike[i], dice);
        for (unsigned n = 62; n < 67; n++) /* around the end of a block */
            check_lookups(n, alike[i], dice);
    }
}

/* More copies of one blob than a block holds: each is found, and behind the last there is none. */
static void
test_copies(void)
{
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(NULL, 0, NULL);
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    g_autoptr(KvssIndexTable) table = NULL;
    const uint8_t pack[KVSS_ID_LENGTH] = { 9 }, id[KVSS_ID_LENGTH] = { 1, 2, 3 };
    KvssBlobLocation found;

    for (unsigned i = 0; i < 300; i++) {
        KvssPackEntry entry = { .offset = i, .length = 100, .id = { i < 50, 2, 3, i < 50 ? i : 0 } };

        if (i >= 50)
            memcpy(entry.id, id, sizeof id);
        g_array_append_val(entries, entry);
    }
    kvss_index_build_add_pack(pack, entries, build);
    table = kvss_index_build_finish(build, NULL);
    for (int by_reading = 0; by_reading < 2; by_reading++) {
        table->is_read = by_reading;
        /* The first of those below has the same id. */
        for (unsigned copy = 0; copy < 251; copy++)
            g_assert_true(kvss_index_table_find(table, false, id, copy, NULL, &found));
        g_assert_cmpuint(found.offset, ==, 299);
        g_assert_false(kvss_index_table_find(table, false, id, 251, NULL, &found));
    }
}

static void
test_runs(void)
{
    static const size_t run_maxima[] = { 1, 2, 13, 100, 1999, 2000, 2001, 100000 };
    g_autoptr(KvssIndexTable) whole = table_made(NULL, 0, NULL, 0);

    for (size_t i = 0; i < G_N_ELEMENTS(run_maxima); i++) {
        g_autoptr(KvssIndexTable) table = table_made(NULL, run_maxima[i], NULL, 0);

        assert_same(table, whole);
    }
}

static void
test_on_top(void)
{
    g_autoptr(KvssIndexTable) whole = table_made(NULL, 0, NULL, 0);

    for (unsigned had = 1; had < N_PACKS; had += 6) {
        g_autoptr(KvssIndexTable) old = table_of_first(had);
        g_autoptr(KvssIndexTable) table = table_made(NULL, 29, old, had);

        assert_same(table, whole);
    }
}

static void
test_empty(void)
{
    g_autoptr(KvssIndexBuild) build = kvss_index_build_new(NULL, 0, NULL);
    g_autoptr(KvssIndexTable) table = kvss_index_build_finish(build, NULL);
    const uint8_t id[KVSS_ID_LENGTH] = { 0 };
    KvssBlobLocation found;

    g_assert_nonnull(table);
    g_assert_cmpuint(table->n_entries, ==, 0);
    g_assert_false(kvss_index_table_find(table, false, id, 0, NULL, &found));
}

static unsigned
count_files(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n;
}

/* At its place only when it is whole, nothing beside it, and the same when it is mapped again. */
static void
test_file(void)
{
    g_autofree char *folder = g_dir_make_tmp("kvss-test-XXXXXX", NULL);
    g_autofree char *below = g_build_filename(folder, "cache", NULL);
    g_autofree char *path = g_build_filename(below, "index", NULL), *content = NULL;
    g_autoptr(KvssIndexBuild) dropped = kvss_index_build_new(path, 5, NULL);
    g_autoptr(KvssIndexTable) table = NULL, mapped = NULL;
    gsize length;

    add_packs(dropped, 0, 3);
    g_clear_pointer(&dropped, kvss_index_build_free);
    g_assert_cmpuint(count_files(below), ==, 0);

    table = table_made(path, 100, NULL, 0);
    g_assert_cmpuint(count_files(below), ==, 1);
    mapped = kvss_index_table_map(path);
    g_assert_nonnull(mapped);
    assert_same(mapped, table);
    kvss_index_table_let_go(mapped);
    assert_same(mapped, table);

    /* Whatever byte is changed: it is as if there were none. */
    g_assert_true(g_file_get_contents(path, &content, &length, NULL));
    for (gsize at = 0; at < length; at += length / 50 + 1) {
        content[at] ^= 4;
        g_assert_true(g_file_set_contents(path, content, (gssize) length, NULL));
        g_assert_null(kvss_index_table_map(path));
        content[at] ^= 4;
    }
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_rmdir(below), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/index-build/sorted", test_sorted);
    g_test_add_func("/index-build/lookups", test_lookups);
    g_test_add_func("/index-build/copies", test_copies);
    g_test_add_func("/index-build/runs", test_runs);
    g_test_add_func("/index-build/on-top", test_on_top);
    g_test_add_func("/index-build/empty", test_empty);
    g_test_add_func("/index-build/file", test_file);
    return g_test_run();
}
