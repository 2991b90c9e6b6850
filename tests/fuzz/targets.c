/*
 * targets.c - what the fuzzers feed: every reader of a stranger's bytes
 *
 * Beyond "does not crash": what was read and is written again reads the same, and a
 * document that was read is valid by its schema.
 */
#include "catalogue/manifest.h"
#include "repository/backend/backend.h"
#include "repository/backend/s3-listing.h"
#include "repository/file/key.h"
#include "repository/file/pack.h"
#include "repository/format/snapshot.h"
#include "repository/format/tree.h"
#include "repository/index/index.h"
#include "repository/lock/lock.h"
#include "repository/repository-private.h"
#include "schema.h"
#include "targets.h"
#include "vss/documents.h"

#include <string.h>

static void
feed_pack_header(const uint8_t *data, size_t length)
{
    g_autoptr(GArray) entries = kvss_pack_header_parse(data, length, NULL);

    if (entries) {
        g_autoptr(GByteArray) again = kvss_pack_header_build(entries);

        g_assert_cmpmem(again->data, again->len, data, length);
    }
}

static void
count_entries(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    for (guint i = 0; i < entries->len; i++) {
        const KvssPackEntry *entry = &g_array_index(entries, KvssPackEntry, i);

        g_assert_cmpuint(entry->length, >=, KVSS_CRYPTO_OVERHEAD);
        g_assert_cmpuint(entry->plain_length, <=, KVSS_TREE_BLOB_MAX);
    }
}

static void
feed_index(const uint8_t *data, size_t length)
{
    (void) !kvss_index_parse(data, length, count_entries, NULL, NULL);
}

static void
feed_tree(const uint8_t *data, size_t length)
{
    g_autoptr(GPtrArray) nodes = kvss_tree_parse(data, length, NULL);

    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);

        g_assert_true(kvss_tree_name_is_safe(node->name));
        g_assert_cmpuint(node->mode, <=, 07777);
    }
}

static void
feed_snapshot(const uint8_t *data, size_t length)
{
    kvss_snapshot_free(kvss_snapshot_parse(data, length, "0123", NULL));
}

static void
feed_lock(const uint8_t *data, size_t length)
{
    KvssLockRecord record;

    if (kvss_lock_record_parse(data, length, &record, NULL))
        kvss_lock_record_clear(&record);
}

/* scrypt with the parameters of the input would take all the time there is: only cheap ones run. */
static void
feed_key(const uint8_t *data, size_t length)
{
    KvssKey key;

    if (!memmem(data, length, "\"N\":2,", 6) && memmem(data, length, "\"N\"", 3))
        return;
    (void) !kvss_key_parse(data, length, "x", &key, NULL);
}

/* The first byte says how much plaintext is expected; MAC and hash are right by construction. */
static void
feed_blob(const uint8_t *data, size_t length)
{
    static KvssCodecPool *pool;
    g_autofree uint8_t *sealed = g_malloc(length + KVSS_CRYPTO_OVERHEAD);
    g_autofree uint8_t *plain = g_malloc(64 << 10);
    g_autoptr(KvssCodec) codec = NULL;
    uint8_t id[KVSS_ID_LENGTH] = { 0 };
    KvssKey key = { 0 };

    if (length == 0)
        return;
    if (!pool)
        pool = kvss_codec_pool_new(&key);
    codec = kvss_codec_take(pool);
    memcpy(sealed + KVSS_CRYPTO_IV_LENGTH, data + 1, length - 1);
    kvss_crypto_seal(kvss_codec_crypto(codec), sealed, length - 1);
    (void) !kvss_codec_open_blob(codec, sealed, length - 1 + KVSS_CRYPTO_OVERHEAD, true, plain,
                                 data[0] * 256u, id, NULL);
}

static void
feed_config(const uint8_t *data, size_t length)
{
    char hex[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];

    if (kvss_config_parse(data, length, hex, NULL))
        g_assert_true(kvss_id_from_hex(hex, strlen(hex), id));
}

