/*
 * nbd-source.c - a disk that an NBD server offers, as a source
 */
#include "host/nbd-source.h"
#include "host/nbd-client.h"
#include "stream/source.h"

#include <string.h>

#define REQUEST_LENGTH (256u * 1024)
#define REQUESTS_IN_FLIGHT 4
#define MAP_STEP (G_GUINT64_CONSTANT(1) << 30)
#define FLAG_ZERO 2u /* base:allocation: reads as zeroes. The hole flag says nothing of that. */

typedef struct {
    KvssSource source;
    KvssNbdClient *client;
} NbdSource;

/** Where the answer to one map request goes. */
typedef struct {
    GArray *extents;
    uint64_t next, end; /* the range asked for, from what is still unknown */
    bool is_wrong;      /* the server's answer makes no sense */
} MapAnswer;

static int
take_map(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n_entries,
         int *error)
{
    MapAnswer *answer = data;

    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        return 0;
    if (offset != answer->next)
        answer->is_wrong = true;
    for (size_t i = 0; i + 1 < n_entries && answer->next < answer->end; i += 2) {
        KvssExtent extent = {
            .offset = answer->next,
            .length = MIN(entries[i], answer->end - answer->next),
            .zero = entries[i + 1] & FLAG_ZERO,
        };

        if (extent.length == 0) {
            answer->is_wrong = true;
            return 0;
        }
        g_array_append_val(answer->extents, extent);
        answer->next += extent.length;
    }
    return 0;
}

static bool
export_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
            GError **error)
{
    NbdSource *self = (NbdSource *) source;
    KvssNbdClient *client = self->client;
    MapAnswer answer = { out_extents, offset, offset + MIN(length, MAP_STEP), false };
    nbd_extent_callback on_extent = { .callback = take_map, .user_data = &answer };
    int64_t cookie;

    if (!client->has_map) {
        KvssExtent all = { offset, length, false };

        g_array_append_val(out_extents, all);
        return true;
    }
    if (!kvss_nbd_client_check(client, error))
        return false;
    cookie = nbd_aio_block_status(client->nbd, answer.end - offset, offset, on_extent,
                                  kvss_nbd_client_completion(client), 0);
    if (!kvss_nbd_client_sent(client, cookie, error)
        || !kvss_nbd_client_wait(client, 0, KVSS_NBD_SILENCE_MS, error))
        return false;
    if (answer.is_wrong || answer.next == offset)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "NBD export '%s': the server's map at byte %" G_GUINT64_FORMAT
                          " makes no sense",
                          client->export_name, offset);
    return true;
}

static bool
export_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    NbdSource *self = (NbdSource *) source;
    KvssNbdClient *client = self->client;
    uint8_t *to = buffer;

    if (!kvss_nbd_client_check(client, error))
        return false;
    while (length > 0) {
        size_t n = MIN(length, REQUEST_LENGTH);
        int64_t cookie;

        if (!kvss_nbd_client_wait(client, REQUESTS_IN_FLIGHT - 1, KVSS_NBD_SILENCE_MS, error))
            return false;
        cookie = nbd_aio_pread(client->nbd, to, n, offset, kvss_nbd_client_completion(client), 0);
        if (!kvss_nbd_client_sent(client, cookie, error))
            return false;
        to += n;
        offset += n;
        length -= n;
    }
    return kvss_nbd_client_wait(client, 0, KVSS_NBD_SILENCE_MS, error);
}

static void
export_free(KvssSource *source)
{
    NbdSource *self = (NbdSource *) source;

    kvss_nbd_client_free(self->client);
    g_free(self);
}

static const KvssSourceOps export_ops = {
    .extents = export_extents,
    .read = export_read,
    .free = export_free,
};

KvssSource *
kvss_nbd_source_new(const char *socket, const char *export_name, GError **error)
{
    KvssNbdClient *client = kvss_nbd_client_new(socket, export_name, true, error);
    NbdSource *self;

    if (!client)
        return NULL;
    self = g_new0(NbdSource, 1);
    self->source.ops = &export_ops;
    self->source.size = client->size;
    self->source.is_parallel = false;
    self->client = client;
    return &self->source;
}

bool
kvss_nbd_source_check_server(KvssSource *source, GError **error)
{
    return kvss_nbd_client_check_server(((NbdSource *) source)->client, error);
}

pid_t
kvss_nbd_source_server(KvssSource *source)
{
    return kvss_nbd_client_server(((NbdSource *) source)->client);
}
