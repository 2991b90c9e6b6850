/*
 * test-point.c - places where a test may make a run stand still
 */
#include "base/test-point.h"

#include <glib.h>
#include <string.h>

void
kvss_test_point(const char *point)
{
    const char *wish = g_getenv("KVSS_TEST_STALL");
    size_t length = strlen(point);

    if (!wish || strncmp(wish, point, length) != 0 || wish[length] != ':')
        return;
    g_message("test: standing still at '%s' for %s s", point, wish + length + 1);
    g_usleep((gulong) (g_ascii_strtod(wish + length + 1, NULL) * G_USEC_PER_SEC));
}
