/*
 * in-place.c - disks that are written over where they are, only where they differ
 *
 *   batch:  new ◀─ repository    old ◀─ disk    differing grains: old ─▶ log, sync, new ─▶ disk
 *
 * The comparison tells where to look by whole chunks; each batch looks once more, by
 * grains, at what it has in its hands.
 */
#include "restore/in-place.h"
#include "base/fd.h"
#include "base/test-point.h"
#include "catalogue/manifest.h"
#include "guardian/undo-log.h"
#include "host/device-sink.h"
#include "host/image.h"
#include "host/nbd-sink.h"
#include "host/nbd-source.h"
#include "restore/compare.h"
#include "stream/sink.h"
#include "writer/domain/restore-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Old and new content of a batch are in memory together; each batch costs a sync of the log. */
#define BATCH_LENGTH (16u * 1024 * 1024)
#define SLICE_LENGTH (1024u * 1024)
#define READERS_MAX 8
#define SECTOR_LENGTH 512

void
in_place_free(InPlace *in_place)
{
    if (!in_place)
        return;
    difference_free(in_place->difference);
    g_free(in_place->log);
    g_free(in_place->parked);
    g_free(in_place);
}

/* ---- may it be? ---- */

static const KvssDiskConfig *
old_disk(const PlanVm *vm, const KvssDomainConfig *config, const PlanDisk *disk)
{
    for (guint i = 0; config && i < config->disks->len; i++) {
        const KvssDiskConfig *old = g_ptr_array_index(config->disks, i);
        g_autofree char *real = NULL;

        if (!g_str_equal(old->target, disk->disk->target)
            || !kvss_vm_disk_goes_aside(vm->component, old))
            continue;
        real = kvss_vm_real_path(old->source);
        if (g_str_equal(real, disk->real))
            return old;
    }
    return NULL;
}

static char *
why_not_this_file(const char *path)
{
    kvss_autofd int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return g_strdup_printf("%s cannot be written: %s", path, g_strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return g_strdup_printf("%s is no plain file", path);
    /* Under its other name somebody else may count on what it holds. */
    return st.st_nlink > 1 ? g_strdup_printf("%s has other names (hard links)", path) : NULL;
}

/* NULL: the image may be written over. Metadata only: the VM may run. */
static char *
why_not_this_image(PlanDisk *disk, const char *format)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(KvssImageInfo) info = NULL;

    if (!g_str_equal(format, disk->disk->format))
        return g_strdup_printf("it differs in format: %s, not %s", format, disk->disk->format);
    info = kvss_image_info(disk->real, format, true, &problem);
    if (!info)
        return g_strdup(problem->message);
    if (info->size != disk->disk->size)
        return g_strdup_printf("it differs in size: %" G_GUINT64_FORMAT " bytes, not %"
                               G_GUINT64_FORMAT, info->size, disk->disk->size);
    if (info->backing->len > 0)
        return g_strdup("it has a backing file");
    if (info->is_encrypted)
        return g_strdup("it is encrypted by QEMU");
    if (info->entangled)
        return g_strdup_printf("it has %s", info->entangled);
    disk->keeps_room = kvss_image_options_preallocate(info->options);
    return NULL;
}

static char *
why_not_in_place(const PlanVm *vm, PlanDisk *disk)
{
    g_autoptr(KvssDomainConfig) config = vm->old ? kvss_domain_config(vm->old, NULL) : NULL;
    const KvssDiskConfig *old = old_disk(vm, config, disk);
    char *why;

    if (!old)
        return g_strdup_printf("%s is no disk of the VM that is here", disk->real);
    if (!g_file_test(disk->real, G_FILE_TEST_EXISTS))
        return g_strdup_printf("%s is not there", disk->real);
    /* QEMU knows whole sectors only: the disk would seem longer than it is. */
    if (disk->disk->size % SECTOR_LENGTH)
        return g_strdup("its size is no multiple of 512 bytes");
    why = why_not_this_file(disk->real);
    return why ? why : why_not_this_image(disk, old->format);
}

static char *
scratch_folder(const KvssRestoreOptions *options)
{
    return options->scratch_dir ? g_strdup(options->scratch_dir)
                                : g_build_filename(options->state_dir, "work", NULL);
}

/* A device has no folder of its own for it. */
static char *
device_log(const Plan *plan, const PlanVm *vm, const PlanDisk *disk)
{
    g_autofree char *folder = scratch_folder(plan->options);
    g_autofree char *safe_vm = kvss_manifest_safe_name(vm->component->display_name);
    g_autofree char *safe_target = kvss_manifest_safe_name(disk->disk->target);

    return g_strdup_printf("%s/%s-%s.kvss-undo-%.8s", folder, safe_vm, safe_target, plan->id);
}

void
in_place_plan(const Plan *plan, const PlanVm *vm, PlanDisk *disk)
{
    const KvssRestoreOptions *options = plan->options;
    InPlace *in_place;

    if (disk->is_block ? options->no_rollback && !options->in_place : !options->in_place)
        return;
    if (!disk->is_block) {
        disk->whole_because = why_not_in_place(vm, disk);
        if (disk->whole_because)
            return;
    }
    in_place = g_new0(InPlace, 1);
    if (!disk->is_block && !options->no_rollback) {
        in_place->log = kvss_vm_beside_path(disk->real, "undo", plan->id);
        in_place->parked = kvss_vm_beside_path(disk->real, "half", plan->id);
    } else if (!options->no_rollback) {
        in_place->log = device_log(plan, vm, disk);
    }
    disk->in_place = in_place;
}

