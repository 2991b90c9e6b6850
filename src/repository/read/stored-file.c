/*
 * stored-file.c - a stored file as a source: random access over its chunks
 *
 *   0        256K      512K           size
 *   |  id 0   |  id 1   |  …   | id n |      ours: all of one length but the last
 *   |   id 0     |id 1|     id 2     |       restic's: cut by content, 512 KiB to 8 MiB
 *
 * A chunk that a read covers whole is unpacked straight into the caller's
 * buffer. One that it covers in part goes through a small cache, so that the
 * neighbours who want the rest of it do not unpack it again.
 */
#include "repository/read/stored-file.h"
#include "repository/format/lanes.h"
#include "repository/read/blob.h"
#include "stream/source.h"

#include <string.h>

#define CACHE_SLOTS 6 /* restic's chunks have at most 8 MiB: 48 MiB */

/*
 * Which chunks are zeroes is told by id, which costs a hash for each length
 * tried. Zeroes on a disk come in whole pages; a length that is none was cut by
 * content. The limit is for hostile files.
 */
#define ZERO_LENGTH_UNIT 4096u
#define ZERO_LENGTHS_MAX 16u

typedef struct {
    size_t chunk;
    GBytes *bytes;      /* NULL: being loaded */
    bool is_used;
    uint64_t last_use;
} Slot;

typedef struct {
    KvssSource source;
    KvssRepository *repository; /* borrowed */
    char *name;
    uint8_t *ids;
    size_t n;
    uint32_t chunk_length;      /* of all but the last; 0: see ends */
    uint64_t *ends;             /* (nullable) where each chunk ends */
    uint8_t *zero;              /* a bit for each chunk */

    GMutex lock;                /* guards what follows */
    GCond loaded;
    Slot slots[CACHE_SLOTS];
    uint64_t uses;
} StoredFile;

static const uint8_t *
chunk_id(const StoredFile *self, size_t chunk)
{
    return self->ids + chunk * KVSS_ID_LENGTH;
}

static uint64_t
chunk_start(const StoredFile *self, size_t chunk)
{
    if (!self->ends)
        return (uint64_t) chunk * self->chunk_length;
    return chunk == 0 ? 0 : self->ends[chunk - 1];
}

static uint64_t
chunk_end(const StoredFile *self, size_t chunk)
{
    if (!self->ends)
        return MIN(((uint64_t) chunk + 1) * self->chunk_length, self->source.size);
    return self->ends[chunk];
}

static bool
chunk_is_zero(const StoredFile *self, size_t chunk)
{
    return self->zero[chunk / 8] & (1u << chunk % 8);
}

/* The chunk that has the byte at @offset. Chunks have at least one byte each. */
static size_t
chunk_at(const StoredFile *self, uint64_t offset)
{
    size_t low = 0, high = self->n;

    if (!self->ends)
        return offset / self->chunk_length;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->ends[middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool
stored_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
               GError **error)
{
    StoredFile *self = (StoredFile *) source;
    uint64_t end = offset + length;
    size_t chunk = chunk_at(self, offset);

    while (offset < end) {
        KvssExtent extent = { .offset = offset, .zero = chunk_is_zero(self, chunk) };

        for (; offset < end && chunk_is_zero(self, chunk) == extent.zero; chunk++)
            offset = MIN(chunk_end(self, chunk), end);
        extent.length = offset - extent.offset;
        g_array_append_val(out_extents, extent);
    }
    return true;
}

/* ---- the cache ---- */

/* Called under the lock, as are the next two. */
static Slot *
slot_find(StoredFile *self, size_t chunk)
{
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        if (self->slots[i].is_used && self->slots[i].chunk == chunk)
            return &self->slots[i];
    return NULL;
}

/* The slot that was not used for longest; NULL when all are being loaded. */
static Slot *
slot_to_reuse(StoredFile *self)
{
    Slot *best = NULL;

    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        Slot *slot = &self->slots[i];

        if (!slot->is_used)
            return slot;
        if (slot->bytes && (!best || slot->last_use < best->last_use))
            best = slot;
    }
    return best;
}

static void
slot_reserve(Slot *slot, size_t chunk)
{
    g_clear_pointer(&slot->bytes, g_bytes_unref);
    slot->is_used = true;
    slot->chunk = chunk;
}

static GBytes *
chunk_load(StoredFile *self, size_t chunk, GError **error)
{
    size_t length = chunk_end(self, chunk) - chunk_start(self, chunk);
    g_autofree uint8_t *plain = g_malloc(length);

    if (!kvss_blob_read(self->repository, false, chunk_id(self, chunk), plain, length, error))
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&plain), length);
}

