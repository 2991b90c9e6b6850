/*
 * undo-log.c - what a disk held before it was written over in place
 *
 * Records begin at multiples of their header's length, so that after damage the next
 * whole one can be looked for.
 */
#include "guardian/undo-log.h"
#include "base/fd.h"
#include "stream/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT 512u
#define SUM_LENGTH 32u
#define VERSION 1u

enum { KIND_DISK = 1, KIND_RECORD = 2 };

/** On disk; numbers little-endian. */
typedef struct {
    char magic[8];
    uint32_t version, kind;
    char run[40];            /* zero-filled */
    uint64_t offset, length; /* of the disk; in the header of all: 0, its size */
    uint64_t payload;        /* bytes that follow, rounded up to units; 0: zeroes */
    uint64_t synced;         /* how much of the log was on disk before this record */
    uint8_t payload_sum[SUM_LENGTH];
    uint8_t unused[UNIT - 88 - 2 * SUM_LENGTH];
    uint8_t sum[SUM_LENGTH]; /* of all before it */
} Header;

G_STATIC_ASSERT(sizeof(Header) == UNIT);

static const char magic[8] = { 'K', 'V', 'S', 'S', 'U', 'N', 'D', 'O' };

struct KvssUndoLog {
    int fd;
    char *path, *run_id;
    uint64_t disk_size;
    uint64_t length, synced;
};

static void
sum_of(const void *bytes, size_t length, uint8_t out[SUM_LENGTH])
{
    unsigned n = SUM_LENGTH;

    if (EVP_Digest(bytes, length, out, &n, EVP_sha256(), NULL) != 1 || n != SUM_LENGTH)
        g_error("SHA-256 is not to be had");
}

static uint64_t
in_units(uint64_t length)
{
    return (length + UNIT - 1) / UNIT * UNIT;
}

/* ---- writing ---- */

static void
header_fill(Header *header, const char *run_id, unsigned kind, uint64_t offset, uint64_t length)
{
    memset(header, 0, sizeof *header);
    memcpy(header->magic, magic, sizeof magic);
    header->version = GUINT32_TO_LE(VERSION);
    header->kind = GUINT32_TO_LE(kind);
    g_strlcpy(header->run, run_id, sizeof header->run);
    header->offset = GUINT64_TO_LE(offset);
    header->length = GUINT64_TO_LE(length);
}

static bool
log_append(KvssUndoLog *log, Header *header, const void *payload, size_t length, GError **error)
{
    header->payload = GUINT64_TO_LE(length);
    header->synced = GUINT64_TO_LE(log->synced);
    sum_of(payload ? payload : "", length, header->payload_sum);
    sum_of(header, G_STRUCT_OFFSET(Header, sum), header->sum);
    if (!kvss_pwrite_exact(log->fd, header, sizeof *header, log->length, error)
        || (length > 0
            && !kvss_pwrite_exact(log->fd, payload, length, log->length + sizeof *header, error))) {
        g_prefix_error(error, "roll-back log %s: ", log->path);
        return false;
    }
    log->length += sizeof *header + in_units(length);
    return true;
}

static bool
log_begin(KvssUndoLog *log, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(log->path);
    Header header;

    header_fill(&header, log->run_id, KIND_DISK, 0, log->disk_size);
    return log_append(log, &header, NULL, 0, error) && kvss_undo_log_sync(log, error)
        && kvss_fsync_folder(folder, error);
}

KvssUndoLog *
kvss_undo_log_create(const char *path, const char *run_id, uint64_t disk_size, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    KvssUndoLog *log;

    if (fd < 0) {
        kvss_throw_errno(error, errno, "create roll-back log %s", path);
        return NULL;
    }
    log = g_new0(KvssUndoLog, 1);
    log->fd = fd;
    log->path = g_strdup(path);
    log->run_id = g_strdup(run_id);
    log->disk_size = disk_size;
    if (log_begin(log, error))
        return log;
    kvss_undo_log_free(log);
    return NULL;
}

bool
kvss_undo_log_add(KvssUndoLog *log, uint64_t offset, const void *old, uint64_t length,
                  GError **error)
{
    const uint8_t *at = old;

    g_assert(offset <= log->disk_size && length <= log->disk_size - offset);
    while (length > 0) {
        uint64_t n = old ? MIN(length, KVSS_UNDO_LOG_RECORD_MAX) : length;
        Header header;

        header_fill(&header, log->run_id, KIND_RECORD, offset, n);
        if (!log_append(log, &header, at, old ? n : 0, error))
            return false;
        at = old ? at + n : NULL;
        offset += n;
        length -= n;
    }
    return true;
}

