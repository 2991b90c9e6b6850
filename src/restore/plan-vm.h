/*
 * plan-vm.h - the parts of a plan that are about one VM
 *
 * Private to restore/. Nothing is touched. Errors: KVSS_RESTORE_ERROR_*, those of
 * the repository, the host, of looking at a file.
 */
#pragma once

#include "restore/plan.h"

/** Adds what will be done about @stored to @plan; plan-vm.c. */
bool plan_vm(Plan *plan, const KvssManifestVm *stored, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void plan_vm_free(gpointer vm);

/** Adds a disk of the backup; the definition was read before. plan-disk.c. */
bool plan_disk(Plan *plan, PlanVm *vm, const KvssDisk *stored, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void plan_disk_free(gpointer disk);

/** Tells what the definition needs of this host and is not here. plan-missing.c. */
void plan_note_missing(const PlanVm *vm);

/** Adds all carried files; the disks were added before. plan-file.c. */
bool plan_files(Plan *plan, PlanVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* plan-some-disks.c */

/** In place of all the rest, when only some disks were asked for; the definition was read before. */
bool plan_some_disks(Plan *plan, PlanVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** Gives @disk the place and the format that it has in the VM that is here. */
bool plan_disk_as_present(PlanVm *vm, PlanDisk *disk, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* plan-identity.c */

/** Errors: INVALID, for what libvirt or a person could not tell from something else. */
bool plan_check_name(const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** With the stored identity, or that of the copy that was asked for. */
KvssComponent *plan_component_new(const KvssRestoreOptions *options, const KvssComponent *stored);
/** All wishes of the restore to @vm's restore_options. */
bool plan_wishes(const Plan *plan, PlanVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* plan-networks.c */

/** What was asked for, against what is on this host; before any VM is planned. */
bool plan_networks(Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** Each is of use to a VM; after all VMs were planned. */
bool plan_networks_check(const Plan *plan, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void plan_network_free(gpointer network);
