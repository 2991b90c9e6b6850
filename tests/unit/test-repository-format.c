/*
 * test-repository-format.c - seals, keys, packs, index files, trees: each against restic's own
 */
#include "repository-fixture.h"
#include "repository/file/key.h"
#include "repository/file/pack.h"
#include "repository/format/codec.h"
#include "repository/format/id.h"
#include "repository/format/json.h"
#include "repository/format/polynomial.h"
#include "repository/format/timestamp.h"
#include "repository/format/tree.h"
#include "repository/index/index.h"

#include <string.h>

/* What "restic cat masterkey" says of tests/golden/restic-0.14. */
#define GOLDEN_MAC_K "4dzPcvF3RL9idSWzD0+uUw=="
#define GOLDEN_MAC_R "n6qcB5w5bwHEdL8DxEvNAA=="
#define GOLDEN_ENCRYPT "QahK1ZX9UQEbp0JKCfv5rYHUCObTeF9eywuEQ4KloU4="

static KvssKey
test_key(void)
{
    KvssKey key;

    for (size_t i = 0; i < sizeof key; i++)
        ((uint8_t *) &key)[i] = (uint8_t) (i * 7 + 1);
    return key;
}

static void
test_seal(void)
{
    KvssKey key = test_key();
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(&key);

    for (size_t length = 0; length < 70; length++) {
        uint8_t plain[70], sealed[70 + KVSS_CRYPTO_OVERHEAD];
        g_autoptr(GError) error = NULL;

        memset(plain, (int) length, sizeof plain);
        memcpy(sealed + 16, plain, length);
        kvss_crypto_seal(crypto, sealed, length);
        g_assert_true(kvss_crypto_open(crypto, sealed, length + KVSS_CRYPTO_OVERHEAD, &error));
        g_assert_cmpmem(sealed + 16, length, plain, length);
    }
}

/* Any changed byte, of IV, ciphertext or MAC, is noticed, and nothing is decrypted. */
static void
test_seal_changed(void)
{
    KvssKey key = test_key();
    g_autoptr(KvssCrypto) crypto = kvss_crypto_new(&key);
    uint8_t sealed[20 + KVSS_CRYPTO_OVERHEAD] = { 0 };

    kvss_crypto_seal(crypto, sealed, 20);
    for (size_t i = 0; i < sizeof sealed; i++) {
        uint8_t copy[sizeof sealed], kept[sizeof sealed];
        g_autoptr(GError) error = NULL;

        memcpy(copy, sealed, sizeof copy);
        copy[i] ^= 1;
        memcpy(kept, copy, sizeof kept);
        g_assert_false(kvss_crypto_open(crypto, copy, sizeof copy, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
        g_assert_cmpmem(copy, sizeof copy, kept, sizeof kept);
    }
    g_assert_false(kvss_crypto_open(crypto, sealed, 31, NULL));
}

static void
assert_base64(const char *expected, const uint8_t *data, size_t length)
{
    g_autofree char *text = g_base64_encode(data, length);

    g_assert_cmpstr(text, ==, expected);
}

/* restic's key files, both passwords, give the master key that restic shows. */
static void
test_key_golden(void)
{
    g_autoptr(Fixture) f = fixture_new_golden();
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssBackend) backend = kvss_backend_open(f->location, &error);
    const char *passwords[] = { "golden", "other password" };

    g_assert_no_error(error);
    for (size_t i = 0; i < G_N_ELEMENTS(passwords); i++) {
        KvssKey key = { 0 };

        g_assert_true(kvss_key_open(backend, passwords[i], &key, &error));
        assert_base64(GOLDEN_MAC_K, key.mac_k, sizeof key.mac_k);
        assert_base64(GOLDEN_MAC_R, key.mac_r, sizeof key.mac_r);
        assert_base64(GOLDEN_ENCRYPT, key.encrypt, sizeof key.encrypt);
    }
}

static void
test_key_bad(void)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        { "", KVSS_REPOSITORY_ERROR_CORRUPT },
        { "{}", KVSS_REPOSITORY_ERROR_CORRUPT },
        { "{\"kdf\":\"argon2\",\"salt\":\"AAAA\",\"data\":\"AAAA\"}", KVSS_REPOSITORY_ERROR_FORMAT },
        { "{\"kdf\":\"scrypt\",\"N\":3,\"r\":8,\"p\":1,\"salt\":\"AAAA\",\"data\":\"AAAA\"}",
          KVSS_REPOSITORY_ERROR_FORMAT },
        { "{\"kdf\":\"scrypt\",\"N\":1073741824,\"r\":8,\"p\":1,\"salt\":\"AAAA\",\"data\":\"AAAA\"}",
          KVSS_REPOSITORY_ERROR_FORMAT },
        { "{\"kdf\":\"scrypt\",\"N\":2,\"r\":1,\"p\":1,\"salt\":\"AAAA\",\"data\":\"AAAA\"}",
          KVSS_REPOSITORY_ERROR_CORRUPT },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        KvssKey key;

        g_assert_false(kvss_key_parse(cases[i].text, strlen(cases[i].text), "x", &key, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, cases[i].code);
    }
}

