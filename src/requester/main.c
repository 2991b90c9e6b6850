/*
 * main.c - the kvss command
 *
 * Parse, load, run one command, say how it ended. Every failure ends here: one
 * sentence on stderr, one object on stdout with --json, one exit code.
 */
#include "host/connection.h"
#include "requester/failure.h"
#include "requester/output.h"
#include "requester/requester.h"
#include "requester/signals.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

static bool is_quiet, is_debug;

/* Library code says little, and never through printf: warnings are for people, debug for us. */
static GLogWriterOutput
write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
    const char *message = NULL;

    for (gsize i = 0; i < n_fields; i++)
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            message = fields[i].value;
    if (level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG)) {
        if (is_debug && message)
            kvss_say("%s", message);
        else
            return g_log_writer_default(level, fields, n_fields, data);
    } else if (message && !(is_quiet && (level & G_LOG_LEVEL_MESSAGE))) {
        kvss_say("%s%s", level & G_LOG_LEVEL_MESSAGE ? "" : "warning: ", message);
    }
    return G_LOG_WRITER_HANDLED;
}

static void
print_error_json(const KvssRequester *requester, const GError *error, int code)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "type", "error");
    json_object_set_int_member(object, "code", code);
    if (requester->failure != KVSS_S_OK) {
        g_autofree char *hex = g_strdup_printf("0x%08X", requester->failure);

        kvss_set_text(object, "hresult", hex);
    } else {
        json_object_set_null_member(object, "hresult");
    }
    kvss_set_text(object, "vm", requester->failed_vm);
    kvss_set_text(object, "message", error->message);
    kvss_print_json_object(object);
}

/* The one place where an error becomes words and a code. */
static int
fail(KvssRequester *requester, GError *error)
{
    bool cancelled = requester->cancellable && g_cancellable_is_cancelled(requester->cancellable);
    int code = cancelled ? KVSS_EXIT_INTERRUPTED : kvss_exit_code(error);
    const char *name = requester->command ? requester->command->name : NULL;

    kvss_failure_settle(requester, error);
    if (requester->options->json)
        print_error_json(requester, error, code);
    if (!name || g_str_has_prefix(error->message, name))
        kvss_say("%s", error->message);
    else
        kvss_say("%s: %s", name, error->message);
    return code;
}

static void
print_help(const KvssCommand *command)
{
    g_autofree char *text = command ? kvss_options_command_help(command)
                                    : kvss_options_help(kvss_commands);

    fputs(text, stdout);
}

static int
run(KvssRequester *requester, GError **error)
{
    int code;

    if (requester->options->version) {
        puts("kvss " KVSS_VERSION);
        return KVSS_EXIT_DONE;
    }
    if (requester->options->help) {
        print_help(requester->command);
        return KVSS_EXIT_DONE;
    }
    requester->config = kvss_config_load(error);
    if (!requester->config)
        return -1;
    code = requester->command->run(requester, error);
    if (code >= 0 && !kvss_print_finish(error))
        return -1;
    return code;
}

/* Every user of the machine can read our arguments: a URL loses its user and password there. */
static void
hide_credentials(char **argv)
{
    for (; *argv; argv++) {
        char *location = strstr(*argv, "rest:http");
        g_autofree char *text = location ? kvss_repository_location_text(location) : NULL;
        size_t length = location ? strlen(location) : 0;

        if (!text || strcmp(text, location) == 0 || strlen(text) > length)
            continue;
        explicit_bzero(location, length);
        memcpy(location, text, strlen(text));
    }
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssOptions) options = NULL;
    KvssRequester requester = { .cancellable = g_cancellable_new() };
    int code;

    kvss_host_keep_quiet();
    setlocale(LC_ALL, "");
    options = kvss_options_parse(argc, argv, kvss_commands, &requester.command, &error);
    requester.options = options;
    hide_credentials(argv);
    is_quiet = options->quiet;
    is_debug = options->verbose > 1;
    g_log_set_writer_func(write_log, NULL, NULL);
    kvss_signals_cancel(requester.cancellable);
    g_cancellable_push_current(requester.cancellable); /* for repositories behind servers */

    code = error ? -1 : run(&requester, &error);
    if (code < 0)
        code = fail(&requester, error);
    kvss_config_free(requester.config);
    g_free(requester.failed_vm);
    return code;
}