bool
kvss_undo_log_sync(KvssUndoLog *log, GError **error)
{
    if (fdatasync(log->fd) < 0)
        return kvss_throw_errno(error, errno, "sync roll-back log %s", log->path);
    log->synced = log->length;
    return true;
}

uint64_t
kvss_undo_log_length(const KvssUndoLog *log)
{
    return log->length;
}

void
kvss_undo_log_free(KvssUndoLog *log)
{
    if (!log)
        return;
    kvss_fd_clear(&log->fd);
    g_free(log->path);
    g_free(log->run_id);
    g_free(log);
}

uint64_t
kvss_undo_log_bytes(uint64_t data, uint64_t records)
{
    /* The end of a disk is the only payload that fills no whole unit. */
    return in_units(data) + (records + data / KVSS_UNDO_LOG_RECORD_MAX + 2) * sizeof(Header);
}

/* ---- writing back ---- */

typedef struct {
    int fd;
    const char *path, *run_id;
    uint64_t length;    /* of the file */
    KvssSink *sink;
    uint8_t *payload;
    uint64_t torn_at;   /* where the first record was that is not whole */
    bool is_damaged;
} Replay;

static bool
fits(const KvssSink *sink, uint64_t offset, uint64_t length)
{
    return offset <= sink->size && length <= sink->size - offset && offset % sink->block == 0
        && (length % sink->block == 0 || offset + length == sink->size);
}

/* Whole, of this run, and about this disk; anything else is no header. */
static bool
header_read(const Replay *replay, uint64_t at, Header *header)
{
    uint8_t sum[SUM_LENGTH];
    char run[sizeof header->run] = "";

    if (replay->length < sizeof *header || at > replay->length - sizeof *header
        || !kvss_pread_exact(replay->fd, header, sizeof *header, at, NULL))
        return false;
    g_strlcpy(run, replay->run_id, sizeof run);
    sum_of(header, G_STRUCT_OFFSET(Header, sum), sum);
    if (memcmp(sum, header->sum, sizeof sum) != 0 || memcmp(header->magic, magic, sizeof magic) != 0
        || memcmp(run, header->run, sizeof run) != 0)
        return false;
    header->version = GUINT32_FROM_LE(header->version);
    header->kind = GUINT32_FROM_LE(header->kind);
    header->offset = GUINT64_FROM_LE(header->offset);
    header->length = GUINT64_FROM_LE(header->length);
    header->payload = GUINT64_FROM_LE(header->payload);
    header->synced = GUINT64_FROM_LE(header->synced);
    return header->version == VERSION && fits(replay->sink, header->offset, header->length);
}

static bool
record_read(const Replay *replay, uint64_t at, Header *header)
{
    uint8_t sum[SUM_LENGTH];

    if (!header_read(replay, at, header)
        || (header->payload > 0
            && (header->payload > KVSS_UNDO_LOG_RECORD_MAX || header->payload != header->length))
        || !kvss_pread_exact(replay->fd, replay->payload, header->payload, at + sizeof *header,
                             NULL))
        return false;
    sum_of(replay->payload, header->payload, sum);
    return memcmp(sum, header->payload_sum, sizeof sum) == 0;
}

static bool
record_write_back(const Replay *replay, const Header *header, GError **error)
{
    if (header->kind != KIND_RECORD)
        return true;
    if (header->payload == 0)
        return kvss_sink_zero(replay->sink, header->offset, header->length, error);
    return kvss_sink_write(replay->sink, header->offset, replay->payload, header->length, error);
}

/*
 * Behind one that is not whole the next is looked for, unit by unit. One that says that
 * the log had been synced beyond it proves that it was whole once.
 */
static bool
replay_all(Replay *replay, GError **error)
{
    for (uint64_t at = 0; at < replay->length;) {
        Header header;

        if (!record_read(replay, at, &header)) {
            replay->torn_at = MIN(replay->torn_at, at);
            at += UNIT;
            continue;
        }
        replay->is_damaged |= header.synced > replay->torn_at;
        if (!record_write_back(replay, &header, error))
            return false;
        at += sizeof header + in_units(header.payload);
    }
    return !replay->is_damaged
        || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "roll-back log %s is damaged: not all of the old content could be written "
                      "back", replay->path);
}

bool
kvss_undo_log_replay(const char *path, const char *run_id, KvssSink *sink, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    g_autofree uint8_t *payload = g_malloc(KVSS_UNDO_LOG_RECORD_MAX);
    Replay replay = { fd, path, run_id, 0, sink, payload, UINT64_MAX, false };
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return kvss_throw_errno(error, errno, "open roll-back log %s", path);
    replay.length = (uint64_t) st.st_size;
    return replay_all(&replay, error);
}
