/*
 * coordinator.h - the VSS service: runs the sequence, owns the state
 *
 *   gather ─▶ select ─▶ prepare_for_backup ─▶ do_snapshot_set ─▶ (copy) ─▶ backup_complete
 *                                                     │ any failure
 *                                                     ▼
 *                                                   abort
 *
 * The order of events with their time limits is the table in events.c. It
 * knows writers and providers by their interfaces only, and nothing of VMs.
 *
 * Each writer and provider is called in a thread of its own, so that one that
 * hangs can be given up. One coordinator serves one set or one restore, and is
 * used by one thread; to stop it from another, cancel the set's cancellable.
 * Every function blocks for as long as the steps it sends may take, and a step
 * that is called too early or too late is BAD_STATE and changes nothing.
 */
#pragma once

#include "events.h"
#include "../vss/snapshot-set.h"

G_BEGIN_DECLS

struct KvssWriter;
struct KvssProvider;
struct KvssSource;

typedef enum {
    KVSS_COORDINATOR_ERROR_WRITER_FAILED,
    KVSS_COORDINATOR_ERROR_PROVIDER_FAILED,
    KVSS_COORDINATOR_ERROR_TIMEOUT,     /* a step passed its limit */
    KVSS_COORDINATOR_ERROR_BAD_STATE,   /* the call does not fit here: VSS_E_BAD_STATE */
    KVSS_COORDINATOR_ERROR_NOT_FOUND,   /* no such component */
    KVSS_COORDINATOR_ERROR_NOTHING,     /* no component was selected */
    KVSS_COORDINATOR_ERROR_UNSUPPORTED, /* no provider for a disk; a context that is not known here */
    KVSS_COORDINATOR_ERROR_NOT_SELECTABLE, /* the component comes with another one only */
} KvssCoordinatorError;

#define KVSS_COORDINATOR_ERROR (kvss_coordinator_error_quark())
GQuark kvss_coordinator_error_quark(void);

typedef struct KvssCoordinator KvssCoordinator;

KvssCoordinator *kvss_coordinator_new(void);

/**
 * Sends Abort when a set is under way, BackupShutdown always (to the writers of
 * the set), then frees writers and providers. What a stuck call may still touch is
 * left behind with its thread, and freed only if that comes back.
 */
void kvss_coordinator_free(KvssCoordinator *coordinator);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssCoordinator, kvss_coordinator_free)

/** Take a writer, a provider. Before gather only. Providers: in the order of preference. */
void kvss_coordinator_take_writer(KvssCoordinator *coordinator, struct KvssWriter *writer);
void kvss_coordinator_take_provider(KvssCoordinator *coordinator, struct KvssProvider *provider);

/** Other time limits than the table's, for the steps that come after. @limits is copied. */
void kvss_coordinator_set_limits(KvssCoordinator *coordinator, const KvssLimits *limits);

/** Only this one may be chosen; NULL: any. An unknown name fails prepare with UNSUPPORTED. */
void kvss_coordinator_demand_provider(KvssCoordinator *coordinator, const char *name);

/**
 * The set: the requester sets context, type, same_instant, run and cancellable before
 * prepare (pre_restore). What it puts there must live until the coordinator is freed;
 * run longer, if a call was stuck: until the process ends.
 */
KvssSnapshotSet *kvss_coordinator_set(KvssCoordinator *coordinator);

GPtrArray *kvss_coordinator_writers(KvssCoordinator *coordinator);   /* KvssWriter, borrowed */
GPtrArray *kvss_coordinator_providers(KvssCoordinator *coordinator); /* KvssProvider, borrowed */

/**
 * Identify. A writer that fails here drops out (VSS) and its status says so; if none
 * is left that is an error. Also listens to the set's cancellable, when there is one.
 */
