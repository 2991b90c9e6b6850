/*
 * history.c - what the repository knows of the disks of a set that is being backed up
 */
#include "backup/history.h"
#include "catalogue/summary.h"
#include "host/image.h"
#include "stream/source.h"

#include <string.h>

/*
 * The last set with a VM is the one to build on, unless its end was not reached and what
 * tracked the changes since it was taken back.
 */
#define SETS_MAX 3
/* Of the repository's id: enough to tell those of one host apart. */
#define REPOSITORY_DIGITS 12

struct KvssHistory {
    KvssRepository *repository; /* borrowed */
    GPtrArray *summaries;       /* KvssSummary, oldest first */
    GHashTable *sets;           /* snapshot id -> KvssBackup that was looked at; NULL: unreadable */
};

KvssHistory *
kvss_history_new(KvssRepository *repository, GError **error)
{
    GPtrArray *summaries = kvss_catalogue_summaries(repository, NULL, NULL, error);
    KvssHistory *history;

    if (!summaries)
        return NULL;
    history = g_new0(KvssHistory, 1);
    history->repository = repository;
    history->summaries = summaries;
    history->sets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          (GDestroyNotify) kvss_backup_free);
    return history;
}

void
kvss_history_free(KvssHistory *history)
{
    if (!history)
        return;
    g_ptr_array_unref(history->summaries);
    g_hash_table_unref(history->sets);
    g_free(history);
}

/* The set of that summary; NULL when it cannot be read: then an older one has to do. */
static KvssBackup *
load(KvssHistory *history, const KvssSummary *summary)
{
    const char *id = summary->snapshot->id;
    g_autoptr(GError) error = NULL;
    KvssBackup *set;

    if (g_hash_table_contains(history->sets, id))
        return g_hash_table_lookup(history->sets, id);
    set = kvss_summary_load(history->repository, summary, &error);
    if (!set)
        g_debug("an older backup has to do: %s", error->message);
    g_hash_table_insert(history->sets, g_strdup(id), set);
    return set;
}

/*
 * The next older set with the component that can be read; @inout_number: begin with the
 * number of summaries.
 */
static KvssBackup *
next_older(KvssHistory *history, const KvssComponent *component, guint *inout_number,
           KvssManifestVm **out_vm)
{
    while (*inout_number > 0) {
        const KvssSummary *summary = g_ptr_array_index(history->summaries, --*inout_number);
        KvssBackup *set = kvss_summary_has_vm(summary, component->name) ? load(history, summary)
                                                                       : NULL;

        *out_vm = set ? kvss_manifest_find_vm(set->manifest, component->name, NULL) : NULL;
        if (*out_vm)
            return set;
    }
    return NULL;
}

const KvssDisk *
kvss_history_last(KvssHistory *history, const KvssComponent *component, const KvssDisk *disk)
{
    guint number = history->summaries->len;
    KvssManifestVm *vm;

    return next_older(history, component, &number, &vm)
        ? kvss_component_find_disk(vm->component, disk->target) : NULL;
}

static char *
stamp_prefix(KvssRepository *repository)
{
    return g_strdup_printf(KVSS_CHECKPOINT_PREFIX "%.*s-", REPOSITORY_DIGITS, kvss_repository_id(repository));
}

static char *
stamp_new(KvssRepository *repository)
{
    g_autofree char *prefix = stamp_prefix(repository), *random = g_uuid_string_random();

    return g_strconcat(prefix, random, NULL);
}

/* What stands in a set is not believed: only what we could have written names a checkpoint. */
static bool
is_our_stamp(KvssRepository *repository, const char *stamp)
{
    g_autofree char *prefix = stamp_prefix(repository);

    return stamp && g_str_has_prefix(stamp, prefix)
        && g_uuid_string_is_valid(stamp + strlen(prefix));
}

static void
offer_disks(KvssHistory *history, KvssComponent *component, const KvssComponent *earlier)
{
    for (guint i = 0; i < earlier->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(earlier->disks, i);
        KvssDisk *previous;

        if (!is_our_stamp(history->repository, disk->tracked_by))
            continue;
        previous = kvss_component_add_previous(component, disk->target);
        kvss_set_string(&previous->tracked_by, disk->tracked_by);
        kvss_set_string(&previous->image, disk->image);
    }
}

void
kvss_history_offer(KvssHistory *history, KvssComponent *component)
{
    guint number = history->summaries->len;
    KvssManifestVm *vm;

    g_free(component->stamp);
    component->stamp = stamp_new(history->repository);
    g_ptr_array_set_size(component->previous, 0);
    for (unsigned n = 0; component->disks->len > 0 && n < SETS_MAX
                         && next_older(history, component, &number, &vm); n++)
        offer_disks(history, component, vm->component);
}

KvssSource *
kvss_history_open_base(KvssHistory *history, const KvssComponent *component, const KvssDisk *disk,
                       GError **error)
{
    guint number = history->summaries->len;
    KvssManifestVm *vm;
    KvssBackup *set;

    while ((set = next_older(history, component, &number, &vm))) {
        const KvssDisk *earlier = kvss_component_find_disk(vm->component, disk->target);

        if (earlier && g_strcmp0(earlier->tracked_by, disk->since) == 0)
            return kvss_backup_open_disk(history->repository, set, vm, earlier, error);
    }
    kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
               "no backup with stamp %s is there", disk->since);
    return NULL;
}
