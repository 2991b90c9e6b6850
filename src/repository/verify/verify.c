/*
 * verify.c - is everything there, and whom does it hurt if not?
 *
 *   small files   keys, index files, snapshots: hash, MAC, JSON
 *   trees         each one once: readable, and each of its blobs in the index
 *   packs         verify-packs.c
 *   reach         only after damage: which backups and paths come to a lost blob
 *
 * Damage is what this looks for, so it is a finding and never ends the run.
 */
#include "repository/file/document.h"
#include "repository/format/tree.h"
#include "repository/read/blob.h"
#include "repository/read/snapshots.h"
#include "repository/verify/verify.h"

#include <string.h>

#define PATHS_MAX 1000u /* named in one finding: the rest is as lost, and as many */

/* ---- findings ---- */

static void
finding_free(gpointer data)
{
    KvssFinding *finding = data;

    g_free(finding->what);
    g_hash_table_unref(finding->snapshot_ids);
    g_hash_table_unref(finding->paths);
    g_free(finding);
}

KvssFinding *
kvss_verify_find(KvssVerify *verify, char *what)
{
    KvssFinding *finding = g_new0(KvssFinding, 1);

    finding->what = what;
    finding->snapshot_ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    finding->paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_lock(&verify->lock);
    g_ptr_array_add(verify->findings, finding);
    g_mutex_unlock(&verify->lock);
    return finding;
}

/** The key of KvssVerify.damaged. */
typedef struct {
    uint8_t id[KVSS_ID_LENGTH]; /* first: kvss_id_hash() looks at it */
    uint8_t is_tree;
} BlobKey;

static gboolean
blob_key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(BlobKey)) == 0;
}

static BlobKey
blob_key(bool is_tree, const uint8_t *id)
{
    BlobKey key = { .is_tree = is_tree };

    memcpy(key.id, id, KVSS_ID_LENGTH);
    return key;
}

/* Another copy of the blob that is sound saves it. */
static bool
has_sound_copy(KvssRepository *repository, bool is_tree, const uint8_t *id)
{
    g_autofree uint8_t *plain = NULL;
    KvssBlobLocation location;

    if (!kvss_index_find(repository->index, is_tree, id, 1, &location))
        return false;
    plain = g_malloc(location.plain_length + 1u);
    return kvss_blob_read(repository, is_tree, id, plain, location.plain_length, NULL);
}

/* Of one blob there may be several: files that share it, each with its own finding. */
static void
add_damaged(KvssVerify *verify, KvssFinding *finding, bool is_tree, const uint8_t *id)
{
    BlobKey key = blob_key(is_tree, id);
    GPtrArray *findings;

    g_mutex_lock(&verify->lock);
    findings = g_hash_table_lookup(verify->damaged, &key);
    if (!findings) {
        findings = g_ptr_array_new();
        g_hash_table_insert(verify->damaged, g_memdup2(&key, sizeof key), findings);
    }
    if (!g_ptr_array_find(findings, finding, NULL))
        g_ptr_array_add(findings, finding);
    g_mutex_unlock(&verify->lock);
}

void
kvss_verify_lose(KvssVerify *verify, KvssFinding *finding, bool is_tree,
                 const uint8_t id[KVSS_ID_LENGTH])
{
    if (!has_sound_copy(verify->repository, is_tree, id))
        add_damaged(verify, finding, is_tree, id);
}

/*
 * An index file that cannot be read hits who needs a blob that no other one names: without it,
 * and without a cache that knows what it said, that blob cannot be found.
 */
static void
doubt_blob(KvssVerify *verify, bool is_tree, const uint8_t *id)
{
    KvssBlobLocation location;

    for (unsigned copy = 0;
         kvss_index_find(verify->repository->index, is_tree, id, copy, &location); copy++)
        if (g_hash_table_contains(verify->sound_packs, location.pack))
            return;
    for (guint i = 0; i < verify->index_damage->len; i++)
        add_damaged(verify, g_ptr_array_index(verify->index_damage, i), is_tree, id);
}

static GPtrArray *
findings_of(KvssVerify *verify, bool is_tree, const uint8_t *id)
{
    BlobKey key = blob_key(is_tree, id);

    return g_hash_table_lookup(verify->damaged, &key);
}

static void
reach(KvssFinding *finding, const char *snapshot_id, const char *path)
{
    if (!g_hash_table_contains(finding->snapshot_ids, snapshot_id))
        g_hash_table_add(finding->snapshot_ids, g_strdup(snapshot_id));
    if (path && g_hash_table_size(finding->paths) < PATHS_MAX)
        g_hash_table_add(finding->paths, g_strdup(path));
}

