/*
 * documents.h - the VSS documents of a run, into the set
 */
#pragma once

#include "coordinator/coordinator.h"
#include "repository/repository.h"

/**
 * kvss_backup_store_documents:
 *
 * Adds vss/backup-components.xml, and vss/writer-CLASSID.xml for each writer that
 * has a component in the set; a second writer of one class gets "-2" behind its
 * class id. Call it after set_succeeded: the document says what succeeded.
 */
bool kvss_backup_store_documents(KvssUpload *upload, KvssCoordinator *coordinator,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
