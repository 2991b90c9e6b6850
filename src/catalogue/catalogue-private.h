/*
 * catalogue-private.h - from a snapshot to a set, for the files of this folder
 */
#pragma once

#include "catalogue/catalogue.h"

/** Takes @snapshot. *@out_backup is NULL when it is no set. */
bool kvss_catalogue_load(KvssRepository *repository, KvssSnapshot *snapshot,
                         KvssBackup **out_backup, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A list of KvssSummaryMember, and one more in it. */
GPtrArray *kvss_summary_members_new(void);
void kvss_summary_add_member(GPtrArray *members, const char *name, const char *display_name);

/** Puts to each of @backups what it is known to have lost. */
void kvss_catalogue_mark(KvssRepository *repository, KvssBackup *const *backups, guint n);

/**
 * The repository cannot be read at all, as against one set in it: a sector that fails
 * (FAILED) is the trouble of those whose it is.
 */
bool kvss_catalogue_could_not_look(const GError *error);
