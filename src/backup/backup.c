/*
 * backup.c - one backup: a set of components, whole in the repository or not at all
 *
 * The commit is the one moment that counts. Before it everything can be given
 * up: the upload is freed without a snapshot, the coordinator aborts. After it the
 * backup stands, and what goes wrong then is told and no more.
 *
 * A disk's copy is proven by its reads: each was answered by the shadow copy, and
 * a shadow copy that is lost answers no more. So a guest that ends after its
 * last byte was read costs nothing, and one that ends before it fails the set.
 */
#include "backup/backup.h"
#include "backup/documents.h"
#include "backup/history.h"
#include "backup/selection.h"
#include "backup/carried.h"
#include "backup/same-instant.h"
#include "base/test-point.h"
#include "guardian/run.h"
#include "host/connection.h"
#include "stream/copy.h"
#include "stream/pace.h"
#include "stream/sink.h"
#include "stream/source.h"
#include "writer/writer.h"

#include <string.h>

G_DEFINE_QUARK(kvss-backup-error-quark, kvss_backup_error)

typedef struct {
    const KvssBackupRequest *request;
    KvssCoordinator *coordinator;
    KvssSnapshotSet *set;
    KvssRun *run;       /* (nullable) */
    KvssUpload *upload; /* (nullable) */
    KvssManifest *manifest;
    KvssHistory *history;
    KvssPace *pace;     /* (nullable) no limit */
    gint64 start_us;     /* monotonic */

    KvssBackupStatus status; /* what is told next */
    uint64_t done_before;    /* bytes of the disks that are wholly copied */
} Backup;

void
kvss_backup_result_clear(KvssBackupResult *result)
{
    g_clear_pointer(&result->manifest, kvss_manifest_free);
    g_clear_pointer(&result->warning, g_free);
}

static void
tell(Backup *backup)
{
    if (backup->request->progress)
        backup->request->progress(&backup->status, backup->request->progress_data);
}

static void
tell_step(Backup *backup, const char *step)
{
    backup->status.step = step;
    tell(backup);
}

static void
on_copied(uint64_t done, uint64_t size, gpointer data)
{
    Backup *backup = data;

    backup->status.done = backup->done_before + done;
    tell(backup);
}

/* ---- up to the instant ---- */

/* The journal: before it, nothing on the host is touched. The writer starts the guardian. */
static bool
begin_run(Backup *backup, GError **error)
{
    const KvssBackupRequest *request = backup->request;

    if (!request->host)
        return true;
    backup->run = kvss_run_begin(request->state_dir, request->scratch_dir, request->host,
                                 backup->set->id, "backup", error);
    backup->set->run = backup->run;
    return backup->run != NULL;
}

static bool
choose(Backup *backup, GError **error)
{
    const KvssBackupRequest *request = backup->request;

    tell_step(backup, kvss_event_name(KVSS_EVENT_IDENTIFY));
    if (!kvss_coordinator_gather(backup->coordinator, error) ||
        !kvss_backup_select(request, error))
        return false;
    backup->history = kvss_history_new(request->repository, error);
    if (!backup->history)
        return false;
    for (guint i = 0; i < backup->set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(backup->set->components, i);

        component->is_full = request->full;
        kvss_history_offer(backup->history, component);
    }
    return true;
}

static bool
cut(Backup *backup, GError **error)
{
    if (!begin_run(backup, error))
        return false;
    tell_step(backup, kvss_event_name(KVSS_EVENT_PREPARE_FOR_BACKUP));
    if (!kvss_coordinator_prepare_for_backup(backup->coordinator, error))
        return false;
    tell_step(backup, "DoSnapshotSet");
    return kvss_coordinator_do_snapshot_set(backup->coordinator, error);
}

/* ---- the manifest ---- */

static const KvssWriter *
writer_of(Backup *backup, const KvssComponent *component)
{
    GPtrArray *writers = kvss_coordinator_writers(backup->coordinator);

    for (guint i = 0; i < writers->len; i++) {
        const KvssWriter *writer = g_ptr_array_index(writers, i);

        if (g_ptr_array_find(writer->components, component, NULL))
            return writer;
    }
    return NULL;
}

