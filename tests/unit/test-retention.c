/*
 * test-retention.c - which backups stay, case by case
 *
 * A case is a list of backups "TIME [VM...] [#TAG...]", rules, and what stays: the
 * places in the list, counted from 0, with the rules that keep them.
 */
#include "retention/retention.h"

#include <string.h>

/* 2030: behind every backup of the cases. */
static GDateTime *
now(void)
{
    return g_date_time_new_utc(2030, 1, 1, 0, 0, 0);
}

typedef struct {
    GPtrArray *backups; /* KvssRetentionBackup */
    GPtrArray *words;   /* char**: of each line; what backups borrow */
    GPtrArray *ids;
} Sets;

static void
sets_free(Sets *sets)
{
    g_ptr_array_unref(sets->backups);
    g_ptr_array_unref(sets->words);
    g_ptr_array_unref(sets->ids);
    g_free(sets);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sets, sets_free)

static void
sets_add(Sets *sets, const char *line)
{
    char **words = g_strsplit(line, " ", -1);
    g_autoptr(GStrvBuilder) members = g_strv_builder_new(), names = g_strv_builder_new();
    GPtrArray *tags = g_ptr_array_new();
    char *id = g_strdup_printf("%03u", sets->backups->len);

    for (char **word = words + 1; *word; word++) {
        g_autofree char *name = g_ascii_strup(*word, -1);

        if (**word == '#') {
            g_ptr_array_add(tags, *word + 1);
            continue;
        }
        g_strv_builder_add(members, *word);
        g_strv_builder_add(names, name);
    }
    g_ptr_array_add(tags, NULL);
    g_ptr_array_add(sets->words, words);
    g_ptr_array_add(sets->ids, id);
    g_ptr_array_add(sets->ids, tags->pdata);
    g_ptr_array_add(sets->backups,
                    kvss_retention_backup_new(id, words[0], (const char *const *) tags->pdata,
                                              g_strv_builder_end(members),
                                              g_strv_builder_end(names)));
    (void) g_ptr_array_free(tags, FALSE);
    g_assert_nonnull(g_ptr_array_index(sets->backups, sets->backups->len - 1));
}

static Sets *
sets_new(const char *lines)
{
    Sets *sets = g_new(Sets, 1);
    g_auto(GStrv) each = g_strsplit(lines, "\n", -1);

    sets->backups = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_retention_backup_free);
    sets->words = g_ptr_array_new_with_free_func((GDestroyNotify) g_strfreev);
    sets->ids = g_ptr_array_new_with_free_func(g_free);
    for (char **line = each; *line; line++)
        if (**line)
            sets_add(sets, *line);
    return sets;
}

/* "0:daily+last 2:last/WEB": what stays, and why. */
static char *
result_text(const Sets *sets)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < sets->backups->len; i++) {
        const KvssRetentionBackup *backup = g_ptr_array_index(sets->backups, i);

        for (guint n = 0; n < backup->reasons->len; n++) {
            const KvssRetentionReason *reason = g_ptr_array_index(backup->reasons, n);

            if (n == 0)
                g_string_append_printf(text, "%s%u:", text->len ? " " : "", i);
            g_string_append_printf(text, "%s%s%s%s", n ? "+" : "", reason->rule,
                                   reason->member ? "/" : "",
                                   reason->member ? reason->member : "");
        }
    }
    return g_string_free(text, FALSE);
}

static KvssPolicy *
policy_of(const char *rules)
{
    g_auto(GStrv) words = g_strsplit(rules, " ", -1);
    KvssPolicy *policy = kvss_policy_new();

    for (char **word = words; *word; word++) {
        g_auto(GStrv) parts = g_strsplit(*word, "=", 2);
        g_autofree char *name = g_strconcat("keep-", parts[0], NULL);
        g_autoptr(GError) error = NULL;

        g_assert_true(kvss_policy_set(policy, name, parts[1], &error));
    }
    return policy;
}

static void
check(KvssRetentionGroup group, const char *lines, const char *rules, const char *wanted)
{
    g_autoptr(Sets) sets = sets_new(lines);
    g_autoptr(KvssPolicy) policy = policy_of(rules);
    g_autoptr(GDateTime) today = now();
    g_autofree char *found = NULL;

    kvss_retention_apply(policy, sets->backups, group, today);
    found = result_text(sets);
    g_assert_cmpstr(found, ==, wanted);
}

#define by_set(lines, rules, wanted) check(KVSS_GROUP_BY_SET, lines, rules, wanted)
#define by_vm(lines, rules, wanted) check(KVSS_GROUP_BY_VM, lines, rules, wanted)

