/*
 * damage-note.c - the note of what backups have lost: damage.json in a snapshot of its own
 *
 *   {"nonce":"...","schema":1,"packs":["ID"],"losses":[{"backup":"ID","path":"/vms/web/disks/vda.raw",
 *    "folder":false,"bytes":65536,"ranges":[[OFFSET,LENGTH]],"blobs":["ID"],"more":false}]}
 */
#include "repository/damage/loss.h"
#include "repository/format/json.h"

#include <string.h>

#define SCHEMA 1
#define NOTE_MAX (256u << 20)
#define LOSSES_MAX 1000000u
#define LIST_MAX 100000u

KvssDamageNote *
kvss_damage_note_new(void)
{
    KvssDamageNote *note = g_new0(KvssDamageNote, 1);

    note->losses = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_loss_free);
    note->packs = g_byte_array_new();
    note->snapshot_ids = g_ptr_array_new_with_free_func(g_free);
    return note;
}

void
kvss_damage_note_free(KvssDamageNote *note)
{
    if (!note)
        return;
    g_ptr_array_unref(note->losses);
    g_byte_array_unref(note->packs);
    g_ptr_array_unref(note->snapshot_ids);
    g_free(note);
}

/* ---- writing ---- */

static void
append_ids(GString *json, const GByteArray *ids)
{
    g_string_append_c(json, '[');
    for (guint at = 0; at < ids->len; at += KVSS_ID_LENGTH) {
        if (at > 0)
            g_string_append_c(json, ',');
        kvss_json_append_id(json, ids->data + at);
    }
    g_string_append_c(json, ']');
}

static void
append_loss(GString *json, const KvssLoss *loss)
{
    g_string_append(json, "{\"backup\":");
    kvss_json_append_string(json, loss->snapshot_id);
    g_string_append(json, ",\"path\":");
    kvss_json_append_string(json, loss->path);
    g_string_append_printf(json, ",\"folder\":%s,\"bytes\":%" G_GUINT64_FORMAT ",\"ranges\":[",
                           loss->is_folder ? "true" : "false", loss->bytes);
    for (guint i = 0; i < loss->ranges->len; i++) {
        const KvssRange *range = &g_array_index(loss->ranges, KvssRange, i);

        g_string_append_printf(json, "%s[%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT "]",
                               i ? "," : "", range->offset, range->length);
    }
    g_string_append(json, "],\"blobs\":");
    append_ids(json, loss->blobs);
    g_string_append_printf(json, ",\"more\":%s}", loss->has_more ? "true" : "false");
}

GString *
kvss_damage_note_text(const KvssDamageNote *note)
{
    GString *json = g_string_new(NULL);

    g_string_append_printf(json, "{\"schema\":%d,\"packs\":", SCHEMA);
    append_ids(json, note->packs);
    g_string_append(json, ",\"losses\":[");
    for (guint i = 0; i < note->losses->len; i++) {
        if (i > 0)
            g_string_append_c(json, ',');
        append_loss(json, g_ptr_array_index(note->losses, i));
    }
    g_string_append(json, "]}\n");
    return json;
}

/* ---- reading ---- */

static void
read_ids(KvssJson *json, GByteArray *ids)
{
    kvss_json_array(json);
    while (kvss_json_item(json)) {
        uint8_t id[KVSS_ID_LENGTH];

        kvss_json_id(json, id);
        g_byte_array_append(ids, id, sizeof id);
        if (ids->len / KVSS_ID_LENGTH > LIST_MAX)
            kvss_json_fail(json, "a list is too long");
    }
}

/* [offset,length] */
static void
read_range(KvssJson *json, GArray *ranges)
{
    uint64_t values[2] = { 0, 0 };
    unsigned n = 0;

    kvss_json_array(json);
    while (kvss_json_item(json)) {
        uint64_t value = kvss_json_uint(json);

        if (n < 2)
            values[n] = value;
        n++;
    }
    if (n != 2 || values[0] > G_MAXUINT64 - values[1])
        kvss_json_fail(json, "a range is no offset and length");
    g_array_append_val(ranges, ((KvssRange) { values[0], values[1] }));
    if (ranges->len > LIST_MAX)
        kvss_json_fail(json, "a list is too long");
}

