/*
 * timestamp.h - times as restic writes them: RFC 3339
 */
#pragma once

#include "repository/repository.h"

/** "2026-01-31T09:30:00.123456Z"; free with g_free. */
char *kvss_time_format(gint64 time_us);

/** With any zone and any number of digits after the second; false for anything else. */
bool kvss_time_parse(const char *text, gint64 *out_time_us);
