/*
 * cmd-forget.c - kvss forget: drops backups, by rules or by name
 *
 * A set goes whole or stays whole. One that cannot be read is no backup of
 * anything as far as rules go, and is never dropped but by its name. So each
 * set.json is read, not its summary on this host, which would not know.
 */
#include "catalogue/catalogue.h"
#include "requester/output.h"
#include "requester/prune-run.h"
#include "retention/retention.h"

#include <string.h>

#define wrong(error, ...) kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG, __VA_ARGS__)

typedef struct {
    KvssRequester *requester;
    KvssRepository *repository;
    KvssRetentionGroup group;
    GPtrArray *backups;  /* KvssBackup: all that can be read, oldest first */
    GPtrArray *entries;  /* KvssRetentionBackup, in the same order */
    GPtrArray *damaged;  /* char*: ids of those that cannot be read */
    GHashTable *named;   /* char*: ids that were named; NULL: rules decide */
} Forget;

static void
forget_clear(Forget *forget)
{
    g_clear_pointer(&forget->entries, g_ptr_array_unref);
    g_clear_pointer(&forget->backups, g_ptr_array_unref);
    g_clear_pointer(&forget->damaged, g_ptr_array_unref);
    g_clear_pointer(&forget->named, g_hash_table_unref);
    g_clear_pointer(&forget->repository, kvss_repository_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Forget, forget_clear)

/* ---- what was asked for ---- */

/* The rules of the command line; without any, those of the configuration. */
static KvssPolicy *
read_policy(const KvssOptions *options, GError **error)
{
    const struct {
        const char *name, *value;
    } rules[] = {
        { "keep-last", options->keep_last },     { "keep-hourly", options->keep_hourly },
        { "keep-daily", options->keep_daily },   { "keep-weekly", options->keep_weekly },
        { "keep-monthly", options->keep_monthly }, { "keep-yearly", options->keep_yearly },
        { "keep-within", options->keep_within },
    };
    g_autoptr(KvssPolicy) policy = kvss_policy_new();

    for (guint i = 0; i < G_N_ELEMENTS(rules); i++)
        if (rules[i].value && !kvss_policy_set(policy, rules[i].name, rules[i].value, error))
            return NULL;
    for (const char *const *tag = kvss_options_list(options->keep_tag); *tag; tag++)
        if (!kvss_policy_set(policy, "keep-tag", *tag, error))
            return NULL;
    return g_steal_pointer(&policy);
}

static bool
has_rules(const KvssOptions *options)
{
    return options->keep_last || options->keep_hourly || options->keep_daily
        || options->keep_weekly || options->keep_monthly || options->keep_yearly
        || options->keep_within || kvss_options_count(options->keep_tag) > 0;
}

static bool
check_names(const KvssOptions *options, GError **error)
{
    if (!has_rules(options) && !options->group_by)
        return true;
    return wrong(error, "forget: name backups, or give rules, not both");
}

static bool
check_rules(KvssRequester *requester, KvssPolicy **out_policy, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(GError) trouble = NULL;
    g_autoptr(KvssPolicy) policy = read_policy(options, &trouble);

    if (!policy)
        return wrong(error, "--%s", trouble->message);
    if (!has_rules(options)) {
        kvss_policy_free(g_steal_pointer(&policy));
        policy = g_steal_pointer(&requester->config->retention);
    }
    if (!policy || kvss_policy_is_empty(policy))
        return wrong(error, "forget: nothing says what to keep: give at least one rule "
                     "(--keep-daily 7), name backups, or put rules into [retention] of the "
                     "configuration");
    *out_policy = g_steal_pointer(&policy);
    return true;
}

static bool
read_group(const KvssOptions *options, KvssRetentionGroup *out_group, GError **error)
{
    if (!options->group_by || strcmp(options->group_by, "vm") == 0)
        *out_group = KVSS_GROUP_BY_VM;
    else if (strcmp(options->group_by, "set") == 0)
        *out_group = KVSS_GROUP_BY_SET;
    else
        return wrong(error, "--group-by is '%s': it is vm or set", options->group_by);
    return true;
}

static bool
check_usage(KvssRequester *requester, Forget *forget, KvssPolicy **out_policy, GError **error)
{
    const KvssOptions *options = requester->options;

    if (!options->prune && (options->max_unused || options->max_repack))
        return wrong(error, "--max-unused and --max-repack go with --prune");
    return kvss_prune_check_usage(requester, error)
        && read_group(options, &forget->group, error)
        && (kvss_options_count(options->words) > 0 ? check_names(options, error)
                                                   : check_rules(requester, out_policy, error));
}

/* ---- what is there ---- */

static void
note_problem(const char *snapshot_id, const GError *problem, gpointer data)
{
    Forget *forget = data;

    g_ptr_array_add(forget->damaged, g_strdup(snapshot_id));
    kvss_say("no rule is applied to it: %s", problem->message);
}

static void
add_vms(GStrvBuilder *members, GStrvBuilder *names, const GPtrArray *vms)
{
    for (guint i = 0; i < vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(vms, i);
        g_autofree char *uuid = g_ascii_strdown(vm->component->name, -1);

        g_strv_builder_add(members, uuid);
        g_strv_builder_add(names, vm->component->display_name);
    }
}

static void
add_components(GStrvBuilder *members, GStrvBuilder *names, const GPtrArray *components)
{
    for (guint i = 0; i < components->len; i++) {
        const KvssManifestVm *component = g_ptr_array_index(components, i);
        g_autofree char *key = g_strconcat(component->writer ? component->writer : "", ":",
                                           component->component->name, NULL);

        g_strv_builder_add(members, key);
        g_strv_builder_add(names, component->component->display_name);
    }
}

static KvssRetentionBackup *
entry_of(const KvssBackup *backup)
{
    g_autoptr(GStrvBuilder) members = g_strv_builder_new(), names = g_strv_builder_new();

    add_vms(members, names, backup->manifest->vms);
    add_components(members, names, backup->manifest->components);
    return kvss_retention_backup_new(backup->snapshot->id, backup->snapshot->time,
                                     (const char *const *) backup->snapshot->tags,
                                     g_strv_builder_end(members), g_strv_builder_end(names));
}

static bool
load(Forget *forget, GError **error)
{
    forget->damaged = g_ptr_array_new_with_free_func(g_free);
    forget->entries
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_retention_backup_free);
    forget->backups = kvss_catalogue_list(forget->repository, note_problem, forget, error);
    for (guint i = 0; forget->backups && i < forget->backups->len; i++) {
        const KvssBackup *backup = g_ptr_array_index(forget->backups, i);
        KvssRetentionBackup *entry = entry_of(backup);

        if (!entry)
            return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT,
                              "backup %.8s: its time '%s' is none", backup->snapshot->id,
                              backup->snapshot->time);
        g_ptr_array_add(forget->entries, entry);
    }
    return forget->backups != NULL;
}

