/*
 * bytes-source.c - a source over memory
 */
#include "stream/source.h"

#include <string.h>

typedef struct {
    KvssSource source;
    GBytes *bytes;
} BytesSource;

static bool
bytes_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    BytesSource *self = (BytesSource *) source;
    const uint8_t *data = g_bytes_get_data(self->bytes, NULL);

    memcpy(buffer, data + offset, length);
    return true;
}

static void
bytes_free(KvssSource *source)
{
    BytesSource *self = (BytesSource *) source;

    g_bytes_unref(self->bytes);
    g_free(self);
}

static const KvssSourceOps bytes_ops = { .read = bytes_read, .free = bytes_free };

KvssSource *
kvss_source_new_bytes(GBytes *bytes)
{
    BytesSource *self = g_new0(BytesSource, 1);

    self->source.ops = &bytes_ops;
    self->source.size = g_bytes_get_size(bytes);
    self->source.is_parallel = true;
    self->bytes = g_bytes_ref(bytes);
    return &self->source;
}
