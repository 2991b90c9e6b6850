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

/** Adds all carried files; the disks were added before. plan-file.c. */
bool plan_files(Plan *plan, PlanVm *vm, GError **error) G_GNUC_WARN_UNUSED_RESULT;
