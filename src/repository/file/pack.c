/*
 * pack.c - a file of blobs
 */
#include "repository/file/pack.h"
#include "repository/format/id.h"

#include <openssl/evp.h>
#include <string.h>

/* restic's target, and a bound on what one index file must hold of one pack. */
#define PACK_TARGET (16u << 20)
#define PACK_ENTRIES_MAX 20000u

enum { KIND_TREE = 1, KIND_COMPRESSED = 2 }; /* bits of the kind byte */

struct KvssPack {
    bool is_tree;
    KvssSpool *spool;
    EVP_MD_CTX *hash;  /* of all bytes so far */
    GArray *entries;   /* KvssPackEntry */
    uint32_t size;
};

static void
append_le32(GByteArray *out, uint32_t value)
{
    uint32_t le = GUINT32_TO_LE(value);

    g_byte_array_append(out, (const guint8 *) &le, sizeof le);
}

GByteArray *
kvss_pack_header_build(const GArray *entries)
{
    GByteArray *out = g_byte_array_new();

    for (guint i = 0; i < entries->len; i++) {
        const KvssPackEntry *entry = &g_array_index(entries, KvssPackEntry, i);
        guint8 kind = (entry->is_tree ? KIND_TREE : 0)
            | (entry->is_compressed ? KIND_COMPRESSED : 0);

        g_byte_array_append(out, &kind, 1);
        append_le32(out, entry->length);
        if (entry->is_compressed)
            append_le32(out, entry->plain_length);
        g_byte_array_append(out, entry->id, KVSS_ID_LENGTH);
    }
    return out;
}

static uint32_t
read_le32(const uint8_t *at)
{
    uint32_t le;

    memcpy(&le, at, sizeof le);
    return GUINT32_FROM_LE(le);
}

uint32_t
kvss_pack_header_entry_length(bool is_compressed)
{
    return 1 + 4 + (is_compressed ? 4 : 0) + KVSS_ID_LENGTH;
}

/* One entry at @at; its length in the header, or 0 when it does not fit or makes no sense. */
static size_t
parse_entry(const uint8_t *at, size_t left, uint64_t offset, KvssPackEntry *entry)
{
    bool is_compressed = left > 0 && (at[0] & KIND_COMPRESSED);
    size_t length = kvss_pack_header_entry_length(is_compressed);

    if (left < length || at[0] > (KIND_TREE | KIND_COMPRESSED))
        return 0;
    *entry = (KvssPackEntry) {
        .offset = (uint32_t) offset,
        .length = read_le32(at + 1),
        .is_tree = (at[0] & KIND_TREE) != 0,
        .is_compressed = is_compressed,
    };
    if (entry->length < KVSS_CRYPTO_OVERHEAD || offset + entry->length > G_MAXUINT32)
        return 0;
    entry->plain_length
        = is_compressed ? read_le32(at + 5) : entry->length - KVSS_CRYPTO_OVERHEAD;
    memcpy(entry->id, at + length - KVSS_ID_LENGTH, KVSS_ID_LENGTH);
    return length;
}

GArray *
kvss_pack_header_parse(const void *data, size_t length, GError **error)
{
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    const uint8_t *at = data;
    uint64_t offset = 0;

    for (size_t done = 0; done < length;) {
        KvssPackEntry entry;
        size_t n = parse_entry(at + done, length - done, offset, &entry);

        if (n == 0) {
            kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                       "pack header: entry %u at byte %zu makes no sense", entries->len, done);
            return NULL;
        }
        g_array_append_val(entries, entry);
        offset += entry.length;
        done += n;
    }
    return g_steal_pointer(&entries);
}

GArray *
kvss_pack_header_open(KvssCodec *codec, uint8_t *sealed, size_t length, GError **error)
{
    if (!kvss_crypto_open(kvss_codec_crypto(codec), sealed, length, error)) {
        g_prefix_error(error, "pack header: ");
        return NULL;
    }
    return kvss_pack_header_parse(sealed + KVSS_CRYPTO_IV_LENGTH, length - KVSS_CRYPTO_OVERHEAD,
                                  error);
}

