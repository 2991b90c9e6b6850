/*
 * rewrite.c - a disk is written over where it is, batch by batch, its old content logged first
 *
 *   batch:  new ◀─ repository    old ◀─ disk    differing grains: old ─▶ log, sync, new ─▶ disk
 *
 * The comparison told where to look, by whole chunks; each batch looks once more, by
 * grains, at what it has in its hands.
 */
#include "restore/in-place.h"
#include "base/fd.h"
#include "base/test-point.h"
#include "guardian/place.h"
#include "guardian/undo-log.h"
#include "host/device-sink.h"
#include "host/image.h"
#include "host/nbd-sink.h"
#include "host/nbd-source.h"
#include "restore/compare.h"
#include "stream/sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Old and new content of a batch are in memory together; each batch costs a sync of the log. */
#define BATCH_LENGTH (16u * 1024 * 1024)
#define SLICE_LENGTH (1024u * 1024)
#define READERS_MAX 8

/* ---- a batch ---- */

typedef struct {
    uint64_t offset, length; /* of the disk; whole grains but at its end */
    size_t at;               /* in the batch's memory */
} Piece;

typedef struct {
    Work *work;
    const Difference *difference;
    KvssSource *stored, *old;
    KvssSink *sink;
    KvssUndoLog *log;        /* (nullable) */
    uint8_t *now, *before;   /* BATCH_LENGTH each: new and old content */
    GArray *pieces;          /* Piece */
    size_t length;           /* bytes of the batch */
    uint64_t next;           /* first byte of the disk that no batch had */
    uint64_t written;
} Rewrite;

static bool
batch_gather(Rewrite *rewrite)
{
    Piece piece = { 0 };

    g_array_set_size(rewrite->pieces, 0);
    rewrite->length = 0;
    while (BATCH_LENGTH - rewrite->length >= KVSS_GRAIN_LENGTH
           && difference_next(rewrite->difference, rewrite->next, BATCH_LENGTH - rewrite->length,
                              &piece.offset, &piece.length)) {
        piece.at = rewrite->length;
        g_array_append_val(rewrite->pieces, piece);
        rewrite->length += piece.length;
        rewrite->next = piece.offset + piece.length;
    }
    return rewrite->length > 0;
}

/** New content is unpacked by several threads; each takes the next slice. */
typedef struct {
    const Rewrite *rewrite;
    GMutex lock; /* guards what follows */
    guint piece;
    uint64_t slice;
    GError *error;
} Fetch;

static bool
fetch_take(Fetch *fetch, Piece *out)
{
    bool found = false;

    g_mutex_lock(&fetch->lock);
    while (!fetch->error && !found && fetch->piece < fetch->rewrite->pieces->len) {
        const Piece *piece = &g_array_index(fetch->rewrite->pieces, Piece, fetch->piece);
        /* To the next multiple: slices begin where chunks do. */
        uint64_t from = piece->offset + fetch->slice;
        uint64_t end = MIN((from / SLICE_LENGTH + 1) * SLICE_LENGTH, piece->offset + piece->length);

        if (from >= piece->offset + piece->length) {
            fetch->piece++;
            fetch->slice = 0;
            continue;
        }
        *out = (Piece){ from, end - from, piece->at + fetch->slice };
        fetch->slice += end - from;
        found = true;
    }
    g_mutex_unlock(&fetch->lock);
    return found;
}

static gpointer
fetch_worker(gpointer data)
{
    Fetch *fetch = data;
    Piece slice;

    while (fetch_take(fetch, &slice)) {
        GError *error = NULL;

        if (kvss_source_read(fetch->rewrite->stored, slice.offset, fetch->rewrite->now + slice.at,
                             slice.length, &error))
            continue;
        g_mutex_lock(&fetch->lock);
        if (!fetch->error)
            fetch->error = g_steal_pointer(&error);
        g_mutex_unlock(&fetch->lock);
        g_clear_error(&error);
    }
    return NULL;
}

static bool
read_before(Rewrite *rewrite, GError **error)
{
    for (guint i = 0; i < rewrite->pieces->len; i++) {
        const Piece *piece = &g_array_index(rewrite->pieces, Piece, i);

        if (!kvss_source_read(rewrite->old, piece->offset, rewrite->before + piece->at,
                              piece->length, error))
            return false;
    }
    return true;
}

