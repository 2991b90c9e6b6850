/*
 * nbd-client.h - one connection to an NBD server on a Unix socket
 *
 * What the NBD source, the NBD sink and the image server share. Several requests
 * may be in flight; all of them are waited for together. A server that is silent
 * for too long, or goes away, ends the connection for good: nothing is retried.
 * Threads: one at a time.
 */
#pragma once

#include "host/error.h"

#include <libnbd.h>
#include <sys/types.h>

/** A server that says nothing for so long while we wait for it is given up. */
#define KVSS_NBD_SILENCE_MS 60000u

typedef struct {
    struct nbd_handle *nbd;  /* NULL once given up */
    char *socket, *export_name;
    uint64_t size;           /* bytes */
    bool has_map;            /* base:allocation is there */
    char *changes;           /* (nullable) the context of the dirty bitmap asked for */

    unsigned in_flight;
    int request_error;       /* errno of the first request that failed; 0 */
} KvssNbdClient;

/**
 * kvss_nbd_client_new:
 * @wants_map: ask for base:allocation
 * @bitmap: (nullable) ask for this dirty bitmap of QEMU's
 *
 * Connects and negotiates. Errors: KVSS_HOST_ERROR with the socket and the reason;
 * NOT_FOUND when the server does not export @bitmap.
 */
KvssNbdClient *kvss_nbd_client_new(const char *socket, const char *export_name, bool wants_map,
                                   const char *bitmap, GError **error);

/** Says goodbye to the server and frees; bounded. Accepts NULL. */
void kvss_nbd_client_free(KvssNbdClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssNbdClient, kvss_nbd_client_free)

/** False with an error once the connection was given up. Before each batch of requests. */
bool kvss_nbd_client_check(const KvssNbdClient *client, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** With no request in flight: is the server still there? An error otherwise. Does not wait for it. */
bool kvss_nbd_client_check_server(KvssNbdClient *client, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The process that listens at the other end; 0 when the system does not tell. */
pid_t kvss_nbd_client_server(KvssNbdClient *client);

/** For each request to be sent: counts it, and tells us of its end. */
nbd_completion_callback kvss_nbd_client_completion(KvssNbdClient *client);

/**
 * kvss_nbd_client_sent:
 * @cookie: what the nbd_aio_ call returned
 *
 * After each nbd_aio_ call. On false the connection was given up: the buffers of
 * requests in flight are free again.
 */
bool kvss_nbd_client_sent(KvssNbdClient *client, int64_t cookie, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_nbd_client_wait:
 * @at_most: returns when no more requests than that are in flight
 * @silence_ms: how long the server may be silent
 *
 * A request that failed is an error too: KVSS_IO_ERROR after the server's errno.
 * After an error no request is in flight.
 */
bool kvss_nbd_client_wait(KvssNbdClient *client, unsigned at_most, unsigned silence_ms,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
