/*
 * test-summary.c - the sets in short: the same with and without the cache, and what the cache saves
 *
 * What is saved is shown by taking away what need not be read any more.
 */
#include "catalogue/summary.h"
#include "repository-fixture.h"

#include <stdio.h>
#include <string.h>

#define N_SETS 5u

/* A set of two VMs that share a name with the set's number, and one component of another writer. */
static void
add_set(Fixture *f, unsigned number, char out_id[KVSS_ID_HEX_LENGTH + 1])
{
    g_autoptr(KvssComponent) web = kvss_component_new("5f0c6b0a-7a44-4d4c-9d57-30f1a2d6a001", "web");
    g_autofree char *uuid = g_strdup_printf("5f0c6b0a-7a44-4d4c-9d57-0000000000%02u", number);
    g_autofree char *name = g_strdup_printf("db-%u \xc3\xa4", number);
    g_autoptr(KvssComponent) db = kvss_component_new(uuid, name);
    g_autoptr(KvssComponent) own = kvss_component_new("orders", "orders");
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(GBytes) text = NULL;

    manifest->set_id = g_strdup_printf("0b7e5d7a-53b8-4e0c-8d5e-0000000000%02u", number);
    manifest->program = g_strdup("test");
    manifest->host = g_strdup("kvm1");
    manifest->time_us = G_GINT64_CONSTANT(1800000000123456) + number;
    manifest->size = 1000 + number;
    (void) kvss_manifest_add(manifest, web, NULL);
    (void) kvss_manifest_add(manifest, db, NULL);
    (void) kvss_manifest_add(manifest, own, "11111111-2222-3333-4444-555555555555");
    text = kvss_manifest_to_json(manifest);
    fixture_backup(f, out_id, KVSS_MANIFEST_NAME, text, NULL);
}

static Fixture *
fixture_with_sets(void)
{
    char id[KVSS_ID_HEX_LENGTH + 1];
    Fixture *f = fixture_new();

    for (unsigned i = 0; i < N_SETS; i++)
        add_set(f, i, id);
    return f;
}

static void
count_problem(const char *snapshot_id, const GError *problem, gpointer data)
{
    ++*(unsigned *) data;
}

static void
append_members(GString *text, const GPtrArray *members)
{
    for (guint i = 0; i < members->len; i++) {
        const KvssSummaryMember *member = g_ptr_array_index(members, i);

        g_string_append_printf(text, " %s=%s", member->name, member->display_name);
    }
}

/* Everything that the summaries say, a line each; free with g_free. */
static char *
list(Fixture *f, unsigned *out_n_problems)
{
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) summaries
        = kvss_catalogue_summaries(repository, count_problem, out_n_problems, &error);
    GString *text = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < summaries->len; i++) {
        const KvssSummary *summary = g_ptr_array_index(summaries, i);

        g_string_append_printf(text, "%s %s %s %s %" G_GINT64_FORMAT " %" G_GUINT64_FORMAT,
                               summary->snapshot->id, summary->snapshot->time, summary->set_id,
                               summary->host, summary->time_us, summary->size);
        append_members(text, summary->vms);
        g_string_append(text, " |");
        append_members(text, summary->components);
        g_string_append_c(text, '\n');
    }
    return g_string_free(text, FALSE);
}

/* The same, and all of it must be well. */
static char *
list_well(Fixture *f)
{
    unsigned n_problems = 0;
    char *text = list(f, &n_problems);

    g_assert_cmpuint(n_problems, ==, 0);
    return text;
}

/* The cache file of the one repository there is. */
static char *
cache_file(Fixture *f)
{
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_LOOK);

    return g_build_filename(kvss_repository_cache_dir(repository), "sets", NULL);
}

static void
move(Fixture *f, const char *from, const char *to)
{
    g_autofree char *one = g_build_filename(f->location, from, NULL);
    g_autofree char *two = g_build_filename(f->location, to, NULL);

    g_assert_cmpint(rename(one, two), ==, 0);
}