/* The disk is read here meanwhile. */
static bool
batch_read(Rewrite *rewrite, GError **error)
{
    guint n = MIN(g_get_num_processors(), READERS_MAX);
    Fetch fetch = { .rewrite = rewrite };
    GThread *threads[READERS_MAX];
    bool ok;

    g_mutex_init(&fetch.lock);
    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_new("fetch", fetch_worker, &fetch);
    ok = read_before(rewrite, error);
    for (guint i = 0; i < n; i++)
        g_thread_join(threads[i]);
    g_mutex_clear(&fetch.lock);
    if (!fetch.error)
        return ok;
    if (ok)
        g_propagate_error(error, fetch.error);
    else
        g_error_free(fetch.error);
    return false;
}

/** What is done with one run of grains that differ. */
typedef bool (*RunFunc)(Rewrite *rewrite, uint64_t offset, size_t at, size_t length,
                        GError **error);

static size_t
grain_at(const Piece *piece, size_t at)
{
    return MIN(KVSS_GRAIN_LENGTH, piece->length - at);
}

static bool
grain_differs(const Rewrite *rewrite, const Piece *piece, size_t at)
{
    return memcmp(rewrite->now + piece->at + at, rewrite->before + piece->at + at,
                  grain_at(piece, at)) != 0;
}

static bool
each_run(Rewrite *rewrite, RunFunc func, GError **error)
{
    for (guint i = 0; i < rewrite->pieces->len; i++) {
        const Piece *piece = &g_array_index(rewrite->pieces, Piece, i);

        for (size_t at = 0; at < piece->length;) {
            size_t from = at;

            while (at < piece->length && grain_differs(rewrite, piece, at))
                at += grain_at(piece, at);
            if (at > from
                && !func(rewrite, piece->offset + from, piece->at + from, at - from, error))
                return false;
            if (at == from)
                at += grain_at(piece, at);
        }
    }
    return true;
}

/* Zeroes cost the log nothing: grains that are zero and those that are not go apart. */
static bool
run_log(Rewrite *rewrite, uint64_t offset, size_t at, size_t length, GError **error)
{
    const uint8_t *before = rewrite->before + at;

    while (length > 0) {
        bool zero;
        size_t n = kvss_sink_run(before, length, KVSS_GRAIN_LENGTH, &zero);

        if (!kvss_undo_log_add(rewrite->log, offset, zero ? NULL : before, n, error))
            return false;
        before += n;
        offset += n;
        length -= n;
    }
    return true;
}

static bool
run_write(Rewrite *rewrite, uint64_t offset, size_t at, size_t length, GError **error)
{
    rewrite->written += length;
    return kvss_sink_write(rewrite->sink, offset, rewrite->now + at, length, error);
}

static bool
batch_write(Rewrite *rewrite, GError **error)
{
    return batch_read(rewrite, error)
        && (!rewrite->log
            || (each_run(rewrite, run_log, error) && kvss_undo_log_sync(rewrite->log, error)))
        && each_run(rewrite, run_write, error);
}

static bool
rewrite_run(Rewrite *rewrite, GError **error)
{
    Work *work = rewrite->work;

    rewrite->now = g_malloc(BATCH_LENGTH);
    rewrite->before = g_malloc(BATCH_LENGTH);
    rewrite->pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    while (batch_gather(rewrite)) {
        if (!kvss_check_cancelled(work->plan->options->cancellable, error)
            || !batch_write(rewrite, error))
            return false;
        work_tell_progress(rewrite->next, rewrite->old->size, work);
        kvss_test_point("restore-in-place");
    }
    work_result(work)->bytes_written = rewrite->written;
    return kvss_sink_finish(rewrite->sink, error);
}

static void
rewrite_clear(Rewrite *rewrite)
{
    g_free(rewrite->now);
    g_free(rewrite->before);
    g_clear_pointer(&rewrite->pieces, g_array_unref);
    kvss_source_free(rewrite->stored);
    kvss_source_free(rewrite->old);
    kvss_sink_free(rewrite->sink);
    kvss_undo_log_free(rewrite->log);
}

/* ---- one disk ---- */

static bool
rewrite_open(Rewrite *rewrite, const PlanDisk *disk, GError **error)
{
    Work *work = rewrite->work;
    const KvssRestoreOptions *options = work->plan->options;
    const InPlace *in_place = disk->in_place;

    rewrite->difference = in_place->difference;
    rewrite->stored = kvss_backup_open_disk(options->repository, options->backup, work->vm->vm,
                                            disk->stored, error);
    if (!rewrite->stored || !in_place->log)
        return rewrite->stored != NULL;
    rewrite->log = kvss_undo_log_create(in_place->log, work->plan->id, disk->disk->size, error);
    return rewrite->log != NULL;
}

