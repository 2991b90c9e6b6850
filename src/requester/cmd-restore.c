/*
 * cmd-restore.c - kvss restore: VMs of a backup, back on this host
 */
#include "catalogue/catalogue.h"
#include "host/connection.h"
#include "host/domain.h"
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/requester.h"
#include "restore/restore.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool
is_chosen(const KvssManifestVm *vm, const char *const *vms)
{
    if (!*vms)
        return true;
    for (; *vms; vms++)
        if (strcmp(vm->component->display_name, *vms) == 0 ||
            g_ascii_strcasecmp(vm->component->name, *vms) == 0)
            return true;
    return false;
}

static void
add_name(GString *names, const char *name)
{
    g_string_append_printf(names, "%s%s", names->len ? ", " : "", name);
}

/* The one of the same UUID; it may have got another name since. */
static void
add_replaced(GString *names, KvssHost *host, const KvssComponent *stored)
{
    g_autoptr(KvssDomain) old = kvss_host_find_domain(host, stored->name, NULL);

    if (!old || g_ascii_strcasecmp(kvss_domain_uuid(old), stored->name) != 0)
        return;
    add_name(names, kvss_domain_name(old));
    if (strcmp(kvss_domain_name(old), stored->display_name) != 0)
        g_string_append_printf(names, " (in the backup: %s)", stored->display_name);
}

/* The names of the chosen VMs that are on the host already; NULL when there are none. */
static char *
existing_vms(KvssHost *host, const KvssBackup *backup, const char *const *vms, bool in_place)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; in_place && i < backup->manifest->components->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->components, i);

        if (is_chosen(vm, vms))
            add_name(names, vm->component->display_name);
    }
    for (guint i = 0; i < backup->manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->vms, i);

        if (is_chosen(vm, vms))
            add_replaced(names, host, vm->component);
    }
    return names->len ? g_string_free(g_steal_pointer(&names), FALSE) : NULL;
}

/* A signal does not end the read by itself: who waits here waits for both. */
static bool
answer_is_yes(GCancellable *cancellable)
{
    GPollFD fds[2] = { { .fd = STDIN_FILENO, .events = G_IO_IN } };
    guint n = cancellable && g_cancellable_make_pollfd(cancellable, &fds[1]) ? 2 : 1;
    char answer[16] = "";
    bool is_there;

    while (g_poll(fds, n, -1) < 0 && errno == EINTR)
        ;
    is_there = fds[0].revents != 0 && !g_cancellable_is_cancelled(cancellable);
    if (n == 2)
        g_cancellable_release_fd(cancellable);
    return is_there && fgets(answer, sizeof answer, stdin)
           && (answer[0] == 'y' || answer[0] == 'Y');
}

/* On a terminal somebody is there to be asked; a script has decided already. */
static bool
confirm(KvssRequester *requester, KvssHost *host, const KvssBackup *backup, const char *const *vms,
        GError **error)
{
    g_autofree char *names = NULL, *when = NULL, *plain = NULL;
    g_autofree char *disks = NULL, *plain_disks = NULL;

    if (requester->options->yes || requester->options->dry_run || requester->options->as ||
        (requester->options->to && kvss_options_count(requester->options->disk) > 0) ||
        !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return true;
    names = existing_vms(host, backup, vms, !requester->options->to);
    if (!names)
        return true;
    plain = kvss_plain(names);
    disks = kvss_options_count(requester->options->disk) > 0
        ? g_strjoinv(", ", (char **) kvss_options_list(requester->options->disk)) : NULL;
    plain_disks = disks ? kvss_plain(disks) : NULL;
    when = kvss_time_text(backup->manifest->time_us);
    if (plain_disks)
        fprintf(stderr, "disk %s of ", plain_disks);
    fprintf(stderr, "%s will be replaced by the backup of %s. Go on? [y/N] ", plain, when);
    fflush(stderr);
    if (answer_is_yes(requester->cancellable))
        return true;
    if (!kvss_check_cancelled(requester->cancellable, error))
        return false;
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_REFUSED,
                      "not confirmed: nothing was changed");
}

/* ---- the result ---- */

