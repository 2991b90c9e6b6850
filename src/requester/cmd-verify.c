/*
 * cmd-verify.c - kvss verify: is what is stored still what was stored?
 *
 * Two looks: the repository's own (packs, index, trees; with --read-data every
 * byte, with --sample some packs whole) and ours (each set has the files that its set.json names, in their sizes,
 * and its VSS documents can be read).
 */
#include "catalogue/documents.h"
#include "requester/loss.h"
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/requester.h"
#include "requester/text-set.h"
#include "stream/source.h"

#include <string.h>

/** What was found about one backup. */
typedef struct {
    char *id;
    const KvssBackup *backup; /* (nullable) cannot be read */
    KvssTextSet what;
    KvssTextSet vms;
} Damage;

typedef struct {
    GPtrArray *backups; /* KvssBackup: those looked at that could be read */
    KvssTextSet ids;    /* of all that were looked at; NULL-terminated at the end */
    GPtrArray *damages; /* Damage */
    GHashTable *damage_of; /* char* (id) -> Damage, theirs */
    KvssTextSet orphans; /* findings that hurt no backup */
    KvssProgress *progress;
    bool reads_data;    /* progress counts bytes; else packs, which are soon looked at */
    bool is_sample;
    double sample_share;   /* one of the two is not 0 in a sample */
    uint64_t sample_bytes;
    uint32_t seed;
} Verify;

static void
damage_free(gpointer data)
{
    Damage *damage = data;

    g_free(damage->id);
    kvss_text_set_clear(&damage->what);
    kvss_text_set_clear(&damage->vms);
    g_free(damage);
}

static Damage *
damage_of(Verify *verify, const char *id)
{
    Damage *damage = g_hash_table_lookup(verify->damage_of, id);

    if (damage)
        return damage;
    damage = g_new0(Damage, 1);
    damage->id = g_strdup(id);
    damage->backup = kvss_loss_backup(verify->backups, id);
    kvss_text_set_init(&damage->what);
    kvss_text_set_init(&damage->vms);
    g_ptr_array_add(verify->damages, damage);
    g_hash_table_insert(verify->damage_of, damage->id, damage);
    return damage;
}

/* ---- our own look ---- */

static void
check_source(Damage **damage, Verify *verify, const KvssBackup *backup, const KvssManifestVm *vm,
             KvssSource *source, GError *trouble)
{
    g_autoptr(KvssSource) opened = source;
    g_autoptr(GError) error = trouble;

    if (opened)
        return;
    if (!*damage)
        *damage = damage_of(verify, backup->snapshot->id);
    kvss_text_set_add(&(*damage)->what, error->message);
    kvss_text_set_add(&(*damage)->vms, vm->component->display_name);
}

/* They hold no VM's data: what is wrong with them is the backup's. */
static void
check_documents(Verify *verify, KvssRepository *repository, const KvssBackup *backup)
{
    g_autoptr(GError) trouble = NULL;
    g_autoptr(GPtrArray) paths = kvss_backup_documents(repository, backup, &trouble);

    if (!paths)
        kvss_text_set_add(&damage_of(verify, backup->snapshot->id)->what, trouble->message);
    for (guint i = 0; paths && i < paths->len - 1; i++) {
        g_autoptr(GError) wrong = NULL;
        g_autoptr(GBytes) text = kvss_backup_read_document(repository, backup,
                                                           g_ptr_array_index(paths, i), &wrong);

        if (!text)
            kvss_text_set_add(&damage_of(verify, backup->snapshot->id)->what, wrong->message);
    }
}

static void
check_set(Verify *verify, KvssRepository *repository, const KvssBackup *backup)
{
    Damage *damage = NULL;

    for (guint i = 0; i < backup->manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->vms, i);

        for (guint n = 0; n < vm->component->disks->len; n++) {
            GError *trouble = NULL;
            KvssSource *source = kvss_backup_open_disk(
                repository, backup, vm, g_ptr_array_index(vm->component->disks, n), &trouble);

            check_source(&damage, verify, backup, vm, source, trouble);
        }
        for (guint n = 0; n < vm->component->files->len; n++) {
            GError *trouble = NULL;
            KvssSource *source = kvss_backup_open_file(
                repository, backup, vm, g_ptr_array_index(vm->component->files, n), &trouble);

            check_source(&damage, verify, backup, vm, source, trouble);
        }
    }
}

/* ---- the repository's look ---- */

/* Does what lies at @path, or below it, belong to the VM? */
static bool
path_hits(const char *path, const char *place)
{
    g_autofree char *below = g_strconcat(path, "/", NULL);

    return strstr(below, place) || g_str_equal(path, "/") || g_str_has_suffix(path, "/vms");
}

/* The VMs whose files lie on @paths. A set may lie some folders down in its snapshot. */
static void
note_vms(Damage *damage, char **paths)
{
    const KvssBackup *backup = damage->backup;

    for (guint n = 0; backup && n < backup->manifest->vms->len; n++) {
        const KvssManifestVm *vm = g_ptr_array_index(backup->manifest->vms, n);
        g_autofree char *place = g_strdup_printf("vms/%s/", vm->dir);

        for (char **path = paths; path && *path; path++)
            if (path_hits(*path, place))
                kvss_text_set_add(&damage->vms, vm->component->display_name);
    }
}