static void
test_counts(void)
{
    static const char five[] = "2024-05-01T10:00:00Z\n2024-05-01T10:30:00Z\n2024-05-01T11:00:00Z\n"
                               "2024-05-02T00:00:00Z\n2024-06-01T10:00:00Z";

    by_set(five, "last=1", "4:last");
    by_set(five, "last=2", "3:last 4:last");
    by_set(five, "last=unlimited", "0:last 1:last 2:last 3:last 4:last");
    by_set(five, "hourly=3", "2:hourly 3:hourly 4:hourly");
    by_set(five, "hourly=9", "1:hourly 2:hourly 3:hourly 4:hourly");
    by_set(five, "daily=2", "3:daily 4:daily");
    by_set(five, "daily=9", "2:daily 3:daily 4:daily");
    by_set(five, "monthly=9", "3:monthly 4:monthly");
    by_set(five, "yearly=9", "4:yearly");
    by_set(five, "last=1 daily=2", "3:daily 4:last+daily");
    by_set("", "last=1", "");
}

/* The order in which they are given does not matter; of equal times the id decides. */
static void
test_order(void)
{
    by_set("2024-05-02T10:00:00Z\n2024-05-01T10:00:00Z\n2024-05-03T10:00:00Z", "last=2",
           "0:last 2:last");
    by_set("2024-05-02T10:00:00Z\n2024-05-02T10:00:00Z", "last=1", "0:last");
    by_set("2024-05-02T10:00:00.2Z\n2024-05-02T10:00:00.3Z", "last=1", "1:last");
}

/* Weeks are ISO's: Monday to Sunday, and the first of a year has its first Thursday. */
static void
test_weeks(void)
{
    by_set("2024-12-29T12:00:00Z\n2024-12-30T12:00:00Z\n2025-01-01T12:00:00Z", "weekly=9",
           "0:weekly 2:weekly");
    by_set("2020-12-31T12:00:00Z\n2021-01-03T12:00:00Z\n2021-01-04T12:00:00Z", "weekly=9",
           "1:weekly 2:weekly");
    /* week 1 of 2024 and week 1 of 2025 are two */
    by_set("2024-01-03T12:00:00Z\n2024-12-31T12:00:00Z", "weekly=9", "0:weekly 1:weekly");
    by_set("2024-01-03T12:00:00Z\n2024-12-31T12:00:00Z", "yearly=9", "1:yearly");
}

/* A day is one of the clock that the time names. */
static void
test_zones(void)
{
    by_set("2024-05-01T23:30:00Z\n2024-05-02T00:30:00Z", "daily=9", "0:daily 1:daily");
    by_set("2024-05-02T01:30:00+02:00\n2024-05-02T02:30:00+02:00", "daily=9", "1:daily");
    by_set("2024-05-01T19:30:00-04:00\n2024-05-01T20:30:00-04:00", "daily=9", "1:daily");
    /* the hour that a clock goes through twice: the same hour of it */
    by_set("2024-10-27T02:30:00+02:00\n2024-10-27T02:30:00+01:00", "hourly=9", "1:hourly");
    by_set("2024-10-27T02:30:00+02:00\n2024-10-27T02:30:00+01:00", "last=1", "1:last");
    by_set("2024-02-28T12:00:00Z\n2024-02-29T12:00:00Z\n2024-03-01T12:00:00Z", "daily=2",
           "1:daily 2:daily");
}

static void
test_within(void)
{
    /* counted from the newest, which always stays; its edge goes */
    by_set("2024-05-01T10:00:00Z\n2024-05-01T10:00:01Z\n2024-05-03T10:00:00Z", "within=2d",
           "1:within 2d 2:within 2d");
    by_set("2024-05-03T08:00:00Z\n2024-05-03T09:30:00Z\n2024-05-03T10:00:00Z", "within=1h",
           "1:within 1h 2:within 1h");
    /* a month before 31 May is 1 May: there is no 31 April */
    by_set("2024-05-01T10:00:00Z\n2024-05-01T10:00:01Z\n2024-05-31T10:00:00Z", "within=1m",
           "1:within 1m 2:within 1m");
    /* a year before 29 February is 1 March */
    by_set("2023-03-01T10:00:00Z\n2023-03-01T10:00:01Z\n2024-02-29T10:00:00Z", "within=1y",
           "1:within 1y 2:within 1y");
    by_set("2021-12-01T10:00:00Z\n2024-01-15T10:00:00Z", "within=2y1m14d", "1:within 2y1m14d");
    by_set("2021-12-01T10:00:01Z\n2024-01-15T10:00:00Z", "within=2y1m14d",
           "0:within 2y1m14d 1:within 2y1m14d");
    /* longer than there are dates: all stay */
    by_set("2021-12-01T10:00:01Z\n2024-01-15T10:00:00Z", "within=99999y",
           "0:within 99999y 1:within 99999y");
    /* what is of the future is no start, but within it */
    by_set("2024-05-01T10:00:00Z\n2024-05-02T10:00:00Z\n2031-01-01T00:00:00Z", "within=1h",
           "1:within 1h 2:within 1h");
    by_set("2031-05-01T10:00:00Z\n2032-01-01T00:00:00Z", "within=1h", "0:within 1h 1:within 1h");
}

