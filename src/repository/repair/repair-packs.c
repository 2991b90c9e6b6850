/*
 * repair-packs.c - which packs are whole, and what of the others is?
 *
 * A pack says itself what is in it: its header is sealed, so it cannot lie, and
 * its name is the hash of all of it. The index is asked only where the header
 * cannot be read. Packs of trees are always read: without them nobody knows what
 * a backup needs.
 */
#include "repository/file/pack.h"
#include "repository/repair/repair.h"

#include <string.h>

/* A larger pack is nobody's; it is read blob by blob. */
#define WHOLE_MAX (256u << 20)

/** One pack to be looked at. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint64_t size;          /* of its file */
    KvssPackEntry *entries; /* (nullable) as the index has them */
    size_t n;
    bool read_all;          /* every byte; else the header, which is enough to index it */
    bool is_aside;          /* an earlier repair set it aside */
} Job;

typedef struct {
    KvssRepair *repair;
    GThreadPool *pool;
    GHashTable *indexed; /* ids of packs that are there and that the index knows */
    unsigned n_waiting;  /* under repair->lock */
    GCond drained;
} Look;

static void
job_free(Job *job)
{
    g_free(job->entries);
    g_free(job);
}

KvssRepairPack *
kvss_repair_condemn(KvssRepair *repair, const uint8_t id[KVSS_ID_LENGTH], char *problem)
{
    KvssRepairPack *pack;

    g_mutex_lock(&repair->lock);
    pack = g_hash_table_lookup(repair->bad, id);
    if (!pack) {
        pack = g_new0(KvssRepairPack, 1);
        memcpy(pack->id, id, KVSS_ID_LENGTH);
        pack->problem = g_steal_pointer(&problem);
        pack->is_there = g_hash_table_contains(repair->sizes, id);
        g_hash_table_insert(repair->bad, pack->id, pack);
    }
    g_mutex_unlock(&repair->lock);
    g_free(problem);
    return pack;
}

bool
kvss_repair_locate(KvssRepair *repair, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                   KvssBlobLocation *out_location)
{
    KvssIndex *index = repair->repository->index;
    KvssBlobKey key = { .is_tree = is_tree };
    const KvssBlobLocation *saved;

    for (unsigned copy = 0; kvss_index_find(index, is_tree, id, copy, out_location); copy++)
        if (!g_hash_table_contains(repair->bad, out_location->pack))
            return true;
    if (kvss_index_find_new(index, is_tree, id, out_location))
        return true;
    memcpy(key.id, id, sizeof key.id);
    saved = g_hash_table_lookup(repair->salvage, &key);
    if (saved)
        *out_location = *saved;
    return saved != NULL;
}

/* ---- one pack ---- */

/** What there is of a pack: all of it in memory, or read piece by piece. */
typedef struct {
    KvssRepair *repair;
    const Job *job;
    KvssCodec *codec;
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint8_t *bytes;      /* (nullable) */
    GError *trouble;     /* (nullable) the first */
} Content;

/* @length bytes at @offset, or NULL. Free with g_free. */
static uint8_t *
take_piece(Content *content, uint64_t offset, size_t length, GError **error)
{
    KvssBackend *backend = content->repair->repository->backend;
    g_autofree uint8_t *piece = NULL;

    if (offset > content->job->size || length > content->job->size - offset) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                   "the file ends at byte %" G_GUINT64_FORMAT, content->job->size);
        return NULL;
    }
    piece = g_malloc(length + 1);
    if (content->bytes)
        memcpy(piece, content->bytes + offset, length);
    else if (!kvss_backend_read(backend, KVSS_FILE_DATA, content->name, offset, piece, length,
                                error))
        return NULL;
    return g_steal_pointer(&piece);
}

