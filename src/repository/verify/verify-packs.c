/*
 * verify-packs.c - is every pack there and whole?
 *
 * Packs are checked one by one in a few threads. Structure asks for the size
 * that the index demands. Reading asks for all: the file's hash is its name,
 * its own header says what the index says, each blob's MAC and hash are right.
 */
#include "repository/file/pack.h"
#include "repository/format/lanes.h"
#include "repository/verify/verify.h"

#include <string.h>

/* A larger pack is nobody's; it is checked blob by blob when it is read. */
#define PACK_READ_MAX (1u << 30)

/* Each thread holds a pack of 16 MiB, or two while all together hold no more than eight; and 4 MiB of what they unpack to. */
#define THREADS_MAX 8
#define JOBS_AHEAD 8

/* Two packs that are hashed side by side; larger ones are hashed alone. */
#define PAIR 2
#define PAIR_LENGTH_MAX (36u << 20)

/* Blobs of it that are unpacked at once, unless one is larger; sixteen of a disk's smallest. */
#define BATCH_MAX (4u << 20)

/** One pack to be checked, as the index has it. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    KvssPackEntry *entries;
    size_t n;
    uint64_t size; /* bytes that the file must have */
} Job;

typedef struct {
    KvssVerify *verify;
    GHashTable *sizes;   /* id -> guint64 in KvssStoredFile */
    GArray *present;     /* KvssVerifyPack: needed and there; with a sample, those drawn */
    GHashTable *drawn;   /* (nullable) ids in @present; NULL: all are read */
    uint64_t done, total; /* under verify->lock, as all that follows: bytes with read_data, else packs */
    GQueue waiting;       /* Job: for the next thread that is free */
    bool is_ending;       /* no more will come */
    bool takes_pairs;     /* a thread takes two packs at once */
    GCond changed;
} Packs;

static void
job_free(Job *job)
{
    g_free(job->entries);
    g_free(job);
}

/* A finding about the pack as a whole: with it every needed blob in it is lost. */
static void
pack_is_lost(KvssVerify *verify, const Job *job, char *what)
{
    KvssFinding *finding = kvss_verify_find(verify, what);

    for (size_t i = 0; i < job->n; i++)
        kvss_verify_lose(verify, finding, job->entries[i].is_tree, job->entries[i].id);
}

/* ---- reading ---- */

/* Blob after blob without a gap, as the header demands it. */
static bool
entries_fill_pack(const Job *job)
{
    uint64_t at = 0;

    for (size_t i = 0; i < job->n; i++) {
        if (job->entries[i].offset != at)
            return false;
        at += job->entries[i].length;
    }
    return true;
}

static bool
entries_equal(const KvssPackEntry *a, const KvssPackEntry *b)
{
    return a->offset == b->offset && a->length == b->length && a->plain_length == b->plain_length
        && a->is_tree == b->is_tree && a->is_compressed == b->is_compressed
        && kvss_id_equal(a->id, b->id);
}

static bool
check_header(const Job *job, KvssCodec *codec, uint8_t *pack, GError **error)
{
    uint64_t length = kvss_pack_header_length(job->entries, job->n) - 4;
    uint8_t *sealed = pack + job->size - 4 - length;
    g_autoptr(GArray) entries = NULL;
    uint32_t le;

    memcpy(&le, pack + job->size - 4, sizeof le);
    if (GUINT32_FROM_LE(le) != length)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "its header has %u bytes where the index demands %" G_GUINT64_FORMAT,
                          GUINT32_FROM_LE(le), length);
    entries = kvss_pack_header_open(codec, sealed, length, error);
    if (!entries)
        return false;
    for (size_t i = 0; i < job->n; i++)
        if (i >= entries->len
            || !entries_equal(&g_array_index(entries, KvssPackEntry, i), &job->entries[i]))
            return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                              "its header and the index do not agree about blob %zu", i);
    return true;
}

/* As many blobs from @first on as are hashed together, and what they unpack to. */
static size_t
batch_length(const Job *job, size_t first, size_t *out_plain_length)
{
    size_t n = 0, length = 0;

    do
        length += job->entries[first + n++].plain_length;
    while (n < KVSS_LANES_MAX && first + n < job->n
           && length + job->entries[first + n].plain_length <= BATCH_MAX);
    *out_plain_length = length;
    return n;
}