static void
read_backup(KvssJson *json, KvssLoss *loss)
{
    uint8_t id[KVSS_ID_LENGTH];

    kvss_json_id(json, id);
    kvss_id_to_hex(id, loss->snapshot_id);
}

static KvssLoss *
read_loss(KvssJson *json)
{
    KvssLoss *loss = g_new0(KvssLoss, 1);
    KvssJsonText key;

    loss->ranges = g_array_new(FALSE, FALSE, sizeof(KvssRange));
    loss->blobs = g_byte_array_new();
    kvss_json_object(json);
    while (kvss_json_key(json, &key)) {
        if (kvss_json_text_is(&key, "backup")) {
            read_backup(json, loss);
        } else if (kvss_json_text_is(&key, "path") && !loss->path) {
            loss->path = kvss_json_string(json);
        } else if (kvss_json_text_is(&key, "folder")) {
            loss->is_folder = kvss_json_bool(json);
        } else if (kvss_json_text_is(&key, "bytes")) {
            loss->bytes = kvss_json_uint(json);
        } else if (kvss_json_text_is(&key, "ranges")) {
            kvss_json_array(json);
            while (kvss_json_item(json))
                read_range(json, loss->ranges);
        } else if (kvss_json_text_is(&key, "blobs")) {
            read_ids(json, loss->blobs);
        } else if (kvss_json_text_is(&key, "more")) {
            loss->has_more = kvss_json_bool(json);
        } else {
            kvss_json_skip(json);
        }
    }
    if (!loss->snapshot_id[0] || !loss->path || !g_str_has_prefix(loss->path, "/"))
        kvss_json_fail(json, "a loss lacks backup or path");
    return loss;
}

bool
kvss_damage_note_parse(KvssDamageNote *note, const void *text, size_t length, GError **error)
{
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (kvss_json_text_is(&key, "schema")) {
            if (kvss_json_uint(&json) != SCHEMA)
                kvss_json_fail(&json, "its schema is not known to this version");
        } else if (kvss_json_text_is(&key, "packs")) {
            read_ids(&json, note->packs);
        } else if (kvss_json_text_is(&key, "losses")) {
            kvss_json_array(&json);
            while (kvss_json_item(&json)) {
                g_ptr_array_add(note->losses, read_loss(&json));
                if (note->losses->len > LOSSES_MAX)
                    kvss_json_fail(&json, "a list is too long");
            }
        } else {
            kvss_json_skip(&json);
        }
    }
    return kvss_json_finish(&json, error);
}

static bool
read_newest(KvssRepository *repository, const KvssSnapshot *snapshot, KvssDamageNote *note,
            GError **error)
{
    g_autoptr(KvssNode) node
        = kvss_repository_lookup(repository, snapshot->tree, KVSS_DAMAGE_FILE, error);
    g_autoptr(GBytes) text
        = node ? kvss_repository_read_file(repository, node, NOTE_MAX, error) : NULL;

    if (text
        && kvss_damage_note_parse(note, g_bytes_get_data(text, NULL), g_bytes_get_size(text),
                                  error))
        return true;
    g_prefix_error(error, "the note of lost data, snapshot %.8s: ", snapshot->id);
    return false;
}

KvssDamageNote *
kvss_damage_note_read(KvssRepository *repository, GError **error)
{
    g_autoptr(GPtrArray) snapshots = kvss_repository_list_readable_snapshots(
        repository, KVSS_DAMAGE_TAG, NULL, NULL, error);
    g_autoptr(KvssDamageNote) note = kvss_damage_note_new();

    if (!snapshots)
        return NULL;
    for (guint i = 0; i < snapshots->len; i++)
        g_ptr_array_add(note->snapshot_ids,
                        g_strdup(((KvssSnapshot *) g_ptr_array_index(snapshots, i))->id));
    if (snapshots->len > 0
        && !read_newest(repository, g_ptr_array_index(snapshots, snapshots->len - 1), note, error))
        return NULL;
    return g_steal_pointer(&note);
}

