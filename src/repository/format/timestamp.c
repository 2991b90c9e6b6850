/*
 * timestamp.c - times as restic writes them: RFC 3339
 */
#include "repository/format/timestamp.h"

char *
kvss_time_format(gint64 time_us)
{
    g_autoptr(GDateTime) whole = g_date_time_new_from_unix_utc(time_us / G_USEC_PER_SEC);
    g_autofree char *seconds = NULL;

    g_assert(whole && time_us >= 0);
    seconds = g_date_time_format(whole, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%06dZ", seconds, (int) (time_us % G_USEC_PER_SEC));
}

bool
kvss_time_parse(const char *text, gint64 *out_time_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, NULL);

    if (!time)
        return false;
    *out_time_us = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
    return true;
}
