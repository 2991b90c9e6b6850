/*
 * test-repository.c - create, add, read back; what restic wrote; what an interrupted run leaves
 */
#include "repository-fixture.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 65536u

static void
assert_bytes(GBytes *found, GBytes *expected)
{
    g_assert_nonnull(found);
    g_assert_cmpmem(g_bytes_get_data(found, NULL), g_bytes_get_size(found),
                    g_bytes_get_data(expected, NULL), g_bytes_get_size(expected));
}

static GBytes *
zeroes(size_t length)
{
    return g_bytes_new_take(g_malloc0(length + 1), length);
}

/* ---- create and open ---- */

static void
test_init(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *fresh = g_build_filename(f->dir, "fresh", NULL);
    g_autofree char *nowhere = g_build_filename(f->dir, "no", "where", NULL);
    g_autofree char *id = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssRepository) repository = NULL;

    g_assert_true(kvss_repository_init(fresh, "secret", &id, &error));
    repository = kvss_repository_open(fresh, "secret", KVSS_REPOSITORY_LOOK, NULL, f->state,
                                      &error);
    g_assert_no_error(error);
    g_assert_cmpstr(kvss_repository_id(repository), ==, id);

    g_assert_false(kvss_repository_init(fresh, "secret", NULL, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_false(kvss_repository_init(f->dir, "secret", NULL, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS);
    g_clear_error(&error);
    g_assert_false(kvss_repository_init(nowhere, "secret", NULL, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING);
    g_clear_error(&error);
    g_assert_false(kvss_repository_init("b2:bucket:folder", "secret", NULL, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_UNSUPPORTED);
}

static void
assert_open_fails(Fixture *f, const char *location, const char *password, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(kvss_repository_open(location, password, KVSS_REPOSITORY_LOOK, NULL, f->state,
                                       &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, code);
}

static void
test_open_wrong(void)
{
    g_autoptr(Fixture) f = fixture_new();

    assert_open_fails(f, "/no/such/folder", "x", KVSS_REPOSITORY_ERROR_MISSING);
    assert_open_fails(f, f->dir, "x", KVSS_REPOSITORY_ERROR_MISSING);
    assert_open_fails(f, f->location, "wrong", KVSS_REPOSITORY_ERROR_PASSWORD);
    assert_open_fails(f, f->location, "", KVSS_REPOSITORY_ERROR_PASSWORD);
    assert_open_fails(f, "sftp:localhost:/backup", "x", KVSS_REPOSITORY_ERROR_UNSUPPORTED);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 0);
}

/* ---- round trips ---- */

static void
test_round_trip(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(1, 10 * CHUNK + 17), none = g_bytes_new(NULL, 0);
    g_autoptr(GBytes) one = g_bytes_new("x", 1), zero = zeroes(3 * CHUNK + 5);
    g_autoptr(GBytes) found = NULL, found_none = NULL, found_one = NULL, found_zero = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    fixture_backup(f, id, "vms/a/disks/vda.raw", noise, "none", none, "vms/one", one,
                   "vms/a/zero", zero, NULL);
    found = fixture_read(f, id, "vms/a/disks/vda.raw", NULL);
    found_none = fixture_read(f, id, "none", NULL);
    found_one = fixture_read(f, id, "vms/one", NULL);
    found_zero = fixture_read(f, id, "vms/a/zero", NULL);
    assert_bytes(found, noise);
    assert_bytes(found_none, none);
    assert_bytes(found_one, one);
    assert_bytes(found_zero, zero);
    g_assert_cmpuint(fixture_count(f, "tmp"), ==, 0);
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 0);
}

/* The same content again: no new pack of data, and each tree that did not change is reused. */
static void
test_again(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(2, 30 * CHUNK);
    char first[KVSS_ID_HEX_LENGTH + 1], second[KVSS_ID_HEX_LENGTH + 1];
    unsigned n_packs;

    fixture_backup(f, first, "vms/a/vda.raw", noise, NULL);
    n_packs = fixture_count(f, "data");
    fixture_backup(f, second, "vms/a/vda.raw", noise, NULL);
    g_assert_cmpuint(fixture_count(f, "data"), ==, n_packs);
    g_assert_cmpuint(fixture_count(f, "index"), ==, 1);
    g_assert_cmpuint(fixture_count(f, "snapshots"), ==, 2);
    g_assert_cmpstr(first, !=, second);
}

static KvssUploadStats
upload_source(KvssUpload *upload, KvssSource *source, const char *path)
{
    KvssUploadStats stats;
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSink) sink
        = kvss_upload_open_file(upload, path, source->size, CHUNK, 0600, &stats, &error);

    g_assert_no_error(error);
    if (!kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error))
        g_error("%s", error->message);
    return stats;
}

static GBytes *
repeat(GBytes *bytes, unsigned n)
{
    GByteArray *all = g_byte_array_new();

    for (unsigned i = 0; i < n; i++)
        g_byte_array_append(all, g_bytes_get_data(bytes, NULL), (guint) g_bytes_get_size(bytes));
    return g_byte_array_free_to_bytes(all);
}

/* A chunk that several threads meet at once is stored once. */
static void
test_same_chunk_in_many_threads(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) chunk = fixture_noise(3, CHUNK), disk = repeat(chunk, 1000);
    g_autoptr(KvssSource) source = kvss_source_new_bytes(disk);
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    KvssUploadStats stats = upload_source(upload, source, "disk");

    g_assert_cmpuint(stats.chunks, ==, 1000);
    g_assert_cmpuint(stats.chunks_new, ==, 1);
    g_assert_cmpuint(stats.bytes_new, ==, CHUNK);
    g_assert_cmpuint(stats.bytes_stored, ==, CHUNK + 32);
}

