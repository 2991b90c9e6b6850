/*
 * options.c - the words of a command line
 */
#include "requester/options.h"

#include <string.h>

G_DEFINE_QUARK(kvss-usage-error-quark, kvss_usage_error)

#define wrong(error, ...) kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG, __VA_ARGS__)

#define FLAG(field) KVSS_OPTION_FLAG, G_STRUCT_OFFSET(KvssOptions, field)
#define TEXT(field) KVSS_OPTION_TEXT, G_STRUCT_OFFSET(KvssOptions, field)
#define COUNT(field) KVSS_OPTION_COUNT, G_STRUCT_OFFSET(KvssOptions, field)

const KvssOption kvss_global_options[] = {
    { "connect", 'c', TEXT(uri), "URI",
      "libvirt connection (LIBVIRT_DEFAULT_URI, else qemu:///system)" },
    { "repository", 'r', TEXT(repository), "REPO", "repository (KVSS_REPOSITORY)" },
    { "password-file", 0, TEXT(password_file), "FILE",
      "file with its password (KVSS_PASSWORD_FILE, KVSS_PASSWORD)" },
    { "retry-lock", 0, TEXT(retry_lock), "TIME",
      "wait while others lock the repository: minutes, or 90s, 2h" },
    { "json", 0, FLAG(json), NULL, "print JSON" },
    { "quiet", 'q', FLAG(quiet), NULL, "no progress, no remarks" },
    { "verbose", 'v', COUNT(verbose), NULL, "say each step; twice: debug lines" },
    { "help", 'h', FLAG(help), NULL, "show help" },
    { "version", 0, FLAG(version), NULL, "show the version" },
    { 0 },
};

static GPtrArray *
list_new(void)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(list, NULL);
    return list;
}

static void
list_add(GPtrArray *list, const char *word)
{
    g_ptr_array_insert(list, (int) list->len - 1, g_strdup(word));
}

const char *const *
kvss_options_list(const GPtrArray *list)
{
    return (const char *const *) list->pdata;
}

guint
kvss_options_count(const GPtrArray *list)
{
    return list->len - 1;
}

static KvssOptions *
options_new(void)
{
    KvssOptions *options = g_new0(KvssOptions, 1);

    options->words = list_new();
    options->exclude = list_new();
    options->method = list_new();
    options->tag = list_new();
    options->disk = list_new();
    options->network = list_new();
    options->keep_tag = list_new();
    return options;
}

void
kvss_options_free(KvssOptions *options)
{
    if (!options)
        return;
    g_free(options->uri);
    g_free(options->repository);
    g_free(options->password_file);
    g_free(options->retry_lock);
    g_free(options->limit);
    g_free(options->provider);
    g_free(options->snapshot_dir);
    g_free(options->type);
    g_free(options->to);
    g_free(options->as);
    g_free(options->format);
    g_free(options->socket);
    g_free(options->sample);
    g_free(options->seed);
    g_free(options->keep_last);
    g_free(options->keep_hourly);
    g_free(options->keep_daily);
    g_free(options->keep_weekly);
    g_free(options->keep_monthly);
    g_free(options->keep_yearly);
    g_free(options->keep_within);
    g_free(options->group_by);
    g_free(options->max_unused);
    g_free(options->max_repack);
    g_ptr_array_unref(options->keep_tag);
    g_free(options->new_password_file);
    g_ptr_array_unref(options->words);
    g_ptr_array_unref(options->exclude);
    g_ptr_array_unref(options->method);
    g_ptr_array_unref(options->tag);
    g_ptr_array_unref(options->disk);
    g_ptr_array_unref(options->network);
    g_free(options);
}

/* What is being parsed. */
typedef struct {
    char **argv; /* what is left */
    const KvssCommand *commands, *command;
    KvssOptions *options;
} Parser;

static const KvssOption *
find_in(const KvssOption *table, const char *name, size_t length, char letter)
{
    for (; table && table->name; table++)
        if (letter ? table->letter == letter
                   : strlen(table->name) == length && strncmp(table->name, name, length) == 0)
            return table;
    return NULL;
}

/* By name (up to @length), or by @letter. */
static const KvssOption *
find_option(const Parser *parser, const char *name, size_t length, char letter)
{
    const KvssOption *option = find_in(kvss_global_options, name, length, letter);

    if (!option && parser->command)
        option = find_in(parser->command->options, name, length, letter);
    return option;
}

static bool
store(Parser *parser, const KvssOption *option, const char *value, GError **error)
{
    void *field = (char *) parser->options + option->offset;

    switch (option->kind) {
    case KVSS_OPTION_FLAG:
        *(bool *) field = true;
        break;
    case KVSS_OPTION_COUNT:
        ++*(unsigned *) field;
        break;
    case KVSS_OPTION_TEXT:
        g_free(*(char **) field);
        *(char **) field = g_strdup(value);
        break;
    case KVSS_OPTION_LIST:
        list_add(*(GPtrArray **) field, value);
        break;
    }
    return true;
}