static void
on_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    Verify *verify = data;

    if (!snapshot_ids || !*snapshot_ids)
        kvss_text_set_add(&verify->orphans, what);
    for (char **id = snapshot_ids; id && *id; id++) {
        Damage *damage = damage_of(verify, *id);

        kvss_text_set_add(&damage->what, what);
        note_vms(damage, paths);
    }
}

static void
on_progress(uint64_t done, uint64_t total, gpointer data)
{
    const Verify *verify = data;

    if (!verify->reads_data)
        done = total = 0;
    kvss_progress_update(verify->progress, "Verify", NULL, NULL, done, total);
}

/* ---- which backups ---- */

static void
on_problem(const char *snapshot_id, const GError *problem, gpointer data)
{
    Verify *verify = data;

    kvss_text_set_add(&verify->ids, snapshot_id);
    kvss_text_set_add(&damage_of(verify, snapshot_id)->what, problem->message);
}

static bool
find_all(Verify *verify, KvssRepository *repository, GError **error)
{
    verify->backups = kvss_catalogue_list(repository, on_problem, verify, error);
    return verify->backups != NULL;
}

static bool
find_named(Verify *verify, KvssRepository *repository, const char *const *names, GError **error)
{
    verify->backups = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_backup_free);
    for (; *names; names++) {
        KvssBackup *backup = kvss_catalogue_find(repository, *names, NULL, error);

        if (!backup)
            return false;
        g_ptr_array_add(verify->backups, backup);
    }
    return true;
}

static bool
look(Verify *verify, KvssRequester *requester, KvssRepository *repository,
     KvssVerifyResult *out_result, GError **error)
{
    const char *const *names = kvss_options_list(requester->options->words);
    KvssVerifyOptions options = {
        .read_data = verify->reads_data,
        .sample_share = verify->sample_share,
        .sample_bytes = verify->sample_bytes,
        .sample_seed = verify->seed,
        .snapshots_once = true,
        .damage = on_damage,
        .progress = on_progress,
        .data = verify,
        .cancellable = requester->cancellable,
    };

    if (!(*names ? find_named(verify, repository, names, error)
                 : find_all(verify, repository, error)))
        return false;
    for (guint i = 0; i < verify->backups->len; i++) {
        const KvssBackup *backup = g_ptr_array_index(verify->backups, i);

        kvss_text_set_add(&verify->ids, backup->snapshot->id);
        check_set(verify, repository, backup);
        check_documents(verify, repository, backup);
    }
    g_ptr_array_add(verify->ids.list, NULL);
    /* Without names everything in the repository is looked at, sets or not. */
    return kvss_repository_verify(repository, *names ? (char **) verify->ids.list->pdata : NULL,
                                  &options, out_result, error);
}

/* ---- the sample ---- */

static bool
parse_seed(const char *text, uint32_t *out_seed, GError **error)
{
    guint64 seed;

    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &seed, NULL))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--seed %s: it is a number from 0 to %u", text, G_MAXUINT32);
    *out_seed = (uint32_t) seed;
    return true;
}

/* "5%" or "10G"; nothing at all is no sample. */
static bool
parse_sample(Verify *verify, const char *text, GError **error)
{
    double percent = 0;
    bool ok = g_str_has_suffix(text, "%")
        ? kvss_options_parse_percent(text, &percent, error)
        : kvss_options_parse_size(text, &verify->sample_bytes, error);

    verify->sample_share = percent / 100;
    if (ok && verify->sample_share <= 0 && verify->sample_bytes == 0)
        ok = kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                        "'%s' is nothing to read: it is like 5%% or 10G", text);
    if (!ok)
        g_prefix_error(error, "--sample: ");
    return ok;
}

/* What is to be read; a seed of our own where none was given. */
static bool
choose_reading(Verify *verify, const KvssOptions *options, GError **error)
{
    verify->is_sample = options->sample != NULL;
    verify->reads_data = options->read_data || verify->is_sample;
    verify->seed = g_random_int();
    if (options->read_data && verify->is_sample)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--read-data reads everything, --sample a part of it: give one of them");
    if (options->seed && !verify->is_sample)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "--seed goes with --sample");
    if (verify->is_sample && !parse_sample(verify, options->sample, error))
        return false;
    return !options->seed || parse_seed(options->seed, &verify->seed, error);
}

/* ---- the result ---- */

static JsonArray *
strings_json(const GPtrArray *strings)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < strings->len && g_ptr_array_index(strings, i); i++)
        json_array_add_string_element(array, g_ptr_array_index(strings, i));
    return array;
}

