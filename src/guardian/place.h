/*
 * place.h - a folder, known again: is what is not there gone, or is its file system not mounted?
 *
 * What an act made or moved is looked for where it was. After a boot a file system may not
 * be mounted yet: then nothing of the act is there, and it must not count as undone.
 */
#pragma once

#include "base/error.h"

/** Of the folder that @path is in, for the details of an act; 0: there is none. */
gint64 kvss_place_number(const char *path);

/**
 * kvss_place_check:
 * @noted: its kvss_place_number() when the act began; 0: not known
 * @path: what is not there
 *
 * Is its folder still the same? What is not known counts as so. Errors: KVSS_IO_ERROR_NOT_FOUND.
 */
bool kvss_place_check(gint64 noted, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