static void
check_blob(GBytes *plain, bool compresses)
{
    KvssKey key = test_key();
    KvssCodecPool *pool = kvss_codec_pool_new(&key);
    KvssCodec *codec = kvss_codec_take(pool);
    size_t length = g_bytes_get_size(plain);
    g_autofree uint8_t *back = g_malloc(length + 1);
    g_autofree uint8_t *sealed = NULL;
    g_autoptr(GError) error = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    KvssSealedBlob blob;

    kvss_id_of(g_bytes_get_data(plain, NULL), length, id);
    blob = kvss_codec_seal_blob(codec, g_bytes_get_data(plain, NULL), length);
    g_assert_cmpint(blob.is_compressed, ==, compresses);
    if (!compresses)
        g_assert_cmpuint(blob.length, ==, length + KVSS_CRYPTO_OVERHEAD);
    sealed = g_memdup2(blob.data, blob.length);
    g_assert_true(kvss_codec_open_blob(codec, sealed, blob.length, blob.is_compressed, back,
                                       length, id, &error));
    g_assert_cmpmem(back, length, g_bytes_get_data(plain, NULL), length);
    kvss_codec_give(codec);
    kvss_codec_pool_free(pool);
}

static void
test_blob(void)
{
    g_autoptr(GBytes) noise = fixture_noise(1, 1 << 20), few = fixture_noise(2, 100);
    g_autoptr(GBytes) zero = g_bytes_new_take(g_malloc0(1 << 20), 1 << 20);
    g_autoptr(GBytes) none = g_bytes_new(NULL, 0), one = g_bytes_new("x", 1);
    GByteArray *mixed = g_byte_array_new();
    g_autoptr(GBytes) half = NULL;

    /* Noise with something to gain at its end: a sample finds it. */
    g_byte_array_append(mixed, g_bytes_get_data(noise, NULL), 1 << 19);
    g_byte_array_append(mixed, g_bytes_get_data(zero, NULL), 1 << 19);
    half = g_byte_array_free_to_bytes(mixed);
    check_blob(noise, false);
    check_blob(few, false);
    check_blob(none, false);
    check_blob(one, false);
    check_blob(zero, true);
    check_blob(half, true);
}

