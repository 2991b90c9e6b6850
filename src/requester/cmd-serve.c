/*
 * cmd-serve.c - kvss serve: stored disks as read-only NBD exports, until interrupted
 */
#include "requester/output.h"
#include "requester/requester.h"
#include "requester/signals.h"
#include "serve/serve.h"

#include <string.h>

/** Who is told, and what of. */
typedef struct {
    const KvssOptions *options;
    const char *socket;
    char *backup_id;
} Listener;

static void
print_ready_json(const Listener *listener, const GPtrArray *disks)
{
    JsonObject *object = json_object_new();
    JsonArray *exports = json_array_new();

    for (guint i = 0; i < disks->len; i++) {
        const KvssServedDisk *disk = g_ptr_array_index(disks, i);
        JsonObject *export = json_object_new();

        kvss_set_text(export, "name", disk->name);
        kvss_set_text(export, "vm", disk->vm);
        kvss_set_text(export, "uuid", disk->uuid);
        kvss_set_text(export, "target", disk->target);
        json_object_set_int_member(export, "size", (gint64) disk->size);
        kvss_set_text(export, "uri", disk->uri);
        json_array_add_object_element(exports, export);
    }
    kvss_set_text(object, "type", "ready");
    kvss_set_text(object, "backup_id", listener->backup_id);
    kvss_set_text(object, "socket", listener->socket);
    json_object_set_array_member(object, "exports", exports);
    kvss_print_json_object(object);
}

static void
print_ready(const Listener *listener, const GPtrArray *disks)
{
    kvss_print("backup %.8s is served on %s until you interrupt:", listener->backup_id,
               listener->socket);
    for (guint i = 0; i < disks->len; i++)
        kvss_print(" %s", ((const KvssServedDisk *) g_ptr_array_index(disks, i))->uri);
    kvss_print("\n");
    (void) fflush(stdout);
}

static void
on_ready(const char *backup_id, const GPtrArray *disks, gpointer data)
{
    Listener *listener = data;

    kvss_set_string(&listener->backup_id, backup_id);
    if (listener->options->json)
        print_ready_json(listener, disks);
    else
        print_ready(listener, disks);
}

static void
on_damage(const KvssServeDamage *damage, gpointer data)
{
    const Listener *listener = data;
    JsonObject *object;

    kvss_say("%s: disk %s: offset %" G_GUINT64_FORMAT ": %s: its reader got an I/O error",
             damage->vm, damage->target, damage->offset, damage->message);
    if (!listener->options->json)
        return;
    object = json_object_new();
    kvss_set_text(object, "type", "damage");
    kvss_set_text(object, "vm", damage->vm);
    kvss_set_text(object, "target", damage->target);
    json_object_set_int_member(object, "offset", (gint64) damage->offset);
    kvss_set_text(object, "message", damage->message);
    kvss_print_json_object(object);
}

static void
print_end_json(const Listener *listener, const KvssServeResult *result, double seconds)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "type", "summary");
    kvss_set_text(object, "backup_id", listener->backup_id);
    json_object_set_int_member(object, "bytes_read", (gint64) result->bytes_read);
    json_object_set_int_member(object, "damaged", (gint64) result->damaged);
    kvss_set_seconds(object, "seconds", seconds);
    kvss_print_json_object(object);
}

static int
serve(KvssRequester *requester, const char *socket, char *password, GError **error)
{
    const KvssOptions *options = requester->options;
    const char *const *words = kvss_options_list(options->words);
    Listener listener = { .options = options, .socket = socket };
    gint64 start_us = g_get_monotonic_time();
    KvssServeResult result;
    KvssServeOptions request = {
        .location = kvss_requester_repository(requester, error),
        .password = password,
        .state_dir = requester->config->state_dir,
        .cache_dir = requester->config->cache_dir,
        .backup = words[0],
        .vm = words[1],
        .target = words[1] ? words[2] : NULL,
        .socket = socket,
        .ready = on_ready,
        .damage = on_damage,
        .data = &listener,
        .cancellable = requester->cancellable,
    };
    bool ok;

    if (!request.location)
        return -1;
    kvss_signals_say("no longer serving (once more to end at once)");
    ok = kvss_serve_run(&request, &result, error);
    if (ok && options->json)
        print_end_json(&listener, &result,
                       (double) (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC);
    g_free(listener.backup_id);
    return ok ? KVSS_EXIT_DONE : -1;
}

int
kvss_cmd_serve(KvssRequester *requester, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autofree char *socket = options->socket && *options->socket
                                  ? g_canonicalize_filename(options->socket, NULL)
                                  : NULL;
    const char *vm = kvss_options_list(options->words)[1];
    char *password;
    int code;

    if (!socket) {
        kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                   "say where: --socket PATH, a Unix socket that is made there");
        return -1;
    }
    if (!kvss_requester_recover(requester, false, error)
        || !kvss_requester_repository(requester, error))
        return -1;
    password = kvss_config_password(requester->config, options, false, true,
                                    requester->cancellable, error);
    if (!password)
        return -1;
    code = serve(requester, socket, password, error);
    kvss_config_password_free(password);
    if (code < 0)
        kvss_set_string(&requester->failed_vm, vm);
    return code;
}