static int
compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The set's strings, sorted, borrowed from it; NULL when there is none. */
static char **
set_strings(GHashTable *set)
{
    guint n;
    char **strings = (char **) g_hash_table_get_keys_as_array(set, &n);

    if (n == 0)
        g_clear_pointer(&strings, g_free);
    else
        qsort(strings, n, sizeof *strings, compare_strings);
    return strings;
}

static void
tell(KvssVerify *verify)
{
    verify->result.damaged = verify->findings->len;
    for (guint i = 0; i < verify->findings->len && verify->options->damage; i++) {
        const KvssFinding *finding = g_ptr_array_index(verify->findings, i);
        g_autofree char **ids = set_strings(finding->snapshot_ids);
        g_autofree char **paths = set_strings(finding->paths);

        verify->options->damage(finding->what, ids, paths, verify->options->data);
    }
}

/* ---- small files ---- */

static bool
verify_keys(KvssVerify *verify, GError **error)
{
    KvssBackend *backend = verify->repository->backend;
    g_autoptr(GArray) files = kvss_backend_list(backend, KVSS_FILE_KEY, error);

    for (guint i = 0; files && i < files->len; i++) {
        const uint8_t *id = g_array_index(files, KvssStoredFile, i).id;
        g_autoptr(GError) local_error = NULL;
        g_autoptr(GBytes) text = NULL;
        char name[KVSS_ID_HEX_LENGTH + 1];
        uint8_t found[KVSS_ID_LENGTH];

        kvss_id_to_hex(id, name);
        text = kvss_backend_read_all(backend, KVSS_FILE_KEY, name, KVSS_KEY_MAX, &local_error);
        if (text)
            kvss_id_of(g_bytes_get_data(text, NULL), g_bytes_get_size(text), found);
        if (!text)
            (void) kvss_verify_find(verify, g_strdup(local_error->message));
        else if (!kvss_id_equal(found, id))
            (void) kvss_verify_find(verify, g_strdup_printf("key %.8s is damaged: its content "
                                                            "does not have the hash that names it",
                                                            name));
    }
    return files != NULL;
}

static void
find_index_damage(KvssVerify *verify, const char *message)
{
    g_ptr_array_add(verify->index_damage, kvss_verify_find(verify, g_strdup(message)));
}

/* With no index at all any backup may need what such a file says. */
static void
reach_by_index(KvssVerify *verify)
{
    for (guint n = 0; n < verify->index_damage->len; n++)
        for (guint i = 0; i < verify->snapshots->len; i++)
            reach(g_ptr_array_index(verify->index_damage, n),
                  ((KvssSnapshot *) g_ptr_array_index(verify->snapshots, i))->id, NULL);
}

static GBytes *
read_index_file(KvssVerify *verify, const KvssStoredFile *file, GError **error)
{
    char name[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(file->id, name);
    return kvss_document_read(verify->repository->backend, verify->repository->codecs,
                              KVSS_FILE_INDEX, name, KVSS_INDEX_MAX, error);
}

static void
add_sound_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    KvssVerify *verify = data;

    if (!g_hash_table_contains(verify->sound_packs, pack))
        g_hash_table_add(verify->sound_packs, g_memdup2(pack, KVSS_ID_LENGTH));
}

/* After damage only: each index file is read a second time. */
static void
note_sound_packs(KvssVerify *verify, const GArray *files)
{
    verify->sound_packs = g_hash_table_new_full(kvss_id_hash, kvss_id_same, g_free, NULL);
    for (guint i = 0; i < files->len; i++) {
        g_autoptr(GBytes) json
            = read_index_file(verify, &g_array_index(files, KvssStoredFile, i), NULL);

        if (json)
            (void) !kvss_index_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json),
                                     add_sound_pack, verify, NULL);
    }
}

/* The files themselves: the cache of them, which all else goes by, proves nothing. */
static bool
verify_index_files(KvssVerify *verify, GError **error)
{
    g_autoptr(GArray) files
        = kvss_backend_list(verify->repository->backend, KVSS_FILE_INDEX, error);

    for (guint i = 0; files && i < files->len; i++) {
        g_autoptr(GError) local_error = NULL;
        g_autoptr(GBytes) json
            = read_index_file(verify, &g_array_index(files, KvssStoredFile, i), &local_error);

        if (!json)
            find_index_damage(verify, local_error->message);
    }
    if (files && verify->index_damage->len > 0)
        note_sound_packs(verify, files);
    return files != NULL;
}

static bool
is_chosen(char **snapshot_ids, const char *id)
{
    return !snapshot_ids || g_strv_contains((const char *const *) snapshot_ids, id);
}

