/*
 * cmd-backup.c - kvss backup: VMs as one set into the repository
 */
#include "backup/backup.h"
#include "catalogue/manifest-json.h"
#include "host/connection.h"
#include "requester/describe.h"
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/requester.h"

#include <string.h>

static bool
is_type(const char *text)
{
    return strcmp(text, "copy") == 0 || strcmp(text, "full") == 0;
}

static bool
check_usage(KvssRequester *requester, GError **error)
{
    const KvssOptions *options = requester->options;

    if (options->all && kvss_options_count(options->words) > 0)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "backup: give names or --all, not both");
    if (!options->all && kvss_options_count(options->words) == 0)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "backup: name VMs, or give --all");
    if (options->type && !is_type(options->type))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "there is no backup type '%s': it is copy or full", options->type);
    return kvss_requester_check_options(requester, error);
}

/* Every name that was given: Identify needs to look at these only. NULL with --all. */
static char **
all_names(const KvssBackupRequest *request)
{
    const char *const *lists[] = { request->vms, request->exclude, request->mentioned };
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();

    if (request->all)
        return NULL;
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++)
        for (const char *const *name = lists[i]; name && *name; name++)
            g_strv_builder_add(names, *name);
    return g_strv_builder_end(names);
}

static void
on_progress(const KvssBackupStatus *status, gpointer data)
{
    kvss_progress_update(data, status->step, status->vm, status->target, status->done,
                         status->total);
}

/* ---- the result ---- */

static bool
list_has_gap(const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(list, i);

        if (kvss_describe_has_gap(vm->component))
            return true;
    }
    return false;
}

static bool
has_gap(const KvssManifest *manifest)
{
    return list_has_gap(manifest->vms) || list_has_gap(manifest->components);
}

static void
print_result(const KvssBackupResult *result)
{
    const KvssManifest *manifest = result->manifest;
    g_autofree char *read = kvss_size_text(manifest->bytes_read);
    g_autofree char *stored = kvss_size_text(manifest->bytes_stored);

    for (guint i = 0; i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        kvss_describe_print(vm->component, KVSS_DESCRIBE_RESULT);
    }
    for (guint i = 0; i < manifest->components->len; i++)
        kvss_describe_print_host(g_ptr_array_index(manifest->components, i));
    if (manifest->skew_ms >= 0)
        kvss_print("first to last instant: %.1f ms\n", manifest->skew_ms);
    kvss_print("backup %s: %u VM%s, read %s, stored %s, %.1f s\n", result->id, manifest->vms->len,
               manifest->vms->len == 1 ? "" : "s", read, stored, result->seconds);
}

static void
print_result_json(const KvssBackupResult *result)
{
    const KvssManifest *manifest = result->manifest;
    g_autofree char *time = kvss_manifest_time(manifest->time_us);
    JsonObject *object = json_object_new();
    JsonArray *vms = json_array_new(), *components = json_array_new();

    for (guint i = 0; i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        json_array_add_object_element(vms,
                                      kvss_describe_json(vm->component, KVSS_DESCRIBE_RESULT));
    }
    for (guint i = 0; i < manifest->components->len; i++)
        json_array_add_object_element(
            components, kvss_describe_host_json(g_ptr_array_index(manifest->components, i)));
    kvss_set_text(object, "type", "summary");
    kvss_set_text(object, "backup_id", result->id);
    kvss_set_text(object, "set_id", manifest->set_id);
    kvss_set_text(object, "time", time);
    json_object_set_array_member(object, "vms", vms);
    json_object_set_array_member(object, "components", components);
    json_object_set_member(object, "skew_ms", kvss_manifest_ms(manifest->skew_ms));
    json_object_set_int_member(object, "bytes_read", (gint64) manifest->bytes_read);
    json_object_set_int_member(object, "bytes_stored", (gint64) manifest->bytes_stored);
    kvss_set_seconds(object, "seconds", result->seconds);
    kvss_set_text(object, "warning", result->warning);
    kvss_print_json_object(object);
}

