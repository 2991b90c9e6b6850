/*
 * instant.c - the instants of a domain: backup job, memory image, managed save
 */
#include "host/domain.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

/*
 * A job that was aborted is gone after some 30 ms; a lost agent event can hold
 * it for twice libvirt's 30 s wait.
 */
#define JOB_END_LIMIT_US (70 * G_USEC_PER_SEC)
#define JOB_END_POLL_US (10 * 1000)

static const KvssJobDisk *
find_job_disk(const KvssJobDisk *disks, size_t n_disks, const char *target)
{
    for (size_t i = 0; i < n_disks; i++) {
        if (g_str_equal(disks[i].target, target))
            return &disks[i];
    }
    return NULL;
}

static void
append_job_disk(GString *xml, const char *target, const KvssJobDisk *disk)
{
    g_autofree char *scratch = g_markup_escape_text(disk->scratch, -1);
    g_autofree char *since = disk->since ? g_markup_escape_text(disk->since, -1) : NULL;

    g_string_append_printf(xml, "<disk name='%s' backup='yes' type='file' exportname='%s'", target,
                           target);
    if (since)
        g_string_append_printf(xml, " backupmode='incremental' incremental='%s' exportbitmap='%s'",
                               since, KVSS_JOB_BITMAP);
    g_string_append_printf(xml, "><driver type='qcow2'/><scratch file='%s'/></disk>", scratch);
}

/* Every disk is named: libvirt would invent scratch files for those left out. */
static char *
job_xml(const char *socket, const KvssJobDisk *disks, size_t n_disks,
        const KvssDomainConfig *config)
{
    GString *xml = g_string_new("<domainbackup mode='pull'>");
    g_autofree char *path = g_markup_escape_text(socket, -1);

    g_string_append_printf(xml, "<server transport='unix' socket='%s'/><disks>", path);
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        const KvssJobDisk *chosen = find_job_disk(disks, n_disks, disk->target);
        g_autofree char *target = g_markup_escape_text(disk->target, -1);

        if (chosen)
            append_job_disk(xml, target, chosen);
        else
            g_string_append_printf(xml, "<disk name='%s' backup='no'/>", target);
    }
    g_string_append(xml, "</disks></domainbackup>");
    return g_string_free(xml, FALSE);
}

/* NULL where no disk is tracked: an empty checkpoint is refused. */
static char *
checkpoint_xml(const char *name, const KvssJobDisk *disks, size_t n_disks,
               const KvssDomainConfig *config)
{
    GString *xml = g_string_new("<domaincheckpoint><name>");
    g_autofree char *escaped = g_markup_escape_text(name, -1);
    bool any = false;

    g_string_append_printf(xml, "%s</name><disks>", escaped);
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        const KvssJobDisk *chosen = find_job_disk(disks, n_disks, disk->target);
        g_autofree char *target = g_markup_escape_text(disk->target, -1);
        bool is_tracked = chosen && chosen->is_tracked;

        any = any || is_tracked;
        g_string_append_printf(xml, "<disk name='%s' checkpoint='%s'/>", target,
                               is_tracked ? "bitmap" : "no");
    }
    g_string_append(xml, "</disks></domaincheckpoint>");
    return g_string_free(xml, !any);
}

bool
kvss_domain_begin_job(KvssDomain *domain, const char *socket, const KvssJobDisk *disks,
                      size_t n_disks, const char *checkpoint, const KvssDomainConfig *config,
                      GError **error)
{
    g_autofree char *xml = job_xml(socket, disks, n_disks, config);
    g_autofree char *mark = checkpoint ? checkpoint_xml(checkpoint, disks, n_disks, config) : NULL;

    if (virDomainBackupBegin(kvss_domain_handle(domain), xml, mark, 0) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot cut the disks of %s", kvss_domain_name(domain));
}

/* 1: our job runs; 0: none; -1: error. */
static int
find_job(KvssDomain *domain, const char *socket, GError **error)
{
    char *xml = virDomainBackupGetXMLDesc(kvss_domain_handle(domain), 0);
    g_autofree char *ours = NULL;
    bool is_ours;

    if (!xml) {
        int code = virGetLastErrorCode();

        if (code == VIR_ERR_NO_DOMAIN_BACKUP || code == VIR_ERR_NO_DOMAIN
            || code == VIR_ERR_OPERATION_INVALID || code == VIR_ERR_NO_SUPPORT)
            return 0;
        kvss_throw_libvirt(error, "cannot look for a backup job of %s", kvss_domain_name(domain));
        return -1;
    }
    ours = g_markup_escape_text(socket, -1);
    is_ours = strstr(xml, ours) != NULL;
    free(xml);
    if (is_ours)
        return 1;
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY,
               "%s has a backup job that is not ours; it is left alone",
               kvss_domain_name(domain));
    return -1;
}

