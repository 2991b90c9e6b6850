/*
 * snapshots.c - the files that make a backup exist: read once, listed, found, removed
 */
#include "repository/file/document.h"
#include "repository/format/id.h"
#include "repository/format/snapshot.h"
#include "repository/read/snapshots.h"

#include <string.h>

static KvssSnapshot *
read_file(KvssRepository *repository, const char *id, GError **error)
{
    g_autoptr(GBytes) json
        = kvss_document_read(repository->backend, repository->codecs, KVSS_FILE_SNAPSHOT, id,
                             KVSS_SNAPSHOT_MAX, error);

    if (!json)
        return NULL;
    return kvss_snapshot_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json), id, error);
}

KvssSnapshot *
kvss_snapshot_read(KvssRepository *repository, const char *id, GError **error)
{
    KvssSnapshot *snapshot = g_hash_table_lookup(repository->snapshots, id);

    if (!snapshot) {
        snapshot = read_file(repository, id, error);
        if (!snapshot)
            return NULL;
        g_hash_table_insert(repository->snapshots, snapshot->id, snapshot);
    }
    return g_rc_box_acquire(snapshot);
}

void
kvss_snapshot_forget(KvssRepository *repository, const char *id)
{
    (void) g_hash_table_remove(repository->snapshots, id);
}

static int
compare_age(gconstpointer a, gconstpointer b)
{
    const KvssSnapshot *one = *(KvssSnapshot *const *) a, *two = *(KvssSnapshot *const *) b;

    if (one->time_us != two->time_us)
        return one->time_us < two->time_us ? -1 : 1;
    return strcmp(one->id, two->id);
}

static bool
has_tag(const KvssSnapshot *snapshot, const char *tag)
{
    return !tag || g_strv_contains((const char *const *) snapshot->tags, tag);
}

static void
add_tagged(GPtrArray *snapshots, KvssSnapshot *snapshot, const char *tag)
{
    if (has_tag(snapshot, tag))
        g_ptr_array_add(snapshots, snapshot);
    else
        kvss_snapshot_free(snapshot);
}

GPtrArray *
kvss_repository_list_snapshots(KvssRepository *repository, const char *tag, GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_SNAPSHOT, error);
    g_autoptr(GPtrArray) snapshots
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_snapshot_free);

    if (!files)
        return NULL;
    for (guint i = 0; i < files->len; i++) {
        KvssSnapshot *snapshot;
        char id[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, id);
        snapshot = kvss_snapshot_read(repository, id, error);
        if (!snapshot)
            return NULL;
        add_tagged(snapshots, snapshot, tag);
    }
    g_ptr_array_sort(snapshots, compare_age);
    return g_steal_pointer(&snapshots);
}

/* Somebody removed it since it was listed: it is no more, and that is no damage. */
static bool
is_gone(const GError *error)
{
    return g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
}

/*
 * A sector that cannot be read is one snapshot's trouble. When none can be read and
 * all fail that way, the place is at fault and not what lies there.
 */
GPtrArray *
kvss_repository_list_readable_snapshots(KvssRepository *repository, const char *tag,
                                        KvssSnapshotProblem problem, gpointer data,
                                        GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_SNAPSHOT, error);
    g_autoptr(GPtrArray) snapshots
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_snapshot_free);
    g_autoptr(GError) unreadable = NULL;
    bool any_answer = false;

    if (!files)
        return NULL;
    for (guint i = 0; i < files->len; i++) {
        g_autoptr(GError) trouble = NULL;
        KvssSnapshot *snapshot;
        char id[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, id);
        snapshot = kvss_snapshot_read(repository, id, &trouble);
        any_answer |= snapshot || trouble->domain == KVSS_REPOSITORY_ERROR;
        if (snapshot)
            add_tagged(snapshots, snapshot, tag);
        else if (!is_gone(trouble) && problem)
            problem(id, trouble, data);
        if (!snapshot && !unreadable)
            unreadable = g_steal_pointer(&trouble);
    }
    if (unreadable && !any_answer && !is_gone(unreadable)) {
        g_propagate_error(error, g_steal_pointer(&unreadable));
        return NULL;
    }
    g_ptr_array_sort(snapshots, compare_age);
    return g_steal_pointer(&snapshots);
}

KvssSnapshot *
kvss_repository_find_snapshot(KvssRepository *repository, const char *prefix, GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_SNAPSHOT, error);
    char found[KVSS_ID_HEX_LENGTH + 1] = "";
    unsigned n = 0;

    for (guint i = 0; files && i < files->len; i++) {
        char id[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, id);
        if (g_str_has_prefix(id, prefix)) {
            memcpy(found, id, sizeof found);
            n++;
        }
    }
    if (n == 1)
        return kvss_snapshot_read(repository, found, error);
    if (files && n == 0)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                   "no backup has an id that begins with \"%s\"", prefix);
    else if (files)
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_AMBIGUOUS,
                   "%u backups have an id that begins with \"%s\": give more of it", n, prefix);
    return NULL;
}

bool
kvss_repository_remove_snapshot(KvssRepository *repository, const char *id, GError **error)
{
    g_autoptr(GError) local_error = NULL;

    g_return_val_if_fail(repository->mode == KVSS_REPOSITORY_REMOVE, false);
    if (!kvss_lock_check(repository->lock, error))
        return false;
    if (kvss_backend_remove(repository->backend, KVSS_FILE_SNAPSHOT, id, &local_error))
        return true;
    if (g_error_matches(local_error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                          "backup %.8s is not in the repository", id);
    g_propagate_prefixed_error(error, g_steal_pointer(&local_error), "backup %.8s: ", id);
    return false;
}