static void
load_snapshot(KvssVerify *verify, const char *id)
{
    g_autoptr(GError) error = NULL;
    KvssSnapshot *snapshot;

    if (!verify->options->snapshots_once)
        kvss_snapshot_forget(verify->repository, id);
    snapshot = kvss_snapshot_read(verify->repository, id, &error);
    if (snapshot)
        g_ptr_array_add(verify->snapshots, snapshot);
    else
        reach(kvss_verify_find(verify, g_strdup(error->message)), id, NULL);
}

static bool
load_snapshots(KvssVerify *verify, char **snapshot_ids, GError **error)
{
    g_autoptr(GArray) files
        = kvss_backend_list(verify->repository->backend, KVSS_FILE_SNAPSHOT, error);
    guint n = 0;

    for (guint i = 0; files && i < files->len; i++) {
        char id[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, id);
        if (!is_chosen(snapshot_ids, id))
            continue;
        load_snapshot(verify, id);
        n++;
    }
    verify->result.snapshots = n;
    if (files && snapshot_ids && n < g_strv_length(snapshot_ids))
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                          "a backup to verify is not in the repository");
    return files != NULL;
}

/* ---- trees ---- */

/* Marks the blob as needed; false when no index names it. @out_location: (optional). */
static bool
need_blob(KvssVerify *verify, bool is_tree, const uint8_t *id, KvssBlobLocation *out_location)
{
    size_t number;

    if (verify->sound_packs)
        doubt_blob(verify, is_tree, id);
    if (!kvss_index_number(verify->repository->index, is_tree, id, &number, out_location))
        return false;
    verify->needed[number / 8] |= (uint8_t) (1u << number % 8);
    return true;
}

static void
verify_file(KvssVerify *verify, const KvssNode *node)
{
    KvssFinding *finding = NULL;
    uint64_t size = 0;

    for (size_t i = 0; i < node->n_content; i++) {
        const uint8_t *id = node->content + i * KVSS_ID_LENGTH;
        KvssBlobLocation location;
        char hex[KVSS_ID_HEX_LENGTH + 1];

        if (need_blob(verify, false, id, &location)) {
            size += location.plain_length;
            continue;
        }
        kvss_id_to_hex(id, hex);
        if (!finding)
            finding = kvss_verify_find(verify, g_strdup_printf("data blob %.8s of %s is missing: "
                                                               "no index names it", hex,
                                                               node->name));
        kvss_verify_lose(verify, finding, false, id);
    }
    if (!finding && size != node->size && node->type == KVSS_NODE_FILE)
        (void) kvss_verify_find(verify, g_strdup_printf("%s has %" G_GUINT64_FORMAT " bytes of "
                                                        "chunks where its size says %"
                                                        G_GUINT64_FORMAT, node->name, size,
                                                        node->size));
}

static GPtrArray *
load_tree(KvssVerify *verify, const char *tree)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *nodes = kvss_repository_read_folder(verify->repository, tree, &error);
    uint8_t id[KVSS_ID_LENGTH];

    if (!nodes && kvss_id_from_hex(tree, strlen(tree), id))
        kvss_verify_lose(verify, kvss_verify_find(verify, g_strdup(error->message)), true, id);
    return nodes;
}

/* @seen: trees that were verified, in any snapshot. Each is read once. */
static bool
verify_tree(KvssVerify *verify, const char *tree, GHashTable *seen, unsigned depth,
            GError **error)
{
    g_autoptr(GPtrArray) nodes = NULL;
    uint8_t id[KVSS_ID_LENGTH];

    if (!kvss_check_cancelled(verify->options->cancellable, error))
        return false;
    if (depth == KVSS_TREE_DEPTH_MAX || !g_hash_table_add(seen, g_strdup(tree)))
        return true;
    if (kvss_id_from_hex(tree, strlen(tree), id))
        (void) need_blob(verify, true, id, NULL); /* loading it tells when it is missing */
    nodes = load_tree(verify, tree);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);

        if (node->type == KVSS_NODE_FOLDER) {
            if (!verify_tree(verify, node->subtree, seen, depth + 1, error))
                return false;
        } else {
            verify_file(verify, node);
        }
    }
    return true;
}

static bool
verify_trees(KvssVerify *verify, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < verify->snapshots->len; i++) {
        const KvssSnapshot *snapshot = g_ptr_array_index(verify->snapshots, i);

        if (!verify_tree(verify, snapshot->tree, seen, 0, error))
            return false;
    }
    return true;
}

/* ---- whom damage reaches ---- */

/* @findings: (nullable). Returns: whether there are any. */
static bool
reach_findings(GPtrArray *findings, const char *snapshot_id, const char *path)
{
    for (guint i = 0; findings && i < findings->len; i++)
        reach(g_ptr_array_index(findings, i), snapshot_id, path);
    return findings != NULL;
}

