/*
 * codec.c - from plain bytes to stored bytes and back: zstd, then the seal
 */
#include "repository/format/codec.h"
#include "repository/format/id.h"

#include <string.h>
#include <zstd.h>

/*
 * Below zstd's level 1: measured on chunks of disks it compresses 1.9 times as
 * fast as level 3 and takes 4 % more room (docs/performance.md). Its table of 16 KiB
 * stays in a core's nearest cache. Data that do not compress are noticed by zstd
 * itself, at gigabytes a second.
 */
#define STRATEGY ZSTD_fast
#define HASH_LOG 12
#define MIN_MATCH 6
#define WINDOW_LOG 20
#define ENVELOPE_ZSTD 2

/* A buffer larger than this was for a huge tree or pack, and is not kept. Two usual packs fit. */
#define BUFFER_KEEP_MAX (36u << 20)

struct KvssCodecPool {
    KvssKey *key;    /* in memory for secrets */
    GMutex lock;
    GPtrArray *idle; /* KvssCodec */
};

/** Grows as needed; pages that are had once are not asked of the kernel again. */
typedef struct {
    uint8_t *data;
    size_t capacity;
} Buffer;

struct KvssCodec {
    KvssCodecPool *pool;
    KvssCrypto *crypto;
    ZSTD_CCtx *compress;
    ZSTD_DCtx *decompress;
    Buffer buffer, input;
};

static void
codec_free(gpointer data)
{
    KvssCodec *codec = data;

    kvss_crypto_free(codec->crypto);
    ZSTD_freeCCtx(codec->compress);
    ZSTD_freeDCtx(codec->decompress);
    g_free(codec->buffer.data);
    g_free(codec->input.data);
    g_free(codec);
}

/* The values are in zstd's range by its documentation: a refusal is our bug. */
static void
set_parameter(ZSTD_CCtx *compress, ZSTD_cParameter parameter, int value)
{
    size_t result = ZSTD_CCtx_setParameter(compress, parameter, value);

    g_assert(!ZSTD_isError(result));
}

static ZSTD_CCtx *
compressor_new(void)
{
    ZSTD_CCtx *compress = ZSTD_createCCtx();

    g_assert(compress);
    set_parameter(compress, ZSTD_c_strategy, STRATEGY);
    set_parameter(compress, ZSTD_c_hashLog, HASH_LOG);
    set_parameter(compress, ZSTD_c_minMatch, MIN_MATCH);
    set_parameter(compress, ZSTD_c_windowLog, WINDOW_LOG);
    return compress;
}

static KvssCodec *
codec_new(KvssCodecPool *pool)
{
    KvssCodec *codec = g_new0(KvssCodec, 1);

    codec->pool = pool;
    codec->crypto = kvss_crypto_new(pool->key);
    codec->compress = compressor_new();
    codec->decompress = ZSTD_createDCtx();
    g_assert(codec->decompress);
    return codec;
}

KvssCodecPool *
kvss_codec_pool_new(const KvssKey *key)
{
    KvssCodecPool *pool = g_new0(KvssCodecPool, 1);

    pool->key = kvss_key_new();
    *pool->key = *key;
    g_mutex_init(&pool->lock);
    pool->idle = g_ptr_array_new_with_free_func(codec_free);
    return pool;
}

void
kvss_codec_pool_free(KvssCodecPool *pool)
{
    if (!pool)
        return;
    g_ptr_array_unref(pool->idle);
    g_mutex_clear(&pool->lock);
    kvss_key_free(pool->key);
    g_free(pool);
}

const KvssKey *
kvss_codec_pool_key(const KvssCodecPool *pool)
{
    return pool->key;
}

KvssCodec *
kvss_codec_take(KvssCodecPool *pool)
{
    KvssCodec *codec = NULL;

    g_mutex_lock(&pool->lock);
    if (pool->idle->len > 0)
        codec = g_ptr_array_steal_index_fast(pool->idle, pool->idle->len - 1);
    g_mutex_unlock(&pool->lock);
    return codec ? codec : codec_new(pool);
}

static void
buffer_trim(Buffer *buffer)
{
    if (buffer->capacity <= BUFFER_KEEP_MAX)
        return;
    g_clear_pointer(&buffer->data, g_free);
    buffer->capacity = 0;
}

void
kvss_codec_give(KvssCodec *codec)
{
    if (!codec)
        return;
    buffer_trim(&codec->buffer);
    buffer_trim(&codec->input);
    g_mutex_lock(&codec->pool->lock);
    g_ptr_array_add(codec->pool->idle, codec);
    g_mutex_unlock(&codec->pool->lock);
}

KvssCrypto *
kvss_codec_crypto(KvssCodec *codec)
{
    return codec->crypto;
}

static uint8_t *
buffer_of(Buffer *buffer, size_t length)
{
    if (buffer->capacity < length) {
        g_free(buffer->data);
        buffer->data = g_malloc(length);
        buffer->capacity = length;
    }
    return buffer->data;
}

uint8_t *
kvss_codec_buffer(KvssCodec *codec, size_t length)
{
    return buffer_of(&codec->buffer, length);
}

uint8_t *
kvss_codec_input(KvssCodec *codec, size_t length)
{
    return buffer_of(&codec->input, length);
}

/* Compressed length, or 0 when @capacity bytes do not hold it. */
static size_t
compress(KvssCodec *codec, uint8_t *out, size_t capacity, const void *plain, size_t length)
{
    size_t n = ZSTD_compress2(codec->compress, out, capacity, plain, length);

    return ZSTD_isError(n) ? 0 : n;
}

