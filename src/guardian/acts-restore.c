/*
 * acts-restore.c - the acts of a restore, taken back or completed
 *
 * A restore does, for each VM:      stop  aside  undefine  (files)  define
 * and the way back is the reverse:  start  back  define    (files)  undefine
 *
 * Each way back can be gone again after a crash in its middle, and each one
 * refuses while a later act of the same VM still stands: to register or start
 * the old VM over the remains of the new one would end with neither. So does each
 * while a disk of the VM that was written over in place is not whole again.
 */
#include "guardian/acts-restore.h"
#include "base/fd.h"
#include "guardian/acts-rewrite.h"
#include "guardian/details.h"
#include "guardian/links.h"
#include "guardian/place.h"
#include "host/domain.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The domain of this UUID; true with NULL when there is none. */
static bool
find_by_uuid(JsonObject *details, KvssHost *host, KvssDomain **out_domain, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(host, detail(details, "uuid"), &local);

    *out_domain = NULL;
    if (!domain && !g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    /* What has this UUID for its name is another VM. */
    if (domain && g_ascii_strcasecmp(kvss_domain_uuid(domain), detail(details, "uuid")) == 0)
        *out_domain = g_steal_pointer(&domain);
    return true;
}

/*
 * Registered by this restore, and not completed? That libvirt cannot say is no no: it may
 * have died under the question.
 */
static bool
look_for_mark(KvssDomain *domain, JsonObject *details, bool *out_is_ours, GError **error)
{
    char *mark = virDomainGetMetadata(kvss_domain_handle(domain), VIR_DOMAIN_METADATA_ELEMENT,
                                      KVSS_RESTORE_MARK_URI, VIR_DOMAIN_AFFECT_CONFIG);

    if (!mark && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN_METADATA)
        return kvss_throw_libvirt(error, "cannot look whose definition of %s it is",
                                  detail(details, "name"));
    *out_is_ours = mark && *detail(details, "run") && strstr(mark, detail(details, "run"));
    free(mark);
    return true;
}

/* Nothing of the old VM comes back while the new one stands in its place. */
static bool
check_gone(KvssDomain *domain, JsonObject *details, GError **error)
{
    bool is_ours = false;

    if (!look_for_mark(domain, details, &is_ours, error))
        return false;
    return !is_ours
        || kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE,
                      "the unfinished restore of %s is still registered", detail(details, "name"));
}

/* ---- files ---- */

/* Not set aside yet, or back: then it is at its place. With neither, the place itself may be missing. */
static bool
check_not_aside(JsonObject *details, GError **error)
{
    return is_there(detail(details, "from"))
           || kvss_place_check(json_object_get_int_member_with_default(details, "place", 0),
                               detail(details, "to"), error);
}

/*
 * A managed save image that is only put back by its name is found at the next
 * start, but until libvirtd restarts nobody is told of it. So libvirt loads the
 * image, standing still, and saves it as its own; then the original file takes
 * the place of what was written. No guest instruction runs. Where that cannot be
 * done the file alone must do.
 */
static void
reload_saved(KvssDomain *domain, const char *image)
{
    virDomainPtr handle = kvss_domain_handle(domain);
    virConnectPtr connection = virDomainGetConnect(handle);

    if (virDomainRestoreFlags(connection, image, NULL, VIR_DOMAIN_SAVE_PAUSED) < 0
        || virDomainManagedSave(handle, VIR_DOMAIN_SAVE_PAUSED) < 0) {
        g_warning("%s: its saved state is back, but libvirt does not tell of it before its own "
                  "restart: %s", kvss_domain_name(domain), virGetLastErrorMessage());
        if (virDomainIsActive(handle) == 1)
            (void) virDomainDestroy(handle);
    }
}

/*
 * Before the memory of the old VM goes back to its place. Not while the new VM stands:
 * libvirt throws away with it what lies there.
 */
