/*
 * restore.h - VMs and components of a backup put back: all of those chosen, or nothing changed
 *
 *   plan ─▶ PreRestore ─▶ files ─▶ PostRestore ─▶ point of no return ─▶ old files go
 *     │         └────────────┴───────────┴─ any failure, any death: everything taken back
 *     └─ conflicts, room, paths: looked at before anything is touched
 *
 * The old VM is set aside, never overwritten: a running or paused one by managed
 * save, its files by a rename on the same file system, its definition in the
 * journal. A block device cannot be set aside, and with in_place nor are images: what
 * such a disk held goes to a roll-back log before it is written over, and only what
 * differs is. No guest agent is called.
 */
#pragma once

#include "../catalogue/catalogue.h"
#include "../coordinator/coordinator.h"

G_BEGIN_DECLS

struct KvssHost;

typedef enum {
    KVSS_RESTORE_ERROR_NOT_FOUND, /* no such VM in the backup: nothing was touched */
    KVSS_RESTORE_ERROR_CONFLICT,  /* something of others is in the way; nothing was touched */
    KVSS_RESTORE_ERROR_NO_ROOM,   /* nothing was touched */
    KVSS_RESTORE_ERROR_INVALID,   /* the backup asks for something that is not allowed */
} KvssRestoreError;

#define KVSS_RESTORE_ERROR (kvss_restore_error_quark())
GQuark kvss_restore_error_quark(void);

/** Where the run is. @vm and @target are NULL outside the copy. */
typedef struct {
    const char *step;     /* "Plan", "PreRestore", "Restore", "PostRestore", "Complete", "Start" */
    const char *vm, *target;
    uint64_t done, total; /* bytes of all disks chosen; 0 of 0 outside the copy */
} KvssRestoreProgressInfo;

/** May be called from several threads, one at a time. Must not block long. */
typedef void (*KvssRestoreProgress)(const KvssRestoreProgressInfo *info, gpointer data);

/** What is asked. Everything is borrowed until the run is over. Lists are NULL-terminated. */
typedef struct {
    KvssRepository *repository;
    const KvssBackup *backup;     /* as kvss_catalogue_find() gave it */
    struct KvssHost *host;
    const char *state_dir;        /* journals */
    const char *scratch_dir;      /* (nullable) work folders */
    KvssCoordinator *coordinator; /* (nullable) with writers, not gathered; NULL: the VM writer alone */
    /*
     * (nullable) Another one for components of other writers, with these writers, gathered.
     * It hears PostRestore last, when the VMs are registered: a database that has begun to
     * use its new files cannot be asked to give them back. Not needed with to_dir.
     */
    KvssCoordinator *host_coordinator;

    const char *const *vms;       /* (nullable) names or UUIDs, of other components too; NULL: all of the set */
    const char *const *disks;     /* (nullable) targets: only these disks of the one VM; it stays registered */
    const char *to_dir;           /* (nullable) where disks and files go instead; absolute; made when absent */
    const char *as_name;          /* (nullable) one VM only: it becomes another one of this name */
    const char *const *networks;  /* (nullable) "OLD=NEW": NEW is a network or bridge of this host */
    bool allow_host_access;       /* what reaches from the definition into the host stays */
    bool start;                   /* start each VM, or resume it from its saved RAM */
    bool keep_old;                /* what was set aside stays, and is named; not with in_place */
    bool in_place;                /* images that are where they go to are written over, only what differs */
    bool no_rollback;             /* so, and block devices always, without a way back for what they held */
    bool dry_run;                 /* plan only */

    KvssRestoreProgress progress; /* (nullable) */
    gpointer progress_data;
    GCancellable *cancellable;    /* (nullable) */
} KvssRestoreOptions;

typedef struct {
    char *target, *format;
    char *path;
    uint64_t size;          /* guest-visible bytes */
    uint64_t bytes_written; /* data, not holes */
    bool is_in_place;       /* written over where it was, only what differed */
    uint64_t bytes_differing; /* of one in place: in chunks that were not right; 0 until it was compared */
    char *link;             /* (nullable) in the default location, leads to it when it lies elsewhere */
} KvssRestoredDisk;

typedef struct {
    char *type, *source;    /* "network", "default"; source may be NULL */
    char *was;              /* (nullable) the name of the one that this takes the place of */
    char *mac;              /* (nullable) */
    bool is_connected;      /* false: what it was connected to is not here; its link is down */
} KvssRestoredNetwork;

typedef struct {
    char *name, *uuid;
    char *copy_of;          /* (nullable) with as_name: the VM that this is a copy of */
    char *state;            /* libvirt's word, or "saved"; with dry_run as it will be; NULL: not on this host */
    GPtrArray *disks;       /* KvssRestoredDisk */
    GPtrArray *networks;    /* KvssRestoredNetwork */
    GPtrArray *notes;       /* char*: what a person should know */
} KvssRestoredVm;

/** A component of another writer than the VM writer. */
typedef struct {
    char *name;             /* display name */
    char *writer, *writer_name; /* class id; friendly name, nullable */
    unsigned files;
    uint64_t bytes;
    GPtrArray *notes;       /* char* */
} KvssRestoredComponent;

typedef struct {
    GPtrArray *vms;         /* KvssRestoredVm */
    GPtrArray *components;  /* KvssRestoredComponent */
    GPtrArray *steps;       /* char*: what is done, in order, one phrase each; for --dry-run */
    bool is_partial;        /* exit code 3: a link is down, a disk was not covered, a VM did not start */
    char *warning;          /* (nullable) the restore stands, but this went wrong after it */
    double seconds;
} KvssRestoreResult;

void kvss_restore_result_clear(KvssRestoreResult *result);

/**
 * kvss_restore_run:
 *
 * True: every chosen VM is restored, registered and in its state, and that
 * survives a crash; or, with dry_run, the plan holds. False: nothing was changed,
 * or all was taken back; what could not be taken back is in the journal for doctor,
 * and @error says so.
 *
 * Errors: KVSS_RESTORE_ERROR_*; those of the repository, the coordinator, the host;
 * KVSS_IO_ERROR (NO_SPACE, CANCELLED). Blocks: until done.
 */
bool kvss_restore_run(const KvssRestoreOptions *options, KvssRestoreResult *out_result,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