/* Wrong length and wrong hash are told apart from a wrong MAC. */
static void
test_blob_bad(void)
{
    KvssKey key = test_key();
    KvssCodecPool *pool = kvss_codec_pool_new(&key);
    g_autoptr(KvssCodec) codec = kvss_codec_take(pool);
    KvssSealedBlob blob = kvss_codec_seal_blob(codec, "0123456789", 10);
    g_autofree uint8_t *one = g_memdup2(blob.data, blob.length);
    g_autofree uint8_t *two = g_memdup2(blob.data, blob.length);
    uint8_t id[KVSS_ID_LENGTH] = { 0 }, plain[20];
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_codec_open_blob(codec, one, blob.length, false, plain, 11, id, &error));
    g_assert_nonnull(strstr(error->message, "10 bytes where the index says 11"));
    g_clear_error(&error);
    g_assert_false(kvss_codec_open_blob(codec, two, blob.length, false, plain, 10, id, &error));
    g_assert_nonnull(strstr(error->message, "hash that names it"));
    kvss_codec_give(g_steal_pointer(&codec));
    kvss_codec_pool_free(pool);
}

static void
test_document_bounded(void)
{
    KvssKey key = test_key();
    KvssCodecPool *pool = kvss_codec_pool_new(&key);
    g_autoptr(KvssCodec) codec = kvss_codec_take(pool);
    g_autofree char *spaces = g_strnfill(1 << 20, ' ');
    g_autoptr(GBytes) stored = kvss_codec_seal_document(codec, spaces, 1 << 20);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) fits = kvss_codec_open_document(codec, stored, 1 << 20, &error);

    g_assert_cmpuint(g_bytes_get_size(fits), ==, 1 << 20);
    g_assert_null(kvss_codec_open_document(codec, stored, (1 << 20) - 1, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    kvss_codec_give(g_steal_pointer(&codec));
    kvss_codec_pool_free(pool);
}

static KvssPackEntry
test_entry(unsigned i, uint32_t offset)
{
    KvssPackEntry entry = {
        .offset = offset,
        .length = 100 + i,
        .plain_length = i % 2 ? 5000 : 100 + i - KVSS_CRYPTO_OVERHEAD,
        .is_tree = i % 3 == 0,
        .is_compressed = i % 2,
    };

    memset(entry.id, (int) i + 1, sizeof entry.id);
    return entry;
}

static GArray *
test_entries(unsigned n)
{
    GArray *entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    uint32_t offset = 0;

    for (unsigned i = 0; i < n; i++) {
        KvssPackEntry entry = test_entry(i, offset);

        offset += entry.length;
        g_array_append_val(entries, entry);
    }
    return entries;
}

static void
assert_entries_equal(const GArray *a, const GArray *b)
{
    g_assert_cmpuint(a->len, ==, b->len);
    for (guint i = 0; i < a->len; i++) {
        const KvssPackEntry *one = &g_array_index(a, KvssPackEntry, i);
        const KvssPackEntry *two = &g_array_index(b, KvssPackEntry, i);

        g_assert_cmpmem(one->id, KVSS_ID_LENGTH, two->id, KVSS_ID_LENGTH);
        g_assert_cmpuint(one->offset, ==, two->offset);
        g_assert_cmpuint(one->length, ==, two->length);
        g_assert_cmpuint(one->plain_length, ==, two->plain_length);
        g_assert_cmpint(one->is_tree, ==, two->is_tree);
        g_assert_cmpint(one->is_compressed, ==, two->is_compressed);
    }
}

static void
test_pack_header(void)
{
    g_autoptr(GArray) entries = test_entries(9);
    g_autoptr(GByteArray) header = kvss_pack_header_build(entries);
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) back = kvss_pack_header_parse(header->data, header->len, &error);

    g_assert_no_error(error);
    assert_entries_equal(entries, back);
    g_assert_cmpuint(kvss_pack_header_length((void *) entries->data, entries->len), ==,
                     header->len + KVSS_CRYPTO_OVERHEAD + 4);
    /* Cut anywhere but between entries it makes no sense. */
    g_assert_null(kvss_pack_header_parse(header->data, header->len - 1, &error));
    g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    header->data[0] = 4;
    g_assert_null(kvss_pack_header_parse(header->data, header->len, NULL));
}

static void
keep_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    KvssIndexedPack indexed = { .entries = g_array_copy((GArray *) entries) };

    memcpy(indexed.id, pack, KVSS_ID_LENGTH);
    g_array_append_val((GArray *) data, indexed);
}

