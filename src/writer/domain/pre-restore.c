/*
 * pre-restore.c - PreRestore: VMs about to be restored are stopped and set aside
 *
 *   stop ─▶ files aside ─▶ undefine          each step in the journal before it happens
 *
 * Nothing is copied and nothing is lost: a rename beside, a managed save, a
 * definition in the journal. The undo list is the way back.
 */
#include "base/fd.h"
#include "guardian/links.h"
#include "guardian/place.h"
#include "guardian/run.h"
#include "host/domain.h"
#include "writer/domain/restore-steps.h"
#include "writer/domain/vm.h"
#include "writer/writer.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define UNDEFINE_FLAGS \
    (VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA \
     | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM \
     | VIR_DOMAIN_UNDEFINE_KEEP_TPM)

typedef struct {
    KvssHost *host;
    KvssSnapshotSet *set;
    KvssComponent *component;
    KvssDomain *old;      /* (nullable) the VM that is replaced */
    bool keep_old;        /* what is set aside stays after success */
    bool may_stop;        /* without its memory, if it cannot be saved */
    bool was_saved;       /* the old VM, before us */
    GHashTable *owned;    /* real paths of the old VM's files */
} Aside;

/* ---- wishes and paths ---- */

/* A member of restore_options, a copy; NULL when it is absent. */
static JsonNode *
wish(const KvssComponent *component, const char *name)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root, *member;

    if (!component->restore_options
        || !json_parser_load_from_data(parser, component->restore_options, -1, NULL))
        return NULL;
    root = json_parser_get_root(parser);
    member = root && JSON_NODE_HOLDS_OBJECT(root)
        ? json_object_get_member(json_node_get_object(root), name) : NULL;
    return member ? json_node_copy(member) : NULL;
}

bool
kvss_vm_restore_option(const KvssComponent *component, const char *name)
{
    g_autoptr(JsonNode) node = wish(component, name);

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_boolean(node);
}

bool
kvss_vm_is_copy(const KvssComponent *component)
{
    g_autoptr(JsonNode) node = wish(component, "copy");

    return node && JSON_NODE_HOLDS_OBJECT(node);
}

char *
kvss_vm_disk_stays(const KvssComponent *component, const char *target)
{
    g_autoptr(JsonNode) stays = wish(component, "stays");

    return g_strdup(stays && JSON_NODE_HOLDS_OBJECT(stays)
                        ? json_object_get_string_member_with_default(json_node_get_object(stays),
                                                                     target, NULL)
                        : NULL);
}

static bool
disk_stays(const KvssComponent *component, const char *target)
{
    g_autofree char *log = kvss_vm_disk_stays(component, target);

    return log != NULL;
}

char *
kvss_vm_real_path(const char *path)
{
    char *resolved = realpath(path, NULL);
    g_autofree char *folder = NULL;
    g_autofree char *name = NULL;
    char *result;

    if (!resolved) {
        folder = g_path_get_dirname(path);
        name = g_path_get_basename(path);
        resolved = realpath(folder, NULL);
        result = resolved ? g_build_filename(resolved, name, NULL) : g_strdup(path);
    } else {
        result = g_strdup(resolved);
    }
    free(resolved);
    return result;
}

char *
kvss_vm_place_of(const char *path)
{
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *real = NULL;

    if (!kvss_link_is_ours(path))
        return kvss_vm_real_path(path);
    real = kvss_vm_real_path(folder);
    return g_build_filename(real, name, NULL);
}

char *
kvss_vm_beside_path(const char *real, const char *what, const char *run_id)
{
    g_autofree char *name = g_path_get_basename(real);
    g_autofree char *path = g_strdup_printf("%s.kvss-%s-%.8s", real, what, run_id);
    g_autofree char *folder = NULL, *sum = NULL;

    if (strlen(path) - strlen(real) + strlen(name) <= NAME_MAX)
        return g_steal_pointer(&path);
    /* The same for the same name: undo and plan compute it again. */
    folder = g_path_get_dirname(real);
    sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, name, -1);
    return g_strdup_printf("%s/.kvss-%s-%.8s-%.16s", g_str_equal(folder, "/") ? "" : folder, what,
                           run_id, sum);
}

