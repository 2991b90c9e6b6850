/*
 * qemu-provider.c - QEMU's own block layer as a provider of shadow copies
 */
#include "provider/qemu/qemu-provider.h"
#include "guardian/job.h"
#include "host/error.h"
#include "host/held-image.h"
#include "host/nbd-source.h"
#include "stream/source.h"

#define COMMIT_PARALLEL 8

static bool
qemu_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d, char **out_reason)
{
    if (c->domain)
        return true;
    if (out_reason)
        *out_reason = g_strdup("it is no disk of a virtual machine");
    return false;
}

/* A VM is cut by one provider: its first disk speaks for all. */
static bool
is_ours(const KvssComponent *component)
{
    const KvssDisk *first;

    if (!component->domain || component->disks->len == 0)
        return false;
    first = g_ptr_array_index(component->disks, 0);
    return g_strcmp0(first->provider, "qemu") == 0;
}

typedef struct {
    KvssSnapshotSet *set;
    GMutex lock;
    GError *error; /* the first one */
} Commit;

static void
commit_one(gpointer data, gpointer user_data)
{
    KvssComponent *component = data;
    Commit *commit = user_data;
    g_autoptr(GError) error = NULL;

    if (kvss_job_begin(commit->set->run, component, component->work_folder, &error))
        return;
    kvss_component_fail(component, KVSS_E_PROVIDER_VETO, "%s", error->message);
    g_prefix_error(&error, "%s: ", component->display_name);
    g_mutex_lock(&commit->lock);
    if (!commit->error)
        commit->error = g_steal_pointer(&error);
    g_mutex_unlock(&commit->lock);
}

/*
 * The disks of VMs that stand still are cut here, side by side, since they stand
 * still until all are cut; the others were cut by the writer, and are adopted.
 */
static bool
qemu_commit(KvssProvider *p, KvssSnapshotSet *set, GError **error)
{
    Commit commit = { .set = set };
    GThreadPool *pool;

    g_mutex_init(&commit.lock);
    pool = g_thread_pool_new(commit_one, &commit, COMMIT_PARALLEL, FALSE, NULL);
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (is_ours(component) && component->is_cut_at_commit && !component->job_act)
            (void) g_thread_pool_push(pool, component, NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    g_mutex_clear(&commit.lock);
    if (!commit.error)
        return true;
    g_propagate_error(error, commit.error);
    return false;
}

static KvssSource *
open_whole(const KvssDisk *disk, GError **error)
{
    if (disk->is_held)
        return kvss_held_image_new(disk->path, disk->format, disk->nbd_socket, disk->nbd_export,
                                   error);
    return kvss_nbd_source_new(disk->nbd_socket, disk->nbd_export, error);
}

/* Where what changed cannot be had after all, the disk is read whole, and says so. */
static KvssSource *
open_export(KvssDisk *disk, GError **error)
{
    g_autoptr(GError) local = NULL;
    KvssSource *source;

    if (!disk->nbd_bitmap)
        return open_whole(disk, error);
    source = kvss_nbd_source_new_with_changes(disk->nbd_socket, disk->nbd_export,
                                              disk->nbd_bitmap, &local);
    if (source)
        return source;
    if (!g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    kvss_set_string(&disk->reason, local->message);
    g_clear_pointer(&disk->since, g_free);
    g_clear_pointer(&disk->nbd_bitmap, g_free);
    return open_whole(disk, error);
}

static KvssSource *
qemu_open(KvssProvider *p, KvssComponent *c, KvssDisk *d, GError **error)
{
    if (!d->nbd_socket) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                   "%s: disk %s has no shadow copy", c->display_name, d->target);
        return NULL;
    }
    return open_export(d, error);
}

static void
qemu_delete_copies(KvssProvider *p, KvssSnapshotSet *set)
{
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);
        g_autoptr(GError) error = NULL;

        if (set->run && !kvss_job_end(set->run, component, &error))
            g_warning("%s: %s", component->display_name, error->message);
    }
}

static void
qemu_free(KvssProvider *p)
{
    kvss_provider_clear(p);
    g_free(p);
}

static const KvssProviderOps qemu_ops = {
    .name = "qemu",
    .id = "c0ffa2d5-5f2b-4d0e-9f3a-6b7c1e0d4a91",
    .version = KVSS_VERSION,
    .type = "software",
    .is_supported = qemu_is_supported,
    .commit = qemu_commit,
    .open = qemu_open,
    .delete_copies = qemu_delete_copies,
    .abort = qemu_delete_copies,
    .free = qemu_free,
};

KvssProvider *
kvss_qemu_provider_new(void)
{
    KvssProvider *provider = g_new0(KvssProvider, 1);

    kvss_provider_init(provider, &qemu_ops);
    return provider;
}