/* Opens some blobs of the pack one by one and hashes them together. An error for each that is bad. */
static bool
check_batch(const KvssPackEntry *entries, size_t n, size_t plain_length, KvssCodec *codec,
            uint8_t *pack, GError *errors[KVSS_LANES_MAX])
{
    uint8_t *plain = kvss_codec_buffer(codec, plain_length + 1);
    uint8_t found[KVSS_LANES_MAX][KVSS_ID_LENGTH];
    KvssMessage messages[KVSS_LANES_MAX] = { { 0 } };
    bool all_right = true;

    for (size_t i = 0; i < n; plain += entries[i++].plain_length) {
        bool ok = kvss_codec_unpack_blob(codec, pack + entries[i].offset, entries[i].length,
                                         entries[i].is_compressed, plain,
                                         entries[i].plain_length, &errors[i]);

        messages[i] = (KvssMessage) { plain, ok ? entries[i].plain_length : 0, found[i] };
    }
    kvss_lanes_hash(messages, n);
    for (size_t i = 0; i < n; i++)
        if (errors[i] || !kvss_codec_check_id(found[i], entries[i].id, &errors[i]))
            all_right = false;
    return all_right;
}

/* One finding for all bad blobs of the pack, which names the first. */
static bool
check_blobs(KvssVerify *verify, const Job *job, KvssCodec *codec, uint8_t *pack,
            const char *name)
{
    KvssFinding *finding = NULL;
    size_t plain_length, n;

    for (size_t first = 0; first < job->n; first += n) {
        const KvssPackEntry *entry = &job->entries[first];
        GError *errors[KVSS_LANES_MAX] = { NULL };

        n = batch_length(job, first, &plain_length);
        if (check_batch(entry, n, plain_length, codec, pack, errors))
            continue;
        for (size_t i = 0; i < n; i++, entry++) {
            g_autoptr(GError) error = errors[i];
            char hex[KVSS_ID_HEX_LENGTH + 1];

            if (!error)
                continue;
            kvss_id_to_hex(entry->id, hex);
            if (!finding)
                finding = kvss_verify_find(
                    verify, g_strdup_printf("pack %.8s is damaged: blob %.8s at offset %u: %s",
                                            name, hex, entry->offset, error->message));
            kvss_verify_lose(verify, finding, entry->is_tree, entry->id);
        }
    }
    return finding == NULL;
}

/*
 * Blobs are checked first: what they say is what hurts. A pack whose blobs are
 * all right but whose header or name is not loses nothing today, and is a
 * finding all the same, since repairing an index needs it.
 */
static void
check_content(KvssVerify *verify, const Job *job, KvssCodec *codec, uint8_t *pack,
              const char *name, const uint8_t id[KVSS_ID_LENGTH])
{
    g_autoptr(GError) error = NULL;
    bool blobs_ok;

    blobs_ok = check_blobs(verify, job, codec, pack, name);
    if (!blobs_ok)
        return;
    if (!check_header(job, codec, pack, &error))
        (void) kvss_verify_find(verify, g_strdup_printf("pack %.8s is damaged: %s", name,
                                                        error->message));
    else if (!kvss_id_equal(id, job->id))
        (void) kvss_verify_find(
            verify, g_strdup_printf("pack %.8s is damaged: its content does not have the hash "
                                    "that names it", name));
}

/* One pack, or two whose hashes are made together. Before their blobs: those are opened in their place. */
static void
read_packs_of(KvssVerify *verify, Job *const jobs[], size_t n)
{
    KvssRepository *repository = verify->repository;
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    /* Room for the largest at once: one that grows is new each time, and what nobody touches costs nothing. */
    uint8_t *pack = kvss_codec_input(
        codec, MAX(PAIR_LENGTH_MAX, jobs[0]->size + (n > 1 ? jobs[1]->size : 0)));
    char names[PAIR][KVSS_ID_HEX_LENGTH + 1];
    uint8_t ids[PAIR][KVSS_ID_LENGTH];
    KvssMessage messages[PAIR] = { { 0 } };
    bool is_read[PAIR];

    for (size_t i = 0; i < n; pack += jobs[i++]->size) {
        g_autoptr(GError) error = NULL;

        kvss_id_to_hex(jobs[i]->id, names[i]);
        is_read[i] = kvss_backend_read(repository->backend, KVSS_FILE_DATA, names[i], 0, pack,
                                       jobs[i]->size, &error);
        if (!is_read[i])
            pack_is_lost(verify, jobs[i], g_strdup(error->message));
        messages[i] = (KvssMessage) { pack, is_read[i] ? jobs[i]->size : 0, ids[i] };
    }
    kvss_lanes_hash(messages, n);
    pack = kvss_codec_input(codec, 0);
    for (size_t i = 0; i < n; pack += jobs[i++]->size)
        if (is_read[i])
            check_content(verify, jobs[i], codec, pack, names[i], ids[i]);
}