char *
kvss_vm_aside_path(const char *real, const char *run_id)
{
    return kvss_vm_beside_path(real, "old", run_id);
}

/* Roll-back logs of the VM's disks: what comes back waits while there is one. */
static void
details_add_logs(JsonObject *details, const KvssComponent *component)
{
    JsonArray *array = json_array_new(), *places = json_array_new();

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);
        g_autofree char *log = kvss_vm_disk_stays(component, disk->target);

        if (!log || !*log)
            continue;
        json_array_add_string_element(array, log);
        json_array_add_int_element(places, kvss_place_number(log));
    }
    json_object_set_array_member(details, "log-places", places);
    json_object_set_array_member(details, "logs", array);
}

static JsonObject *
details_new(const Aside *aside)
{
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "uuid", aside->component->name);
    json_object_set_string_member(details, "name", aside->component->display_name);
    json_object_set_string_member(details, "run", kvss_run_id(aside->set->run));
    details_add_logs(details, aside->component);
    return details;
}

/* ---- stop ---- */

static bool
stop_saved(Aside *aside, bool paused, GError **error)
{
    g_autofree char *image = kvss_domain_managed_save_path(aside->old);
    JsonObject *details = details_new(aside);
    g_autoptr(GError) local = NULL;
    KvssActId act;

    json_object_set_string_member(details, "prior", paused ? "paused" : "running");
    json_object_set_string_member(details, "image", image);
    act = kvss_run_act_begin(aside->set->run, KVSS_ACT_STOP, details, error);
    if (!act)
        return false;
    if (kvss_domain_managed_save(aside->old, paused, &local))
        return true;
    g_propagate_prefixed_error(error, g_steal_pointer(&local),
                               "its memory cannot be saved, shut it down before the restore: ");
    return false;
}

static bool
stop_without_memory(Aside *aside, bool paused, GError **error)
{
    JsonObject *details = details_new(aside);
    virDomainPtr handle = kvss_domain_handle(aside->old);

    json_object_set_string_member(details, "prior", paused ? "paused" : "running");
    json_object_set_string_member(details, "image", "");
    if (!kvss_run_act_begin(aside->set->run, KVSS_ACT_STOP, details, error))
        return false;
    if (virDomainDestroyFlags(handle, VIR_DOMAIN_DESTROY_GRACEFUL) == 0
        || virDomainDestroy(handle) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot shut it off");
}

static bool
old_stop(Aside *aside, GError **error)
{
    KvssDomainState state;

    if (!kvss_domain_get_state(aside->old, &state, NULL, error))
        return false;
    aside->was_saved = state == KVSS_DOMAIN_SAVED;
    if (state == KVSS_DOMAIN_OFF || state == KVSS_DOMAIN_SAVED)
        return true;
    if (state == KVSS_DOMAIN_OTHER || !kvss_domain_is_persistent(aside->old))
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_REFUSED,
                          "it is %s: shut it down before the restore",
                          state == KVSS_DOMAIN_OTHER ? "in transition" : "a transient VM");
    if (!kvss_domain_check_idle(aside->old, error))
        return false;
    if (aside->may_stop)
        return stop_without_memory(aside, state == KVSS_DOMAIN_PAUSED, error);
    return stop_saved(aside, state == KVSS_DOMAIN_PAUSED, error);
}

/* ---- files ---- */

static bool
rename_aside(Aside *aside, const char *real, const char *to, bool keep, bool is_memory,
             GError **error)
{
    g_autofree char *folder = g_path_get_dirname(real);
    JsonObject *details;

    if (kvss_vm_is_copy(aside->component))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s is there: a copy takes the place of nothing", real);
    details = details_new(aside);
    json_object_set_string_member(details, "from", real);
    json_object_set_string_member(details, "to", to);
    json_object_set_int_member(details, "place", kvss_place_number(real));
    json_object_set_boolean_member(details, "keep", keep);
    json_object_set_boolean_member(details, "memory", is_memory);
    json_object_set_boolean_member(details, "saved", is_memory && aside->was_saved);
    if (!kvss_run_act_begin(aside->set->run, KVSS_ACT_ASIDE, details, error))
        return false;
    if (rename(real, to) < 0)
        return kvss_throw_errno(error, errno, "set %s aside", real);
    return kvss_fsync_folder(folder, error);
}

