/*
 * snapshot-set.h - all shadow copies that share one instant, and their rules
 */
#pragma once

#include "component.h"

#include <gio/gio.h>

G_BEGIN_DECLS

struct KvssRun; /* guardian/run-life.h: journal and guardian of this run */

/** What the requester asked of the whole set. Read-only to writers and providers. */
typedef struct KvssSnapshotSet {
    char *id;                  /* GUID, lower case, no braces */
    uint32_t context;          /* KVSS_CTX_BACKUP | attribute bits */
    KvssBackupType backup_type;
    bool same_instant;         /* every guest is frozen or stopped before the first cut */
    GPtrArray *components;     /* KvssComponent, chosen ones of all writers; borrowed from them */
    struct KvssRun *run;       /* (nullable in tests) borrowed */
    GCancellable *cancellable; /* borrowed; long steps look at it. The requester's until gather or
                                * prepare; then the coordinator's own, which the requester's, a failed
                                * neighbour and a passed time limit trigger. An event reads the pointer
                                * once, as it begins: a later event may get a fresh one */
} KvssSnapshotSet;

KvssSnapshotSet *kvss_snapshot_set_new(void);
void kvss_snapshot_set_free(KvssSnapshotSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSnapshotSet, kvss_snapshot_set_free)

/** First to last instant of the set in ms; -1 with fewer than two instants. */
double kvss_snapshot_set_skew_ms(const KvssSnapshotSet *set);

G_END_DECLS
