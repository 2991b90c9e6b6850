/*
 * sink.c - the checking wrapper around KvssSinkOps
 */
#include "stream/sink.h"

#include <string.h>

static void
sink_check_range(const KvssSink *sink, uint64_t offset, uint64_t length)
{
    g_assert(offset <= sink->size && length <= sink->size - offset);
    g_assert(offset % sink->block == 0);
    g_assert(length % sink->block == 0 || offset + length == sink->size);
}

bool
kvss_sink_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length,
                GError **error)
{
    sink_check_range(sink, offset, length);
    return length == 0 || sink->ops->write(sink, offset, buffer, length, error);
}

bool
kvss_sink_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    sink_check_range(sink, offset, length);
    return length == 0 || sink->ops->zero(sink, offset, length, error);
}

bool
kvss_sink_keep(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    sink_check_range(sink, offset, length);
    g_assert(offset + length <= sink->keep_end);
    return length == 0 || sink->ops->keep(sink, offset, length, error);
}

bool
kvss_sink_finish(KvssSink *sink, GError **error)
{
    return sink->ops->finish(sink, error);
}

void
kvss_sink_free(KvssSink *sink)
{
    if (sink)
        sink->ops->free(sink);
}

bool
kvss_is_zero(const void *data, size_t length)
{
    const uint8_t *p = data;

    return length == 0 || (p[0] == 0 && memcmp(p, p + 1, length - 1) == 0);
}

size_t
kvss_sink_run(const void *data, size_t length, size_t block, bool *out_zero)
{
    const uint8_t *from = data;
    size_t at = MIN(length, block);

    *out_zero = kvss_is_zero(from, at);
    while (at < length) {
        size_t n = MIN(length - at, block);

        if (kvss_is_zero(from + at, n) != *out_zero)
            break;
        at += n;
    }
    return at;
}
