/*
 * files-provider.h - files of the host as a provider of shadow copies
 *
 * At CommitSnapshots every file that a writer's file sets declare is cloned
 * (reflink), into the run's work folder or into a hidden folder beside its own. Where
 * the file system knows no clones it is copied; that is bounded, since writers hold
 * still meanwhile: a set that is too large fails with VSS_E_HOLD_WRITES_TIMEOUT, before
 * the freeze where that can be seen. Stable sets are read in place, after the thaw.
 *
 * Each file becomes a KvssFile "files/ABSOLUTE/PATH" of its component.
 */
#pragma once

#include "../provider.h"

G_BEGIN_DECLS

#define KVSS_FILES_PROVIDER_NAME "files"

/** What it may do while writers hold still. 0: the default. */
typedef struct {
    uint64_t copy_bytes; /* of all files that cannot be cloned; 256 MiB */
    unsigned commit_ms;  /* for everything at CommitSnapshots, which has 10 s; 7 s */
    unsigned files;      /* of all components of a set; 100,000 */
} KvssFilesLimits;

/** @limits: (nullable) copied. Needs the set's run: what is made is in its journal. */
KvssProvider *kvss_files_provider_new(const KvssFilesLimits *limits);

G_END_DECLS