/* The answers of both versions; how many names it has is bounded by its length. */
static void
feed_rest_listing(const uint8_t *data, size_t length)
{
    for (int is_v2 = 0; is_v2 < 2; is_v2++) {
        g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));

        if (!kvss_rest_listing_parse(data, length, is_v2, files, NULL))
            continue;
        g_assert_cmpuint(files->len, <=, length / KVSS_ID_HEX_LENGTH);
        for (guint i = 0; i < files->len; i++)
            g_assert_true(is_v2 || g_array_index(files, KvssStoredFile, i).size == G_MAXUINT64);
    }
}

static void
check_places(const KvssManifestVm *vm, GHashTable *places)
{
    g_autofree char *folder = g_strconcat(vm->top, "/", vm->dir, "/", NULL);
    GHashTableIter iter;
    gpointer place;

    g_hash_table_iter_init(&iter, places);
    while (g_hash_table_iter_next(&iter, NULL, &place)) {
        g_auto(GStrv) names = g_strsplit(place, "/", -1);

        g_assert_true(g_str_has_prefix(place, folder));
        for (guint i = 0; names[i]; i++)
            g_assert_true(kvss_tree_name_is_safe(names[i]));
    }
}

/* Every path that comes out stays in its VM's folder of the set. */
static void
feed_manifest(const uint8_t *data, size_t length)
{
    g_autoptr(GBytes) text = g_bytes_new(data, length);
    g_autoptr(KvssManifest) manifest = kvss_manifest_from_json(text, NULL);

    for (guint i = 0; manifest && i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        check_places(vm, vm->disk_files);
        check_places(vm, vm->file_files);
    }
}

static void
feed_writer_metadata(const uint8_t *data, size_t length)
{
    g_autoptr(GBytes) text = g_bytes_new_static(data, length);
    g_autoptr(KvssWriterMetadata) metadata = kvss_writer_metadata_read(text, NULL);

    if (metadata)
        g_assert_true(schema_takes("writer-metadata.xsd", (const char *) data, length, true));
}

static void
feed_backup_components(const uint8_t *data, size_t length)
{
    g_autoptr(GBytes) text = g_bytes_new_static(data, length);
    g_autoptr(KvssBackupComponents) components = kvss_backup_components_read(text, NULL);

    if (components)
        g_assert_true(schema_takes("backup-components.xsd", (const char *) data, length, true));
}

/* All three kinds of answers: the parser must know which one it has. */
static void
feed_s3_listing(const uint8_t *data, size_t length)
{
    g_auto(KvssS3Listing) page = { 0 };
    g_autofree char *region = kvss_s3_location_parse(data, length);
    KvssS3Refusal refusal;

    if (kvss_s3_listing_parse(data, length, &page, NULL)) {
        g_assert_cmpuint(page.objects->len, <=, 1000);
        for (guint i = 0; i < page.objects->len; i++) {
            g_assert_nonnull(g_array_index(page.objects, KvssS3Object, i).key);
            g_assert_cmpuint(g_array_index(page.objects, KvssS3Object, i).size, <=, G_MAXINT64);
        }
        g_assert_true(!page.next || *page.next);
        g_assert_null(region);
    }
    kvss_s3_refusal_parse(data, length, &refusal);
    for (const char *at = refusal.message; *at; at++)
        g_assert_true(g_ascii_isprint(*at));
}

const FuzzTarget fuzz_targets[] = {
    { "pack-header", feed_pack_header }, { "index", feed_index },
    { "tree", feed_tree },               { "snapshot", feed_snapshot },
    { "lock", feed_lock },               { "key", feed_key },
    { "blob", feed_blob },               { "config", feed_config },
    { "set", feed_manifest },            { "s3-listing", feed_s3_listing },
    { "rest-listing", feed_rest_listing },
    { "writer-metadata", feed_writer_metadata },
    { "backup-components", feed_backup_components },
    { NULL, NULL },
};