/*
 * The chunk from the cache, or loaded into it. Who finds it being loaded waits.
 * When every slot is being loaded the chunk is loaded outside the cache.
 */
static GBytes *
chunk_get(StoredFile *self, size_t chunk, GError **error)
{
    GBytes *bytes = NULL;
    Slot *slot;

    g_mutex_lock(&self->lock);
    while ((slot = slot_find(self, chunk)) != NULL && !slot->bytes)
        g_cond_wait(&self->loaded, &self->lock);
    if (slot) {
        slot->last_use = ++self->uses;
        bytes = g_bytes_ref(slot->bytes);
    } else if ((slot = slot_to_reuse(self)) != NULL) {
        slot_reserve(slot, chunk);
    }
    g_mutex_unlock(&self->lock);
    if (bytes)
        return bytes;

    bytes = chunk_load(self, chunk, error);
    if (!slot)
        return bytes;
    g_mutex_lock(&self->lock);
    slot->is_used = bytes != NULL;
    slot->bytes = bytes ? g_bytes_ref(bytes) : NULL;
    slot->last_use = ++self->uses;
    g_cond_broadcast(&self->loaded);
    g_mutex_unlock(&self->lock);
    return bytes;
}

/* ---- reading ---- */

/* Bytes [@from, @to) of the file, which lie in @chunk. */
static bool
read_part(StoredFile *self, size_t chunk, uint64_t from, uint64_t to, uint8_t *buffer,
          GError **error)
{
    uint64_t start = chunk_start(self, chunk);
    g_autoptr(GBytes) bytes = NULL;

    if (chunk_is_zero(self, chunk)) {
        memset(buffer, 0, to - from);
        return true;
    }
    if (from == start && to == chunk_end(self, chunk))
        return kvss_blob_read(self->repository, false, chunk_id(self, chunk), buffer, to - from,
                              error);
    bytes = chunk_get(self, chunk, error);
    if (!bytes)
        return false;
    memcpy(buffer, (const uint8_t *) g_bytes_get_data(bytes, NULL) + (from - start), to - from);
    return true;
}

/* Chunks that lie wholly in [@from, @to), one behind the other from @chunk on, read at once. Returns how many were tried. */
static size_t
read_whole_chunks(StoredFile *self, size_t chunk, uint64_t from, uint64_t to, uint8_t *buffer,
                  KvssBlobWish wishes[KVSS_LANES_MAX])
{
    size_t n = 0;

    if (from != chunk_start(self, chunk))
        return 0;
    for (; n < KVSS_LANES_MAX && from < to && chunk_end(self, chunk) <= to
           && !chunk_is_zero(self, chunk); chunk++, n++) {
        size_t length = chunk_end(self, chunk) - from;

        wishes[n] = (KvssBlobWish) { chunk_id(self, chunk), buffer, length, false };
        buffer += length;
        from += length;
    }
    if (n > 1)
        kvss_blob_read_several(self->repository, wishes, n);
    return n;
}

static bool
stored_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    StoredFile *self = (StoredFile *) source;
    uint64_t end = offset + length;
    KvssBlobWish wishes[KVSS_LANES_MAX];
    size_t tried = 0, next = 0; /* of wishes */
    uint8_t *at = buffer;

    for (size_t chunk = chunk_at(self, offset); offset < end; chunk++, next++) {
        uint64_t to = MIN(chunk_end(self, chunk), end);

        if (next >= tried) {
            tried = read_whole_chunks(self, chunk, offset, end, at, wishes);
            next = 0;
        }
        if (!(next < tried && wishes[next].is_right)
            && !read_part(self, chunk, offset, to, at, error)) {
            g_prefix_error(error, "%s at offset %" G_GUINT64_FORMAT ": ", self->name, offset);
            return false;
        }
        at += to - offset;
        offset = to;
    }
    return true;
}

static void
stored_free(KvssSource *source)
{
    StoredFile *self = (StoredFile *) source;

    for (size_t i = 0; i < CACHE_SLOTS; i++)
        g_clear_pointer(&self->slots[i].bytes, g_bytes_unref);
    g_cond_clear(&self->loaded);
    g_mutex_clear(&self->lock);
    g_free(self->zero);
    g_free(self->ends);
    g_free(self->ids);
    g_free(self->name);
    g_free(self);
}

static const KvssSourceOps stored_ops = {
    .extents = stored_extents,
    .read = stored_read,
    .free = stored_free,
};

