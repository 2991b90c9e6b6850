/*
 * test-serve.c - what kvss serve is made of: the cache, the names, the reports, the socket
 *
 * nbdkit, clients and damage are tested with a real server.
 */
#include "base/fd.h"
#include "host/error.h"
#include "serve/cache.h"
#include "serve/exports.h"
#include "serve/report.h"
#include "serve/socket.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE 4096u
#define N_PIECES 64u
#define SIZE (N_PIECES * PIECE - 100)

/* ---- the cache ---- */

/** A source whose every byte tells its place, which counts its reads, and can be broken. */
typedef struct {
    KvssSource source;
    gint reads[N_PIECES];
    gint broken;          /* this piece, -1: none */
    gint odd;             /* reads that were not one whole piece */
} Fake;

static uint8_t
byte_at(uint64_t offset)
{
    return (uint8_t) (offset * 7 + offset / 251 + 1);
}

/* Every eighth piece is a hole. */
static bool
fake_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out, GError **error)
{
    uint64_t end = offset + length;

    while (offset < end) {
        uint64_t until = MIN((offset / PIECE + 1) * PIECE, end);
        KvssExtent extent = { offset, until - offset, offset / PIECE % 8 == 7 };

        g_array_append_val(out, extent);
        offset = until;
    }
    return true;
}

static bool
fake_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    Fake *fake = (Fake *) source;
    uint8_t *to = buffer;

    if (offset % PIECE != 0 || length != MIN(PIECE, SIZE - offset))
        g_atomic_int_inc(&fake->odd);
    g_atomic_int_inc(&fake->reads[offset / PIECE]);
    g_usleep(200);
    if (g_atomic_int_get(&fake->broken) == (gint) (offset / PIECE))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, "broken");
    for (size_t i = 0; i < length; i++)
        to[i] = byte_at(offset + i);
    return true;
}

static void
fake_free(KvssSource *source)
{
}

static const KvssSourceOps fake_ops = { fake_extents, fake_read, fake_free };

static void
fake_init(Fake *fake)
{
    memset(fake, 0, sizeof *fake);
    fake->source.ops = &fake_ops;
    fake->source.size = SIZE;
    fake->source.is_parallel = true;
    fake->broken = -1;
}

static void
assert_reads_well(KvssCached *cached, uint64_t offset, size_t length)
{
    g_autofree uint8_t *buffer = g_malloc(length + 1);
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_cached_read(cached, offset, buffer, length, NULL, &error));
    g_assert_no_error(error);
    for (size_t i = 0; i < length; i++)
        g_assert_cmpuint(buffer[i], ==,
                         (offset + i) / PIECE % 8 == 7 ? 0 : byte_at(offset + i));
}

static void
test_cache(void)
{
    g_autoptr(KvssCache) cache = kvss_cache_new(16 * PIECE, 2);
    Fake fake;
    KvssCached *cached;

    fake_init(&fake);
    cached = kvss_cache_add(cache, &fake.source, PIECE);
    for (unsigned i = 0; i < 5; i++)
        assert_reads_well(cached, 10 + i, 50);
    g_assert_cmpint(fake.reads[0], ==, 1);
    assert_reads_well(cached, PIECE - 1, 2);
    g_assert_cmpint(fake.reads[0], ==, 1);
    assert_reads_well(cached, SIZE - 1, 1);
    assert_reads_well(cached, SIZE, 0);
    assert_reads_well(cached, 7 * PIECE, PIECE);
    g_assert_cmpint(fake.reads[7], ==, 0);

    /* More than there is room for: what was used last is still there, the first is not. */
    assert_reads_well(cached, 0, SIZE);
    g_atomic_int_set(&fake.reads[0], 0);
    g_atomic_int_set(&fake.reads[60], 0);
    assert_reads_well(cached, 60 * PIECE, 1);
    assert_reads_well(cached, 0, 1);
    g_assert_cmpint(fake.reads[60], ==, 0);
    g_assert_cmpint(fake.reads[0], ==, 1);
    g_assert_cmpint(fake.odd, ==, 0);
}

