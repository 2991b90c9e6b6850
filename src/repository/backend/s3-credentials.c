/*
 * s3-credentials.c - access keys from the environment or AWS's files
 *
 *   [default]                     of ~/.aws/credentials
 *   aws_access_key_id = AKIA...
 *   aws_secret_access_key = ...
 *
 *   [profile backup]              of ~/.aws/config, where only "default" lacks the word
 *   region = eu-central-1
 *
 * GKeyFile does not read these: it knows no lines that are indented below a
 * key, which AWS's tools write.
 */
#include "base/fd.h"
#include "base/secret.h"
#include "repository/backend/s3-credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (1u << 20)

void
kvss_s3_credentials_free(KvssS3Credentials *credentials)
{
    if (!credentials)
        return;
    kvss_secret_wipe(credentials->access_key);
    kvss_secret_wipe(credentials->secret_key);
    kvss_secret_wipe(credentials->session_token);
    g_free(credentials->region);
    g_free(credentials->origin);
    g_free(credentials);
}

/* Set and not empty. */
static const char *
environment(const char *name)
{
    const char *value = g_getenv(name);

    return value && *value ? value : NULL;
}

/* ---- AWS's files ---- */

/* The whole file; NULL without an error when there is none. To be wiped. */
static bool
read_file(const char *path, char **out_text, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *text;

    *out_text = NULL;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || kvss_throw_errno(error, errno, "open %s", path);
    if (fstat(fd, &st) < 0)
        return kvss_throw_errno(error, errno, "look at %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t) FILE_MAX)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "%s is no file of credentials: it is not a plain file of at most 1 MiB",
                          path);
    text = g_malloc0((gsize) st.st_size + 1);
    if (!kvss_pread_exact(fd, text, (size_t) st.st_size, 0, error)) {
        g_prefix_error(error, "%s: ", path);
        kvss_secret_wipe(text);
        return false;
    }
    *out_text = text;
    return true;
}

/* Is this line the head of a section, and of @profile? "[default]", "[backup]", "[profile backup]". */
static bool
is_section(const char *line, const char *profile, bool *out_ours)
{
    g_autofree char *name = NULL;
    const char *end = line[0] == '[' ? strchr(line, ']') : NULL;
    const char *found;

    if (!end)
        return false;
    name = g_strstrip(g_strndup(line + 1, end - line - 1));
    found = name;
    if (g_str_has_prefix(name, "profile ") || g_str_has_prefix(name, "profile\t"))
        found = g_strchug(name + strlen("profile "));
    *out_ours = g_str_equal(found, profile);
    return true;
}

/* The first value of a key wins: what one file says is not replaced by the next. */
static void
take_pair(KvssS3Credentials *out, const char *line)
{
    const char *equals = strchr(line, '=');
    g_autofree char *name = equals ? g_strchomp(g_strndup(line, equals - line)) : NULL;
    char **place = NULL;

    if (!name)
        return;
    if (g_ascii_strcasecmp(name, "aws_access_key_id") == 0)
        place = &out->access_key;
    else if (g_ascii_strcasecmp(name, "aws_secret_access_key") == 0)
        place = &out->secret_key;
    else if (g_ascii_strcasecmp(name, "aws_session_token") == 0)
        place = &out->session_token;
    else if (g_ascii_strcasecmp(name, "region") == 0)
        place = &out->region;
    if (place && !*place)
        *place = g_strstrip(g_strdup(equals + 1));
}

/* An indented line belongs to the key above it: a group of settings that are not for us. */
static void
read_profile(KvssS3Credentials *out, char *text, const char *profile)
{
    bool ours = false;
    char *rest = text;

    while (rest) {
        char *line = strsep(&rest, "\n");

        line[strcspn(line, "\r")] = '\0';
        if (is_section(line, profile, &ours) || !ours || strchr(" \t#;", line[0]))
            continue;
        take_pair(out, line);
    }
}

