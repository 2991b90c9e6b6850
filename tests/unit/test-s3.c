/*
 * test-s3.c - signatures, credentials, locations and answers of S3, without a server
 */
#include "repository/backend/s3-credentials.h"
#include "repository/backend/s3-listing.h"
#include "repository/backend/s3-location.h"
#include "repository/backend/s3-sign.h"

#include <glib/gstdio.h>
#include <string.h>

/* ---- signatures: the examples that AWS publishes ("Authenticating Requests: Using the Authorization Header") ---- */

#define EXAMPLE_ACCESS_KEY "AKIAIOSFODNN7EXAMPLE"
#define EXAMPLE_SECRET_KEY "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define EXAMPLE_TIME 1369353600 /* 2013-05-24T00:00:00Z */
#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void
assert_signature(KvssS3Signable request, const char *names, const char *signature)
{
    g_autofree char *expected = g_strdup_printf(
        "AWS4-HMAC-SHA256 Credential=" EXAMPLE_ACCESS_KEY
        "/20130524/us-east-1/s3/aws4_request, SignedHeaders=%s, Signature=%s", names, signature);
    g_autofree char *got = NULL;

    request.host = "examplebucket.s3.amazonaws.com";
    got = kvss_s3_sign(&request, EXAMPLE_ACCESS_KEY, EXAMPLE_SECRET_KEY, "us-east-1", EXAMPLE_TIME);
    g_assert_cmpstr(got, ==, expected);
}

