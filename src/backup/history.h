/*
 * history.h - what the repository knows of the disks of a set that is being backed up
 *
 * How they were cut before, and on which earlier backup the new one may build. Sets are
 * read when they are needed, and once.
 */
#pragma once

#include "catalogue/catalogue.h"

struct KvssSource;

typedef struct KvssHistory KvssHistory;

/** @repository: borrowed. Errors: as kvss_catalogue_summaries(). */
KvssHistory *kvss_history_new(KvssRepository *repository, GError **error);
void kvss_history_free(KvssHistory *history);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssHistory, kvss_history_free)

/**
 * kvss_history_offer:
 *
 * Before PrepareForBackup: gives the component a stamp of its own, "kvss-REPOSITORY-RANDOM",
 * never used twice; and the disks of the last few backups whose changes are tracked.
 */
void kvss_history_offer(KvssHistory *history, KvssComponent *component);

/** The disk as the last backup that holds it describes it; NULL: none does. Borrowed. */
const KvssDisk *kvss_history_last(KvssHistory *history, const KvssComponent *component,
                                  const KvssDisk *disk);

/**
 * kvss_history_open_base:
 * @disk: its since is set
 *
 * The stored disk of the backup with that stamp. Errors: NOT_FOUND; the repository's: then
 * the disk has to be read whole.
 */
struct KvssSource *kvss_history_open_base(KvssHistory *history, const KvssComponent *component,
                                          const KvssDisk *disk, GError **error);
