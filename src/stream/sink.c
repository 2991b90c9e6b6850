/*
 * sink.c - the checking wrapper around KvssSinkOps
 */
#include "stream/sink.h"

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
