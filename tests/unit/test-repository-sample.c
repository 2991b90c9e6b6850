/*
 * test-repository-sample.c - a sample is drawn fairly, the same again for the same seed, and read
 */
#include "repository-fixture.h"
#include "repository/verify/verify.h"

#include <sys/stat.h>

/* @n packs; every tenth has 100 bytes, the others 10. */
static GArray *
packs_new(unsigned n)
{
    GArray *packs = g_array_new(FALSE, FALSE, sizeof(KvssVerifyPack));

    for (unsigned i = 0; i < n; i++) {
        KvssVerifyPack pack = { .size = i % 10 == 0 ? 100 : 10 };

        pack.id[0] = (uint8_t) i;
        pack.id[1] = (uint8_t) (i >> 8);
        g_array_append_val(packs, pack);
    }
    return packs;
}

static uint64_t
bytes_of(const GArray *packs)
{
    uint64_t bytes = 0;

    for (guint i = 0; i < packs->len; i++)
        bytes += g_array_index(packs, KvssVerifyPack, i).size;
    return bytes;
}

static GArray *
draw(unsigned n, const KvssVerifyOptions *options)
{
    GArray *packs = packs_new(n);

    kvss_verify_draw_sample(packs, options);
    return packs;
}

/* As much as asked for, and not one pack more than that takes. */
static void
test_amount(void)
{
    for (uint32_t seed = 0; seed < 50; seed++) {
        KvssVerifyOptions share = { .sample_share = 0.05, .sample_seed = seed };
        KvssVerifyOptions bytes = { .sample_bytes = 333, .sample_seed = seed };
        g_autoptr(GArray) some = draw(1000, &share), few = draw(1000, &bytes);
        uint64_t wanted = 950; /* of 100 x 100 + 900 x 10 */

        g_assert_cmpuint(bytes_of(some), >=, wanted);
        g_array_set_size(some, some->len - 1);
        g_assert_cmpuint(bytes_of(some), <, wanted);
        g_assert_cmpuint(bytes_of(few), >=, 333);
        g_array_set_size(few, few->len - 1);
        g_assert_cmpuint(bytes_of(few), <, 333);
    }
}

static void
test_edges(void)
{
    KvssVerifyOptions least = { .sample_share = 1e-9 }, all = { .sample_share = 1 };
    KvssVerifyOptions more = { .sample_bytes = 1u << 30 };
    g_autoptr(GArray) one = draw(100, &least), every = draw(100, &all), too = draw(100, &more);
    g_autoptr(GArray) none = draw(0, &all);

    g_assert_cmpuint(one->len, ==, 1);
    g_assert_cmpuint(every->len, ==, 100);
    g_assert_cmpuint(too->len, ==, 100);
    g_assert_cmpuint(none->len, ==, 0);
}

/* A pack of 100 bytes comes first ten times as often as one of 10: as often as all of those here. */
static void
test_by_weight(void)
{
    const unsigned n_seeds = 4000;
    unsigned n_large = 0;

    for (uint32_t seed = 0; seed < n_seeds; seed++) {
        KvssVerifyOptions options = { .sample_bytes = 1, .sample_seed = seed };
        g_autoptr(GArray) packs = draw(10, &options);

        n_large += g_array_index(packs, KvssVerifyPack, 0).size == 100;
    }
    /* 100 of 190 bytes: 2105 expected, 32 the standard deviation. Seeds are given: no chance is left. */
    g_assert_cmpuint(n_large, >, 2105 - 130);
    g_assert_cmpuint(n_large, <, 2105 + 130);
}

static bool
holds_same(const GArray *a, const GArray *b)
{
    if (a->len != b->len)
        return false;
    for (guint i = 0; i < a->len; i++)
        if (!kvss_id_equal(g_array_index(a, KvssVerifyPack, i).id,
                           g_array_index(b, KvssVerifyPack, i).id))
            return false;
    return true;
}

static void
test_seed(void)
{
    KvssVerifyOptions options = { .sample_share = 0.1, .sample_seed = 7 };
    g_autoptr(GArray) first = draw(1000, &options), again = packs_new(1000), other = NULL;
    KvssVerifyPack swap = g_array_index(again, KvssVerifyPack, 3);

    /* The order in which the packs come does not matter. */
    g_array_index(again, KvssVerifyPack, 3) = g_array_index(again, KvssVerifyPack, 800);
    g_array_index(again, KvssVerifyPack, 800) = swap;
    kvss_verify_draw_sample(again, &options);
    g_assert_true(holds_same(first, again));
    options.sample_seed = 8;
    other = draw(1000, &options);
    g_assert_false(holds_same(first, other));
}

/* ---- on a repository ---- */

#define N_BACKUPS 12u

static void
count_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    ++*(unsigned *) data;
}

static KvssVerifyResult
verify(Fixture *f, double share, uint32_t seed, unsigned *out_n_damages)
{
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    KvssVerifyOptions options = { .read_data = true, .sample_share = share, .sample_seed = seed,
                                  .damage = count_damage, .data = out_n_damages };
    g_autoptr(GError) error = NULL;
    KvssVerifyResult result;

    *out_n_damages = 0;
    g_assert_true(kvss_repository_verify(repository, NULL, &options, &result, &error));
    return result;
}

/* Packs of trees, which have some hundred bytes, are passed over: those are always read. */
static void
damage_one_data_pack(Fixture *f)
{
    for (unsigned i = 0;; i++) {
        g_autofree char *pack = fixture_file(f, "data", i);
        struct stat st;

        g_assert_cmpint(stat(pack, &st), ==, 0);
        if (st.st_size < 300000)
            continue;
        fixture_flip(pack, 1000);
        return;
    }
}

/* Damage is found by exactly those samples that read it: neither never nor always. */
static void
test_reads_sample(void)
{
    g_autoptr(Fixture) f = fixture_new();
    char id[KVSS_ID_HEX_LENGTH + 1];
    unsigned n_damages, n_found = 0;
    KvssVerifyResult all, part;

    for (unsigned i = 0; i < N_BACKUPS; i++) {
        g_autoptr(GBytes) bytes = fixture_noise(i + 1, 300000);

        fixture_backup(f, id, "vms/a/vda.raw", bytes, NULL);
    }
    all = verify(f, 0, 0, &n_damages);
    g_assert_cmpuint(n_damages, ==, 0);
    g_assert_cmpuint(all.bytes_read, ==, all.bytes_stored);

    damage_one_data_pack(f);
    for (uint32_t seed = 0; seed < 24; seed++) {
        part = verify(f, 0.25, seed, &n_damages);
        g_assert_cmpuint(part.packs, ==, all.packs); /* all of them are looked at */
        g_assert_cmpuint(part.bytes_stored, ==, all.bytes_stored);
        g_assert_cmpuint(part.bytes_read, >=, all.bytes_stored / 4);
        g_assert_cmpuint(part.bytes_read, <, all.bytes_stored / 2);
        n_found += n_damages > 0;
    }
    g_assert_cmpuint(n_found, >, 0);
    g_assert_cmpuint(n_found, <, 24);
    (void) verify(f, 1, 0, &n_damages);
    g_assert_cmpuint(n_damages, ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repository/sample/amount", test_amount);
    g_test_add_func("/repository/sample/edges", test_edges);
    g_test_add_func("/repository/sample/by-weight", test_by_weight);
    g_test_add_func("/repository/sample/seed", test_seed);
    g_test_add_func("/repository/sample/reads", test_reads_sample);
    return g_test_run();
}
