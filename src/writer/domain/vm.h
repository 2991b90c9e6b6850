/*
 * vm.h - one virtual machine as the VM writer sees it; private to this folder
 *
 *   vm-writer.c    the events, the sets of VMs, what runs side by side
 *   examine.c      looking at a VM: coverage, conditions, the method and why
 *   coverage.c     which disks can be cut, and what no backup of ours holds
 *   conditions.c   C1 to C5
 *   prepare.c      PrepareForBackup of one VM
 *   instants.c     PrepareForSnapshot and PostSnapshot of one VM
 *   capture.c      the small files: definition, NVRAM, TPM
 */
#pragma once

#include "guardian/job.h"
#include "host/domain.h"
#include "host/image.h"
#include "writer/domain/vm-writer.h"

struct KvssImageServer;

typedef enum {
    KVSS_METHOD_NONE,
    KVSS_METHOD_CHILD_SNAPSHOT,
    KVSS_METHOD_SAVED_STATE,
    KVSS_METHOD_OFFLINE,
    KVSS_METHOD_CRASH_CONSISTENT,
} KvssMethod;

const char *kvss_method_name(KvssMethod method);
/** False for a word that is no method. */
bool kvss_method_from_name(const char *name, KvssMethod *out_method);

/** The policy, owned by the writer. */
typedef struct {
    KvssMethod method;       /* NONE: the table decides */
    GHashTable *method_of;   /* name or UUID -> GINT_TO_POINTER(KvssMethod) */
    char *method_by, *method_of_by; /* (nullable) who demands them */
    char *snapshot_dir;
    bool strict_conditions;
    unsigned freeze_limit_ms;
} KvssVmPolicy;

typedef struct {
    const KvssVmPolicy *policy;
    KvssComponent *component; /* borrowed; what the world is told */
    KvssDomain *domain;
    KvssDomainConfig *config;
    KvssGuestInfo *guest;     /* (nullable) what its agent told */
    KvssDomainState prior;    /* state before we touched it */
    KvssMethod method;
    KvssMethod demand;        /* NONE: nothing is demanded of it */
    const char *demanded_by;  /* (nullable) the policy's word for who demands it */

    /* While a set is under way. */
    KvssRun *run;
    char *folder;             /* its part of the work folder */
    KvssActId freeze_act, still_act;
    int n_frozen;             /* file systems, as the freeze counted */
    gint64 freeze_call_us;
    gint64 cut_call_us, cut_done_us; /* its disks were cut at some moment in between */
    gint64 still_us;          /* when its CPUs stopped */
    GPtrArray *stamps;        /* (nullable) char*: since each of them, libvirt knows what changed */
    GPtrArray *servers;       /* KvssImageServer: images held while it is off */
} KvssVm;

KvssVm *kvss_vm_new(KvssDomain *domain, const KvssVmPolicy *policy, KvssComponent *component);
void kvss_vm_free(KvssVm *vm);

/** Looks at everything afresh and fills the component. Asks the guest; changes nothing. */
bool kvss_vm_examine(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** From child-snapshot to saved-state, when its agent fell silent. False where that cannot be. */
bool kvss_vm_fall_back(KvssVm *vm);

/* coverage.c */
void kvss_vm_find_coverage(KvssVm *vm);
void kvss_vm_find_guest_coverage(KvssVm *vm);

/* conditions.c: adds C1 to C5 to the component; true if all hold. */
bool kvss_vm_check_conditions(KvssVm *vm);
/** File systems on covered disks that a freeze must have frozen. The guest was asked before. */
unsigned kvss_vm_count_freezable(const KvssVm *vm);

/* prepare.c */
bool kvss_vm_prepare(KvssVm *vm, KvssRun *run, unsigned number, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** Bytes of the work folder's file system that this VM may need while it is copied. */
uint64_t kvss_vm_room_needed(const KvssVm *vm);

/* tracking.c */
/** Which earlier backups there is a record of. Of a VM that runs. */
bool kvss_vm_find_stamps(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/**
 * Decides since, tracked_by and, for a disk that is read whole, the reason.
 * @info: (nullable) its image as far as that could be looked at
 */
void kvss_vm_plan_tracking(KvssVm *vm, KvssDisk *disk, const KvssImageInfo *info);
/** Journals the checkpoint that comes with the cut. */
bool kvss_vm_begin_tracking(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** The backup stands: its bitmaps stay, those of earlier ones in this repository go. */
void kvss_vm_keep_tracking(KvssVm *vm);
/** libvirt forgets the checkpoints that it was told of; the bitmaps stay. */
void kvss_vm_forget_stamps(KvssVm *vm);

/* capture.c */
bool kvss_vm_capture_definition(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** NVRAM and TPM state; while the guest is frozen, still or off. */
bool kvss_vm_capture_firmware(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* instants.c: each records its failure on the component. */
bool kvss_vm_ping(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_freeze(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_cut(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_thaw(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_stand_still(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_save_memory(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_vm_go_on(KvssVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** Lets go of images held; after the copies are closed. */
void kvss_vm_release(KvssVm *vm);