static bool
prepare_memory(JsonObject *details, KvssHost *host, const char *image, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    KvssDomainState state;

    if (!find_by_uuid(details, host, &domain, error))
        return false;
    if (!domain)
        return true;
    if (!check_gone(domain, details, error))
        return false;
    /* What we have saved ourselves is for the start that follows. */
    if (!json_object_get_boolean_member_with_default(details, "saved", FALSE))
        return true;
    if (!kvss_domain_get_state(domain, &state, NULL, error))
        return false;
    /* Its disks have gone on since: with that memory they would be ruined. */
    if (state == KVSS_DOMAIN_RUNNING)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE,
                          "%s was started meanwhile: its old saved state stays as %s",
                          detail(details, "name"), image);
    /* An earlier attempt of ours ended half-way. */
    if (state == KVSS_DOMAIN_PAUSED)
        (void) virDomainDestroy(kvss_domain_handle(domain));
    reload_saved(domain, image);
    return true;
}

bool
kvss_act_aside_is_memory(JsonObject *details)
{
    return json_object_get_boolean_member_with_default(details, "memory", FALSE)
        || json_object_get_boolean_member_with_default(details, "saved", FALSE);
}

bool
kvss_act_undo_aside(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const char *from = detail(details, "from"), *to = detail(details, "to");
    g_autofree char *folder = g_path_get_dirname(from);
    struct stat st;

    if (lstat(to, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return check_not_aside(details, error);
        return kvss_throw_errno(error, errno, "look at %s", to);
    }
    if (!kvss_act_check_whole(details, error)
        || (kvss_act_aside_is_memory(details) && !prepare_memory(details, host, to, error)))
        return false;
    /* What stands in its place by now is the restore's. A rename replaces a file, not a folder. */
    if (S_ISDIR(st.st_mode) && is_there(from) && !kvss_act_remove_tree(from, error))
        return false;
    if (rename(to, from) < 0)
        return kvss_throw_errno(error, errno, "put %s back to %s", to, from);
    return kvss_fsync_folder(folder, error);
}

bool
kvss_act_forward_aside(JsonObject *details, KvssHost *host, GError **error)
{
    if (json_object_get_boolean_member_with_default(details, "keep", FALSE))
        return true;
    if (!is_there(detail(details, "to")))
        return check_not_aside(details, error);
    return kvss_act_remove_tree(detail(details, "to"), error);
}

/* ---- the old VM ---- */

static void
redefine_each(JsonObject *details, const char *list, virDomainPtr domain)
{
    JsonArray *array = json_object_has_member(details, list)
        ? json_object_get_array_member(details, list) : NULL;
    guint n = array ? json_array_get_length(array) : 0;

    for (guint i = 0; i < n; i++) {
        const char *xml = json_array_get_string_element(array, i);
        bool ok;

        if (g_str_equal(list, "snapshots")) {
            virDomainSnapshotPtr snapshot
                = virDomainSnapshotCreateXML(domain, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE);

            ok = snapshot != NULL;
            if (snapshot)
                (void) virDomainSnapshotFree(snapshot);
        } else {
            virDomainCheckpointPtr checkpoint
                = virDomainCheckpointCreateXML(domain, xml, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);

            ok = checkpoint != NULL;
            if (checkpoint)
                (void) virDomainCheckpointFree(checkpoint);
        }
        if (!ok)
            g_warning("%s: cannot register one of its %s again: %s", detail(details, "name"), list,
                      virGetLastErrorMessage());
    }
}

static bool
define_old(JsonObject *details, KvssHost *host, GError **error)
{
    virDomainPtr domain
        = virDomainDefineXML(kvss_host_connection(host), detail(details, "xml"));

    if (!domain)
        return kvss_throw_libvirt(error, "cannot register %s again", detail(details, "name"));
    if (json_object_get_boolean_member_with_default(details, "autostart", FALSE)
        && virDomainSetAutostart(domain, 1) < 0)
        g_warning("%s: cannot set autostart again", detail(details, "name"));
    redefine_each(details, "snapshots", domain);
    redefine_each(details, "checkpoints", domain);
    (void) virDomainFree(domain);
    return true;
}

bool
kvss_act_undo_undefine(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) present = NULL;

    /* The new VM may have been registered after that was undone: libvirt had not got to it. */
    if (!kvss_act_check_whole(details, error)
        || !kvss_act_undo_define(details, host, patience_s, error)
        || !find_by_uuid(details, host, &present, error))
        return false;
    return present /* was not undefined yet, or is registered again */
        || define_old(details, host, error);
}

