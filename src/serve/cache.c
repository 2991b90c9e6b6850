/*
 * cache.c - decoded pieces of stored disks, for many small reads at once
 */
#include "serve/cache.h"

#include <string.h>

struct KvssCached {
    KvssCache *cache;
    KvssSource *source;
    uint32_t piece;
};

typedef struct {
    KvssCached *of;
    uint64_t number;
    uint8_t *bytes;      /* NULL: being read */
    size_t length;
    unsigned users;      /* who read it, wait for it or copy from it */
    GError *problem;     /* it could not be read; not in the table any more */
    GList link;          /* in the queue, when nobody uses it */
} Piece;

struct KvssCache {
    uint64_t capacity;
    GThreadPool *readers;
    GMutex lock;         /* guards what follows */
    GCond changed;
    GHashTable *pieces;  /* Piece -> itself */
    GQueue unused;       /* least recently used first */
    uint64_t bytes;
    uint64_t bytes_ahead; /* of them, what the readers have been told to read */
    GPtrArray *sources;  /* KvssCached */
};

static guint
piece_hash(gconstpointer data)
{
    const Piece *piece = data;

    return g_direct_hash(piece->of) ^ g_int64_hash(&piece->number);
}

static gboolean
piece_equal(gconstpointer a, gconstpointer b)
{
    const Piece *one = a, *other = b;

    return one->of == other->of && one->number == other->number;
}

static void
piece_free(Piece *piece)
{
    g_clear_error(&piece->problem);
    g_free(piece->bytes);
    g_free(piece);
}

/* ---- under the lock ---- */

static void
drop(KvssCache *cache, Piece *piece)
{
    g_queue_unlink(&cache->unused, &piece->link);
    g_hash_table_remove(cache->pieces, piece);
    cache->bytes -= piece->length;
    piece_free(piece);
}

static void
make_room(KvssCache *cache, size_t length)
{
    while (cache->bytes + length > cache->capacity && cache->unused.head)
        drop(cache, cache->unused.head->data);
}

static size_t
piece_length(const KvssCached *cached, uint64_t number)
{
    return MIN(cached->piece, cached->source->size - number * cached->piece);
}

static Piece *
find(KvssCached *cached, uint64_t number)
{
    Piece key = { .of = cached, .number = number };

    return g_hash_table_lookup(cached->cache->pieces, &key);
}

static Piece *
add(KvssCached *cached, uint64_t number)
{
    KvssCache *cache = cached->cache;
    Piece *piece = g_new0(Piece, 1);

    piece->of = cached;
    piece->number = number;
    piece->length = piece_length(cached, number);
    piece->link.data = piece;
    make_room(cache, piece->length);
    cache->bytes += piece->length;
    g_hash_table_add(cache->pieces, piece);
    return piece;
}

static void
use(KvssCache *cache, Piece *piece)
{
    if (piece->users++ == 0 && piece->bytes)
        g_queue_unlink(&cache->unused, &piece->link);
}

static void
unuse(KvssCache *cache, Piece *piece)
{
    if (--piece->users > 0)
        return;
    if (piece->problem)
        piece_free(piece); /* it is in no table */
    else
        g_queue_push_tail_link(&cache->unused, &piece->link);
    make_room(cache, 0);
}

/* ---- reading ---- */

static void
piece_read(Piece *piece)
{
    KvssCache *cache = piece->of->cache;
    uint8_t *bytes = g_malloc(piece->length);
    GError *problem = NULL;
    bool ok = kvss_source_read(piece->of->source, piece->number * piece->of->piece, bytes,
                               piece->length, &problem);

    g_mutex_lock(&cache->lock);
    if (ok) {
        piece->bytes = bytes;
    } else {
        g_free(bytes);
        piece->problem = problem;
        g_hash_table_remove(cache->pieces, piece);
        cache->bytes -= piece->length;
    }
    g_cond_broadcast(&cache->changed);
    g_mutex_unlock(&cache->lock);
}

/* Whoever finds it absent reads it; the others wait. Give it back with piece_release(). */
static Piece *
piece_take(KvssCached *cached, uint64_t number)
{
    KvssCache *cache = cached->cache;
    Piece *piece;
    bool is_new;

    g_mutex_lock(&cache->lock);
    piece = find(cached, number);
    is_new = !piece;
    if (is_new)
        piece = add(cached, number);
    use(cache, piece);
    while (!is_new && !piece->bytes && !piece->problem)
        g_cond_wait(&cache->changed, &cache->lock);
    g_mutex_unlock(&cache->lock);
    if (is_new)
        piece_read(piece);
    return piece;
}

static void
piece_release(Piece *piece)
{
    KvssCache *cache = piece->of->cache;

    g_mutex_lock(&cache->lock);
    unuse(cache, piece);
    g_mutex_unlock(&cache->lock);
}

static bool
is_all_zero(KvssCached *cached, uint64_t offset, size_t length)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));

    return kvss_source_extents(cached->source, offset, length, extents, NULL) && extents->len == 1
        && g_array_index(extents, KvssExtent, 0).zero;
}

