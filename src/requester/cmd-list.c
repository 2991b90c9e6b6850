/*
 * cmd-list.c - kvss list vms|backups|writers|providers|shadows
 *
 * The last three have the shape that vssadmin's users know.
 */
#include "backup/backup.h"
#include "catalogue/catalogue.h"
#include "host/connection.h"
#include "provider/provider.h"
#include "requester/describe.h"
#include "requester/output.h"
#include "requester/requester.h"
#include "writer/writer.h"

#include <string.h>

/* ---- vms ---- */

/* Whether a repository is at hand without asking anybody for anything. */
static bool
has_repository(KvssRequester *requester)
{
    char *password;

    if (!kvss_config_repository(requester->config, requester->options))
        return false;
    password = kvss_config_password(requester->config, requester->options, false, false, NULL,
                                    NULL);
    kvss_config_password_free(password);
    return password != NULL;
}

/* Sets are asked for the last backup of each VM; without a repository there is none to tell. */
static GPtrArray *
last_backups(KvssRequester *requester)
{
    g_autoptr(GError) trouble = NULL;
    g_autoptr(KvssRepository) repository = NULL;
    GPtrArray *backups = NULL;

    if (!has_repository(requester))
        return NULL;
    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, &trouble);
    if (repository)
        backups = kvss_catalogue_list(repository, NULL, NULL, &trouble);
    if (!backups)
        kvss_say("last backups are not known: %s", trouble->message);
    return backups;
}

static void
print_vm_row(KvssTable *table, const KvssComponent *vm, const KvssBackup *last)
{
    g_autofree char *disks = g_strdup_printf("%u", vm->disks->len);
    g_autofree char *gaps = g_strdup_printf("%u", vm->not_covered->len);
    g_autofree char *when = last ? kvss_time_text(last->manifest->time_us) : g_strdup("never");

    kvss_table_add(table, vm->display_name, vm->state ? vm->state : "?", vm->method, disks, gaps,
                   when, NULL);
}

static JsonObject *
vm_json(const KvssComponent *vm, const KvssBackup *last)
{
    JsonObject *object = kvss_describe_json(vm, KVSS_DESCRIBE_PLAN);
    g_autofree char *when = last ? kvss_manifest_time(last->manifest->time_us) : NULL;

    kvss_set_text(object, "last_backup", when);
    return object;
}

static void
each_component(KvssCoordinator *coordinator, void (*func)(const KvssComponent *, gpointer),
               gpointer data)
{
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    for (guint w = 0; w < writers->len; w++) {
        const KvssWriter *writer = g_ptr_array_index(writers, w);

        for (guint i = 0; i < writer->components->len; i++)
            func(g_ptr_array_index(writer->components, i), data);
    }
}

typedef struct {
    GPtrArray *backups; /* (nullable) */
    JsonArray *json;    /* (nullable) */
    KvssTable *table;   /* (nullable) */
} VmList;

static void
list_vm(const KvssComponent *vm, gpointer data)
{
    VmList *list = data;
    const KvssBackup *last = list->backups ? kvss_catalogue_newest_of(list->backups, vm->name)
                                           : NULL;

    if (list->json)
        json_array_add_object_element(list->json, vm_json(vm, last));
    else
        print_vm_row(list->table, vm, last);
}

static int
list_vms(KvssRequester *requester, GError **error)
{
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = NULL;
    g_autoptr(GPtrArray) backups = NULL;
    VmList list = { 0 };

    host = kvss_requester_open_host(requester, error);
    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(requester, host, NULL, error);
    if (!coordinator || !kvss_coordinator_gather(coordinator, error))
        return -1;
    list.backups = backups = last_backups(requester);
    if (requester->options->json)
        list.json = json_array_new();
    else
        list.table = kvss_table_new("NAME", "STATE", "METHOD", "DISKS", "NOT COVERED",
                                    "LAST BACKUP", NULL);
    each_component(coordinator, list_vm, &list);
    if (list.json)
        kvss_print_json(json_node_init_array(json_node_alloc(), list.json));
    else
        kvss_table_print(list.table);
    g_clear_pointer(&list.json, json_array_unref);
    return KVSS_EXIT_DONE;
}

