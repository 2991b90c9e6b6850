/*
 * copy.c - the one loop that moves a disk, for backup and for restore
 *
 * Each worker takes the next window of the disk under the lock. Where the
 * source is serial the read happens under that lock as well; the write always
 * happens outside it. Runs of zeroes, and of what did not change, are passed on
 * whole where they are longer than a window, so that a terabyte of nothing is a
 * handful of calls.
 */
#include "stream/copy.h"
#include "base/fd.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <gio/gio.h>
#include <string.h>

/*
 * Large enough that an NBD source keeps several requests in flight inside one read, and
 * that a window of a disk has sixteen chunks of 256 KiB, which are hashed side by side.
 */
#define WINDOW_LENGTH (4u * 1024 * 1024)
#define THREADS_MAX 16

typedef struct {
    KvssSource *source;
    KvssSink *sink;
    GCancellable *cancellable;
    KvssCopyProgress progress;
    gpointer progress_data;
    uint64_t window; /* bytes, a multiple of the sink's block */

    GMutex lock;          /* guards what follows, and a serial source */
    uint64_t next;        /* first byte nobody has taken */
    GArray *extents;      /* known from next on; may begin before it */
    uint64_t known_until; /* extents cover up to here */
    uint64_t kept_until;  /* behind the last data that was kept; 0: none was */
    uint64_t done;
    KvssCopyStats stats;
    GError *error; /* the first one */

    GMutex sink_lock; /* for a sink that is not parallel */
} Copy;

typedef enum { DATA, ZERO, KEEP } Kind;

/** What one worker does next: bytes to read and write, or a run of blocks of another kind. */
typedef struct {
    uint64_t offset, length;
    Kind kind;
    GArray *extents; /* of the window, when there is data */
} Task;

static void
copy_fail(Copy *copy, GError *error)
{
    g_mutex_lock(&copy->lock);
    if (!copy->error)
        copy->error = error;
    else
        g_error_free(error);
    g_mutex_unlock(&copy->lock);
}

/* Extents from copy->next on, at least one window of them. Called under the lock. */
static bool
copy_know_extents(Copy *copy, GError **error)
{
    uint64_t ahead = MAX(copy->window, G_GUINT64_CONSTANT(1) << 30);
    uint64_t need = MIN(copy->next + copy->window, copy->source->size);

    if (copy->known_until >= need && copy->extents->len > 0)
        return true;
    ahead = MIN(ahead, copy->source->size - copy->next);
    if (!kvss_source_extents(copy->source, copy->next, ahead, copy->extents, error))
        return false;
    copy->known_until = copy->next + ahead;
    return true;
}

/*
 * Where a run of extents stops being one of what is kept: behind @offset at the first block that
 * is all zeroes, which are passed on as such. @inout_zeroes: since where there is nothing else.
 */
static uint64_t
copy_block_of_zeroes(const Copy *copy, uint64_t offset, const KvssExtent *extent,
                     uint64_t *inout_zeroes)
{
    uint64_t end = extent->offset + extent->length, block = copy->sink->block, first;

    if (!extent->zero) {
        *inout_zeroes = end;
        return G_MAXUINT64;
    }
    first = offset + (*inout_zeroes - offset + block - 1) / block * block;
    return first + block <= end || (first < end && end == copy->source->size) ? first
                                                                              : G_MAXUINT64;
}

/* The run of extents of @kind, not data, at @offset, in whole blocks of the sink, or 0. */
static uint64_t
copy_run_of(const Copy *copy, uint64_t offset, Kind kind)
{
    uint64_t limit = kind == KEEP ? copy->sink->keep_end : copy->source->size;
    uint64_t end = offset, zeroes = offset;

    if (offset >= limit)
        return 0;

    for (guint i = 0; i < copy->extents->len; i++) {
        const KvssExtent *extent = &g_array_index(copy->extents, KvssExtent, i);

        if (extent->offset + extent->length <= end)
            continue;
        if (kind == KEEP ? !extent->unchanged : !extent->zero)
            break;
        end = extent->offset + extent->length;
        if (kind == KEEP)
            limit = MIN(limit, copy_block_of_zeroes(copy, offset, extent, &zeroes));
        if (end >= limit)
            break;
    }
    end = MIN(end, limit);
    if (end < copy->source->size)
        end -= (end - offset) % copy->sink->block;
    return end - offset;
}