/* The first instant of the set, monotonic; now for a set whose VMs are all off. */
static gint64
first_instant_us(const KvssSnapshotSet *set)
{
    gint64 first_us = g_get_monotonic_time();

    for (guint i = 0; i < set->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(set->components, i);

        if (component->instant_us >= 0)
            first_us = MIN(first_us, component->instant_us);
    }
    return first_us;
}

static void
describe_component(Backup *backup, KvssComponent *component)
{
    const KvssWriter *writer = writer_of(backup, component);
    KvssManifestVm *vm = kvss_manifest_add(backup->manifest, component,
                                           writer ? writer->ops->class_id : NULL);

    vm->writer_name = g_strdup(writer ? writer->ops->friendly_name : NULL);
}

static void
describe(Backup *backup)
{
    KvssManifest *manifest = backup->manifest;
    const KvssSnapshotSet *set = backup->set;
    const KvssHost *host = backup->request->host;

    manifest->set_id = g_strdup(set->id);
    manifest->program = g_strdup("kvss " KVSS_VERSION);
    manifest->tools = host ? g_strdup(kvss_host_versions(host)) : NULL;
    manifest->host = g_strdup(host ? kvss_host_name(host) : g_get_host_name());
    manifest->uri = host ? g_strdup(kvss_host_uri(host)) : NULL;
    manifest->clock_offset_us = g_get_real_time() - g_get_monotonic_time();
    manifest->time_us = first_instant_us(set) + manifest->clock_offset_us;
    manifest->backup_type = set->backup_type;
    manifest->same_instant = set->same_instant;
    manifest->skew_ms = kvss_snapshot_set_skew_ms(set);
    for (guint i = 0; i < set->components->len; i++)
        describe_component(backup, g_ptr_array_index(set->components, i));
}

/* What was asked for with --same-instant is proven by the times, or there is no backup. */
static bool
check_same_instant(Backup *backup, GError **error)
{
    g_autoptr(GPtrArray) guests = g_ptr_array_new();

    if (!backup->request->same_instant)
        return true;
    for (guint i = 0; i < backup->manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->vms, i);

        g_ptr_array_add(guests, vm->component);
    }
    return kvss_check_same_instant(guests, error);
}

static void
describe_events(Backup *backup)
{
    GArray *history = kvss_coordinator_history(backup->coordinator);

    for (guint i = 0; history && i < history->len; i++) {
        const KvssEventRecord *record = &g_array_index(history, KvssEventRecord, i);

        kvss_manifest_add_event(backup->manifest, record->event, record->who, record->start_us,
                                record->end_us, record->result);
    }
}

/* ---- copying ---- */

/* A disk that grows keeps its cut, or nothing of it would be found again. */
static uint32_t
chunk_size_for(const KvssDisk *disk, const KvssDisk *previous)
{
    uint32_t last = previous ? previous->chunk_size : 0;

    /* What stands in a repository is checked before it is used. */
    if (last >= 64 * 1024 && last <= 16 * 1024 * 1024 && (last & (last - 1)) == 0)
        return last;
    return kvss_upload_chunk_size(disk->size);
}

static const char *
whole_read_reason(const Backup *backup, const KvssDisk *previous)
{
    if (backup->request->full)
        return "a full read was asked for";
    if (!previous)
        return "first backup of this disk";
    return previous->tracked_by ? "the record of its changes is gone or broken"
                                : "its changes were not tracked";
}

/* The sink takes from there what the source calls unchanged. What cannot be built on is read. */
static void
use_base(Backup *backup, const KvssComponent *component, KvssDisk *disk, KvssSink *sink)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSource) base = NULL;

    if (!disk->since)
        return;
    base = kvss_history_open_base(backup->history, component, disk, &error);
    disk->incremental = base && kvss_upload_use_base(sink, base);
    if (disk->incremental)
        return;
    g_free(disk->reason);
    disk->reason = error ? g_strdup_printf("the backup to build on cannot be used: %s", error->message)
                         : g_strdup("the backup to build on is cut otherwise");
}

