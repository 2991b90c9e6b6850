/*
 * uploads.h - packs on their way to a server
 *
 *   spool (memory) ── store ──▶ several transfers at once ──▶ put()
 *                                                └─ sync() waits for all
 *
 * For backends of servers: a pack grows in memory, and is sent by a thread of
 * its own while the next ones are made. When all transfers are busy, storing
 * waits: memory is bounded, and so is the pace. A transfer that failed is final
 * for the object: every later store and sync gives its error.
 *
 * A KvssRemoteBackend (remote.h) names these functions in its KvssBackendOps; the
 * packs are sent by its own put().
 */
#pragma once

#include "repository/backend/backend.h"

typedef struct KvssUploads KvssUploads;

/**
 * kvss_uploads_new:
 * @backend: (borrowed) a KvssRemoteBackend; its ops->put is called in several threads
 *
 * KVSS_CONNECTIONS says how many transfers there are at once: 1 to 32, 4 when unset.
 */
KvssUploads *kvss_uploads_new(KvssBackend *backend);

/** Waits for what is under way. Accepts NULL. */
void kvss_uploads_free(KvssUploads *uploads);

/* For KvssBackendOps. */
KvssSpool *kvss_remote_spool_new(KvssBackend *backend, GError **error);
bool kvss_remote_spool_append(KvssSpool *spool, const void *data, size_t length, GError **error);
bool kvss_remote_spool_store(KvssSpool *spool, KvssFileType type, const char *name,
                             GError **error);
void kvss_remote_spool_free(KvssSpool *spool);
bool kvss_remote_sync(KvssBackend *backend, GError **error);
