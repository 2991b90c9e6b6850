/*
 * prune-repack.c - what is needed of packs that go, into new packs
 *
 * A blob is copied as it is stored, sealed and all, but not before it was opened
 * and its hash is right: a damaged one must not get a new pack around it. A few
 * threads do a pack each; the packer writes index files as it goes.
 */
#include "repository/prune/prune.h"
#include "repository/upload/packer.h"

#include <string.h>

/* Needed blobs with no more than this between them are read in one go: a gap is cheaper than a request. */
#define GAP_MAX (128u << 10)
#define READ_MAX (32u << 20)

/** A blob to be copied. */
typedef struct {
    uint32_t pack, offset, at; /* @at: its number in the table */
} Place;

typedef struct {
    KvssPrune *prune;
    KvssPacker *packer;
    Place *places;
    uint64_t done, total;  /* bytes; done is under prune->lock */
    unsigned n_waiting;    /* under prune->lock: jobs handed over, not done */
    GCond drained;
    GError *error;         /* under prune->lock: the first one */
} Repack;

/** One pack: some neighbouring places. */
typedef struct {
    size_t first, n;
} Job;

static int
compare_places(const void *a, const void *b)
{
    const Place *one = a, *two = b;

    if (one->pack != two->pack)
        return one->pack < two->pack ? -1 : 1;
    return one->offset < two->offset ? -1 : one->offset > two->offset;
}

static bool
is_moved(const KvssPrune *prune, size_t number)
{
    return kvss_prune_is_needed(prune, number)
        && prune->packs[kvss_prune_pack_of(prune, number)].fate == KVSS_PACK_REPACK;
}

static Place *
collect_places(const KvssPrune *prune, size_t *out_n)
{
    size_t n = 0, at = 0;
    Place *places;

    for (size_t i = 0; i < prune->table->n_entries; i++) {
        n += is_moved(prune, i);
        kvss_prune_pass(prune, i);
    }
    places = g_new(Place, n + 1);
    for (size_t i = 0; i < prune->table->n_entries; i++) {
        if (is_moved(prune, i))
            places[at++] = (Place) { kvss_prune_pack_of(prune, i),
                                     prune->table->entries[i].offset, (uint32_t) i };
        kvss_prune_pass(prune, i);
    }
    qsort(places, n, sizeof *places, compare_places);
    *out_n = n;
    return places;
}

/* ---- one pack ---- */

static bool
copy_blob(Repack *repack, KvssCodec *codec, const KvssTableEntry *entry, const uint8_t *sealed,
          GError **error)
{
    KvssPackEntry blob = kvss_index_table_pack_entry(entry);
    KvssSealedBlob copy = { sealed, blob.length, blob.plain_length, blob.is_compressed };
    g_autofree uint8_t *opened = g_memdup2(sealed, blob.length);
    uint8_t *plain = kvss_codec_buffer(codec, blob.plain_length + 1u);

    return kvss_codec_open_blob(codec, opened, blob.length, blob.is_compressed, plain,
                                blob.plain_length, blob.id, error)
        && kvss_packer_add(repack->packer, blob.is_tree, blob.id, &copy, error);
}

static const KvssTableEntry *
entry_of(const Repack *repack, size_t place)
{
    return &repack->prune->table->entries[repack->places[place].at];
}

/* How many places from @first on, before @end, are read in one go. */
static size_t
run_length(const Repack *repack, size_t first, size_t end)
{
    uint64_t start = entry_of(repack, first)->offset;
    size_t n = 1;

    for (; first + n < end; n++) {
        const KvssTableEntry *last = entry_of(repack, first + n - 1);
        const KvssTableEntry *next = entry_of(repack, first + n);

        if ((uint64_t) next->offset > (uint64_t) last->offset + last->length + GAP_MAX
            || (uint64_t) next->offset + next->length - start > READ_MAX)
            break;
    }
    return n;
}

static bool
copy_run(Repack *repack, KvssCodec *codec, const char *pack, size_t first, size_t n,
         GError **error)
{
    const KvssTableEntry *last = entry_of(repack, first + n - 1);
    uint32_t start = entry_of(repack, first)->offset;
    size_t length = (size_t) last->offset + last->length - start;
    g_autofree uint8_t *buffer = g_malloc(length);

    if (!kvss_backend_read(repack->prune->repository->backend, KVSS_FILE_DATA, pack, start,
                           buffer, length, error))
        return false;
    for (size_t i = first; i < first + n; i++) {
        const KvssTableEntry *entry = entry_of(repack, i);

        if (copy_blob(repack, codec, entry, buffer + (entry->offset - start), error))
            continue;
        if (error && *error && (*error)->domain == KVSS_REPOSITORY_ERROR
            && (*error)->code == KVSS_REPOSITORY_ERROR_CORRUPT)
            g_prefix_error(error, "pack %.8s is damaged at offset %u, nothing was removed, "
                           "'kvss verify --read-data' says whom it hurts: ", pack, entry->offset);
        return false;
    }
    return true;
}

