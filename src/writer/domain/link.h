/*
 * link.h - a second name for a file that somebody may take away
 */
#pragma once

#include "base/error.h"

/** Hard link where both lie on one file system, else a copy. @to must not exist. */
bool kvss_link_or_copy(const char *from, const char *to, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
