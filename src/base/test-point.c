/*
 * test-point.c - places where a test may make a run stand still
 */
#include "base/test-point.h"

#include <glib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_US (10 * 1000) /* for the file that ends it */

static void
stand_still(double seconds, const char *until)
{
    gint64 end = g_get_monotonic_time() + (gint64) (seconds * G_USEC_PER_SEC);

    while (g_get_monotonic_time() < end && !(until && access(until, F_OK) == 0))
        g_usleep(LOOK_US);
}

void
kvss_test_point(const char *point)
{
    const char *wish = g_getenv("KVSS_TEST_STALL");
    size_t length = strlen(point);
    g_auto(GStrv) words = NULL;

    if (!wish || strncmp(wish, point, length) != 0 || wish[length] != ':')
        return;
    words = g_strsplit(wish + length + 1, ":", 2);
    g_message("test: standing still at '%s' for %s s", point, words[0]);
    stand_still(g_ascii_strtod(words[0], NULL), words[1]);
}
