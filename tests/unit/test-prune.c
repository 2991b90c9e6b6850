/*
 * test-prune.c - prune that is stopped in the middle, in this process
 */
#include "repository-fixture.h"

#include <string.h>
#include <unistd.h>

#define MIB (1u << 20)

/** A repository with one backup that stays and one that went, and what happens in the middle. */
typedef struct {
    Fixture *f;
    GBytes *common, *own;
    char id[KVSS_ID_HEX_LENGTH + 1];
    const char *at;            /* the step in which it happens */
    bool loses_lock;
    GCancellable *cancellable;
    bool happened;
} World;

static void
world_free(World *w)
{
    g_bytes_unref(w->common);
    g_bytes_unref(w->own);
    g_object_unref(w->cancellable);
    fixture_free(w->f);
    g_free(w);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static World *
world_new(void)
{
    World *w = g_new0(World, 1);
    g_autoptr(GBytes) gone = fixture_noise(1, 20 * MIB);
    g_autoptr(KvssRepository) repository = NULL;
    char first[KVSS_ID_HEX_LENGTH + 1];

    w->f = fixture_new();
    w->common = fixture_noise(2, MIB);
    w->own = fixture_noise(3, MIB);
    w->cancellable = g_cancellable_new();
    fixture_backup(w->f, first, "gone", gone, "common", w->common, NULL);
    fixture_backup(w->f, w->id, "own", w->own, "common", w->common, NULL);
    repository = fixture_open(w->f, KVSS_REPOSITORY_REMOVE);
    g_assert_true(kvss_repository_remove_snapshot(repository, first, NULL));
    return w;
}

static void
on_step(const char *step, uint64_t done, uint64_t total, gpointer data)
{
    World *w = data;

    if (w->happened || strcmp(step, w->at) != 0)
        return;
    w->happened = true;
    if (w->loses_lock) {
        g_autofree char *lock = fixture_file(w->f, "locks", 0);

        g_assert_cmpint(unlink(lock), ==, 0);
    } else {
        g_cancellable_cancel(w->cancellable);
    }
}

static bool
prune(World *w, KvssPruneResult *result, GError **error)
{
    g_autoptr(KvssRepository) repository = fixture_open(w->f, KVSS_REPOSITORY_REMOVE);
    KvssPruneOptions options = {
        .max_repack_bytes = UINT64_MAX,
        .progress = on_step,
        .data = w,
        .cancellable = w->cancellable,
    };

    return kvss_repository_prune(repository, &options, result, error);
}

static void
count_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    g_test_message("%s", what);
    g_test_fail();
}

/* The backup that stays is all there, and says so. */
static void
assert_whole(World *w)
{
    KvssVerifyOptions options = { .read_data = true, .damage = count_damage };
    g_autoptr(KvssRepository) repository = fixture_open(w->f, KVSS_REPOSITORY_LOOK);
    g_autoptr(GBytes) own = fixture_read_open(repository, w->id, "own", NULL);
    g_autoptr(GBytes) common = fixture_read_open(repository, w->id, "common", NULL);
    KvssVerifyResult result;

    g_assert_nonnull(own);
    g_assert_nonnull(common);
    g_assert_true(g_bytes_equal(own, w->own) && g_bytes_equal(common, w->common));
    g_assert_true(kvss_repository_verify(repository, NULL, &options, &result, NULL));
    g_assert_cmpuint(result.damaged, ==, 0);
}

static void
assert_completed(World *w)
{
    KvssPruneResult result;
    g_autoptr(GError) error = NULL;

    w->at = "never";
    g_cancellable_reset(w->cancellable);
    g_assert_true(prune(w, &result, &error));
    g_assert_no_error(error);
    assert_whole(w);
    g_assert_true(prune(w, &result, &error));
    g_assert_cmpuint(result.blobs_unused + result.blobs_duplicate + result.packs_unknown, ==, 0);
}

static const char *const steps[] = {
    "looking through backups", "writing packs anew", "writing the index anew",
    "removing index files",    "removing packs",
};

static void
test_cancelled(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autoptr(World) w = world_new();
        g_autoptr(GError) error = NULL;
        KvssPruneResult result;
        bool done;

        g_test_message("%s", steps[i]);
        w->at = steps[i];
        done = prune(w, &result, &error);
        g_assert_true(w->happened);
        /* What is told as removed is the last step: nothing may be left to be stopped. */
        if (!done)
            g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
        else
            g_assert_cmpstr(steps[i], ==, "removing packs");
        assert_whole(w);
        assert_completed(w);
    }
}

/* From when it is lost, nothing that others may count on changes: no index file comes, none goes. */
static void
test_lock_lost(void)
{
    for (guint i = 0; i < 3; i++) {
        g_autoptr(World) w = world_new();
        unsigned n_indexes = fixture_count(w->f, "index"), n_packs = fixture_count(w->f, "data");
        g_autoptr(GError) error = NULL;
        KvssPruneResult result;

        g_test_message("%s", steps[i]);
        w->at = steps[i];
        w->loses_lock = true;
        g_assert_false(prune(w, &result, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED);
        g_assert_cmpuint(fixture_count(w->f, "data"), >=, n_packs);
        g_assert_cmpuint(fixture_count(w->f, "index"), >=, n_indexes);
        if (i < 2)
            g_assert_cmpuint(fixture_count(w->f, "index"), ==, n_indexes);
        assert_whole(w);
        assert_completed(w);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/prune/cancelled", test_cancelled);
    g_test_add_func("/prune/lock-lost", test_lock_lost);
    return g_test_run();
}
