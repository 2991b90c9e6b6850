/*
 * summary.h - the sets of a repository in short, without reading each of them again
 *
 * What a list needs of a set never changes, as the set does not. So it is kept on
 * this host, in the repository's cache folder, by the id of the snapshot: a thousand
 * sets of a hundred VMs are a file of some megabytes instead of a thousand documents.
 * The snapshots themselves are read each time. What lies behind them is not: that a
 * set is in this list does not say that it can be read (kvss_repository_verify() does).
 */
#pragma once

#include "catalogue.h"

G_BEGIN_DECLS

/** A VM, or a component of another writer. */
typedef struct {
    char *name;         /* KvssComponent.name: a VM's UUID */
    char *display_name;
} KvssSummaryMember;

typedef struct {
    KvssSnapshot *snapshot;
    char *set_id;
    char *host;            /* (nullable) */
    gint64 time_us;        /* UTC microseconds since 1970: when the instant was cut */
    uint64_t size;         /* bytes */
    GPtrArray *vms;        /* KvssSummaryMember */
    GPtrArray *components; /* KvssSummaryMember */
} KvssSummary;

void kvss_summary_free(KvssSummary *summary);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSummary, kvss_summary_free)

/**
 * kvss_catalogue_summaries:
 * @problem: (nullable) as for kvss_catalogue_list()
 *
 * All sets, oldest first. (element-type KvssSummary), free with unref. Sets that the
 * cache does not know are read whole, one at a time, and added to it.
 * Errors: could not look (KVSS_IO_ERROR, KVSS_REPOSITORY_ERROR_*).
 */
GPtrArray *kvss_catalogue_summaries(KvssRepository *repository, KvssCatalogueProblem problem,
                                    gpointer data, GError **error);

/** Whether the set holds the VM of this UUID. */
bool kvss_summary_has_vm(const KvssSummary *summary, const char *uuid);

/** The newest of @summaries (as they are given above) with the VM of this UUID; NULL. Borrowed. */
KvssSummary *kvss_summary_newest_of(GPtrArray *summaries, const char *uuid);

/** The whole of it, but for what is known to be lost: losses has nothing. Errors: as kvss_catalogue_find(). */
KvssBackup *kvss_summary_load(KvssRepository *repository, const KvssSummary *summary,
                              GError **error);

G_END_DECLS