static bool
device_rewrite(Rewrite *rewrite, const PlanDisk *disk, GError **error)
{
    rewrite->old = in_place_device_source(disk, error);
    if (rewrite->old)
        rewrite->sink = kvss_device_sink_new(disk->real, disk->disk->size, error);
    return rewrite->sink && in_place_check_size(disk, rewrite->old, error) && rewrite_run(rewrite, error);
}

static bool
served_rewrite(Rewrite *rewrite, const PlanDisk *disk, KvssImageServer *server, GError **error)
{
    const char *socket = kvss_image_server_socket(server);
    bool ok;

    rewrite->old = kvss_nbd_source_new(socket, disk->disk->target, error);
    if (rewrite->old)
        rewrite->sink = kvss_nbd_sink_new(socket, disk->disk->target, disk->disk->size, false,
                                          error);
    ok = rewrite->sink && in_place_check_size(disk, rewrite->old, error) && rewrite_run(rewrite, error);
    /* The server ends with its last connection. */
    g_clear_pointer(&rewrite->old, kvss_source_free);
    g_clear_pointer(&rewrite->sink, kvss_sink_free);
    return ok && kvss_image_server_finish(server, error);
}

static bool
image_rewrite(Rewrite *rewrite, const PlanDisk *disk, GError **error)
{
    Work *work = rewrite->work;
    g_autofree char *socket = g_build_filename(kvss_run_folder(work->run), "in-place.sock", NULL);
    KvssImageServerOptions options = {
        .path = disk->in_place->parked ? disk->in_place->parked : disk->real,
        .format = disk->disk->format,
        .socket = socket,
        .export_name = disk->disk->target,
        .is_writable = true,
        /* The way back may need the room again: it is not given away. */
        .keeps_room = disk->keeps_room || disk->in_place->log,
    };
    KvssImageServer *server = kvss_image_server_start(&options, error);
    bool ok;

    work->server = 0;
    ok = server && work_journal_server(server, work, error)
        && served_rewrite(rewrite, disk, server, error);
    kvss_image_server_free(server);
    if (work->server)
        kvss_run_act_end(work->run, work->server);
    return ok;
}

static bool
rewrite_journal(Work *work, const PlanDisk *disk, GError **error)
{
    const InPlace *in_place = disk->in_place;
    g_autofree char *folder = g_path_get_dirname(kvss_run_folder(work->run));
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "uuid", work->vm->component->name);
    json_object_set_string_member(details, "path", disk->real);
    json_object_set_string_member(details, "parked", in_place->parked ? in_place->parked : "");
    json_object_set_string_member(details, "log", in_place->log);
    json_object_set_int_member(details, "place", kvss_place_number(disk->real));
    json_object_set_int_member(details, "log-place", kvss_place_number(in_place->log));
    json_object_set_string_member(details, "run", work->plan->id);
    json_object_set_string_member(details, "kind", disk->is_block ? "block" : "file");
    json_object_set_string_member(details, "format", disk->disk->format);
    json_object_set_int_member(details, "size", (gint64) disk->disk->size);
    json_object_set_boolean_member(details, "keeps-room", disk->keeps_room);
    json_object_set_string_member(details, "folder", folder);
    return kvss_run_act_begin(work->run, KVSS_ACT_REWRITE, details, error) != 0;
}

/* Nobody's file is in the way: the name has the run's id, and the undo knows this one. */
static bool
move(const char *from, const char *to, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(from);
    struct stat st;

    if (lstat(to, &st) == 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY, "%s exists already", to);
    if (rename(from, to) < 0)
        return kvss_throw_errno(error, errno, "rename %s to %s", from, to);
    return kvss_fsync_folder(folder, error);
}

bool
in_place_write(Work *work, const PlanDisk *disk, GError **error)
{
    const InPlace *in_place = disk->in_place;
    Rewrite rewrite = { .work = work };
    bool ok = (!in_place->log || rewrite_journal(work, disk, error))
        && (!in_place->parked || move(disk->real, in_place->parked, error))
        && rewrite_open(&rewrite, disk, error)
        && (disk->is_block ? device_rewrite(&rewrite, disk, error)
                           : image_rewrite(&rewrite, disk, error));

    if (!ok && !in_place->log && rewrite.written > 0)
        g_prefix_error(error, "it is half old and half new, without a way back, restore it once "
                              "more: ");
    rewrite_clear(&rewrite);
    work->done_before += disk->disk->size;
    /* Of a VM that stays registered it comes to its place when all is done (guardian/acts-rewrite.h). */
    return ok
        && (!in_place->parked || work->plan->options->disks || move(in_place->parked, disk->real, error));
}