/* One source into one file of the set; the file's size counts in the manifest. */
static bool
store(Backup *backup, KvssSource *source, KvssSink *sink, KvssCopyStats *out_copy, GError **error)
{
    if (!kvss_copy(source, sink, on_copied, backup, backup->request->cancellable, out_copy, error))
        return false;
    backup->done_before += source->size;
    backup->manifest->size += source->size;
    return true;
}

static bool
copy_disk(Backup *backup, const KvssManifestVm *vm, KvssDisk *disk, GError **error)
{
    const KvssDisk *previous = kvss_history_last(backup->history, vm->component, disk);
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(KvssSource)
        source = kvss_paced_source_new(
            kvss_coordinator_open(backup->coordinator, vm->component, disk, error), backup->pace);
    KvssUploadStats stored = { 0 };
    KvssCopyStats copied = { 0 };

    if (!source)
        return false;
    disk->size = source->size;
    disk->chunk_size = chunk_size_for(disk, previous);
    backup->status.target = disk->target;
    sink = kvss_upload_open_file(backup->upload, kvss_manifest_disk_path(vm, disk->target),
                                 source->size, disk->chunk_size, 0600, &stored, error);
    if (!sink)
        return false;
    use_base(backup, vm->component, disk, sink);
    if (!store(backup, source, sink, &copied, error))
        return false;
    disk->bytes_read = copied.bytes_read;
    disk->bytes_stored = stored.bytes_stored;
    backup->manifest->bytes_read += copied.bytes_read;
    if (!disk->incremental && !disk->reason)
        kvss_set_string(&disk->reason, whole_read_reason(backup, previous));
    return true;
}

/* A memory image may be as large as the guest's RAM: it is streamed like a disk. */
static bool
stream_file(Backup *backup, const KvssFile *file, KvssSource *source, const char *path,
            GError **error)
{
    g_autoptr(KvssSink) sink = kvss_upload_open_file(backup->upload, path, source->size,
                                                     kvss_upload_chunk_size(source->size),
                                                     file->mode, NULL, error);
    KvssCopyStats copied = { 0 };

    backup->status.target = file->name;
    backup->status.total += source->size;
    if (!sink || !store(backup, source, sink, &copied, error))
        return false;
    backup->manifest->bytes_read += copied.bytes_read;
    return true;
}

/* One of many small ones: without threads and buffers of its own. */
static bool
store_bytes(Backup *backup, const KvssFile *file, GBytes *bytes, const char *path, GError **error)
{
    backup->manifest->size += g_bytes_get_size(bytes);
    return kvss_upload_add_bytes(backup->upload, path, bytes, file->mode, error);
}

static bool
copy_path(Backup *backup, const KvssFile *file, const char *path, uint64_t *out_size,
          GError **error)
{
    g_autoptr(KvssCarried) carried = kvss_carried_open(file, backup->pace, error);
    g_autoptr(GBytes) bytes = NULL;

    if (!carried || !kvss_carried_read_if_small(carried, &bytes, error))
        return false;
    *out_size = kvss_carried_source(carried)->size;
    if (bytes)
        backup->manifest->bytes_read += *out_size;
    if (!(bytes ? store_bytes(backup, file, bytes, path, error)
                : stream_file(backup, file, kvss_carried_source(carried), path, error)))
        return false;
    return kvss_carried_check(carried, error);
}

static bool
copy_file(Backup *backup, KvssManifestVm *vm, const KvssFile *file, GError **error)
{
    const char *path = kvss_manifest_file_path(vm, file->name);
    uint64_t size = 0;

    if (!path)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "came after the set was laid out");
    if (!kvss_check_cancelled(backup->request->cancellable, error))
        return false;
    if (file->bytes) {
        size = g_bytes_get_size(file->bytes);
        if (!store_bytes(backup, file, file->bytes, path, error))
            return false;
    } else if (!copy_path(backup, file, path, &size, error)) {
        return false;
    }
    vm->bytes += size;
    return true;
}

static KvssHresult
hresult_of(const GError *error)
{
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE) ||
        g_error_matches(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NO_SPACE))
        return KVSS_E_INSUFFICIENT_STORAGE;
    return KVSS_E_UNEXPECTED_PROVIDER_ERROR;
}