static bool
takes_value(const KvssOption *option)
{
    return option->kind == KVSS_OPTION_TEXT || option->kind == KVSS_OPTION_LIST;
}

/* @inline_value: what stood behind '=' or the letter, or NULL: then it is the next word. */
static bool
parse_value(Parser *parser, const KvssOption *option, const char *inline_value, GError **error)
{
    const char *value = inline_value;

    if (!value)
        value = *parser->argv ? *parser->argv++ : NULL;
    if (!value || !*value)
        return wrong(error, "--%s needs a value: %s", option->name, option->argument);
    return store(parser, option, value, error);
}

static bool
parse_long(Parser *parser, const char *word, GError **error)
{
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t) (equals - word) : strlen(word);
    const KvssOption *option = find_option(parser, word, length, 0);

    if (!option && parser->command)
        return wrong(error, "%s knows no option --%.*s", parser->command->name, (int) length,
                     word);
    if (!option)
        return wrong(error,
                     "there is no global option --%.*s: a command's own stand after its name",
                     (int) length, word);
    if (takes_value(option))
        return parse_value(parser, option, equals ? equals + 1 : NULL, error);
    if (equals)
        return wrong(error, "--%s takes no value", option->name);
    return store(parser, option, NULL, error);
}

/* "-q", "-qv", "-c URI", "-cURI". */
static bool
parse_letters(Parser *parser, const char *letters, GError **error)
{
    for (; *letters; letters++) {
        const KvssOption *option = find_option(parser, NULL, 0, *letters);

        if (!option)
            return wrong(error, "there is no option -%c", *letters);
        if (takes_value(option))
            return parse_value(parser, option, letters[1] ? letters + 1 : NULL, error);
        if (!store(parser, option, NULL, error))
            return false;
    }
    return true;
}

static bool
parse_word(Parser *parser, const char *word, GError **error)
{
    if (parser->command) {
        list_add(parser->options->words, word);
        return true;
    }
    for (const KvssCommand *command = parser->commands; command->name; command++)
        if (strcmp(command->name, word) == 0) {
            parser->command = command;
            return true;
        }
    return wrong(error, "there is no command '%s': 'kvss --help' lists them", word);
}

static bool
parse_all(Parser *parser, GError **error)
{
    bool only_words = false;

    while (*parser->argv) {
        const char *word = *parser->argv++;
        bool ok;

        if (only_words || word[0] != '-' || !word[1])
            ok = parse_word(parser, word, error);
        else if (strcmp(word, "--") == 0)
            ok = only_words = true;
        else if (word[1] == '-')
            ok = parse_long(parser, word + 2, error);
        else
            ok = parse_letters(parser, word + 1, error);
        if (!ok)
            return false;
    }
    return true;
}

static bool
check_words(const Parser *parser, GError **error)
{
    const KvssCommand *command = parser->command;
    guint count = kvss_options_count(parser->options->words);
    uint64_t wait_ms;

    if (parser->options->help || parser->options->version)
        return true;
    if (!command)
        return wrong(error, "name a command: 'kvss --help' lists them");
    if (parser->options->retry_lock
        && !kvss_options_parse_wait(parser->options->retry_lock, &wait_ms, error))
        return false;
    if (!command->run)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_NOT_YET, "%s: not there yet",
                          command->name);
    if (count < command->min_words)
        return wrong(error, "%s needs more: kvss %s %s", command->name, command->name,
                     command->arguments);
    if (count > command->max_words)
        return wrong(error, "%s: '%s' is too much: kvss %s %s", command->name,
                     kvss_options_list(parser->options->words)[command->max_words], command->name,
                     command->arguments);
    return true;
}

/* Looked for everywhere: a message about a wrong word must know how to be printed. */
static bool
wants_json(char **argv)
{
    for (; *argv && strcmp(*argv, "--") != 0; argv++)
        if (strcmp(*argv, "--json") == 0)
            return true;
    return false;
}

KvssOptions *
kvss_options_parse(int argc, char **argv, const KvssCommand *commands,
                   const KvssCommand **out_command, GError **error)
{
    Parser parser = {
        .argv = argc > 0 ? argv + 1 : argv,
        .commands = commands,
        .options = options_new(),
    };

    parser.options->json = wants_json(parser.argv);
    if (parse_all(&parser, error))
        (void) check_words(&parser, error);
    *out_command = parser.command;
    return parser.options;
}

/* ---- help ---- */

static void
append_options(GString *text, const KvssOption *options)
{
    for (; options && options->name; options++) {
        g_autofree char *long_form = options->argument ? g_strdup_printf("--%s %s", options->name,
                                                                         options->argument)
                                                       : g_strdup_printf("--%s", options->name);
        g_autofree char *letter = options->letter ? g_strdup_printf("-%c, ", options->letter)
                                                  : g_strdup("    ");

        g_string_append_printf(text, "  %s%-22s %s\n", letter, long_form, options->help);
    }
}

