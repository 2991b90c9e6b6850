/*
 * upload-file.c - one file of an upload, as a parallel sink
 *
 * Every chunk of the file has its place in a list of ids. A place that stays
 * empty is a chunk of zeroes: such chunks are neither hashed nor stored one by
 * one, and a terabyte of them costs nothing until the list is written out.
 *
 * With a base, the list of an earlier file that was cut alike, a chunk can also be
 * kept: its place is filled from there, and the file is as complete as any.
 */
#include "repository/format/lanes.h"
#include "repository/read/stored-file.h"
#include "repository/upload/upload.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <string.h>

#define CHUNK_SIZE_MIN (64u << 10)
#define CHUNK_SIZE_MAX (16u << 20)

/* How add_bytes() cuts: such files are documents, a firmware's variables, a TPM's state. */
#define SMALL_FILE_CHUNK (1u << 20)

/* No SHA-256 is all zeroes that anybody could find. */
static const uint8_t no_id[KVSS_ID_LENGTH];

typedef struct {
    KvssSink sink;
    KvssUpload *upload;         /* borrowed */
    char *path;
    unsigned mode;
    uint8_t *ids;               /* one a chunk, no_id where it is zeroes */
    size_t n;
    uint8_t *base_ids;          /* (nullable) of the chunks that can be kept */
    KvssUploadStats *out_stats; /* (nullable) the caller's */
    GMutex lock;                /* guards stats */
    KvssUploadStats stats;
} UploadFile;

static bool
is_all_zero(const uint8_t *data, size_t length)
{
    size_t head = MIN(length, 16);

    for (size_t i = 0; i < head; i++)
        if (data[i])
            return false;
    return memcmp(data, data + head, length - head) == 0;
}

static void
add_stats(UploadFile *self, const KvssUploadStats *stats)
{
    g_mutex_lock(&self->lock);
    self->stats.bytes_stored += stats->bytes_stored;
    self->stats.bytes_new += stats->bytes_new;
    self->stats.chunks += stats->chunks;
    self->stats.chunks_new += stats->chunks_new;
    g_mutex_unlock(&self->lock);
    kvss_upload_count(self->upload, stats);
}

/* Up to KVSS_LANES_MAX chunks, whose ids are made side by side. */
static bool
write_chunks(UploadFile *self, KvssCodec *codec, uint8_t *ids, const uint8_t *data, size_t length,
             KvssUploadStats *stats, GError **error)
{
    KvssMessage messages[KVSS_LANES_MAX] = { { 0 } };
    size_t n = 0;

    for (size_t at = 0; at < length; at += self->sink.block, ids += KVSS_ID_LENGTH) {
        size_t part = MIN(length - at, self->sink.block);

        if (is_all_zero(data + at, part)) {
            memcpy(ids, no_id, sizeof no_id);
            stats->chunks++;
        } else {
            messages[n++] = (KvssMessage) { data + at, part, ids };
        }
    }
    kvss_lanes_hash(messages, n);
    for (size_t i = 0; i < n; i++)
        if (!kvss_upload_store_named(self->upload, codec, false, messages[i].data,
                                     messages[i].length, messages[i].out_digest, stats, error))
            return false;
    return true;
}

static bool
file_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    UploadFile *self = (UploadFile *) sink;
    g_autoptr(KvssCodec) codec = kvss_codec_take(kvss_upload_repository(self->upload)->codecs);
    size_t at_once = (size_t) KVSS_LANES_MAX * sink->block;
    KvssUploadStats stats = { 0 };

    for (size_t at = 0; at < length; at += at_once) {
        size_t chunk = (offset + at) / sink->block;

        if (!write_chunks(self, codec, self->ids + chunk * KVSS_ID_LENGTH,
                          (const uint8_t *) buffer + at, MIN(length - at, at_once), &stats, error))
            return false;
    }
    add_stats(self, &stats);
    return true;
}

static bool
file_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    UploadFile *self = (UploadFile *) sink;
    size_t first = offset / sink->block;
    size_t n = (length + sink->block - 1) / sink->block;
    KvssUploadStats stats = { .chunks = n };

    memset(self->ids + first * KVSS_ID_LENGTH, 0, n * KVSS_ID_LENGTH);
    add_stats(self, &stats);
    return true;
}

static bool
file_keep(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    UploadFile *self = (UploadFile *) sink;
    size_t first = offset / sink->block;
    size_t n = (length + sink->block - 1) / sink->block;
    KvssUploadStats stats = { .chunks = n };

    memcpy(self->ids + first * KVSS_ID_LENGTH, self->base_ids + first * KVSS_ID_LENGTH,
           n * KVSS_ID_LENGTH);
    add_stats(self, &stats);
    return true;
}