/* What lies at @path goes aside. @is_old: it belongs to the VM that is replaced. */
static bool
path_aside(Aside *aside, const char *path, bool is_old, GError **error)
{
    g_autofree char *real = kvss_vm_real_path(path);
    g_autofree char *to = kvss_vm_aside_path(real, kvss_run_id(aside->set->run));
    bool keep = aside->keep_old || !is_old;
    struct stat st;

    if (lstat(real, &st) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "look at %s", real);
    if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
        return true; /* cannot be set aside; the plan has said so */
    if (lstat(to, &st) == 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY, "%s exists already", to);
    if (!rename_aside(aside, real, to, keep, false, error))
        return false;
    if (keep)
        kvss_component_add_note(aside->component, "%s, which was there before, is now %s", real,
                                to);
    return true;
}

/* Where something will be restored: a link of ours has had its day. */
static bool
target_aside(Aside *aside, const char *path, bool is_old, GError **error)
{
    g_autofree char *place = kvss_vm_place_of(path);
    g_autofree char *to = kvss_vm_aside_path(place, kvss_run_id(aside->set->run));

    if (kvss_link_is_ours(path))
        return rename_aside(aside, place, to, false, false, error);
    return path_aside(aside, path, is_old, error);
}

/* The managed save image, the VM's own or the one that we have made. */
static bool
saved_state_aside(Aside *aside, GError **error)
{
    g_autofree char *image = kvss_domain_managed_save_path(aside->old);
    g_autofree char *to = kvss_vm_aside_path(image, kvss_run_id(aside->set->run));

    if (!g_file_test(image, G_FILE_TEST_EXISTS))
        return true;
    return rename_aside(aside, image, to, aside->keep_old, true, error);
}

static bool
is_owned(const Aside *aside, const char *path)
{
    g_autofree char *real = kvss_vm_real_path(path);

    return aside->owned && g_hash_table_contains(aside->owned, real);
}

/* Files of the old VM, with the images below them as QEMU knows them. */
static void
learn_owned(Aside *aside, const KvssDomainConfig *config)
{
    g_autofree char *nvram = kvss_host_nvram_path(aside->host, config, config->name);

    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);
        g_autoptr(KvssImageInfo) info = NULL;

        if (!disk->source || !g_str_equal(disk->type, "file"))
            continue;
        g_hash_table_add(aside->owned, kvss_vm_real_path(disk->source));
        if (!g_str_equal(disk->format, "raw"))
            info = kvss_image_info(disk->source, disk->format, true, NULL);
        for (guint k = 0; info && k < info->backing->len; k++) {
            const KvssImageLink *link = g_ptr_array_index(info->backing, k);

            g_hash_table_add(aside->owned, kvss_vm_real_path(link->path));
        }
    }
    if (nvram)
        g_hash_table_add(aside->owned, kvss_vm_real_path(nvram));
}

bool
kvss_vm_disk_goes_aside(const KvssComponent *component, const KvssDiskConfig *disk)
{
    return disk->source && g_str_equal(disk->type, "file") && !disk->is_shareable
           && !disk->is_readonly && g_str_equal(disk->device, "disk")
           && kvss_component_find_disk(component, disk->target);
}

char *
kvss_vm_old_nvram(KvssHost *host, const KvssComponent *component, const KvssDomainConfig *config)
{
    const KvssFile *file = kvss_component_find_file(component, "nvram.fd");

    return file && file->path ? kvss_host_nvram_path(host, config, config->name) : NULL;
}

/* The old VM's image of a disk that is restored elsewhere is in nobody's use afterwards. */
static bool
old_disks_aside(Aside *aside, const KvssDomainConfig *config, GError **error)
{
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        if (kvss_vm_disk_goes_aside(aside->component, disk)
            && !disk_stays(aside->component, disk->target)
            && !path_aside(aside, disk->source, true, error))
            return false;
    }
    return true;
}