/* What ended the shadow copy is the reason; that it cannot be read any more only follows. */
static void
tell_reason(const KvssComponent *component, GError **error)
{
    GError *reason = g_error_new((*error)->domain, (*error)->code, "%s: %s",
                                 component->display_name, component->failure_message);

    g_debug("%s: %s", component->display_name, (*error)->message);
    g_clear_error(error);
    g_propagate_error(error, reason);
}

/* Puts the place in front of the error and remembers on the component that it failed. */
static bool
copy_failed(KvssComponent *component, const char *what, GError **error)
{
    GError *local = error ? *error : NULL;

    if (!local || g_error_matches(local, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        return false;
    if (component->failure != KVSS_S_OK && component->failure_message) {
        tell_reason(component, error);
        return false;
    }
    g_prefix_error(error, "%s: %s: ", component->display_name, what);
    kvss_component_fail(component, hresult_of(*error), "%s", (*error)->message);
    return false;
}

static bool
copy_vm(Backup *backup, KvssManifestVm *vm, GError **error)
{
    KvssComponent *component = vm->component;

    backup->status.vm = component->display_name;
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (!copy_disk(backup, vm, disk, error))
            return copy_failed(component, disk->target, error);
    }
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);

        if (!copy_file(backup, vm, file, error))
            return copy_failed(component, file->name, error);
    }
    return true;
}

/* For the bar: what the disks are said to hold. Sizes of memory images are added as they come. */
static uint64_t
total_size(const KvssSnapshotSet *set)
{
    uint64_t total = 0;

    for (guint i = 0; i < set->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(set->components, i);

        for (guint d = 0; d < component->disks->len; d++)
            total += ((KvssDisk *) g_ptr_array_index(component->disks, d))->size;
    }
    return total;
}

static bool
copy_list(Backup *backup, const GPtrArray *list, GError **error)
{
    for (guint i = 0; i < list->len; i++)
        if (!copy_vm(backup, g_ptr_array_index(list, i), error))
            return false;
    return true;
}

static bool
copy_all(Backup *backup, GError **error)
{
    backup->upload = kvss_upload_new(backup->request->repository, error);
    if (!backup->upload)
        return false;
    if (backup->request->limit > 0)
        backup->pace = kvss_pace_new(backup->request->limit, backup->request->cancellable);
    backup->status.total = total_size(backup->set);
    tell_step(backup, "Copy");
    kvss_test_point("copy");
    if (!copy_list(backup, backup->manifest->vms, error)
        || !copy_list(backup, backup->manifest->components, error))
        return false;
    memset(&backup->status, 0, sizeof backup->status);
    return true;
}

/* ---- commit ---- */

/* A set that this kvss could not read would be no backup. */
static bool
store_manifest(Backup *backup, GError **error)
{
    g_autoptr(GBytes) text = NULL;
    g_autoptr(KvssManifest) again = NULL;

    backup->manifest->bytes_stored = kvss_upload_stats(backup->upload).bytes_stored;
    describe_events(backup);
    text = kvss_manifest_to_json(backup->manifest);
    again = kvss_manifest_from_json(text, error);
    if (!again) {
        g_prefix_error(error, "the set could not be read back: ");
        return false;
    }
    return kvss_upload_add_bytes(backup->upload, KVSS_MANIFEST_NAME, text, 0600, error);
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
add_paths(GPtrArray *paths, const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(list, i);

        g_ptr_array_add(paths, g_strconcat("/", vm->top, "/", vm->dir, NULL));
    }
}

static GPtrArray *
snapshot_paths(const KvssManifest *manifest)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);

    add_paths(paths, manifest->vms);
    add_paths(paths, manifest->components);
    g_ptr_array_sort(paths, compare_names);
    g_ptr_array_add(paths, NULL);
    return paths;
}

static GPtrArray *
snapshot_tags(const KvssBackupRequest *request)
{
    GPtrArray *tags = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(tags, g_strdup(KVSS_CATALOGUE_TAG));
    for (const char *const *tag = request->tags; tag && *tag; tag++)
        if (!g_ptr_array_find_with_equal_func(tags, *tag, g_str_equal, NULL))
            g_ptr_array_add(tags, g_strdup(*tag));
    g_ptr_array_add(tags, NULL);
    return tags;
}