bool
kvss_act_undo_stop(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    bool paused = g_str_equal(detail(details, "prior"), "paused");
    const char *image = detail(details, "image");
    KvssDomainState state;

    if (!kvss_act_check_whole(details, error) || !find_by_uuid(details, host, &domain, error))
        return false;
    if (!domain)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND,
                          "%s is not registered: it cannot be started again",
                          detail(details, "name"));
    /* It may only be about to stop: what was asked for is carried out after the death of who asked. */
    if (!check_gone(domain, details, error)
        || !kvss_act_end_save(domain, patience_s, &state, error))
        return false;
    if (state != KVSS_DOMAIN_OFF && state != KVSS_DOMAIN_SAVED)
        return true;
    /* Its memory was used up already: somebody started it after us, and it ended since. Or it was never whole. */
    if (*image && !is_there(image) && state != KVSS_DOMAIN_SAVED)
        return true;
    /* A start from a saved image comes up as it was saved, running or paused. */
    return kvss_domain_start(domain, paused, error);
}

/* ---- the new VM ---- */

bool
kvss_act_undo_define(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_TPM;
    g_autoptr(KvssDomain) domain = NULL;
    virDomainPtr handle;
    bool is_ours = false;

    if (!find_by_uuid(details, host, &domain, error))
        return false;
    if (!domain)
        return true;
    if (!look_for_mark(domain, details, &is_ours, error))
        return false;
    if (!is_ours)
        return true;
    handle = kvss_domain_handle(domain);
    if (virDomainIsActive(handle) == 1)
        (void) virDomainDestroy(handle);
    if (virDomainUndefineFlags(handle, flags) == 0)
        return true;
    /* The test driver knows none of these. */
    if (virGetLastErrorCode() == VIR_ERR_INVALID_ARG && virDomainUndefine(handle) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot take the unfinished %s away again",
                              detail(details, "name"));
}

bool
kvss_act_forward_define(JsonObject *details, KvssHost *host, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    bool is_ours = false;

    if (!find_by_uuid(details, host, &domain, error))
        return false;
    if (!domain)
        return true;
    if (!look_for_mark(domain, details, &is_ours, error))
        return false;
    if (!is_ours)
        return true;
    /* Not before: a start of the host would have started what may still be taken back. */
    if (json_object_get_boolean_member_with_default(details, "autostart", FALSE)
        && virDomainSetAutostart(kvss_domain_handle(domain), 1) < 0)
        return kvss_throw_libvirt(error, "cannot set autostart of %s", detail(details, "name"));
    if (virDomainSetMetadata(kvss_domain_handle(domain), VIR_DOMAIN_METADATA_ELEMENT, NULL,
                             KVSS_RESTORE_MARK_PREFIX, KVSS_RESTORE_MARK_URI,
                             VIR_DOMAIN_AFFECT_CONFIG) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot complete the definition of %s",
                              detail(details, "name"));
}

/* ---- links in the default location ---- */

/* It is made when the new VM stands for good. */
bool
kvss_act_undo_link(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    return true;
}

/* One that cannot be made is no reason to keep a journal, or a person, busy. */
bool
kvss_act_forward_link(JsonObject *details, KvssHost *host, GError **error)
{
    KvssLink link = {
        .path = (char *) detail(details, "path"),
        .target = (char *) detail(details, "target"),
        .uuid = (char *) detail(details, "uuid"),
        .disk = (char *) detail(details, "disk"),
    };
    g_autoptr(GError) problem = NULL;

    if (!kvss_link_apply(&link, &problem))
        g_message("%s", problem->message);
    return true;
}
