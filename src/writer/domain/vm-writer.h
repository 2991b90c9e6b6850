/*
 * vm-writer.h - the writer whose components are virtual machines
 *
 * Acts as the Hyper-V VSS writer does: all its work is in PrepareForSnapshot and
 * PostSnapshot; a running guest whose five conditions hold is cut through its
 * agent (child-snapshot), any other is saved (saved-state), one that is off is
 * held (offline).
 */
#pragma once

#include "../writer.h"

G_BEGIN_DECLS

struct KvssHost;

#define KVSS_VM_WRITER_NAME "Microsoft Hyper-V VSS Writer"

/** How long a guest may stay frozen, whatever happens; and the least that can be kept to. */
#define KVSS_FREEZE_LIMIT_MS_DEFAULT 10000
#define KVSS_FREEZE_LIMIT_MS_MIN 3000

/** Policy of a run. Strings are borrowed until the writer is freed. */
typedef struct {
    const char *method;           /* (nullable) demanded of every running or paused VM */
    const char *method_by;        /* (nullable) who demands it: "the configuration" */
    GHashTable *method_of;        /* (nullable) VM name or UUID -> method demanded of it */
    const char *method_of_by;     /* (nullable) who demands those: "--method" */
    const char *snapshot_dir;     /* (nullable) where overlays would go: judged by C3 */
    bool strict_conditions;       /* C4 fails on any stacking */
    unsigned freeze_limit_ms;     /* 0: the default; raised to the least */
} KvssVmWriterOptions;

/**
 * kvss_vm_writer_new:
 * @host: (borrowed) an open connection; outlives the writer
 * @options: (borrowed, nullable) only during the call; its strings are copied
 *
 * Identify lists every domain of the host with state, method that would be
 * chosen and why, conditions with the value seen, disks and what is not covered;
 * it asks guests through their agents, with time limits, and changes nothing.
 */
KvssWriter *kvss_vm_writer_new(struct KvssHost *host, const KvssVmWriterOptions *options);

/**
 * kvss_vm_writer_limit_to:
 * @names: NULL-terminated names or UUIDs
 *
 * Identify looks at these only (a host with thousands of VMs is not questioned
 * for one). NULL: all. Unknown names are simply not found.
 */
void kvss_vm_writer_limit_to(KvssWriter *writer, const char *const *names);

G_END_DECLS
