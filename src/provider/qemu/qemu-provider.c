/*
 * qemu-provider.c - QEMU's own block layer as a provider of shadow copies
 */
#include "provider/qemu/qemu-provider.h"
#include "guardian/job.h"
#include "host/nbd-source.h"
#include "stream/source.h"

static bool
qemu_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d, char **out_reason)
{
    if (c->domain)
        return true;
    if (out_reason)
        *out_reason = g_strdup("it is no disk of a virtual machine");
    return false;
}

/* The disks of VMs that stand still are cut here; the others were cut by the writer, and are adopted. */
static bool
qemu_commit(KvssProvider *p, KvssSnapshotSet *set, GError **error)
{
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (!component->domain || !component->is_cut_at_commit || component->job_act
            || component->disks->len == 0)
            continue;
        if (!kvss_job_begin(set->run, component, component->work_folder, error)) {
            kvss_component_fail(component, KVSS_E_PROVIDER_VETO, "%s",
                                error && *error ? (*error)->message : "the disks were not cut");
            return false;
        }
    }
    return true;
}

static KvssSource *
qemu_open(KvssProvider *p, KvssComponent *c, KvssDisk *d, GError **error)
{
    if (!d->nbd_socket) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                   "%s: disk %s has no shadow copy", c->display_name, d->target);
        return NULL;
    }
    return kvss_nbd_source_new(d->nbd_socket, d->nbd_export, error);
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

    provider->ops = &qemu_ops;
    return provider;
}
