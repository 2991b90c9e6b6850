/*
 * s3-location.c - where a repository lies on an S3 server
 */
#include "repository/backend/s3-location.h"
#include "repository/backend/s3-sign.h"

#include <string.h>

#define PREFIX_MAX 512u /* a key has at most 1024 bytes, and ours add 75 */

void
kvss_s3_location_clear(KvssS3Location *location)
{
    g_clear_pointer(&location->scheme, g_free);
    g_clear_pointer(&location->host, g_free);
    g_clear_pointer(&location->bucket, g_free);
    g_clear_pointer(&location->prefix, g_free);
}

/* The scheme at the head of @text, which moves behind it. */
static const char *
take_scheme(const char **text)
{
    if (g_str_has_prefix(*text, "http://")) {
        *text += strlen("http://");
        return "http";
    }
    if (g_str_has_prefix(*text, "https://"))
        *text += strlen("https://");
    else if (g_str_has_prefix(*text, "//"))
        *text += strlen("//");
    return "https";
}

static bool
check_host(const char *host, GError **error)
{
    if (strchr(host, '@'))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "keys do not belong into the location of a repository: set "
                          "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    if (*host && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]")
                     == strlen(host))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "a repository on S3 is named as s3:https://host:port/bucket/prefix");
}

static bool
check_bucket(const char *bucket, GError **error)
{
    size_t length = strlen(bucket);

    if (length == 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "the bucket is missing: s3:https://host:port/bucket/prefix");
    if (length <= 255 && bucket[0] != '.'
        && strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
               == length)
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "that is no name for a bucket: letters, digits and -._ only");
}

/*
 * Servers disagree about how a blank and a plus are written in a listing, and
 * whether "." and ".." are names: no prefix of ours has them.
 */
static bool
check_prefix(char **parts, GError **error)
{
    size_t length = 0;

    for (; *parts; parts++) {
        length += strlen(*parts) + 1;
        if (g_str_equal(*parts, ".") || g_str_equal(*parts, ".."))
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                              "the prefix behind the bucket may not have \".\" or \"..\" in it");
        for (const char *at = *parts; *at; at++)
            if (strchr(" +%?#\\", *at) || g_ascii_iscntrl(*at))
                return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                                  "the prefix behind the bucket may not have blanks or any of "
                                  "+%%?#\\ in it");
    }
    return length <= PREFIX_MAX
        || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "the prefix behind the bucket is longer than %u bytes", PREFIX_MAX);
}

/* "a//b/" as "a/b/", as restic makes its keys. */
static char *
join_prefix(char **parts)
{
    GString *prefix = g_string_new(NULL);

    for (; *parts; parts++)
        if (**parts)
            g_string_append_printf(prefix, "%s/", *parts);
    return g_string_free(prefix, FALSE);
}

bool
kvss_s3_location_read(const char *text, KvssS3Location *out, GError **error)
{
    g_auto(GStrv) parts = NULL;
    const char *scheme;

    g_assert(g_str_has_prefix(text, "s3:"));
    text += strlen("s3:");
    scheme = take_scheme(&text);
    parts = g_strsplit(text, "/", -1);
    if (!check_host(parts[0] ? parts[0] : "", error)
        || !check_bucket(parts[0] && parts[1] ? parts[1] : "", error)
        || !check_prefix(parts + 2, error))
        return false;
    out->scheme = g_strdup(scheme);
    out->host = g_ascii_strdown(parts[0], -1);
    out->bucket = g_strdup(parts[1]);
    out->prefix = join_prefix(parts + 2);
    return true;
}

/* ---- Amazon ---- */

bool
kvss_s3_region_is_sane(const char *region)
{
    size_t length = strlen(region);

    return length > 0 && length <= 63
        && strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
               == length;
}

bool
kvss_s3_location_is_amazon(const KvssS3Location *location)
{
    return g_str_has_suffix(location->host, ".amazonaws.com")
        || g_str_has_suffix(location->host, ".amazonaws.com.cn");
}

char *
kvss_s3_location_region(const KvssS3Location *location)
{
    static const char *const heads[] = { "s3.dualstack.", "s3-fips.", "s3.", "s3-" };

    if (!kvss_s3_location_is_amazon(location))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
        const char *at = location->host + strlen(heads[i]);
        size_t length;

        if (!g_str_has_prefix(location->host, heads[i]))
            continue;
        length = strcspn(at, ".");
        return at[length] == '.' && !g_str_has_prefix(at, "amazonaws.") ? g_strndup(at, length)
                                                                        : NULL;
    }
    return NULL;
}

/* The bucket's own region answers at its own host; the common one only knows where that is. */
static char *
regional_host(const KvssS3Location *location, const char *region)
{
    if (g_str_equal(location->host, "s3.amazonaws.com") && kvss_s3_region_is_sane(region))
        return g_strdup_printf("s3.%s.amazonaws.com", region);
    return g_strdup(location->host);
}

void
kvss_s3_location_address(const KvssS3Location *location, const char *region, char **out_origin,
                         char **out_root)
{
    g_autofree char *host = regional_host(location, region);

    if (kvss_s3_location_is_amazon(location) && !strpbrk(location->bucket, "._")) {
        *out_origin = g_strdup_printf("%s://%s.%s", location->scheme, location->bucket, host);
        *out_root = g_strdup("/");
    } else {
        *out_origin = g_strdup_printf("%s://%s", location->scheme, host);
        *out_root = g_strdup_printf("/%s/", location->bucket);
    }
}
