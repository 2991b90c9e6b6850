/*
 * component.h - what can be chosen: for the VM writer, one domain
 *
 * A writer declares components, fills them as the events go by, and reads them
 * again at restore. The coordinator and the engines carry them about without
 * knowing what they stand for.
 */
#pragma once

#include "../base/error.h"
#include "vss.h"

G_BEGIN_DECLS

struct KvssDomain; /* host/domain.h; only the VM writer and its providers look inside */

/** One disk that a provider must cut. */
typedef struct {
    char *target;        /* "vda"; for other writers a name unique in the component */
    char *format;        /* as on the host: "qcow2", "raw", ... */
    char *kind;          /* "file", "block", "network", "volume" */
    char *path;          /* (nullable) image or device on the host */
    char *options;       /* (nullable) JSON: how to make such an image again (qemu-img's terms) */
    uint64_t size;       /* guest-visible bytes; 0 until PrepareForBackup */
    char *volume;        /* (nullable) what of the host it lies on: "/srv (xfs)"; for people, and for C3 */
    char *provider;      /* (nullable) name of the provider that cuts it; the coordinator's choice */
    bool needs_rollback; /* that provider cuts after the writer's own instant: PostSnapshot must write to
                          * the shadow copy; set with provider */

    char *shadow_id;     /* (nullable) GUID of its shadow copy, once one was begun */

    /*
     * Stamps name instants (KvssComponent.stamp). Since one only what changed is read;
     * by one the writer tracks the changes after this backup.
     */
    char *image;         /* (nullable) which image it is, whatever its name: another one has another history */
    char *since;         /* (nullable) of an earlier backup */
    char *tracked_by;    /* (nullable) of this backup, or of one before it */

    /* Where the shadow copy is served, once somebody serves it. */
    char *nbd_socket;
    char *nbd_export;
    char *nbd_bitmap;    /* (nullable) what it is offered with: not marked is unchanged since `since` */

    /* Filled by the backup engine. */
    uint64_t bytes_read, bytes_stored;
    bool incremental;
    char *reason;        /* (nullable) why it was read whole */
    uint32_t chunk_size;

    bool is_held;        /* who serves it keeps the image at path from being written meanwhile */
} KvssDisk;

/** A small file of the component that is carried in the set beside the disks. */
typedef struct {
    char *name;          /* relative path in the component's folder: "domain.xml", "tpm/tpm2-00.permall" */
    GBytes *bytes;       /* content; or NULL, then: */
    char *path;          /* file on the host, read when the set is stored ("state.save") */
    char *original;      /* (nullable) where it was on the host, for the restore */
    unsigned mode;       /* permission bits */
    gint64 uid, gid;     /* numeric owner; -1: not told */

    /* Of a file that a provider found: when it is read, path must be this very file, and stay as it was. */
    bool is_identified;
    uint64_t device, inode, size;
    gint64 mtime_ns, ctime_ns;
} KvssFile;

/**
 * Files of the host that a writer wants carried (VSS: a file specification). Which
 * files these are is found out at CommitSnapshots, by the provider that cuts them:
 * it adds a KvssFile for each.
 */
typedef struct {
    char *path;          /* folder; absolute, no wildcards */
    char *filespec;      /* of the names in it: may have '?' and '*', never a separator */
    bool is_recursive;   /* also in the folders below */
    bool is_stable;      /* nobody changes them between Freeze and BackupComplete: they are read where they are */
    char *provider;      /* (nullable) as KvssDisk.provider */
} KvssFileSet;

/** Something of the component that this backup does not hold. */
typedef struct {
    char *target;        /* "vdb", "hostdev0", "/mnt/nfs" */
    char *kind;          /* "lun", "hostdev", "filesystem", "guest-mount", "cdrom", "floppy", "readonly", ... */
    char *reason;        /* a phrase for people */
    bool is_writable;    /* the guest keeps data there: the run ends with exit code 3 */
} KvssNotCovered;

/** One of the conditions of the child-snapshot method. */
typedef struct {
    char *id;            /* "C1" ... "C5" */
    bool holds;
    char *detail;        /* with the value seen */
} KvssCondition;

/** Why the method was chosen. */
typedef struct {
    char *id;            /* "C1" ..., "policy", "state" */
    char *detail;
} KvssReason;

