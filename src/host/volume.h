/*
 * volume.h - which file system of this host a path lies on, by its name
 *
 * For local paths only: what another machine's path lies on cannot be seen from here.
 */
#pragma once

#include "base/error.h"

/**
 * kvss_volume_of:
 *
 * "/srv (xfs on /dev/sdb1)": the mount point of the file system that holds what the
 * path leads to; a block device names itself. NULL when it cannot be looked at.
 * Free with g_free. Source: statx() with STATX_MNT_ID (Linux 5.8), /proc/self/mountinfo.
 */
char *kvss_volume_of(const char *path);

/** The same, of one mount in the text of a mountinfo file. */
char *kvss_volume_in_mountinfo(const char *text, uint64_t mount_id);