/* Bytes [@offset, @offset + @length), which lie in one piece. */
static bool
read_part(KvssCached *cached, uint64_t offset, uint8_t *buffer, size_t length, GError **error)
{
    uint64_t number = offset / cached->piece;
    Piece *piece;
    bool ok;

    if (is_all_zero(cached, offset, length)) {
        memset(buffer, 0, length);
        return true;
    }
    piece = piece_take(cached, number);
    ok = piece->bytes != NULL;
    if (ok)
        memcpy(buffer, piece->bytes + (offset - number * cached->piece), length);
    else if (error)
        *error = g_error_copy(piece->problem);
    piece_release(piece);
    return ok;
}

static size_t
part_length(const KvssCached *cached, uint64_t offset, size_t length)
{
    return MIN(length, cached->piece - offset % cached->piece);
}

/* The readers begin with the second piece while we read the first. */
bool
kvss_cached_read(KvssCached *cached, uint64_t offset, void *buffer, size_t length,
                 uint64_t *out_bad, GError **error)
{
    size_t first = length > 0 ? part_length(cached, offset, length) : 0;
    uint8_t *at = buffer;

    if (length > first)
        kvss_cached_read_ahead(cached, offset + first, length - first);
    while (length > 0) {
        size_t n = part_length(cached, offset, length);

        if (!read_part(cached, offset, at, n, error)) {
            if (out_bad)
                *out_bad = offset - offset % cached->piece;
            return false;
        }
        offset += n;
        at += n;
        length -= n;
    }
    return true;
}

/* ---- ahead ---- */

/* More would push out what was read ahead before anybody has come for it. */
static bool
may_read_ahead(const KvssCache *cache, size_t length)
{
    return cache->bytes_ahead + length <= cache->capacity / 4;
}

/* A piece for the readers, who use it until they have it; NULL: it is there, or no more may be. */
static Piece *
wish_new(KvssCached *cached, uint64_t number)
{
    KvssCache *cache = cached->cache;
    size_t length = piece_length(cached, number);
    Piece *piece;

    if (find(cached, number) || !may_read_ahead(cache, length))
        return NULL;
    piece = add(cached, number);
    use(cache, piece);
    cache->bytes_ahead += length;
    return piece;
}

void
kvss_cached_read_ahead(KvssCached *cached, uint64_t offset, uint64_t length)
{
    KvssCache *cache = cached->cache;
    uint64_t end = MIN(offset + length, cached->source->size);

    for (uint64_t number = offset / cached->piece; number * cached->piece < end; number++) {
        Piece *wish;

        if (is_all_zero(cached, number * cached->piece, piece_length(cached, number)))
            continue;
        g_mutex_lock(&cache->lock);
        wish = wish_new(cached, number);
        g_mutex_unlock(&cache->lock);
        if (wish)
            (void) g_thread_pool_push(cache->readers, wish, NULL);
    }
}

static void
reader(gpointer data, gpointer user_data)
{
    KvssCache *cache = user_data;
    Piece *piece = data;

    piece_read(piece);
    g_mutex_lock(&cache->lock);
    cache->bytes_ahead -= piece->length;
    unuse(cache, piece);
    g_mutex_unlock(&cache->lock);
}

/* ---- life ---- */

static void
cached_free(gpointer data)
{
    KvssCached *cached = data;

    kvss_source_free(cached->source);
    g_free(cached);
}

KvssCache *
kvss_cache_new(uint64_t capacity, unsigned readers)
{
    KvssCache *cache = g_new0(KvssCache, 1);

    cache->capacity = capacity;
    cache->readers = g_thread_pool_new(reader, cache, (int) readers, FALSE, NULL);
    g_mutex_init(&cache->lock);
    g_cond_init(&cache->changed);
    cache->pieces = g_hash_table_new(piece_hash, piece_equal);
    cache->sources = g_ptr_array_new_with_free_func(cached_free);
    return cache;
}

void
kvss_cache_free(KvssCache *cache)
{
    if (!cache)
        return;
    /* What they were told to read they read: it is little, and others could be waiting for it. */
    g_thread_pool_free(cache->readers, FALSE, TRUE);
    while (cache->unused.head)
        drop(cache, cache->unused.head->data);
    g_assert(cache->bytes == 0);
    g_hash_table_unref(cache->pieces);
    g_ptr_array_unref(cache->sources);
    g_mutex_clear(&cache->lock);
    g_cond_clear(&cache->changed);
    g_free(cache);
}

KvssCached *
kvss_cache_add(KvssCache *cache, KvssSource *source, uint32_t piece)
{
    KvssCached *cached = g_new0(KvssCached, 1);

    g_assert(source->is_parallel && piece > 0);
    cached->cache = cache;
    cached->source = source;
    cached->piece = piece;
    g_mutex_lock(&cache->lock);
    g_ptr_array_add(cache->sources, cached);
    g_mutex_unlock(&cache->lock);
    return cached;
}

KvssSource *
kvss_cached_source(KvssCached *cached)
{
    return cached->source;
}
