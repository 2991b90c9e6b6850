/*
 * test-selection.c - which components come into a set, by VSS's rules
 */
#include "fault/fixture.h"

#include <string.h>

/* What fake_writer_new() declares is bent into the tree of selection.c's comment. */
static const struct {
    const char *logical_path, *name;
    bool is_selectable;
} tree[] = {
    { "", "app", true },       { "app", "db", false },     { "app\\db", "log", true },
    { "", "settings", false }, { "", "apple", true },
};

static Fixture *
tree_fixture(void)
{
    Fixture *f = fixture_new(2, G_N_ELEMENTS(tree), 1);

    g_assert_true(kvss_coordinator_gather(f->c, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(tree); i++) {
        KvssComponent *component = g_ptr_array_index(f->writer[0]->components, i);

        kvss_set_string(&component->logical_path, tree[i].logical_path);
        kvss_set_string(&component->name, tree[i].name);
        kvss_set_string(&component->display_name, tree[i].name);
        component->is_selectable = tree[i].is_selectable;
    }
    return f;
}

/* "app! db log settings!": what is in the set, '!' where it is explicit. */
static char *
selected(Fixture *f)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < f->writer[0]->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(f->writer[0]->components, i);

        g_assert_cmpint(component->is_selected, ==,
                        g_ptr_array_find(f->set->components, component, NULL));
        if (component->is_selected)
            g_string_append_printf(text, "%s%s%s", text->len ? " " : "", component->name,
                                   component->is_explicit ? "!" : "");
    }
    return g_string_free(text, FALSE);
}

static void
assert_selects(const char *names, const char *expected)
{
    g_autoptr(Fixture) f = tree_fixture();
    g_auto(GStrv) words = g_strsplit(names, " ", -1);
    g_autofree char *text = NULL;

    for (char **word = words; *word; word++)
        g_assert_true(kvss_coordinator_select(f->c, *word, NULL));
    text = selected(f);
    g_assert_cmpstr(text, ==, expected);
}

static void
test_tree(void)
{
    assert_selects("app", "app! db log settings!");
    assert_selects("apple", "settings! apple!"); /* a longer name is not below a shorter one */
    assert_selects("settings", "settings!");
    assert_selects("log", "log! settings!");
    assert_selects("log app", "app! db log settings!"); /* became a part of app's set */
    assert_selects("app log", "app! db log settings!");
    assert_selects("app app", "app! db log settings!");
    assert_selects("app settings apple", "app! db log settings! apple!");
}

static void
test_not_selectable(void)
{
    g_autoptr(Fixture) f = tree_fixture();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    g_assert_false(kvss_coordinator_select(f->c, "db", &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_SELECTABLE);
    g_assert_cmpstr(error->message, ==,
                    "db of writer web cannot be chosen alone: it comes with app "
                    "(E_INVALIDARG, 0x80070057)");
    text = selected(f);
    g_assert_cmpstr(text, ==, "");
    g_assert_cmpuint(f->set->components->len, ==, 0);
}

/* The other writer's components are its own business. */
static void
test_other_writer(void)
{
    g_autoptr(Fixture) f = tree_fixture();
    g_autofree char *text = NULL;

    g_assert_true(kvss_coordinator_select(f->c, "db-3", NULL));
    text = selected(f);
    g_assert_cmpstr(text, ==, "");
    g_assert_cmpuint(f->set->components->len, ==, 1);
}

/* SetBackupSucceeded is about a component with all that came along with it. */
static void
test_succeeded(void)
{
    g_autoptr(Fixture) f = tree_fixture();
    GPtrArray *components = f->writer[0]->components;

    g_assert_true(kvss_coordinator_select(f->c, "app", NULL));
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, NULL));
    g_assert_true(kvss_coordinator_do_snapshot_set(f->c, NULL));
    kvss_coordinator_set_succeeded(f->c, g_ptr_array_index(components, 0), true);
    for (guint i = 0; i < 3; i++)
        g_assert_true(((KvssComponent *) g_ptr_array_index(components, i))->backup_succeeded);
    g_assert_false(((KvssComponent *) g_ptr_array_index(components, 3))->backup_succeeded);
    g_assert_true(kvss_coordinator_backup_complete(f->c, NULL));
}

/* --- levels ------------------------------------------------------------------------ */

static GMutex story_lock;
static GString *story;