bool kvss_coordinator_gather(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_coordinator_select_component:
 *
 * Chooses a component of some writer: it is explicitly in the set, those below it in
 * the tree of logical paths come along implicitly, and so do the required ones of its
 * writer (not selectable, and below no selectable one). A part that is not selectable
 * and has a selectable ancestor is NOT_SELECTABLE; one whose ancestor is in the set
 * stays implicit. Twice does no harm. Source: VSS, "Working with Selectability for Backup".
 */
bool kvss_coordinator_select_component(KvssCoordinator *coordinator, KvssComponent *component,
                                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The first of this name (exact) that a writer has declared. NOT_FOUND. */
bool kvss_coordinator_select(KvssCoordinator *coordinator, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * For a restore: selects a component out of the backup's documents, which @writer
 * need not know any more. @component is taken and becomes the writer's; one of the
 * same name that the writer declared is not selected and stays untouched. After
 * gather only.
 */
void kvss_coordinator_take_component(KvssCoordinator *coordinator, struct KvssWriter *writer,
                                     KvssComponent *component);

/**
 * For every disk of the selected components a provider is chosen (KvssDisk.provider)
 * and begun; then PrepareForBackup to all. Writers without a selected component get
 * no further events. Disks that PrepareForBackup added get their provider after it.
 * On failure everything has been undone and the coordinator is at its end.
 * NOTHING selected changes nothing.
 */
bool kvss_coordinator_prepare_for_backup(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_coordinator_do_snapshot_set:
 *
 * PrepareForSnapshot to PostFinalCommitSnapshots. Afterwards every shadow copy
 * can be read and every guest is back in its prior state. On failure everything
 * has been undone: Abort was sent to every writer and provider involved (before
 * PostSnapshot was delivered; after it, BackupShutdown cleans up), and @error
 * names the writer and each component that failed, with the code's name and value.
 * A thaw that comes late is TIMEOUT: shadow copy made, consistency lost.
 *
 * Errors: KVSS_COORDINATOR_ERROR; KVSS_IO_ERROR_CANCELLED.
 */
bool kvss_coordinator_do_snapshot_set(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** A shadow copy's disk as a source. Between do_snapshot_set and backup_complete. */
struct KvssSource *kvss_coordinator_open(KvssCoordinator *coordinator, KvssComponent *component,
                                         KvssDisk *disk, GError **error);

/**
 * Which provider would be chosen for this disk, after gather; nothing is begun. NULL:
 * none can, and @out_reason (nullable, transfer full) says why of each.
 */
struct KvssProvider *kvss_coordinator_find_provider(KvssCoordinator *coordinator,
                                                    KvssComponent *component, KvssDisk *disk,
                                                    char **out_reason);

/** Which provider cuts this disk; NULL before prepare. */
struct KvssProvider *kvss_coordinator_provider_of(KvssCoordinator *coordinator,
                                                  const KvssDisk *disk);

/** SetBackupSucceeded for one explicit component and those that came with it, before backup_complete. */
void kvss_coordinator_set_succeeded(KvssCoordinator *coordinator, KvssComponent *component,
                                    bool succeeded);

/**
 * BackupComplete to all, shadow copies deleted. A failure here does not undo the
 * backup: it is told. The requester's cancellable is not listened to any more.
 */
bool kvss_coordinator_backup_complete(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * The requester gives up: Abort to all involved, copies deleted. In any state,
 * several times. Once PostSnapshot was delivered writers get BackupShutdown in
 * place of Abort; in a restore, PostRestore (see pre_restore).
 */
void kvss_coordinator_abort(KvssCoordinator *coordinator);

/**
 * Restore: PreRestore to all involved; every writer has returned before this does.
 *
 * A restore knows no Abort: on failure every writer that got PreRestore has got
 * PostRestore too, with restore_status NONE (nothing was written), and has put back
 * what it had set aside. kvss_coordinator_abort() does the same between this and
 * post_restore.
 */
bool kvss_coordinator_pre_restore(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** The requester has set restore_status on each component: PostRestore to all involved. */
bool kvss_coordinator_post_restore(KvssCoordinator *coordinator, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_coordinator_pre_restore_again:
 *
 * After post_restore, when the old files must come back all the same: PreRestore to each
 * writer that accepted PostRestore, which may use the new ones. Then the requester puts
 * the old files back, and kvss_coordinator_abort() sends PostRestore with NONE to those.
 *
 * One that does not accept is left alone: its files must stay as they are, and it gets no
 * further event. @stays (element-type KvssWriter, borrowed): these are added. Cannot fail.
 */
void kvss_coordinator_pre_restore_again(KvssCoordinator *coordinator, GPtrArray *stays);

/** The result code of the first error; KVSS_S_OK if there was none. */
KvssHresult kvss_coordinator_failure(KvssCoordinator *coordinator);

/** What happened and when, for set.json: (element-type KvssEventRecord), oldest first. */
typedef struct {
    const char *event;   /* "PrepareForSnapshot", "CommitSnapshots", ... */
    const char *who;     /* writer's or provider's name */
    gint64 start_us, end_us; /* UTC microseconds since 1970 */
    KvssHresult result;
} KvssEventRecord;
GArray *kvss_coordinator_history(KvssCoordinator *coordinator);

G_END_DECLS
