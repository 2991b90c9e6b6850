/*
 * pack.h - a file of blobs
 *
 *   blob | blob | ... | seal(header) | length of the sealed header (4 bytes, little-endian)
 *
 * A header entry: a byte of kind (0 data, 1 tree; 2 and 3 the same, compressed), the stored
 * length (4 bytes LE), when compressed the plain length (4 bytes LE), the id.
 * The file is named by the SHA-256 of all of it.
 *
 * Source: restic's design document, "Pack Format".
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/format/codec.h"

/** One blob of a pack, as packs and index files list it. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint32_t offset, length, plain_length;
    bool is_tree, is_compressed;
} KvssPackEntry;

/** A pack, as an index file lists it. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    GArray *entries; /* KvssPackEntry */
} KvssIndexedPack;

/* restic's own bound: a header of 16 MiB. */
#define KVSS_PACK_HEADER_MAX (16u << 20)

/** A header's plaintext. @entries: (element-type KvssPackEntry), in order of offset. */
GByteArray *kvss_pack_header_build(const GArray *entries);

/** The other way; offsets are added up. (element-type KvssPackEntry). Errors: CORRUPT. */
GArray *kvss_pack_header_parse(const void *data, size_t length, GError **error);

/** The same of a sealed one, which is opened in its place. Errors: CORRUPT. */
GArray *kvss_pack_header_open(KvssCodec *codec, uint8_t *sealed, size_t length, GError **error);

/** Bytes of a pack's end beside the entries in its header: the seal, and the length behind it. */
#define KVSS_PACK_HEADER_FRAME (KVSS_CRYPTO_OVERHEAD + 4)

/** Bytes that one entry takes in there. */
uint32_t kvss_pack_header_entry_length(bool is_compressed);

/** Bytes that the sealed header and the length behind it take. */
uint64_t kvss_pack_header_length(const KvssPackEntry *entries, size_t n);

/** A pack in the making. One thread at a time. */
typedef struct KvssPack KvssPack;

KvssPack *kvss_pack_new(KvssBackend *backend, bool is_tree, GError **error);

/** After an error the pack can only be freed. */
bool kvss_pack_append(KvssPack *pack, const uint8_t id[KVSS_ID_LENGTH],
                      const KvssSealedBlob *blob, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool kvss_pack_is_full(const KvssPack *pack);
bool kvss_pack_is_tree(const KvssPack *pack);

/**
 * kvss_pack_finish:
 * @out_indexed: its entries: the caller unrefs them
 * @out_header_length: bytes that the header added
 *
 * Header, name, sync; the name is durable after kvss_backend_sync().
 */
bool kvss_pack_finish(KvssPack *pack, KvssCodec *codec, KvssIndexedPack *out_indexed,
                      uint64_t *out_header_length, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Unfinished, nothing of it stays. Accepts NULL. */
void kvss_pack_free(KvssPack *pack);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssPack, kvss_pack_free)