static JsonArray *
disks_json(const GPtrArray *disks)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < disks->len; i++) {
        const KvssRestoredDisk *disk = g_ptr_array_index(disks, i);
        JsonObject *object = json_object_new();

        kvss_set_text(object, "target", disk->target);
        kvss_set_text(object, "format", disk->format);
        kvss_set_text(object, "path", disk->path);
        kvss_set_text(object, "link", disk->link);
        json_object_set_int_member(object, "size", (gint64) disk->size);
        json_object_set_int_member(object, "bytes_written", (gint64) disk->bytes_written);
        json_object_set_boolean_member(object, "in_place", disk->is_in_place);
        json_object_set_int_member(object, "bytes_differing", (gint64) disk->bytes_differing);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonArray *
networks_json(const GPtrArray *networks)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < networks->len; i++) {
        const KvssRestoredNetwork *network = g_ptr_array_index(networks, i);
        JsonObject *object = json_object_new();

        kvss_set_text(object, "type", network->type);
        kvss_set_text(object, "source", network->source);
        if (network->was)
            kvss_set_text(object, "was", network->was);
        kvss_set_text(object, "mac", network->mac);
        json_object_set_boolean_member(object, "connected", network->is_connected);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonArray *
strings_json(const GPtrArray *strings)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < strings->len; i++)
        json_array_add_string_element(array, g_ptr_array_index(strings, i));
    return array;
}

static JsonObject *
vm_json(const KvssRestoredVm *vm)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", vm->name);
    kvss_set_text(object, "uuid", vm->uuid);
    if (vm->copy_of)
        kvss_set_text(object, "copy_of", vm->copy_of);
    kvss_set_text(object, "state", vm->state);
    json_object_set_array_member(object, "disks", disks_json(vm->disks));
    json_object_set_array_member(object, "networks", networks_json(vm->networks));
    json_object_set_array_member(object, "notes", strings_json(vm->notes));
    return object;
}

static JsonArray *
components_json(const GPtrArray *components)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < components->len; i++) {
        const KvssRestoredComponent *component = g_ptr_array_index(components, i);
        JsonObject *object = json_object_new();

        kvss_set_text(object, "name", component->name);
        kvss_set_text(object, "writer", component->writer);
        kvss_set_text(object, "writer_name", component->writer_name);
        json_object_set_int_member(object, "files", component->files);
        json_object_set_int_member(object, "bytes", (gint64) component->bytes);
        json_object_set_array_member(object, "notes", strings_json(component->notes));
        json_array_add_object_element(array, object);
    }
    return array;
}

static void
print_result_json(const KvssBackup *backup, const KvssRestoreResult *result, bool dry_run)
{
    JsonObject *object = json_object_new();
    JsonArray *vms = json_array_new();

    for (guint i = 0; i < result->vms->len; i++)
        json_array_add_object_element(vms, vm_json(g_ptr_array_index(result->vms, i)));
    kvss_set_text(object, "type", "summary");
    kvss_set_text(object, "backup_id", backup->snapshot->id);
    json_object_set_boolean_member(object, "dry_run", dry_run);
    json_object_set_array_member(object, "vms", vms);
    json_object_set_array_member(object, "components", components_json(result->components));
    if (result->steps)
        json_object_set_array_member(object, "steps", strings_json(result->steps));
    kvss_set_seconds(object, "seconds", result->seconds);
    kvss_set_text(object, "warning", result->warning);
    kvss_print_json_object(object);
}

/* Of a plan: what has no step of its own. */
static void
print_notes(const KvssRestoredVm *vm)
{
    for (guint i = 0; i < vm->notes->len; i++)
        kvss_print("note: %s: %s\n", vm->name, (const char *) g_ptr_array_index(vm->notes, i));
}

static void
print_vm(const KvssRestoredVm *vm)
{
    kvss_print("%s%s%s: %s\n", vm->name, vm->copy_of ? ", a copy of " : "",
               vm->copy_of ? vm->copy_of : "", vm->state ? vm->state : "not on this host");
    for (guint i = 0; i < vm->disks->len; i++) {
        const KvssRestoredDisk *disk = g_ptr_array_index(vm->disks, i);
        g_autofree char *size = kvss_size_text(disk->size);
        g_autofree char *written = kvss_size_text(disk->bytes_written);

        kvss_print("  disk %s: %s, %s, %s written%s, %s\n", disk->target, disk->format, size,
                   written, disk->is_in_place ? " in place" : "", disk->path ? disk->path : "");
        if (disk->link)
            kvss_print("    found by %s as well\n", disk->link);
    }
    for (guint i = 0; i < vm->networks->len; i++) {
        const KvssRestoredNetwork *network = g_ptr_array_index(vm->networks, i);

        kvss_print("  interface %s: %s%s%s%s%s%s\n",
                   network->mac ? network->mac : "without MAC", network->type,
                   network->source ? " " : "", network->source ? network->source : "",
                   network->was ? " instead of " : "", network->was ? network->was : "",
                   network->is_connected ? "" : ": not here, its link is down");
    }
    for (guint i = 0; i < vm->notes->len; i++)
        kvss_print("  note: %s\n", (const char *) g_ptr_array_index(vm->notes, i));
}