/* A disk of nothing: one blob, whatever its size; the last, shorter chunk is another. */
static void
test_sparse(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    const uint64_t size = (G_GUINT64_CONSTANT(1) << 34) + 512;
    KvssUploadStats stats;
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSink) sink
        = kvss_upload_open_file(upload, "disk", size, 1 << 20, 0600, &stats, &error);
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    g_autoptr(KvssSnapshot) snapshot = NULL;
    g_autoptr(KvssNode) node = NULL;
    KvssSnapshotInfo info = { .hostname = "h" };
    g_autoptr(GBytes) zero = zeroes(1 << 20);
    char id[KVSS_ID_HEX_LENGTH + 1];

    g_assert_true(kvss_sink_write(sink, 5 << 20, g_bytes_get_data(zero, NULL), 1 << 20, &error));
    g_assert_true(kvss_sink_finish(sink, &error));
    kvss_sink_free(g_steal_pointer(&sink));
    g_assert_cmpuint(stats.chunks_new, ==, 2);
    g_assert_cmpuint(stats.bytes_stored, <, 1000);
    g_assert_true(kvss_upload_commit(upload, &info, id, &error));

    snapshot = kvss_repository_find_snapshot(repository, id, &error);
    node = kvss_repository_lookup(repository, snapshot->tree, "disk", &error);
    source = kvss_repository_open_file(repository, node, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_source_extents(source, 0, size, extents, &error));
    g_assert_cmpuint(extents->len, ==, 1);
    g_assert_true(g_array_index(extents, KvssExtent, 0).zero);
}

static KvssSource *
open_stored(KvssRepository *repository, const char *id, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSnapshot) snapshot = kvss_repository_find_snapshot(repository, id, &error);
    g_autoptr(KvssNode) node
        = kvss_repository_lookup(repository, snapshot->tree, path, &error);
    KvssSource *source = kvss_repository_open_file(repository, node, &error);

    g_assert_no_error(error);
    return source;
}

