/*
 * job.c - a VM's backup job as a journaled act
 */
#include "guardian/job.h"
#include "host/domain.h"
#include "vss/component.h"

char *
kvss_job_socket(const char *folder)
{
    return g_build_filename(folder, KVSS_JOB_SOCKET_NAME, NULL);
}

/* For whoever lists shadow copies; the undo needs none of it. */
static JsonArray *
job_shadows(const KvssComponent *component)
{
    JsonArray *list = json_array_new();

    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);
        JsonObject *object = json_object_new();

        g_free(disk->shadow_id);
        disk->shadow_id = g_uuid_string_random();
        json_object_set_string_member(object, "target", disk->target);
        json_object_set_string_member(object, "shadow_id", disk->shadow_id);
        if (disk->path)
            json_object_set_string_member(object, "path", disk->path);
        json_array_add_object_element(list, object);
    }
    return list;
}

static JsonObject *
job_details(const KvssComponent *component, const char *socket)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "uuid", kvss_domain_uuid(component->domain));
    json_object_set_string_member(details, "name", kvss_domain_name(component->domain));
    json_object_set_string_member(details, "socket", socket);
    json_object_set_string_member(details, "time", time);
    json_object_set_string_member(details, "provider", "qemu");
    /* The old content of what changes is kept aside: a difference, not a copy. */
    json_object_set_int_member(details, "attributes", KVSS_ATTR_DIFFERENTIAL);
    json_object_set_array_member(details, "disks", job_shadows(component));
    return details;
}

static void
job_disk_clear(gpointer data)
{
    g_free((char *) ((KvssJobDisk *) data)->scratch);
}

static GArray *
job_disks(const KvssComponent *component, const char *folder)
{
    GArray *disks = g_array_new(FALSE, TRUE, sizeof(KvssJobDisk));

    g_array_set_clear_func(disks, job_disk_clear);
    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);
        KvssJobDisk job_disk = {
            .target = disk->target,
            .scratch = g_strdup_printf("%s/%s.scratch", folder, disk->target),
        };

        g_array_append_val(disks, job_disk);
    }
    return disks;
}

bool
kvss_job_begin(KvssRun *run, KvssComponent *component, const char *folder, GError **error)
{
    g_autofree char *socket = kvss_job_socket(folder);
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(component->domain, error);
    g_autoptr(GArray) disks = job_disks(component, folder);
    KvssActId act;

    if (!config)
        return false;
    act = kvss_run_act_begin(run, KVSS_ACT_JOB, job_details(component, socket), error);
    if (!act)
        return false;
    if (!kvss_domain_begin_job(component->domain, socket, (const KvssJobDisk *) disks->data,
                               disks->len, config, error))
        return false; /* the act stays open: whether a job runs after all is looked at by its undo */
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        kvss_set_string(&disk->nbd_socket, socket);
        kvss_set_string(&disk->nbd_export, disk->target);
    }
    component->job_act = act;
    return true;
}

bool
kvss_job_end(KvssRun *run, KvssComponent *component, GError **error)
{
    if (!component->job_act)
        return true;
    if (!kvss_run_act_undo(run, component->job_act, error))
        return false;
    component->job_act = 0;
    return true;
}
