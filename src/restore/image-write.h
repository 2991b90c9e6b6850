/*
 * image-write.h - a stored disk's content into a new image, in any format of QEMU's
 *
 *   repository ─▶ source ─▶ copy ─┬─▶ NBD ─▶ qemu-nbd ─▶ image
 *                                 └─▶ raw image
 *
 * Private to restore/. Only what is not zero is sent.
 */
#pragma once

#include "host/image.h"
#include "stream/copy.h"
#include "stream/source.h"

#include <gio/gio.h>

typedef struct {
    const char *path;           /* the image: it is there, and as large as the source */
    const char *format;
    const char *socket;         /* where to serve it meanwhile: see KvssImageServerOptions */
    const char *export_name;
    bool keeps_room;            /* zeroes written do not become holes */

    /* (nullable) The image is served, if it is at all, from here on until image_write() returns. False: do not go on. */
    bool (*serving)(const KvssImageServer *server, gpointer data, GError **error);
    KvssCopyProgress progress;  /* (nullable) */
    gpointer data;              /* of both */
    GCancellable *cancellable;  /* (nullable) */
} ImageWrite;

/** True: the image has everything, and it survives a crash. Its folder was not synced. */
bool image_write(const ImageWrite *image, KvssSource *source, KvssCopyStats *out_stats,
                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