/* ---- by name ---- */

/* The ids that begin with @word, of sets that can be read and of those that cannot. */
static GPtrArray *
ids_with_prefix(const Forget *forget, const char *word)
{
    GPtrArray *found = g_ptr_array_new();

    for (guint i = 0; i < forget->entries->len; i++) {
        const KvssRetentionBackup *entry = g_ptr_array_index(forget->entries, i);

        if (g_str_has_prefix(entry->id, word))
            g_ptr_array_add(found, (gpointer) entry->id);
    }
    for (guint i = 0; i < forget->damaged->len; i++)
        if (g_str_has_prefix(g_ptr_array_index(forget->damaged, i), word))
            g_ptr_array_add(found, g_ptr_array_index(forget->damaged, i));
    return found;
}

static bool
name_one(Forget *forget, const char *given, GError **error)
{
    g_autofree char *word = g_ascii_strdown(given, -1);
    g_autoptr(GPtrArray) found = NULL;

    if (strcmp(word, "latest") == 0 && forget->damaged->len > 0)
        return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS,
                          "one backup cannot be read and may be the latest: name one by its id");
    if (strcmp(word, "latest") == 0 && forget->entries->len > 0) {
        const KvssRetentionBackup *latest
            = g_ptr_array_index(forget->entries, forget->entries->len - 1);

        g_hash_table_add(forget->named, g_strdup(latest->id));
        return true;
    }
    /* An empty word would fit the only backup that there is. */
    found = *word ? ids_with_prefix(forget, word) : g_ptr_array_new();
    if (found->len == 0)
        return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
                          "no backup '%s': 'kvss list backups' shows those that are there", given);
    if (found->len > 1)
        return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS,
                          "several backups begin with '%s': give more digits", given);
    g_hash_table_add(forget->named, g_strdup(g_ptr_array_index(found, 0)));
    return true;
}

static bool
load_named(Forget *forget, GError **error)
{
    const char *const *words = kvss_options_list(forget->requester->options->words);

    forget->named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!load(forget, error))
        return false;
    for (; *words; words++)
        if (!name_one(forget, *words, error))
            return false;
    return true;
}

