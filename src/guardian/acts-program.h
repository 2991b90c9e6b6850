/*
 * acts-program.h - a host's writer told to let go of its data
 *
 * A row of the table in acts.c. The act says by which event:
 *
 *   "abort"            then "backup-shutdown": up to PostSnapshot it may hold something
 *   "backup-shutdown"  from PostSnapshot on
 *   "post-restore"     what was to be restored was not
 *   "pre-restore"      what was restored is about to be taken back
 *
 * The program gets what its writer would give it: the set's id, and the components
 * as they stand in the act.
 */
#pragma once

#include "host/connection.h"

#include <json-glib/json-glib.h>

/** The version of the documents that programs get and give. */
#define KVSS_PROGRAM_VERSION 1

/** Fails while the program cannot be run, and when it says itself that it has failed. */
bool kvss_act_undo_program(JsonObject *details, KvssHost *host, unsigned patience_s,
                           GError **error);