static void
test_index_text(void)
{
    g_autoptr(GArray) packs = g_array_new(FALSE, TRUE, sizeof(KvssIndexedPack));
    g_autoptr(GArray) back = g_array_new(FALSE, TRUE, sizeof(KvssIndexedPack));
    KvssIndexedPack pack = { .entries = test_entries(5) };
    g_autoptr(GString) json = NULL;
    g_autoptr(GError) error = NULL;

    memset(pack.id, 0xab, sizeof pack.id);
    g_array_append_val(packs, pack);
    json = kvss_index_text(packs);
    g_assert_true(kvss_index_parse(json->str, json->len, keep_pack, back, &error));
    g_assert_cmpuint(back->len, ==, 1);
    g_assert_cmpmem(g_array_index(back, KvssIndexedPack, 0).id, KVSS_ID_LENGTH, pack.id,
                    KVSS_ID_LENGTH);
    assert_entries_equal(pack.entries, g_array_index(back, KvssIndexedPack, 0).entries);
    g_array_unref(g_array_index(back, KvssIndexedPack, 0).entries);
    g_array_unref(pack.entries);
}

static void
ignore_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
}

#define ID64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void
test_index_bad(void)
{
    static const char *const texts[] = {
        "", "[]", "{\"packs\":[{}]}", "{\"packs\":[{\"id\":\"12\",\"blobs\":[]}]}",
        "{\"packs\":[{\"id\":\"" ID64 "\",\"blobs\":[{\"id\":\"" ID64 "\",\"type\":\"data\","
        "\"offset\":0,\"length\":31}]}]}",
        "{\"packs\":[{\"id\":\"" ID64 "\",\"blobs\":[{\"id\":\"" ID64 "\",\"type\":\"else\","
        "\"offset\":0,\"length\":50}]}]}",
        "{\"packs\":[{\"id\":\"" ID64 "\",\"blobs\":[{\"id\":\"" ID64 "\",\"type\":\"data\","
        "\"offset\":4294967290,\"length\":50}]}]}",
        "{\"packs\":[{\"id\":\"" ID64 "\",\"blobs\":[{\"id\":\"" ID64 "\",\"type\":\"data\","
        "\"offset\":0,\"length\":50,\"uncompressed_length\":4294967295}]}]}",
        "{\"packs\":[{\"id\":\"" ID64 "\",\"blobs\":[{\"id\":\"" ID64 "\",\"type\":\"data\","
        "\"offset\":-1,\"length\":50}]}]}",
        "{\"packs\":[]} x",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_index_parse(texts[i], strlen(texts[i]), ignore_pack, NULL, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    }
}

static KvssNode *
file_node(const char *name, uint64_t size)
{
    KvssNode *node = g_new0(KvssNode, 1);

    node->name = g_strdup(name);
    node->type = KVSS_NODE_FILE;
    node->mode = 0640;
    node->size = size;
    return node;
}

/* Byte for byte what Go's encoding/json makes of restic's struct. */
static void
test_tree_text(void)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_node_free);
    g_autoptr(GString) json = NULL;
    KvssNode *folder = g_new0(KvssNode, 1), *file = file_node("b <&> \"q\"", 5);

    folder->name = g_strdup("a");
    folder->type = KVSS_NODE_FOLDER;
    folder->mode = 0755;
    folder->subtree = g_strdup(ID64);
    file->content = g_malloc(KVSS_ID_LENGTH);
    file->n_content = 1;
    g_assert_true(kvss_id_from_hex(ID64, 64, file->content));
    g_ptr_array_add(nodes, folder);
    g_ptr_array_add(nodes, file);
    json = kvss_tree_text(nodes);
