/*
 * snapshot.c - a snapshot as JSON, both ways
 */
#include "repository/format/id.h"
#include "repository/format/json.h"
#include "repository/format/snapshot.h"
#include "repository/format/timestamp.h"

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

GHashTable *
kvss_snapshot_table_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                 (GDestroyNotify) kvss_snapshot_free);
}
