/*
 * cmd-list.c - kvss list vms|backups|writers|providers|shadows
 *
 * The last three have the shape that vssadmin's users know; they are in
 * list-writers.c, list-providers.c and list-shadows.c.
 */
#include "backup/backup.h"
#include "catalogue/summary.h"
#include "host/connection.h"
#include "requester/describe.h"
#include "requester/list.h"
#include "requester/loss.h"
#include "requester/output.h"
#include "requester/requester.h"
#include "writer/domain/vm-writer.h"

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
        backups = kvss_catalogue_summaries(repository, NULL, NULL, &trouble);
    if (!backups)
        kvss_say("last backups are not known: %s", trouble->message);
    return backups;
}

static void
print_vm_row(KvssTable *table, const KvssComponent *vm, const KvssSummary *last)
{
    g_autofree char *disks = g_strdup_printf("%u", vm->disks->len);
    g_autofree char *gaps = g_strdup_printf("%u", vm->not_covered->len);
    g_autofree char *when = last ? kvss_time_text(last->time_us) : g_strdup("never");

    kvss_table_add(table, vm->display_name, vm->state ? vm->state : "?", vm->method, disks, gaps,
                   when, NULL);
}

static JsonObject *
vm_json(KvssComponent *vm, const KvssSummary *last, KvssCoordinator *coordinator)
{
    JsonObject *object = kvss_describe_plan_json(vm, coordinator);
    g_autofree char *when = last ? kvss_manifest_time(last->time_us) : NULL;

    kvss_set_text(object, "last_backup", when);
    return object;
}

/* Of the VM writer only: another writer's components are no VMs. */
static void
each_vm(KvssCoordinator *coordinator, void (*func)(KvssComponent *, gpointer),
               gpointer data)
{
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    for (guint w = 0; w < writers->len; w++) {
        const KvssWriter *writer = g_ptr_array_index(writers, w);

        if (strcmp(writer->ops->class_id, KVSS_VM_WRITER_CLASS_ID) != 0)
            continue;
        for (guint i = 0; i < writer->components->len; i++)
            func(g_ptr_array_index(writer->components, i), data);
    }
}

typedef struct {
    KvssCoordinator *coordinator;
    GPtrArray *backups; /* (nullable) */
    JsonArray *json;    /* (nullable) */
    KvssTable *table;   /* (nullable) */
} VmList;

static void
list_vm(KvssComponent *vm, gpointer data)
{
    VmList *list = data;
    const KvssSummary *last = list->backups ? kvss_summary_newest_of(list->backups, vm->name)
                                           : NULL;

    if (list->json)
        json_array_add_object_element(list->json, vm_json(vm, last, list->coordinator));
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
    list.coordinator = coordinator;
    list.backups = backups = last_backups(requester);
    if (requester->options->json)
        list.json = json_array_new();
    else
        list.table = kvss_table_new("NAME", "STATE", "METHOD", "DISKS", "NOT COVERED",
                                    "LAST BACKUP", NULL);
    each_vm(coordinator, list_vm, &list);
    if (list.json)
        kvss_print_json(json_node_init_array(json_node_alloc(), list.json));
    else
        kvss_table_print(list.table);
    g_clear_pointer(&list.json, json_array_unref);
    return KVSS_EXIT_DONE;
}

/* ---- backups ---- */

/* What a set calls those of a list, its VMs or its components; ends with NULL. */
static GPtrArray *
names_of(const GPtrArray *list)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < list->len; i++) {
        const KvssSummaryMember *member = g_ptr_array_index(list, i);

        g_ptr_array_add(names, member->display_name);
    }
    g_ptr_array_add(names, NULL);
    return names;
}

/** What is listed, and what of it is known to be lost. */
typedef struct {
    KvssRepository *repository;
    GPtrArray *losses; /* KvssLoss */
} BackupList;

/* The losses of @backup: few, and mostly none. (element-type KvssLoss), borrowed in it. */
static GPtrArray *
losses_of(const BackupList *list, const KvssSummary *backup)
{
    GPtrArray *losses = g_ptr_array_new();

    for (guint i = 0; i < list->losses->len; i++) {
        KvssLoss *loss = g_ptr_array_index(list->losses, i);

        if (strcmp(loss->snapshot_id, backup->snapshot->id) == 0)
            g_ptr_array_add(losses, loss);
    }
    return losses;
}

static JsonArray *
lost_json(const BackupList *list, const KvssSummary *backup)
{
    g_autoptr(GPtrArray) losses = losses_of(list, backup);
    g_autoptr(KvssBackup) whole
        = losses->len ? kvss_summary_load(list->repository, backup, NULL) : NULL;
    JsonArray *array = json_array_new();

    for (guint i = 0; i < losses->len; i++)
        json_array_add_object_element(array, kvss_loss_json(g_ptr_array_index(losses, i), whole));
    return array;
}

/* The names of its VMs that have lost something; NULL when it is whole. */
static GHashTable *
hit_names(const BackupList *list, const KvssSummary *backup)
{
    g_autoptr(GPtrArray) losses = losses_of(list, backup);
    g_autoptr(KvssBackup) whole = NULL;
    GHashTable *hit;

    if (losses->len == 0)
        return NULL;
    whole = kvss_summary_load(list->repository, backup, NULL);
    hit = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < losses->len; i++) {
        g_autoptr(GPtrArray) names = kvss_loss_vms(g_ptr_array_index(losses, i), whole);

        for (guint n = 0; n + 1 < names->len; n++)
            g_hash_table_add(hit, g_strdup(g_ptr_array_index(names, n)));
    }
    return hit;
}