char *
kvss_options_help(const KvssCommand *commands)
{
    GString *text = g_string_new("usage: kvss [-c URI] [-r REPO] [--json] [-q|-v] COMMAND ...\n\n"
                                 "Back up and restore virtual machines.\n\nCommands:\n");

    for (; commands->name; commands++)
        g_string_append_printf(text, "  %-10s %s%s\n", commands->name, commands->help,
                               commands->run ? "" : " (not there yet)");
    g_string_append(text, "\nGlobal options, before or after the command:\n");
    append_options(text, kvss_global_options);
    g_string_append(text, "\n'kvss COMMAND --help' shows a command's own options.\n");
    return g_string_free(text, FALSE);
}

char *
kvss_options_command_help(const KvssCommand *command)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "usage: kvss %s %s\n\n%s%s.\n", command->name, command->arguments,
                           command->help, command->run ? "" : " (not there yet)");
    if (command->options) {
        g_string_append(text, "\nOptions:\n");
        append_options(text, command->options);
    }
    g_string_append(text, "\nGlobal options:\n");
    append_options(text, kvss_global_options);
    return g_string_free(text, FALSE);
}

/* ---- values ---- */

bool
kvss_options_parse_wait(const char *text, uint64_t *out_ms, GError **error)
{
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {
        { "", 60 * 1000 },      { "s", 1000 },           { "m", 60 * 1000 },
        { "h", 3600 * 1000 },   { "d", 24 * 3600 * 1000 },
    };
    size_t digits = strspn(text, "0123456789");
    g_autofree char *number = g_strndup(text, digits);
    guint64 value;

    for (guint i = 0; i < G_N_ELEMENTS(units); i++)
        if (strcmp(text + digits, units[i].suffix) == 0
            && g_ascii_string_to_unsigned(number, 10, 0, KVSS_WAIT_MAX_MS / units[i].ms, &value,
                                          NULL)) {
            *out_ms = value * units[i].ms;
            return true;
        }
    return wrong(error,
                 "'%s' is no time to wait: give minutes, or a number with s, m, h or d behind it, "
                 "at most 7d", text);
}

bool
kvss_options_split_method(const char *text, char **out_vm, const char **out_method, GError **error)
{
    static const char *const methods[] = {
        "child-snapshot", "saved-state", "crash-consistent", "offline", NULL,
    };
    /* The last one: a VM's name may have '=' in it, a method's has not. */
    const char *equals = strrchr(text, '=');
    const char *method = equals ? equals + 1 : text;

    if (!g_strv_contains(methods, method))
        return wrong(error,
                     "there is no method '%s': it is child-snapshot, saved-state or "
                     "crash-consistent",
                     method);
    if (equals == text)
        return wrong(error, "--method %s names no VM in front of '='", text);
    *out_vm = equals ? g_strndup(text, (gsize) (equals - text)) : NULL;
    *out_method = method;
    return true;
}

bool
kvss_options_parse_size(const char *text, uint64_t *out_bytes, GError **error)
{
    static const char units[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    g_autofree char *number = g_strndup(text, digits);
    const char *unit = text[digits] ? strchr(units, g_ascii_toupper(text[digits])) : NULL;
    unsigned shift = unit ? 10 * (unsigned) (unit - units + 1) : 0;
    guint64 value;

    if (strlen(text) != digits + (unit ? 1 : 0)
        || !g_ascii_string_to_unsigned(number, 10, 0, UINT64_MAX >> shift, &value, NULL))
        return wrong(error, "'%s' is no size: give bytes, or a number with K, M, G or T behind it",
                     text);
    *out_bytes = value << shift;
    return true;
}

/* By digits and one point alone: no sign, no exponent, no locale. */
/* What nobody means: a terabyte a second. */
#define RATE_MAX_MIB (1024u * 1024)

bool
kvss_options_parse_rate(const char *name, const char *text, uint64_t *out_bytes, GError **error)
{
    guint64 mib;

    if (!g_ascii_string_to_unsigned(text, 10, 0, RATE_MAX_MIB, &mib, NULL))
        return wrong(error, "%s is '%s', not a whole number of MiB/s up to %u (0: no limit)", name,
                     text, RATE_MAX_MIB);
    *out_bytes = mib << 20;
    return true;
}

bool
kvss_options_parse_percent(const char *text, double *out_percent, GError **error)
{
    size_t whole = strspn(text, "0123456789");
    size_t part = text[whole] == '.' ? 1 + strspn(text + whole + 1, "0123456789") : 0;
    double percent = g_ascii_strtod(text, NULL);

    if (whole == 0 || part == 1 || strcmp(text + whole + part, "%") != 0 || percent > 100)
        return wrong(error, "'%s' is no part from 0%% to 100%%", text);
    *out_percent = percent;
    return true;
}
