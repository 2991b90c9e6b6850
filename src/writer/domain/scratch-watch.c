/*
 * scratch-watch.c - a scratch area that fills ends the backup, never the VM
 */
#include "writer/domain/scratch-watch.h"
#include "guardian/job.h"
#include "host/image.h"

/*
 * How much must stay free: what a guest can write between two looks, on a file
 * system that is fast. On a small one, a sixteenth of what was free at the start.
 */
#define RESERVE_MAX (G_GUINT64_CONSTANT(512) << 20)
#define RESERVE_SHARE 16
#define INTERVAL_US (100 * 1000)

struct KvssScratchWatch {
    KvssSnapshotSet *set;
    uint64_t reserve;
    GThread *thread;
    GMutex lock;
    GCond wake;
    bool stop;
};

static void
end_jobs(KvssScratchWatch *watch, uint64_t available)
{
    for (guint i = 0; i < watch->set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(watch->set->components, i);
        g_autoptr(GError) error = NULL;

        if (!component->job_act)
            continue;
        kvss_component_fail(component, KVSS_E_WRITERERROR_OUTOFRESOURCES,
                            "the scratch area %s is nearly full (%" G_GUINT64_FORMAT
                            " MiB left), so the backup was ended and the VM runs on: make room, or "
                            "name another place with scratch-dir in the configuration",
                            kvss_run_folder(watch->set->run), available >> 20);
        if (!kvss_job_end(watch->set->run, component, &error))
            g_warning("%s: %s", component->display_name, error->message);
    }
}

static bool
is_nearly_full(KvssScratchWatch *watch, uint64_t *out_available)
{
    return kvss_image_room(kvss_run_folder(watch->set->run), out_available, NULL)
        && *out_available < watch->reserve;
}

static gpointer
watch_loop(gpointer data)
{
    KvssScratchWatch *watch = data;
    uint64_t available;

    g_mutex_lock(&watch->lock);
    while (!watch->stop) {
        if (is_nearly_full(watch, &available))
            end_jobs(watch, available);
        (void) g_cond_wait_until(&watch->wake, &watch->lock,
                                 g_get_monotonic_time() + INTERVAL_US);
    }
    g_mutex_unlock(&watch->lock);
    return NULL;
}

KvssScratchWatch *
kvss_scratch_watch_start(KvssSnapshotSet *set)
{
    KvssScratchWatch *watch = g_new0(KvssScratchWatch, 1);
    uint64_t available = 0;

    watch->set = set;
    if (kvss_image_room(kvss_run_folder(set->run), &available, NULL))
        watch->reserve = MIN(RESERVE_MAX, available / RESERVE_SHARE);
    g_mutex_init(&watch->lock);
    g_cond_init(&watch->wake);
    watch->thread = g_thread_new("scratch", watch_loop, watch);
    return watch;
}

void
kvss_scratch_watch_stop(KvssScratchWatch *watch)
{
    if (!watch)
        return;
    g_mutex_lock(&watch->lock);
    watch->stop = true;
    g_cond_signal(&watch->wake);
    g_mutex_unlock(&watch->lock);
    g_thread_join(watch->thread);
    g_cond_clear(&watch->wake);
    g_mutex_clear(&watch->lock);
    g_free(watch);
}