/* ---- what goes ---- */

static bool
goes(const KvssRetentionBackup *backup, gpointer data)
{
    const Forget *forget = data;

    return forget->named ? g_hash_table_contains(forget->named, backup->id)
                         : backup->reasons->len == 0;
}

static bool
check_lost(Forget *forget, GError **error)
{
    g_auto(GStrv) lost = kvss_retention_lost(forget->entries, goes, forget);
    g_autofree char *names = NULL;

    if (!*lost || forget->requester->options->allow_remove_all)
        return true;
    names = g_strjoinv(", ", lost);
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_REFUSED,
                      "nothing was dropped: no backup of %s would be left; --allow-remove-all says "
                      "that this is meant", names);
}

/* Ids of all that go, oldest first, those that cannot be read behind them; NULL-terminated. */
static GPtrArray *
ids_that_go(Forget *forget)
{
    GPtrArray *ids = g_ptr_array_new();

    for (guint i = 0; i < forget->entries->len; i++) {
        const KvssRetentionBackup *entry = g_ptr_array_index(forget->entries, i);

        if (goes(entry, forget))
            g_ptr_array_add(ids, (gpointer) entry->id);
    }
    for (guint i = 0; forget->named && i < forget->damaged->len; i++)
        if (g_hash_table_contains(forget->named, g_ptr_array_index(forget->damaged, i)))
            g_ptr_array_add(ids, g_ptr_array_index(forget->damaged, i));
    g_ptr_array_add(ids, NULL);
    return ids;
}

static bool
drop(Forget *forget, const GPtrArray *ids, GError **error)
{
    for (guint i = 0; i < ids->len - 1; i++)
        if (!kvss_check_cancelled(forget->requester->cancellable, error)
            || !kvss_repository_remove_snapshot(forget->repository, g_ptr_array_index(ids, i),
                                                error)) {
            g_prefix_error(error, "%u of %u backups were dropped: ", i, ids->len - 1);
            return false;
        }
    return true;
}

/* ---- the result ---- */

/* "daily (web db), weekly": the VMs are named where not all of the set need it. */
static char *
reasons_text(const KvssRetentionBackup *entry)
{
    g_autoptr(GPtrArray) rules = g_ptr_array_new();
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < entry->reasons->len; i++) {
        char *rule = ((KvssRetentionReason *) g_ptr_array_index(entry->reasons, i))->rule;

        if (!g_ptr_array_find_with_equal_func(rules, rule, g_str_equal, NULL))
            g_ptr_array_add(rules, rule);
    }
    for (guint r = 0; r < rules->len; r++) {
        g_autoptr(GString) members = g_string_new(NULL);
        guint n = 0;

        for (guint i = 0; i < entry->reasons->len; i++) {
            const KvssRetentionReason *reason = g_ptr_array_index(entry->reasons, i);

            if (strcmp(reason->rule, g_ptr_array_index(rules, r)) == 0 && reason->member) {
                g_string_append_printf(members, "%s%s", n ? " " : "", reason->member);
                n++;
            }
        }
        g_string_append_printf(text, "%s%s", r ? ", " : "", (char *) g_ptr_array_index(rules, r));
        if (n > 0 && n < g_strv_length(entry->members))
            g_string_append_printf(text, " (%s)", members->str);
    }
    return g_string_free(text, FALSE);
}

static void
print_table(Forget *forget, const GPtrArray *ids)
{
    bool dry_run = forget->requester->options->dry_run;
    KvssTable *table = kvss_table_new("ID", "TIME", "VMS", "KEPT BY", NULL);
    guint n_gone, n_stay;

    for (guint i = 0; i < forget->entries->len; i++) {
        const KvssRetentionBackup *entry = g_ptr_array_index(forget->entries, i);
        const KvssBackup *backup = g_ptr_array_index(forget->backups, i);
        bool is_gone = goes(entry, forget);
        g_autofree char *id = g_strndup(entry->id, 8);
        g_autofree char *time = kvss_time_text(backup->snapshot->time_us);
        g_autofree char *vms = g_strjoinv(" ", entry->names);
        g_autofree char *reasons = is_gone || forget->named
            ? g_strdup(!is_gone ? "not named" : dry_run ? "goes" : "gone")
            : reasons_text(entry);

        /* By name the others are of no interest: there may be thousands. */
        if (is_gone || !forget->named)
            kvss_table_add(table, id, time, vms, reasons, NULL);
    }
    kvss_table_print(table);
    n_gone = ids->len - 1;
    n_stay = forget->entries->len + forget->damaged->len - n_gone;
    kvss_print("%u backup%s %s, %u stay%s\n", n_gone, n_gone == 1 ? "" : "s",
               dry_run ? "would go" : n_gone == 1 ? "is gone" : "are gone", n_stay,
               n_stay == 1 ? "s" : "");
}

