/*
 * provider.h - makes and holds the instant
 *
 * All providers of a set succeed or the set fails. The functions follow the
 * life of a set; names and order are VSS's.
 */
#pragma once

#include "vss/snapshot-set.h"

struct KvssSource;

typedef struct KvssProvider KvssProvider;

typedef struct {
    const char *name;      /* "qemu", "btrfs", "reflink" */
    const char *id;        /* GUID */
    const char *version;
    const char *type;      /* "system", "software", "hardware" */

    /* Before anything: can it cut this disk? On false @out_reason says why not. */
    bool (*is_supported)(KvssProvider *p, const KvssComponent *c, const KvssDisk *d,
                         char **out_reason);

    /* Slow work is begun, then finished. May fail freely. NULL: nothing to do. */
    bool (*begin_prepare)(KvssProvider *p, KvssSnapshotSet *set, GError **error);
    bool (*end_prepare)(KvssProvider *p, KvssSnapshotSet *set, GError **error);

    /* Inside the window: bounded time. NULL: nothing to do. */
    bool (*pre_commit)(KvssProvider *p, KvssSnapshotSet *set, GError **error);
    bool (*commit)(KvssProvider *p, KvssSnapshotSet *set, GError **error);
    bool (*post_commit)(KvssProvider *p, KvssSnapshotSet *set, GError **error);

    /* After the thaw: writable for auto-recovery, then read-only. NULL: nothing to do. */
    bool (*pre_final_commit)(KvssProvider *p, KvssSnapshotSet *set, GError **error);
    bool (*post_final_commit)(KvssProvider *p, KvssSnapshotSet *set, GError **error);

    /* While the shadow copy exists: its disk as a source; freed by the caller before delete. */
    struct KvssSource *(*open)(KvssProvider *p, KvssComponent *c, KvssDisk *d, GError **error);

    /* The end of the shadow copies, good or bad. Cannot fail; several times does no harm. */
    void (*delete_copies)(KvssProvider *p, KvssSnapshotSet *set);
    void (*abort)(KvssProvider *p, KvssSnapshotSet *set);

    void (*free)(KvssProvider *p);
} KvssProviderOps;

struct KvssProvider {
    const KvssProviderOps *ops;
    KvssSnapshotState state; /* moved by the wrappers only */
};

typedef enum {
    KVSS_PROVIDER_STEP_BEGIN_PREPARE,
    KVSS_PROVIDER_STEP_END_PREPARE,
    KVSS_PROVIDER_STEP_PRE_COMMIT,
    KVSS_PROVIDER_STEP_COMMIT,
    KVSS_PROVIDER_STEP_POST_COMMIT,
    KVSS_PROVIDER_STEP_PRE_FINAL_COMMIT,
    KVSS_PROVIDER_STEP_POST_FINAL_COMMIT,
    KVSS_PROVIDER_STEP_N
} KvssProviderStep;

const char *kvss_provider_step_name(KvssProviderStep step);

/**
 * kvss_provider_step:
 *
 * Does one step: asserts the order, calls, times, moves the state, prefixes
 * errors with the provider's name and the step's. Does not enforce time limits.
 */
bool kvss_provider_step(KvssProvider *p, KvssProviderStep step, KvssSnapshotSet *set,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool kvss_provider_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d,
                                char **out_reason);
struct KvssSource *kvss_provider_open(KvssProvider *p, KvssComponent *c, KvssDisk *d,
                                      GError **error);
void kvss_provider_delete_copies(KvssProvider *p, KvssSnapshotSet *set);
void kvss_provider_abort(KvssProvider *p, KvssSnapshotSet *set);
void kvss_provider_free(KvssProvider *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssProvider, kvss_provider_free)
