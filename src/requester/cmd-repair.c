/*
 * cmd-repair.c - kvss repair: what can be had of a damaged repository
 */
#include "requester/loss.h"
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/requester.h"
#include "requester/text-set.h"

#include <string.h>

typedef struct {
    KvssRequester *requester;
    GPtrArray *found;   /* char*: one a damaged file */
    GPtrArray *losses;  /* KvssLoss */
    GPtrArray *backups; /* KvssBackup: those that can be read */
    KvssProgress *progress;
    bool reads_data;
} Repair;

static void
on_found(const char *what, gpointer data)
{
    g_ptr_array_add(((Repair *) data)->found, g_strdup(what));
}

static void
on_lost(const KvssLoss *loss, gpointer data)
{
    g_ptr_array_add(((Repair *) data)->losses, kvss_loss_copy(loss));
}

static void
on_progress(uint64_t done, uint64_t total, gpointer data)
{
    const Repair *repair = data;

    if (!repair->reads_data)
        done = total = 0;
    kvss_progress_update(repair->progress, "Repair", NULL, NULL, done, total);
}

static const KvssBackup *
backup_of(const Repair *repair, const KvssLoss *loss)
{
    return kvss_loss_backup(repair->backups, loss->snapshot_id);
}

/* ---- the result ---- */

static void
print_json(const Repair *repair, const KvssRepairResult *result)
{
    JsonObject *object = json_object_new();
    JsonArray *lost = json_array_new();

    for (guint i = 0; i < repair->losses->len; i++) {
        const KvssLoss *loss = g_ptr_array_index(repair->losses, i);

        json_array_add_object_element(lost, kvss_loss_json(loss, backup_of(repair, loss)));
    }
    kvss_set_text(object, "type", "summary");
    json_object_set_boolean_member(object, "dry_run", repair->requester->options->dry_run);
    json_object_set_array_member(object, "found",
                                 kvss_texts((const char *const *) repair->found->pdata));
    json_object_set_array_member(object, "lost", lost);
    json_object_set_int_member(object, "packs", (gint64) result->packs);
    json_object_set_int_member(object, "packs_damaged", (gint64) result->packs_damaged);
    json_object_set_int_member(object, "packs_aside", (gint64) result->packs_aside);
    json_object_set_int_member(object, "packs_found", (gint64) result->packs_found);
    json_object_set_int_member(object, "indexes_damaged", (gint64) result->indexes_damaged);
    json_object_set_int_member(object, "indexes_replaced", (gint64) result->indexes_replaced);
    json_object_set_int_member(object, "blobs_saved", (gint64) result->blobs_saved);
    json_object_set_int_member(object, "bytes_saved", (gint64) result->bytes_saved);
    json_object_set_int_member(object, "beyond_repair", (gint64) result->beyond_repair);
    kvss_print_json_object(object);
}

static void
print_losses(const Repair *repair)
{
    const char *last = "";

    for (guint i = 0; i < repair->losses->len; i++) {
        const KvssLoss *loss = g_ptr_array_index(repair->losses, i);
        const KvssBackup *backup = backup_of(repair, loss);
        g_autofree char *text = kvss_loss_text(loss, backup);
        g_autofree char *time = backup ? kvss_time_text(backup->manifest->time_us) : NULL;

        if (strcmp(last, loss->snapshot_id) != 0)
            kvss_print("backup %s%s%s has lost data:\n", loss->snapshot_id, time ? " of " : "",
                       time ? time : "");
        last = loss->snapshot_id;
        kvss_print("  %s\n", text);
    }
}

static void
print_text(const Repair *repair, const KvssRepairResult *result)
{
    const char *would = repair->requester->options->dry_run ? "would be " : "";
    g_autofree char *saved = kvss_size_text(result->bytes_saved);

    for (guint i = 0; i < repair->found->len - 1; i++)
        kvss_print("%s\n", (const char *) g_ptr_array_index(repair->found, i));
    print_losses(repair);
    if (result->indexes_replaced + result->packs_found > 0)
        kvss_print("%" G_GUINT64_FORMAT " index files %smade anew, %" G_GUINT64_FORMAT
                   " whole packs that no index named %sput into it\n", result->indexes_replaced,
                   would, result->packs_found, would);
    if (result->blobs_saved > 0)
        kvss_print("%" G_GUINT64_FORMAT " whole blobs (%s) of damaged packs %sstored anew\n",
                   result->blobs_saved, saved, would);
    if (result->packs_aside > 0)
        kvss_print("%" G_GUINT64_FORMAT " damaged packs %sset aside: they stay until prune "
                   "removes them\n", result->packs_aside, would);
    if (repair->found->len == 1 && repair->losses->len == 0)
        kvss_print("%" G_GUINT64_FORMAT " packs looked at%s, nothing is lost\n", result->packs,
                   repair->reads_data ? "" : " (not every byte: --read-data does)");
}

