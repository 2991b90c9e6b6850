/*
 * test-prune-plan.c - what becomes of each pack, by numbers alone
 */
#include "repository/prune/prune.h"

/* Header and seal of a pack with one blob. */
#define EXTRA 73

static KvssPrunePack
pack(uint64_t length, uint64_t kept)
{
    return (KvssPrunePack) { .size = length + EXTRA, .length = length, .end = length,
                             .kept = kept };
}

static KvssPruneOptions
percent(double part)
{
    return (KvssPruneOptions) { .max_unused_percent = part, .max_repack_bytes = UINT64_MAX };
}

static void
test_whole(void)
{
    KvssPrunePack packs[] = { pack(1000, 1000), pack(1000, 0), { .length = 1000 } };
    KvssPruneOptions options = percent(0);
    KvssPruneResult result = { 0 };

    kvss_prune_plan(packs, 3, &options, &result);
    g_assert_cmpint(packs[0].fate, ==, KVSS_PACK_KEEP);
    g_assert_cmpint(packs[1].fate, ==, KVSS_PACK_REMOVE);
    g_assert_cmpint(packs[2].fate, ==, KVSS_PACK_REMOVE);
    g_assert_cmpuint(result.packs_removed, ==, 1);
    g_assert_cmpuint(result.packs_missing, ==, 1);
    g_assert_cmpuint(result.bytes_freed, ==, 1000 + EXTRA);
    g_assert_cmpuint(result.bytes_unused, ==, 0);
}

/* Those with the largest part of rubbish go first, until little enough is left. */
static void
test_part(void)
{
    KvssPrunePack packs[] = { pack(1000, 900), pack(1000, 100), pack(1000, 500), pack(1000, 990) };
    KvssPruneOptions options = percent(5);
    KvssPruneResult result = { 0 };

    /* 2490 are needed: 131 bytes of rubbish may stay, of 1510. */
    kvss_prune_plan(packs, 4, &options, &result);
    g_assert_cmpint(packs[1].fate, ==, KVSS_PACK_REPACK);
    g_assert_cmpint(packs[2].fate, ==, KVSS_PACK_REPACK);
    g_assert_cmpint(packs[0].fate, ==, KVSS_PACK_KEEP);
    g_assert_cmpint(packs[3].fate, ==, KVSS_PACK_KEEP);
    g_assert_cmpuint(result.bytes_unused, ==, 110);
    g_assert_cmpuint(result.bytes_repacked, ==, 600);
    g_assert_cmpuint(result.bytes_freed, ==, 1400 + 2 * EXTRA);
}

static unsigned
repacked_with(KvssPruneOptions options)
{
    KvssPrunePack packs[] = { pack(1000, 900), pack(1000, 100), pack(1000, 500), pack(1000, 990) };
    KvssPruneResult result = { 0 };

    kvss_prune_plan(packs, 4, &options, &result);
    return (unsigned) result.packs_repacked;
}

static void
test_limits(void)
{
    KvssPruneOptions options = percent(0);

    g_assert_cmpuint(repacked_with(percent(0)), ==, 4);
    g_assert_cmpuint(repacked_with(percent(50)), ==, 0);
    g_assert_cmpuint(repacked_with(percent(100)), ==, 0);
    options.max_repack_bytes = 0;
    g_assert_cmpuint(repacked_with(options), ==, 0);
    options.max_repack_bytes = 599; /* the second does not fit, nor any behind it */
    g_assert_cmpuint(repacked_with(options), ==, 1);
    options.max_repack_bytes = 600;
    g_assert_cmpuint(repacked_with(options), ==, 2);
    options = percent(-1);
    options.max_unused_bytes = 609;
    g_assert_cmpuint(repacked_with(options), ==, 2);
    options.max_unused_bytes = 610;
    g_assert_cmpuint(repacked_with(options), ==, 1);
    options.max_unused_bytes = UINT64_MAX;
    g_assert_cmpuint(repacked_with(options), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/prune-plan/whole", test_whole);
    g_test_add_func("/prune-plan/part", test_part);
    g_test_add_func("/prune-plan/limits", test_limits);
    return g_test_run();
}