static bool
wait_for_no_job(KvssDomain *domain, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + JOB_END_LIMIT_US;

    while (g_get_monotonic_time() < deadline_us) {
        virDomainJobInfo info;

        if (virDomainGetJobInfo(kvss_domain_handle(domain), &info) == 0) {
            if (info.type == VIR_DOMAIN_JOB_NONE)
                return true;
        } else if (virDomainIsActive(kvss_domain_handle(domain)) != 1) {
            return true;
        } /* else: it is on its way out, and libvirt has forgotten its data first */
        g_usleep(JOB_END_POLL_US);
    }
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_TIMED_OUT,
                      "the backup job of %s does not end", kvss_domain_name(domain));
}

bool
kvss_domain_end_job(KvssDomain *domain, const char *socket, GError **error)
{
    int found = find_job(domain, socket, error);

    if (found <= 0)
        return found == 0;
    if (virDomainAbortJob(kvss_domain_handle(domain)) < 0) {
        g_autoptr(GError) local = NULL;

        /* It may have ended by itself in between. */
        if (find_job(domain, socket, &local) == 0)
            return true;
        return kvss_throw_libvirt(error, "cannot end the backup job of %s",
                                  kvss_domain_name(domain));
    }
    return wait_for_no_job(domain, error);
}

static char *
memory_xml(const char *path, char **targets, const KvssDomainConfig *config)
{
    GString *xml = g_string_new("<domainsnapshot>");
    g_autofree char *escaped = g_markup_escape_text(path, -1);

    g_string_append_printf(xml, "<memory snapshot='external' file='%s'/><disks>", escaped);
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        g_autofree char *target = g_markup_escape_text(disk->target, -1);
        bool held = g_strv_contains((const char *const *) targets, disk->target);

        g_string_append_printf(xml, "<disk name='%s' snapshot='%s'/>", target,
                               held ? "manual" : "no");
    }
    g_string_append(xml, "</disks></domainsnapshot>");
    return g_string_free(xml, FALSE);
}

bool
kvss_domain_memory_image(KvssDomain *domain, const char *path, char **targets,
                         const KvssDomainConfig *config, GError **error)
{
    g_autofree char *xml = memory_xml(path, targets, config);
    virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(
        kvss_domain_handle(domain), xml, VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);

    if (!snapshot)
        return kvss_throw_libvirt(error, "cannot save the memory of %s",
                                  kvss_domain_name(domain));
    (void) virDomainSnapshotFree(snapshot);
    return true;
}

bool
kvss_domain_managed_save(KvssDomain *domain, bool paused, GError **error)
{
    unsigned flags = paused ? VIR_DOMAIN_SAVE_PAUSED : VIR_DOMAIN_SAVE_RUNNING;

    if (virDomainManagedSave(kvss_domain_handle(domain), flags) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot save %s", kvss_domain_name(domain));
}

bool
kvss_domain_forget_managed_save(KvssDomain *domain, GError **error)
{
    if (!kvss_domain_has_managed_save(domain)
        || virDomainManagedSaveRemove(kvss_domain_handle(domain), 0) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot remove the stale saved state of %s",
                              kvss_domain_name(domain));
}

char *
kvss_domain_managed_save_path(KvssDomain *domain)
{
    g_autofree char *file = g_strconcat(kvss_domain_name(domain), ".save", NULL);

    return g_build_filename(kvss_host_save_folder(kvss_domain_host(domain)), file, NULL);
}