static void
test_tags(void)
{
    static const char three[] = "2024-05-01T10:00:00Z #a #b\n2024-05-02T10:00:00Z #a\n"
                                "2024-05-03T10:00:00Z";

    by_set(three, "tag=a", "0:tag a 1:tag a");
    by_set(three, "tag=a,b", "0:tag a,b");
    by_set(three, "tag=b tag=c last=1", "0:tag b 2:last");
    by_set(three, "tag=c", "");
}

static void
test_groups(void)
{
    static const char mixed[] = "2024-05-01T10:00:00Z web db\n2024-05-02T10:00:00Z web\n"
                                "2024-05-03T10:00:00Z web\n2024-05-04T10:00:00Z mail";

    by_vm(mixed, "last=1", "0:last/DB 2:last/WEB 3:last/MAIL");
    by_set(mixed, "last=1", "0:last 2:last 3:last");
    by_vm(mixed, "daily=2", "0:daily/DB 1:daily/WEB 2:daily/WEB 3:daily/MAIL");
    /* equal sets, whatever order they name their VMs in */
    by_set("2024-05-01T10:00:00Z web db\n2024-05-02T10:00:00Z db web", "last=1", "1:last");
    by_vm("2024-05-01T10:00:00Z web db\n2024-05-02T10:00:00Z db web", "last=1",
          "1:last/DB+last/WEB");
    /* sets without any VM are a group of their own */
    by_vm("2024-05-01T10:00:00Z\n2024-05-02T10:00:00Z\n2024-05-03T10:00:00Z web", "last=1",
          "1:last 2:last/WEB");
    /* "within" counts from the newest of the VM, not of all */
    by_vm("2024-01-01T10:00:00Z old\n2024-01-02T10:00:00Z old\n2024-05-03T10:00:00Z web",
          "within=1h", "1:within 1h/OLD 2:within 1h/WEB");
}

static bool
has_no_reason(const KvssRetentionBackup *backup, gpointer data)
{
    return backup->reasons->len == 0;
}

static char *
lost_with(const char *lines, const char *rules)
{
    g_autoptr(Sets) sets = sets_new(lines);
    g_autoptr(KvssPolicy) policy = policy_of(rules);
    g_autoptr(GDateTime) today = now();
    g_auto(GStrv) lost = NULL;

    kvss_retention_apply(policy, sets->backups, KVSS_GROUP_BY_VM, today);
    lost = kvss_retention_lost(sets->backups, has_no_reason, NULL);
    return g_strjoinv(" ", lost);
}

static void
test_lost(void)
{
    static const char lines[] = "2024-05-01T10:00:00Z web db #a\n2024-05-02T10:00:00Z web mail\n"
                                "2024-05-03T10:00:00Z web mail";
    g_autofree char *none = lost_with(lines, "last=1"), *some = lost_with(lines, "tag=a"),
                    *all = lost_with(lines, "tag=b");

    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(some, ==, "MAIL");
    g_assert_cmpstr(all, ==, "DB MAIL WEB");
}

static void
test_policy(void)
{
    static const char *const wrong[][2] = {
        { "keep-last", "" },        { "keep-last", "-1" },   { "keep-last", "7d" },
        { "keep-last", "1000001" }, { "keep-within", "" },   { "keep-within", "7" },
        { "keep-within", "d" },     { "keep-within", "0d" }, { "keep-within", "1d1d" },
        { "keep-within", "1w" },    { "keep-within", "-1d" }, { "keep-within", "999999y" },
        { "keep-tag", "" },         { "keep-tag", "a,,b" },  { "keep-dayly", "1" },
        { "last", "1" },            { "keep-", "1" },
    };
    g_autoptr(KvssPolicy) policy = kvss_policy_new();

    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%s=%s", wrong[i][0], wrong[i][1]);
        g_assert_false(kvss_policy_set(policy, wrong[i][0], wrong[i][1], &error));
        g_assert_error(error, KVSS_RETENTION_ERROR, KVSS_RETENTION_ERROR_VALUE);
    }
    g_assert_true(kvss_policy_is_empty(policy));
    g_assert_true(kvss_policy_set(policy, "keep-daily", "0", NULL));
    g_assert_true(kvss_policy_is_empty(policy));
    g_assert_true(kvss_policy_set(policy, "keep-within", "2y5m7d3h", NULL));
    g_assert_false(kvss_policy_is_empty(policy));
    g_assert_cmpuint(policy->within.months, ==, 5);
    g_assert_null(kvss_retention_backup_new("x", "yesterday", NULL, g_new0(char *, 1),
                                            g_new0(char *, 1)));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/retention/counts", test_counts);
    g_test_add_func("/retention/order", test_order);
    g_test_add_func("/retention/weeks", test_weeks);
    g_test_add_func("/retention/zones", test_zones);
    g_test_add_func("/retention/within", test_within);
    g_test_add_func("/retention/tags", test_tags);
    g_test_add_func("/retention/groups", test_groups);
    g_test_add_func("/retention/lost", test_lost);
    g_test_add_func("/retention/policy", test_policy);
    return g_test_run();
}