/* The entries that the pack's own header lists, filling the file without a gap. */
static GArray *
read_header(Content *content, GError **error)
{
    const uint64_t size = content->job->size;
    g_autofree uint8_t *tail = size >= 4 ? take_piece(content, size - 4, 4, error) : NULL;
    g_autofree uint8_t *sealed = NULL;
    g_autoptr(GArray) entries = NULL;
    const KvssPackEntry *last;
    uint32_t length;

    if (size < 4)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                   "its file has %" G_GUINT64_FORMAT " bytes", size);
    if (!tail)
        return NULL;
    memcpy(&length, tail, sizeof length);
    length = GUINT32_FROM_LE(length);
    if (length < KVSS_CRYPTO_OVERHEAD || length > KVSS_PACK_HEADER_MAX || length + 4 > size) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                   "its header cannot have %u bytes", length);
        return NULL;
    }
    sealed = take_piece(content, size - 4 - length, length, error);
    entries = sealed ? kvss_pack_header_open(content->codec, sealed, length, error) : NULL;
    if (!entries)
        return NULL;
    last = entries->len ? &g_array_index(entries, KvssPackEntry, entries->len - 1) : NULL;
    if ((last ? (uint64_t) last->offset + last->length : 0) == size - 4 - length)
        return g_steal_pointer(&entries);
    kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
               "its header does not fit its size");
    return NULL;
}

static bool
blob_is_sound(Content *content, const KvssPackEntry *entry, GError **error)
{
    uint32_t max = entry->is_tree ? KVSS_TREE_BLOB_MAX : KVSS_DATA_BLOB_MAX;
    g_autofree uint8_t *sealed = NULL;
    uint8_t *plain;

    if (entry->plain_length > max)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "its length is out of range");
    sealed = take_piece(content, entry->offset, entry->length, error);
    if (!sealed)
        return false;
    plain = kvss_codec_buffer(content->codec, entry->plain_length + 1u);
    return kvss_codec_open_blob(content->codec, sealed, entry->length, entry->is_compressed, plain,
                                entry->plain_length, entry->id, error);
}

static void
note_trouble(Content *content, GError *trouble)
{
    if (content->trouble)
        g_clear_error(&trouble);
    else
        content->trouble = trouble;
}

/* Which of @entries are whole: a flag each. Returns: how many. */
static unsigned
check_blobs(Content *content, const KvssPackEntry *entries, size_t n, bool *sound)
{
    unsigned n_sound = 0;

    for (size_t i = 0; i < n; i++) {
        GError *error = NULL;

        sound[i] = blob_is_sound(content, &entries[i], &error);
        n_sound += sound[i];
        if (!sound[i]) {
            char hex[KVSS_ID_HEX_LENGTH + 1];

            kvss_id_to_hex(entries[i].id, hex);
            g_prefix_error(&error, "blob %.8s at offset %u: ", hex, entries[i].offset);
            note_trouble(content, error);
        }
    }
    return n_sound;
}

/* The bad pack's whole blobs are remembered, wherever a better copy may be. */
static void
remember_sound(KvssRepair *repair, const Job *job, const KvssPackEntry *entries, size_t n,
               const bool *sound)
{
    g_mutex_lock(&repair->lock);
    for (size_t i = 0; i < n; i++) {
        KvssBlobKey key = { .is_tree = entries[i].is_tree };
        KvssBlobLocation location = {
            .offset = entries[i].offset,
            .length = entries[i].length,
            .plain_length = entries[i].plain_length,
            .is_compressed = entries[i].is_compressed,
        };

        if (!sound[i])
            continue;
        memcpy(key.id, entries[i].id, sizeof key.id);
        memcpy(location.pack, job->id, sizeof location.pack);
        if (!g_hash_table_contains(repair->salvage, &key))
            g_hash_table_insert(repair->salvage, g_memdup2(&key, sizeof key),
                                g_memdup2(&location, sizeof location));
    }
    g_mutex_unlock(&repair->lock);
}

static bool
same_entries(const GArray *header, const Job *job)
{
    if (!job->entries)
        return true;
    if (header->len != job->n)
        return false;
    for (size_t i = 0; i < job->n; i++) {
        const KvssPackEntry *a = &g_array_index(header, KvssPackEntry, i), *b = &job->entries[i];

        if (a->offset != b->offset || a->length != b->length || a->is_tree != b->is_tree
            || a->is_compressed != b->is_compressed || a->plain_length != b->plain_length
            || !kvss_id_equal(a->id, b->id))
            return false;
    }
    return true;
}

/* NULL: its name is the hash of what was read. */
static char *
name_problem(Content *content)
{
    uint8_t id[KVSS_ID_LENGTH];

    if (!content->bytes)
        return NULL;
    kvss_crypto_hash(kvss_codec_crypto(content->codec), content->bytes, content->job->size, id);
    return kvss_id_equal(id, content->job->id)
        ? NULL
        : g_strdup("its content does not have the hash that names it");
}

