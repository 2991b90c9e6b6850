/*
 * socket.h - a Unix socket to listen on, at a place where one may lie already
 *
 * It gets its name when it listens, with mode 0600 before. A socket that nobody
 * listens on any more is replaced; one that somebody does, and anything that is no
 * socket, is left alone.
 */
#pragma once

#include "base/error.h"

typedef struct KvssSocket KvssSocket;

/**
 * kvss_socket_listen:
 * @path: absolute; its folder exists
 *
 * Errors: KVSS_IO_ERROR: BUSY (somebody serves there; a file is there), NOT_FOUND (no such
 * folder), FAILED.
 */
KvssSocket *kvss_socket_listen(const char *path, GError **error);

/** Open as long as it was not closed: to hand over. Borrowed. */
int kvss_socket_fd(const KvssSocket *socket);

/** From here on only those listen who were given it. */
void kvss_socket_close(KvssSocket *socket);

/** Removes the name, if it is still this socket's, and frees. Accepts NULL. */
void kvss_socket_free(KvssSocket *socket);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSocket, kvss_socket_free)
