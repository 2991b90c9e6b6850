/*
 * nbd-client.c - one connection to an NBD server on a Unix socket
 *
 * Only the asynchronous half of libnbd is used: its blocking calls wait for ever
 * on a server that stands still.
 */
#include "host/nbd-client.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define GOODBYE_MS 5000
#define BITMAP_CONTEXT "qemu:dirty-bitmap:"

/* Requests in flight are dropped with the connection; their buffers are free then. */
static void
client_give_up(KvssNbdClient *client)
{
    nbd_close(client->nbd);
    client->nbd = NULL;
    client->in_flight = 0;
}

/* Waits for one event. False: the connection was given up. */
static bool
client_poll(KvssNbdClient *client, unsigned silence_ms, GError **error)
{
    int result = nbd_poll(client->nbd, (int) silence_ms);

    if (result > 0)
        return true;
    if (result == 0)
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                   "NBD export '%s': the server has not answered for %u s", client->export_name,
                   silence_ms / 1000);
    else
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                   "NBD export '%s': the connection broke: %s", client->export_name,
                   nbd_get_error());
    client_give_up(client);
    return false;
}

static bool
client_throw_lost(KvssNbdClient *client, GError **error)
{
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
               "NBD export '%s': the server is gone (its VM, or the program that served it, ended)",
               client->export_name);
    if (client->nbd)
        client_give_up(client);
    return false;
}

static bool
client_is_lost(const KvssNbdClient *client)
{
    return nbd_aio_is_dead(client->nbd) != 0 || nbd_aio_is_closed(client->nbd) != 0;
}

static bool
client_throw_connect(const KvssNbdClient *client, GError **error)
{
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                      "NBD export '%s' on %s: %s", client->export_name, client->socket,
                      nbd_get_error());
}

static bool
client_connect(KvssNbdClient *client, bool wants_map, GError **error)
{
    int64_t size;

    if (nbd_set_export_name(client->nbd, client->export_name) != 0
        || nbd_set_pread_initialize(client->nbd, false) != 0
        || (wants_map
            && nbd_add_meta_context(client->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        || (client->changes && nbd_add_meta_context(client->nbd, client->changes) != 0)
        || nbd_aio_connect_unix(client->nbd, client->socket) != 0)
        return client_throw_connect(client, error);

    while (nbd_aio_is_connecting(client->nbd) == 1)
        if (!client_poll(client, KVSS_NBD_SILENCE_MS, error))
            return false;
    if (nbd_aio_is_ready(client->nbd) != 1)
        return client_throw_lost(client, error);

    size = nbd_get_size(client->nbd);
    if (size < 0)
        return client_throw_connect(client, error);
    client->size = (uint64_t) size;
    client->has_map = nbd_can_meta_context(client->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    if (!client->changes || nbd_can_meta_context(client->nbd, client->changes) == 1)
        return true;
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND,
                      "NBD export '%s': the server does not offer %s", client->export_name,
                      client->changes);
}

KvssNbdClient *
kvss_nbd_client_new(const char *socket, const char *export_name, bool wants_map,
                    const char *bitmap, GError **error)
{
    g_autoptr(KvssNbdClient) client = g_new0(KvssNbdClient, 1);

    client->socket = g_strdup(socket);
    client->export_name = g_strdup(export_name);
    client->changes = bitmap ? g_strconcat(BITMAP_CONTEXT, bitmap, NULL) : NULL;
    client->nbd = nbd_create();
    if (!client->nbd) {
        client_throw_connect(client, error);
        return NULL;
    }
    if (!client_connect(client, wants_map, error))
        return NULL;
    return g_steal_pointer(&client);
}

/*
 * libnbd 1.14 looks at a command that it has freed when its goodbye cannot be
 * written: a server that has hung up is not said goodbye to.
 */
static bool
has_hung_up(KvssNbdClient *client)
{
    struct pollfd pfd = { .fd = nbd_aio_get_fd(client->nbd) };

    return pfd.fd < 0 || poll(&pfd, 1, 0) != 0;
}

/* A server that stands still must not hold us up: a few seconds, then the socket is just closed. */
static void
client_say_goodbye(KvssNbdClient *client)
{
    gint64 deadline_us = g_get_monotonic_time() + GOODBYE_MS * 1000;

    if (has_hung_up(client))
        return;
    if (nbd_aio_is_ready(client->nbd) != 1 || nbd_aio_disconnect(client->nbd, 0) != 0)
        return;
    while (!client_is_lost(client)) {
        gint64 left_us = deadline_us - g_get_monotonic_time();

        if (left_us <= 0 || nbd_poll(client->nbd, (int) (left_us / 1000 + 1)) <= 0)
            return;
    }
}

void
kvss_nbd_client_free(KvssNbdClient *client)
{
    if (!client)
        return;
    if (client->nbd) {
        if (client->in_flight == 0)
            client_say_goodbye(client);
        nbd_close(client->nbd);
    }
    g_free(client->socket);
    g_free(client->changes);
    g_free(client->export_name);
    g_free(client);
}

bool
kvss_nbd_client_check(const KvssNbdClient *client, GError **error)
{
    if (client->nbd)
        return true;
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                      "NBD export '%s': the connection is lost", client->export_name);
}

bool
kvss_nbd_client_check_server(KvssNbdClient *client, GError **error)
{
    g_assert(client->in_flight == 0);
    return kvss_nbd_client_check(client, error)
        && (!has_hung_up(client) || client_throw_lost(client, error));
}

pid_t
kvss_nbd_client_server(KvssNbdClient *client)
{
    struct ucred peer = { 0 };
    socklen_t length = sizeof peer;
    int fd = client->nbd ? nbd_aio_get_fd(client->nbd) : -1;

    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return 0;
    return peer.pid;
}

static int
request_done(void *data, int *error)
{
    KvssNbdClient *client = data;

    client->in_flight--;
    if (*error != 0 && client->request_error == 0)
        client->request_error = *error;
    return 1; /* libnbd forgets the request */
}

nbd_completion_callback
kvss_nbd_client_completion(KvssNbdClient *client)
{
    client->in_flight++;
    return (nbd_completion_callback){ .callback = request_done, .user_data = client };
}

bool
kvss_nbd_client_sent(KvssNbdClient *client, int64_t cookie, GError **error)
{
    if (cookie >= 0)
        return true;
    if (client_is_lost(client))
        return client_throw_lost(client, error);
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "NBD export '%s': %s",
               client->export_name, nbd_get_error());
    client_give_up(client);
    return false;
}

bool
kvss_nbd_client_wait(KvssNbdClient *client, unsigned at_most, unsigned silence_ms, GError **error)
{
    while (client->in_flight > (client->request_error ? 0 : at_most)) {
        if (client_is_lost(client))
            return client_throw_lost(client, error);
        if (!client_poll(client, silence_ms, error))
            return false;
    }
    if (client->request_error == 0)
        return true;
    if (client_is_lost(client))
        return client_throw_lost(client, error);

    kvss_throw_errno(error, client->request_error, "NBD export '%s'", client->export_name);
    client->request_error = 0;
    return false;
}