/* ---- without reading ---- */

uint32_t
kvss_stored_file_chunk_length(const KvssSource *file)
{
    g_assert(file->ops == &stored_ops);
    return ((const StoredFile *) file)->chunk_length;
}

bool
kvss_stored_file_is_cut_by(const KvssSource *file, uint32_t length)
{
    const StoredFile *self = (const StoredFile *) file;

    g_assert(file->ops == &stored_ops);
    return self->n <= 1 ? file->size <= length : self->chunk_length == length;
}

const uint8_t *
kvss_stored_file_ids(const KvssSource *file)
{
    g_assert(file->ops == &stored_ops);
    return ((const StoredFile *) file)->ids;
}

bool
kvss_stored_file_chunk_is(const KvssSource *file, uint64_t chunk, const void *bytes, size_t length)
{
    const StoredFile *self = (const StoredFile *) file;
    uint8_t id[KVSS_ID_LENGTH];

    g_assert(file->ops == &stored_ops && chunk < self->n);
    if (length != chunk_end(self, chunk) - chunk_start(self, chunk))
        return false;
    kvss_id_of(bytes, length, id);
    return kvss_id_equal(id, chunk_id(self, chunk));
}

/* ---- opening ---- */

/* Where each chunk ends, from the index; false unless they fill the size exactly. */
static bool
measure(StoredFile *self, GError **error)
{
    uint64_t at = 0;
    size_t i;

    self->ends = g_new(uint64_t, self->n);
    for (i = 0; i < self->n; i++) {
        KvssBlobLocation location;

        if (!kvss_blob_find(self->repository, false, chunk_id(self, i), &location, error))
            return false;
        if (location.plain_length == 0 || location.plain_length > self->source.size - at)
            break;
        at += location.plain_length;
        self->ends[i] = at;
    }
    if (i == self->n && at == self->source.size)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "its chunks do not add up to its size of %" G_GUINT64_FORMAT " bytes",
                      self->source.size);
}

/* All of one length but for a shorter last: then no table of ends is needed. */
static void
forget_equal_lengths(StoredFile *self)
{
    uint64_t length = self->n > 0 ? self->ends[0] : 0;

    for (size_t i = 0; i < self->n; i++)
        if (self->ends[i] != MIN((i + 1) * length, self->source.size))
            return;
    self->chunk_length = (uint32_t) length;
    g_clear_pointer(&self->ends, g_free);
}

/* The id of @length zeroes. */
static uint8_t *
zero_id(uint64_t length)
{
    g_autofree uint8_t *zeroes = g_malloc0(length);
    uint8_t *id = g_malloc(KVSS_ID_LENGTH);

    kvss_id_of(zeroes, length, id);
    return id;
}

static void
mark_zeroes(StoredFile *self)
{
    g_autoptr(GHashTable) ids
        = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);

    self->zero = g_malloc0(self->n / 8 + 1);
    for (size_t i = 0; i < self->n; i++) {
        uint64_t length = chunk_end(self, i) - chunk_start(self, i);
        const uint8_t *id = g_hash_table_lookup(ids, GSIZE_TO_POINTER(length));

        if (!id && i + 1 < self->n
            && (length % ZERO_LENGTH_UNIT || g_hash_table_size(ids) >= ZERO_LENGTHS_MAX))
            continue;
        if (!id) {
            id = zero_id(length);
            g_hash_table_insert(ids, GSIZE_TO_POINTER(length), (gpointer) id);
        }
        if (kvss_id_equal(id, chunk_id(self, i)))
            self->zero[i / 8] |= (uint8_t) (1u << i % 8);
    }
}

KvssSource *
kvss_repository_open_file(KvssRepository *repository, const KvssNode *node, GError **error)
{
    StoredFile *self = g_new0(StoredFile, 1);

    g_return_val_if_fail(node->type == KVSS_NODE_FILE, NULL);
    self->source.ops = &stored_ops;
    self->source.size = node->size;
    self->source.is_parallel = true;
    self->repository = repository;
    self->name = g_strdup(node->name);
    self->n = node->n_content;
    self->ids = g_memdup2(node->content, self->n * KVSS_ID_LENGTH);
    g_mutex_init(&self->lock);
    g_cond_init(&self->loaded);

    if (!measure(self, error)) {
        g_prefix_error(error, "%s: ", node->name);
        stored_free(&self->source);
        return NULL;
    }
    forget_equal_lengths(self);
    mark_zeroes(self);
    return &self->source;
}
