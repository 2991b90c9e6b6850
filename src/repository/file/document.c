/*
 * document.c - small sealed JSON files that are named by their hash
 */
#include "repository/file/document.h"
#include "repository/format/id.h"

static bool
check_name(GBytes *stored, KvssFileType type, const char *name, GError **error)
{
    uint8_t id[KVSS_ID_LENGTH];
    char hex[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_of(g_bytes_get_data(stored, NULL), g_bytes_get_size(stored), id);
    kvss_id_to_hex(id, hex);
    if (g_str_equal(hex, name))
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "%s %.8s is damaged: its content does not have the hash that names it",
                      kvss_file_type_name(type), name);
}

GBytes *
kvss_document_read(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                   const char *name, size_t max_length, GError **error)
{
    g_autoptr(KvssCodec) codec = NULL;
    g_autoptr(GBytes) stored = kvss_backend_read_all(backend, type, name, max_length, error);
    GBytes *json;

    if (!stored || !check_name(stored, type, name, error))
        return NULL;
    codec = kvss_codec_take(codecs);
    json = kvss_codec_open_document(codec, stored, max_length, error);
    if (!json)
        g_prefix_error(error, "%s %.8s is damaged: ", kvss_file_type_name(type), name);
    return json;
}

/* It may be there all the same, when only its sync failed: nobody knows for how long. */
static void
take_back(KvssBackend *backend, KvssFileType type, const char *name)
{
    g_autoptr(GError) error = NULL;

    if (!kvss_backend_remove(backend, type, name, &error))
        g_debug("%s", error->message);
}

bool
kvss_document_write(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                    const GString *json, char out_name[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(codecs);
    g_autoptr(GBytes) stored = kvss_codec_seal_document(codec, json->str, json->len);
    gsize length;
    const void *data = g_bytes_get_data(stored, &length);
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];

    kvss_id_of(data, length, id);
    kvss_id_to_hex(id, name);
    if (!kvss_backend_put(backend, type, name, data, length, error)) {
        take_back(backend, type, name);
        return false;
    }
    if (out_name)
        memcpy(out_name, name, sizeof name);
    return true;
}
