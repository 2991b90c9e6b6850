/*
 * nbd-sink.c - a disk that an NBD server lets us write, as a sink
 */
#include "host/nbd-sink.h"
#include "host/nbd-client.h"
#include "stream/sink.h"

#define BLOCK_LENGTH (64u * 1024)
#define REQUEST_LENGTH (512u * 1024)
#define REQUESTS_IN_FLIGHT 8
#define ZERO_STEP (G_GUINT64_CONSTANT(1) << 30)
#define SECTOR_LENGTH 512
/* The page cache of a slow disk may take minutes to go out. */
#define SILENCE_MS (15u * 60 * 1000)

typedef struct {
    KvssSink sink;
    KvssNbdClient *client;
    bool is_blank;
} NbdSink;

/* Requests of one run of data; they may still be in flight afterwards. */
static bool
send_data(KvssNbdClient *client, uint64_t offset, const uint8_t *from, size_t length,
          GError **error)
{
    while (length > 0) {
        size_t n = MIN(length, REQUEST_LENGTH);
        int64_t cookie;

        if (!kvss_nbd_client_wait(client, REQUESTS_IN_FLIGHT - 1, SILENCE_MS, error))
            return false;
        cookie = nbd_aio_pwrite(client->nbd, from, n, offset, kvss_nbd_client_completion(client),
                                0);
        if (!kvss_nbd_client_sent(client, cookie, error))
            return false;
        from += n;
        offset += n;
        length -= n;
    }
    return true;
}

static bool
send_zero(KvssNbdClient *client, uint64_t offset, uint64_t length, GError **error)
{
    while (length > 0) {
        uint64_t n = MIN(length, ZERO_STEP);
        int64_t cookie;

        if (!kvss_nbd_client_wait(client, REQUESTS_IN_FLIGHT - 1, SILENCE_MS, error))
            return false;
        cookie = nbd_aio_zero(client->nbd, n, offset, kvss_nbd_client_completion(client), 0);
        if (!kvss_nbd_client_sent(client, cookie, error))
            return false;
        offset += n;
        length -= n;
    }
    return true;
}

/*
 * Zero blocks are looked for here: not every image format of QEMU's can turn
 * written zeroes into holes, but none writes what it is not sent.
 */
static bool
export_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    NbdSink *self = (NbdSink *) sink;
    KvssNbdClient *client = self->client;
    const uint8_t *from = buffer;

    if (!kvss_nbd_client_check(client, error))
        return false;
    while (length > 0) {
        bool zero, ok = true;
        size_t n = kvss_sink_run(from, length, BLOCK_LENGTH, &zero);

        if (!zero)
            ok = send_data(client, offset, from, n, error);
        else if (!self->is_blank)
            ok = send_zero(client, offset, n, error);
        if (!ok)
            return false;
        from += n;
        offset += n;
        length -= n;
    }
    /* The buffer is borrowed: nothing may be in flight when we return. */
    return kvss_nbd_client_wait(client, 0, SILENCE_MS, error);
}

static bool
export_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    NbdSink *self = (NbdSink *) sink;
    KvssNbdClient *client = self->client;

    if (self->is_blank)
        return true;
    return kvss_nbd_client_check(client, error) && send_zero(client, offset, length, error)
           && kvss_nbd_client_wait(client, 0, SILENCE_MS, error);
}

static bool
export_finish(KvssSink *sink, GError **error)
{
    NbdSink *self = (NbdSink *) sink;
    KvssNbdClient *client = self->client;
    int64_t cookie;

    if (!kvss_nbd_client_check(client, error))
        return false;
    cookie = nbd_aio_flush(client->nbd, kvss_nbd_client_completion(client), 0);
    return kvss_nbd_client_sent(client, cookie, error)
           && kvss_nbd_client_wait(client, 0, SILENCE_MS, error);
}

static void
export_free(KvssSink *sink)
{
    NbdSink *self = (NbdSink *) sink;

    kvss_nbd_client_free(self->client);
    g_free(self);
}

static const KvssSinkOps export_ops = {
    .write = export_write,
    .zero = export_zero,
    .finish = export_finish,
    .free = export_free,
};

/* A server that cannot flush, trim or write zeroes by itself is none of ours. */
static bool
check_server(KvssNbdClient *client, uint64_t size, bool is_blank, GError **error)
{
    if (client->size < size || client->size - size >= SECTOR_LENGTH)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "NBD export '%s' has %" G_GUINT64_FORMAT
                          " bytes, the disk has %" G_GUINT64_FORMAT,
                          client->export_name, client->size, size);
    if (nbd_is_read_only(client->nbd) != 0 || nbd_can_flush(client->nbd) != 1
        || (!is_blank && nbd_can_zero(client->nbd) != 1))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED,
                          "NBD export '%s' is read-only, or cannot flush or write zeroes",
                          client->export_name);
    return true;
}

KvssSink *
kvss_nbd_sink_new(const char *socket, const char *export_name, uint64_t size, bool is_blank,
                  GError **error)
{
    g_autoptr(KvssNbdClient) client = kvss_nbd_client_new(socket, export_name, false, error);
    NbdSink *self;

    if (!client || !check_server(client, size, is_blank, error))
        return NULL;
    self = g_new0(NbdSink, 1);
    self->sink.ops = &export_ops;
    self->sink.size = size;
    self->sink.block = BLOCK_LENGTH;
    self->sink.is_parallel = false;
    self->client = g_steal_pointer(&client);
    self->is_blank = is_blank;
    return &self->sink;
}
