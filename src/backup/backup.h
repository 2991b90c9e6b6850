/*
 * backup.h - one backup: a set of components, whole in the repository or not at all
 *
 *   gather ─▶ select ─▶ prepare ─▶ do_snapshot_set ─▶ copy ─▶ set.json ─▶ commit ─▶ complete
 *        └────────┴──────────┴──────────────┴───────────┴─────────┴─ any failure: abort, nothing kept
 */
#pragma once

#include "../catalogue/catalogue.h"
#include "../coordinator/coordinator.h"

G_BEGIN_DECLS

struct KvssHost;

typedef enum {
    KVSS_BACKUP_ERROR_NOT_FOUND, /* no such VM: nothing was touched */
    KVSS_BACKUP_ERROR_INSEPARABLE, /* what was to be left out comes along with what was chosen */
    KVSS_BACKUP_ERROR_DOCUMENT,  /* a VSS document that nobody could read again: too large, or a name twice */
    KVSS_BACKUP_ERROR_NOT_SAME_INSTANT, /* the times of the freezes and cuts disprove it */
} KvssBackupError;

#define KVSS_BACKUP_ERROR (kvss_backup_error_quark())
GQuark kvss_backup_error_quark(void);

/** Where the run is. @vm and @target are NULL outside the copy. */
typedef struct {
    const char *step;     /* "PrepareForBackup", "DoSnapshotSet", "Copy", "Commit", "BackupComplete" */
    const char *vm, *target;
    uint64_t done, total; /* bytes of the whole set; 0 of 0 outside the copy */
} KvssBackupStatus;

/** Called from several threads, one at a time. Must not block long: the copy waits. */
typedef void (*KvssBackupProgress)(const KvssBackupStatus *status, gpointer data);

/** What is asked. Everything is borrowed until the run is over. Lists are NULL-terminated. */
typedef struct {
    KvssCoordinator *coordinator; /* with writers and providers, not gathered */
    KvssRepository *repository;   /* open with ADD */

    struct KvssHost *host;        /* (nullable in tests) no host: no journal, no guardian */
    const char *state_dir;        /* journals */
    const char *scratch_dir;      /* (nullable) work folders */

    const char *const *vms;       /* (nullable) names or UUIDs */
    bool all;                     /* every component that the writers declare */
    const char *const *exclude;   /* (nullable) names or UUIDs left out */
    const char *const *mentioned; /* (nullable) names that must be known for another reason */
    const char *const *tags;      /* (nullable) of the snapshot, beside "kvss" */
    bool full;                    /* read every disk whole */
    bool same_instant;
    KvssBackupType backup_type;   /* 0: COPY, which lets writers change nothing of their own */

    uint64_t limit;               /* bytes a second that are read at most, of all disks and files; 0: no limit */

    KvssBackupProgress progress;  /* (nullable) */
    gpointer progress_data;
    GCancellable *cancellable;    /* (nullable) */
} KvssBackupRequest;

typedef struct {
    char id[KVSS_ID_HEX_LENGTH + 1]; /* of the snapshot in the repository */
    KvssManifest *manifest;          /* borrows the coordinator's components: free it first */
    double seconds;
    char *warning;                   /* (nullable) the backup stands, but this went wrong after it */
} KvssBackupResult;

void kvss_backup_result_clear(KvssBackupResult *result);

/**
 * kvss_backup_run:
 *
 * True: the set is in the repository and survives a crash. False: no snapshot was
 * written, every guest is back in its prior state, and @error says what failed on
 * which VM; the components that failed have failure and failure_message set.
 *
 * Errors: KVSS_BACKUP_ERROR_NOT_FOUND names every VM that is not there; those of the
 * coordinator, the writers, the providers, the repository; KVSS_IO_ERROR_CANCELLED.
 * Blocks: until done. Threads: one run at a time per coordinator.
 */
bool kvss_backup_run(const KvssBackupRequest *request, KvssBackupResult *out_result,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_backup_find_component:
 *
 * The component of a gathered coordinator that has this name for people, or this
 * UUID. Borrowed; NULL when there is none.
 */
KvssComponent *kvss_backup_find_component(KvssCoordinator *coordinator,
                                          const char *name_or_uuid);

/** True if each of @names is there; else NOT_FOUND names every one that is not. */
bool kvss_backup_check_names(KvssCoordinator *coordinator, const char *const *names,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** True if one of @names, each a name or a UUID, means the component. */
bool kvss_backup_is_named(const KvssComponent *component, const char *const *names);

G_END_DECLS
