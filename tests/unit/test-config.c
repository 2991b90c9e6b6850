/*
 * test-config.c - who wins: options, environment, configuration; and where the
 * password comes from
 */
#include "requester/config.h"

#include <glib/gstdio.h>
#include <unistd.h>

static char *folder;

static const char *const variables[] = {
    "KVSS_CONFIG",       "KVSS_REPOSITORY", "KVSS_PASSWORD_FILE",   "KVSS_PASSWORD",
    "RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "LIBVIRT_DEFAULT_URI",
    "KVSS_STATE_DIR",    "KVSS_CACHE_DIR",
};

static void
clear_environment(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(variables); i++)
        g_unsetenv(variables[i]);
}

/* A file of this test with this content; its path. */
static char *
put_file(const char *name, const char *content)
{
    char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(
        g_file_set_contents_full(path, content, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error));
    return path;
}

static KvssConfig *
load(const char *content, GError **error)
{
    g_autofree char *path = put_file("kvss.conf", content);

    g_setenv("KVSS_CONFIG", path, TRUE);
    return kvss_config_load(error);
}

static KvssConfig *
load_well(const char *content)
{
    g_autoptr(GError) error = NULL;
    KvssConfig *config = load(content, &error);

    g_assert_no_error(error);
    return config;
}

static void
test_file(void)
{
    g_autoptr(KvssConfig) config = NULL;

    clear_environment();
    config = load_well("[defaults]\nrepository = /srv/backup \nmethod=saved-state\n"
                       "snapshot-dir=/a\nscratch-dir=/b\nwriters-dir=/c\nfreeze-limit=30\nlimit=20\n# a remark\n");
    g_assert_cmpstr(config->repository, ==, "/srv/backup");
    g_assert_cmpstr(config->method, ==, "saved-state");
    g_assert_cmpstr(config->snapshot_dir, ==, "/a");
    g_assert_cmpstr(config->scratch_dir, ==, "/b");
    g_assert_cmpstr(config->writers_dir, ==, "/c");
    g_assert_cmpuint(config->freeze_limit_ms, ==, 30000);
    g_assert_cmpuint(config->limit, ==, 20 << 20);
    g_assert_cmpstr(config->state_dir, ==, "/var/lib/kvss");
}

static void
test_limits(void)
{
    g_autoptr(KvssConfig) config = NULL;
    KvssLimits usual = kvss_limits_default();

    clear_environment();
    config = load_well("[limits]\nprepare-for-snapshot = 1800 \ncommit-snapshots=5\nwindow=30\n"
                       "grace=1\n");
    g_assert_cmpuint(config->limits.step_ms[KVSS_STEP_PREPARE_FOR_SNAPSHOT], ==, 1800000);
    g_assert_cmpuint(config->limits.step_ms[KVSS_STEP_COMMIT], ==, 5000);
    g_assert_cmpuint(config->limits.window_ms, ==, 30000);
    g_assert_cmpuint(config->limits.grace_ms, ==, 1000);
    g_assert_cmpuint(config->limits.step_ms[KVSS_STEP_THAW], ==, usual.step_ms[KVSS_STEP_THAW]);
}

static void
test_wrong_file(void)
{
    static const struct {
        const char *content, *complaint;
    } cases[] = {
        { "[defaults]\nrepositroy=/x\n", "*there is no key 'repositroy'" },
        { "[default]\n", "*there is no group ?default?*" },
        { "[limits]\nprepare=5\n", "*there is no event 'prepare'" },
        { "[limits]\nfreeze=0\n", "*freeze is '0', not a number of seconds from 1 to 86400" },
        { "[limits]\nfreeze=1m\n", "*freeze is '1m', not*" },
        { "[defaults]\nmethod=quick\n", "*there is no method 'quick'*" },
        { "[defaults]\nmethod=web=saved-state\n", "*method names a VM*" },
        { "[defaults]\nwriters-dir=writers\n", "*'writers' is no absolute path*" },
        { "[defaults]\nfreeze-limit=0\n", "*freeze-limit is '0'*" },
        { "[defaults]\nlimit=-1\n", "*limit is '-1'*MiB/s*" },
        { "[defaults]\nlimit=2M\n", "*limit is '2M'*" },
        { "[defaults]\nfreeze-limit=10s\n", "*freeze-limit is '10s'*" },
        { "[defaults]\nrepository=\n", "*repository is empty" },
        { "nonsense", "*kvss.conf*" },
    };

    clear_environment();
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(load(cases[i].content, &error));
        g_assert_nonnull(error);
        if (!g_pattern_match_simple(cases[i].complaint, error->message))
            g_error("'%s'", error->message);
    }
}

