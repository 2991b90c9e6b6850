/*
 * domain.h - one domain: its state, its agent, its instants
 *
 * Every call has a time limit. Nothing is cached but what says so. Calls of one
 * KvssDomain come from one thread at a time; different domains are independent
 * once each has its own connection (kvss_domain_connect_alone).
 */
#pragma once

#include "host/connection.h"
#include "host/domain-config.h"

typedef struct KvssDomain KvssDomain;

/** Takes @dom. */
KvssDomain *kvss_domain_new(KvssHost *host, virDomainPtr dom);
void kvss_domain_free(KvssDomain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssDomain, kvss_domain_free)

/** Moves the domain to a connection of its own, so that a blocked call of it blocks nobody else. */
bool kvss_domain_connect_alone(KvssDomain *domain, GError **error) G_GNUC_WARN_UNUSED_RESULT;

const char *kvss_domain_name(const KvssDomain *domain);
const char *kvss_domain_uuid(const KvssDomain *domain);
KvssHost *kvss_domain_host(const KvssDomain *domain);
virDomainPtr kvss_domain_handle(const KvssDomain *domain); /* borrowed */

/* ---- state ---- */

typedef enum {
    KVSS_DOMAIN_OFF,
    KVSS_DOMAIN_SAVED,    /* off, with a managed save image */
    KVSS_DOMAIN_RUNNING,
    KVSS_DOMAIN_PAUSED,
    KVSS_DOMAIN_OTHER,    /* crashed, shutting down, suspended by power management */
} KvssDomainState;

/** "shut off", "saved", "running", "paused", "in transition". */
const char *kvss_domain_state_name(KvssDomainState state);

