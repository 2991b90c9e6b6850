/*
 * index-text.c - index files as JSON, both ways
 */
#include "repository/format/json.h"
#include "repository/index/index.h"

#include "repository/format/crypto.h"

static void
append_entry(GString *json, const KvssPackEntry *entry)
{
    g_string_append(json, "{\"id\":");
    kvss_json_append_id(json, entry->id);
    g_string_append_printf(json, ",\"type\":\"%s\",\"offset\":%u,\"length\":%u",
                           entry->is_tree ? "tree" : "data", entry->offset, entry->length);
    if (entry->is_compressed)
        g_string_append_printf(json, ",\"uncompressed_length\":%u", entry->plain_length);
    g_string_append_c(json, '}');
}

static void
append_pack(GString *json, const KvssIndexedPack *pack)
{
    g_string_append(json, "{\"id\":");
    kvss_json_append_id(json, pack->id);
    g_string_append(json, ",\"blobs\":[");
    for (guint i = 0; i < pack->entries->len; i++) {
        if (i > 0)
            g_string_append_c(json, ',');
        append_entry(json, &g_array_index(pack->entries, KvssPackEntry, i));
    }
    g_string_append(json, "]}");
}

GString *
kvss_index_text(const GArray *packs)
{
    GString *json = g_string_new("{\"packs\":[");

    for (guint i = 0; i < packs->len; i++) {
        if (i > 0)
            g_string_append_c(json, ',');
        append_pack(json, &g_array_index(packs, KvssIndexedPack, i));
    }
    g_string_append(json, "]}");
    return json;
}

static bool
read_type(KvssJson *json)
{
    KvssJsonText type = kvss_json_text(json);

    if (kvss_json_text_is(&type, "tree"))
        return true;
    if (!kvss_json_text_is(&type, "data"))
        kvss_json_fail(json, "a blob is neither data nor tree");
    return false;
}

/* A blob may not reach past 4 GiB, nor unpack to more than its kind may have. */
static void
check_entry(KvssJson *json, const KvssPackEntry *entry)
{
    uint32_t max = entry->is_tree ? KVSS_TREE_BLOB_MAX : KVSS_DATA_BLOB_MAX;

    if (entry->length < KVSS_CRYPTO_OVERHEAD || entry->length > max + KVSS_CRYPTO_OVERHEAD
        || entry->offset > G_MAXUINT32 - entry->length)
        kvss_json_fail(json, "a blob's length is out of range");
    if (entry->plain_length > max)
        kvss_json_fail(json, "a blob's uncompressed length is out of range");
}

static KvssPackEntry
read_entry(KvssJson *json)
{
    KvssPackEntry entry = { 0 };
    bool has_id = false, has_type = false;
    KvssJsonText key;

    kvss_json_object(json);
    while (kvss_json_key(json, &key)) {
        if (kvss_json_text_is(&key, "id")) {
            kvss_json_id(json, entry.id);
            has_id = true;
        } else if (kvss_json_text_is(&key, "type")) {
            entry.is_tree = read_type(json);
            has_type = true;
        } else if (kvss_json_text_is(&key, "offset")) {
            entry.offset = kvss_json_uint32(json);
        } else if (kvss_json_text_is(&key, "length")) {
            entry.length = kvss_json_uint32(json);
        } else if (kvss_json_text_is(&key, "uncompressed_length")) {
            entry.plain_length = kvss_json_uint32(json);
        } else {
            kvss_json_skip(json);
        }
    }
    if (!has_id || !has_type)
        kvss_json_fail(json, "a blob lacks id or type");
    check_entry(json, &entry);
    entry.is_compressed = entry.plain_length != 0;
    if (!entry.is_compressed && entry.length >= KVSS_CRYPTO_OVERHEAD)
        entry.plain_length = entry.length - KVSS_CRYPTO_OVERHEAD;
    return entry;
}

static void
read_pack(KvssJson *json, GArray *entries, KvssIndexPackFunc func, gpointer data)
{
    uint8_t id[KVSS_ID_LENGTH];
    bool has_id = false;
    KvssJsonText key;

    g_array_set_size(entries, 0);
    kvss_json_object(json);
    while (kvss_json_key(json, &key)) {
        if (kvss_json_text_is(&key, "id")) {
            kvss_json_id(json, id);
            has_id = true;
        } else if (kvss_json_text_is(&key, "blobs")) {
            kvss_json_array(json);
            while (kvss_json_item(json)) {
                KvssPackEntry entry = read_entry(json);

                g_array_append_val(entries, entry);
            }
        } else {
            kvss_json_skip(json);
        }
    }
    if (!has_id)
        kvss_json_fail(json, "a pack lacks its id");
    if (!json->wrong)
        func(id, entries, data);
}

bool
kvss_index_parse(const void *text, size_t length, KvssIndexPackFunc func, gpointer data,
                 GError **error)
{
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry));
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (!kvss_json_text_is(&key, "packs")) {
            kvss_json_skip(&json);
            continue;
        }
        kvss_json_array(&json);
        while (kvss_json_item(&json))
            read_pack(&json, entries, func, data);
    }
    return kvss_json_finish(&json, error);
}