/* Of what kind the blocks at @offset are, and how many bytes of them there are if it is not data. */
static Kind
copy_kind_at(const Copy *copy, uint64_t offset, uint64_t *out_length)
{
    *out_length = copy_run_of(copy, offset, ZERO);
    if (*out_length > 0)
        return ZERO;
    *out_length = copy_run_of(copy, offset, KEEP);
    return *out_length > 0 ? KEEP : DATA;
}

/* Forgets the extents that lie wholly before copy->next. */
static void
copy_drop_extents(Copy *copy)
{
    guint n = 0;

    while (n < copy->extents->len) {
        const KvssExtent *extent = &g_array_index(copy->extents, KvssExtent, n);

        if (extent->offset + extent->length > copy->next)
            break;
        n++;
    }
    if (n > 0)
        g_array_remove_range(copy->extents, 0, n);
}

/* Up to one window of blocks that have to be read. */
static uint64_t
copy_data_run(const Copy *copy, uint64_t offset)
{
    uint64_t end = MIN(offset + copy->window, copy->source->size);
    uint64_t at = offset, run;

    while (at < end && (at == offset || copy_kind_at(copy, at, &run) == DATA))
        at += MIN(copy->sink->block, end - at);
    return at - offset;
}

static void
task_take_extents(Task *task, const GArray *extents)
{
    g_array_set_size(task->extents, 0);
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        if (extent->offset >= task->offset + task->length)
            break;
        g_array_append_val(task->extents, *extent);
    }
}

/* A run of what is kept, up to copy->next: where the last data in it ends. Called under the lock. */
static void
copy_note_kept(Copy *copy, const Task *task)
{
    uint64_t end = task->offset + task->length;

    for (guint i = 0; i < copy->extents->len; i++) {
        const KvssExtent *extent = &g_array_index(copy->extents, KvssExtent, i);

        if (extent->offset >= end)
            return;
        if (!extent->zero && extent->offset + extent->length > task->offset)
            copy->kept_until = MIN(end, extent->offset + extent->length);
    }
}

/* Takes the next piece of work; false when there is none left. Called under the lock. */
static bool
copy_take(Copy *copy, Task *task, GError **error)
{
    task->offset = copy->next;
    task->length = 0;
    if (copy->next == copy->source->size)
        return true;
    if (!copy_know_extents(copy, error))
        return false;

    task->kind = copy_kind_at(copy, copy->next, &task->length);
    if (task->kind == DATA) {
        task->length = copy_data_run(copy, copy->next);
        task_take_extents(task, copy->extents);
    } else if (task->kind == KEEP) {
        copy_note_kept(copy, task);
    }
    copy->next += task->length;
    copy_drop_extents(copy);
    return true;
}

/* Fills @buffer with the window: data is read, holes inside it are zeroed. */
static bool
task_read(const Copy *copy, const Task *task, uint8_t *buffer, uint64_t *out_read, GError **error)
{
    uint64_t end = task->offset + task->length;

    *out_read = 0;
    for (guint i = 0; i < task->extents->len; i++) {
        const KvssExtent *extent = &g_array_index(task->extents, KvssExtent, i);
        uint64_t from = MAX(extent->offset, task->offset);
        uint64_t to = MIN(extent->offset + extent->length, end);

        if (from >= to)
            continue;
        if (extent->zero) {
            memset(buffer + (from - task->offset), 0, to - from);
            continue;
        }
        if (!kvss_source_read(copy->source, from, buffer + (from - task->offset), to - from,
                              error)) {
            g_prefix_error(error, "read: ");
            return false;
        }
        *out_read += to - from;
    }
    return true;
}

static bool
task_pass_on(Copy *copy, const Task *task, const uint8_t *buffer, GError **error)
{
    switch (task->kind) {
    case ZERO:
        return kvss_sink_zero(copy->sink, task->offset, task->length, error);
    case KEEP:
        return kvss_sink_keep(copy->sink, task->offset, task->length, error);
    case DATA:
        break;
    }
    return kvss_sink_write(copy->sink, task->offset, buffer, task->length, error);
}

static bool
task_write(Copy *copy, const Task *task, const uint8_t *buffer, GError **error)
{
    bool ok;

    if (!copy->sink->is_parallel)
        g_mutex_lock(&copy->sink_lock);
    ok = task_pass_on(copy, task, buffer, error);
    if (!copy->sink->is_parallel)
        g_mutex_unlock(&copy->sink_lock);
    if (!ok)
        g_prefix_error(error, "write: ");
    return ok;
}

