/*
 * config.c - what is settled outside the command line
 */
#include "requester/config.h"
#include "vss/component.h"

#include <gio/gio.h>
#include <string.h>

#define CONFIG_PATH "/etc/kvss/kvss.conf"
#define STATE_DIR "/var/lib/kvss"
#define CACHE_DIR "/var/cache/kvss"
#define GROUP "defaults"
#define LIMITS "limits"
#define RETENTION "retention"

#define throw_config(error, ...) \
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_CONFIG, __VA_ARGS__)

/* A variable that is set to nothing is not set. */
static const char *
environment(const char *name)
{
    const char *value = g_getenv(name);

    return value && *value ? value : NULL;
}

void
kvss_config_free(KvssConfig *config)
{
    if (!config)
        return;
    g_free(config->repository);
    g_free(config->password_file);
    g_free(config->method);
    g_free(config->snapshot_dir);
    g_free(config->scratch_dir);
    g_free(config->writers_dir);
    kvss_policy_free(config->retention);
    g_free(config->state_dir);
    g_free(config->cache_dir);
    g_free(config);
}

static bool
check_method(const char *value, KvssConfig *config, GError **error)
{
    g_autofree char *vm = NULL;
    const char *method;

    if (!kvss_options_split_method(value, &vm, &method, error))
        return false;
    return !vm || throw_config(error, "method names a VM: it is for all of them");
}

static bool
check_absolute(const char *value, KvssConfig *config, GError **error)
{
    return g_path_is_absolute(value) || throw_config(error, "'%s' is no absolute path", value);
}

static bool
set_freeze_limit(const char *value, KvssConfig *config, GError **error)
{
    guint64 seconds;

    if (!g_ascii_string_to_unsigned(value, 10, 1, 3600, &seconds, NULL))
        return throw_config(error, "freeze-limit is '%s', not a number of seconds from 1 to 3600",
                            value);
    config->freeze_limit_ms = (unsigned) seconds * 1000;
    return true;
}

static bool
set_limit(const char *value, KvssConfig *config, GError **error)
{
    g_autoptr(GError) trouble = NULL;

    return kvss_options_parse_rate("limit", value, &config->limit, &trouble)
        || throw_config(error, "%s", trouble->message);
}

/* Every key there is. @check may refuse, or put the value elsewhere than in the field. */
static const struct {
    const char *name;
    size_t offset; /* of a char* in KvssConfig; SIZE_MAX: @check keeps it */
    bool (*check)(const char *value, KvssConfig *config, GError **error);
} keys[] = {
    { "repository", G_STRUCT_OFFSET(KvssConfig, repository), NULL },
    { "password-file", G_STRUCT_OFFSET(KvssConfig, password_file), NULL },
    { "method", G_STRUCT_OFFSET(KvssConfig, method), check_method },
    { "snapshot-dir", G_STRUCT_OFFSET(KvssConfig, snapshot_dir), NULL },
    { "scratch-dir", G_STRUCT_OFFSET(KvssConfig, scratch_dir), NULL },
    { "writers-dir", G_STRUCT_OFFSET(KvssConfig, writers_dir), check_absolute },
    { "freeze-limit", SIZE_MAX, set_freeze_limit },
    { "limit", SIZE_MAX, set_limit },
};

static bool
read_key(KvssConfig *config, const char *name, char *value, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        char **field;

        if (strcmp(keys[i].name, name) != 0)
            continue;
        g_strstrip(value);
        if (!*value)
            return throw_config(error, "%s is empty", name);
        if (keys[i].check && !keys[i].check(value, config, error))
            return false;
        if (keys[i].offset == SIZE_MAX)
            return true;
        field = (char **) (void *) ((char *) config + keys[i].offset);
        *field = g_strdup(value);
        return true;
    }
    return throw_config(error, "there is no key '%s'", name);
}