/* A second backup of @bytes that keeps all it can of the first, and writes the rest. */
static void
keep_all(Fixture *f, const char *first, GBytes *bytes, uint64_t keep_end)
{
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssSource) base = open_stored(repository, first, "disk");
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    KvssUploadStats stats;
    KvssSnapshotInfo info = { .hostname = "h" };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) found = NULL;
    g_autoptr(KvssSink) sink
        = kvss_upload_open_file(upload, "disk", size, CHUNK, 0600, &stats, &error);
    char id[KVSS_ID_HEX_LENGTH + 1];

    g_assert_true(kvss_upload_use_base(sink, base));
    g_assert_cmpuint(sink->keep_end, ==, keep_end);
    g_assert_true(kvss_sink_keep(sink, 0, keep_end, &error));
    if (keep_end < size)
        g_assert_true(kvss_sink_write(sink, keep_end, data + keep_end, size - keep_end, &error));
    g_assert_true(kvss_sink_finish(sink, &error));
    g_clear_pointer(&sink, kvss_sink_free);
    g_assert_cmpuint(stats.chunks, ==, (size + CHUNK - 1) / CHUNK);
    g_assert_true(kvss_upload_commit(upload, &info, id, &error));
    found = fixture_read(f, id, "disk", &error);
    assert_bytes(found, bytes);
}

/* What is kept of a disk of the same size, a grown one, a shrunk one; chunks at the end are not whole. */
static void
test_base(void)
{
    const uint64_t size = 9 * CHUNK + 1000;
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) grown = fixture_noise(8, 12 * CHUNK + 5);
    g_autoptr(GBytes) disk = g_bytes_new_from_bytes(grown, 0, size);
    g_autoptr(GBytes) shrunk = g_bytes_new_from_bytes(grown, 0, 4 * CHUNK + 3);
    g_autoptr(GBytes) small = g_bytes_new_from_bytes(grown, 0, 100);
    char id[KVSS_ID_HEX_LENGTH + 1], tiny[KVSS_ID_HEX_LENGTH + 1];

    fixture_backup(f, id, "disk", disk, NULL);
    keep_all(f, id, disk, size);
    keep_all(f, id, grown, 9 * CHUNK);
    keep_all(f, id, shrunk, 4 * CHUNK);
    keep_all(f, id, small, 0);
    fixture_backup(f, tiny, "disk", small, NULL);
    keep_all(f, tiny, small, 100);
    keep_all(f, tiny, disk, 0);
}

static void
test_base_cut_otherwise(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) disk = fixture_noise(9, 9 * CHUNK);
    char id[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssSource) base = NULL;
    g_autoptr(KvssUpload) upload = NULL;
    g_autoptr(KvssSink) sink = NULL;

    fixture_backup(f, id, "disk", disk, NULL);
    repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    base = open_stored(repository, id, "disk");
    upload = kvss_upload_new(repository, NULL);
    sink = kvss_upload_open_file(upload, "disk", 9 * CHUNK, 2 * CHUNK, 0600, NULL, NULL);
    g_assert_false(kvss_upload_use_base(sink, base));
    g_assert_cmpuint(sink->keep_end, ==, 0);
}

/* Reads at any offset and length, from many places at once, give what was stored. */
static gpointer
read_at_random(gpointer data)
{
    gpointer *args = data;
    KvssSource *source = args[0];
    const uint8_t *expected = g_bytes_get_data(args[1], NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(args[2]));
    g_autofree uint8_t *buffer = g_malloc(300000);

    for (int i = 0; i < 300; i++) {
        size_t length = (size_t) g_rand_int_range(rand, 1, 300000);
        uint64_t offset = (uint64_t) g_rand_int_range(rand, 0, (gint) (source->size - length));
        g_autoptr(GError) error = NULL;

        g_assert_true(kvss_source_read(source, offset, buffer, length, &error));
        g_assert_cmpmem(buffer, length, expected + offset, length);
    }
    return NULL;
}

static void
test_random_reads(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(4, 40 * CHUNK + 99);
    char id[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssSnapshot) snapshot = NULL;
    g_autoptr(KvssNode) node = NULL;
    g_autoptr(KvssSource) source = NULL;
    GThread *threads[4];
    gpointer args[4][3];

    fixture_backup(f, id, "disk", noise, NULL);
    repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    snapshot = kvss_repository_find_snapshot(repository, id, NULL);
    node = kvss_repository_lookup(repository, snapshot->tree, "disk", NULL);
    source = kvss_repository_open_file(repository, node, NULL);
    for (guint i = 0; i < 4; i++) {
        args[i][0] = source;
        args[i][1] = noise;
        args[i][2] = GUINT_TO_POINTER(i);
        threads[i] = g_thread_new("reader", read_at_random, args[i]);
    }
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
}

