/*
 * acts-rewrite.h - a disk written over where it is, and its way back
 *
 *   act ─▶ image parked ─▶ log made ─▶ (old content logged, synced, written over)… ─▶ image unparked
 *
 * While an image is half old and half new it does not stand at its place: it is parked
 * beside it under another name, so that no VM can start with it, whoever dies. A block
 * device cannot be parked; its VM is not registered meanwhile, or stays off.
 *
 * Details of the act: uuid of its VM; path; parked ("" for a device); log; place and log-place (of path
 * and log, see place.h); run; kind ("file", "block"); format; size (guest-visible bytes);
 * keeps-room; folder (where a socket may be made).
 *
 * The log is made after the act and removed last: without one nothing was written over,
 * or all is back.
 */
#pragma once

#include "host/connection.h"

#include <json-glib/json-glib.h>

/** As acts.h says of undo and forward. */
bool kvss_act_undo_rewrite(JsonObject *details, KvssHost *host, unsigned patience_s,
                           GError **error);
bool kvss_act_forward_rewrite(JsonObject *details, KvssHost *host, GError **error);

/**
 * kvss_act_check_whole:
 *
 * False while a log named in the member "logs" (a list of paths; "log-places": numbers of
 * their folders, see place.h) of @details is there, or is not known to be gone:
 * a disk of that VM is half old and half new, and it must not be put back. For the acts
 * that would make it startable.
 */
bool kvss_act_check_whole(JsonObject *details, GError **error) G_GNUC_WARN_UNUSED_RESULT;