/* Its variables, when they are restored elsewhere, likewise. */
static bool
old_nvram_aside(Aside *aside, const KvssDomainConfig *config, GError **error)
{
    g_autofree char *nvram = kvss_vm_old_nvram(aside->host, aside->component, config);

    return !nvram || path_aside(aside, nvram, true, error);
}

/* Whatever lies where something will be restored. */
static bool
targets_aside(Aside *aside, GError **error)
{
    const KvssComponent *component = aside->component;

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (disk->path && !disk_stays(component, disk->target)
            && !target_aside(aside, disk->path, is_owned(aside, disk->path), error))
            return false;
    }
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);
        bool is_tpm = g_str_has_prefix(file->name, "tpm/");

        if (!file->path || g_str_equal(file->name, "state.save"))
            continue;
        if (!path_aside(aside, file->path, is_tpm || is_owned(aside, file->path), error))
            return false;
    }
    return true;
}

/* ---- definition ---- */

static void
add_snapshots(virDomainPtr domain, JsonArray *list)
{
    virDomainSnapshotPtr *snapshots = NULL;
    int n = virDomainListAllSnapshots(domain, &snapshots, VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL);

    for (int i = 0; i < n; i++) {
        char *xml = virDomainSnapshotGetXMLDesc(snapshots[i], VIR_DOMAIN_SNAPSHOT_XML_SECURE);

        if (xml)
            json_array_add_string_element(list, xml);
        free(xml);
        (void) virDomainSnapshotFree(snapshots[i]);
    }
    free(snapshots);
}

static void
add_checkpoints(virDomainPtr domain, JsonArray *list)
{
    virDomainCheckpointPtr *checkpoints = NULL;
    int n = virDomainListAllCheckpoints(domain, &checkpoints,
                                        VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);

    for (int i = 0; i < n; i++) {
        char *xml = virDomainCheckpointGetXMLDesc(checkpoints[i],
                                                  VIR_DOMAIN_CHECKPOINT_XML_SECURE);

        if (xml)
            json_array_add_string_element(list, xml);
        free(xml);
        (void) virDomainCheckpointFree(checkpoints[i]);
    }
    free(checkpoints);
}

static JsonObject *
describe_old(Aside *aside, GError **error)
{
    g_autofree char *xml = kvss_domain_xml(aside->old, true, error);
    virDomainPtr handle = kvss_domain_handle(aside->old);
    JsonArray *snapshots, *checkpoints;
    JsonObject *details;
    int autostart = 0;

    if (!xml)
        return NULL;
    details = details_new(aside);
    snapshots = json_array_new();
    checkpoints = json_array_new();
    (void) virDomainGetAutostart(handle, &autostart);
    add_snapshots(handle, snapshots);
    add_checkpoints(handle, checkpoints);
    json_object_set_string_member(details, "xml", xml);
    json_object_set_boolean_member(details, "autostart", autostart);
    json_object_set_array_member(details, "snapshots", snapshots);
    json_object_set_array_member(details, "checkpoints", checkpoints);
    return details;
}

static bool
old_undefine(Aside *aside, GError **error)
{
    JsonObject *details = describe_old(aside, error);
    virDomainPtr handle = kvss_domain_handle(aside->old);

    if (!details
        || !kvss_run_act_begin(aside->set->run, KVSS_ACT_UNDEFINE, details, error))
        return false;
    /* The managed save image was set aside: that flag removes nothing any more. */
    if (virDomainUndefineFlags(handle, UNDEFINE_FLAGS) == 0)
        return true;
    /* The test driver knows none of these. */
    if (virGetLastErrorCode() == VIR_ERR_INVALID_ARG && virDomainUndefine(handle) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot take it out of libvirt");
}

/* ---- one VM ---- */

static bool
old_aside(Aside *aside, GError **error)
{
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(aside->old, error);

    if (!config || !old_stop(aside, error))
        return false;
    learn_owned(aside, config);
    return saved_state_aside(aside, error) && old_disks_aside(aside, config, error)
        && old_nvram_aside(aside, config, error) && targets_aside(aside, error)
        && old_undefine(aside, error);
}

static bool
throw_gone(GError **error)
{
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_REFUSED,
                      "it is no longer on this host");
}

