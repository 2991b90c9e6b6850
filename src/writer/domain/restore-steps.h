/*
 * restore-steps.h - PreRestore and PostRestore of the VM writer
 *
 * What the requester prepares on each selected component (see also component.h):
 *
 *   name, display_name   UUID and name the VM will have
 *   state                its state at the backup; what a saved VM goes back to
 *   metadata             the writer's own text from the backup: JSON, {"autostart":true}
 *   restore_options      JSON:
 *     "keep-old"           what is set aside stays after success
 *     "stop"               a VM that cannot be saved may be shut off without its memory (it was
 *                          said beforehand)
 *     "only-disks"         the VM stays registered as it is; it must be off
 *     "beside"             with that: the disks go into files beside it; it is not looked at
 *     "stays"              {"vda":LOG}: that disk is written over where it is, so its image is
 *                          not set aside; while LOG is there it is half old and half new
 *     "networks"           [{"from":"br0","type":"network","to":"lan"}]
 *     "allow-host-access"  what reaches into the host stays as it was stored
 *     "present"            the definition of the VM that is replaced: what it has was granted
 *     "copy"               {"genid":UUID,"macs":{OLD:NEW}}: name and display_name are new
 *   disks[]              path: where the disk is restored to; kind "file" or "block"; format
 *   files[]              "domain.xml": bytes, the definition as it was;
 *                        "nvram.fd", "tpm/...": path, where they are restored to;
 *                        "state.save": path, the save image, restored beside the disks
 *
 * A copy takes the place of nothing: what is in its way is an error.
 *
 * All acts go to set->run; a failure undoes the whole run.
 */
#pragma once

#include "host/domain-config.h"
#include "vss/snapshot-set.h"

struct KvssHost;

/**
 * kvss_vm_pre_restore:
 *
 * For each VM of the set that exists on the host (by UUID): saved if it runs or is
 * paused, its files and its managed save image set aside beside where they lie
 * (NAME.kvss-old-ID), its definition, autostart, snapshots and checkpoints
 * written to the journal, then undefined. Files in the way that belong to no VM are
 * set aside too. On failure every VM is as it was.
 */
bool kvss_vm_pre_restore(struct KvssHost *host, KvssSnapshotSet *set, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_vm_post_restore:
 *
 * With restore_status ALL on every component: each definition is corrected to where
 * its files are, registered, its autostart set, its saved state put back. With any
 * other status nothing is registered, the old VMs are put back, and this fails:
 * component and writer say so.
 */
bool kvss_vm_post_restore(struct KvssHost *host, KvssSnapshotSet *set, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** A yes or no in restore_options. */
bool kvss_vm_restore_option(const KvssComponent *component, const char *name);

/** The component becomes another VM than the one that was backed up. */
bool kvss_vm_is_copy(const KvssComponent *component);

/**
 * kvss_vm_disk_goes_aside:
 *
 * True if the image of the old VM's @disk is set aside, wherever it lies, since
 * @component brings that disk back.
 */
bool kvss_vm_disk_goes_aside(const KvssComponent *component, const KvssDiskConfig *disk);

/**
 * The variable store of the old VM, as @config says, that is set aside, wherever it lies, since
 * @component brings one back. NULL: none. Free with g_free.
 */
char *kvss_vm_old_nvram(struct KvssHost *host, const KvssComponent *component,
                        const KvssDomainConfig *config);

/** Where a path really leads: links followed; for one that does not exist yet, its folder's. Free with g_free. */
char *kvss_vm_real_path(const char *path);

/**
 * Where what is restored to @path is really written: links followed; but a link of ours to
 * a disk restored elsewhere (guardian/links.h) gives its place up. Free with g_free.
 */
char *kvss_vm_place_of(const char *path);

/** The log of a disk that stays where it is ("" without one); NULL: it does not stay. Free with g_free. */
char *kvss_vm_disk_stays(const KvssComponent *component, const char *target);

/** A name beside @real: NAME.kvss-WHAT-ID; .kvss-WHAT-ID-HASH for a long NAME. Free with g_free. */
char *kvss_vm_beside_path(const char *real, const char *what, const char *run_id);

/** What @real is called once set aside: that with "old". Free with g_free. */
char *kvss_vm_aside_path(const char *real, const char *run_id);