#define TIMES "\"mtime\":\"1970-01-01T00:00:00Z\",\"atime\":\"1970-01-01T00:00:00Z\"," \
              "\"ctime\":\"1970-01-01T00:00:00Z\",\"uid\":0,\"gid\":0,"
    g_assert_cmpstr(json->str, ==,
                    "{\"nodes\":["
                    "{\"name\":\"a\",\"type\":\"dir\",\"mode\":2147484141," TIMES
                    "\"content\":null,\"subtree\":\"" ID64 "\"},"
                    "{\"name\":\"b \\u003c\\u0026\\u003e \\\\\\\"q\\\\\\\"\",\"type\":\"file\","
                    "\"mode\":416," TIMES "\"size\":5,\"links\":1,\"content\":[\"" ID64 "\"]}"
                    "]}\n");
}

/* Every name comes back as it was, whatever its bytes. */
static void
test_tree_names(void)
{
    static const char *const names[] = { "plain", "tab\there", "back\\slash", "\xff\xfe raw",
                                         "quote\"", "caf\xc3\xa9", "bell\a", "\xe2\x80\xa8 sep",
                                         "a<b>&c", "\x7f" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GPtrArray) nodes
            = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_node_free);
        g_autoptr(GPtrArray) back = NULL;
        g_autoptr(GString) json = NULL;
        g_autoptr(GError) error = NULL;

        g_ptr_array_add(nodes, file_node(names[i], 0));
        json = kvss_tree_text(nodes);
        g_assert_true(g_utf8_validate(json->str, -1, NULL));
        back = kvss_tree_parse(json->str, json->len, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(((KvssNode *) g_ptr_array_index(back, 0))->name, ==, names[i]);
    }
}

#define NODE(name) "{\"name\":\"" name "\",\"type\":\"file\",\"content\":[]}"

static void
test_tree_bad(void)
{
    static const char *const texts[] = {
        "{\"nodes\":[" NODE("") "]}", "{\"nodes\":[" NODE(".") "]}",
        "{\"nodes\":[" NODE("..") "]}", "{\"nodes\":[" NODE("a/b") "]}",
        "{\"nodes\":[" NODE("\\\\x2f") "]}", "{\"nodes\":[" NODE("\\\\x00") "]}",
        "{\"nodes\":[" NODE("\\u0000") "]}", "{\"nodes\":[" NODE("\\\\q") "]}",
        "{\"nodes\":[" NODE("a") "," NODE("a") "]}", "{\"nodes\":[{\"type\":\"file\"}]}",
        "{\"nodes\":[{\"name\":\"d\",\"type\":\"dir\"}]}", "{}", "null x",
        "{\"nodes\":[" NODE("a") "]", "{\"nodes\":[" NODE("a") ",]}",
        "{\"nodes\":[" NODE("a") " " NODE("b") "]}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(kvss_tree_parse(texts[i], strlen(texts[i]), &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
    }
}