/* Ours are no trouble: a backup that finds them wrong reads everything. */
static guint
count_foreign_checkpoints(KvssDomain *domain)
{
    g_autoptr(GPtrArray) names = kvss_domain_checkpoints(domain, "", NULL);
    guint n = 0;

    for (guint i = 0; names && i < names->len; i++)
        n += !g_str_has_prefix(g_ptr_array_index(names, i), KVSS_CHECKPOINT_PREFIX);
    return n;
}

/* They are about disks as they were; what they say of this one holds no more. */
static void
note_what_refers_to_disks(Aside *aside)
{
    virDomainPtr domain = kvss_domain_handle(aside->old);
    int snapshots = virDomainSnapshotNum(domain, 0);
    guint checkpoints = count_foreign_checkpoints(aside->old);

    if (snapshots > 0)
        kvss_component_add_note(aside->component, "its %d snapshot%s in libvirt are of the disks "
                                "as they were: do not go back to them", snapshots,
                                snapshots == 1 ? "" : "s");
    if (checkpoints > 0)
        kvss_component_add_note(aside->component, "its %u checkpoint%s in libvirt no longer fit "
                                "its disks: remove them with 'virsh checkpoint-delete --metadata'",
                                checkpoints, checkpoints == 1 ? "" : "s");
}

/* The VM stays where it is. libvirt has no lock for one that is off: what is set aside is missing at a start. */
static bool
some_disks_aside(Aside *aside, GError **error)
{
    g_autoptr(KvssDomainConfig) config = kvss_domain_config(aside->old, error);
    KvssDomainState state;

    if (!config || !kvss_domain_get_state(aside->old, &state, NULL, error))
        return false;
    if (state != KVSS_DOMAIN_OFF)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_REFUSED,
                          "it is %s: shut it down before a disk of it is replaced",
                          kvss_domain_state_name(state));
    learn_owned(aside, config);
    note_what_refers_to_disks(aside);
    return targets_aside(aside, error);
}

static bool
component_aside(KvssHost *host, KvssSnapshotSet *set, KvssComponent *component, GError **error)
{
    g_autoptr(GHashTable) owned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssDomain) old = kvss_host_find_domain(host, component->name, &local);
    Aside aside = {
        .host = host,
        .set = set,
        .component = component,
        .keep_old = kvss_vm_restore_option(component, "keep-old"),
        .may_stop = kvss_vm_restore_option(component, "stop"),
        .owned = owned,
    };

    if (!old && !g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (kvss_vm_restore_option(component, "beside"))
        return targets_aside(&aside, error);
    /* A VM whose name is this UUID is another one. */
    if (!old || g_ascii_strcasecmp(kvss_domain_uuid(old), component->name) != 0)
        return kvss_vm_restore_option(component, "only-disks") ? throw_gone(error)
                                                               : targets_aside(&aside, error);
    aside.old = old;
    if (kvss_vm_restore_option(component, "only-disks"))
        return some_disks_aside(&aside, error);
    return kvss_domain_connect_alone(old, error) && old_aside(&aside, error);
}

static bool
throw_taken_back(KvssSnapshotSet *set, KvssComponent *component, GError *problem, GError **error)
{
    g_autoptr(GError) undo_error = NULL;

    kvss_component_fail(component, KVSS_E_WRITERERROR_NONRETRYABLE, "%s", problem->message);
    if (!kvss_run_undo(set->run, &undo_error))
        g_warning("%s; 'kvss doctor' tries again", undo_error->message);
    g_propagate_prefixed_error(error, problem, "%s: ", component->display_name);
    return false;
}

bool
kvss_vm_pre_restore(KvssHost *host, KvssSnapshotSet *set, GError **error)
{
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);
        GError *problem = NULL;

        if (!kvss_check_cancelled(set->cancellable, &problem)
            || (!kvss_vm_restore_option(component, "beside")
                && !kvss_run_claim_component(set->run, component->name, component, &problem))
            || !component_aside(host, set, component, &problem))
            return throw_taken_back(set, component, problem, error);
    }
    return true;
}
