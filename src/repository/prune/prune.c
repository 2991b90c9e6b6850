/*
 * prune.c - frees what no snapshot needs
 *
 * We are alone in the repository: the exclusive lock. So a pack that no index
 * file names is nobody's, and is not one whose index file is about to come.
 *
 *   1  unknown packs removed      nobody reads what no index file names
 *   2  new packs, synced          unknown to the index so far: as if 1 had not been
 *   3  their index files, synced  blobs that have two copies; either will do
 *   4  new index files, synced    packs that stay are named twice; nothing is missing
 *   5  old index files removed    each is durable before the next. What goes is named by
 *                                 fewer and fewer, what stays by 3 and 4, or by an index
 *                                 file that is not replaced
 *   6  old packs removed          no index file names them
 *
 * A crash between any two leaves every snapshot whole: until 5 nothing that an
 * index file names has changed, and from 5 on the new ones name all that is
 * needed. What it leaves besides is rubbish that the next prune finds: unknown
 * packs (2, 6), blobs twice (3, 5), packs named twice (4).
 *
 * The lock is looked at before each index file and again and again while files
 * are removed: a host that slept may have lost it, and others removed what we count on.
 */
#include "base/test-point.h"
#include "repository/prune/prune.h"

#include <string.h>

/* Removals under way at once: far away each is a round trip. */
#define REMOVERS 4

/* The lock is looked at that often: we count it as lost five minutes before others may. */
#define LOCK_CHECK_US G_USEC_PER_SEC

void
kvss_prune_step(KvssPrune *prune)
{
    g_autofree char *point = NULL;

    g_mutex_lock(&prune->lock);
    point = g_strdup_printf("prune-%u", prune->n_steps++);
    g_mutex_unlock(&prune->lock);
    kvss_test_point(point);
}

void
kvss_prune_tell(KvssPrune *prune, const char *step, uint64_t done, uint64_t total)
{
    if (prune->options->progress)
        prune->options->progress(step, done, total, prune->options->data);
}

/* ---- removing ---- */

/** Files of one type that go. */
typedef struct {
    KvssPrune *prune;
    KvssFileType type;
    const char *step;
    gint64 checked_us;      /* under prune->lock: when the lock was last looked at, monotonic; 0: never */
    GError *error;          /* under prune->lock: the first one */
} Removal;

static bool
check_lock(Removal *removal, GError **error)
{
    gint64 now_us = g_get_monotonic_time();
    bool is_due;

    g_mutex_lock(&removal->prune->lock);
    is_due = removal->checked_us == 0 || now_us - removal->checked_us > LOCK_CHECK_US;
    if (is_due)
        removal->checked_us = now_us;
    g_mutex_unlock(&removal->prune->lock);
    return !is_due || kvss_lock_check(removal->prune->repository->lock, error);
}

static bool
remove_file(Removal *removal, const uint8_t *id, GError **error)
{
    KvssRepository *repository = removal->prune->repository;
    g_autoptr(GError) local_error = NULL;
    char name[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(id, name);
    kvss_prune_step(removal->prune);
    if (!check_lock(removal, error)
        || !kvss_check_cancelled(removal->prune->options->cancellable, error))
        return false;
    if (kvss_backend_remove(repository->backend, removal->type, name, &local_error)
        || g_error_matches(local_error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&local_error));
    return false;
}

/* In a thread of the pool. */
static void
run_removal(gpointer data, gpointer user_data)
{
    Removal *removal = user_data;
    KvssPrune *prune = removal->prune;
    g_autofree uint8_t *id = data;
    g_autoptr(GError) error = NULL;
    bool goes_on;

    g_mutex_lock(&prune->lock);
    goes_on = removal->error == NULL;
    g_mutex_unlock(&prune->lock);
    if (goes_on)
        goes_on = remove_file(removal, id, &error);

    g_mutex_lock(&prune->lock);
    if (!goes_on && error && !removal->error)
        removal->error = g_steal_pointer(&error);
    kvss_prune_tell(prune, removal->step, 0, 0);
    g_mutex_unlock(&prune->lock);
}

/* @files: (element-type KvssStoredFile), in any order. All are gone, durably, when it returns true. */
static bool
remove_files(KvssPrune *prune, KvssFileType type, const char *step, const GArray *files,
             GError **error)
{
    Removal removal = { .prune = prune, .type = type, .step = step };
    GThreadPool *pool = g_thread_pool_new(run_removal, &removal, REMOVERS, FALSE, NULL);

    for (guint i = 0; i < files->len; i++)
        g_thread_pool_push(pool, g_memdup2(g_array_index(files, KvssStoredFile, i).id,
                                           KVSS_ID_LENGTH), NULL);
    g_thread_pool_free(pool, FALSE, TRUE);
    if (!removal.error)
        return true;
    g_propagate_error(error, removal.error);
    return false;
}

static bool
remove_old_packs(KvssPrune *prune, GError **error)
{
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(KvssStoredFile));

    for (uint32_t i = 0; i < prune->table->n_pack_ids; i++) {
        KvssStoredFile file = { .size = prune->packs[i].size };

        if (prune->packs[i].fate == KVSS_PACK_KEEP || file.size == 0)
            continue;
        memcpy(file.id, kvss_prune_pack_id(prune, i), KVSS_ID_LENGTH);
        g_array_append_val(files, file);
    }
    return remove_files(prune, KVSS_FILE_DATA, "removing packs", files, error);
}