static void
test_cache_failure(void)
{
    g_autoptr(KvssCache) cache = kvss_cache_new(16 * PIECE, 1);
    g_autofree uint8_t *buffer = g_malloc(4 * PIECE);
    g_autoptr(GError) error = NULL;
    uint64_t bad = 0;
    KvssCached *cached;
    Fake fake;

    fake_init(&fake);
    fake.broken = 2;
    cached = kvss_cache_add(cache, &fake.source, PIECE);
    g_assert_false(kvss_cached_read(cached, 100, buffer, 3 * PIECE, &bad, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    g_assert_cmpuint(bad, ==, 2 * PIECE);
    assert_reads_well(cached, 0, 2 * PIECE);
    assert_reads_well(cached, 3 * PIECE, PIECE);
    /* It is not remembered: what was mended is read. */
    g_atomic_int_set(&fake.broken, -1);
    assert_reads_well(cached, 100, 3 * PIECE);
}

static void
test_cache_ahead(void)
{
    g_autoptr(KvssCache) cache = kvss_cache_new(32 * PIECE, 2);
    KvssCached *cached;
    Fake fake;
    int read = 0;

    fake_init(&fake);
    cached = kvss_cache_add(cache, &fake.source, PIECE);
    for (int i = 0; i < 3; i++)
        kvss_cached_read_ahead(cached, 0, 4 * PIECE);
    for (unsigned i = 0; i < 4; i++)
        assert_reads_well(cached, i * PIECE, PIECE);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpint(fake.reads[i], ==, 1);

    /* No more at once than a quarter of the room, past no end, and nothing of holes. */
    kvss_cached_read_ahead(cached, 16 * PIECE, 1u << 30);
    kvss_cache_free(g_steal_pointer(&cache));
    for (unsigned i = 16; i < N_PIECES; i++)
        read += fake.reads[i];
    g_assert_cmpint(read, >=, 1);
    g_assert_cmpint(read, <=, 16);
    g_assert_cmpint(fake.reads[23], ==, 0);
}

/** Many readers of two sources in one small cache. */
typedef struct {
    KvssCached *cached[2];
    gint failures;
} Crowd;

static gpointer
crowd_member(gpointer data)
{
    Crowd *crowd = data;
    g_autoptr(GRand) dice = g_rand_new_with_seed(GPOINTER_TO_UINT(g_thread_self()));
    uint8_t buffer[3 * PIECE];

    for (int turn = 0; turn < 400; turn++) {
        KvssCached *cached = crowd->cached[g_rand_int_range(dice, 0, 2)];
        size_t length = (size_t) g_rand_int_range(dice, 1, sizeof buffer);
        uint64_t offset = (uint64_t) g_rand_int_range(dice, 0, (gint32) (SIZE - length));
        bool ok = kvss_cached_read(cached, offset, buffer, length, NULL, NULL);

        for (size_t i = 0; ok && i < length; i++)
            ok = buffer[i] == ((offset + i) / PIECE % 8 == 7 ? 0 : byte_at(offset + i));
        if (!ok)
            g_atomic_int_inc(&crowd->failures);
        if (turn % 10 == 0)
            kvss_cached_read_ahead(cached, offset, 8 * PIECE);
    }
    return NULL;
}

static void
test_cache_crowd(void)
{
    g_autoptr(KvssCache) cache = kvss_cache_new(12 * PIECE, 2);
    GThread *threads[6];
    Fake fakes[2];
    Crowd crowd = { .failures = 0 };

    for (int i = 0; i < 2; i++) {
        fake_init(&fakes[i]);
        crowd.cached[i] = kvss_cache_add(cache, &fakes[i].source, PIECE);
    }
    for (int i = 0; i < 6; i++)
        threads[i] = g_thread_new("reader", crowd_member, &crowd);
    for (int i = 0; i < 6; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(crowd.failures, ==, 0);
}

/* ---- names ---- */

static KvssComponent *
vm_new(KvssManifest *manifest, const char *uuid, const char *name, const char *const *targets)
{
    KvssComponent *component = kvss_component_new(uuid, name);

    for (; *targets; targets++)
        kvss_component_add_disk(component, *targets);
    kvss_manifest_add(manifest, component, NULL);
    return component;
}

static const char *
name_of(const GPtrArray *exports, guint i)
{
    return ((const KvssServeExport *) g_ptr_array_index(exports, i))->name;
}

static void
test_exports(void)
{
    static const char *const two[] = { "vda", "vdb", NULL }, *const one[] = { "vda", NULL };
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssComponent) web = vm_new(manifest, "u-1", "web", two);
    g_autoptr(KvssComponent) twin = vm_new(manifest, "u-2", "twin", one);
    g_autoptr(KvssComponent) other = vm_new(manifest, "u-3", "twin", one);
    KvssSnapshot snapshot = { .id = "0123456789" };
    KvssBackup backup = { .snapshot = &snapshot, .manifest = manifest };
    g_autoptr(GPtrArray) all = kvss_serve_exports_new(&backup, NULL, NULL, NULL);
    g_autoptr(GPtrArray) vm = kvss_serve_exports_new(&backup, "web", NULL, NULL);
    g_autoptr(GPtrArray) disk = kvss_serve_exports_new(&backup, "web", "vdb", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(all->len, ==, 4);
    g_assert_cmpstr(name_of(all, 0), ==, "web/vda");
    g_assert_cmpstr(name_of(all, 2), ==, "u-2/vda");
    g_assert_cmpstr(name_of(all, 3), ==, "u-3/vda");
    g_assert_cmpint(kvss_serve_exports_find(all, ""), ==, -1);
    g_assert_cmpint(kvss_serve_exports_find(all, "U-1/vdb"), ==, 1);
    g_assert_cmpint(kvss_serve_exports_find(all, "web/vdc"), ==, -1);
    g_assert_cmpint(kvss_serve_exports_find(all, "twin/vda"), ==, -1);
    g_assert_cmpuint(vm->len, ==, 2);
    g_assert_cmpuint(disk->len, ==, 1);
    g_assert_cmpint(kvss_serve_exports_find(disk, ""), ==, 0);

    g_assert_null(kvss_serve_exports_new(&backup, "twin", NULL, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS);
    g_clear_error(&error);
    g_assert_null(kvss_serve_exports_new(&backup, "web", "vdc", &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND);
}

static void
test_uri(void)
{
    g_autofree char *plain = kvss_serve_uri("web/vda", "/run/s.sock");
    g_autofree char *odd = kvss_serve_uri("a b?c%&é/vda", "/run/a&b#c");

    g_assert_cmpstr(plain, ==, "nbd+unix:///web/vda?socket=/run/s.sock");
    g_assert_cmpstr(odd, ==, "nbd+unix:///a%20b%3Fc%25%26%C3%A9/vda?socket=/run/a%26b%23c");
}

/* ---- reports ---- */

static void
test_report(void)
{
    g_autoptr(GError) sent = g_error_new(KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY, "\"a\"\nline");
    g_autoptr(GError) heard = NULL, strange = NULL;
    g_autoptr(GString) lines = g_string_new("no object\n[1]\n");
    g_autoptr(JsonObject) object = NULL, empty = json_object_new();
    char buffer[4096];
    int fds[2];
    ssize_t n;

    g_assert_cmpint(pipe(fds), ==, 0);
    kvss_report_send(fds[1], kvss_report_error_new(sent), false);
    n = read(fds[0], buffer, sizeof buffer);
    g_assert_cmpint(n, >, 0);
    g_string_append_len(lines, buffer, n - 3);
    g_assert_null(kvss_report_take(lines));
    g_string_append_len(lines, buffer + n - 3, 3);
    object = kvss_report_take(lines);
    g_assert_nonnull(object);
    g_assert_cmpuint(lines->len, ==, 0);
    heard = kvss_report_error(object);
    g_assert_error(heard, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY);
    g_assert_cmpstr(heard->message, ==, sent->message);
    strange = kvss_report_error(empty);
    g_assert_error(strange, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);

    /* Nobody reads: what may be dropped does not make the sender wait. */
    for (int i = 0; i < 10000; i++)
        kvss_report_send(fds[1], kvss_report_error_new(sent), true);
    (void) close(fds[0]);
    (void) close(fds[1]);
}

/* ---- the socket ---- */

static int
connected(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    kvss_autofd int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    return connect(fd, (struct sockaddr *) &address, sizeof address) == 0 ? 0 : errno;
}

static guint
entries(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void
test_socket(void)
{
    g_autofree char *folder = g_dir_make_tmp("kvss-socket-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    g_autoptr(KvssSocket) first = NULL, second = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    first = kvss_socket_listen(path, &error);
    g_assert_no_error(error);
    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_true(S_ISSOCK(st.st_mode));
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
    g_assert_cmpint(connected(path), ==, 0);
    g_assert_null(kvss_socket_listen(path, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_cmpuint(entries(folder), ==, 1);

    /* Its server ends without a word: the next one takes the place, and the first does not take it away. */
    kvss_socket_close(first);
    g_assert_cmpint(connected(path), ==, ECONNREFUSED);
    second = kvss_socket_listen(path, &error);
    g_assert_no_error(error);
    g_assert_cmpint(connected(path), ==, 0);
    g_clear_pointer(&first, kvss_socket_free);
    g_assert_cmpint(connected(path), ==, 0);
    g_assert_cmpuint(entries(folder), ==, 1);
    g_clear_pointer(&second, kvss_socket_free);
    g_assert_cmpuint(entries(folder), ==, 0);

    g_assert_true(g_file_set_contents(path, "mine", -1, NULL));
    g_assert_null(kvss_socket_listen(path, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
    g_assert_cmpuint(entries(folder), ==, 1);
    g_unlink(path);
    g_rmdir(folder);
}

/** Two who want the same stale socket's place at the same time: one has it. */
static gpointer
contender(gpointer path)
{
    return kvss_socket_listen(path, NULL);
}

static void
test_socket_race(void)
{
    g_autofree char *folder = g_dir_make_tmp("kvss-socket-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "s", NULL);

    for (int turn = 0; turn < 100; turn++) {
        KvssSocket *stale = kvss_socket_listen(path, NULL);
        KvssSocket *won[4];
        GThread *threads[4];
        int n = 0;

        kvss_socket_close(stale);
        for (int i = 0; i < 4; i++)
            threads[i] = g_thread_new("contender", contender, path);
        for (int i = 0; i < 4; i++) {
            won[i] = g_thread_join(threads[i]);
            n += won[i] != NULL;
        }
        g_assert_cmpint(n, ==, 1);
        g_assert_cmpint(connected(path), ==, 0);
        kvss_socket_free(stale);
        for (int i = 0; i < 4; i++)
            kvss_socket_free(won[i]);
        g_assert_cmpuint(entries(folder), ==, 0);
    }
    g_rmdir(folder);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/serve/cache", test_cache);
    g_test_add_func("/serve/cache/failure", test_cache_failure);
    g_test_add_func("/serve/cache/ahead", test_cache_ahead);
    g_test_add_func("/serve/cache/crowd", test_cache_crowd);
    g_test_add_func("/serve/exports", test_exports);
    g_test_add_func("/serve/uri", test_uri);
    g_test_add_func("/serve/report", test_report);
    g_test_add_func("/serve/socket", test_socket);
    g_test_add_func("/serve/socket/race", test_socket_race);
    return g_test_run();
}
