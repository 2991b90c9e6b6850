/*
 * test-rest.c - what a REST server sends, and what a location shows of itself
 */
#include "repository/backend/backend.h"
#include "repository/format/id.h"

#include <string.h>

#define ID_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ID_B "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static GArray *
parse(const char *text, bool is_v2, GError **error)
{
    GArray *files = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));

    if (kvss_rest_listing_parse(text, strlen(text), is_v2, files, error))
        return files;
    g_array_unref(files);
    return NULL;
}

static const KvssStoredFile *
file_at(GArray *files, guint i, char out_hex[KVSS_ID_HEX_LENGTH + 1])
{
    const KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);

    kvss_id_to_hex(file->id, out_hex);
    return file;
}

/* Names that are none of the repository's are passed over, whatever they say of themselves. */
static void
test_listing(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) files
        = parse("[{\"name\":\"" ID_A "\",\"size\":18446744073709551614,\"more\":[{}]},"
                "{\"size\":7,\"name\":\"" ID_B "\"},{\"name\":\"../../etc/passwd\",\"size\":1},"
                "{\"name\":\"tmp\"},{}]\n", true, &error);
    char hex[KVSS_ID_HEX_LENGTH + 1];

    g_assert_no_error(error);
    g_assert_cmpuint(files->len, ==, 2);
    g_assert_cmpuint(file_at(files, 0, hex)->size, ==, G_MAXUINT64 - 1);
    g_assert_cmpstr(hex, ==, ID_A);
    g_assert_cmpuint(file_at(files, 1, hex)->size, ==, 7);
    g_assert_cmpstr(hex, ==, ID_B);
}

static void
test_listing_of_old_servers(void)
{
    g_autoptr(GArray) files = parse("[\"" ID_A "\",\"x\",\"" ID_B "\"]", false, NULL);
    char hex[KVSS_ID_HEX_LENGTH + 1];

    g_assert_cmpuint(files->len, ==, 2);
    g_assert_cmpuint(file_at(files, 1, hex)->size, ==, G_MAXUINT64);
    g_assert_cmpstr(hex, ==, ID_B);
    g_array_unref(g_steal_pointer(&files));
    files = parse("null", false, NULL);
    g_assert_cmpuint(files->len, ==, 0);
}

static void
test_listing_is_wrong(void)
{
    static const char *const wrong[] = {
        "", "[", "{}", "<html>", "[{\"name\":\"" ID_A "\"}]", "[{\"name\":\"" ID_A "\",\"size\":-1}]",
        "[{\"name\":\"" ID_A "\",\"size\":1e3}]", "[{\"name\":\"" ID_A "\",\"size\":18446744073709551616}]",
        "[{\"name\":\"" ID_A "\",\"size\":1}] []", "[\"" ID_A "\"]", "[[{}]]", "[{\"name\":{\"a\":1}}]",
    };

    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(parse(wrong[i], true, &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, "the server's listing"));
    }
}

/* A URL is told without user and password, also one that cannot be parsed. */
static void
test_location_text(void)
{
    static const struct {
        const char *location, *text;
    } cases[] = {
        { "/srv/backup", "/srv/backup" },
        { "local:/srv/a@b", "local:/srv/a@b" },
        { "rest:http://host/", "rest:http://host/" },
        { "rest:https://host:8000", "rest:https://host:8000/" },
        { "rest:https://me@host/a/b", "rest:https://host/a/b/" },
        { "rest:https://me:secret@host:8000/a/", "rest:https://host:8000/a/" },
        { "rest:https://me:sec%40ret@[::1]:8000/a/", "rest:https://[::1]:8000/a/" },
        { "rest:https://host/a@b/", "rest:https://host/a@b/" },
        { "rest:https://host/a b", "rest:https://host/a%20b/" },
        { "rest:https://host/a\r\nHost: b", "rest:https://host/a%0D%0AHost:%20b/" },
        { "rest:https://me:sec/ret@host:8000/", "rest:...@host:8000/" },
        { "rest:https://me:sec@ret@host:no/", "rest:...@host:no/" },
        { "rest:ftp://me:secret@host/", "rest:...@host/" },
        { "rest:http://me:secret@host/?x", "rest:...@host/?x" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = kvss_repository_location_text(cases[i].location);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

/* Refused before anybody is asked, and without a word of the password. */
static void
test_location_is_wrong(void)
{
    static const char *const wrong[] = {
        "rest:", "rest:host", "rest:http://", "rest:http:///a", "rest:ftp://host/", "rest:/srv/backup",
        "rest:http://me:secret@host:port/", "rest:http://me:secret@host/?a=b", "rest:http://me:secret@host/#a",
        "rest:http://me:sec%zz@host/",
    };

    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(kvss_backend_open(wrong[i], &error));
        g_assert_error(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING);
        g_assert_nonnull(strstr(error->message, "this URL is none"));
        g_assert_null(strstr(error->message, "sec"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rest/listing", test_listing);
    g_test_add_func("/rest/listing-of-old-servers", test_listing_of_old_servers);
    g_test_add_func("/rest/listing-is-wrong", test_listing_is_wrong);
    g_test_add_func("/rest/location-text", test_location_text);
    g_test_add_func("/rest/location-is-wrong", test_location_is_wrong);
    return g_test_run();
}