static bool
copy_pack(Repack *repack, const Job *job, GError **error)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(repack->prune->repository->codecs);
    size_t end = job->first + job->n;
    char pack[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(kvss_prune_pack_id(repack->prune, repack->places[job->first].pack), pack);
    for (size_t first = job->first; first < end;) {
        size_t n = run_length(repack, first, end);

        if (!kvss_check_cancelled(repack->prune->options->cancellable, error)
            || !copy_run(repack, codec, pack, first, n, error))
            return false;
        first += n;
    }
    return true;
}

/* ---- all of them ---- */

static bool
has_failed(Repack *repack)
{
    bool failed;

    g_mutex_lock(&repack->prune->lock);
    failed = repack->error != NULL;
    g_mutex_unlock(&repack->prune->lock);
    return failed;
}

/* In a thread of the pool. */
static void
run_job(gpointer data, gpointer user_data)
{
    Repack *repack = user_data;
    KvssPrune *prune = repack->prune;
    g_autofree Job *job = data;
    g_autoptr(GError) error = NULL;
    bool ok = !has_failed(repack) && copy_pack(repack, job, &error);

    if (ok)
        kvss_prune_step(prune);
    g_mutex_lock(&prune->lock);
    if (error && !repack->error)
        repack->error = g_steal_pointer(&error);
    repack->done += prune->packs[repack->places[job->first].pack].kept;
    kvss_prune_tell(prune, "writing packs anew", repack->done, repack->total);
    repack->n_waiting--;
    g_cond_broadcast(&repack->drained);
    g_mutex_unlock(&prune->lock);
}

static void
push_job(Repack *repack, GThreadPool *pool, size_t first, size_t n)
{
    Job *job = g_new(Job, 1);

    *job = (Job) { first, n };
    g_mutex_lock(&repack->prune->lock);
    while (repack->n_waiting >= 4 * g_get_num_processors())
        g_cond_wait(&repack->drained, &repack->prune->lock);
    repack->n_waiting++;
    g_mutex_unlock(&repack->prune->lock);
    g_thread_pool_push(pool, job, NULL);
}

static bool
copy_all(Repack *repack, size_t n_places, GError **error)
{
    GThreadPool *pool
        = g_thread_pool_new(run_job, repack, (gint) g_get_num_processors(), FALSE, NULL);

    for (size_t first = 0, n; first < n_places; first += n) {
        for (n = 1; first + n < n_places; n++)
            if (repack->places[first + n].pack != repack->places[first].pack)
                break;
        push_job(repack, pool, first, n);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    if (!repack->error)
        return true;
    g_propagate_error(error, g_steal_pointer(&repack->error));
    return false;
}

static bool
repack_places(Repack *repack, size_t n_places, GError **error)
{
    KvssPruneResult *result = &repack->prune->result;
    bool ok;

    g_cond_init(&repack->drained);
    repack->packer = kvss_packer_new(repack->prune->repository);
    kvss_packer_leave_lookup(repack->packer);
    ok = copy_all(repack, n_places, error) && kvss_packer_flush(repack->packer, error);
    if (ok) {
        uint64_t written = kvss_packer_bytes(repack->packer);

        /* The plan did not know of the headers of new packs. */
        result->bytes_freed -= MIN(result->bytes_freed, written - result->bytes_repacked);
        result->bytes_repacked = written;
        result->indexes_written += kvss_packer_indexes(repack->packer);
    }
    (void) kvss_packer_free(repack->packer);
    g_cond_clear(&repack->drained);
    return ok;
}

bool
kvss_prune_repack(KvssPrune *prune, GError **error)
{
    Repack repack = { .prune = prune, .total = prune->result.bytes_repacked };
    g_autofree Place *places = NULL;
    size_t n;

    if (prune->result.packs_repacked == 0)
        return true;
    places = repack.places = collect_places(prune, &n);
    return repack_places(&repack, n, error);
}