typedef struct KvssComponent {
    char *name;          /* the VM writer: the domain's UUID */
    char *logical_path;  /* names with '\\' between; "" at the top. With name unique in the writer */
    char *caption;       /* "Online\\web01" */
    char *display_name;  /* "web01" */
    bool is_selectable;  /* may be chosen by itself; see coordinator.h for what follows without */
    bool is_selectable_for_restore; /* as a part of another component, may be restored alone */
    bool is_notified;    /* notifyOnBackupComplete */
    bool is_selected;    /* in this set, chosen or brought along */
    bool is_explicit;    /* chosen: it is in the backup components document, and has a backup_succeeded */

    char *state;         /* libvirt's word before the backup: "running", "paused", "shut off", ... or "saved" */
    char *method;        /* "child-snapshot", "saved-state", "offline", "crash-consistent"; "" if none is possible */
    char *demanded_by;   /* (nullable) who demands a method of it: "--method", "the configuration" */
    char *consistency;   /* "application", "memory", "crash", "offline" */
    GPtrArray *disks;        /* KvssDisk */
    GPtrArray *files;        /* KvssFile */
    GPtrArray *file_sets;    /* KvssFileSet */
    GPtrArray *not_covered;  /* KvssNotCovered */
    GPtrArray *conditions;   /* KvssCondition */
    GPtrArray *reasons;      /* KvssReason */
    GPtrArray *notes;        /* char*: tolerated and noted (EFI system partition, stacking, ...) */

    /* Times, by the monotonic clock; -1 where they do not apply. */
    double freeze_ms;    /* freeze call to the end of the thaw */
    double pause_ms;     /* the guest's CPUs stood still */
    gint64 instant_us;   /* monotonic: when its instant was cut */
    gint64 frozen_us, thawed_us; /* monotonic: proven bounds of the freeze */

    char *metadata;      /* (nullable) the writer's own text; stored in the backup components document */

    /*
     * Incremental backups. Before PrepareForBackup the requester says on which earlier ones
     * it can build (SetPreviousBackupStamp, for each disk), and how the new one is called
     * (SetBackupStamp). The writer decides by what it has a record of.
     */
    GPtrArray *previous;   /* KvssDisk of earlier backups, newest first: target, image, tracked_by */
    char *stamp;           /* (nullable) */
    bool is_full;          /* the requester wants everything read all the same */

    bool backup_succeeded; /* SetBackupSucceeded, for the writer to read at BackupComplete */

    /* Restore */
    KvssRestoreStatus restore_status;
    char *restore_options; /* (nullable) the requester's wishes in the writer's own terms (SetRestoreOptions) */

    /* Failure, set by the writer or the coordinator. */
    KvssHresult failure;
    char *failure_message; /* (nullable) */

    struct KvssDomain *domain; /* (nullable) owned by the writer that set it */
    char *work_folder;         /* (nullable) where its sockets and scratch files go */
    bool is_cut_at_commit;     /* stands still until CommitSnapshots cuts its disks */
    uint64_t job_act;          /* guardian/job.h: the backup job's act in the journal; 0 without */
    uint64_t track_act;        /* guardian/job.h: its checkpoint's; 0 without */
} KvssComponent;

KvssComponent *kvss_component_new(const char *name, const char *display_name);
void kvss_component_free(KvssComponent *component);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssComponent, kvss_component_free)

/** Adders: strings are copied. The returned object belongs to the component. */
KvssDisk *kvss_component_add_disk(KvssComponent *component, const char *target);
KvssFile *kvss_component_add_bytes(KvssComponent *component, const char *name, GBytes *bytes,
                                   unsigned mode);
KvssFile *kvss_component_add_file(KvssComponent *component, const char *name, const char *path,
                                  unsigned mode);
/** @path: a folder; @filespec: names in it. */
KvssFileSet *kvss_component_add_file_set(KvssComponent *component, const char *path,
                                         const char *filespec, bool is_recursive);
void kvss_component_add_not_covered(KvssComponent *component, const char *target,
                                    const char *kind, bool is_writable, const char *format, ...)
    G_GNUC_PRINTF(5, 6);
void kvss_component_add_condition(KvssComponent *component, const char *id, bool holds,
                                  const char *format, ...) G_GNUC_PRINTF(4, 5);
void kvss_component_add_reason(KvssComponent *component, const char *id, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
void kvss_component_add_note(KvssComponent *component, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

/** Records a failure; the first one stays. @code: the HRESULT. */
void kvss_component_fail(KvssComponent *component, KvssHresult code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/** Those of @components that are selected and have not failed. Free with unref. */
GPtrArray *kvss_components_healthy(GPtrArray *components);
/** NULL: none has. */
const KvssComponent *kvss_components_first_failed(GPtrArray *components);

KvssDisk *kvss_component_find_disk(const KvssComponent *component, const char *target);
/** Adds a disk of an earlier backup, older than those before; the caller fills it. */
KvssDisk *kvss_component_add_previous(KvssComponent *component, const char *target);
KvssFile *kvss_component_find_file(const KvssComponent *component, const char *name);

/** Is the file @path (absolute, plain) one that @files declares? By its name alone; nothing is looked at. */
bool kvss_file_set_has(const KvssFileSet *files, const char *path);
/** Does @name match a filespec: '?' is one character, '*' any number of them? */
bool kvss_filespec_matches(const char *filespec, const char *name);

/** Sets a string field: frees the old one, copies the new one. */
void kvss_set_string(char **field, const char *value);

G_END_DECLS
