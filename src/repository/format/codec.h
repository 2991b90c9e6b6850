/*
 * codec.h - from plain bytes to stored bytes and back: zstd, then the seal
 *
 *   blob:      seal(zstd(plain)) or seal(plain), whichever is smaller
 *   document:  seal(0x02 | zstd(JSON)); seal(JSON) is accepted    (index, snapshot, lock)
 *
 * A codec is what one thread works with: contexts that are costly to make, and
 * a buffer. Threads take one from the pool and give it back.
 */
#pragma once

#include "repository/format/crypto.h"

/* The most a plain blob may have. Data: restic cuts at 8 MiB, we at 16. A tree: 67 bytes a chunk. */
#define KVSS_DATA_BLOB_MAX (64u << 20)
#define KVSS_TREE_BLOB_MAX (512u << 20)

typedef struct KvssCodec KvssCodec;
typedef struct KvssCodecPool KvssCodecPool;

KvssCodecPool *kvss_codec_pool_new(const KvssKey *key);
void kvss_codec_pool_free(KvssCodecPool *pool);

/** The key that everything is sealed with, in memory for secrets. Borrowed. */
const KvssKey *kvss_codec_pool_key(const KvssCodecPool *pool);

/** A codec that nobody else has until it is given back. Threads: any. */
KvssCodec *kvss_codec_take(KvssCodecPool *pool);
void kvss_codec_give(KvssCodec *codec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssCodec, kvss_codec_give)

KvssCrypto *kvss_codec_crypto(KvssCodec *codec);

/** The codec's buffer, at least @length bytes; what was in it is lost. Valid until the next call. */
uint8_t *kvss_codec_buffer(KvssCodec *codec, size_t length);

/** Another one, for what is read: the first is free for what is made of it. */
uint8_t *kvss_codec_input(KvssCodec *codec, size_t length);

/** A blob ready to be stored. */
typedef struct {
    const uint8_t *data;   /* in the codec's buffer: borrowed until its next call */
    uint32_t length;       /* bytes as stored, with the seal */
    uint32_t plain_length; /* bytes */
    bool is_compressed;
} KvssSealedBlob;

/**
 * kvss_codec_seal_blob:
 *
 * Compresses, where a few samples say that it is worth trying and where the
 * result is smaller, and seals.
 */
KvssSealedBlob kvss_codec_seal_blob(KvssCodec *codec, const void *plain, size_t length);

/**
 * kvss_codec_open_blob:
 * @sealed: @length bytes, overwritten (usually the codec's own buffer)
 * @plain: @plain_length bytes: exactly what the blob must have
 * @id: what the plaintext's hash must be
 *
 * Errors: CORRUPT, and which check failed.
 */
bool kvss_codec_open_blob(KvssCodec *codec, uint8_t *sealed, size_t length, bool is_compressed,
                          void *plain, size_t plain_length, const uint8_t id[KVSS_ID_LENGTH],
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * The same but for the hash: for who opens several, and makes their hashes together. What
 * came of it proves nothing before kvss_codec_check_id() has said so.
 */
bool kvss_codec_unpack_blob(KvssCodec *codec, uint8_t *sealed, size_t length, bool is_compressed,
                            void *plain, size_t plain_length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Is the hash that was found the one that names the blob? Errors: CORRUPT. */
bool kvss_codec_check_id(const uint8_t found[KVSS_ID_LENGTH], const uint8_t id[KVSS_ID_LENGTH],
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A document in its envelope, sealed. */
GBytes *kvss_codec_seal_document(KvssCodec *codec, const char *json, size_t length);

/** The JSON of a document; one larger than @max_length is CORRUPT. */
GBytes *kvss_codec_open_document(KvssCodec *codec, GBytes *stored, size_t max_length,
                                 GError **error);
