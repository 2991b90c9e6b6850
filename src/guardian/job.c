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
            .since = disk->since,
            .is_tracked = disk->tracked_by != NULL,
        };

        g_array_append_val(disks, job_disk);
    }
    return disks;
}

static bool
begin(const KvssComponent *component, const char *socket, const char *folder,
      const KvssDomainConfig *config, GError **error)
{
    g_autoptr(GArray) disks = job_disks(component, folder);

    return kvss_domain_begin_job(component->domain, socket, (const KvssJobDisk *) disks->data,
                                 disks->len, component->stamp, config, error);
}

static bool
reads_changes(const KvssComponent *component)
{
    for (guint i = 0; i < component->disks->len; i++)
        if (((const KvssDisk *) g_ptr_array_index(component->disks, i))->since)
            return true;
    return false;
}

static bool
is_tracked(const KvssComponent *component)
{
    for (guint i = 0; i < component->disks->len; i++)
        if (((const KvssDisk *) g_ptr_array_index(component->disks, i))->tracked_by)
            return true;
    return false;
}

/* The disks are read whole. @and_untracked: nor will the next backup know what changed. */
static void
forget_changes(KvssComponent *component, bool and_untracked, const GError *why)
{
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (disk->since) {
            g_free(disk->reason);
            disk->reason = g_strdup_printf("what changed is not known: %s", why->message);
            g_clear_pointer(&disk->since, g_free);
        }
        if (and_untracked)
            g_clear_pointer(&disk->tracked_by, g_free);
    }
    if (and_untracked)
        kvss_component_add_note(component, "changes after this backup are not tracked: %s",
                                why->message);
}

/* Another try makes sense, and comes soon enough for a guest that is frozen. */
static bool
is_about_tracking(const GError *error)
{
    return g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNTRACKED)
        || g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED)
        || g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE)
        || g_error_matches(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED);
}

/*
 * After a memory image QEMU's images are closed for writing, and their bitmaps out of
 * reach, until something uses them: a job that reads nothing does.
 */
static bool
wake_images(KvssComponent *component, const char *socket, const char *folder,
            const KvssDomainConfig *config, GError **error)
{
    g_autoptr(GArray) disks = job_disks(component, folder);

    for (guint i = 0; i < disks->len; i++) {
        KvssJobDisk *disk = &g_array_index(disks, KvssJobDisk, i);

        disk->since = NULL;
        disk->is_tracked = false;
    }
    return kvss_domain_begin_job(component->domain, socket, (const KvssJobDisk *) disks->data,
                                 disks->len, NULL, config, error)
        && kvss_domain_end_job(component->domain, socket, error);
}

static bool
begin_with_changes(KvssComponent *component, const char *socket, const char *folder,
                   const KvssDomainConfig *config, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (begin(component, socket, folder, config, &local))
        return true;
    if (component->is_cut_at_commit && reads_changes(component)
        && g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNTRACKED)) {
        if (!wake_images(component, socket, folder, config, error))
            return false;
        g_clear_error(&local);
        if (begin(component, socket, folder, config, &local))
            return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* The cut is what matters: with all that was wished, then without the past, then without the future. */
static bool
begin_at_all(KvssComponent *component, const char *socket, const char *folder,
             const KvssDomainConfig *config, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (begin_with_changes(component, socket, folder, config, &local))
        return true;
    if (reads_changes(component) && is_about_tracking(local)) {
        forget_changes(component, false, local);
        g_clear_error(&local);
        if (begin(component, socket, folder, config, &local))
            return true;
    }
    if (is_tracked(component) && is_about_tracking(local)) {
        forget_changes(component, true, local);
        g_clear_error(&local);
        if (begin(component, socket, folder, config, &local))
            return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

static JsonArray *
tracked_images(const KvssComponent *component)
{
    JsonArray *images = json_array_new();

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (disk->tracked_by && disk->path)
            json_array_add_string_element(images, disk->path);
    }
    return images;
}

bool
kvss_job_track(KvssRun *run, KvssComponent *component, GError **error)
{
    JsonObject *details;

    if (!component->stamp || !is_tracked(component))
        return true;
    details = json_object_new();
    json_object_set_string_member(details, "uuid", kvss_domain_uuid(component->domain));
    json_object_set_string_member(details, "name", kvss_domain_name(component->domain));
    json_object_set_string_member(details, "checkpoint", component->stamp);
    json_object_set_array_member(details, "images", tracked_images(component));
    component->track_act = kvss_run_act_begin(run, KVSS_ACT_CHECKPOINT, details, error);
    return component->track_act != 0;
}

bool
kvss_job_begin(KvssRun *run, KvssComponent *component, const char *folder, GError **error)
{
    g_autofree char *socket = kvss_job_socket(folder);
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(component->domain, error);
    KvssActId act;

    if (!config)
        return false;
    act = kvss_run_act_begin(run, KVSS_ACT_JOB, job_details(component, socket), error);
    if (!act)
        return false;
    if (!begin_at_all(component, socket, folder, config, error))
        return false; /* the act stays open: whether a job runs after all is looked at by its undo */
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        kvss_set_string(&disk->nbd_socket, socket);
        kvss_set_string(&disk->nbd_export, disk->target);
        kvss_set_string(&disk->nbd_bitmap, disk->since ? KVSS_JOB_BITMAP : NULL);
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
