/*
 * test-options.c - the command line: what is parsed, what is refused, and that the
 * manual page knows every command and option
 */
#include "requester/requester.h"

#include <string.h>

/* Parses words that are separated by blanks. */
static KvssOptions *
parse(const char *line, const KvssCommand **out_command, GError **error)
{
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);

    return kvss_options_parse((int) g_strv_length(argv), argv, kvss_commands, out_command, error);
}

static KvssOptions *
parse_well(const char *line, const char *command_name)
{
    g_autoptr(GError) error = NULL;
    const KvssCommand *command = NULL;
    KvssOptions *options = parse(line, &command, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(command->name, ==, command_name);
    return options;
}

static void
test_global_anywhere(void)
{
    static const char *const lines[] = {
        "kvss -c test:///x -r /repo --json -v list vms",
        "kvss list vms -c test:///x -r /repo --json -v",
        "kvss --connect=test:///x list --repository=/repo vms --json --verbose",
        "kvss -ctest:///x list -r/repo -v --json -- vms",
    };

    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(KvssOptions) options = parse_well(lines[i], "list");

        g_assert_cmpstr(options->uri, ==, "test:///x");
        g_assert_cmpstr(options->repository, ==, "/repo");
        g_assert_true(options->json);
        g_assert_cmpuint(options->verbose, ==, 1);
        g_assert_cmpuint(kvss_options_count(options->words), ==, 1);
        g_assert_cmpstr(kvss_options_list(options->words)[0], ==, "vms");
    }
}

static void
test_lists(void)
{
    g_autoptr(KvssOptions) options = parse_well(
        "kvss backup --exclude a web --exclude=b --tag t db --method saved-state -qvv", "backup");

    g_assert_cmpuint(kvss_options_count(options->exclude), ==, 2);
    g_assert_cmpstr(kvss_options_list(options->exclude)[1], ==, "b");
    g_assert_cmpuint(kvss_options_count(options->words), ==, 2);
    g_assert_cmpstr(kvss_options_list(options->words)[1], ==, "db");
    g_assert_null(kvss_options_list(options->words)[2]);
    g_assert_true(options->quiet);
    g_assert_cmpuint(options->verbose, ==, 2);
}

static void
test_values(void)
{
    static const struct {
        const char *text;
        uint64_t value; /* UINT64_MAX: wrong */
    } waits[] = {
        { "0", 0 }, { "1", 60000 }, { "5m", 300000 }, { "90s", 90000 }, { "2h", 7200000 },
        { "7d", KVSS_WAIT_MAX_MS }, { "8d", UINT64_MAX }, { "604801s", UINT64_MAX },
        { "", UINT64_MAX }, { "s", UINT64_MAX }, { "-1", UINT64_MAX }, { "1.5h", UINT64_MAX },
        { "1 m", UINT64_MAX }, { "1w", UINT64_MAX },
    }, sizes[] = {
        { "0", 0 }, { "512", 512 }, { "1k", 1024 }, { "3M", 3 << 20 }, { "2G", 2ull << 30 },
        { "1T", 1ull << 40 }, { "16777216T", UINT64_MAX }, { "", UINT64_MAX }, { "M", UINT64_MAX },
        { "5%", UINT64_MAX }, { "1MiB", UINT64_MAX }, { "-1", UINT64_MAX }, { "1X", UINT64_MAX },
    };
    uint64_t value;

    for (guint i = 0; i < G_N_ELEMENTS(waits); i++) {
        value = UINT64_MAX;
        g_assert_true(kvss_options_parse_wait(waits[i].text, &value, NULL)
                      == (waits[i].value != UINT64_MAX));
        g_assert_cmpuint(value, ==, waits[i].value);
    }
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        value = UINT64_MAX;
        g_assert_true(kvss_options_parse_size(sizes[i].text, &value, NULL)
                      == (sizes[i].value != UINT64_MAX));
        g_assert_cmpuint(value, ==, sizes[i].value);
    }
}

