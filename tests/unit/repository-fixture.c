/*
 * repository-fixture.c - a repository in a temporary folder, for unit tests
 */
#include "repository-fixture.h"
#include "cheap-key.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void
remove_tree(const char *path)
{
    (void) nftw(path, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

void
fixture_copy_tree(const char *from, const char *to)
{
    g_autoptr(GDir) dir = g_dir_open(from, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    g_assert_cmpint(g_mkdir_with_parents(to, 0700), ==, 0);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *source = g_build_filename(from, name, NULL);
        g_autofree char *target = g_build_filename(to, name, NULL);
        g_autofree char *content = NULL;
        gsize length;

        if (g_file_test(source, G_FILE_TEST_IS_DIR)) {
            fixture_copy_tree(source, target);
            continue;
        }
        g_assert_true(g_file_get_contents(source, &content, &length, NULL));
        g_assert_true(g_file_set_contents_full(target, content, (gssize) length,
                                               G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    }
}

static Fixture *
fixture_folders(void)
{
    Fixture *fixture = g_new0(Fixture, 1);
    g_autoptr(GError) error = NULL;

    fixture->dir = g_dir_make_tmp("kvss-test-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->location = g_build_filename(fixture->dir, "repository", NULL);
    fixture->state = g_build_filename(fixture->dir, "state", NULL);
    fixture->cache = g_build_filename(fixture->dir, "cache", NULL);
    return fixture;
}

/* A copy costs less than a new one. */
static char *first_repository;

static void
remove_first(void)
{
    remove_tree(first_repository);
}

Fixture *
fixture_new(void)
{
    Fixture *fixture = fixture_folders();
    g_autoptr(GError) error = NULL;

    if (!first_repository) {
        first_repository = g_dir_make_tmp("kvss-first-XXXXXX", NULL);
        g_assert_true(cheap_init(first_repository, FIXTURE_PASSWORD, &error));
        atexit(remove_first);
    }
    fixture_copy_tree(first_repository, fixture->location);
    return fixture;
}

Fixture *
fixture_new_golden(void)
{
    Fixture *fixture = fixture_folders();
    g_autofree char *golden
        = g_test_build_filename(G_TEST_DIST, "..", "golden", "restic-0.14", NULL);

    fixture_copy_tree(golden, fixture->location);
    return fixture;
}

void
fixture_free(Fixture *fixture)
{
    if (!fixture)
        return;
    remove_tree(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->location);
    g_free(fixture->state);
    g_free(fixture->cache);
    g_free(fixture);
}

KvssRepository *
fixture_open(Fixture *fixture, KvssRepositoryMode mode)
{
    g_autoptr(GError) error = NULL;
    KvssRepository *repository = kvss_repository_open(fixture->location, FIXTURE_PASSWORD, mode,
                                                      fixture->cache, fixture->state, &error);

    g_assert_no_error(error);
    return repository;
}

GBytes *
fixture_noise(uint32_t seed, size_t length)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    uint32_t *words = g_malloc(length + sizeof *words);

    for (size_t i = 0; i < length / sizeof *words + 1; i++)
        words[i] = g_rand_int(rand);
    return g_bytes_new_take(words, length);
}

static void
backup_file(KvssUpload *upload, const char *path, GBytes *bytes)
{
    g_autoptr(KvssSource) source = kvss_source_new_bytes(bytes);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSink) sink
        = kvss_upload_open_file(upload, path, source->size, 65536, 0640, NULL, &error);

    g_assert_no_error(error);
    if (!kvss_copy(source, sink, NULL, NULL, NULL, NULL, &error))
        g_error("%s", error->message);
}

void
fixture_backup(Fixture *fixture, char out_id[KVSS_ID_HEX_LENGTH + 1], const char *path,
               GBytes *bytes, ...)
{
    static const char *const tags[] = { "kvss", NULL }, *const paths[] = { "/vms/test", NULL };
    KvssSnapshotInfo info = { "testhost", paths, tags, g_get_real_time() };
    g_autoptr(KvssRepository) repository = fixture_open(fixture, KVSS_REPOSITORY_ADD);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, &error);
    va_list args;

    g_assert_no_error(error);
    backup_file(upload, path, bytes);
    va_start(args, bytes);
    while ((path = va_arg(args, const char *)) != NULL)
        backup_file(upload, path, va_arg(args, GBytes *));
    va_end(args);
    if (!kvss_upload_commit(upload, &info, out_id, &error))
        g_error("%s", error->message);
}

GBytes *
fixture_read(Fixture *fixture, const char *id, const char *path, GError **error)
{
    g_autoptr(KvssRepository) repository = fixture_open(fixture, KVSS_REPOSITORY_LOOK);

    return fixture_read_open(repository, id, path, error);
}

GBytes *
fixture_read_open(KvssRepository *repository, const char *id, const char *path, GError **error)
{
    g_autoptr(KvssSnapshot) snapshot = kvss_repository_find_snapshot(repository, id, error);
    g_autoptr(KvssNode) node
        = snapshot ? kvss_repository_lookup(repository, snapshot->tree, path, error) : NULL;
    g_autoptr(KvssSource) source
        = node ? kvss_repository_open_file(repository, node, error) : NULL;
    g_autofree uint8_t *content = source ? g_malloc(source->size + 1) : NULL;

    if (!source || !kvss_source_read(source, 0, content, source->size, error))
        return NULL;
    return g_bytes_new(content, source->size);
}

static GPtrArray *files_below; /* nftw has no argument of ours */

static int
gather_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F)
        g_ptr_array_add(files_below, g_strdup(path));
    return 0;
}

static int
compare_paths(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static GPtrArray *
list_files(Fixture *fixture, const char *folder)
{
    g_autofree char *path = g_build_filename(fixture->location, folder, NULL);

    files_below = g_ptr_array_new_with_free_func(g_free);
    (void) nftw(path, gather_one, 20, FTW_PHYS);
    g_ptr_array_sort(files_below, compare_paths);
    return files_below;
}

char *
fixture_file(Fixture *fixture, const char *folder, unsigned n)
{
    g_autoptr(GPtrArray) files = list_files(fixture, folder);

    g_assert_cmpuint(files->len, >, n);
    return g_strdup(g_ptr_array_index(files, n));
}

unsigned
fixture_count(Fixture *fixture, const char *folder)
{
    g_autoptr(GPtrArray) files = list_files(fixture, folder);

    return files->len;
}

void
fixture_flip(const char *path, gint64 offset)
{
    uint8_t byte;
    int fd;

    g_assert_cmpint(chmod(path, 0600), ==, 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    if (offset < 0)
        offset += lseek(fd, 0, SEEK_END);
    g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
    byte ^= 0x40;
    g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
    close(fd);
}