/* ---- backups ---- */

static GPtrArray *
vm_names(const KvssBackup *backup)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < backup->manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->vms, i);

        g_ptr_array_add(names, vm->component->display_name);
    }
    g_ptr_array_add(names, NULL);
    return names;
}

static JsonObject *
backup_json(const KvssBackup *backup)
{
    const KvssManifest *manifest = backup->manifest;
    g_autoptr(GPtrArray) names = vm_names(backup);
    g_autofree char *time = kvss_manifest_time(manifest->time_us);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "id", backup->snapshot->id);
    kvss_set_text(object, "set_id", manifest->set_id);
    kvss_set_text(object, "time", time);
    kvss_set_text(object, "host", manifest->host);
    json_object_set_array_member(object, "tags",
                                 kvss_texts((const char *const *) backup->snapshot->tags));
    json_object_set_array_member(object, "vms", kvss_texts((const char *const *) names->pdata));
    json_object_set_int_member(object, "size", (gint64) manifest->size);
    return object;
}

static void
print_backup_row(KvssTable *table, const KvssBackup *backup)
{
    g_autoptr(GPtrArray) names = vm_names(backup);
    g_autofree char *id = g_strndup(backup->snapshot->id, 8);
    g_autofree char *time = kvss_time_text(backup->manifest->time_us);
    g_autofree char *size = kvss_size_text(backup->manifest->size);
    g_autofree char *vms = g_strjoinv(" ", (char **) names->pdata);
    g_autoptr(GString) tags = g_string_new(NULL);

    for (char **tag = backup->snapshot->tags; tag && *tag; tag++)
        if (strcmp(*tag, KVSS_CATALOGUE_TAG) != 0)
            g_string_append_printf(tags, "%s%s", tags->len ? "," : "", *tag);
    kvss_table_add(table, id, time, backup->manifest->host ? backup->manifest->host : "", size,
                   tags->str, vms, NULL);
}

static void
note_problem(const char *snapshot_id, const GError *problem, gpointer data)
{
    bool *is_damaged = data;

    kvss_say("left out: %s", problem->message);
    if (!g_error_matches(problem, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_VERSION))
        *is_damaged = true;
}

static void
print_backups(const GPtrArray *backups, bool json)
{
    JsonArray *array = json ? json_array_new() : NULL;
    KvssTable *table = json ? NULL
                            : kvss_table_new("ID", "TIME", "HOST", "SIZE", "TAGS", "VMS", NULL);

    for (guint i = 0; i < backups->len; i++) {
        const KvssBackup *backup = g_ptr_array_index(backups, i);

        if (json)
            json_array_add_object_element(array, backup_json(backup));
        else
            print_backup_row(table, backup);
    }
    if (!json) {
        kvss_table_print(table);
        return;
    }
    kvss_print_json(json_node_init_array(json_node_alloc(), array));
    json_array_unref(array);
}

static int
list_backups(KvssRequester *requester, GError **error)
{
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(GPtrArray) backups = NULL;
    bool is_damaged = false;

    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    backups = kvss_catalogue_list(repository, note_problem, &is_damaged, error);
    if (!backups)
        return -1;
    print_backups(backups, requester->options->json);
    return is_damaged ? KVSS_EXIT_DAMAGED : KVSS_EXIT_DONE;
}

/* ---- writers, providers, shadows ---- */

static JsonObject *
writer_json(KvssWriter *writer)
{
    KvssHresult failure;
    KvssWriterState state = kvss_writer_status(writer, &failure);
    g_autofree char *code = g_strdup_printf("0x%08X", failure);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", writer->ops->friendly_name);
    kvss_set_text(object, "id", writer->ops->class_id);
    kvss_set_text(object, "instance_id", writer->instance_id);
    kvss_set_text(object, "instance_name", writer->instance_name);
    json_object_set_int_member(object, "state", state);
    kvss_set_text(object, "state_name", kvss_writer_state_name(state));
    kvss_set_text(object, "last_error", code);
    return object;
}

