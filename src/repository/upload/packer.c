/*
 * packer.c - new blobs into packs, packs into the index
 *
 * Order is what makes a crash harmless: a pack's bytes are synced, then it gets
 * its name, then names are synced, then an index file tells of it. A pack that
 * no index names is rubbish that prune removes.
 */
#include "repository/file/document.h"
#include "repository/file/pack.h"
#include "repository/upload/packer.h"

/* Full packs that wait for the finisher. More would only put off the waiting for the disk. */
#define QUEUE_MAX 4

/* Of packs that are memory, for a server's backend: it has a queue of its own. */
#define QUEUE_REMOTE_MAX 1

/*
 * An index file is written after so many blobs (about 6 MB of JSON) or so long:
 * what a killed run loses of its work is at most that.
 */
#define INDEX_BLOBS_MAX 40000u
#define INDEX_AGE_US (5 * 60 * G_USEC_PER_SEC)

struct KvssPacker {
    KvssRepository *repository; /* borrowed */
    guint queue_max;
    bool leaves_lookup;         /* new packs are not told to the index in memory */

    GMutex lock;            /* guards what follows */
    GCond changed;
    GPtrArray *open[2];     /* packs that no thread has in hand: data, tree */
    GQueue full;            /* packs for the finisher */
    bool is_finishing;      /* the finisher has one in hand */
    bool is_ending;
    GError *error;          /* the first one */
    uint64_t bytes;

    GThread *finisher;
    GArray *unindexed;      /* KvssIndexedPack: the finisher's; others only when it rests */
    guint n_unindexed_blobs;
    unsigned n_indexes;     /* files written */
    gint64 indexed_us;      /* monotonic */
};

static void
indexed_clear(gpointer data)
{
    g_clear_pointer(&((KvssIndexedPack *) data)->entries, g_array_unref);
}

/* Called under the lock. */
static bool
copy_error(KvssPacker *packer, GError **error)
{
    if (packer->error)
        g_propagate_error(error, g_error_copy(packer->error));
    return packer->error == NULL;
}

/* Takes @error; the first stays, and everybody who waits is woken. */
static void
packer_fail(KvssPacker *packer, GError *error)
{
    g_mutex_lock(&packer->lock);
    if (!packer->error)
        packer->error = error;
    else
        g_error_free(error);
    g_cond_broadcast(&packer->changed);
    g_mutex_unlock(&packer->lock);
}

/* ---- index files ---- */

static bool
write_index(KvssPacker *packer, GError **error)
{
    KvssRepository *repository = packer->repository;
    g_autoptr(GString) json = NULL;

    packer->indexed_us = g_get_monotonic_time();
    if (packer->unindexed->len == 0)
        return true;
    /* Without our lock these packs may be gone: an index file that names them would outlive this run. */
    if ((repository->lock && !kvss_lock_check(repository->lock, error))
        || !kvss_backend_sync(repository->backend, error))
        return false;
    json = kvss_index_text(packer->unindexed);
    if (!kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_INDEX, json, NULL,
                             error))
        return false;
    g_array_set_size(packer->unindexed, 0);
    packer->n_unindexed_blobs = 0;
    packer->n_indexes++;
    return true;
}

static bool
write_index_when_due(KvssPacker *packer, GError **error)
{
    if (packer->n_unindexed_blobs < INDEX_BLOBS_MAX
        && g_get_monotonic_time() - packer->indexed_us < INDEX_AGE_US)
        return true;
    return write_index(packer, error);
}

/* ---- the finisher ---- */

static bool
finish_pack(KvssPacker *packer, KvssPack *pack, GError **error)
{
    KvssRepository *repository = packer->repository;
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    KvssIndexedPack indexed;
    uint64_t header_length;

    if (!kvss_pack_finish(pack, codec, &indexed, &header_length, error))
        return false;
    if (!packer->leaves_lookup)
        kvss_index_add_pack(repository->index, indexed.id,
                            (const KvssPackEntry *) (void *) indexed.entries->data,
                            indexed.entries->len);
    packer->n_unindexed_blobs += indexed.entries->len;
    g_array_append_val(packer->unindexed, indexed);

    g_mutex_lock(&packer->lock);
    packer->bytes += header_length;
    g_mutex_unlock(&packer->lock);
    return write_index_when_due(packer, error);
}

/* The next full pack, or NULL at the end. After an error packs are dropped. */
static KvssPack *
next_full(KvssPacker *packer)
{
    KvssPack *pack;

    g_mutex_lock(&packer->lock);
    packer->is_finishing = false;
    g_cond_broadcast(&packer->changed);
    while (g_queue_is_empty(&packer->full) && !packer->is_ending)
        g_cond_wait(&packer->changed, &packer->lock);
    pack = g_queue_pop_head(&packer->full);
    packer->is_finishing = pack != NULL;
    g_cond_broadcast(&packer->changed);
    g_mutex_unlock(&packer->lock);
    return pack;
}

static bool
packer_has_failed(KvssPacker *packer)
{
    bool failed;

    g_mutex_lock(&packer->lock);
    failed = packer->error != NULL;
    g_mutex_unlock(&packer->lock);
    return failed;
}

static gpointer
finisher_thread(gpointer data)
{
    KvssPacker *packer = data;
    KvssPack *pack;

    while ((pack = next_full(packer)) != NULL) {
        GError *error = NULL;

        if (!packer_has_failed(packer) && !finish_pack(packer, pack, &error))
            packer_fail(packer, error);
        kvss_pack_free(pack);
    }
    return NULL;
}

/* ---- adding ---- */

