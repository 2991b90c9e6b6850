/*
 * source.c - the checking wrapper around KvssSourceOps
 */
#include "stream/source.h"

bool
kvss_source_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
                    GError **error)
{
    uint64_t end = offset + length;

    g_assert(offset <= source->size && length <= source->size - offset);
    g_array_set_size(out_extents, 0);

    if (!source->ops->extents && length > 0) {
        KvssExtent all = { offset, length, false };

        g_array_append_val(out_extents, all);
        return true;
    }

    while (offset < end) {
        guint before = out_extents->len;

        if (!source->ops->extents(source, offset, end - offset, out_extents, error))
            return false;

        /* An answer from outside: believed only where it fits. */
        for (guint i = before; i < out_extents->len; i++) {
            const KvssExtent *extent = &g_array_index(out_extents, KvssExtent, i);

            if (extent->offset != offset || extent->length == 0
                || extent->length > end - offset)
                return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                                  "the map of extents is not in order at offset %" G_GUINT64_FORMAT,
                                  offset);
            offset += extent->length;
        }
        if (out_extents->len == before)
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "the map of extents ends at offset %" G_GUINT64_FORMAT, offset);
    }
    return true;
}

bool
kvss_source_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    g_assert(offset <= source->size && length <= source->size - offset);
    if (length == 0)
        return true;
    return source->ops->read(source, offset, buffer, length, error);
}

/* A stretch at a time: the list of all of a large disk's extents would be long. */
#define STRETCH_LENGTH (G_GUINT64_CONSTANT(64) << 30)

bool
kvss_source_data_bytes(KvssSource *source, uint64_t *out_bytes, GError **error)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    uint64_t bytes = 0;

    for (uint64_t at = 0; at < source->size; at += MIN(STRETCH_LENGTH, source->size - at)) {
        if (!kvss_source_extents(source, at, MIN(STRETCH_LENGTH, source->size - at), extents,
                                 error))
            return false;
        for (guint i = 0; i < extents->len; i++) {
            const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

            bytes += extent->zero ? 0 : extent->length;
        }
    }
    *out_bytes = bytes;
    return true;
}

void
kvss_source_free(KvssSource *source)
{
    if (source)
        source->ops->free(source);
}
