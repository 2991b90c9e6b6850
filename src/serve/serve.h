/*
 * serve.h - stored disks as read-only NBD exports on a Unix socket
 *
 *   NBD clients ─▶ socket ─▶ nbdkit ─▶ our plugin ─▶ cache ─▶ source ─▶ repository
 *
 * nbdkit is a process of its own that ends with this one. It has the repository open, with
 * restic's shared lock: nothing that is served is pruned meanwhile.
 */
#pragma once

#include "../base/error.h"

#include <gio/gio.h>

G_BEGIN_DECLS

/** One disk that is served. */
typedef struct {
    char *name;          /* of the export: "web/vda" */
    char *uri;           /* "nbd+unix:///web/vda?socket=..." */
    char *vm, *uuid, *target;
    uint64_t size;       /* bytes */
} KvssServedDisk;

/** What a reader could not be given. */
typedef struct {
    const char *name;    /* of the export */
    const char *vm, *target;
    uint64_t offset;     /* bytes, of the piece that is damaged */
    const char *message;
} KvssServeDamage;

/** What is asked. Everything is borrowed until the end. */
typedef struct {
    const char *location, *password;     /* of the repository */
    const char *state_dir, *cache_dir;   /* as for kvss_repository_open() */
    const char *backup;                  /* as for kvss_catalogue_find() */
    const char *vm, *target;             /* (nullable) this VM only, this disk only */
    const char *socket;                  /* absolute, under 108 characters */

    /* Clients are served from here on. (element-type KvssServedDisk) */
    void (*ready)(const char *backup_id, const GPtrArray *disks, gpointer data);
    /* (nullable) A reader got an I/O error. The server goes on. Once for each piece. */
    void (*damage)(const KvssServeDamage *damage, gpointer data);
    gpointer data;
    GCancellable *cancellable;           /* ends it */
} KvssServeOptions;

typedef struct {
    uint64_t bytes_read;  /* that clients were given */
    uint64_t damaged;     /* pieces that they could not be given */
} KvssServeResult;

/**
 * kvss_serve_run:
 *
 * Serves until cancelled. The socket has mode 0600, and is gone afterwards; one of a server that has
 * ended is replaced, a file that is none of ours is not.
 * True: it served until it was cancelled.
 *
 * Errors: BUSY (the socket's place is taken); those of the repository and the catalogue;
 * KVSS_HOST_ERROR: UNSUPPORTED (nbdkit is not installed), FAILED (it has ended).
 */
bool kvss_serve_run(const KvssServeOptions *options, KvssServeResult *out_result, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