/* Names in one text, with a mark on those that have lost data. */
static void
append_names(GString *text, const GPtrArray *members, GHashTable *hit)
{
    for (guint i = 0; i < members->len; i++) {
        const KvssSummaryMember *member = g_ptr_array_index(members, i);

        g_string_append_printf(
            text, "%s%s%s", text->len ? " " : "", member->display_name,
            hit && g_hash_table_contains(hit, member->display_name) ? " (damaged)" : "");
    }
}

static JsonObject *
backup_json(const BackupList *list, const KvssSummary *backup)
{
    g_autoptr(GPtrArray) names = names_of(backup->vms);
    g_autoptr(GPtrArray) components = names_of(backup->components);
    g_autofree char *time = kvss_manifest_time(backup->time_us);
    JsonObject *object = json_object_new();

    kvss_set_text(object, "id", backup->snapshot->id);
    kvss_set_text(object, "set_id", backup->set_id);
    kvss_set_text(object, "time", time);
    kvss_set_text(object, "host", backup->host);
    json_object_set_array_member(object, "tags",
                                 kvss_texts((const char *const *) backup->snapshot->tags));
    json_object_set_array_member(object, "vms", kvss_texts((const char *const *) names->pdata));
    json_object_set_array_member(object, "components",
                                 kvss_texts((const char *const *) components->pdata));
    json_object_set_int_member(object, "size", (gint64) backup->size);
    json_object_set_array_member(object, "lost", lost_json(list, backup));
    return object;
}

static void
print_backup_row(const BackupList *list, KvssTable *table, const KvssSummary *backup)
{
    g_autofree char *id = g_strndup(backup->snapshot->id, 8);
    g_autofree char *time = kvss_time_text(backup->time_us);
    g_autofree char *size = kvss_size_text(backup->size);
    g_autoptr(GHashTable) hit = hit_names(list, backup);
    g_autoptr(GString) names = g_string_new(NULL);
    g_autoptr(GString) tags = g_string_new(NULL);

    append_names(names, backup->vms, hit);
    append_names(names, backup->components, hit);

    for (char **tag = backup->snapshot->tags; tag && *tag; tag++)
        if (strcmp(*tag, KVSS_CATALOGUE_TAG) != 0)
            g_string_append_printf(tags, "%s%s", tags->len ? "," : "", *tag);
    kvss_table_add(table, id, time, backup->host ? backup->host : "", size,
                   tags->str, names->str, NULL);
    if (hit)
        kvss_say("backup %.8s has lost data: 'kvss show %.8s' tells which", backup->snapshot->id,
                 backup->snapshot->id);
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
print_backups(const BackupList *list, const GPtrArray *backups, bool json)
{
    JsonArray *array = json ? json_array_new() : NULL;
    KvssTable *table = json ? NULL
                            : kvss_table_new("ID", "TIME", "HOST", "SIZE", "TAGS", "VMS", NULL);

    for (guint i = 0; i < backups->len; i++) {
        const KvssSummary *backup = g_ptr_array_index(backups, i);

        if (json)
            json_array_add_object_element(array, backup_json(list, backup));
        else
            print_backup_row(list, table, backup);
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
    g_autoptr(GPtrArray) losses = NULL;
    g_autoptr(GError) trouble = NULL;
    bool is_damaged = false;

    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    backups = kvss_catalogue_summaries(repository, note_problem, &is_damaged, error);
    if (!backups)
        return -1;
    losses = kvss_repository_list_losses(repository, &trouble);
    if (!losses) {
        kvss_say("what is known to be lost cannot be told: %s", trouble->message);
        losses = g_ptr_array_new();
        is_damaged = true;
    }
    print_backups(&(BackupList) { repository, losses }, backups, requester->options->json);
    return is_damaged ? KVSS_EXIT_DAMAGED : KVSS_EXIT_DONE;
}

/* ---- which list ---- */

/* The options are about writers; with another list they are a mistake. */
static bool
check_usage(const KvssOptions *options, const char *what, GError **error)
{
    if (strcmp(what, "writers") == 0 ||
        !(options->status || options->metadata || options->detailed))
        return true;
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                      "--status, --metadata and --detailed go with 'list writers'");
}

int
kvss_cmd_list(KvssRequester *requester, GError **error)
{
    static const struct {
        const char *what;
        int (*list)(KvssRequester *requester, GError **error);
        bool changes_nothing; /* not even what recovery would */
    } kinds[] = {
        { "vms", list_vms, false },
        { "backups", list_backups, false },
        { "writers", kvss_list_writers, false },
        { "providers", kvss_list_providers, false },
        /* Recovery takes away what dead runs left: the very things that are asked for. */
        { "shadows", kvss_list_shadows, true },
    };
    const char *what = kvss_options_list(requester->options->words)[0];

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(kinds[i].what, what) == 0) {
            if (!check_usage(requester->options, what, error) ||
                (!kinds[i].changes_nothing && !kvss_requester_recover(requester, false, error)))
                return -1;
            return kinds[i].list(requester, error);
        }
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
               "cannot list '%s': it is vms, backups, writers, providers or shadows", what);
    return -1;
}
