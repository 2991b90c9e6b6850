/*
 * nbd-sink.c - a disk that an NBD server lets us write, as a sink
 */
#include "host/nbd-sink.h"
#include "host/nbd-client.h"
#include "stream/sink.h"

#include <sys/socket.h>

#define BLOCK_LENGTH (64u * 1024)
#define REQUEST_LENGTH (2u * 1024 * 1024)
#define REQUESTS_IN_FLIGHT 8
/* Bytes that the kernel takes before the server reads them: with fewer, the two wake each other too often. */
#define SOCKET_LENGTH (4 * 1024 * 1024)
#define ZERO_STEP (G_GUINT64_CONSTANT(1) << 30)
#define SECTOR_LENGTH 512
/* The page cache of a slow disk may take minutes to go out. */
#define SILENCE_MS (15u * 60 * 1000)

/*
 * A connection each for so many threads: while one waits for what it has sent, the
 * others send. One more holds the image server (image-server.c), which takes four.
 */
#define CONNECTIONS_MAX 3

typedef struct {
    KvssSink sink;
    char *socket, *export_name;
    bool is_blank;

    GMutex lock; /* guards what follows */
    GCond given;
    KvssNbdClient *clients[CONNECTIONS_MAX]; /* made as they are wanted; the first at once */
    bool is_taken[CONNECTIONS_MAX];
} NbdSink;

/* ---- connections ---- */

/* A privileged process may have more than others; where it may not, what it has will do. */
static KvssNbdClient *
client_connect(const char *socket, const char *export_name, GError **error)
{
    KvssNbdClient *client = kvss_nbd_client_new(socket, export_name, false, NULL, error);
    int length = SOCKET_LENGTH;

    if (client)
        (void) setsockopt(nbd_aio_get_fd(client->nbd), SOL_SOCKET, SO_SNDBUFFORCE, &length,
                          sizeof length);
    return client;
}

/* One that nobody has, or -1. Called under the lock. */
static int
free_client(const NbdSink *self)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (!self->is_taken[i])
            return i;
    return -1;
}

static void
client_give(NbdSink *self, int i)
{
    g_mutex_lock(&self->lock);
    self->is_taken[i] = false;
    g_cond_signal(&self->given);
    g_mutex_unlock(&self->lock);
}

/* Its place, to be given back; -1 with an error. Waits while all are taken. */
static int
client_take(NbdSink *self, GError **error)
{
    int i;

    g_mutex_lock(&self->lock);
    while ((i = free_client(self)) < 0)
        g_cond_wait(&self->given, &self->lock);
    self->is_taken[i] = true;
    g_mutex_unlock(&self->lock);
    if (!self->clients[i])
        self->clients[i] = client_connect(self->socket, self->export_name, error);
    if (self->clients[i] && kvss_nbd_client_check(self->clients[i], error))
        return i;
    client_give(self, i);
    return -1;
}

/* ---- requests ---- */

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
send_window(const NbdSink *self, KvssNbdClient *client, uint64_t offset, const uint8_t *from,
            size_t length, GError **error)
{
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
export_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    NbdSink *self = (NbdSink *) sink;
    int i = client_take(self, error);
    bool ok;

    if (i < 0)
        return false;
    ok = send_window(self, self->clients[i], offset, buffer, length, error);
    client_give(self, i);
    return ok;
}

static bool
export_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    NbdSink *self = (NbdSink *) sink;
    bool ok;
    int i;

    if (self->is_blank)
        return true;
    i = client_take(self, error);
    if (i < 0)
        return false;
    ok = send_zero(self->clients[i], offset, length, error)
         && kvss_nbd_client_wait(self->clients[i], 0, SILENCE_MS, error);
    client_give(self, i);
    return ok;
}

static bool
client_flush(KvssNbdClient *client, GError **error)
{
    int64_t cookie;

    if (!kvss_nbd_client_check(client, error))
        return false;
    cookie = nbd_aio_flush(client->nbd, kvss_nbd_client_completion(client), 0);
    return kvss_nbd_client_sent(client, cookie, error)
           && kvss_nbd_client_wait(client, 0, SILENCE_MS, error);
}

/* Each of them: whether one answers for the others is the server's business. */
static bool
export_finish(KvssSink *sink, GError **error)
{
    NbdSink *self = (NbdSink *) sink;

    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (self->clients[i] && !client_flush(self->clients[i], error))
            return false;
    return true;
}

static void
export_free(KvssSink *sink)
{
    NbdSink *self = (NbdSink *) sink;

    for (int i = 0; i < CONNECTIONS_MAX; i++)
        kvss_nbd_client_free(self->clients[i]);
    g_cond_clear(&self->given);
    g_mutex_clear(&self->lock);
    g_free(self->export_name);
    g_free(self->socket);
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
    g_autoptr(KvssNbdClient) client = client_connect(socket, export_name, error);
    NbdSink *self;

    if (!client || !check_server(client, size, is_blank, error))
        return NULL;
    self = g_new0(NbdSink, 1);
    self->sink.ops = &export_ops;
    self->sink.size = size;
    self->sink.block = BLOCK_LENGTH;
    self->sink.is_parallel = true;
    self->socket = g_strdup(socket);
    self->export_name = g_strdup(export_name);
    self->is_blank = is_blank;
    g_mutex_init(&self->lock);
    g_cond_init(&self->given);
    self->clients[0] = g_steal_pointer(&client);
    return &self->sink;
}