static void
test_sign_get(void)
{
    static const char *const headers[] = { "Range: bytes=0-9", NULL };

    assert_signature((KvssS3Signable) { .method = "GET", .path = "/test.txt", .query = "",
                                        .headers = headers, .payload_hash = EMPTY_HASH },
                     "host;range;x-amz-content-sha256;x-amz-date",
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void
test_sign_put(void)
{
    static const char *const headers[] = { "x-amz-storage-class: REDUCED_REDUNDANCY",
                                           "Date: Fri, 24 May 2013 00:00:00 GMT", NULL };
    static const char body[] = "Welcome to Amazon S3.";
    g_autofree char *path = kvss_s3_escape("/test$file.text", true);
    char hash[KVSS_S3_HASH_LENGTH];

    kvss_s3_hash(body, strlen(body), hash);
    assert_signature((KvssS3Signable) { .method = "PUT", .path = path, .query = "",
                                        .headers = headers, .payload_hash = hash },
                     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void
test_sign_queries(void)
{
    g_autofree char *lifecycle = kvss_s3_query("lifecycle", "", NULL);
    g_autofree char *list = kvss_s3_query("prefix", "J", "max-keys", "2", "marker", NULL, NULL);

    assert_signature((KvssS3Signable) { .method = "GET", .path = "/", .query = lifecycle,
                                        .payload_hash = EMPTY_HASH },
                     "host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    assert_signature((KvssS3Signable) { .method = "GET", .path = "/", .query = list,
                                        .payload_hash = EMPTY_HASH },
                     "host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void
test_escape(void)
{
    g_autofree char *query = kvss_s3_query("token", "a/b+c=d e&f\xc3\xa9~", "a", "1", NULL);
    g_autofree char *path = kvss_s3_escape("a/b c", true);

    g_assert_cmpstr(query, ==, "a=1&token=a%2Fb%2Bc%3Dd%20e%26f%C3%A9~");
    g_assert_cmpstr(path, ==, "a/b%20c");
}

/* ---- credentials ---- */

typedef struct {
    char *dir, *credentials, *config;
} Files;

static const char *const variables[] = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION",
    "AWS_REGION", "AWS_PROFILE",
};

static void
files_set_up(Files *files, gconstpointer data)
{
    files->dir = g_dir_make_tmp("kvss-s3-XXXXXX", NULL);
    files->credentials = g_build_filename(files->dir, "credentials", NULL);
    files->config = g_build_filename(files->dir, "config", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(variables); i++)
        g_unsetenv(variables[i]);
    g_setenv("AWS_SHARED_CREDENTIALS_FILE", files->credentials, TRUE);
    g_setenv("AWS_CONFIG_FILE", files->config, TRUE);
}

static void
files_tear_down(Files *files, gconstpointer data)
{
    (void) g_unlink(files->credentials);
    (void) g_unlink(files->config);
    (void) g_rmdir(files->dir);
    g_free(files->credentials);
    g_free(files->config);
    g_free(files->dir);
}

static void
write_text(const char *path, const char *text)
{
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void
assert_found(const char *access, const char *secret, const char *token, const char *region)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssS3Credentials) found = kvss_s3_credentials_find(&error);

    g_assert_no_error(error);
    g_assert_cmpstr(found->access_key, ==, access);
    g_assert_cmpstr(found->secret_key, ==, secret);
    g_assert_cmpstr(found->session_token, ==, token);
    g_assert_cmpstr(found->region, ==, region);
}

/* No word of any secret may be in a message. */
static void
assert_refused(int code, const char *words)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(kvss_s3_credentials_find(&error));
    g_assert_error(error, KVSS_IO_ERROR, code);
    g_assert_nonnull(strstr(error->message, words));
    g_assert_null(strstr(error->message, "secret1"));
}

static void
test_credentials_environment(Files *files, gconstpointer data)
{
    write_text(files->credentials, "[default]\naws_access_key_id = FILE\naws_secret_access_key = x\n"
                                   "aws_session_token = y\nregion = there\n");
    g_setenv("AWS_ACCESS_KEY_ID", "ENV", TRUE);
    g_setenv("AWS_SECRET_ACCESS_KEY", "secret1", TRUE);
    assert_found("ENV", "secret1", NULL, "there");
    g_setenv("AWS_SESSION_TOKEN", "token", TRUE);
    g_setenv("AWS_REGION", "second", TRUE);
    assert_found("ENV", "secret1", "token", "second");
    g_setenv("AWS_DEFAULT_REGION", "first", TRUE);
    assert_found("ENV", "secret1", "token", "first");
}

static void
test_credentials_files(Files *files, gconstpointer data)
{
    write_text(files->credentials,
               "# a comment\n[other]\naws_access_key_id=OTHER\naws_secret_access_key=other\n\n"
               "[default]\r\naws_access_key_id = DEFAULT\r\n"
               "s3 =\n  aws_access_key_id = nested\n"
               "AWS_SECRET_ACCESS_KEY = a/b+c=\r\n; the end\n[third]\n");
    write_text(files->config,
               "[default]\nregion = here\n[profile other]\nregion = over there\n"
               "[profile  third]\nregion=x\naws_access_key_id = THIRD\naws_secret_access_key = third\n");
    assert_found("DEFAULT", "a/b+c=", NULL, "here");
    g_setenv("AWS_PROFILE", "third", TRUE);
    assert_found("THIRD", "third", NULL, "x");
    g_setenv("AWS_PROFILE", "other", TRUE);
    assert_refused(KVSS_IO_ERROR_CORRUPT, "region");
    g_setenv("AWS_DEFAULT_REGION", "eu", TRUE);
    assert_found("OTHER", "other", NULL, "eu");
}

static void
test_credentials_missing(Files *files, gconstpointer data)
{
    assert_refused(KVSS_IO_ERROR_NOT_FOUND, "AWS_ACCESS_KEY_ID is not set");
    write_text(files->credentials, "[default]\naws_access_key_id = HALF\n");
    write_text(files->config, "[default]\naws_secret_access_key = secret1\n");
    g_setenv("AWS_PROFILE", "nobody", TRUE);
    assert_refused(KVSS_IO_ERROR_NOT_FOUND, "nobody");
    g_setenv("AWS_PROFILE", "default", TRUE);
    write_text(files->config, "");
    assert_refused(KVSS_IO_ERROR_CORRUPT, "no secret key with it");
    write_text(files->credentials, "[default]\naws_access_key_id = A\naws_secret_access_key = secret1 x\n");
    assert_refused(KVSS_IO_ERROR_CORRUPT, "secret key");
    g_setenv("AWS_ACCESS_KEY_ID", "ENV", TRUE);
    assert_refused(KVSS_IO_ERROR_CORRUPT, "no secret key with it");
    g_setenv("AWS_SECRET_ACCESS_KEY", "secret1\nX-Evil: 1", TRUE);
    assert_refused(KVSS_IO_ERROR_CORRUPT, "secret key");
}

/* ---- locations ---- */

static void
assert_location(const char *text, const char *scheme, const char *host, const char *bucket,
                const char *prefix)
{
    g_auto(KvssS3Location) location = { 0 };
    g_autoptr(GError) error = NULL;

    (void) !kvss_s3_location_read(text, &location, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(location.scheme, ==, scheme);
    g_assert_cmpstr(location.host, ==, host);
    g_assert_cmpstr(location.bucket, ==, bucket);
    g_assert_cmpstr(location.prefix, ==, prefix);
}

static void
test_location(void)
{
    static const char *const bad[] = {
        "s3:", "s3:https://", "s3:https://host", "s3:host", "s3:host/", "s3:/bucket",
        "s3:https://AKIA:secret1@host/bucket", "s3:host/bu cket", "s3:host/..", "s3:host/b/../c",
        "s3:host/b/./c", "s3:host/b/a+b", "s3:host/b/a%2e", "s3:host/b/a?x=y", "s3:host/b/\x01",
        "s3:ho st/b", "s3:https://host:90\r\nX-Evil: 1/b",
    };

    assert_location("s3:http://127.0.0.1:7480/repo", "http", "127.0.0.1:7480", "repo", "");
    assert_location("s3:https://S3.Example.org/Repo/", "https", "s3.example.org", "Repo", "");
    assert_location("s3:s3.amazonaws.com/repo/a/b", "https", "s3.amazonaws.com", "repo", "a/b/");
    assert_location("s3://host:9000/repo//a//", "https", "host:9000", "repo", "a/");
    assert_location("s3:https://[::1]:9000/repo", "https", "[::1]:9000", "repo", "");
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(KvssS3Location) location = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_false(kvss_s3_location_read(bad[i], &location, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED);
        g_assert_null(strstr(error->message, "secret1"));
    }
}

static void
assert_address(const char *text, const char *region, const char *origin, const char *root)
{
    g_autofree char *got_origin = NULL, *got_root = NULL;
    g_auto(KvssS3Location) location = { 0 };

    g_assert_true(kvss_s3_location_read(text, &location, NULL));
    kvss_s3_location_address(&location, region, &got_origin, &got_root);
    g_assert_cmpstr(got_origin, ==, origin);
    g_assert_cmpstr(got_root, ==, root);
}

static void
assert_region(const char *text, const char *region)
{
    g_auto(KvssS3Location) location = { 0 };
    g_autofree char *got = NULL;

    g_assert_true(kvss_s3_location_read(text, &location, NULL));
    got = kvss_s3_location_region(&location);
    g_assert_cmpstr(got, ==, region);
}

static void
test_address(void)
{
    assert_address("s3:http://host:1/repo/p", "x", "http://host:1", "/repo/");
    assert_address("s3:s3.amazonaws.com/repo/p", "eu-central-1",
                   "https://repo.s3.eu-central-1.amazonaws.com", "/");
    assert_address("s3:s3.amazonaws.com/my.repo", "eu-central-1",
                   "https://s3.eu-central-1.amazonaws.com", "/my.repo/");
    assert_address("s3:s3.amazonaws.com/repo", "evil.org/",
                   "https://repo.s3.amazonaws.com", "/");
    assert_address("s3:s3.us-west-2.amazonaws.com/repo", "us-west-2",
                   "https://repo.s3.us-west-2.amazonaws.com", "/");
    assert_address("s3:https://amazonaws.com.evil.org/repo", "x", "https://amazonaws.com.evil.org",
                   "/repo/");
    assert_region("s3:s3.amazonaws.com/r", NULL);
    assert_region("s3:s3.eu-west-3.amazonaws.com/r", "eu-west-3");
    assert_region("s3:s3.dualstack.eu-west-3.amazonaws.com/r", "eu-west-3");
    assert_region("s3:s3-ap-south-1.amazonaws.com/r", "ap-south-1");
    assert_region("s3:s3.cn-north-1.amazonaws.com.cn/r", "cn-north-1");
    assert_region("s3:s3.eu-west-3.example.org/r", NULL);
}

/* ---- answers ---- */

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" \
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListBucketResult>"
#define ENTRY(key, size) "<Contents><Key>" key "</Key><ETag>&quot;x&quot;</ETag><Size>" size "</Size></Contents>"

static bool
parse(const char *text, KvssS3Listing *out, GError **error)
{
    return kvss_s3_listing_parse(text, strlen(text), out, error);
}

static void
test_listing(void)
{
    g_auto(KvssS3Listing) page = { 0 }, last = { 0 };
    g_autoptr(GError) error = NULL;

    (void) !parse(HEAD "<IsTruncated>true</IsTruncated>" ENTRY("a/b&amp;c", "0")
                  ENTRY("\xc3\xa9", "9223372036854775807")
                  "<NextContinuationToken>1/x+=</NextContinuationToken>" TAIL, &page, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(page.objects->len, ==, 2);
    g_assert_cmpstr(g_array_index(page.objects, KvssS3Object, 0).key, ==, "a/b&c");
    g_assert_cmpuint(g_array_index(page.objects, KvssS3Object, 0).size, ==, 0);
    g_assert_cmpstr(g_array_index(page.objects, KvssS3Object, 1).key, ==, "\xc3\xa9");
    g_assert_cmpuint(g_array_index(page.objects, KvssS3Object, 1).size, ==, G_MAXINT64);
    g_assert_cmpstr(page.next, ==, "1/x+=");

    /* Escaped as asked for: what a NUL would cut short is passed over. */
    (void) !parse(HEAD "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
                  ENTRY("a%2Fb", "1") ENTRY("a%00b", "1") ENTRY("a%0", "1") TAIL, &last, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(last.objects->len, ==, 1);
    g_assert_cmpstr(g_array_index(last.objects, KvssS3Object, 0).key, ==, "a/b");
    g_assert_null(last.next);
}

static void
assert_no_listing(const char *text, size_t length)
{
    g_auto(KvssS3Listing) page = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_s3_listing_parse(text, length, &page, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
    g_assert_null(page.objects);
}

static void
test_listing_refused(void)
{
    static const char *const bad[] = {
        "", "x", "<html></html>", HEAD, HEAD TAIL,
        HEAD "<IsTruncated>true</IsTruncated>" TAIL,
        HEAD "<IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents>" TAIL,
        HEAD "<IsTruncated>false</IsTruncated>" ENTRY("", "1") TAIL,
        HEAD "<IsTruncated>false</IsTruncated>" ENTRY("a", "") TAIL,
        HEAD "<IsTruncated>false</IsTruncated>" ENTRY("a", "-1") TAIL,
        HEAD "<IsTruncated>false</IsTruncated>" ENTRY("a", "9223372036854775808") TAIL,
        HEAD "<IsTruncated>false</IsTruncated>" ENTRY("&e;", "1") TAIL,
        "<!DOCTYPE ListBucketResult [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><ListBucketResult>"
        "<IsTruncated>false</IsTruncated>" ENTRY("&e;", "1") TAIL,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_no_listing(bad[i], strlen(bad[i]));
}

/* Too many, too long, too deep, in another alphabet: refused, and at once. */
static void
test_listing_bounds(void)
{
    g_autoptr(GString) many = g_string_new(HEAD "<IsTruncated>false</IsTruncated>");
    g_autoptr(GString) wide = g_string_new("<ListBucketResult");
    g_autoptr(GString) deep = g_string_new(HEAD);
    g_autofree char *utf16 = NULL;
    gint64 start_us = g_get_monotonic_time();
    gsize length;

    for (unsigned i = 0; i <= 1000; i++)
        g_string_append(many, ENTRY("a", "1"));
    g_string_append(many, TAIL);
    assert_no_listing(many->str, many->len);

    for (unsigned i = 0; i < 400000; i++)
        g_string_append_printf(wide, " a%u=''", i);
    g_string_append(wide, "><IsTruncated>false</IsTruncated>" TAIL);
    assert_no_listing(wide->str, wide->len);

    for (unsigned i = 0; i < 500000; i++)
        g_string_append(deep, "<a>");
    assert_no_listing(deep->str, deep->len);

    g_string_set_size(deep, KVSS_S3_ANSWER_MAX + 1);
    assert_no_listing(deep->str, deep->len);

    utf16 = g_convert(HEAD "<IsTruncated>false</IsTruncated>" TAIL, -1, "UTF-16", "UTF-8", NULL,
                      &length, NULL);
    assert_no_listing(utf16, length);
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 20 * G_USEC_PER_SEC);
}

static void
test_refusal(void)
{
    static const char text[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>NoSuchKey</Code>"
                               "<Message>none\n\x1b[31mhere</Message><Region>eu-west-1</Region></Error>";
    static const char plain[] = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code>"
                                "<Message>less\xc3\xa9\n</Message></Error>";
    static const char html[] = "<!DOCTYPE html><html><body>502</body></html>";
    KvssS3Refusal refusal;

    kvss_s3_refusal_parse(text, strlen(text), &refusal);
    g_assert_cmpstr(refusal.code, ==, ""); /* an escape character is no XML */
    kvss_s3_refusal_parse(plain, strlen(plain), &refusal);
    g_assert_cmpstr(refusal.code, ==, "SlowDown");
    g_assert_cmpstr(refusal.message, ==, "less???");
    g_assert_cmpstr(refusal.region, ==, "");
    kvss_s3_refusal_parse(html, strlen(html), &refusal);
    g_assert_cmpstr(refusal.code, ==, "");
}

static void
assert_place(const char *content, const char *region)
{
    g_autofree char *text = g_strdup_printf("<LocationConstraint xmlns='x'>%s</LocationConstraint>",
                                            content);
    g_autofree char *got = kvss_s3_location_parse(text, strlen(text));

    g_assert_cmpstr(got, ==, region);
}

static void
test_bucket_location(void)
{
    assert_place("", "us-east-1");
    assert_place("EU", "eu-west-1");
    assert_place("eu-central-1", "eu-central-1");
    g_assert_null(kvss_s3_location_parse("<x/>", 4));
    g_assert_true(kvss_s3_region_is_sane("eu-central-1"));
    g_assert_false(kvss_s3_region_is_sane("evil.org/"));
    g_assert_false(kvss_s3_region_is_sane(""));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/s3/sign/get", test_sign_get);
    g_test_add_func("/s3/sign/put", test_sign_put);
    g_test_add_func("/s3/sign/queries", test_sign_queries);
    g_test_add_func("/s3/sign/escape", test_escape);
    g_test_add("/s3/credentials/environment", Files, NULL, files_set_up,
               test_credentials_environment, files_tear_down);
    g_test_add("/s3/credentials/files", Files, NULL, files_set_up, test_credentials_files,
               files_tear_down);
    g_test_add("/s3/credentials/missing", Files, NULL, files_set_up, test_credentials_missing,
               files_tear_down);
    g_test_add_func("/s3/location", test_location);
    g_test_add_func("/s3/address", test_address);
    g_test_add_func("/s3/listing", test_listing);
    g_test_add_func("/s3/listing/refused", test_listing_refused);
    g_test_add_func("/s3/listing/bounds", test_listing_bounds);
    g_test_add_func("/s3/refusal", test_refusal);
    g_test_add_func("/s3/bucket-location", test_bucket_location);
    return g_test_run();
}