KvssPacker *
kvss_packer_new(KvssRepository *repository)
{
    KvssPacker *packer = g_new0(KvssPacker, 1);

    packer->repository = repository;
    packer->queue_max = kvss_backend_is_remote(repository->backend) ? QUEUE_REMOTE_MAX : QUEUE_MAX;
    g_mutex_init(&packer->lock);
    g_cond_init(&packer->changed);
    g_queue_init(&packer->full);
    for (int i = 0; i < 2; i++)
        packer->open[i] = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_pack_free);
    packer->unindexed = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack));
    g_array_set_clear_func(packer->unindexed, indexed_clear);
    packer->indexed_us = g_get_monotonic_time();
    packer->finisher = g_thread_new("packs", finisher_thread, packer);
    return packer;
}

void
kvss_packer_leave_lookup(KvssPacker *packer)
{
    packer->leaves_lookup = true;
}

unsigned
kvss_packer_indexes(const KvssPacker *packer)
{
    return packer->n_indexes;
}

/* An open pack that is this thread's until it gives it back. */
static KvssPack *
take_pack(KvssPacker *packer, bool is_tree, GError **error)
{
    GPtrArray *open = packer->open[is_tree];
    KvssPack *pack = NULL;
    bool ok;

    g_mutex_lock(&packer->lock);
    ok = copy_error(packer, error);
    if (ok && open->len > 0)
        pack = g_ptr_array_steal_index_fast(open, open->len - 1);
    g_mutex_unlock(&packer->lock);
    if (!ok || pack)
        return pack;
    return kvss_pack_new(packer->repository->backend, is_tree, error);
}

/* Takes the pack back: to be filled further, or to the finisher, who may make us wait. */
static void
give_pack(KvssPacker *packer, KvssPack *pack, uint64_t added)
{
    g_mutex_lock(&packer->lock);
    packer->bytes += added;
    if (kvss_pack_is_full(pack)) {
        while (g_queue_get_length(&packer->full) >= packer->queue_max && !packer->error)
            g_cond_wait(&packer->changed, &packer->lock);
        g_queue_push_tail(&packer->full, pack);
        g_cond_broadcast(&packer->changed);
    } else {
        g_ptr_array_add(packer->open[kvss_pack_is_tree(pack)], pack);
    }
    g_mutex_unlock(&packer->lock);
}

bool
kvss_packer_add(KvssPacker *packer, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                const KvssSealedBlob *blob, GError **error)
{
    g_autoptr(GError) local_error = NULL;
    g_autoptr(KvssPack) pack = take_pack(packer, is_tree, &local_error);

    if (pack && kvss_pack_append(pack, id, blob, &local_error)) {
        give_pack(packer, g_steal_pointer(&pack), blob->length);
        return true;
    }
    packer_fail(packer, g_error_copy(local_error));
    g_propagate_error(error, g_steal_pointer(&local_error));
    return false;
}

/* ---- ending ---- */

/* Hands all open packs to the finisher and waits until it rests. */
static bool
finish_all(KvssPacker *packer, GError **error)
{
    bool ok;

    g_mutex_lock(&packer->lock);
    for (int i = 0; i < 2; i++)
        while (packer->open[i]->len > 0)
            g_queue_push_tail(&packer->full, g_ptr_array_steal_index(packer->open[i], 0));
    g_cond_broadcast(&packer->changed);
    while (!g_queue_is_empty(&packer->full) || packer->is_finishing)
        g_cond_wait(&packer->changed, &packer->lock);
    ok = copy_error(packer, error);
    g_mutex_unlock(&packer->lock);
    return ok;
}

void
kvss_packer_adopt(KvssPacker *packer, KvssIndexedPack *indexed)
{
    kvss_index_add_pack(packer->repository->index, indexed->id,
                        (const KvssPackEntry *) (void *) indexed->entries->data,
                        indexed->entries->len);
    g_mutex_lock(&packer->lock); /* the finisher rests, and sees this when it wakes */
    packer->n_unindexed_blobs += indexed->entries->len;
    g_array_append_val(packer->unindexed, *indexed);
    g_mutex_unlock(&packer->lock);
    *indexed = (KvssIndexedPack) { 0 };
}

bool
kvss_packer_flush(KvssPacker *packer, GError **error)
{
    g_autoptr(GError) local_error = NULL;

    if (!finish_all(packer, error))
        return false;
    if (write_index(packer, &local_error))
        return true;
    packer_fail(packer, g_error_copy(local_error));
    g_propagate_error(error, g_steal_pointer(&local_error));
    return false;
}

uint64_t
kvss_packer_bytes(KvssPacker *packer)
{
    uint64_t bytes;

    g_mutex_lock(&packer->lock);
    bytes = packer->bytes;
    g_mutex_unlock(&packer->lock);
    return bytes;
}

static void
stop_finisher(KvssPacker *packer)
{
    g_mutex_lock(&packer->lock);
    packer->is_ending = true;
    g_cond_broadcast(&packer->changed);
    g_mutex_unlock(&packer->lock);
    g_thread_join(packer->finisher);
}

/*
 * Packs that were completed before a failure are sound, and get their index
 * even then: open packs are dropped first, which makes room on a full disk.
 */
bool
kvss_packer_free(KvssPacker *packer)
{
    g_autoptr(GError) error = NULL;
    bool is_complete;

    if (!packer)
        return true;
    (void) finish_all(packer, NULL);
    stop_finisher(packer);
    is_complete = write_index(packer, &error) && !packer->error;
    if (error)
        g_debug("packs of this run stay without an index: %s", error->message);
    for (int i = 0; i < 2; i++)
        g_ptr_array_unref(packer->open[i]);
    g_array_unref(packer->unindexed);
    g_clear_error(&packer->error);
    g_cond_clear(&packer->changed);
    g_mutex_clear(&packer->lock);
    g_free(packer);
    return is_complete;
}