static void
print_component(const KvssRestoredComponent *component)
{
    g_autofree char *size = kvss_size_text(component->bytes);

    kvss_print("%s: %u file%s, %s\n", component->name, component->files,
               component->files == 1 ? "" : "s", size);
    for (guint i = 0; i < component->notes->len; i++)
        kvss_print("  note: %s\n", (const char *) g_ptr_array_index(component->notes, i));
}

static void
print_result(const KvssBackup *backup, const KvssRestoreResult *result, bool dry_run)
{
    for (guint i = 0; dry_run && result->steps && i < result->steps->len; i++)
        kvss_print("%u. %s\n", i + 1, (const char *) g_ptr_array_index(result->steps, i));
    for (guint i = 0; dry_run && i < result->vms->len; i++)
        print_notes(g_ptr_array_index(result->vms, i));
    if (dry_run)
        return;
    for (guint i = 0; i < result->vms->len; i++)
        print_vm(g_ptr_array_index(result->vms, i));
    for (guint i = 0; i < result->components->len; i++)
        print_component(g_ptr_array_index(result->components, i));
    kvss_print("restored from backup %.8s in %.1f s\n", backup->snapshot->id, result->seconds);
}

/* What made the exit code 3 is said on stderr as well: cron keeps this. */
static void
say_remarks(const KvssRestoreResult *result)
{
    for (guint i = 0; i < result->vms->len; i++) {
        const KvssRestoredVm *vm = g_ptr_array_index(result->vms, i);

        for (guint n = 0; n < vm->notes->len; n++)
            kvss_say("%s: %s", vm->name, (const char *) g_ptr_array_index(vm->notes, n));
    }
    for (guint i = 0; i < result->components->len; i++) {
        const KvssRestoredComponent *component = g_ptr_array_index(result->components, i);

        for (guint n = 0; n < component->notes->len; n++)
            kvss_say("%s: %s", component->name,
                     (const char *) g_ptr_array_index(component->notes, n));
    }
}

static int
report(KvssRequester *requester, const KvssBackup *backup, const KvssRestoreResult *result)
{
    bool dry_run = requester->options->dry_run;

    if (requester->options->json)
        print_result_json(backup, result, dry_run);
    else if (dry_run || !requester->options->quiet)
        print_result(backup, result, dry_run);
    if (result->warning)
        kvss_say("the restore stands, but: %s", result->warning);
    if (requester->cancellable && g_cancellable_is_cancelled(requester->cancellable))
        kvss_say("interrupted too late: the restore is complete");
    if (result->is_partial)
        say_remarks(result);
    return result->is_partial ? KVSS_EXIT_REMARK : KVSS_EXIT_DONE;
}

/* ---- */

static void
on_progress(const KvssRestoreProgressInfo *info, gpointer data)
{
    kvss_progress_update(data, info->step, info->vm, info->target, info->done, info->total);
}

static int
run(KvssRequester *requester, KvssRestoreOptions *request, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssProgress)
        progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    KvssRestoreResult result = { 0 };
    int code;

    request->progress = on_progress;
    request->progress_data = progress;
    requester->has_set = true;
    if (!kvss_restore_run(request, &result, error))
        return -1;
    g_clear_pointer(&progress, kvss_progress_free);
    code = report(requester, request->backup, &result);
    kvss_restore_result_clear(&result);
    return code;
}

static bool
needs_host_writers(const KvssRestoreOptions *request)
{
    const GPtrArray *components = request->backup->manifest->components;
    static const char *const all[] = { NULL };

    for (guint i = 0; !request->to_dir && i < components->len; i++)
        if (is_chosen(g_ptr_array_index(components, i), request->vms ? request->vms : all))
            return true;
    return false;
}

/* The writers of this host as they are now, and what they declare; of VMs, none. */
static bool
gather_host_writers(KvssRequester *requester, KvssRestoreOptions *request, GError **error)
{
    static const char *const nobody[] = { NULL };

    if (!needs_host_writers(request))
        return true;
    request->host_coordinator
        = kvss_requester_new_coordinator(requester, request->host, nobody, error);
    return request->host_coordinator
           && kvss_requester_take_host_writers(requester, request->host_coordinator, NULL, error)
           && kvss_coordinator_gather(request->host_coordinator, error);
}

