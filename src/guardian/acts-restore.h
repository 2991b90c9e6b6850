/*
 * acts-restore.h - the acts of a restore, taken back or completed
 *
 * Rows of the table in acts.c; see acts.h for the contract of the functions and
 * for the details that each kind carries.
 *
 * Old and new VM have the same name and UUID. A definition that a restore has
 * registered and not completed carries a mark in its metadata, by which undo
 * tells the two apart; completing removes the mark.
 */
#pragma once

#include "host/connection.h"
#include "host/domain.h"

#include <json-glib/json-glib.h>

/** Namespace of the mark: <restore xmlns=... run="ID"/> inside <metadata>. */
#define KVSS_RESTORE_MARK_URI "urn:kvss:restore"
#define KVSS_RESTORE_MARK_PREFIX "kvss"

/** What was set aside is a managed save image: its undo needs libvirt. */
bool kvss_act_aside_is_memory(JsonObject *details);
bool kvss_act_undo_aside(JsonObject *details, KvssHost *host, unsigned patience_s,
                         GError **error);
bool kvss_act_forward_aside(JsonObject *details, KvssHost *host, GError **error);
bool kvss_act_undo_undefine(JsonObject *details, KvssHost *host, unsigned patience_s,
                            GError **error);
bool kvss_act_undo_stop(JsonObject *details, KvssHost *host, unsigned patience_s,
                        GError **error);
bool kvss_act_undo_define(JsonObject *details, KvssHost *host, unsigned patience_s,
                          GError **error);
bool kvss_act_forward_define(JsonObject *details, KvssHost *host, GError **error);

bool kvss_act_undo_link(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error);
bool kvss_act_forward_link(JsonObject *details, KvssHost *host, GError **error);

/**
 * acts.c: waits until libvirt is done with saving or stopping @domain on behalf of a process
 * that may have died, and has none of that before it any more; what such a save left of an
 * image is removed when the VM runs on, or when it is no whole one. @state: how it stands then.
 * Errors: KVSS_HOST_ERROR_BUSY after @patience_s; libvirt's.
 */
bool kvss_act_end_save(KvssDomain *domain, unsigned patience_s, KvssDomainState *state,
                       GError **error);
/** acts.c: removes a file or a folder with all in it; links are removed, never followed. Absent: true. */
bool kvss_act_remove_tree(const char *path, GError **error);
