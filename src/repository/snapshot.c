/*
 * snapshot.c - the files that make a backup exist
 */
#include "repository/json.h"
#include "repository/repository-private.h"
#include "repository/snapshot.h"
#include "repository/timestamp.h"

#include <string.h>
#include <unistd.h>

#define STRINGS_MAX 100000u /* tags or paths: more is no backup of anybody's */

static void
snapshot_clear(gpointer data)
{
    KvssSnapshot *snapshot = data;

    g_free(snapshot->time);
    g_free(snapshot->hostname);
    g_free(snapshot->username);
    g_strfreev(snapshot->paths);
    g_strfreev(snapshot->tags);
    g_free(snapshot->tree);
    g_free(snapshot->program_version);
}

void
kvss_snapshot_free(KvssSnapshot *snapshot)
{
    if (snapshot)
        g_rc_box_release_full(snapshot, snapshot_clear);
}

static char **
read_strings(KvssJson *json)
{
    GPtrArray *strings = g_ptr_array_new();

    kvss_json_array(json);
    while (kvss_json_item(json)) {
        char *string = kvss_json_string(json);

        if (string)
            g_ptr_array_add(strings, string);
        if (strings->len > STRINGS_MAX)
            kvss_json_fail(json, "a list is too long");
    }
    g_ptr_array_add(strings, NULL);
    return (char **) g_ptr_array_free(strings, FALSE);
}

static void
read_time(KvssSnapshot *snapshot, KvssJson *json)
{
    snapshot->time = kvss_json_string(json);
    if (snapshot->time && !kvss_time_parse(snapshot->time, &snapshot->time_us))
        kvss_json_fail(json, "the time is not in RFC 3339");
}

static void
read_tree(KvssSnapshot *snapshot, KvssJson *json)
{
    uint8_t id[KVSS_ID_LENGTH];
    char hex[KVSS_ID_HEX_LENGTH + 1];

    kvss_json_id(json, id);
    kvss_id_to_hex(id, hex);
    snapshot->tree = g_strdup(hex);
}

static void
read_member(KvssSnapshot *snapshot, KvssJson *json, const KvssJsonText *key)
{
    if (kvss_json_text_is(key, "time") && !snapshot->time)
        read_time(snapshot, json);
    else if (kvss_json_text_is(key, "tree") && !snapshot->tree)
        read_tree(snapshot, json);
    else if (kvss_json_text_is(key, "paths") && !snapshot->paths)
        snapshot->paths = read_strings(json);
    else if (kvss_json_text_is(key, "tags") && !snapshot->tags)
        snapshot->tags = read_strings(json);
    else if (kvss_json_text_is(key, "hostname") && !snapshot->hostname)
        snapshot->hostname = kvss_json_string(json);
    else if (kvss_json_text_is(key, "username") && !snapshot->username)
        snapshot->username = kvss_json_string(json);
    else if (kvss_json_text_is(key, "program_version") && !snapshot->program_version)
        snapshot->program_version = kvss_json_string(json);
    else
        kvss_json_skip(json);
}

/* What restic leaves out when it is empty is empty here, never NULL. */
static void
fill_gaps(KvssSnapshot *snapshot)
{
    if (!snapshot->paths)
        snapshot->paths = g_new0(char *, 1);
    if (!snapshot->tags)
        snapshot->tags = g_new0(char *, 1);
    if (!snapshot->hostname)
        snapshot->hostname = g_strdup("");
    if (!snapshot->username)
        snapshot->username = g_strdup("");
}

KvssSnapshot *
kvss_snapshot_parse(const void *text, size_t length, const char *id, GError **error)
{
    g_autoptr(KvssSnapshot) snapshot = g_rc_box_new0(KvssSnapshot);
    KvssJsonText key;
    KvssJson json;

    g_strlcpy(snapshot->id, id, sizeof snapshot->id);
    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key))
        read_member(snapshot, &json, &key);
    if (!snapshot->time || !snapshot->tree)
        kvss_json_fail(&json, "time or tree is missing");
    if (!kvss_json_finish(&json, error)) {
        g_prefix_error(error, "snapshot %.8s is damaged: ", id);
        return NULL;
    }
    fill_gaps(snapshot);
    return g_steal_pointer(&snapshot);
}

GString *
kvss_snapshot_text(const KvssSnapshotInfo *info, const uint8_t tree[KVSS_ID_LENGTH])
{
    g_autofree char *time = kvss_time_format(info->time_us);
    GString *json = g_string_new("{\"time\":");

    kvss_json_append_string(json, time);
    g_string_append(json, ",\"tree\":");
    kvss_json_append_id(json, tree);
    g_string_append(json, ",\"paths\":");
    kvss_json_append_strings(json, info->paths);
    g_string_append(json, ",\"hostname\":");
    kvss_json_append_string(json, info->hostname ? info->hostname : g_get_host_name());
    g_string_append(json, ",\"username\":");
    kvss_json_append_string(json, g_get_user_name());
    if (getuid() != 0)
        g_string_append_printf(json, ",\"uid\":%u", (unsigned) getuid());
    if (getgid() != 0)
        g_string_append_printf(json, ",\"gid\":%u", (unsigned) getgid());
    if (info->tags && info->tags[0]) {
        g_string_append(json, ",\"tags\":");
        kvss_json_append_strings(json, info->tags);
    }
    g_string_append(json, ",\"program_version\":\"kvss " KVSS_VERSION "\"}");
    return json;
}

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

GHashTable *
kvss_snapshot_table_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                 (GDestroyNotify) kvss_snapshot_free);
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