static unsigned
count_lines(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* The second list reads neither an index file nor a pack: there are none. */
static void
test_reads_nothing_again(void)
{
    g_autoptr(Fixture) f = fixture_with_sets();
    g_autofree char *first = list_well(f), *again = NULL, *without = NULL, *path = cache_file(f);

    g_assert_cmpuint(count_lines(first), ==, N_SETS);
    g_assert_nonnull(strstr(first, "db-3 \xc3\xa4"));
    g_assert_nonnull(strstr(first, "| orders=orders"));

    move(f, "data", "data.away");
    move(f, "index", "index.away");
    again = list_well(f);
    g_assert_cmpstr(again, ==, first);
    move(f, "data.away", "data");
    move(f, "index.away", "index");

    g_assert_cmpint(remove(path), ==, 0);
    without = list_well(f);
    g_assert_cmpstr(without, ==, first);
}

/* Only what is new is read; what is gone is forgotten. */
static void
test_new_and_gone(void)
{
    g_autoptr(Fixture) f = fixture_with_sets();
    g_autofree char *path = cache_file(f), *before = list_well(f), *more = NULL, *fewer = NULL;
    g_autofree char *content = NULL, *snapshot = NULL, *smaller = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];
    gsize length, smaller_length;

    add_set(f, 77, id);
    more = list_well(f);
    g_assert_true(g_str_has_prefix(more, before));
    g_assert_nonnull(strstr(more, "db-77"));
    g_assert_true(g_file_get_contents(path, &content, &length, NULL));

    snapshot = g_build_filename(f->location, "snapshots", id, NULL);
    g_assert_cmpint(remove(snapshot), ==, 0);
    fewer = list_well(f);
    g_assert_cmpstr(fewer, ==, before);
    g_assert_true(g_file_get_contents(path, &smaller, &smaller_length, NULL));
    g_assert_cmpuint(smaller_length, <, length);
}

/* A cache that was changed is as good as none, whichever byte it is; so is what another layout left. */
static void
test_damaged_cache(void)
{
    g_autoptr(Fixture) f = fixture_with_sets();
    g_autofree char *first = list_well(f), *path = cache_file(f);
    static const gint64 offsets[] = { 0, 7, 8, 39, 40, 80, -1 };

    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        g_autofree char *again = NULL;

        fixture_flip(path, offsets[i]);
        again = list_well(f);
        g_assert_cmpstr(again, ==, first);
    }
    g_assert_true(g_file_set_contents(path, "kvsssum1", 8, NULL));
    g_free(list_well(f));
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_free(list_well(f));
}

/* What is no set, or a broken one, is told each time and never remembered as something else. */
static void
test_problems_stay(void)
{
    g_autoptr(Fixture) f = fixture_with_sets();
    g_autoptr(GBytes) broken = g_bytes_new_static("{\"schema\":", 10);
    g_autoptr(GBytes) letter = g_bytes_new_static("no set", 6);
    char id[KVSS_ID_HEX_LENGTH + 1];

    fixture_backup(f, id, KVSS_MANIFEST_NAME, broken, NULL);
    fixture_backup(f, id, "letter", letter, NULL);
    for (unsigned i = 0; i < 3; i++) {
        unsigned n_problems = 0;
        g_autofree char *text = list(f, &n_problems);

        g_assert_cmpuint(n_problems, ==, 1);
        g_assert_cmpuint(count_lines(text), ==, N_SETS);
    }
}

static void
test_newest_and_load(void)
{
    g_autoptr(Fixture) f = fixture_with_sets();
    g_autoptr(KvssRepository) repository = fixture_open(f, KVSS_REPOSITORY_LOOK);
    g_autoptr(GPtrArray) summaries = kvss_catalogue_summaries(repository, NULL, NULL, NULL);
    g_autoptr(KvssBackup) backup = NULL;
    g_autoptr(GError) error = NULL;
    KvssSummary *web = kvss_summary_newest_of(summaries, "5F0C6B0A-7a44-4d4c-9d57-30f1a2d6a001");

    g_assert_true(web == g_ptr_array_index(summaries, N_SETS - 1));
    g_assert_true(kvss_summary_newest_of(summaries, "5f0c6b0a-7a44-4d4c-9d57-000000000002")
                  == g_ptr_array_index(summaries, 2));
    g_assert_null(kvss_summary_newest_of(summaries, "orders"));
    backup = kvss_summary_load(repository, web, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(backup->manifest->set_id, ==, web->set_id);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/summary/reads-nothing-again", test_reads_nothing_again);
    g_test_add_func("/summary/new-and-gone", test_new_and_gone);
    g_test_add_func("/summary/damaged-cache", test_damaged_cache);
    g_test_add_func("/summary/problems-stay", test_problems_stay);
    g_test_add_func("/summary/newest-and-load", test_newest_and_load);
    return g_test_run();
}
