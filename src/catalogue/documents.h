/*
 * documents.h - the VSS documents of a set, found and read
 *
 * A set that somebody put together may have none: it is a set all the same.
 */
#pragma once

#include "catalogue/catalogue.h"

/** More files in vss/ are damage: there is one document a writer, and one more. */
#define KVSS_BACKUP_DOCUMENTS_MAX 64u

/**
 * kvss_backup_documents:
 *
 * Paths of the documents: "vss/backup-components.xml", "vss/writer-...xml". Other files
 * in vss/ are none of ours and left out. (element-type utf8), ended by NULL; free
 * with unref. Errors: CORRUPT; those of the repository.
 */
GPtrArray *kvss_backup_documents(KvssRepository *repository, const KvssBackup *backup,
                                 GError **error);

/**
 * kvss_backup_read_document:
 * @path: as above
 *
 * The text of a document that its reader has taken (so it is UTF-8 and has no
 * control characters), and that belongs to this set.
 *
 * Errors: KVSS_DOCUMENT_ERROR; KVSS_CATALOGUE_ERROR_CORRUPT when it is of another
 * set; those of the repository.
 */
GBytes *kvss_backup_read_document(KvssRepository *repository, const KvssBackup *backup,
                                  const char *path, GError **error);

/**
 * kvss_backup_check_succeeded:
 * @vms: (nullable) NULL-terminated names or UUIDs, as in set.json; NULL: all of the set
 *
 * Reads the backup components document, if there is one. Errors: as above;
 * KVSS_CATALOGUE_ERROR_FAILED when it says that the backup of one of @vms did not
 * succeed; what kvss_manifest_find_vm() says of a name.
 */
bool kvss_backup_check_succeeded(KvssRepository *repository, const KvssBackup *backup,
                                 const char *const *vms, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_backup_check_selectable:
 * @names: NULL-terminated, as above
 *
 * May these be restored without the rest of the set? One that was chosen for the backup may,
 * and one whose writer says so, or that comes with the component above it. Errors:
 * KVSS_CATALOGUE_ERROR_NOT_SELECTABLE; as above. selectable.c.
 * Source: VSS, "Working with Selectability for Restore and Subcomponents".
 */
bool kvss_backup_check_selectable(KvssRepository *repository, const KvssBackup *backup,
                                  const char *const *names, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
