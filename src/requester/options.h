/*
 * options.h - the words of a command line
 *
 * Every option is a line in a table: the table is what is parsed, what --help
 * prints and what the manual page is checked against. Global options may stand
 * before or after the command.
 */
#pragma once

#include "base/error.h"

struct KvssRequester; /* requester.h: the command under way */

typedef enum {
    KVSS_USAGE_ERROR_WRONG,   /* the command line makes no sense: exit 2 */
    KVSS_USAGE_ERROR_NOT_YET, /* it does, but this version cannot do it yet: exit 2 */
    KVSS_USAGE_ERROR_CONFIG,  /* the configuration file makes no sense: exit 1 */
    KVSS_USAGE_ERROR_PASSWORD,/* none is to be had: exit 5 */
    KVSS_USAGE_ERROR_REFUSED, /* refused, or answered with no, before anything was touched: exit 1 */
} KvssUsageError;

#define KVSS_USAGE_ERROR (kvss_usage_error_quark())
GQuark kvss_usage_error_quark(void);

/** What was given. Strings are NULL where nothing was; lists are never NULL. */
typedef struct {
    /* global */
    char *uri, *repository, *password_file, *retry_lock;
    bool json, quiet, help, version;
    unsigned verbose;

    GPtrArray *words; /* char*: VMs, backups, ... after the command; NULL-terminated */

    bool all, same_instant, strict_conditions, full;
    bool start, yes, keep_old, in_place, no_rollback, dry_run, read_data, allow_host_access;
    bool documents, prune, allow_remove_all;
    char *limit;
    char *provider, *snapshot_dir, *type, *to, *as, *format, *socket, *sample, *seed;
    char *keep_last, *keep_hourly, *keep_daily, *keep_weekly, *keep_monthly, *keep_yearly;
    char *keep_within, *group_by, *max_unused, *max_repack;
    GPtrArray *keep_tag; /* char*; NULL-terminated */
    char *new_password_file;
    GPtrArray *exclude, *method, *tag, *disk, *network; /* char*; NULL-terminated */
    bool status, metadata, detailed; /* of list writers */
} KvssOptions;

typedef enum {
    KVSS_OPTION_FLAG,  /* bool */
    KVSS_OPTION_COUNT, /* unsigned */
    KVSS_OPTION_TEXT,  /* char*; the last one wins */
    KVSS_OPTION_LIST,  /* GPtrArray* */
} KvssOptionKind;

typedef struct {
    const char *name;     /* without "--" */
    char letter;          /* 0: none */
    KvssOptionKind kind;
    size_t offset;        /* of the field in KvssOptions */
    const char *argument; /* "DIR", for the help; NULL for flags */
    const char *help;
} KvssOption;

/** One command. The table ends with a NULL name. */
typedef struct {
    const char *name;
    const char *arguments;        /* "BACKUP [VM...]" */
    const char *help;             /* one line */
    const KvssOption *options;    /* (nullable) its own; ends with a NULL name */
    int (*run)(struct KvssRequester *requester, GError **error); /* NULL: not there yet */
    unsigned min_words, max_words;
} KvssCommand;

/** The options that every command takes. */
extern const KvssOption kvss_global_options[];

/**
 * kvss_options_parse:
 * @commands: the table
 * @out_command: NULL when no command was named (with --help or --version only)
 *
 * Always returns the options, for whatever could be read: a message about an error
 * must know whether JSON is wanted. On a usage error @error is set.
 */
KvssOptions *kvss_options_parse(int argc, char **argv, const KvssCommand *commands,
                                const KvssCommand **out_command, GError **error);
void kvss_options_free(KvssOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssOptions, kvss_options_free)

/** A list or the words as a NULL-terminated array, borrowed; and how many they are. */
const char *const *kvss_options_list(const GPtrArray *list);
guint kvss_options_count(const GPtrArray *list);

/**
 * kvss_options_parse_wait:
 *
 * "30" (minutes), "90s", "10m", "2h", "1d", up to KVSS_WAIT_MAX_MS; "0" is not at all.
 */
#define KVSS_WAIT_MAX_MS (G_GUINT64_CONSTANT(7) * 24 * 60 * 60 * 1000)
bool kvss_options_parse_wait(const char *text, uint64_t *out_ms, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** "512", "100M", "2G", "1T", in steps of 1024. */
bool kvss_options_parse_size(const char *text, uint64_t *out_bytes, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** MiB a second, "20": in bytes, 0 for none. @name: of the option, or the key, for messages. */
bool kvss_options_parse_rate(const char *name, const char *text, uint64_t *out_bytes,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** "5%", "0.5%", up to "100%". */
bool kvss_options_parse_percent(const char *text, double *out_percent, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The text of `kvss --help`, of `kvss COMMAND --help`. Free with g_free. */
char *kvss_options_help(const KvssCommand *commands);
char *kvss_options_command_help(const KvssCommand *command);

/**
 * kvss_options_split_method:
 *
 * "saved-state" or "web01=saved-state". *@out_vm is NULL for the first form.
 */
bool kvss_options_split_method(const char *text, char **out_vm, const char **out_method,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