static void
test_missing_file(void)
{
    g_autoptr(GError) error = NULL;

    clear_environment();
    g_setenv("KVSS_CONFIG", "/nowhere/kvss.conf", TRUE);
    g_assert_null(kvss_config_load(&error));
    g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_CONFIG);
}

static void
test_precedence(void)
{
    KvssOptions options = { 0 };
    g_autoptr(KvssConfig) empty = NULL, config = NULL;

    clear_environment();
    empty = load_well("");
    config = load_well("[defaults]\nrepository=/file\n");
    g_assert_null(kvss_config_repository(empty, &options));
    g_setenv("RESTIC_REPOSITORY", "/restic", TRUE);
    g_assert_cmpstr(kvss_config_repository(empty, &options), ==, "/restic");
    g_assert_cmpstr(kvss_config_repository(config, &options), ==, "/file");
    g_setenv("KVSS_REPOSITORY", "", TRUE);
    g_assert_cmpstr(kvss_config_repository(config, &options), ==, "/file");
    g_setenv("KVSS_REPOSITORY", "/ours", TRUE);
    g_assert_cmpstr(kvss_config_repository(config, &options), ==, "/ours");
    options.repository = (char *) "/option";
    g_assert_cmpstr(kvss_config_repository(config, &options), ==, "/option");

    g_assert_cmpstr(kvss_config_uri(&options), ==, "qemu:///system");
    g_setenv("LIBVIRT_DEFAULT_URI", "test:///a", TRUE);
    g_assert_cmpstr(kvss_config_uri(&options), ==, "test:///a");
    options.uri = (char *) "test:///b";
    g_assert_cmpstr(kvss_config_uri(&options), ==, "test:///b");
}

static void
assert_password(const KvssConfig *config, const KvssOptions *options, const char *expected)
{
    g_autoptr(GError) error = NULL;
    char *password = kvss_config_password(config, options, false, false, NULL, &error);

    g_assert_cmpstr(password, ==, expected);
    if (expected)
        g_assert_no_error(error);
    else
        g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_PASSWORD);
    kvss_config_password_free(password);
}

static void
test_password(void)
{
    KvssOptions options = { 0 };
    g_autofree char *option_file = put_file("option", " by option\r\n\n");
    g_autofree char *ours = put_file("ours", "by our file\n");
    g_autofree char *restics = put_file("restics", "by restic's file");
    g_autofree char *config_file = put_file("config", "by configuration");
    g_autofree char *blank = put_file("blank", " \n");
    g_autofree char *text = g_strdup_printf("[defaults]\npassword-file=%s\n", config_file);
    g_autoptr(KvssConfig) empty = NULL, config = NULL;

    clear_environment();
    empty = load_well("");
    config = load_well(text);
    assert_password(empty, &options, NULL);
    g_setenv("RESTIC_PASSWORD", "by restic", TRUE);
    assert_password(empty, &options, "by restic");
    g_setenv("RESTIC_PASSWORD_FILE", restics, TRUE);
    assert_password(empty, &options, "by restic's file");
    assert_password(config, &options, "by configuration");
    g_setenv("KVSS_PASSWORD", " ours ", TRUE);
    assert_password(config, &options, " ours ");
    g_setenv("KVSS_PASSWORD_FILE", ours, TRUE);
    assert_password(config, &options, "by our file");
    options.password_file = option_file;
    assert_password(config, &options, "by option");
    options.password_file = blank;
    assert_password(config, &options, NULL);
    options.password_file = (char *) "/nowhere/password";
    assert_password(config, &options, NULL);
}

static void
test_open_password_file(void)
{
    KvssOptions options = { 0 };
    g_autoptr(KvssConfig) empty = NULL;

    clear_environment();
    empty = load_well("");
    options.password_file = put_file("open", "x");
    g_assert_cmpint(g_chmod(options.password_file, 0644), ==, 0);
    g_test_expect_message("kvss", G_LOG_LEVEL_WARNING, "*can be read by others*");
    assert_password(empty, &options, "x");
    g_test_assert_expected_messages();
    g_free(options.password_file);
}

static void
remove_folder(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        (void) g_unlink(path);
    }
    (void) g_rmdir(folder);
    g_free(folder);
}

int
main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("kvss-test-XXXXXX", NULL);
    g_test_add_func("/config/file", test_file);
    g_test_add_func("/config/limits", test_limits);
    g_test_add_func("/config/wrong-file", test_wrong_file);
    g_test_add_func("/config/missing-file", test_missing_file);
    g_test_add_func("/config/precedence", test_precedence);
    g_test_add_func("/config/password", test_password);
    g_test_add_func("/config/open-password-file", test_open_password_file);
    rc = g_test_run();
    remove_folder();
    return rc;
}