static bool
reach_file(KvssVerify *verify, const char *snapshot_id, const char *path, const KvssNode *node)
{
    bool reached = false;

    for (size_t i = 0; i < node->n_content; i++)
        reached |= reach_findings(findings_of(verify, false, node->content + i * KVSS_ID_LENGTH),
                                  snapshot_id, path);
    return reached;
}

/*
 * Names @snapshot_id and paths in every finding that the tree comes to. @sound:
 * trees that come to none, to be passed over the next time. Returns: whether
 * anything was reached.
 */
static bool
reach_tree(KvssVerify *verify, const char *snapshot_id, const char *path, const char *tree,
           GHashTable *sound, unsigned depth)
{
    g_autoptr(GPtrArray) nodes = NULL;
    uint8_t id[KVSS_ID_LENGTH];
    bool reached = false, is_lost = false;

    if (depth == KVSS_TREE_DEPTH_MAX || g_hash_table_contains(sound, tree))
        return false;
    if (kvss_id_from_hex(tree, strlen(tree), id))
        is_lost = reach_findings(findings_of(verify, true, id), snapshot_id, *path ? path : "/");
    if (!is_lost)
        nodes = kvss_repository_read_folder(verify->repository, tree, NULL);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);
        g_autofree char *below = g_strconcat(path, "/", node->name, NULL);

        reached |= node->type == KVSS_NODE_FOLDER
            ? reach_tree(verify, snapshot_id, below, node->subtree, sound, depth + 1)
            : reach_file(verify, snapshot_id, below, node);
    }
    if (nodes && !reached)
        g_hash_table_add(sound, g_strdup(tree));
    return reached || is_lost;
}

static void
reach_all(KvssVerify *verify)
{
    g_autoptr(GHashTable) sound = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; g_hash_table_size(verify->damaged) > 0 && i < verify->snapshots->len; i++) {
        const KvssSnapshot *snapshot = g_ptr_array_index(verify->snapshots, i);

        (void) reach_tree(verify, snapshot->id, "", snapshot->tree, sound, 0);
    }
}

/* ---- all of it ---- */

/* Without an index there is nothing more to look at; that it fails is told already, or is news. */
static bool
load_index(KvssVerify *verify, bool *out_loaded, GError **error)
{
    g_autoptr(GError) local_error = NULL;

    *out_loaded = kvss_index_load(verify->repository->index, NULL, &local_error);
    if (*out_loaded || verify->findings->len > 0)
        return true;
    if (local_error->domain != KVSS_REPOSITORY_ERROR) {
        g_propagate_error(error, g_steal_pointer(&local_error));
        return false;
    }
    find_index_damage(verify, local_error->message);
    return true;
}

static bool
verify_all(KvssVerify *verify, char **snapshot_ids, GError **error)
{
    bool has_index;

    if (!verify_keys(verify, error) || !load_snapshots(verify, snapshot_ids, error)
        || !verify_index_files(verify, error) || !load_index(verify, &has_index, error))
        return false;
    if (!has_index) {
        reach_by_index(verify);
        return true;
    }

    verify->needed = g_malloc0(kvss_index_count(verify->repository->index) / 8 + 1);
    if (!verify_trees(verify, error))
        return false;
    if (!snapshot_ids)
        memset(verify->needed, 0xff, kvss_index_count(verify->repository->index) / 8 + 1);
    if (!kvss_verify_packs(verify, error))
        return false;
    reach_all(verify);
    return true;
}

bool
kvss_repository_verify(KvssRepository *repository, char **snapshot_ids,
                       const KvssVerifyOptions *options, KvssVerifyResult *out_result,
                       GError **error)
{
    KvssVerify verify = { .repository = repository, .options = options };
    bool ok;

    g_mutex_init(&verify.lock);
    verify.snapshots = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_snapshot_free);
    verify.findings = g_ptr_array_new_with_free_func(finding_free);
    verify.damaged = g_hash_table_new_full(kvss_id_hash, blob_key_equal, g_free,
                                           (GDestroyNotify) g_ptr_array_unref);
    verify.index_damage = g_ptr_array_new();

    ok = verify_all(&verify, snapshot_ids, error);
    if (ok) {
        tell(&verify);
        *out_result = verify.result;
    }

    g_clear_pointer(&verify.sound_packs, g_hash_table_unref);
    g_ptr_array_unref(verify.index_damage);
    g_hash_table_unref(verify.damaged);
    g_ptr_array_unref(verify.findings);
    g_ptr_array_unref(verify.snapshots);
    g_free(verify.needed);
    g_mutex_clear(&verify.lock);
    return ok;
}
