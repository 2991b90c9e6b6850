/*
 * selection.h - which components a run is about
 */
#pragma once

#include "backup/backup.h"

/**
 * kvss_backup_select:
 *
 * Selects what @request names, in a coordinator that has gathered. All names are
 * looked up before the first is selected; NOT_FOUND names every one that is not there.
 */
bool kvss_backup_select(const KvssBackupRequest *request, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
