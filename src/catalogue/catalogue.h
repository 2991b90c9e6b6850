/*
 * catalogue.h - the sets that lie in a repository
 *
 * Any snapshot tagged "kvss" with a set.json is a set, whoever wrote it. When the
 * root folder has none, the path of single folders is followed down: restic, given
 * an absolute path, stores the folders that lead to it.
 */
#pragma once

#include "manifest.h"
#include "../repository/repository.h"

G_BEGIN_DECLS

#define KVSS_CATALOGUE_TAG "kvss"

struct KvssSource;

/** One finished backup. */
typedef struct {
    KvssSnapshot *snapshot;
    char *root;             /* tree id of the folder that holds set.json: look paths up from here */
    KvssManifest *manifest;
} KvssBackup;

void kvss_backup_free(KvssBackup *backup);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssBackup, kvss_backup_free)

/** Told of a tagged snapshot that could not be read as a set. */
typedef void (*KvssCatalogueProblem)(const char *snapshot_id, const GError *problem,
                                     gpointer data);

/**
 * kvss_catalogue_list:
 * @problem: (nullable) called for each snapshot that is left out because of damage;
 *     one without any set.json is not a set and left out in silence
 *
 * All sets, oldest first. (element-type KvssBackup), free with unref. Each is read
 * whole, and all are held: kvss_catalogue_summaries() is for lists.
 * Errors: could not look (KVSS_IO_ERROR, KVSS_REPOSITORY_ERROR_*).
 */
GPtrArray *kvss_catalogue_list(KvssRepository *repository, KvssCatalogueProblem problem,
                               gpointer data, GError **error);

/**
 * kvss_catalogue_find:
 * @backup: an id, a unique prefix of one, or "latest"
 * @vms: (nullable) NULL-terminated names or UUIDs of VMs, names of other components
 *
 * The set meant. With @vms, "latest" is the newest set that holds every one of them;
 * any other set must hold them too.
 *
 * Errors: KVSS_CATALOGUE_ERROR_*, those of the repository.
 */
KvssBackup *kvss_catalogue_find(KvssRepository *repository, const char *backup,
                                const char *const *vms, GError **error);

/**
 * kvss_backup_open_disk, kvss_backup_open_file:
 *
 * A stored disk or carried file as a source; free it before the repository. The
 * size of a disk is checked against the manifest: CORRUPT when they differ.
 */
struct KvssSource *kvss_backup_open_disk(KvssRepository *repository, const KvssBackup *backup,
                                         const KvssManifestVm *vm, const KvssDisk *disk,
                                         GError **error);
struct KvssSource *kvss_backup_open_file(KvssRepository *repository, const KvssBackup *backup,
                                         const KvssManifestVm *vm, const KvssFile *file,
                                         GError **error);

/** A carried file whole; larger than @max_length is CORRUPT. */
GBytes *kvss_backup_read_file(KvssRepository *repository, const KvssBackup *backup,
                              const KvssManifestVm *vm, const KvssFile *file, size_t max_length,
                              GError **error);

G_END_DECLS