/* ---- the disk as it is ---- */

/* QEMU sees a device in whole; the disk is its first part. */
static KvssSource *
device_source(const PlanDisk *disk, GError **error)
{
    KvssSource *source = kvss_source_new_file(disk->real, error);

    if (source)
        source->size = MIN(source->size, disk->disk->size);
    return source;
}

static bool
check_size(const PlanDisk *disk, const KvssSource *old, GError **error)
{
    return old->size == disk->disk->size
        || kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                      "%s has %" G_GUINT64_FORMAT " bytes now, the disk %" G_GUINT64_FORMAT,
                      disk->real, old->size, disk->disk->size);
}

/* ---- compare ---- */

static bool
compare_with(Work *work, const PlanDisk *disk, KvssSource *old, GError **error)
{
    const KvssRestoreOptions *options = work->plan->options;
    g_autoptr(Difference) difference = difference_new(disk->disk->size);
    g_autoptr(KvssSource) stored = kvss_backup_open_disk(options->repository, options->backup,
                                                         work->vm->vm, disk->stored, error);

    if (!stored || !check_size(disk, old, error)
        || !difference_find(difference, old, stored, work_tell_progress, work,
                            options->cancellable, error))
        return false;
    work_result(work)->bytes_differing = difference->differ_bytes;
    disk->in_place->difference = g_steal_pointer(&difference);
    return true;
}

static bool
compare_image(Work *work, const PlanDisk *disk, const char *socket, GError **error)
{
    KvssImageServerOptions options = {
        .path = disk->real,
        .format = disk->disk->format,
        .socket = socket,
        .export_name = disk->disk->target,
    };
    g_autoptr(KvssImageServer) server = kvss_image_server_start(&options, error);
    g_autoptr(KvssSource) old = NULL;

    if (server)
        old = kvss_nbd_source_new(socket, options.export_name, error);
    return old && compare_with(work, disk, old, error);
}

static bool
compare_device(Work *work, const PlanDisk *disk, GError **error)
{
    g_autoptr(KvssSource) old = device_source(disk, error);

    return old && compare_with(work, disk, old, error);
}

static bool
compare_disk(Work *work, const PlanDisk *disk, const char *folder, GError **error)
{
    g_autofree char *socket = g_build_filename(folder, "compare.sock", NULL);
    bool ok;

    work->target = disk->disk->target;
    ok = disk->is_block ? compare_device(work, disk, error)
                        : compare_image(work, disk, socket, error);
    if (!ok) {
        g_prefix_error(error, "%s: disk %s: ", work->vm->component->display_name, work->target);
        return false;
    }
    work->done_before += disk->disk->size;
    return true;
}

static bool
compare_all(Plan *plan, const char *folder, bool only_those_off, GError **error)
{
    Work work = { .plan = plan };

    for (guint i = 0; i < plan->vms->len; i++) {
        work.vm = g_ptr_array_index(plan->vms, i);
        if (only_those_off && work.vm->old && work.vm->old_state != KVSS_DOMAIN_OFF
            && work.vm->old_state != KVSS_DOMAIN_SAVED)
            continue;
        for (guint k = 0; k < work.vm->disks->len; k++) {
            const PlanDisk *disk = g_ptr_array_index(work.vm->disks, k);

            if (disk->in_place && !compare_disk(&work, disk, folder, error))
                return false;
        }
    }
    return true;
}

static bool
has_any(const Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++)
            if (((PlanDisk *) g_ptr_array_index(vm->disks, k))->in_place)
                return true;
    }
    return false;
}

/* A look without a run has no folder for sockets. */
static bool
compare_in_new_folder(Plan *plan, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *folder = g_dir_make_tmp("kvss-look-XXXXXX", &problem);
    bool ok;

    if (!folder)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "make a folder: %s",
                          problem->message);
    ok = compare_all(plan, folder, true, error);
    (void) rmdir(folder);
    return ok;
}

bool
in_place_compare(Plan *plan, KvssRun *run, GError **error)
{
    if (!has_any(plan))
        return true;
    return (run ? compare_all(plan, kvss_run_folder(run), false, error)
                : compare_in_new_folder(plan, error))
        && plan_check_room(plan, error);
}

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

static bool
is_zero(const uint8_t *p, size_t length)
{
    return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
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

    for (size_t from = 0, to; from < length; from = to) {
        bool zero = is_zero(before + from, MIN(KVSS_GRAIN_LENGTH, length - from));

        for (to = from; to < length; to += MIN(KVSS_GRAIN_LENGTH, length - to))
            if (is_zero(before + to, MIN(KVSS_GRAIN_LENGTH, length - to)) != zero)
                break;
        if (!kvss_undo_log_add(rewrite->log, offset + from, zero ? NULL : before + from, to - from,
                               error))
            return false;
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
    rewrite->old = device_source(disk, error);
    if (rewrite->old)
        rewrite->sink = kvss_device_sink_new(disk->real, disk->disk->size, error);
    return rewrite->sink && check_size(disk, rewrite->old, error) && rewrite_run(rewrite, error);
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
    ok = rewrite->sink && check_size(disk, rewrite->old, error) && rewrite_run(rewrite, error);
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

    json_object_set_string_member(details, "path", disk->real);
    json_object_set_string_member(details, "parked", in_place->parked ? in_place->parked : "");
    json_object_set_string_member(details, "log", in_place->log);
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