/** @out_reason: (optional) libvirt's reason number. */
bool kvss_domain_get_state(KvssDomain *domain, KvssDomainState *out_state, int *out_reason,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_domain_is_persistent(KvssDomain *domain);

/** Definition with secrets. @inactive: what the next start uses; else as it runs. Free with g_free. */
char *kvss_domain_xml(KvssDomain *domain, bool inactive, GError **error);
/** The live configuration, parsed. */
KvssDomainConfig *kvss_domain_config(KvssDomain *domain, GError **error);

/** True if no job runs; BUSY naming the job otherwise. */
bool kvss_domain_check_idle(KvssDomain *domain, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Guest-visible bytes of a disk. */
bool kvss_domain_disk_size(KvssDomain *domain, const char *target, uint64_t *out_size,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** RAM of the domain in bytes. */
bool kvss_domain_memory_size(KvssDomain *domain, uint64_t *out_size, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

bool kvss_domain_suspend(KvssDomain *domain, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_domain_resume(KvssDomain *domain, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_domain_start(KvssDomain *domain, bool paused, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- guest agent (agent.c) ---- */

typedef struct {
    char *mountpoint;
    char *type;          /* "ext4", "vfat", "nfs4" */
    char *device;        /* "/dev/vda1", "server:/export" */
    char **targets;      /* disk targets it lies on; empty when on none that libvirt knows */
    bool is_remote;      /* a network file system */
    bool is_readonly;
} KvssGuestMount;

/** A block device that is built from others inside the guest (LVM, md, dynamic disk). */
typedef struct {
    char *name;          /* "/dev/dm-0" */
    char **targets;      /* disk targets it reaches; sorted */
    bool is_complete;    /* every device below it is one of the domain's disks */
} KvssGuestStack;

typedef struct {
    bool can_freeze;      /* the freeze commands are there and enabled */
    bool is_frozen;
    GPtrArray *mounts;    /* KvssGuestMount */
    GPtrArray *stacks;    /* KvssGuestStack */
    bool mounts_complete; /* network mounts could be looked for */
} KvssGuestInfo;

void kvss_guest_info_free(KvssGuestInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssGuestInfo, kvss_guest_info_free)

/** guest-ping, at most @limit_s seconds. AGENT when it does not answer. */
bool kvss_agent_ping(KvssDomain *domain, unsigned limit_s, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** What the guest says of itself. Each question at most @limit_s seconds. */
KvssGuestInfo *kvss_agent_look(KvssDomain *domain, unsigned limit_s, GError **error);

/**
 * kvss_agent_freeze:
 *
 * Call a ping directly before. On AGENT or TIMED_OUT the guest may freeze later:
 * it counts as possibly frozen until kvss_agent_status says thawed.
 * Source: virDomainFSFreeze; libvirt-qemu.md 2.3.
 */
bool kvss_agent_freeze(KvssDomain *domain, unsigned limit_s, int *out_frozen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_agent_thaw(KvssDomain *domain, unsigned limit_s, int *out_thawed, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_agent_status(KvssDomain *domain, unsigned limit_s, bool *out_frozen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_agent_thaw_surely:
 * @deadline_us: monotonic
 *
 * Thaws and asks until the guest itself says thawed, the domain is gone, or the
 * deadline passes. Where libvirt has lost the agent the emergency ways are tried
 * (agent-emergency.h). At least one try is made, of at most 6 s.
 * True only with the guest's own word (or without a running guest).
 */
bool kvss_agent_thaw_surely(KvssDomain *domain, gint64 deadline_us, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- instants (instant.c) ---- */

typedef struct {
    const char *target;   /* "vda" */
    const char *scratch;  /* absolute path, must not exist */
    const char *since;    /* (nullable) a checkpoint: what changed since is offered as KVSS_JOB_BITMAP */
    bool is_tracked;      /* the new checkpoint is for this disk */
} KvssJobDisk;

/** What the bitmaps that a job offers are called, whatever their checkpoint. */
#define KVSS_JOB_BITMAP "changes"

/**
 * kvss_domain_begin_job:
 * @socket: absolute path for QEMU to bind, under 108 characters
 * @disks, @n_disks: the disks to cut; all others are named as left out
 * @checkpoint: (nullable) made in the same transaction, if a disk is tracked
 *
 * One pull-mode backup job over all disks in one transaction: the instant.
 * Each disk is served as NBD export of its target's name.
 * Errors: UNTRACKED where a @since cannot be had: without it the job would begin.
 * Source: virDomainBackupBegin (libvirt 6.0).
 */
bool kvss_domain_begin_job(KvssDomain *domain, const char *socket, const KvssJobDisk *disks,
                           size_t n_disks, const char *checkpoint,
                           const KvssDomainConfig *config, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Ends our job, recognised by @socket, and waits until it is gone. No job, or no domain: success. Foreign job: BUSY. */
bool kvss_domain_end_job(KvssDomain *domain, const char *socket, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- checkpoints (checkpoint.c) ---- */

/**
 * kvss_domain_checkpoints:
 * @prefix: of the names asked for
 *
 * The names of the domain's checkpoints; none where libvirt knows nothing of such.
 * Source: virDomainListAllCheckpoints (libvirt 5.6).
 */
GPtrArray *kvss_domain_checkpoints(KvssDomain *domain, const char *prefix, GError **error);

/**
 * kvss_domain_redefine_checkpoint:
 * @targets: the disks that have its bitmap
 * @is_checked: QEMU is asked for the bitmaps; only of a domain that runs
 *
 * Tells libvirt of a checkpoint that it has forgotten.
 * Errors: UNTRACKED where the bitmaps are not there, or broken, and that is checked.
 */
bool kvss_domain_redefine_checkpoint(KvssDomain *domain, const char *name,
                                     const char *const *targets, bool is_checked, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_domain_forget_checkpoints:
 *
 * libvirt knows of them no longer, their bitmaps stay. One that it will not forget it knows of
 * until the next backup: nothing depends on it.
 */
void kvss_domain_forget_checkpoints(KvssDomain *domain, GPtrArray *names);

/**
 * kvss_domain_delete_checkpoint:
 * @images: (nullable) the qcow2 files that may hold its bitmap, for a domain that is off
 *
 * The checkpoint and its bitmaps; absent: success. The bitmaps of a domain that is off are
 * taken out of the images themselves, where nobody uses them.
 */
bool kvss_domain_delete_checkpoint(KvssDomain *domain, const char *name,
                                   const char *const *images, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_domain_memory_image:
 * @path: absolute, must not exist; libvirt makes it
 * @targets: the disks that are held
 *
 * RAM and device state in a file of libvirt's save format; returns with the
 * domain standing still at the very instant of the image.
 * Source: virDomainSnapshotCreateXML, memory external, disks manual (libvirt 8.2).
 */
bool kvss_domain_memory_image(KvssDomain *domain, const char *path, char **targets,
                              const KvssDomainConfig *config, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Managed save; @paused: the state it is in after the next start. */
bool kvss_domain_managed_save(KvssDomain *domain, bool paused, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** A managed save image is there, from which the next start of the domain would begin. */
bool kvss_domain_has_managed_save(KvssDomain *domain);
/** The same, and its writing never came to an end: the next start would be a fresh one. Local hosts only. */
bool kvss_domain_has_partial_save(KvssDomain *domain);
/**
 * Removes the managed save image, if there is one. For a domain that is active: its disks
 * have gone on since, and a start from that memory would ruin them.
 * Source: virDomainManagedSaveRemove.
 */
bool kvss_domain_forget_managed_save(KvssDomain *domain, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** Path of the managed save image, whether there is one or not. */
char *kvss_domain_managed_save_path(KvssDomain *domain);