/* [limits]: seconds that an event of the coordinator's table may take. */
static bool
read_limit(KvssConfig *config, const char *name, char *value, GError **error)
{
    unsigned *limit_ms = kvss_limits_find(&config->limits, name);
    guint64 seconds;

    if (!limit_ms)
        return throw_config(error, "[" LIMITS "]: there is no event '%s'", name);
    if (!g_ascii_string_to_unsigned(g_strstrip(value), 10, 1, 86400, &seconds, NULL))
        return throw_config(error,
                            "[" LIMITS "]: %s is '%s', not a number of seconds from 1 to 86400",
                            name, value);
    *limit_ms = (unsigned) seconds * 1000;
    return true;
}

/* [retention]: what stays, by the names of forget's options. */
static bool
read_rule(KvssConfig *config, const char *name, char *value, GError **error)
{
    if (kvss_policy_set(config->retention, name, g_strstrip(value), error))
        return true;
    g_prefix_error(error, "[" RETENTION "]: ");
    return false;
}

typedef bool (*ReadKey)(KvssConfig *config, const char *name, char *value, GError **error);

static bool
read_group(KvssConfig *config, GKeyFile *file, const char *group, ReadKey read, GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(file, group, NULL, NULL);

    for (char **name = names; name && *name; name++) {
        g_autofree char *value = g_key_file_get_string(file, group, *name, error);

        if (!value || !read(config, *name, value, error))
            return false;
    }
    return true;
}

static bool
read_groups(KvssConfig *config, GKeyFile *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    for (char **group = groups; *group; group++)
        if (strcmp(*group, GROUP) != 0 && strcmp(*group, LIMITS) != 0
            && strcmp(*group, RETENTION) != 0)
            return throw_config(error, "there is no group [%s], only [" GROUP "], [" LIMITS
                                "] and [" RETENTION "]", *group);
    return read_group(config, file, GROUP, read_key, error)
           && read_group(config, file, LIMITS, read_limit, error)
           && read_group(config, file, RETENTION, read_rule, error);
}

static bool
read_file(KvssConfig *config, GError **error)
{
    const char *wish = environment("KVSS_CONFIG");
    const char *path = wish ? wish : CONFIG_PATH;
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) trouble = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &trouble)) {
        if (!wish && g_error_matches(trouble, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return true;
        return throw_config(error, "configuration %s: %s", path, trouble->message);
    }
    if (read_groups(config, file, &trouble))
        return true;
    return throw_config(error, "configuration %s: %s", path, trouble->message);
}

KvssConfig *
kvss_config_load(GError **error)
{
    g_autoptr(KvssConfig) config = g_new0(KvssConfig, 1);
    const char *state_dir = environment("KVSS_STATE_DIR");
    const char *cache_dir = environment("KVSS_CACHE_DIR");

    const char *writers_dir = environment("KVSS_WRITERS_DIR");

    config->limits = kvss_limits_default();
    config->retention = kvss_policy_new();
    config->state_dir = g_strdup(state_dir ? state_dir : STATE_DIR);
    config->cache_dir = g_strdup(cache_dir ? cache_dir : CACHE_DIR);
    if (!read_file(config, error))
        return NULL;
    if (writers_dir) {
        if (!check_absolute(writers_dir, config, error)) {
            g_prefix_error(error, "KVSS_WRITERS_DIR: ");
            return NULL;
        }
        kvss_set_string(&config->writers_dir, writers_dir);
    }
    return g_steal_pointer(&config);
}

const char *
kvss_config_uri(const KvssOptions *options)
{
    const char *uri = options->uri ? options->uri : environment("LIBVIRT_DEFAULT_URI");

    return uri ? uri : "qemu:///system";
}

const char *
kvss_config_repository(const KvssConfig *config, const KvssOptions *options)
{
    if (options->repository)
        return options->repository;
    if (environment("KVSS_REPOSITORY"))
        return environment("KVSS_REPOSITORY");
    return config->repository ? config->repository : environment("RESTIC_REPOSITORY");
}