static void
copy_account(Copy *copy, const Task *task, uint64_t bytes_read)
{
    g_mutex_lock(&copy->lock);
    copy->done += task->length;
    copy->stats.bytes_read += bytes_read;
    if (task->kind == KEEP)
        copy->stats.bytes_kept += task->length;
    else
        copy->stats.bytes_zero += task->length - bytes_read;
    if (copy->progress)
        copy->progress(copy->done, copy->source->size, copy->progress_data);
    g_mutex_unlock(&copy->lock);
}

/* One round of a worker: false when the copy is over or has failed. */
static bool
copy_step(Copy *copy, Task *task, uint8_t *buffer)
{
    bool serial = !copy->source->is_parallel;
    GError *error = NULL;
    uint64_t bytes_read = 0;
    bool ok;

    g_mutex_lock(&copy->lock);
    if (copy->error) {
        g_mutex_unlock(&copy->lock);
        return false;
    }
    ok = kvss_check_cancelled(copy->cancellable, &error) && copy_take(copy, task, &error);
    if (ok && serial && task->kind == DATA && task->length > 0)
        ok = task_read(copy, task, buffer, &bytes_read, &error);
    g_mutex_unlock(&copy->lock);

    if (ok && task->length == 0)
        return false;
    if (ok && !serial && task->kind == DATA)
        ok = task_read(copy, task, buffer, &bytes_read, &error);
    if (ok)
        ok = task_write(copy, task, buffer, &error);
    if (!ok) {
        copy_fail(copy, error);
        return false;
    }
    copy_account(copy, task, bytes_read);
    return true;
}

static gpointer
copy_worker(gpointer data)
{
    Copy *copy = data;
    uint8_t *buffer = g_aligned_alloc(1, copy->window, KVSS_DIRECT_ALIGNMENT);
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    Task task = { .extents = extents };

    while (copy_step(copy, &task, buffer))
        ;
    g_aligned_free(buffer);
    return NULL;
}

static void
copy_run(Copy *copy)
{
    guint n = MIN(g_get_num_processors() + 1, THREADS_MAX);
    GThread *threads[THREADS_MAX];

    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_new("copy", copy_worker, copy);
    for (guint i = 0; i < n; i++)
        g_thread_join(threads[i]);
}

/*
 * A disk that shrank and grew again lost all behind its smallest size, and no bitmap tells:
 * what came back is zeroes that are not marked. A block of zeroes is never kept. So only
 * the block in which that size lies can be wrong, and if it is one that was kept, the last
 * data that was not marked lies in it: what comes behind was lost, or written since.
 */
static bool
copy_doubt_last_kept(Copy *copy, GError **error)
{
    uint32_t block = copy->sink->block;
    g_autofree uint8_t *buffer = NULL;
    Task task = { .kind = DATA, .extents = copy->extents };
    uint64_t bytes_read;

    if (copy->kept_until == 0)
        return true;
    buffer = g_malloc(block);
    task.offset = (copy->kept_until - 1) / block * block;
    task.length = MIN(block, copy->source->size - task.offset);
    if (!kvss_source_extents(copy->source, task.offset, task.length, copy->extents, error)
        || !task_read(copy, &task, buffer, &bytes_read, error)
        || !task_write(copy, &task, buffer, error))
        return false;
    copy->stats.bytes_read += bytes_read;
    copy->stats.bytes_zero += task.length - bytes_read;
    copy->stats.bytes_kept -= task.length;
    return true;
}

/* In whole blocks of the sink. */
static uint64_t
window_length(const KvssSink *sink)
{
    return MAX(sink->block, WINDOW_LENGTH / sink->block * sink->block);
}

bool
kvss_copy(KvssSource *source, KvssSink *sink, KvssCopyProgress progress, gpointer progress_data,
          GCancellable *cancellable, KvssCopyStats *out_stats, GError **error)
{
    Copy copy = {
        .source = source,
        .sink = sink,
        .cancellable = cancellable,
        .progress = progress,
        .progress_data = progress_data,
        .window = window_length(sink),
    };

    g_assert(source->size == sink->size);
    g_mutex_init(&copy.lock);
    g_mutex_init(&copy.sink_lock);
    copy.extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));

    copy_run(&copy);
    if (!copy.error)
        (void) copy_doubt_last_kept(&copy, &copy.error);

    g_array_unref(copy.extents);
    g_mutex_clear(&copy.sink_lock);
    g_mutex_clear(&copy.lock);
    if (copy.error) {
        g_propagate_error(error, copy.error);
        return false;
    }
    if (!kvss_sink_finish(sink, error)) {
        g_prefix_error(error, "write: ");
        return false;
    }
    if (out_stats)
        *out_stats = copy.stats;
    return true;
}