static char *
file_path(const char *variable, const char *name)
{
    const char *path = environment(variable);

    return path ? g_strdup(path) : g_build_filename(g_get_home_dir(), ".aws", name, NULL);
}

static bool
read_from(KvssS3Credentials *out, const char *path, const char *profile, GError **error)
{
    char *text;

    if (!read_file(path, &text, error))
        return false;
    if (text) {
        bool had_key = out->access_key != NULL;
        size_t length = strlen(text);

        read_profile(out, text, profile);
        OPENSSL_cleanse(text, length);
        if (!had_key && out->access_key)
            out->origin = g_strdup_printf("profile %s of %s", profile, path);
    }
    g_free(text);
    return true;
}

/* A header may not have these, and no key does. */
static bool
check_value(const char *value, const char *what, const char *origin, GError **error)
{
    for (const char *at = value ? value : ""; *at; at++)
        if (!g_ascii_isgraph(*at))
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "the %s of %s has a blank or a byte that is not ASCII in it", what,
                              origin);
    return true;
}

static bool
check_pair(const KvssS3Credentials *found, GError **error)
{
    if (!found->secret_key || !*found->secret_key)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "there is an access key in %s, and no secret key with it", found->origin);
    return check_value(found->access_key, "access key", found->origin, error)
        && check_value(found->secret_key, "secret key", found->origin, error)
        && check_value(found->session_token, "session token", found->origin, error)
        && check_value(found->region, "region", found->origin, error);
}

static void
take_environment(KvssS3Credentials *out)
{
    const char *region = environment("AWS_DEFAULT_REGION");

    out->region = g_strdup(region ? region : environment("AWS_REGION"));
    out->access_key = g_strdup(environment("AWS_ACCESS_KEY_ID"));
    if (out->access_key) {
        out->secret_key = g_strdup(environment("AWS_SECRET_ACCESS_KEY"));
        out->session_token = g_strdup(environment("AWS_SESSION_TOKEN"));
        out->origin = g_strdup("AWS_ACCESS_KEY_ID");
    }
}

/* A pair is never made of two places: with keys of the environment the files only tell the region. */
static bool
take_files(KvssS3Credentials *out, const char *profile, const char *credentials_path,
           const char *config_path, GError **error)
{
    g_autoptr(KvssS3Credentials) found = g_new0(KvssS3Credentials, 1);

    if (!read_from(found, credentials_path, profile, error))
        return false;
    if (found->access_key) {
        g_autoptr(KvssS3Credentials) config = g_new0(KvssS3Credentials, 1);

        if (!read_from(config, config_path, profile, error))
            return false;
        if (!found->region)
            found->region = g_steal_pointer(&config->region);
    } else if (!read_from(found, config_path, profile, error)) {
        return false;
    }
    if (!out->region)
        out->region = g_steal_pointer(&found->region);
    if (!out->access_key && found->access_key && *found->access_key) {
        out->access_key = g_steal_pointer(&found->access_key);
        out->secret_key = g_steal_pointer(&found->secret_key);
        out->session_token = g_steal_pointer(&found->session_token);
        out->origin = g_steal_pointer(&found->origin);
    }
    return true;
}

KvssS3Credentials *
kvss_s3_credentials_find(GError **error)
{
    g_autoptr(KvssS3Credentials) found = g_new0(KvssS3Credentials, 1);
    const char *profile = environment("AWS_PROFILE");
    g_autofree char *credentials_path = file_path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    g_autofree char *config_path = file_path("AWS_CONFIG_FILE", "config");

    if (!profile)
        profile = "default";
    take_environment(found);
    if ((!found->access_key || !found->region)
        && !take_files(found, profile, credentials_path, config_path, error))
        return NULL;
    if (!found->access_key) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                   "no credentials for S3: AWS_ACCESS_KEY_ID is not set, and there is no access key "
                   "in profile %s of %s and %s", profile, credentials_path, config_path);
        return NULL;
    }
    return check_pair(found, error) ? g_steal_pointer(&found) : NULL;
}