static void
add_unindexed(KvssRepair *repair, const Job *job, GArray *entries)
{
    KvssIndexedPack pack = { .entries = entries };

    memcpy(pack.id, job->id, sizeof pack.id);
    g_mutex_lock(&repair->lock);
    g_array_append_val(repair->unindexed, pack);
    g_mutex_unlock(&repair->lock);
    kvss_index_add_pack(repair->repository->index, job->id,
                        (const KvssPackEntry *) (void *) entries->data, entries->len);
}

/* The pack's blobs one by one: by its own header, or else by what the index says. */
static void
examine(Content *content, GArray *header)
{
    KvssRepair *repair = content->repair;
    const Job *job = content->job;
    const KvssPackEntry *entries
        = header ? (const KvssPackEntry *) (void *) header->data : job->entries;
    size_t n = header ? header->len : job->n;
    g_autofree bool *sound = g_new0(bool, n + 1);
    g_autofree char *misnamed = name_problem(content);
    unsigned n_sound = check_blobs(content, entries, n, sound);
    KvssRepairPack *pack;

    if (header && n_sound == n && !misnamed && !content->trouble && same_entries(header, job)) {
        if (!job->entries)
            add_unindexed(repair, job, g_array_ref(header));
        return;
    }
    pack = kvss_repair_condemn(
        repair, job->id,
        g_strdup(content->trouble ? content->trouble->message
                     : misnamed   ? misnamed
                                  : "its header and the index do not agree"));
    pack->was_aside = job->is_aside;
    pack->n_sound = n_sound;
    pack->n_lost = (unsigned) n - n_sound;
    remember_sound(repair, job, entries, n, sound);
}

/* A file that cannot be read in one go is read piece by piece: some pieces may be good. */
static void
read_whole(Content *content)
{
    const Job *job = content->job;
    GError *error = NULL;

    if (job->size > WHOLE_MAX)
        return;
    content->bytes = g_malloc(job->size + 1);
    if (kvss_backend_read(content->repair->repository->backend, KVSS_FILE_DATA, content->name, 0,
                          content->bytes, job->size, &error))
        return;
    g_clear_pointer(&content->bytes, g_free);
    note_trouble(content, error);
}

static bool
has_tree(const KvssPackEntry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (entries[i].is_tree)
            return true;
    return false;
}

/* Trees are read in any case: the walk must know which of them it can count on. */
static void
look_at(KvssRepair *repair, const Job *job)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(repair->repository->codecs);
    Content content = { .repair = repair, .job = job, .codec = codec };
    g_autoptr(GArray) header = NULL;
    g_autoptr(GError) error = NULL;

    kvss_id_to_hex(job->id, content.name);
    if (job->read_all)
        read_whole(&content);
    header = read_header(&content, &error);
    if (header && !job->read_all && !has_tree((const KvssPackEntry *) (void *) header->data,
                                              header->len)) {
        add_unindexed(repair, job, g_steal_pointer(&header));
        return;
    }
    if (header && !job->read_all)
        read_whole(&content);
    if (!header)
        note_trouble(&content, g_steal_pointer(&error));
    examine(&content, header);
    g_free(content.bytes);
    g_clear_error(&content.trouble);
}

/* ---- all packs ---- */

/* In a thread of the pool. */
static void
run_job(gpointer data, gpointer user_data)
{
    Look *look = user_data;
    KvssRepair *repair = look->repair;
    Job *job = data;

    if (!g_cancellable_is_cancelled(repair->options->cancellable))
        look_at(repair, job);
    g_mutex_lock(&repair->lock);
    repair->done += job->size;
    if (repair->options->progress)
        repair->options->progress(repair->done, repair->total, repair->options->data);
    look->n_waiting--;
    g_cond_broadcast(&look->drained);
    g_mutex_unlock(&repair->lock);
    job_free(job);
}

/* Hands the pack to the threads, a few ahead at most. */
static void
push_job(Look *look, const uint8_t *id, uint64_t size, const KvssPackEntry *entries, size_t n,
         bool read_all, bool is_aside)
{
    Job *job = g_new0(Job, 1);

    memcpy(job->id, id, sizeof job->id);
    job->size = size;
    job->entries = entries ? g_memdup2(entries, n * sizeof *entries) : NULL;
    job->n = n;
    job->read_all = read_all;
    job->is_aside = is_aside;
    g_mutex_lock(&look->repair->lock);
    look->repair->total = MAX(look->repair->total, look->repair->done + size);
    while (look->n_waiting >= 2 * g_get_num_processors())
        g_cond_wait(&look->drained, &look->repair->lock);
    look->n_waiting++;
    g_mutex_unlock(&look->repair->lock);
    g_thread_pool_push(look->pool, job, NULL);
}

