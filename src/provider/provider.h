/*
 * provider.h - makes and holds the instant
 *
 * All providers of a set succeed or the set fails. The functions follow the
 * life of a set; names and order are VSS's. A provider cuts those disks of the
 * set's components whose KvssDisk.provider is its name, and no others.
 */
#pragma once

#include "../vss/snapshot-set.h"

G_BEGIN_DECLS

struct KvssSource;

typedef struct KvssProvider KvssProvider;

typedef struct {
    const char *name;      /* "qemu", "btrfs", "reflink" */
    const char *id;        /* GUID */
    const char *version;
    const char *type;      /* "system", "software", "hardware" */

    /*
     * It cuts after the writer's own instant, so that the writer must be able to write
     * to the shadow copy (auto-recovery) before it is final.
     */
    bool needs_auto_recovery;

    /* Before anything: can it cut this disk? On false @out_reason says why not. NULL: cuts no disk. */
    bool (*is_supported)(KvssProvider *p, const KvssComponent *c, const KvssDisk *d,
                         char **out_reason);

    /* The same for files of the host. NULL: cuts none. */
    bool (*is_file_set_supported)(KvssProvider *p, const KvssComponent *c, const KvssFileSet *s,
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

    /*
     * The end of the shadow copies, good or bad. Cannot fail; several times does no
     * harm. abort() must be safe in another thread while a call of the same provider
     * is stuck: it comes then, and once more when the stuck call has come back.
     */
    void (*delete_copies)(KvssProvider *p, KvssSnapshotSet *set);
    void (*abort)(KvssProvider *p, KvssSnapshotSet *set);

    /* Ends with kvss_provider_clear() and frees the struct; may come late, see writer.h. */
    void (*free)(KvssProvider *p);
} KvssProviderOps;

struct KvssProvider {
    const KvssProviderOps *ops;
    KvssSnapshotState state; /* moved by the wrappers only */
    KvssHresult failure;     /* first error; KVSS_S_OK when none */

    /* The wrapper's own. The lock guards these, state and failure; never held over a call. */
    GMutex lock;
    guint64 ticket;          /* of the call whose answer still counts */
};

/** For implementations: sets up the common part. */
void kvss_provider_init(KvssProvider *p, const KvssProviderOps *ops);
/** For implementations' free(): frees the common part, not the struct. */
void kvss_provider_clear(KvssProvider *p);

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

/** "BeginPrepareSnapshot", "CommitSnapshots", ... */
const char *kvss_provider_step_name(KvssProviderStep step);

/** How far it is, and (optional) its first error. Threads: any. */
KvssSnapshotState kvss_provider_status(KvssProvider *p, KvssHresult *out_failure);

/** Does this step fit the provider's state? */
bool kvss_provider_may_step(KvssProvider *p, KvssProviderStep step);

/**
 * kvss_provider_step:
 *
 * Does one step: asserts the order (only the coordinator calls this), calls,
 * times, moves the state, prefixes errors with the provider's name and the
 * step's. A failure moves to ABORTED. Does not enforce time limits. A call that
 * begins or comes back after kvss_provider_fail() or an abort is
 * KVSS_IO_ERROR_TIMED_OUT. Anything that speaks of a failure is one: false, an error
 * set, or a component of the set marked with kvss_component_fail() meanwhile. A code
 * that VSS lets a provider return is kept, any other becomes UNEXPECTED_PROVIDER_ERROR.
 *
 * Errors: the implementation's. @error is set whenever false is returned, and
 * p->failure is not S_OK then.
 */
bool kvss_provider_step(KvssProvider *p, KvssProviderStep step, KvssSnapshotSet *set,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The coordinator's verdict on one that passed its limit: ABORTED, with @code. Threads: any. */
void kvss_provider_fail(KvssProvider *p, KvssHresult code);

/** Can it cut this disk? On false @out_reason (transfer full, never NULL) says why not. */
bool kvss_provider_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d,
                                char **out_reason);

/** The same for a set of files. */
bool kvss_provider_is_file_set_supported(KvssProvider *p, const KvssComponent *c,
                                         const KvssFileSet *s, char **out_reason);

/** A disk of a shadow copy, once it is CREATED. Prefixes errors. */
struct KvssSource *kvss_provider_open(KvssProvider *p, KvssComponent *c, KvssDisk *d,
                                      GError **error);
void kvss_provider_delete_copies(KvssProvider *p, KvssSnapshotSet *set);
void kvss_provider_abort(KvssProvider *p, KvssSnapshotSet *set);
void kvss_provider_free(KvssProvider *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssProvider, kvss_provider_free)

G_END_DECLS
