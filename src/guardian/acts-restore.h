/*
 * acts-restore.h - the acts of a restore, taken back or completed
 *
 * Rows of the table in acts.c; see acts.h for the contract of the functions and
 * for the details that each kind carries.
 */
#pragma once

#include "host/connection.h"

#include <json-glib/json-glib.h>

bool kvss_act_undo_aside(JsonObject *details, KvssHost *host, unsigned patience_s,
                         GError **error);
bool kvss_act_forward_aside(JsonObject *details, KvssHost *host, GError **error);
bool kvss_act_undo_undefine(JsonObject *details, KvssHost *host, unsigned patience_s,
                            GError **error);
bool kvss_act_undo_stop(JsonObject *details, KvssHost *host, unsigned patience_s,
                        GError **error);
bool kvss_act_undo_define(JsonObject *details, KvssHost *host, unsigned patience_s,
                          GError **error);