/* ---- the whole ---- */

/* Bytes in data/ after it, by what was planned: old packs go, what is needed of them comes back. */
static void
count_freed(KvssPrune *prune)
{
    KvssPruneResult *result = &prune->result;

    result->packs_unknown = prune->unknown->len;
    for (guint i = 0; i < prune->unknown->len; i++)
        result->bytes_freed += g_array_index(prune->unknown, KvssStoredFile, i).size;
}

static bool
prune_execute(KvssPrune *prune, GError **error)
{
    KvssPruneResult *result = &prune->result;

    if (!kvss_backend_check_may_remove(prune->repository->backend, KVSS_FILE_DATA, error)
        || !remove_files(prune, KVSS_FILE_DATA, "removing packs", prune->unknown, error)
        || !kvss_prune_repack(prune, error) || !kvss_prune_write_indexes(prune, error))
        return false;
    result->indexes_removed = prune->old_indexes->len;
    if (!remove_files(prune, KVSS_FILE_INDEX, "removing index files", prune->old_indexes, error)
        || !remove_old_packs(prune, error))
        return false;
    kvss_prune_step(prune);
    return true;
}

/* A folder of snapshots that is not there looks like an empty one: everything would go. */
static bool
check_not_all(const KvssPrune *prune, GError **error)
{
    if (prune->result.snapshots > 0 || prune->result.packs == 0 || prune->options->may_empty
        || prune->options->dry_run)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                      "nothing was removed: there is no snapshot, and %" G_GUINT64_FORMAT
                      " packs; if snapshots/ is all there, --allow-remove-all empties the repository",
                      prune->result.packs);
}

static bool
prune_all(KvssPrune *prune, GError **error)
{
    if (!kvss_prune_mark(prune, error) || !check_not_all(prune, error))
        return false;
    kvss_prune_plan(prune->packs, prune->table->n_pack_ids, prune->options, &prune->result);
    count_freed(prune);
    return prune->options->dry_run || prune_execute(prune, error);
}

bool
kvss_repository_prune(KvssRepository *repository, const KvssPruneOptions *options,
                      KvssPruneResult *out_result, GError **error)
{
    KvssPrune prune = { .repository = repository, .options = options };
    bool ok;

    g_return_val_if_fail(options->dry_run || repository->mode == KVSS_REPOSITORY_REMOVE, false);
    g_mutex_init(&prune.lock);
    prune.numbers = g_hash_table_new(kvss_id_hash, kvss_id_same);
    prune.unknown = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));
    prune.old_indexes = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));

    ok = prune_all(&prune, error);
    if (ok)
        *out_result = prune.result;

    g_array_unref(prune.old_indexes);
    g_array_unref(prune.unknown);
    g_hash_table_unref(prune.numbers);
    g_free(prune.packs);
    g_free(prune.needed);
    g_mutex_clear(&prune.lock);
    return ok;
}
