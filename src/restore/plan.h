/*
 * plan.h - what a restore will do, and whether it may; nothing is touched
 *
 * Private to restore/. Everything that comes from the backup is a stranger's:
 * each path is checked here, once, and from here on only the plan's paths are used.
 */
#pragma once

#include "host/domain.h"
#include "restore/restore.h"

/** A disk that is written over where it is; see in-place.h. */
typedef struct {
    char *log;               /* (nullable) what it held before goes there; NULL: there is no way back */
    char *parked;            /* (nullable) what an image with a log is called meanwhile */
    struct Difference *difference; /* (nullable) once it was compared */
} InPlace;

typedef struct {
    KvssDisk *disk;          /* of the plan's component; path and format as they will be */
    const KvssDisk *stored;  /* as the backup has it */
    char *real;              /* where it is really: links followed */
    char *beside;            /* (nullable) where it is written, until all is done: its VM stays registered meanwhile */
    uint64_t data_bytes;     /* that are not known to be zero */
    bool is_block;
    bool keeps_room;         /* preallocated */
    InPlace *in_place;       /* (nullable) NULL: restored whole */
    char *whole_because;     /* (nullable) why it is, where --in-place was asked for */
    char *link;              /* (nullable) in the default location: will lead to it */
    GPtrArray *stale_links;  /* (nullable) char*: ours, of this disk, that will go */
    GArray *link_acts;       /* (nullable) KvssActId: what was said of these in the journal */
} PlanDisk;

typedef struct {
    KvssFile *file;          /* of the plan's component; path set where it is written */
    const KvssFile *stored;
} PlanFile;

typedef struct {
    const KvssManifestVm *vm;
    KvssComponent *component; /* for the coordinator, which takes it; borrowed after that */
    bool component_is_taken;
    KvssDomainConfig *config; /* of the stored definition */
    KvssDomain *old;          /* (nullable) the VM that is replaced */
    KvssDomainState old_state;
    bool is_beside;           /* only disks, into files beside the VM: old is NULL, whether it is here or not */
    const char *copy_of;      /* (nullable) with --as: the name of the VM that it is a copy of */
    GPtrArray *disks;         /* PlanDisk */
    GPtrArray *files;         /* PlanFile: NVRAM, TPM, saved state */
    GPtrArray *remarks;       /* char*: what becomes of its definition */
    KvssRestoredVm *result;   /* filled as we go; owned by the plan until handed over */
} PlanVm;

/** A component of another writer than the VM writer. */
typedef struct {
    const KvssManifestVm *stored;
    struct KvssWriter *writer; /* (nullable: with --to) the component's, as it is here now */
    KvssComponent *live;       /* (nullable) what it declares now; the writer's */
    KvssComponent *component;  /* for the coordinator, which takes it; borrowed after that */
    bool component_is_taken;
    bool stays;                /* its writer does not let go of what was restored */
    GPtrArray *files;          /* PlanFile; path is where it goes */
    GHashTable *kept;          /* folder (char*) -> how many old files stay there for good */
    KvssRestoredComponent *result;
} PlanHost;

/** One --network, with what is on this host. */
typedef struct {
    char *from;
    const char *type;         /* "network" or "bridge" */
    char *to;
} PlanNetwork;

/** Something that was done for a component. */
typedef struct {
    uint64_t act;             /* KvssActId */
    const PlanHost *host;
} PlanHostAct;

typedef struct {
    const KvssRestoreOptions *options;
    GPtrArray *networks;      /* PlanNetwork */
    char *id;                 /* of the run; known beforehand for the names of files set aside */
    GPtrArray *vms;           /* PlanVm */
    GPtrArray *hosts;         /* PlanHost */
    GArray *host_acts;        /* PlanHostAct, in order */
    unsigned host_number;     /* of the next new file's own name of ours */
    GHashTable *host_folders; /* char*: those that files of the set go to */
    GHashTable *ours;         /* see Walk: what no restore of files may take away under itself */
    GPtrArray *steps;         /* char* */
    uint64_t total_bytes;     /* of all disks, guest-visible */
    bool is_partial;
    bool sets_aside;          /* something of the old: the last step speaks of it */
} Plan;

Plan *plan_new(const KvssRestoreOptions *options, GError **error);
void plan_free(Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

/* restore.c */
KvssRestoredVm *kvss_restored_vm_new(const char *name, const char *uuid);
void kvss_restored_vm_free(KvssRestoredVm *vm);
KvssRestoredComponent *kvss_restored_component_new(const KvssManifestVm *stored);
void kvss_restored_component_free(KvssRestoredComponent *component);

/* plan-check.c: errors CONFLICT, NO_ROOM. */
bool plan_check_conflicts(Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool plan_check_room(Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* plan-steps.c: says what will be done. */
void plan_describe(Plan *plan);

/* plan-paths.c: errors INVALID. */
/** @chosen: (nullable) a folder that the user or this host named: below it any plain path will do. */
bool plan_check_path(const char *path, const char *chosen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** The same for where @path really leads. */
bool plan_check_real_path(const char *real, const char *chosen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** Errors: CONFLICT, where @path leads through another user's symbolic link; not above @chosen. */
bool plan_check_links(const char *path, const char *chosen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** NAME: the VM's name made safe; where that changed it, with the beginning of its UUID: "a b" is not "a_b". */
char *plan_safe_name(const KvssComponent *vm);
/** DIR/NAME-TARGET.EXT. */
char *plan_path_in(const char *folder, const KvssComponent *vm, const char *target,
                   const char *format);