static void
tell(gpointer word)
{
    g_mutex_lock(&story_lock);
    g_string_append_printf(story, "%s%s", story->len ? " " : "", (const char *) word);
    g_mutex_unlock(&story_lock);
}

static Fixture *
level_fixture(KvssApplicationLevel web, KvssApplicationLevel db)
{
    static const char *const words[2][2] = { { "web+", "web-" }, { "db+", "db-" } };
    Fixture *f = fixture_new(2, 1, 1);

    f->writer[0]->level = web;
    f->writer[1]->level = db;
    story = g_string_new(NULL);
    for (guint i = 0; i < 2; i++) {
        script_on(f->writer_script[i], "Freeze", tell, (gpointer) words[i][0]);
        script_on(f->writer_script[i], "Thaw", tell, (gpointer) words[i][1]);
    }
    return f;
}

static void
assert_story(KvssApplicationLevel web, KvssApplicationLevel db, const char *expected)
{
    g_autoptr(Fixture) f = level_fixture(web, db);

    g_assert_true(fixture_backup(f, KVSS_PHASE_COMPLETE, NULL));
    g_assert_cmpstr(story->str, ==, expected);
    g_string_free(story, TRUE);
}

static void
test_levels(void)
{
    assert_story(KVSS_LEVEL_FRONT_END, KVSS_LEVEL_BACK_END, "web+ db+ db- web-");
    assert_story(KVSS_LEVEL_SYSTEM, KVSS_LEVEL_BACK_END, "db+ web+ web- db-");
    assert_story(KVSS_LEVEL_SYSTEM, KVSS_LEVEL_FRONT_END, "db+ web+ web- db-");
}

/* A level that refuses: those behind it are not frozen any more; Abort goes to all. */
static void
test_level_refuses(void)
{
    g_autoptr(Fixture) f = level_fixture(KVSS_LEVEL_FRONT_END, KVSS_LEVEL_BACK_END);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[0], "Freeze", 0, KVSS_E_WRITERERROR_RETRYABLE);
    g_assert_false(fixture_backup(f, KVSS_PHASE_COMPLETE, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED);
    g_assert_cmpstr(story->str, ==, "web+");
    g_assert_cmpuint(script_count(f->writer_script[1], "Abort"), ==, 1);
    g_assert_cmpuint(fixture_held(f), ==, 0);
    g_string_free(story, TRUE);
}

/* A level that cannot thaw keeps nobody else from it. */
static void
test_level_cannot_thaw(void)
{
    g_autoptr(Fixture) f = level_fixture(KVSS_LEVEL_FRONT_END, KVSS_LEVEL_BACK_END);
    g_autoptr(GError) error = NULL;

    script_refuse(f->writer_script[1], "Thaw", 0, KVSS_E_WRITERERROR_RETRYABLE);
    g_assert_false(fixture_backup(f, KVSS_PHASE_COMPLETE, &error));
    g_assert_nonnull(strstr(error->message, "consistency lost"));
    g_assert_cmpstr(story->str, ==, "web+ db+ db- web-");
    g_assert_cmpuint(fixture_held(f), ==, 0);
    g_string_free(story, TRUE);
}

/* --- the context ----------------------------------------------------------------------- */

static void
test_context(void)
{
    g_autoptr(Fixture) f = fixture_new(1, 1, 1);
    g_autoptr(GError) error = NULL;

    g_assert_true(fixture_select_all(f, NULL));
    f->set->context = 0x1D; /* VSS_CTX_CLIENT_ACCESSIBLE: without writers */
    g_assert_false(kvss_coordinator_prepare_for_backup(f->c, &error));
    g_assert_error(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_UNSUPPORTED);
    g_assert_true(g_str_has_suffix(error->message, "(VSS_E_UNSUPPORTED_CONTEXT, 0x8004231B)"));

    f->set->context = KVSS_CTX_BACKUP | KVSS_ATTR_NO_AUTORECOVERY;
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/selection/tree", test_tree);
    g_test_add_func("/selection/not-selectable", test_not_selectable);
    g_test_add_func("/selection/other-writer", test_other_writer);
    g_test_add_func("/selection/succeeded", test_succeeded);
    g_test_add_func("/levels/order", test_levels);
    g_test_add_func("/levels/refuses", test_level_refuses);
    g_test_add_func("/levels/cannot-thaw", test_level_cannot_thaw);
    g_test_add_func("/context", test_context);
    return g_test_run();
}