static void
test_wrong(void)
{
    static const struct {
        const char *line, *complaint;
        int code;
    } cases[] = {
        { "kvss", "name a command", KVSS_USAGE_ERROR_WRONG },
        { "kvss nosuch", "there is no command 'nosuch'", KVSS_USAGE_ERROR_WRONG },
        { "kvss --all backup", "there is no global option --all", KVSS_USAGE_ERROR_WRONG },
        { "kvss backup --start", "backup knows no option --start", KVSS_USAGE_ERROR_WRONG },
        { "kvss backup --tag", "--tag needs a value: T", KVSS_USAGE_ERROR_WRONG },
        { "kvss backup --tag=", "--tag needs a value: T", KVSS_USAGE_ERROR_WRONG },
        { "kvss backup --all=yes", "--all takes no value", KVSS_USAGE_ERROR_WRONG },
        { "kvss backup -x", "there is no option -x", KVSS_USAGE_ERROR_WRONG },
        { "kvss list", "list needs more", KVSS_USAGE_ERROR_WRONG },
        { "kvss list vms more", "list: 'more' is too much", KVSS_USAGE_ERROR_WRONG },
        { "kvss restore", "restore needs more", KVSS_USAGE_ERROR_WRONG },
        { "kvss prune now", "prune: 'now' is too much", KVSS_USAGE_ERROR_WRONG },
        { "kvss prune --retry-lock soon", "'soon' is no time to wait", KVSS_USAGE_ERROR_WRONG },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        const KvssCommand *command;
        g_autoptr(KvssOptions) options = parse(cases[i].line, &command, &error);

        g_assert_nonnull(options);
        g_assert_error(error, KVSS_USAGE_ERROR, cases[i].code);
        g_assert_cmpint(kvss_exit_code(error), ==, KVSS_EXIT_USAGE);
        if (!g_str_has_prefix(error->message, cases[i].complaint))
            g_error("'%s': '%s'", cases[i].line, error->message);
    }
}

/* A wrong word in front must not hide that JSON was asked for. */
static void
test_json_is_known(void)
{
    g_autoptr(GError) error = NULL;
    const KvssCommand *command;
    g_autoptr(KvssOptions) options = parse("kvss nosuch --json", &command, &error);

    g_assert_nonnull(error);
    g_assert_true(options->json);
}

static void
test_method(void)
{
    g_autoptr(GError) error = NULL;
    const char *method;
    char *vm;

    g_assert_true(kvss_options_split_method("saved-state", &vm, &method, &error));
    g_assert_null(vm);
    g_assert_cmpstr(method, ==, "saved-state");
    g_assert_true(kvss_options_split_method("a=b=child-snapshot", &vm, &method, &error));
    g_assert_cmpstr(vm, ==, "a=b");
    g_assert_cmpstr(method, ==, "child-snapshot");
    g_free(vm);
    g_assert_false(kvss_options_split_method("web=quick", &vm, &method, &error));
    g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG);
    g_clear_error(&error);
    g_assert_false(kvss_options_split_method("=saved-state", &vm, &method, &error));
    g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG);
}

/* ---- the manual page ---- */

/* Backslashes only keep hyphens from becoming dashes: the words are compared without them. */
static char *
manual(void)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL, *to;

    g_assert_true(g_file_get_contents(MANUAL_PAGE, &text, NULL, &error));
    to = text;
    for (const char *from = text; *from; from++)
        if (*from != '\\')
            *to++ = *from;
    *to = '\0';
    return text;
}

/* "--name" as a whole word: "--to" is not in "--tool". */
static bool
mentions(const char *text, const char *option)
{
    g_autofree char *wanted = g_strdup_printf("--%s", option);

    for (const char *at = strstr(text, wanted); at; at = strstr(at + 1, wanted)) {
        char after = at[strlen(wanted)];

        if (!g_ascii_isalnum(after) && after != '-')
            return true;
    }
    return false;
}

static void
check_options(const char *section, const char *command, const KvssOption *options)
{
    for (; options && options->name; options++)
        if (!mentions(section, options->name))
            g_error("the manual page does not know --%s of %s", options->name, command);
}