/* ---- what restic wrote ---- */

static KvssRepository *
open_golden(Fixture *f, const char *password)
{
    g_autoptr(GError) error = NULL;
    KvssRepository *repository = kvss_repository_open(f->location, password, KVSS_REPOSITORY_LOOK,
                                                      f->cache, f->state, &error);

    g_assert_no_error(error);
    return repository;
}

static void
assert_golden_file(KvssRepository *repository, const KvssSnapshot *snapshot, const char *path,
                   const char *sha256)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssNode) node
        = kvss_repository_lookup(repository, snapshot->tree, path, &error);
    g_autoptr(GBytes) content
        = node ? kvss_repository_read_file(repository, node, 20 << 20, &error) : NULL;
    g_autofree char *found = NULL;

    g_assert_no_error(error);
    found = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, content);
    g_assert_cmpstr(found, ==, sha256);
}

static void
test_golden(void)
{
    g_autoptr(Fixture) f = fixture_new_golden();
    g_autoptr(KvssRepository) repository = open_golden(f, "other password");
    g_autoptr(GPtrArray) second
        = kvss_repository_list_snapshots(repository, "second", NULL);
    g_autoptr(GPtrArray) all = kvss_repository_list_snapshots(repository, "kvss", NULL);
    const KvssSnapshot *snapshot;

    g_assert_cmpuint(all->len, ==, 2);
    g_assert_cmpuint(second->len, ==, 1);
    snapshot = g_ptr_array_index(all, 0);
    g_assert_cmpstr(snapshot->hostname, ==, "goldhost");
    g_assert_cmpint(snapshot->time_us / G_USEC_PER_SEC, ==, 1714979289);
    g_assert_cmpstr(snapshot->paths[0], ==, "/tmp/golden");
    for (guint i = 0; i < 2; i++) {
        snapshot = g_ptr_array_index(all, i);
        assert_golden_file(repository, snapshot, "vms/web 01/disks/vda.raw",
                           "348e98b2d28f90bfbc8bbc058e79b1467062d89bad9938ae7b3ec0803513f55f");
        assert_golden_file(repository, snapshot, "vms/web 01/domain.xml",
                           "7cf04fa6f81a9cade8004660289f48e16609194db60c8d85b59986fa7663a83e");
        assert_golden_file(repository, snapshot, "a \"quoted\" \\ name",
                           "397dd405e8c16ba4613231614eb5a9bd970edea443132d66b725bfe33529a24b");
        assert_golden_file(repository, snapshot, "not-utf8-\xff",
                           "115e41e477697e4e191fec2b9b8d2161d1f4980bedff2cf7782cfa0a58269e9d");
        assert_golden_file(repository, snapshot, "caf\xc3\xa9 \xe2\x80\xa8 sep",
                           "ebc45fabefbabdd06424b3c476b11e93fec784069ff10844e7383d59f491f8cb");
    }
}

