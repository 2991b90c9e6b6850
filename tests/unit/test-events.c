/*
 * test-events.c - the table of events, and docs/events.md, which says the same
 */
#include "coordinator/events.h"
#include "provider/provider.h"
#include "vss/vss.h"

#include <glib.h>
#include <string.h>

static const char *
yes_no(bool value)
{
    return value ? "yes" : "no";
}

static const char *
order_of(const KvssStep *step)
{
    static const char *const words[] = {
        [KVSS_ORDER_AT_ONCE] = "at once",
        [KVSS_ORDER_FRONT_FIRST] = "front end first",
        [KVSS_ORDER_FRONT_LAST] = "front end last",
    };

    return step->receiver == KVSS_RECEIVER_PROVIDERS ? "one by one" : words[step->order];
}

/* The row as the document must have it. */
static char *
row_of(KvssStepId id)
{
    const KvssStep *step = kvss_step(id);

    return g_strdup_printf("| %s | %s | %s | %u s | %s | %s | %s | %s | %s |", step->name,
                           step->receiver == KVSS_RECEIVER_WRITERS ? "writers" : "providers",
                           kvss_phase_name(step->phase), step->limit_ms / 1000,
                           yes_no(step->in_window), yes_no(step->may_fail),
                           yes_no(step->is_together), order_of(step),
                           step->undo == KVSS_STEP_N ? "–" : kvss_step(step->undo)->name);
}

#define N_CELLS 9

static bool
is_row(const char *line)
{
    guint bars = 0;

    for (const char *p = line; *p; p++)
        bars += *p == '|';
    return bars == N_CELLS + 1;
}

static void
test_document(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    guint n = 0;

    g_assert_true(g_file_get_contents(EVENTS_MD, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_autofree char *expected = NULL;

        if (!is_row(*line))
            continue;
        if (n++ < 2)
            continue; /* the heading and the rule below it */
        g_assert_cmpuint(n - 3, <, KVSS_STEP_N);
        expected = row_of(n - 3);
        g_assert_cmpstr(*line, ==, expected);
    }
    g_assert_cmpuint(n, ==, KVSS_STEP_N + 2);
}

/* The table's names are the protocol's. */
static void
test_names(void)
{
    for (KvssStepId id = 0; id < KVSS_STEP_N; id++) {
        const KvssStep *step = kvss_step(id);

        if (step->receiver == KVSS_RECEIVER_WRITERS)
            g_assert_cmpstr(step->name, ==, kvss_event_name(step->code));
        else if (step->code >= 0)
            g_assert_cmpstr(step->name, ==, kvss_provider_step_name(step->code));
    }
}

/* What may fail is undone by something that may not, PostRestore excepted. */
static void
test_undo(void)
{
    for (KvssStepId id = 0; id < KVSS_STEP_N; id++) {
        const KvssStep *step = kvss_step(id);

        g_assert_true(step->limit_ms > 0);
        if (step->undo == KVSS_STEP_N)
            continue;
        g_assert_true(step->may_fail);
        g_assert_cmpint(kvss_step(step->undo)->receiver, ==, step->receiver);
        if (step->undo != KVSS_STEP_POST_RESTORE)
            g_assert_false(kvss_step(step->undo)->may_fail);
    }
}

/* The window is one piece, from Freeze to Thaw. */
static void
test_window(void)
{
    KvssLimits limits = kvss_limits_default();

    for (KvssStepId id = 0; id < KVSS_STEP_N; id++)
        g_assert_cmpint(kvss_step(id)->in_window, ==,
                        id >= KVSS_STEP_FREEZE && id <= KVSS_STEP_THAW);
    g_assert_cmpuint(limits.window_ms, ==, 60000);
    g_assert_cmpuint(limits.step_ms[KVSS_STEP_COMMIT], ==, 10000);
}

/* No Abort after PostSnapshot, for any writer's step. */
static void
test_abort_ends(void)
{
    for (KvssStepId id = KVSS_STEP_POST_SNAPSHOT; id < KVSS_STEP_N; id++)
        g_assert_cmpint(kvss_step(id)->undo, !=, KVSS_STEP_ABORT);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/document", test_document);
    g_test_add_func("/events/names", test_names);
    g_test_add_func("/events/undo", test_undo);
    g_test_add_func("/events/window", test_window);
    g_test_add_func("/events/abort-ends", test_abort_ends);
    return g_test_run();
}