/* From "\n@heading\n" to the next heading of any kind. */
static char *
section_of(const char *text, const char *heading)
{
    g_autofree char *line = g_strdup_printf("\n%s\n", heading);
    const char *start = strstr(text, line), *end, *sub;

    if (!start)
        g_error("the manual page has no '%s'", heading);
    start += strlen(line);
    end = strstr(start, "\n.SH ");
    sub = strstr(start, "\n.SS ");
    if (sub && (!end || sub < end))
        end = sub;
    return end ? g_strndup(start, (gsize) (end - start)) : g_strdup(start);
}

static void
test_manual_knows_all(void)
{
    g_autofree char *text = manual();
    g_autofree char *global = section_of(text, ".SH GLOBAL OPTIONS");

    check_options(global, "all commands", kvss_global_options);
    for (const KvssCommand *command = kvss_commands; command->name; command++) {
        g_autofree char *heading = g_strdup_printf(".SS %s", command->name);
        g_autofree char *section = section_of(text, heading);

        check_options(section, command->name, command->options);
        g_assert_true((strstr(section, "Not there yet; until then") != NULL) == !command->run);
    }
}

/* And the other way: each ".SS name" is a command. */
static void
test_manual_knows_no_more(void)
{
    g_autofree char *text = manual();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    guint known = 0, found = 0;

    for (char **line = lines; *line; line++)
        found += g_str_has_prefix(*line, ".SS ");
    for (const KvssCommand *command = kvss_commands; command->name; command++)
        known++;
    g_assert_cmpuint(found, ==, known);
}

static void
test_help_names_all(void)
{
    g_autofree char *text = kvss_options_help(kvss_commands);

    for (const KvssCommand *command = kvss_commands; command->name; command++) {
        g_autofree char *own = kvss_options_command_help(command);

        g_assert_nonnull(strstr(text, command->name));
        check_options(own, command->name, command->options);
        check_options(own, command->name, kvss_global_options);
    }
}

/* ---- parts ---- */

static void
test_percent(void)
{
    static const char *const wrong[] = { "", "%", "5", "101%", "-1%", "+1%", "1e1%", "5 %", "5%%",
                                         "1.%", ".5%", "nan%", "0x10%", "1.2.3%", "5%x" };
    double percent;

    g_assert_true(kvss_options_parse_percent("5%", &percent, NULL));
    g_assert_cmpfloat_with_epsilon(percent, 5, 1e-12);
    g_assert_true(kvss_options_parse_percent("0.25%", &percent, NULL));
    g_assert_cmpfloat_with_epsilon(percent, 0.25, 1e-12);
    g_assert_true(kvss_options_parse_percent("100%", &percent, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_options_parse_percent(wrong[i], &percent, &error));
        g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG);
    }
}

static void
test_rate(void)
{
    static const char *const wrong[] = { "", "-1", "+1", "1.5", "2M", "1048577", " 1", "0x10" };
    uint64_t rate;

    g_assert_true(kvss_options_parse_rate("--limit", "0", &rate, NULL));
    g_assert_cmpuint(rate, ==, 0);
    g_assert_true(kvss_options_parse_rate("--limit", "1048576", &rate, NULL));
    g_assert_cmpuint(rate, ==, G_GUINT64_CONSTANT(1) << 40);
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_options_parse_rate("--limit", wrong[i], &rate, &error));
        g_assert_error(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG);
        g_assert_nonnull(strstr(error->message, "--limit is"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/values", test_values);
    g_test_add_func("/options/rate", test_rate);
    g_test_add_func("/options/global-anywhere", test_global_anywhere);
    g_test_add_func("/options/lists", test_lists);
    g_test_add_func("/options/wrong", test_wrong);
    g_test_add_func("/options/json-is-known", test_json_is_known);
    g_test_add_func("/options/method", test_method);
    g_test_add_func("/options/manual-knows-all", test_manual_knows_all);
    g_test_add_func("/options/manual-knows-no-more", test_manual_knows_no_more);
    g_test_add_func("/options/help-names-all", test_help_names_all);
    g_test_add_func("/options/percent", test_percent);
    return g_test_run();
}