/* Stores @length zeroes and puts their id into every empty place of [@first, @end). */
static bool
fill_zeroes(UploadFile *self, size_t first, size_t end, size_t length, GError **error)
{
    g_autoptr(KvssCodec) codec = NULL;
    g_autofree uint8_t *zeroes = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    KvssUploadStats stats = { 0 };

    for (size_t i = first; i < end; i++) {
        uint8_t *place = self->ids + i * KVSS_ID_LENGTH;

        if (!kvss_id_equal(place, no_id))
            continue;
        if (!zeroes) {
            zeroes = g_malloc0(length);
            codec = kvss_codec_take(kvss_upload_repository(self->upload)->codecs);
            if (!kvss_upload_store(self->upload, codec, false, zeroes, length, &stats, id, error))
                return false;
            stats.chunks = 0; /* counted where it was found to be zeroes */
        }
        memcpy(place, id, sizeof id);
    }
    add_stats(self, &stats);
    return true;
}

static bool
file_finish(KvssSink *sink, GError **error)
{
    UploadFile *self = (UploadFile *) sink;
    size_t n_whole = sink->size / sink->block;
    KvssNode *node;

    if (!fill_zeroes(self, 0, n_whole, sink->block, error)
        || !fill_zeroes(self, n_whole, self->n, sink->size % sink->block, error))
        return false;
    node = g_new0(KvssNode, 1);
    node->type = KVSS_NODE_FILE;
    node->mode = self->mode;
    node->size = sink->size;
    node->content = g_steal_pointer(&self->ids);
    node->n_content = self->n;
    if (self->out_stats)
        *self->out_stats = self->stats;
    return kvss_upload_add_node(self->upload, self->path, node, error);
}

static void
file_free(KvssSink *sink)
{
    UploadFile *self = (UploadFile *) sink;

    kvss_upload_count_open(self->upload, -1);
    g_mutex_clear(&self->lock);
    g_free(self->base_ids);
    g_free(self->ids);
    g_free(self->path);
    g_free(self);
}

static const KvssSinkOps file_ops = {
    .write = file_write,
    .zero = file_zero,
    .keep = file_keep,
    .finish = file_finish,
    .free = file_free,
};

KvssSink *
kvss_upload_open_file(KvssUpload *upload, const char *path, uint64_t size, uint32_t chunk_size,
                      unsigned mode, KvssUploadStats *out_stats, GError **error)
{
    UploadFile *self;

    g_return_val_if_fail(chunk_size >= CHUNK_SIZE_MIN && chunk_size <= CHUNK_SIZE_MAX
                             && (chunk_size & (chunk_size - 1)) == 0, NULL);
    if (!kvss_upload_check_path(path, error))
        return NULL;
    self = g_new0(UploadFile, 1);
    self->sink.ops = &file_ops;
    self->sink.size = size;
    self->sink.block = chunk_size;
    self->sink.is_parallel = true;
    self->upload = upload;
    self->path = g_strdup(path);
    self->mode = mode;
    self->out_stats = out_stats;
    self->n = size / chunk_size + (size % chunk_size != 0);
    self->ids = g_malloc0_n(MAX(self->n, 1), KVSS_ID_LENGTH);
    g_mutex_init(&self->lock);
    kvss_upload_count_open(upload, 1);
    return &self->sink;
}

/* The last chunk of a file that grew or shrank has another length now. */
static uint64_t
keep_end(const KvssSink *sink, const KvssSource *base)
{
    uint64_t end = MIN(sink->size, base->size);

    return sink->size == base->size ? end : end - end % sink->block;
}

bool
kvss_upload_use_base(KvssSink *sink, const KvssSource *base)
{
    UploadFile *self = (UploadFile *) sink;
    uint64_t end = keep_end(sink, base);
    size_t n = end / sink->block + (end % sink->block != 0);

    g_return_val_if_fail(sink->ops == &file_ops && !self->base_ids, false);
    if (!kvss_stored_file_is_cut_by(base, sink->block))
        return false;
    self->base_ids = g_memdup2(kvss_stored_file_ids(base), n * KVSS_ID_LENGTH);
    sink->keep_end = end;
    return true;
}

bool
kvss_upload_add_bytes(KvssUpload *upload, const char *path, GBytes *bytes, unsigned mode,
                      GError **error)
{
    gsize length;
    const void *data = g_bytes_get_data(bytes, &length);
    g_autoptr(KvssSink) sink
        = kvss_upload_open_file(upload, path, length, SMALL_FILE_CHUNK, mode, NULL, error);

    return sink && kvss_sink_write(sink, 0, data, length, error)
        && kvss_sink_finish(sink, error);
}
