/*
 * image-write.c - a stored disk's content into a new image, in any format of QEMU's
 */
#include "restore/image-write.h"
#include "host/nbd-sink.h"
#include "stream/sink.h"

static KvssImageServer *
image_serve(const ImageWrite *image, GError **error)
{
    KvssImageServerOptions options = {
        .path = image->path,
        .format = image->format,
        .socket = image->socket,
        .export_name = image->export_name,
        .is_writable = true,
        .keeps_room = image->keeps_room,
        .is_new = true,
    };

    return kvss_image_server_start(&options, error);
}

static bool
image_copy(const ImageWrite *image, KvssSource *source, KvssCopyStats *out_stats, GError **error)
{
    g_autoptr(KvssSink) sink = kvss_nbd_sink_new(image->socket, image->export_name, source->size,
                                                 true, error);

    return sink
        && kvss_copy(source, sink, image->progress, image->data, image->cancellable, out_stats,
                     error);
}

/* A raw image is its content: QEMU would only copy it once more. */
static bool
file_copy(const ImageWrite *image, KvssSource *source, KvssCopyStats *out_stats, GError **error)
{
    g_autoptr(KvssSink) sink = kvss_sink_new_file(image->path, source->size, error);

    return sink
        && kvss_copy(source, sink, image->progress, image->data, image->cancellable, out_stats,
                     error);
}

bool
image_write(const ImageWrite *image, KvssSource *source, KvssCopyStats *out_stats, GError **error)
{
    g_autoptr(KvssImageServer) server = NULL;

    if (g_str_equal(image->format, "raw"))
        return file_copy(image, source, out_stats, error);
    server = image_serve(image, error);
    return server && (!image->serving || image->serving(server, image->data, error))
        && image_copy(image, source, out_stats, error)
        && kvss_image_server_finish(server, error);
}
