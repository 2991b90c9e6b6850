/*
 * uploads.c - packs on their way to a server
 */
#include "repository/backend/remote.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* KVSS_CONNECTIONS; each has a pack in memory. */
#define TRANSFERS 4
#define TRANSFERS_MAX 32

/* A pack grows by so much: its pages are moved, never copied, and given back at once. */
#define GROW_LENGTH ((size_t) 1 << 20)

struct KvssUploads {
    KvssBackend *backend;   /* borrowed */
    unsigned n_transfers;
    GThreadPool *pool;

    GMutex lock;            /* guards what follows */
    GCond changed;
    unsigned n_busy;        /* transfers under way or about to be */
    GError *error;          /* the first one */
};

/* Bytes of its own mapping. */
typedef struct {
    uint8_t *data;          /* NULL: none yet */
    size_t length, room;
} Memory;

typedef struct {
    KvssSpool spool;
    Memory memory;
} RemoteSpool;

typedef struct {
    KvssFileType type;
    char *name;
    Memory memory;
} Transfer;

static void
memory_free(Memory *memory)
{
    if (memory->data)
        (void) munmap(memory->data, memory->room);
    *memory = (Memory) { 0 };
}

static bool
memory_grow(Memory *memory, size_t length, GError **error)
{
    size_t room = (length + GROW_LENGTH - 1) / GROW_LENGTH * GROW_LENGTH;
    void *data;

    if (length <= memory->room)
        return true;
    data = memory->data
        ? mremap(memory->data, memory->room, room, MREMAP_MAYMOVE)
        : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return kvss_throw_errno(error, errno, "%zu bytes of memory for a pack", room);
    memory->data = data;
    memory->room = room;
    return true;
}

static bool
memory_append(Memory *memory, const void *data, size_t length, GError **error)
{
    if (!memory_grow(memory, memory->length + length, error))
        return false;
    memcpy(memory->data + memory->length, data, length);
    memory->length += length;
    return true;
}

/* ---- the transfers ---- */

static void
transfer_free(Transfer *transfer)
{
    memory_free(&transfer->memory);
    g_free(transfer->name);
    g_free(transfer);
}

/* Takes @error. */
static void
transfer_ended(KvssUploads *uploads, GError *error)
{
    g_mutex_lock(&uploads->lock);
    uploads->n_busy--;
    if (!uploads->error)
        uploads->error = g_steal_pointer(&error);
    g_cond_broadcast(&uploads->changed);
    g_mutex_unlock(&uploads->lock);
    g_clear_error(&error);
}

static bool
uploads_have_failed(KvssUploads *uploads)
{
    bool failed;

    g_mutex_lock(&uploads->lock);
    failed = uploads->error != NULL;
    g_mutex_unlock(&uploads->lock);
    return failed;
}

static void
transfer_run(gpointer data, gpointer user)
{
    Transfer *transfer = data;
    KvssUploads *uploads = user;
    KvssBackend *backend = uploads->backend;
    GError *error = NULL;

    if (!uploads_have_failed(uploads)
        && !backend->ops->put(backend, transfer->type, transfer->name, transfer->memory.data,
                              transfer->memory.length, &error))
        g_prefix_error(&error, "%s %.8s was not stored: ", kvss_file_type_name(transfer->type),
                       transfer->name);
    transfer_free(transfer);
    transfer_ended(uploads, error);
}

static unsigned
n_transfers(void)
{
    const char *text = g_getenv("KVSS_CONNECTIONS");
    guint64 n;

    return text && g_ascii_string_to_unsigned(text, 10, 1, TRANSFERS_MAX, &n, NULL) ? (unsigned) n
                                                                                    : TRANSFERS;
}

KvssUploads *
kvss_uploads_new(KvssBackend *backend)
{
    KvssUploads *uploads = g_new0(KvssUploads, 1);

    uploads->backend = backend;
    uploads->n_transfers = n_transfers();
    g_mutex_init(&uploads->lock);
    g_cond_init(&uploads->changed);
    uploads->pool = g_thread_pool_new(transfer_run, uploads, (gint) uploads->n_transfers, FALSE, NULL);
    return uploads;
}

void
kvss_uploads_free(KvssUploads *uploads)
{
    if (!uploads)
        return;
    g_thread_pool_free(uploads->pool, FALSE, TRUE);
    g_clear_error(&uploads->error);
    g_cond_clear(&uploads->changed);
    g_mutex_clear(&uploads->lock);
    g_free(uploads);
}

/* Waits until fewer than @n transfers are under way, or one has failed. Called under the lock. */
static bool
wait_for_less(KvssUploads *uploads, unsigned n, GError **error)
{
    while (uploads->n_busy >= n && !uploads->error)
        g_cond_wait(&uploads->changed, &uploads->lock);
    if (uploads->error)
        g_propagate_error(error, g_error_copy(uploads->error));
    return uploads->error == NULL;
}

/* ---- for KvssBackendOps ---- */

KvssSpool *
kvss_remote_spool_new(KvssBackend *backend, GError **error)
{
    RemoteSpool *spool = g_new0(RemoteSpool, 1);

    spool->spool.backend = backend;
    return &spool->spool;
}

bool
kvss_remote_spool_append(KvssSpool *spool, const void *data, size_t length, GError **error)
{
    return memory_append(&((RemoteSpool *) spool)->memory, data, length, error);
}

bool
kvss_remote_spool_store(KvssSpool *spool, KvssFileType type, const char *name, GError **error)
{
    KvssUploads *uploads = ((KvssRemoteBackend *) spool->backend)->uploads;
    RemoteSpool *self = (RemoteSpool *) spool;
    Transfer *transfer;
    bool ok;

    g_mutex_lock(&uploads->lock);
    ok = wait_for_less(uploads, uploads->n_transfers, error);
    if (ok)
        uploads->n_busy++;
    g_mutex_unlock(&uploads->lock);
    if (!ok)
        return false;

    transfer = g_new0(Transfer, 1);
    transfer->type = type;
    transfer->name = g_strdup(name);
    transfer->memory = self->memory;
    self->memory = (Memory) { 0 };
    g_thread_pool_push(uploads->pool, transfer, NULL);
    return true;
}

void
kvss_remote_spool_free(KvssSpool *spool)
{
    memory_free(&((RemoteSpool *) spool)->memory);
    g_free(spool);
}

bool
kvss_remote_sync(KvssBackend *backend, GError **error)
{
    KvssUploads *uploads = ((KvssRemoteBackend *) backend)->uploads;
    bool ok;

    g_mutex_lock(&uploads->lock);
    ok = wait_for_less(uploads, 1, error);
    g_mutex_unlock(&uploads->lock);
    return ok;
}