static JsonObject *
entry_json(const KvssRetentionBackup *entry, const KvssBackup *backup, bool is_gone)
{
    JsonObject *object = json_object_new();
    JsonArray *reasons = json_array_new();
    g_autofree char *time = kvss_manifest_time(backup->snapshot->time_us);

    kvss_set_text(object, "id", entry->id);
    kvss_set_text(object, "time", time);
    kvss_set_text(object, "host", backup->manifest->host);
    json_object_set_array_member(object, "tags", kvss_texts(entry->tags));
    json_object_set_array_member(object, "vms", kvss_texts((const char *const *) entry->names));
    for (guint i = 0; i < entry->reasons->len; i++) {
        const KvssRetentionReason *reason = g_ptr_array_index(entry->reasons, i);
        JsonObject *why = json_object_new();

        kvss_set_text(why, "rule", reason->rule);
        kvss_set_text(why, "vm", reason->member);
        json_array_add_object_element(reasons, why);
    }
    if (is_gone)
        json_array_unref(reasons);
    else
        json_object_set_array_member(object, "reasons", reasons);
    return object;
}

static void
print_json(Forget *forget)
{
    JsonObject *object = json_object_new();
    JsonArray *kept = json_array_new(), *removed = json_array_new(), *damaged = json_array_new();

    for (guint i = 0; i < forget->entries->len; i++) {
        const KvssRetentionBackup *entry = g_ptr_array_index(forget->entries, i);
        bool is_gone = goes(entry, forget);

        json_array_add_object_element(
            is_gone ? removed : kept,
            entry_json(entry, g_ptr_array_index(forget->backups, i), is_gone));
    }
    for (guint i = 0; i < forget->damaged->len; i++)
        json_array_add_string_element(damaged, g_ptr_array_index(forget->damaged, i));
    kvss_set_text(object, "type", "forget");
    json_object_set_boolean_member(object, "dry_run", forget->requester->options->dry_run);
    json_object_set_array_member(object, "kept", kept);
    json_object_set_array_member(object, "removed", removed);
    json_object_set_array_member(object, "unreadable", damaged);
    kvss_print_json_object(object);
}

/* Sets that cannot be read and stay are told once more by the exit code. */
static int
exit_code(const Forget *forget)
{
    for (guint i = 0; i < forget->damaged->len; i++)
        if (!forget->named
            || !g_hash_table_contains(forget->named, g_ptr_array_index(forget->damaged, i)))
            return KVSS_EXIT_DAMAGED;
    return KVSS_EXIT_DONE;
}

/* ---- */

static int
forget_and_prune(Forget *forget, GError **error)
{
    const KvssOptions *options = forget->requester->options;
    g_autoptr(GPtrArray) ids = NULL;

    if (!check_lost(forget, error))
        return -1;
    ids = ids_that_go(forget);
    if (!options->dry_run && !drop(forget, ids, error))
        return -1;
    if (options->json)
        print_json(forget);
    else if (!options->quiet || options->dry_run)
        print_table(forget, ids);
    if (options->prune
        && kvss_prune_run(forget->requester, forget->repository,
                          (const char *const *) ids->pdata, error) < 0)
        return -1;
    return exit_code(forget);
}

int
kvss_cmd_forget(KvssRequester *requester, GError **error)
{
    KvssRepositoryMode mode
        = requester->options->dry_run ? KVSS_REPOSITORY_LOOK : KVSS_REPOSITORY_REMOVE;
    g_auto(Forget) forget = { .requester = requester };
    g_autoptr(KvssPolicy) policy = NULL;
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();

    if (!check_usage(requester, &forget, &policy, error)
        || !kvss_requester_recover(requester, false, error))
        return -1;
    forget.repository = kvss_requester_open_repository(requester, mode, error);
    if (!forget.repository)
        return -1;
    if (!(policy ? load(&forget, error) : load_named(&forget, error)))
        return -1;
    if (policy)
        kvss_retention_apply(policy, forget.entries, forget.group, now);
    return forget_and_prune(&forget, error);
}
