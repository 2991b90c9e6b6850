/*
 * blob.c - blobs by their id: found, read, checked
 */
#include "repository/format/lanes.h"
#include "repository/read/blob.h"

bool
kvss_blob_find(KvssRepository *repository, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
               KvssBlobLocation *out_location, GError **error)
{
    g_autofree char *damage = NULL;
    char hex[KVSS_ID_HEX_LENGTH + 1];

    if (kvss_index_find(repository->index, is_tree, id, 0, out_location))
        return true;
    if (!kvss_index_load(repository->index, NULL, error))
        return false;
    if (kvss_index_find(repository->index, is_tree, id, 0, out_location))
        return true;
    kvss_id_to_hex(id, hex);
    damage = kvss_index_damage(repository->index);
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "%s blob %.8s is missing: no index names it%s%s", is_tree ? "tree" : "data",
                      hex, damage ? ", and " : "", damage ? damage : "");
}

static bool
read_copy(KvssRepository *repository, const KvssBlobLocation *location,
          const uint8_t id[KVSS_ID_LENGTH], void *plain, size_t length, GError **error)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    uint8_t *sealed = kvss_codec_buffer(codec, location->length);
    char pack[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(location->pack, pack);
    if (!kvss_backend_read(repository->backend, KVSS_FILE_DATA, pack, location->offset, sealed,
                           location->length, error))
        return false;
    if (kvss_codec_open_blob(codec, sealed, location->length, location->is_compressed, plain,
                             length, id, error))
        return true;
    g_prefix_error(error, "pack %.8s at offset %u: ", pack, location->offset);
    return false;
}

/* A pack that is gone or too short is damage, and not a failure to look. */
static void
name_damage(const uint8_t *id, bool is_tree, GError **error)
{
    char hex[KVSS_ID_HEX_LENGTH + 1];

    if (!error || !*error)
        return;
    if (g_error_matches(*error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND)
        || g_error_matches(*error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT)) {
        (*error)->domain = KVSS_REPOSITORY_ERROR;
        (*error)->code = KVSS_REPOSITORY_ERROR_CORRUPT;
    }
    kvss_id_to_hex(id, hex);
    g_prefix_error(error, "%s blob %.8s is damaged: ", is_tree ? "tree" : "data", hex);
}

bool
kvss_blob_read(KvssRepository *repository, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
               void *plain, size_t length, GError **error)
{
    g_autoptr(GError) first = NULL;
    KvssBlobLocation location;

    if (!kvss_blob_find(repository, is_tree, id, &location, error))
        return false;
    for (unsigned copy = 0;
         kvss_index_find(repository->index, is_tree, id, copy, &location); copy++)
        if (read_copy(repository, &location, id, plain, length, first ? NULL : &first))
            return true;
    name_damage(id, is_tree, &first);
    g_propagate_error(error, g_steal_pointer(&first));
    return false;
}

/* Its hash has not been looked at when it is there. */
static bool
unpack_first_copy(KvssRepository *repository, KvssCodec *codec, const KvssBlobWish *wish)
{
    KvssBlobLocation location;
    char pack[KVSS_ID_HEX_LENGTH + 1];
    uint8_t *sealed;

    if (!kvss_index_find(repository->index, false, wish->id, 0, &location))
        return false;
    sealed = kvss_codec_buffer(codec, location.length);
    kvss_id_to_hex(location.pack, pack);
    return kvss_backend_read(repository->backend, KVSS_FILE_DATA, pack, location.offset, sealed,
                             location.length, NULL)
        && kvss_codec_unpack_blob(codec, sealed, location.length, location.is_compressed,
                                  wish->plain, wish->length, NULL);
}

void
kvss_blob_read_several(KvssRepository *repository, KvssBlobWish *wishes, size_t n)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    uint8_t found[KVSS_LANES_MAX][KVSS_ID_LENGTH];
    KvssMessage messages[KVSS_LANES_MAX] = { { 0 } };

    g_assert(n <= KVSS_LANES_MAX);
    for (size_t i = 0; i < n; i++) {
        wishes[i].is_right = unpack_first_copy(repository, codec, &wishes[i]);
        messages[i] = (KvssMessage) { wishes[i].plain,
                                      wishes[i].is_right ? wishes[i].length : 0, found[i] };
    }
    kvss_lanes_hash(messages, n);
    for (size_t i = 0; i < n; i++)
        wishes[i].is_right = wishes[i].is_right && kvss_id_equal(found[i], wishes[i].id);
}

GBytes *
kvss_blob_read_tree(KvssRepository *repository, const uint8_t id[KVSS_ID_LENGTH], GError **error)
{
    g_autofree uint8_t *plain = NULL;
    KvssBlobLocation location;

    if (!kvss_blob_find(repository, true, id, &location, error))
        return NULL;
    plain = g_malloc(location.plain_length + 1u);
    if (!kvss_blob_read(repository, true, id, plain, location.plain_length, error))
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&plain), location.plain_length);
}