/* A gap is said on stderr as well: the list above may be long, and cron keeps this. */
static void
say_gaps(const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        const KvssComponent *vm = ((KvssManifestVm *) g_ptr_array_index(list, i))->component;

        for (guint n = 0; n < vm->not_covered->len; n++) {
            const KvssNotCovered *gap = g_ptr_array_index(vm->not_covered, n);

            if (gap->is_writable)
                kvss_say("%s: %s is not in the backup: %s", vm->display_name, gap->target,
                         gap->reason);
        }
    }
}

static int
report(KvssRequester *requester, KvssCoordinator *coordinator, const KvssBackupResult *result)
{
    bool is_remarkable = kvss_requester_say_dropped_writers(coordinator) > 0
                         || requester->writers_refused > 0;

    if (requester->options->json)
        print_result_json(result);
    else if (!requester->options->quiet)
        print_result(result);
    if (result->warning)
        kvss_say("the backup stands, but: %s", result->warning);
    if (requester->cancellable && g_cancellable_is_cancelled(requester->cancellable))
        kvss_say("interrupted too late: the backup is complete");
    if (!has_gap(result->manifest))
        return is_remarkable ? KVSS_EXIT_REMARK : KVSS_EXIT_DONE;
    say_gaps(result->manifest->vms);
    say_gaps(result->manifest->components);
    return KVSS_EXIT_REMARK;
}

/*
 * A failure that belongs to no VM alone (the repository is full) concerns all of
 * them: whoever reads only this line must know which were not backed up.
 */
static void
name_vms(const KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < set->components->len; i++) {
        const KvssComponent *vm = g_ptr_array_index(set->components, i);

        if (strstr((*error)->message, vm->display_name))
            return;
        g_string_append_printf(names, "%s%s", i ? ", " : "", vm->display_name);
    }
    if (names->len)
        g_prefix_error(error, "%s: ", names->str);
}

/* ---- */

static int
run(KvssRequester *requester, KvssBackupRequest *request, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssProgress)
        progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    KvssBackupResult result;
    int code;

    request->progress = on_progress;
    request->progress_data = progress;
    if (!kvss_backup_run(request, &result, error)) {
        kvss_requester_note_failure(requester, request->coordinator);
        name_vms(kvss_coordinator_set(request->coordinator), error);
        return -1;
    }
    g_clear_pointer(&progress, kvss_progress_free);
    code = report(requester, request->coordinator, &result);
    kvss_backup_result_clear(&result);
    return code;
}

static int
backup(KvssRequester *requester, KvssBackupRequest *request, GError **error)
{
    g_auto(GStrv) names = all_names(request);
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = NULL;

    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_ADD, error);
    if (!repository)
        return -1;
    host = kvss_requester_open_host(requester, error);
    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(requester, host, (const char *const *) names,
                                                 error);
    if (!coordinator
        || !kvss_requester_take_host_writers(requester, coordinator, (const char *const *) names,
                                             error))
        return -1;
    request->repository = repository;
    request->host = host;
    request->coordinator = coordinator;
    return run(requester, request, error);
}

int
kvss_cmd_backup(KvssRequester *requester, GError **error)
{
    const KvssOptions *options = requester->options;
    g_auto(GStrv) mentioned = NULL;
    KvssBackupRequest request = {
        .state_dir = requester->config->state_dir,
        .scratch_dir = requester->config->scratch_dir,
        .vms = kvss_options_list(options->words),
        .all = options->all,
        .exclude = kvss_options_list(options->exclude),
        .tags = kvss_options_list(options->tag),
        .full = options->full,
        .limit = requester->config->limit,
        .same_instant = options->same_instant,
        .backup_type = g_strcmp0(options->type, "full") == 0 ? KVSS_BT_FULL : KVSS_BT_COPY,
        .cancellable = requester->cancellable,
    };

    if (options->limit
        && !kvss_options_parse_rate("--limit", options->limit, &request.limit, error))
        return -1;
    if (!check_usage(requester, error) || !kvss_requester_check_local(requester, error) ||
        !kvss_requester_recover(requester, true, error))
        return -1;
    mentioned = kvss_requester_method_vms(requester);
    request.mentioned = (const char *const *) mentioned;
    return backup(requester, &request, error);
}