uint64_t
kvss_pack_header_length(const KvssPackEntry *entries, size_t n)
{
    uint64_t length = KVSS_PACK_HEADER_FRAME;

    for (size_t i = 0; i < n; i++)
        length += kvss_pack_header_entry_length(entries[i].is_compressed);
    return length;
}

KvssPack *
kvss_pack_new(KvssBackend *backend, bool is_tree, GError **error)
{
    KvssSpool *spool = kvss_spool_new(backend, error);
    KvssPack *pack;

    if (!spool)
        return NULL;
    pack = g_new0(KvssPack, 1);
    pack->is_tree = is_tree;
    pack->spool = spool;
    pack->entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    pack->hash = EVP_MD_CTX_new();
    g_assert(pack->hash && EVP_DigestInit_ex2(pack->hash, EVP_sha256(), NULL) == 1);
    return pack;
}

static bool
append_bytes(KvssPack *pack, const void *data, size_t length, GError **error)
{
    if (!kvss_spool_append(pack->spool, data, length, error))
        return false;
    g_assert(EVP_DigestUpdate(pack->hash, data, length) == 1);
    pack->size += (uint32_t) length;
    return true;
}

bool
kvss_pack_append(KvssPack *pack, const uint8_t id[KVSS_ID_LENGTH], const KvssSealedBlob *blob,
                 GError **error)
{
    KvssPackEntry entry = {
        .offset = pack->size,
        .length = blob->length,
        .plain_length = blob->plain_length,
        .is_tree = pack->is_tree,
        .is_compressed = blob->is_compressed,
    };

    memcpy(entry.id, id, KVSS_ID_LENGTH);
    if (!append_bytes(pack, blob->data, blob->length, error))
        return false;
    g_array_append_val(pack->entries, entry);
    return true;
}

bool
kvss_pack_is_full(const KvssPack *pack)
{
    return pack->size >= PACK_TARGET || pack->entries->len >= PACK_ENTRIES_MAX;
}

bool
kvss_pack_is_tree(const KvssPack *pack)
{
    return pack->is_tree;
}

static bool
append_header(KvssPack *pack, KvssCodec *codec, uint64_t *out_length, GError **error)
{
    g_autoptr(GByteArray) plain = kvss_pack_header_build(pack->entries);
    size_t length = plain->len + KVSS_CRYPTO_OVERHEAD;
    uint8_t *sealed = kvss_codec_buffer(codec, length);
    uint32_t le = GUINT32_TO_LE((uint32_t) length);

    memcpy(sealed + KVSS_CRYPTO_IV_LENGTH, plain->data, plain->len);
    kvss_crypto_seal(kvss_codec_crypto(codec), sealed, plain->len);
    *out_length = length + sizeof le;
    return append_bytes(pack, sealed, length, error) && append_bytes(pack, &le, sizeof le, error);
}

bool
kvss_pack_finish(KvssPack *pack, KvssCodec *codec, KvssIndexedPack *out_indexed,
                 uint64_t *out_header_length, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];

    if (!append_header(pack, codec, out_header_length, error))
        return false;
    g_assert(EVP_DigestFinal_ex(pack->hash, id, NULL) == 1);
    kvss_id_to_hex(id, name);
    if (!kvss_spool_store(pack->spool, KVSS_FILE_DATA, name, error))
        return false;
    memcpy(out_indexed->id, id, sizeof id);
    out_indexed->entries = g_steal_pointer(&pack->entries);
    return true;
}

void
kvss_pack_free(KvssPack *pack)
{
    if (!pack)
        return;
    kvss_spool_free(pack->spool);
    EVP_MD_CTX_free(pack->hash);
    g_clear_pointer(&pack->entries, g_array_unref);
    g_free(pack);
}
