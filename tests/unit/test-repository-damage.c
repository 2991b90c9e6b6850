/*
 * test-repository-damage.c - every kind of damage is found, named, and never restored in silence
 */
#include "repository/file/document.h"
#include "repository/file/pack.h"
#include "repository/repository-private.h"

#include "repository-fixture.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 65536u

/** What verify told. */
typedef struct {
    GString *text;      /* "what | snapshots | paths", a line each */
    unsigned n;
} Told;

static void
tell(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    Told *told = data;
    g_autofree char *ids = snapshot_ids ? g_strjoinv(",", snapshot_ids) : NULL;
    g_autofree char *files = paths ? g_strjoinv(",", paths) : NULL;

    told->n++;
    g_string_append_printf(told->text, "%s | %s | %s\n", what, ids ? ids : "", files ? files : "");
}

/* Text of all findings; free with g_free. */
static char *
verify_open(KvssRepository *repository, bool read_data, unsigned *out_n)
{
    Told told = { g_string_new(NULL), 0 };
    KvssVerifyOptions options = { .read_data = read_data, .damage = tell, .data = &told };
    KvssVerifyResult result;
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_repository_verify(repository, NULL, &options, &result, &error));
    g_assert_cmpuint(result.damaged, ==, told.n);
    *out_n = told.n;
    return g_string_free(told.text, FALSE);
}

static char *
verify(Fixture *f, bool read_data, unsigned *out_n)
{
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_LOOK);

    return verify_open(repository, read_data, out_n);
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("\"%s\" is not in \"%s\"", part, text);
}

/** Two backups of one disk that share half of it. */
typedef struct {
    Fixture *f;
    char first[KVSS_ID_HEX_LENGTH + 1], second[KVSS_ID_HEX_LENGTH + 1];
} Two;

static Two
two_backups(void)
{
    Two two = { .f = fixture_new() };
    g_autoptr(GBytes) a = fixture_noise(1, 8 * CHUNK), b = fixture_noise(2, 4 * CHUNK);
    GByteArray *mixed = g_byte_array_new();
    g_autoptr(GBytes) half = NULL;

    g_byte_array_append(mixed, g_bytes_get_data(a, NULL), 4 * CHUNK);
    g_byte_array_append(mixed, g_bytes_get_data(b, NULL), 4 * CHUNK);
    half = g_byte_array_free_to_bytes(mixed);
    fixture_backup(two.f, two.first, "vms/a/vda.raw", a, NULL);
    fixture_backup(two.f, two.second, "vms/a/vda.raw", half, NULL);
    return two;
}

/* The pack of the first backup's data: the largest. */
static char *
largest_pack(Fixture *f)
{
    char *best = NULL;
    off_t best_size = -1;

    for (unsigned i = 0; i < fixture_count(f, "data"); i++) {
        g_autofree char *path = fixture_file(f, "data", i);
        struct stat st;

        g_assert_cmpint(stat(path, &st), ==, 0);
        if (st.st_size <= best_size)
            continue;
        best_size = st.st_size;
        g_free(best);
        best = g_steal_pointer(&path);
    }
    return best;
}

static void
test_sound(void)
{
    Two two = two_backups();
    unsigned n;

    g_free(verify(two.f, false, &n));
    g_assert_cmpuint(n, ==, 0);
    g_free(verify(two.f, true, &n));
    g_assert_cmpuint(n, ==, 0);
    fixture_free(two.f);
}