static void
test_golden_nodes(void)
{
    g_autoptr(Fixture) f = fixture_new_golden();
    g_autoptr(KvssRepository) repository = open_golden(f, GOLDEN_PASSWORD);
    g_autoptr(GPtrArray) all = kvss_repository_list_snapshots(repository, NULL, NULL);
    const KvssSnapshot *snapshot = g_ptr_array_index(all, 1);
    g_autoptr(KvssNode) link = kvss_repository_lookup(repository, snapshot->tree, "link", NULL);
    g_autoptr(KvssNode) empty = kvss_repository_lookup(repository, snapshot->tree, "empty", NULL);
    g_autoptr(KvssNode) folder = kvss_repository_lookup(repository, snapshot->tree, "vms", NULL);
    g_autoptr(KvssNode) disk
        = kvss_repository_lookup(repository, snapshot->tree, "vms/web 01/disks/vda.raw", NULL);
    g_autoptr(KvssSource) source = kvss_repository_open_file(repository, disk, NULL);
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    g_autoptr(GError) error = NULL;
    uint64_t n_zero = 0;

    g_assert_cmpint(link->type, ==, KVSS_NODE_SYMLINK);
    g_assert_cmpstr(link->link_target, ==, "vms/web 01");
    g_assert_cmpuint(empty->mode, ==, 04755);
    g_assert_cmpuint(empty->size, ==, 0);
    g_assert_cmpint(folder->type, ==, KVSS_NODE_FOLDER);
    g_assert_null(kvss_repository_lookup(repository, snapshot->tree, "vms/none", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(kvss_repository_lookup(repository, snapshot->tree, "later/x", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(kvss_repository_read_file(repository, disk, 1000, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);

    /* restic cut the nine megabytes of zeroes by content: they are recognised all the same. */
    g_assert_true(kvss_source_extents(source, 0, source->size, extents, NULL));
    for (guint i = 0; i < extents->len; i++)
        if (g_array_index(extents, KvssExtent, i).zero)
            n_zero += g_array_index(extents, KvssExtent, i).length;
    g_assert_cmpuint(n_zero, >=, 8 << 20);
}

static void
test_find_snapshot(void)
{
    g_autoptr(Fixture) f = fixture_new_golden();
    g_autoptr(KvssRepository) repository = open_golden(f, GOLDEN_PASSWORD);
    g_autoptr(KvssSnapshot) found = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_null(kvss_repository_find_snapshot(repository, "", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_AMBIGUOUS);
    g_clear_error(&error);
    g_assert_null(kvss_repository_find_snapshot(repository, "xyz", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND);
    g_clear_error(&error);
    found = kvss_repository_find_snapshot(repository, "b9ab63", &error);
    g_assert_no_error(error);
    g_assert_true(g_str_has_prefix(found->id, "b9ab63ea"));
}

/* ---- interrupted ---- */

/* Given up before commit: no snapshot, no temporary file, and the next run finds what was stored. */
static void
test_given_up(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(5, 300 * CHUNK);
    g_autoptr(KvssSource) source = kvss_source_new_bytes(noise);
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    KvssUpload *upload = kvss_upload_new(repository, NULL);
    KvssUploadStats stats = upload_source(upload, source, "disk");

    g_assert_cmpuint(stats.chunks_new, ==, 300);
    kvss_upload_free(upload);
    g_assert_cmpuint(fixture_count(f, "snapshots"), ==, 0);
    g_assert_cmpuint(fixture_count(f, "tmp"), ==, 0);
    g_assert_cmpuint(fixture_count(f, "index"), ==, 1);

    upload = kvss_upload_new(repository, NULL);
    stats = upload_source(upload, source, "disk");
    g_assert_cmpuint(stats.chunks_new, ==, 0);
    kvss_upload_free(upload);
}

/* What a dead writer left in tmp/ goes at the next open to add; what a living one has stays. */
static void
test_remains(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *folder = g_build_filename(f->location, "tmp", NULL);
    g_autofree char *dead = g_build_filename(folder, "kvss-0123456789abcdef", NULL);
    g_autofree char *foreign = g_build_filename(folder, "somebody", NULL);
    g_autoptr(GBytes) noise = fixture_noise(6, 3 * CHUNK);
    g_autoptr(KvssSource) source = kvss_source_new_bytes(noise);
    g_autoptr(KvssRepository) one = NULL, two = NULL;
    KvssUpload *upload;

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_assert_true(g_file_set_contents(dead, "x", 1, NULL));
    g_assert_true(g_file_set_contents(foreign, "x", 1, NULL));
    one = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_assert_false(g_file_test(dead, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(foreign, G_FILE_TEST_EXISTS));

    upload = kvss_upload_new(one, NULL);
    (void) upload_source(upload, source, "disk");
    g_assert_cmpuint(fixture_count(f, "tmp"), ==, 2); /* an open pack */
    two = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_assert_cmpuint(fixture_count(f, "tmp"), ==, 2);
    kvss_upload_free(upload);
    g_assert_cmpuint(fixture_count(f, "tmp"), ==, 1);
}

/* Bad paths and paths twice are refused. */
static void
test_paths(void)
{
    static const char *const bad[] = { "", "/a", "a//b", "a/", "../a", "a/./b", "." };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    g_autoptr(GBytes) one = g_bytes_new("x", 1);
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(kvss_upload_add_bytes(upload, bad[i], one, 0600, NULL));
    g_assert_true(kvss_upload_add_bytes(upload, "a/b", one, 0600, &error));
    g_assert_false(kvss_upload_add_bytes(upload, "a/b", one, 0600, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS);
    g_assert_false(kvss_upload_add_bytes(upload, "a/b/c", one, 0600, NULL));
    g_assert_false(kvss_upload_add_bytes(upload, "a", one, 0600, NULL));
}

/* The cache is used, is made anew when it is damaged, and follows new and lost index files. */
static void
test_cache(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(7, 5 * CHUNK), more = fixture_noise(8, 5 * CHUNK);
    g_autoptr(GBytes) found = NULL, again = NULL;
    g_autoptr(GDir) dir = NULL;
    g_autofree char *cache = NULL, *index = NULL;
    char first[KVSS_ID_HEX_LENGTH + 1], second[KVSS_ID_HEX_LENGTH + 1];
    g_autoptr(GError) error = NULL;

    fixture_backup(f, first, "disk", noise, NULL);
    fixture_backup(f, second, "disk", more, NULL);
    found = fixture_read(f, first, "disk", NULL);
    assert_bytes(found, noise);
    dir = g_dir_open(f->cache, 0, NULL);
    cache = g_build_filename(f->cache, g_dir_read_name(dir), "index", NULL);

    for (gint64 offset = 0; offset < 200; offset += 13) {
        g_autoptr(GBytes) same = NULL;

        fixture_flip(cache, offset);
        same = fixture_read(f, second, "disk", NULL);
        assert_bytes(same, more);
    }
    index = fixture_file(f, "index", 0);
    g_assert_cmpint(unlink(index), ==, 0);
    again = fixture_read(f, first, "disk", &error);
    if (again) {
        g_clear_pointer(&again, g_bytes_unref);
        again = fixture_read(f, second, "disk", &error);
    }
    g_assert_null(again);
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "no index names it"));
}

/* A reader that was open before a backup was made finds it. */
static void
test_seen_by_open_reader(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) noise = fixture_noise(9, 5 * CHUNK), more = fixture_noise(10, 5 * CHUNK);
    g_autoptr(KvssRepository) reader = NULL;
    g_autoptr(KvssSnapshot) one = NULL, two = NULL;
    g_autoptr(KvssNode) node = NULL;
    g_autoptr(GBytes) found = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    fixture_backup(f, id, "disk", noise, NULL);
    reader = fixture_open(f, KVSS_REPOSITORY_LOOK);
    one = kvss_repository_find_snapshot(reader, id, NULL);
    node = kvss_repository_lookup(reader, one->tree, "disk", NULL);
    g_assert_nonnull(node);
    kvss_node_free(g_steal_pointer(&node));

    fixture_backup(f, id, "disk", more, NULL);
    two = kvss_repository_find_snapshot(reader, id, NULL);
    node = kvss_repository_lookup(reader, two->tree, "disk", NULL);
    g_assert_nonnull(node);
    found = kvss_repository_read_file(reader, node, 10 * CHUNK, NULL);
    assert_bytes(found, more);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repository/init", test_init);
    g_test_add_func("/repository/open-wrong", test_open_wrong);
    g_test_add_func("/repository/round-trip", test_round_trip);
    g_test_add_func("/repository/again", test_again);
    g_test_add_func("/repository/same-chunk", test_same_chunk_in_many_threads);
    g_test_add_func("/repository/sparse", test_sparse);
    g_test_add_func("/repository/base", test_base);
    g_test_add_func("/repository/base-cut-otherwise", test_base_cut_otherwise);
    g_test_add_func("/repository/random-reads", test_random_reads);
    g_test_add_func("/repository/golden", test_golden);
    g_test_add_func("/repository/golden-nodes", test_golden_nodes);
    g_test_add_func("/repository/find-snapshot", test_find_snapshot);
    g_test_add_func("/repository/given-up", test_given_up);
    g_test_add_func("/repository/remains", test_remains);
    g_test_add_func("/repository/paths", test_paths);
    g_test_add_func("/repository/cache", test_cache);
    g_test_add_func("/repository/open-reader", test_seen_by_open_reader);
    return g_test_run();
}
