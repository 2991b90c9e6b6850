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
    GPtrArray *losses;      /* (nullable) KvssLoss: what the last repair found lost and still is */
} KvssBackup;

void kvss_backup_free(KvssBackup *backup);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssBackup, kvss_backup_free)

/** Told of a tagged snapshot that could not be read as a set. */
typedef void (*KvssCatalogueProblem)(const char *snapshot_id, const GError *problem,
                                     gpointer data);

/**
 * kvss_catalogue_list:
 * @problem: (nullable) called for each snapshot that is left out because of damage, be it
 *     of its file (whose tags nobody knows then) or of what lies in it; one without any
 *     set.json is not a set and left out in silence
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

/** Has the VM, or component, lost something by @loss, which is one of its backup's? */
bool kvss_backup_vm_is_hit(const KvssManifestVm *vm, const KvssLoss *loss);

/** The target of the disk, or the name of the carried file, that @loss is about; NULL: neither. Borrowed. */
const char *kvss_backup_lost_part(const KvssManifestVm *vm, const KvssLoss *loss,
                                  bool *out_is_disk);

/**
 * kvss_backup_check_whole:
 * @vms: (nullable) NULL-terminated names or UUIDs; NULL: all
 * @disks: (nullable) NULL-terminated targets: only these are wanted
 *
 * Is nothing of what is wanted known to be lost? Errors: KVSS_CATALOGUE_ERROR_CORRUPT.
 */
bool kvss_backup_check_whole(const KvssBackup *backup, const char *const *vms,
                             const char *const *disks, GError **error) G_GNUC_WARN_UNUSED_RESULT;

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