/* The next job, and a second one where that is fine; returns how many. 0: none will come any more. */
static size_t
next_jobs(Packs *packs, Job *jobs[PAIR])
{
    KvssVerify *verify = packs->verify;
    size_t n = 0;

    g_mutex_lock(&verify->lock);
    while (g_queue_is_empty(&packs->waiting) && !packs->is_ending)
        g_cond_wait(&packs->changed, &verify->lock);
    if ((jobs[n] = g_queue_pop_head(&packs->waiting)) != NULL)
        n++;
    if (n > 0 && packs->takes_pairs && !g_queue_is_empty(&packs->waiting)
        && jobs[0]->size + ((Job *) g_queue_peek_head(&packs->waiting))->size <= PAIR_LENGTH_MAX)
        jobs[n++] = g_queue_pop_head(&packs->waiting);
    g_cond_broadcast(&packs->changed);
    g_mutex_unlock(&verify->lock);
    return n;
}

static void
job_end(Packs *packs, Job *job)
{
    KvssVerify *verify = packs->verify;

    g_mutex_lock(&verify->lock);
    verify->result.bytes_read += job->size;
    packs->done += job->size;
    if (verify->options->progress)
        verify->options->progress(packs->done, packs->total, verify->options->data);
    g_mutex_unlock(&verify->lock);
    job_free(job);
}

static gpointer
read_packs(gpointer data)
{
    Packs *packs = data;
    Job *jobs[PAIR];
    size_t n;

    while ((n = next_jobs(packs, jobs)) > 0) {
        if (!g_cancellable_is_cancelled(packs->verify->options->cancellable))
            read_packs_of(packs->verify, jobs, n);
        for (size_t i = 0; i < n; i++)
            job_end(packs, jobs[i]);
    }
    return NULL;
}

/* ---- structure ---- */

