/*
 * s3-sign.c - AWS Signature Version 4
 *
 *   canonical request ── SHA-256 ──▶ string to sign ── HMAC ──▶ signature
 *   secret key ── HMAC day ── HMAC region ── HMAC service ──────────┘ key
 */
#include "base/error.h"
#include "repository/backend/s3-sign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define HASH_BYTES 32

static void
to_hex(const uint8_t hash[HASH_BYTES], char out[KVSS_S3_HASH_LENGTH])
{
    for (size_t i = 0; i < HASH_BYTES; i++)
        g_snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

void
kvss_s3_hash(const void *data, size_t length, char out[KVSS_S3_HASH_LENGTH])
{
    uint8_t hash[HASH_BYTES];

    if (EVP_Digest(data, length, hash, NULL, EVP_sha256(), NULL) != 1)
        g_error("OpenSSL has no SHA-256");
    to_hex(hash, out);
}

static void
hmac(const void *key, size_t key_length, const char *text, uint8_t out[HASH_BYTES])
{
    unsigned length = HASH_BYTES;

    if (!HMAC(EVP_sha256(), key, (int) key_length, (const unsigned char *) text, strlen(text), out,
              &length))
        g_error("OpenSSL has no HMAC");
}

void
kvss_s3_date(gint64 time_s, char out[17])
{
    time_t when = (time_t) time_s;
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm);
}

/* ---- the query ---- */

char *
kvss_s3_escape(const char *text, bool keep_slash)
{
    GString *out = g_string_new(NULL);

    for (const char *at = text; *at; at++) {
        if (g_ascii_isalnum(*at) || strchr("-_.~", *at) || (keep_slash && *at == '/'))
            g_string_append_c(out, *at);
        else
            g_string_append_printf(out, "%%%02X", (unsigned char) *at);
    }
    return g_string_free(out, FALSE);
}

static int
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

char *
kvss_s3_query(const char *name, ...)
{
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    va_list args;

    va_start(args, name);
    for (; name; name = va_arg(args, const char *)) {
        const char *value = va_arg(args, const char *);
        g_autofree char *escaped_name = kvss_s3_escape(name, false);
        g_autofree char *escaped = value ? kvss_s3_escape(value, false) : NULL;

        if (value)
            g_ptr_array_add(pairs, g_strdup_printf("%s=%s", escaped_name, escaped));
    }
    va_end(args);
    g_ptr_array_sort(pairs, compare_texts);
    g_ptr_array_add(pairs, NULL);
    return g_strjoinv("&", (char **) pairs->pdata);
}

/* ---- the headers ---- */

/* "Name:  value" as "name:value". */
static char *
canonical_header(const char *header)
{
    const char *colon = strchr(header, ':');
    g_autofree char *name = NULL, *value = NULL;

    g_assert(colon);
    name = g_ascii_strdown(header, colon - header);
    value = g_strstrip(g_strdup(colon + 1));
    return g_strconcat(name, ":", value, NULL);
}

static GPtrArray *
canonical_headers(const KvssS3Signable *request, const char *date)
{
    GPtrArray *headers = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(headers, g_strconcat("host:", request->host, NULL));
    g_ptr_array_add(headers, g_strconcat("x-amz-content-sha256:", request->payload_hash, NULL));
    g_ptr_array_add(headers, g_strconcat("x-amz-date:", date, NULL));
    for (const char *const *at = request->headers; at && *at; at++)
        g_ptr_array_add(headers, canonical_header(*at));
    g_ptr_array_sort(headers, compare_texts);
    return headers;
}

/* "host;x-amz-date" */
static char *
names_of(const GPtrArray *headers)
{
    GString *names = g_string_new(NULL);

    for (guint i = 0; i < headers->len; i++) {
        const char *header = g_ptr_array_index(headers, i);

        if (i > 0)
            g_string_append_c(names, ';');
        g_string_append_len(names, header, strchr(header, ':') - header);
    }
    return g_string_free(names, FALSE);
}

/* ---- the signature ---- */

static char *
canonical_request(const KvssS3Signable *request, const GPtrArray *headers, const char *names)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (guint i = 0; i < headers->len; i++)
        g_string_append_printf(text, "%s\n", (const char *) g_ptr_array_index(headers, i));
    g_string_append_printf(text, "\n%s\n%s", names, request->payload_hash);
    return g_string_free(text, FALSE);
}

/* The key is good for one day, region and service. */
static void
signing_key(const char *secret_key, const char *day, const char *region, uint8_t out[HASH_BYTES])
{
    char *seed = g_strconcat("AWS4", secret_key, NULL);

    hmac(seed, strlen(seed), day, out);
    OPENSSL_cleanse(seed, strlen(seed));
    g_free(seed);
    hmac(out, HASH_BYTES, region, out);
    hmac(out, HASH_BYTES, "s3", out);
    hmac(out, HASH_BYTES, "aws4_request", out);
}

char *
kvss_s3_sign(const KvssS3Signable *request, const char *access_key, const char *secret_key,
             const char *region, gint64 time_s)
{
    g_autofree char *names = NULL, *canonical = NULL, *scope = NULL, *to_sign = NULL;
    char date[17], day[9], hash[KVSS_S3_HASH_LENGTH], signature[KVSS_S3_HASH_LENGTH];
    g_autoptr(GPtrArray) headers = NULL;
    uint8_t key[HASH_BYTES], mac[HASH_BYTES];

    kvss_s3_date(time_s, date);
    g_strlcpy(day, date, sizeof day);
    headers = canonical_headers(request, date);
    names = names_of(headers);
    canonical = canonical_request(request, headers, names);
    kvss_s3_hash(canonical, strlen(canonical), hash);

    scope = g_strdup_printf("%s/%s/s3/aws4_request", day, region);
    to_sign = g_strdup_printf(ALGORITHM "\n%s\n%s\n%s", date, scope, hash);
    signing_key(secret_key, day, region, key);
    hmac(key, sizeof key, to_sign, mac);
    OPENSSL_cleanse(key, sizeof key);
    to_hex(mac, signature);
    return g_strdup_printf(ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                           access_key, scope, names, signature);
}