/* A flipped byte in the first chunk of the disk: both backups have it, and reading it fails. */
static void
test_pack_flipped(void)
{
    Two two = two_backups();
    g_autofree char *pack = largest_pack(two.f), *text = NULL;
    g_autoptr(GError) error = NULL;
    unsigned n;

    fixture_flip(pack, 100);
    g_free(verify(two.f, false, &n));
    g_assert_cmpuint(n, ==, 0); /* structure alone does not see it */
    text = verify(two.f, true, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(text, "authentication failed");
    assert_has(text, two.first);
    assert_has(text, "/vms/a/vda.raw");
    g_assert_null(fixture_read(two.f, two.first, "vms/a/vda.raw", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    fixture_free(two.f);
}

/* The header and the length behind it: no blob is lost, it is found all the same. */
static void
test_pack_header_flipped(void)
{
    static const gint64 offsets[] = { -1, -4, -5, -60 };

    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        Two two = two_backups();
        g_autofree char *pack = largest_pack(two.f), *text = NULL;
        unsigned n;

        fixture_flip(pack, offsets[i]);
        text = verify(two.f, true, &n);
        g_assert_cmpuint(n, ==, 1);
        assert_has(text, "header");
        fixture_free(two.f);
    }
}

/* The table's packs, as an index file would name them, the ids of two blobs of the largest exchanged. */
static bool
collect_exchanged(const uint8_t pack[KVSS_ID_LENGTH], const KvssPackEntry *entries,
                  const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    KvssIndexedPack indexed = { .entries = g_array_new(FALSE, FALSE, sizeof *entries) };

    memcpy(indexed.id, pack, KVSS_ID_LENGTH);
    g_array_append_vals(indexed.entries, entries, (guint) n);
    if (n == 8) {
        KvssPackEntry *own = (KvssPackEntry *) (void *) indexed.entries->data;

        memcpy(own[2].id, entries[5].id, KVSS_ID_LENGTH);
        memcpy(own[5].id, entries[2].id, KVSS_ID_LENGTH);
    }
    g_array_append_val((GArray *) data, indexed);
    return true;
}

/*
 * Two blobs under each other's names: each is sealed with the right key, of the right length,
 * and unpacks. Only their hashes tell, among those of others that are right.
 */
static void
test_exchanged(void)
{
    Fixture *f = fixture_new();
    g_autoptr(GBytes) disk = fixture_noise(1, 8 * CHUNK);
    g_autoptr(GArray) packs = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack));
    g_autofree char *index = NULL, *text = NULL;
    g_autoptr(GString) json = NULL;
    g_autoptr(GError) error = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];
    KvssRepository *repository;
    unsigned n;

    fixture_backup(f, id, "vms/a/vda.raw", disk, NULL);
    index = fixture_file(f, "index", 0);
    repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_assert_true(kvss_index_load(repository->index, NULL, &error));
    g_assert_true(kvss_index_visit_packs(repository->index, collect_exchanged, packs, &error));
    json = kvss_index_text(packs);
    g_assert_true(kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_INDEX,
                                      json, NULL, &error));
    g_assert_cmpint(unlink(index), ==, 0);
    kvss_repository_free(repository);

    text = verify(f, true, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(text, "its content does not have the hash that names it");
    g_assert_null(fixture_read(f, id, "vms/a/vda.raw", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    assert_has(error->message, "at offset 131072");
    assert_has(error->message, "does not have the hash");
    for (guint i = 0; i < packs->len; i++)
        g_array_unref(g_array_index(packs, KvssIndexedPack, i).entries);
    fixture_free(f);
}

static void
test_pack_missing_or_short(void)
{
    Two two = two_backups();
    g_autofree char *pack = largest_pack(two.f), *text = NULL, *gone = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;
    unsigned n;

    g_assert_cmpint(stat(pack, &st), ==, 0);
    g_assert_cmpint(truncate(pack, st.st_size - 1), ==, 0);
    text = verify(two.f, false, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(text, "bytes where the index demands");
    assert_has(text, two.first);
    assert_has(text, two.second);

    g_assert_cmpint(unlink(pack), ==, 0);
    gone = verify(two.f, false, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(gone, "is missing");
    assert_has(gone, "/vms/a/vda.raw");
    g_assert_null(fixture_read(two.f, two.first, "vms/a/vda.raw", &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    fixture_free(two.f);
}

/* Not even a cache of it hides that an index file is damaged. */
static void
test_index_flipped(void)
{
    Two two = two_backups();
    g_autofree char *index = fixture_file(two.f, "index", 0), *text = NULL;
    unsigned n;

    g_free(verify(two.f, false, &n)); /* the cache knows all index files now */
    fixture_flip(index, 30);
    text = verify(two.f, false, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(text, "index ");
    assert_has(text, "does not have the hash that names it");
    assert_has(text, two.second); /* it needs what either of the two index files names */
    fixture_free(two.f);
}

static void
test_snapshot_flipped(void)
{
    Two two = two_backups();
    g_autofree char *path = g_build_filename(two.f->location, "snapshots", two.first, NULL);
    g_autofree char *text = NULL;
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) found = NULL;
    unsigned n;

    fixture_flip(path, 40);
    text = verify(two.f, false, &n);
    g_assert_cmpuint(n, ==, 1);
    assert_has(text, "snapshot ");
    assert_has(text, two.first);
    repository = fixture_open(two.f, KVSS_REPOSITORY_LOOK);
    g_assert_null(kvss_repository_list_snapshots(repository, NULL, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    found = fixture_read(two.f, two.second, "vms/a/vda.raw", NULL);
    g_assert_nonnull(found); /* the other backup is as good as before */
    fixture_free(two.f);
}

static void
test_key_flipped(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *key = fixture_file(f, "keys", 0);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    char *salt;
    gsize length;

    /* Another salt: sound JSON, and no password opens it; that is not the password's fault. */
    g_assert_true(g_file_get_contents(key, &text, &length, NULL));
    salt = strstr(text, "\"salt\":\"") + strlen("\"salt\":\"");
    *salt = *salt == 'A' ? 'B' : 'A';
    g_assert_true(g_file_set_contents(key, text, (gssize) length, NULL));
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_LOOK, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    assert_has(error->message, "is damaged");
    g_clear_error(&error);

    fixture_flip(key, 0);
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_LOOK, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    assert_has(error->message, "key ");
}

static void
test_config_flipped(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autofree char *config = g_build_filename(f->location, "config", NULL);
    g_autoptr(GError) error = NULL;

    fixture_flip(config, 20);
    g_assert_null(kvss_repository_open(f->location, FIXTURE_PASSWORD, KVSS_REPOSITORY_LOOK, NULL,
                                       f->state, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    assert_has(error->message, "config is damaged");
    g_assert_cmpuint(fixture_count(f, "locks"), ==, 0);
}

/* Each class of byte of every file: found by verify; a read gives the right bytes or an error. */
static void
test_any_byte(void)
{
    static const char *const folders[] = { "data", "index", "snapshots" };
    Two two = two_backups();
    g_autoptr(KvssRepository) repository = fixture_open(two.f, KVSS_REPOSITORY_LOOK);
    g_autoptr(GBytes) right = fixture_read_open(repository, two.first, "vms/a/vda.raw", NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        unsigned n_files = fixture_count(two.f, folders[i]);

        for (unsigned k = 0; k < n_files; k++) {
            g_autofree char *path = fixture_file(two.f, folders[i], k);
            const gint64 offsets[] = { 0, 15, 16, 17, -1, -17 };

            for (size_t o = 0; o < G_N_ELEMENTS(offsets); o++) {
                g_autoptr(GBytes) found = NULL;
                unsigned n;

                fixture_flip(path, offsets[o]);
                g_free(verify_open(repository, true, &n));
                g_assert_cmpuint(n, >=, 1);
                found = fixture_read_open(repository, two.first, "vms/a/vda.raw", NULL);
                g_assert_true(!found || g_bytes_equal(found, right));
                fixture_flip(path, offsets[o]);
            }
        }
    }
    kvss_repository_free(g_steal_pointer(&repository));
    fixture_free(two.f);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repository/damage/sound", test_sound);
    g_test_add_func("/repository/damage/pack", test_pack_flipped);
    g_test_add_func("/repository/damage/pack-header", test_pack_header_flipped);
    g_test_add_func("/repository/damage/exchanged", test_exchanged);
    g_test_add_func("/repository/damage/pack-missing", test_pack_missing_or_short);
    g_test_add_func("/repository/damage/index", test_index_flipped);
    g_test_add_func("/repository/damage/snapshot", test_snapshot_flipped);
    g_test_add_func("/repository/damage/key", test_key_flipped);
    g_test_add_func("/repository/damage/config", test_config_flipped);
    g_test_add_func("/repository/damage/any-byte", test_any_byte);
    return g_test_run();
}