/* Blob after blob without a gap, and the header, and no more. */
static bool
size_is_right(const KvssPackEntry *entries, size_t n, uint64_t size)
{
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (entries[i].offset != at)
            return false;
        at += entries[i].length;
    }
    return at + kvss_pack_header_length(entries, n) == size;
}

static bool
visit_indexed(const uint8_t id[KVSS_ID_LENGTH], const KvssPackEntry *entries,
              const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    Look *look = data;
    KvssRepair *repair = look->repair;
    KvssStoredFile *file = g_hash_table_lookup(repair->sizes, id);

    if (!kvss_check_cancelled(repair->options->cancellable, error))
        return false;
    repair->result.packs++;
    if (!file) {
        kvss_repair_condemn(repair, id, g_strdup("its file is missing"))->n_lost = (unsigned) n;
        return true;
    }
    if (repair->options->read_data || has_tree(entries, n)
        || !size_is_right(entries, n, file->size))
        push_job(look, id, file->size, entries, n, true, false);
    g_hash_table_add(look->indexed, file->id);
    return true;
}

/*
 * What no index file names: a run that was killed, an index file that is lost, a
 * pack set aside before. The last are not named again, unless all is read.
 */
static bool
visit_others(Look *look, GError **error)
{
    KvssRepair *repair = look->repair;
    const KvssDamageNote *note = repair->old_note;

    for (guint i = 0; i < repair->files->len; i++) {
        const KvssStoredFile *file = &g_array_index(repair->files, KvssStoredFile, i);
        bool is_aside = false;

        if (g_hash_table_contains(look->indexed, file->id))
            continue;
        if (!kvss_check_cancelled(repair->options->cancellable, error))
            return false;
        repair->result.packs++;
        for (guint at = 0; at < note->packs->len && !is_aside; at += KVSS_ID_LENGTH)
            is_aside = kvss_id_equal(note->packs->data + at, file->id);
        if (is_aside && !repair->options->read_data)
            kvss_repair_condemn(repair, file->id, g_strdup("it was set aside before"))->was_aside
                = true;
        else
            push_job(look, file->id, file->size, NULL, 0, repair->options->read_data, is_aside);
    }
    return true;
}

static bool
count_bytes(const uint8_t id[KVSS_ID_LENGTH], const KvssPackEntry *entries,
            const uint32_t *numbers, size_t n, gpointer data, GError **error)
{
    KvssRepair *repair = data;
    const KvssStoredFile *file = g_hash_table_lookup(repair->sizes, id);

    if (file && (repair->options->read_data || has_tree(entries, n)))
        repair->total += file->size;
    return true;
}

/* Of what is whole in bad packs, only what is nowhere else needs to be saved. */
static void
drop_copies(KvssRepair *repair)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, repair->salvage);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const KvssBlobKey *blob = key;
        const KvssBlobLocation *saved = value;
        KvssBlobLocation location;

        if (kvss_repair_locate(repair, blob->is_tree, blob->id, &location)
            && !kvss_id_equal(location.pack, saved->pack))
            g_hash_table_iter_remove(&iter);
    }
}

bool
kvss_repair_look_at_packs(KvssRepair *repair, GError **error)
{
    KvssIndex *index = repair->repository->index;
    Look look = { .repair = repair };
    bool ok;

    if (!kvss_index_visit_packs(index, count_bytes, repair, error))
        return false;
    g_cond_init(&look.drained);
    look.indexed = g_hash_table_new(kvss_id_hash, kvss_id_same);
    look.pool = g_thread_pool_new(run_job, &look, (gint) g_get_num_processors(), FALSE, NULL);
    ok = kvss_index_visit_packs(index, visit_indexed, &look, error)
        && visit_others(&look, error);
    g_thread_pool_free(look.pool, FALSE, TRUE);
    g_cond_clear(&look.drained);
    g_hash_table_unref(look.indexed);
    if (ok)
        drop_copies(repair);
    return ok && kvss_check_cancelled(repair->options->cancellable, error);
}
