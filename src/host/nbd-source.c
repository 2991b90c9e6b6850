/*
 * nbd-source.c - a disk that an NBD server offers, as a source
 */
#include "host/nbd-source.h"
#include "host/nbd-map.h"
#include "stream/source.h"

#define REQUEST_LENGTH (256u * 1024)
#define REQUESTS_IN_FLIGHT 4

typedef struct {
    KvssSource source;
    KvssNbdClient *client;
} NbdSource;

static bool
export_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
               GError **error)
{
    return kvss_nbd_map(((NbdSource *) source)->client, offset, length, out_extents, error);
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
    return kvss_nbd_source_new_with_changes(socket, export_name, NULL, error);
}

KvssSource *
kvss_nbd_source_new_with_changes(const char *socket, const char *export_name, const char *bitmap,
                                 GError **error)
{
    KvssNbdClient *client = kvss_nbd_client_new(socket, export_name, true, bitmap, error);
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