static void
print_json(const Verify *verify, const KvssVerifyResult *result)
{
    JsonObject *object = json_object_new();
    JsonArray *damaged = json_array_new();

    for (guint i = 0; i < verify->damages->len; i++) {
        const Damage *damage = g_ptr_array_index(verify->damages, i);
        JsonObject *one = json_object_new();

        kvss_set_text(one, "id", damage->id);
        json_object_set_array_member(one, "vms", strings_json(damage->vms.list));
        json_object_set_array_member(one, "what", strings_json(damage->what.list));
        json_array_add_object_element(damaged, one);
    }
    kvss_set_text(object, "type", "summary");
    json_object_set_array_member(object, "backups", strings_json(verify->ids.list));
    json_object_set_array_member(object, "damaged", damaged);
    json_object_set_array_member(object, "other_damage", strings_json(verify->orphans.list));
    json_object_set_int_member(object, "packs", (gint64) result->packs);
    json_object_set_int_member(object, "blobs", (gint64) result->blobs);
    json_object_set_int_member(object, "bytes_read", (gint64) result->bytes_read);
    json_object_set_int_member(object, "bytes_stored", (gint64) result->bytes_stored);
    if (verify->is_sample)
        json_object_set_int_member(object, "seed", verify->seed);
    kvss_print_json_object(object);
}

static void
print_text(const Verify *verify, const KvssVerifyResult *result)
{
    guint backups = verify->ids.list->len - 1;
    g_autofree char *read = kvss_size_text(result->bytes_read);
    g_autofree char *stored = kvss_size_text(result->bytes_stored);

    for (guint i = 0; i < verify->damages->len; i++) {
        const Damage *damage = g_ptr_array_index(verify->damages, i);

        kvss_print("damaged: backup %s\n", damage->id);
        for (guint n = 0; n < damage->vms.list->len; n++)
            kvss_print("  VM %s\n", (const char *) g_ptr_array_index(damage->vms.list, n));
        for (guint n = 0; n < damage->what.list->len; n++)
            kvss_print("  %s\n", (const char *) g_ptr_array_index(damage->what.list, n));
    }
    for (guint i = 0; i < verify->orphans.list->len; i++)
        kvss_print("damaged: %s\n", (const char *) g_ptr_array_index(verify->orphans.list, i));
    kvss_print("%u backup%s looked at, %u damaged; %s read", backups, backups == 1 ? "" : "s",
               verify->damages->len, read);
    if (verify->is_sample)
        kvss_print(" of %s (%.1f %%), drawn with seed %u", stored,
                   100.0 * (double) result->bytes_read / (double) MAX(result->bytes_stored, 1),
                   verify->seed);
    kvss_print("\n");
}

static void
say_damage(const Verify *verify)
{
    for (guint i = 0; i < verify->damages->len; i++) {
        const Damage *damage = g_ptr_array_index(verify->damages, i);
        g_autoptr(GString) names = g_string_new(NULL);

        for (guint n = 0; n < damage->vms.list->len; n++)
            g_string_append_printf(names, "%s%s", n ? ", " : ": ",
                                   (const char *) g_ptr_array_index(damage->vms.list, n));
        kvss_say("backup %.8s is damaged%s: keep the older ones, and back the VMs up again",
                 damage->id, names->str);
    }
    if (verify->damages->len == 0)
        kvss_say("damaged data was found: %s",
                 (const char *) g_ptr_array_index(verify->orphans.list, 0));
}

static int
report(KvssRequester *requester, Verify *verify, const KvssVerifyResult *result)
{
    if (result->damaged && verify->damages->len == 0 && verify->orphans.list->len == 0)
        kvss_text_set_add(&verify->orphans, "the repository");
    if (requester->options->json)
        print_json(verify, result);
    else
        print_text(verify, result);
    if (verify->damages->len == 0 && verify->orphans.list->len == 0)
        return KVSS_EXIT_DONE;
    say_damage(verify);
    return KVSS_EXIT_DAMAGED;
}

static void
verify_init(Verify *verify)
{
    kvss_text_set_init(&verify->ids);
    verify->damages = g_ptr_array_new_with_free_func(damage_free);
    verify->damage_of = g_hash_table_new(g_str_hash, g_str_equal);
    kvss_text_set_init(&verify->orphans);
}

static void
verify_clear(Verify *verify)
{
    g_clear_pointer(&verify->backups, g_ptr_array_unref);
    kvss_text_set_clear(&verify->ids);
    g_hash_table_unref(verify->damage_of);
    g_ptr_array_unref(verify->damages);
    kvss_text_set_clear(&verify->orphans);
    kvss_progress_free(verify->progress);
}

int
kvss_cmd_verify(KvssRequester *requester, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssRepository) repository = NULL;
    KvssVerifyResult result = { 0 };
    Verify verify = { 0 };
    int code = -1;

    if (!choose_reading(&verify, options, error) || !kvss_requester_recover(requester, false, error))
        return -1;
    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    verify_init(&verify);
    verify.progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    if (look(&verify, requester, repository, &result, error)) {
        g_clear_pointer(&verify.progress, kvss_progress_free);
        code = report(requester, &verify, &result);
    }
    verify_clear(&verify);
    return code;
}