static void
set_succeeded(Backup *backup)
{
    for (guint i = 0; i < backup->set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(backup->set->components, i);

        if (component->is_explicit)
            kvss_coordinator_set_succeeded(backup->coordinator, component, true);
    }
}

static bool
commit(Backup *backup, char *out_id, GError **error)
{
    g_autoptr(GPtrArray) paths = snapshot_paths(backup->manifest);
    g_autoptr(GPtrArray) tags = snapshot_tags(backup->request);
    KvssSnapshotInfo info = {
        .hostname = backup->manifest->host,
        .paths = (const char *const *) paths->pdata,
        .tags = (const char *const *) tags->pdata,
        .time_us = backup->manifest->time_us,
    };

    tell_step(backup, "Commit");
    set_succeeded(backup);
    if (!kvss_backup_store_documents(backup->upload, backup->coordinator, error) ||
        !store_manifest(backup, error))
        return false;
    kvss_test_point("commit");
    return kvss_check_cancelled(backup->request->cancellable, error) &&
           kvss_upload_commit(backup->upload, &info, out_id, error);
}

/* ---- the end, good or bad ---- */

static void
add_warning(KvssBackupResult *result, GError *trouble)
{
    g_autofree char *before = g_steal_pointer(&result->warning);

    result->warning = before ? g_strconcat(before, "; ", trouble->message, NULL)
                             : g_strdup(trouble->message);
    g_error_free(trouble);
}

/* The backup stands. What fails from here on is told. */
static void
complete(Backup *backup, KvssBackupResult *result)
{
    GError *trouble = NULL;

    tell_step(backup, kvss_event_name(KVSS_EVENT_BACKUP_COMPLETE));
    backup->manifest->bytes_stored = kvss_upload_stats(backup->upload).bytes_stored;
    if (!kvss_coordinator_backup_complete(backup->coordinator, &trouble))
        add_warning(result, g_steal_pointer(&trouble));
    if (backup->run && !kvss_run_finish(backup->run, &trouble))
        add_warning(result, g_steal_pointer(&trouble));
    result->manifest = g_steal_pointer(&backup->manifest);
    result->seconds = (double) (g_get_monotonic_time() - backup->start_us) / G_USEC_PER_SEC;
}

/* The first error is the caller's; one of the way back is logged. */
static void
give_up(Backup *backup)
{
    g_autoptr(GError) trouble = NULL;

    kvss_coordinator_abort(backup->coordinator);
    if (backup->run && !kvss_run_finish(backup->run, &trouble))
        g_warning("%s", trouble->message);
}

/*
 * The run stays allocated: a writer whose call hangs and was given up may still
 * look at it, for as long as the process lives.
 */
static void
keep_run(KvssRun *run)
{
    static GSList *kept;
    static GMutex lock;

    g_mutex_lock(&lock);
    if (run)
        kept = g_slist_prepend(kept, run);
    g_mutex_unlock(&lock);
}

static void
backup_clear(Backup *backup)
{
    keep_run(backup->run);
    g_clear_pointer(&backup->upload, kvss_upload_free);
    g_clear_pointer(&backup->history, kvss_history_free);
    g_clear_pointer(&backup->manifest, kvss_manifest_free);
    g_clear_pointer(&backup->pace, kvss_pace_free);
}

bool
kvss_backup_run(const KvssBackupRequest *request, KvssBackupResult *out_result, GError **error)
{
    Backup backup = {
        .request = request,
        .coordinator = request->coordinator,
        .set = kvss_coordinator_set(request->coordinator),
        .manifest = kvss_manifest_new(),
        .start_us = g_get_monotonic_time(),
    };
    bool ok;

    memset(out_result, 0, sizeof *out_result);
    backup.set->same_instant = request->same_instant;
    backup.set->backup_type = request->backup_type ? request->backup_type : KVSS_BT_COPY;
    backup.set->cancellable = request->cancellable;
    ok = choose(&backup, error) && cut(&backup, error);
    if (ok) {
        describe(&backup);
        ok = check_same_instant(&backup, error) && copy_all(&backup, error)
             && commit(&backup, out_result->id, error);
    }
    if (ok)
        complete(&backup, out_result);
    else
        give_up(&backup);
    backup_clear(&backup);
    return ok;
}