static void
print_writer(KvssWriter *writer)
{
    KvssHresult failure;
    KvssWriterState state = kvss_writer_status(writer, &failure);

    kvss_print("Writer name: '%s'\n   Writer Id: {%s}\n   Writer Instance Id: {%s}\n"
               "   Writer Instance Name: %s\n   State: [%d] %s\n",
               writer->ops->friendly_name, writer->ops->class_id, writer->instance_id,
               writer->instance_name, state,
               state == KVSS_WS_STABLE ? "Stable" : kvss_writer_state_name(state));
    if (failure == KVSS_S_OK)
        kvss_print("   Last error: No error\n\n");
    else
        kvss_print("   Last error: %s (0x%08X)\n\n", kvss_hresult_name(failure), failure);
}

static JsonObject *
provider_json(const KvssProvider *provider)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "name", provider->ops->name);
    kvss_set_text(object, "type", provider->ops->type);
    kvss_set_text(object, "id", provider->ops->id);
    kvss_set_text(object, "version", provider->ops->version);
    return object;
}

static void
print_provider(const KvssProvider *provider)
{
    kvss_print("Provider name: '%s'\n   Provider type: %s\n   Provider Id: {%s}\n"
               "   Version: %s\n\n",
               provider->ops->name, provider->ops->type, provider->ops->id,
               provider->ops->version);
}

static void
print_participants(const GPtrArray *list, bool are_writers, bool json)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < list->len; i++) {
        gpointer one = g_ptr_array_index(list, i);

        if (json)
            json_array_add_object_element(array,
                                          are_writers ? writer_json(one) : provider_json(one));
        else if (are_writers)
            print_writer(one);
        else
            print_provider(one);
    }
    if (json)
        kvss_print_json(json_node_init_array(json_node_alloc(), array));
    else if (list->len == 0)
        kvss_print("No items found that satisfy the query.\n");
    json_array_unref(array);
}

static int
list_participants(KvssRequester *requester, bool are_writers, GError **error)
{
    /* Identify is asked for no VM: what a writer is does not depend on them. */
    static const char *const none[] = { NULL };
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = NULL;

    host = kvss_requester_open_host(requester, error);
    if (!host)
        return -1;
    coordinator = kvss_requester_new_coordinator(requester, host, none, error);
    if (!coordinator || !kvss_coordinator_gather(coordinator, error))
        return -1;
    print_participants(are_writers ? kvss_coordinator_writers(coordinator)
                                   : kvss_coordinator_providers(coordinator),
                       are_writers, requester->options->json);
    return KVSS_EXIT_DONE;
}

static int
list_writers(KvssRequester *requester, GError **error)
{
    return list_participants(requester, true, error);
}

static int
list_providers(KvssRequester *requester, GError **error)
{
    return list_participants(requester, false, error);
}

static int
list_shadows(KvssRequester *requester, GError **error)
{
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_NOT_YET, "list shadows: not there yet");
    return -1;
}

int
kvss_cmd_list(KvssRequester *requester, GError **error)
{
    static const struct {
        const char *what;
        int (*list)(KvssRequester *requester, GError **error);
    } kinds[] = {
        { "vms", list_vms },         { "backups", list_backups },
        { "writers", list_writers }, { "providers", list_providers },
        { "shadows", list_shadows },
    };
    const char *what = kvss_options_list(requester->options->words)[0];

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(kinds[i].what, what) == 0) {
            if (!kvss_requester_recover(requester, false, error))
                return -1;
            return kinds[i].list(requester, error);
        }
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
               "cannot list '%s': it is vms, backups, writers, providers or shadows", what);
    return -1;
}
