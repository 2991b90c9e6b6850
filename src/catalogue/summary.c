/*
 * summary.c - the sets of a repository in short, without reading each of them again
 */
#include "catalogue/catalogue-private.h"
#include "catalogue/summary-cache.h"

static void
member_free(gpointer data)
{
    KvssSummaryMember *member = data;

    g_free(member->name);
    g_free(member->display_name);
    g_free(member);
}

GPtrArray *
kvss_summary_members_new(void)
{
    return g_ptr_array_new_with_free_func(member_free);
}

void
kvss_summary_add_member(GPtrArray *members, const char *name, const char *display_name)
{
    KvssSummaryMember *member = g_new0(KvssSummaryMember, 1);

    member->name = g_strdup(name);
    member->display_name = g_strdup(display_name);
    g_ptr_array_add(members, member);
}

void
kvss_summary_free(KvssSummary *summary)
{
    if (!summary)
        return;
    kvss_snapshot_free(summary->snapshot);
    g_free(summary->set_id);
    g_free(summary->host);
    g_clear_pointer(&summary->vms, g_ptr_array_unref);
    g_clear_pointer(&summary->components, g_ptr_array_unref);
    g_free(summary);
}

/* ---- from the set itself ---- */

static GPtrArray *
members_of(const GPtrArray *described)
{
    GPtrArray *members = kvss_summary_members_new();

    for (guint i = 0; i < described->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(described, i);

        kvss_summary_add_member(members, vm->component->name, vm->component->display_name);
    }
    return members;
}

static KvssSummary *
summary_of(const KvssManifest *manifest)
{
    KvssSummary *summary = g_new0(KvssSummary, 1);

    summary->set_id = g_strdup(manifest->set_id);
    summary->host = g_strdup(manifest->host);
    summary->time_us = manifest->time_us;
    summary->size = manifest->size;
    summary->vms = members_of(manifest->vms);
    summary->components = members_of(manifest->components);
    return summary;
}

/* Takes @snapshot. NULL without an error: it is no set. */
static KvssSummary *
read_summary(KvssRepository *repository, KvssSnapshot *snapshot, GError **error)
{
    g_autoptr(KvssBackup) backup = NULL;
    KvssSummary *summary;

    if (!kvss_catalogue_load(repository, snapshot, &backup, error) || !backup)
        return NULL;
    summary = summary_of(backup->manifest);
    summary->snapshot = g_steal_pointer(&backup->snapshot);
    return summary;
}

/* From the cache, or else from the set. The same. */
static KvssSummary *
find_summary(KvssRepository *repository, KvssSummaryCache *cache, KvssSnapshot *snapshot,
             GError **error)
{
    KvssSummary *summary = kvss_summary_cache_find(cache, snapshot->id);

    if (!summary)
        return read_summary(repository, snapshot, error);
    summary->snapshot = snapshot;
    return summary;
}

/* ---- the list ---- */

GPtrArray *
kvss_catalogue_summaries(KvssRepository *repository, KvssCatalogueProblem problem, gpointer data,
                         GError **error)
{
    g_autoptr(GPtrArray)
        summaries = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_summary_free);
    g_autoptr(GPtrArray)
        snapshots = kvss_repository_list_readable_snapshots(repository, KVSS_CATALOGUE_TAG,
                                                            problem, data, error);
    g_autoptr(KvssSummaryCache) cache = NULL;

    if (!snapshots)
        return NULL;
    cache = kvss_summary_cache_open(kvss_repository_cache_dir(repository));
    while (snapshots->len > 0) {
        KvssSnapshot *snapshot = g_ptr_array_steal_index(snapshots, 0);
        g_autofree char *id = g_strdup(snapshot->id);
        g_autoptr(GError) trouble = NULL;
        KvssSummary *summary = find_summary(repository, cache, snapshot, &trouble);

        if (summary)
            g_ptr_array_add(summaries, summary);
        if (trouble && kvss_catalogue_could_not_look(trouble)) {
            g_propagate_error(error, g_steal_pointer(&trouble));
            return NULL;
        }
        if (trouble && problem)
            problem(id, trouble, data);
    }
    kvss_summary_cache_save(cache, summaries);
    return g_steal_pointer(&summaries);
}

bool
kvss_summary_has_vm(const KvssSummary *summary, const char *uuid)
{
    for (guint i = 0; i < summary->vms->len; i++)
        if (g_ascii_strcasecmp(((KvssSummaryMember *) g_ptr_array_index(summary->vms, i))->name,
                               uuid) == 0)
            return true;
    return false;
}

KvssSummary *
kvss_summary_newest_of(GPtrArray *summaries, const char *uuid)
{
    for (guint i = summaries->len; i > 0; i--)
        if (kvss_summary_has_vm(g_ptr_array_index(summaries, i - 1), uuid))
            return g_ptr_array_index(summaries, i - 1);
    return NULL;
}

KvssBackup *
kvss_summary_load(KvssRepository *repository, const KvssSummary *summary, GError **error)
{
    KvssSnapshot *snapshot
        = kvss_repository_find_snapshot(repository, summary->snapshot->id, error);
    KvssBackup *backup = NULL;

    if (!snapshot || !kvss_catalogue_load(repository, snapshot, &backup, error))
        return NULL;
    if (!backup)
        kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
                   "snapshot %.8s holds no %s: it is no backup set", summary->snapshot->id,
                   KVSS_MANIFEST_NAME);
    return backup;
}