/* Depth, strings and numbers of strangers are bounded. */
static void
test_json_hostile(void)
{
    g_autofree char *deep = g_strnfill(100000, '[');
    static const char *const texts[] = { "\"\\", "\"\\u12", "\"a\x01\"", "01x", "{\"a\" 1}",
                                         "{\"a\":}", "[1 2]", "tru", "\"", "{" };
    KvssJson json;

    kvss_json_init(&json, deep, 100000);
    kvss_json_skip(&json);
    g_assert_false(kvss_json_finish(&json, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        kvss_json_init(&json, texts[i], strlen(texts[i]));
        kvss_json_skip(&json);
        if (!json.wrong && texts[i][0] == '"') {
            kvss_json_init(&json, texts[i], strlen(texts[i]));
            g_free(kvss_json_string(&json));
        }
        g_assert_false(kvss_json_finish(&json, NULL));
    }
    kvss_json_init(&json, "18446744073709551616", 20);
    (void) kvss_json_uint(&json);
    g_assert_false(kvss_json_finish(&json, NULL));
    kvss_json_init(&json, "18446744073709551615", 20);
    g_assert_cmpuint(kvss_json_uint(&json), ==, G_MAXUINT64);
    g_assert_true(kvss_json_finish(&json, NULL));
}

static void
test_json_string(void)
{
    static const char text[] = "\"a\\n\\u00e9\\ud83d\\ude00\\ud800\\/\"";
    g_autofree char *string = NULL;
    KvssJson json;

    kvss_json_init(&json, text, strlen(text));
    string = kvss_json_string(&json);
    g_assert_cmpstr(string, ==, "a\n\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd/");
    g_assert_true(kvss_json_finish(&json, NULL));
}

static void
test_polynomial(void)
{
    uint64_t golden = G_GUINT64_CONSTANT(0x22acbb129afc57);

    g_assert_true(kvss_polynomial_is_irreducible(golden)); /* restic's own choice */
    g_assert_true(kvss_polynomial_is_irreducible(G_GUINT64_CONSTANT(0x3DA3358B4DC173)));
    g_assert_false(kvss_polynomial_is_irreducible(golden ^ 1));
    g_assert_true(kvss_polynomial_is_irreducible(7));  /* x^2 + x + 1 */
    g_assert_false(kvss_polynomial_is_irreducible(5)); /* (x + 1)^2 */
    g_assert_cmpuint(kvss_polynomial_random() >> 53, ==, 1);
}

static void
test_time(void)
{
    g_autofree char *text = kvss_time_format(G_GINT64_CONSTANT(1714979289000123));
    gint64 time_us;

    g_assert_cmpstr(text, ==, "2024-05-06T07:08:09.000123Z");
    g_assert_true(kvss_time_parse("2024-05-06T09:08:09.000123456+02:00", &time_us));
    g_assert_cmpint(time_us, ==, G_GINT64_CONSTANT(1714979289000123));
    g_assert_false(kvss_time_parse("yesterday", &time_us));
}

static void
test_chunk_size(void)
{
    const uint64_t gib = G_GUINT64_CONSTANT(1) << 30;

    g_assert_cmpuint(kvss_upload_chunk_size(0), ==, 256 << 10);
    g_assert_cmpuint(kvss_upload_chunk_size(32 * gib), ==, 256 << 10);
    g_assert_cmpuint(kvss_upload_chunk_size(32 * gib + 1), ==, 512 << 10);
    g_assert_cmpuint(kvss_upload_chunk_size(128 * gib), ==, 512 << 10);
    g_assert_cmpuint(kvss_upload_chunk_size(1024 * gib), ==, 1 << 20);
    g_assert_cmpuint(kvss_upload_chunk_size(1024 * gib + 1), ==, 2 << 20);
    g_assert_cmpuint(kvss_upload_chunk_size(4096 * gib), ==, 4 << 20);
    g_assert_cmpuint(kvss_upload_chunk_size(G_MAXUINT64), ==, 16 << 20);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repository/format/seal", test_seal);
    g_test_add_func("/repository/format/seal-changed", test_seal_changed);
    g_test_add_func("/repository/format/key-golden", test_key_golden);
    g_test_add_func("/repository/format/key-bad", test_key_bad);
    g_test_add_func("/repository/format/blob", test_blob);
    g_test_add_func("/repository/format/blob-bad", test_blob_bad);
    g_test_add_func("/repository/format/document-bounded", test_document_bounded);
    g_test_add_func("/repository/format/pack-header", test_pack_header);
    g_test_add_func("/repository/format/index-text", test_index_text);
    g_test_add_func("/repository/format/index-bad", test_index_bad);
    g_test_add_func("/repository/format/tree-text", test_tree_text);
    g_test_add_func("/repository/format/tree-names", test_tree_names);
    g_test_add_func("/repository/format/tree-bad", test_tree_bad);
    g_test_add_func("/repository/format/json-hostile", test_json_hostile);
    g_test_add_func("/repository/format/json-string", test_json_string);
    g_test_add_func("/repository/format/polynomial", test_polynomial);
    g_test_add_func("/repository/format/time", test_time);
    g_test_add_func("/repository/format/chunk-size", test_chunk_size);
    return g_test_run();
}