/* The one sentence, with each VM hit. */
static void
say_losses(const Repair *repair)
{
    g_auto(KvssTextSet) vms = { NULL }, backups = { NULL };
    g_autofree char *names = NULL;

    kvss_text_set_init(&vms);
    kvss_text_set_init(&backups);
    for (guint i = 0; i < repair->losses->len; i++) {
        const KvssLoss *loss = g_ptr_array_index(repair->losses, i);
        g_autoptr(GPtrArray) hit = kvss_loss_vms(loss, backup_of(repair, loss));

        kvss_text_set_add(&backups, loss->snapshot_id);
        for (guint n = 0; n + 1 < hit->len; n++)
            kvss_text_set_add(&vms, g_ptr_array_index(hit, n));
    }
    g_ptr_array_add(vms.list, NULL);
    names = g_strjoinv(", ", (char **) vms.list->pdata);
    kvss_say("%u backup%s lost data%s%s: back the VMs up now, what they still have makes older "
             "backups whole again; other VMs and disks can be restored",
             backups.list->len, backups.list->len == 1 ? " has" : "s have", *names ? " of " : "",
             names);
}

static int
report(Repair *repair, const KvssRepairResult *result)
{
    bool dry_run = repair->requester->options->dry_run;

    g_ptr_array_add(repair->found, NULL);
    if (repair->requester->options->json)
        print_json(repair, result);
    else
        print_text(repair, result);
    if (repair->losses->len > 0)
        say_losses(repair);
    if (result->beyond_repair > 0)
        kvss_say("%" G_GUINT64_FORMAT " damaged files are beyond repair: copy them back if there is "
                 "a second copy of the repository", result->beyond_repair);
    return repair->losses->len > 0 || result->beyond_repair > 0
                   || (dry_run && repair->found->len > 1)
               ? KVSS_EXIT_DAMAGED
               : KVSS_EXIT_DONE;
}

static int
run(Repair *repair, KvssRepository *repository, GError **error)
{
    KvssRepairOptions options = {
        .read_data = repair->reads_data,
        .dry_run = repair->requester->options->dry_run,
        .found = on_found,
        .lost = on_lost,
        .progress = on_progress,
        .data = repair,
        .cancellable = repair->requester->cancellable,
    };
    KvssRepairResult result;

    if (!kvss_repository_repair(repository, &options, &result, error))
        return -1;
    g_clear_pointer(&repair->progress, kvss_progress_free);
    /* Only for their names and times: those that cannot be read are told by their paths. */
    repair->backups = kvss_catalogue_list(repository, NULL, NULL, NULL);
    return report(repair, &result);
}

/* Appends why the config was not made anew, unless it was not that which is damaged. */
static void
add_reason(const GError *why, GError **error)
{
    g_autofree char *damage = NULL;

    if (!why || g_error_matches(why, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_REFUSED))
        return;
    damage = g_strdup((*error)->message);
    g_clear_error(error);
    kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
               "%s; it was not made anew: %s", damage, why->message);
}

/*
 * A config that cannot be read keeps everybody out, and nothing in it is needed: it is
 * made anew first. Returns: whether it was; the error stays otherwise.
 */
static bool
renew_config(KvssRequester *requester, GError **error)
{
    const KvssConfig *config = requester->config;
    const char *location = kvss_requester_repository(requester, NULL);
    char *password = kvss_config_password(config, requester->options, false, true,
                                          requester->cancellable, NULL);
    g_autoptr(GError) why = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];
    bool ok = password
        && kvss_repository_renew_config(location, password, config->state_dir, id, &why);

    kvss_config_password_free(password);
    if (!ok) {
        add_reason(why, error);
        return false;
    }
    kvss_say("%s: made anew, the repository has the id %.10s now", (*error)->message, id);
    g_clear_error(error);
    return true;
}

static KvssRepository *
open_damaged(KvssRequester *requester, GError **error)
{
    bool dry_run = requester->options->dry_run;
    KvssRepositoryMode mode = dry_run ? KVSS_REPOSITORY_LOOK : KVSS_REPOSITORY_REMOVE;
    KvssRepository *repository = kvss_requester_open_repository(requester, mode, error);

    if (!repository && !dry_run
        && g_error_matches(*error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT)
        && renew_config(requester, error))
        repository = kvss_requester_open_repository(requester, mode, error);
    return repository;
}

int
kvss_cmd_repair(KvssRequester *requester, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssRepository) repository = NULL;
    Repair repair = { .requester = requester, .reads_data = options->read_data };
    int code;

    if (!kvss_requester_recover(requester, false, error))
        return -1;
    repository = open_damaged(requester, error);
    if (!repository)
        return -1;
    repair.found = g_ptr_array_new_with_free_func(g_free);
    repair.losses = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_loss_free);
    repair.progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    code = run(&repair, repository, error);
    g_ptr_array_unref(repair.found);
    g_ptr_array_unref(repair.losses);
    g_clear_pointer(&repair.backups, g_ptr_array_unref);
    kvss_progress_free(repair.progress);
    return code;
}