/* The VMs asked for, in front of a message that does not name them. */
static void
name_vms(KvssRequester *requester, const char *const *vms, GError **error)
{
    g_autofree char *names = *vms ? g_strjoinv(", ", (char **) vms) : NULL;

    if (!names || !error || !*error)
        return;
    if (!vms[1])
        kvss_set_string(&requester->failed_vm, vms[0]);
    if (!strstr((*error)->message, names))
        g_prefix_error(error, "%s: ", names);
}

/* A single disk changes nothing about its VM. */
static bool
check_disk_words(const KvssOptions *options, GError **error)
{
    if (options->as || kvss_options_count(options->network) > 0)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--disk leaves the VM's definition as it is: not with --as, --network");
    if (options->to && (options->start || options->in_place))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--disk with --to writes a file beside the VM: not with %s",
                          options->start ? "--start" : "--in-place");
    if (kvss_options_count(options->words) > 2)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--disk is about the disks of one VM: name one VM");
    return true;
}

/* What can be told from the words alone, before a password is asked for. */
static bool
check_words(const KvssOptions *options, GError **error)
{
    const char *const *networks = kvss_options_list(options->network);

    if (options->as && kvss_options_count(options->words) > 2)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--as gives one VM another name: name one VM");
    if (options->in_place && options->keep_old)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--keep-old keeps what --in-place writes over: give one of them");
    if (kvss_options_count(options->disk) > 0 && !check_disk_words(options, error))
        return false;
    for (; *networks; networks++) {
        const char *equals = strrchr(*networks, '=');

        if (!equals || equals == *networks || !equals[1])
            return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                              "--network %s: say which network takes the place of which: OLD=NEW",
                              *networks);
    }
    return true;
}

static bool
check_one_chosen(const KvssOptions *options, const KvssBackup *backup, GError **error)
{
    guint all = backup->manifest->vms->len + backup->manifest->components->len;

    if ((!options->as && kvss_options_count(options->disk) == 0)
        || kvss_options_count(options->words) > 1 || all == 1)
        return true;
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                      "%s is about one VM: say which one of the backup's %u",
                      options->as ? "--as" : "--disk", all);
}

static int
restore(KvssRequester *requester, const char *to_dir, GError **error)
{
    const KvssOptions *options = requester->options;
    const char *const *words = kvss_options_list(options->words);
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    g_autoptr(KvssHost) host = NULL;
    KvssRestoreOptions request = {
        .state_dir = requester->config->state_dir,
        .scratch_dir = requester->config->scratch_dir,
        .vms = words[1] ? words + 1 : NULL,
        .disks = kvss_options_count(options->disk) > 0 ? kvss_options_list(options->disk) : NULL,
        .to_dir = to_dir,
        .as_name = options->as,
        .networks = kvss_options_list(options->network),
        .allow_host_access = options->allow_host_access,
        .start = options->start,
        .keep_old = options->keep_old,
        .in_place = options->in_place,
        .no_rollback = options->no_rollback,
        .dry_run = options->dry_run,
        .cancellable = requester->cancellable,
    };
    int code = -1;

    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    backup = kvss_catalogue_find(repository, words[0], words + 1, error);
    if (!backup || !check_one_chosen(options, backup, error)
        || !kvss_backup_check_whole(backup, request.vms, request.disks, error))
        return -1;
    host = kvss_requester_open_host(requester, error);
    if (!host || !confirm(requester, host, backup, words + 1, error))
        return -1;
    request.repository = repository;
    request.backup = backup;
    request.host = host;
    if (gather_host_writers(requester, &request, error))
        code = run(requester, &request, error);
    kvss_coordinator_free(request.host_coordinator);
    return code;
}

int
kvss_cmd_restore(KvssRequester *requester, GError **error)
{
    const char *to = requester->options->to;
    g_autofree char *to_dir = to ? g_canonicalize_filename(to, NULL) : NULL;
    int code;

    if (!check_words(requester->options, error) ||
        !kvss_requester_check_local(requester, error) ||
        !kvss_requester_recover(requester, true, error))
        return -1;
    code = restore(requester, to_dir, error);
    if (code < 0)
        name_vms(requester, kvss_options_list(requester->options->words) + 1, error);
    return code;
}