/* ---- replacing ---- */

/*
 * It is stored while old index files still name damaged packs: with a word of its own none of its
 * blobs can be in one of them already.
 */
static GString *
unique_text(const KvssDamageNote *note)
{
    GString *text = kvss_damage_note_text(note);
    g_autofree char *nonce = g_uuid_string_random();
    g_autofree char *member = g_strdup_printf("\"nonce\":\"%s\",", nonce);

    return g_string_insert(text, 1, member);
}

static bool
store(KvssRepository *repository, const GString *text, char out_id[KVSS_ID_HEX_LENGTH + 1],
      GError **error)
{
    static const char *const tags[] = { KVSS_DAMAGE_TAG, NULL };
    static const char *const paths[] = { "/" KVSS_DAMAGE_FILE, NULL };
    KvssSnapshotInfo info = { NULL, paths, tags, g_get_real_time() };
    g_autoptr(GBytes) bytes = g_bytes_new(text->str, text->len);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, error);

    return upload && kvss_upload_add_bytes(upload, KVSS_DAMAGE_FILE, bytes, 0600, error)
        && kvss_upload_commit(upload, &info, out_id, error);
}

static bool
remove_notes(KvssRepository *repository, const KvssDamageNote *old, guint n, GError **error)
{
    for (guint i = 0; i < n; i++)
        if (!kvss_backend_drop(repository->backend, KVSS_FILE_SNAPSHOT,
                               g_ptr_array_index(old->snapshot_ids, i), error))
            return false;
    return true;
}

static bool
is_empty(const KvssDamageNote *note)
{
    return note->losses->len == 0 && note->packs->len == 0;
}

/* Of the snapshots that hold @old, how many go? The newest stays when it says the same. */
static guint
count_removed(const KvssDamageNote *old, const KvssDamageNote *note)
{
    g_autoptr(GString) text = kvss_damage_note_text(note);
    g_autoptr(GString) before = kvss_damage_note_text(old);
    guint n = old->snapshot_ids->len;

    return n > 0 && !is_empty(note) && g_string_equal(text, before) ? n - 1 : n;
}

bool
kvss_damage_note_removes(const KvssDamageNote *old, const KvssDamageNote *note)
{
    return count_removed(old, note) > 0;
}

bool
kvss_damage_note_replace(KvssRepository *repository, const KvssDamageNote *old,
                         const KvssDamageNote *note, GError **error)
{
    g_autoptr(GString) text = unique_text(note);
    guint n = count_removed(old, note);
    char id[KVSS_ID_HEX_LENGTH + 1];

    return (is_empty(note) || n < old->snapshot_ids->len || store(repository, text, id, error))
        && remove_notes(repository, old, n, error);
}

/* ---- what still holds ---- */

static bool
is_healed(KvssRepository *repository, const KvssLoss *loss)
{
    KvssBlobLocation location;

    if (loss->has_more)
        return false;
    for (guint at = 0; at < loss->blobs->len; at += KVSS_ID_LENGTH)
        if (!kvss_index_find(repository->index, loss->is_folder, loss->blobs->data + at, 0,
                             &location))
            return false;
    return true;
}

GPtrArray *
kvss_repository_list_losses(KvssRepository *repository, GError **error)
{
    g_autoptr(KvssDamageNote) note = kvss_damage_note_read(repository, error);
    GPtrArray *losses;

    if (!note || (note->losses->len > 0 && !kvss_index_load(repository->index, NULL, error)))
        return NULL;
    losses = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_loss_free);
    while (note->losses->len > 0) {
        KvssLoss *loss = g_ptr_array_steal_index(note->losses, note->losses->len - 1);

        if (is_healed(repository, loss))
            kvss_loss_free(loss);
        else
            g_ptr_array_insert(losses, 0, loss);
    }
    return losses;
}