/* Is the file there, with the size that the index demands? A finding otherwise. */
static bool
check_file(Packs *packs, const Job *job)
{
    const KvssStoredFile *file = g_hash_table_lookup(packs->sizes, job->id);
    char name[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(job->id, name);
    if (!file) {
        pack_is_lost(packs->verify, job, g_strdup_printf("pack %.8s is missing", name));
        return false;
    }
    if (!entries_fill_pack(job) || job->size > PACK_READ_MAX) {
        pack_is_lost(packs->verify, job,
                     g_strdup_printf("what the index says about pack %.8s makes no sense", name));
        return false;
    }
    if (file->size != job->size) {
        pack_is_lost(packs->verify, job,
                     g_strdup_printf("pack %.8s has %" G_GUINT64_FORMAT " bytes where the index "
                                     "demands %" G_GUINT64_FORMAT, name, file->size, job->size));
        return false;
    }
    return true;
}

static Job *
job_new(const uint8_t *pack, const KvssPackEntry *entries, size_t n)
{
    Job *job = g_new0(Job, 1);
    const KvssPackEntry *last = &entries[n - 1];

    memcpy(job->id, pack, KVSS_ID_LENGTH);
    job->entries = g_memdup2(entries, n * sizeof *entries);
    job->n = n;
    job->size = (uint64_t) last->offset + last->length + kvss_pack_header_length(entries, n);
    return job;
}

static bool
is_needed(const KvssVerify *verify, const uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (verify->needed[numbers[i] / 8] & (1u << numbers[i] % 8))
            return true;
    return false;
}

/* Hands the pack to the threads, a few ahead at most: jobs hold entries. */
static void
push_job(Packs *packs, Job *job)
{
    g_mutex_lock(&packs->verify->lock);
    while (g_queue_get_length(&packs->waiting) >= JOBS_AHEAD)
        g_cond_wait(&packs->changed, &packs->verify->lock);
    g_queue_push_tail(&packs->waiting, job);
    g_cond_broadcast(&packs->changed);
    g_mutex_unlock(&packs->verify->lock);
}

static bool
is_read(const Packs *packs, const uint8_t *pack)
{
    return packs->verify->options->read_data
        && (!packs->drawn || g_hash_table_contains(packs->drawn, pack));
}

static bool
visit_pack(const uint8_t pack[KVSS_ID_LENGTH], const KvssPackEntry *entries,
           const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    Packs *packs = data;
    KvssVerify *verify = packs->verify;
    Job *job;

    if (!kvss_check_cancelled(verify->options->cancellable, error))
        return false;
    if (!is_needed(verify, numbers, n))
        return true;

    job = job_new(pack, entries, n);
    verify->result.packs++;
    verify->result.blobs += n;
    if (check_file(packs, job) && is_read(packs, pack)) {
        push_job(packs, job);
        return true;
    }
    if (!verify->options->read_data && verify->options->progress)
        verify->options->progress(++packs->done, packs->total, verify->options->data);
    job_free(job);
    return true;
}

/* What there is to look at; one that is missing is found to be so later. */
static bool
note_pack(const uint8_t pack[KVSS_ID_LENGTH], const KvssPackEntry *entries,
          const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    Packs *packs = data;
    const KvssStoredFile *file = g_hash_table_lookup(packs->sizes, pack);
    KvssVerifyPack present = { .size = file ? file->size : 0 };

    if (!is_needed(packs->verify, numbers, n))
        return true;
    packs->total++;
    if (present.size == 0)
        return true;
    packs->verify->result.bytes_stored += present.size;
    memcpy(present.id, pack, KVSS_ID_LENGTH);
    g_array_append_val(packs->present, present);
    return true;
}

/* What the progress goes up to: packs, or the bytes that will be read. */
static void
prepare(Packs *packs)
{
    const KvssVerifyOptions *options = packs->verify->options;

    if (!options->read_data)
        return;
    if (kvss_verify_has_sample(options)) {
        kvss_verify_draw_sample(packs->present, options);
        packs->drawn = g_hash_table_new(kvss_id_hash, kvss_id_same);
    }
    packs->total = 0;
    for (guint i = 0; i < packs->present->len; i++) {
        KvssVerifyPack *pack = &g_array_index(packs->present, KvssVerifyPack, i);

        packs->total += pack->size;
        if (packs->drawn)
            g_hash_table_add(packs->drawn, pack->id);
    }
}

static GHashTable *
sizes_by_id(GArray *files)
{
    GHashTable *sizes = g_hash_table_new(kvss_id_hash, kvss_id_same);

    for (guint i = 0; i < files->len; i++) {
        KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);

        g_hash_table_insert(sizes, file->id, file);
    }
    return sizes;
}

static void
end_jobs(Packs *packs)
{
    g_mutex_lock(&packs->verify->lock);
    packs->is_ending = true;
    g_cond_broadcast(&packs->changed);
    g_mutex_unlock(&packs->verify->lock);
}

/* All jobs are done when it returns. */
static bool
check_packs(Packs *packs, GError **error)
{
    KvssVerify *verify = packs->verify;
    guint n = verify->options->read_data ? MIN(g_get_num_processors(), THREADS_MAX) : 0;
    GThread *threads[THREADS_MAX];
    bool ok;

    g_cond_init(&packs->changed);
    g_queue_init(&packs->waiting);
    packs->takes_pairs = PAIR * n <= THREADS_MAX;
    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_new("verify", read_packs, packs);
    ok = kvss_index_visit_packs(verify->repository->index, visit_pack, packs, error);
    end_jobs(packs);
    for (guint i = 0; i < n; i++)
        g_thread_join(threads[i]);
    g_cond_clear(&packs->changed);
    return ok && kvss_check_cancelled(verify->options->cancellable, error);
}

bool
kvss_verify_packs(KvssVerify *verify, GError **error)
{
    KvssIndex *index = verify->repository->index;
    g_autoptr(GArray) files
        = kvss_backend_list(verify->repository->backend, KVSS_FILE_DATA, error);
    g_autoptr(GHashTable) sizes = files ? sizes_by_id(files) : NULL;
    g_autoptr(GArray) present = g_array_new(FALSE, FALSE, sizeof(KvssVerifyPack));
    Packs packs = { .verify = verify, .sizes = sizes, .present = present };
    bool ok;

    if (!files || !kvss_index_visit_packs(index, note_pack, &packs, error))
        return false;
    prepare(&packs);
    ok = check_packs(&packs, error);
    g_clear_pointer(&packs.drawn, g_hash_table_unref);
    return ok;
}