KvssSealedBlob
kvss_codec_seal_blob(KvssCodec *codec, const void *plain, size_t length)
{
    uint8_t *sealed = kvss_codec_buffer(codec, length + KVSS_CRYPTO_OVERHEAD);
    uint8_t *inside = sealed + KVSS_CRYPTO_IV_LENGTH;
    size_t n = 0;

    g_assert(length <= KVSS_TREE_BLOB_MAX);
    if (length > 1)
        n = compress(codec, inside, length - 1, plain, length);
    if (n == 0 && length > 0)
        memcpy(inside, plain, length);

    kvss_crypto_seal(codec->crypto, sealed, n ? n : length);
    return (KvssSealedBlob) {
        .data = sealed,
        .length = (uint32_t) ((n ? n : length) + KVSS_CRYPTO_OVERHEAD),
        .plain_length = (uint32_t) length,
        .is_compressed = n > 0,
    };
}

static bool
unpack(KvssCodec *codec, const uint8_t *inside, size_t length, bool is_compressed, void *plain,
       size_t plain_length, GError **error)
{
    size_t n = length;

    if (is_compressed) {
        n = ZSTD_decompressDCtx(codec->decompress, plain, plain_length, inside, length);
        if (ZSTD_isError(n))
            return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                              "it does not decompress: %s", ZSTD_getErrorName(n));
    }
    if (n != plain_length)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "it has %zu bytes where the index says %zu", n, plain_length);
    if (!is_compressed)
        memcpy(plain, inside, length);
    return true;
}

bool
kvss_codec_unpack_blob(KvssCodec *codec, uint8_t *sealed, size_t length, bool is_compressed,
                       void *plain, size_t plain_length, GError **error)
{
    return kvss_crypto_open(codec->crypto, sealed, length, error)
        && unpack(codec, sealed + KVSS_CRYPTO_IV_LENGTH, length - KVSS_CRYPTO_OVERHEAD,
                  is_compressed, plain, plain_length, error);
}

bool
kvss_codec_check_id(const uint8_t found[KVSS_ID_LENGTH], const uint8_t id[KVSS_ID_LENGTH],
                    GError **error)
{
    if (kvss_id_equal(found, id))
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "its content does not have the hash that names it");
}

bool
kvss_codec_open_blob(KvssCodec *codec, uint8_t *sealed, size_t length, bool is_compressed,
                     void *plain, size_t plain_length, const uint8_t id[KVSS_ID_LENGTH],
                     GError **error)
{
    uint8_t found[KVSS_ID_LENGTH];

    if (!kvss_codec_unpack_blob(codec, sealed, length, is_compressed, plain, plain_length, error))
        return false;
    kvss_crypto_hash(codec->crypto, plain, plain_length, found);
    return kvss_codec_check_id(found, id, error);
}

GBytes *
kvss_codec_seal_document(KvssCodec *codec, const char *json, size_t length)
{
    size_t bound = 1 + ZSTD_compressBound(length);
    g_autofree uint8_t *sealed = g_malloc(bound + KVSS_CRYPTO_OVERHEAD);
    size_t n;

    sealed[KVSS_CRYPTO_IV_LENGTH] = ENVELOPE_ZSTD;
    n = 1 + compress(codec, sealed + KVSS_CRYPTO_IV_LENGTH + 1, bound - 1, json, length);
    kvss_crypto_seal(codec->crypto, sealed, n);
    return g_bytes_new_take(g_steal_pointer(&sealed), n + KVSS_CRYPTO_OVERHEAD);
}

/* The frame's own word about its size is not believed: the output grows as it comes. */
static GBytes *
decompress_bounded(KvssCodec *codec, const uint8_t *data, size_t length, size_t max_length,
                   GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    ZSTD_inBuffer in = { data, length, 0 };
    size_t left = 1;

    (void) ZSTD_DCtx_reset(codec->decompress, ZSTD_reset_session_only);
    while (left != 0) {
        size_t room = MAX(out->len, 64u << 10);
        guint had = out->len;
        ZSTD_outBuffer piece = { NULL, room, 0 };

        g_byte_array_set_size(out, had + (guint) room);
        piece.dst = out->data + had;
        left = ZSTD_decompressStream(codec->decompress, &piece, &in);
        g_byte_array_set_size(out, had + (guint) piece.pos);
        if (ZSTD_isError(left) || (left != 0 && piece.pos == 0 && in.pos == in.size)) {
            kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                       "it does not decompress: %s",
                       ZSTD_isError(left) ? ZSTD_getErrorName(left) : "it ends too early");
            return NULL;
        }
        if (out->len > max_length) {
            kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                       "it unpacks to more than %zu bytes", max_length);
            return NULL;
        }
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&out));
}

GBytes *
kvss_codec_open_document(KvssCodec *codec, GBytes *stored, size_t max_length, GError **error)
{
    size_t length = g_bytes_get_size(stored);
    g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(stored, NULL), length);
    const uint8_t *inside = copy + KVSS_CRYPTO_IV_LENGTH;

    if (!kvss_crypto_open(codec->crypto, copy, length, error))
        return NULL;
    length -= KVSS_CRYPTO_OVERHEAD;
    if (length > 0 && (inside[0] == '{' || inside[0] == '['))
        return g_bytes_new(inside, length);
    if (length > 0 && inside[0] == ENVELOPE_ZSTD)
        return decompress_bounded(codec, inside + 1, length - 1, max_length, error);
    kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
               "its envelope has a version that this build does not know");
    return NULL;
}
