/*
 * retention.c - which backups stay?
 */
#include "retention/retention.h"

#include <string.h>

static void
reason_free(gpointer data)
{
    KvssRetentionReason *reason = data;

    g_free(reason->rule);
    g_free(reason);
}

KvssRetentionBackup *
kvss_retention_backup_new(const char *id, const char *time, const char *const *tags,
                          char **members, char **names)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_iso8601(time, NULL);
    KvssRetentionBackup *backup;

    if (!date) {
        g_strfreev(members);
        g_strfreev(names);
        return NULL;
    }
    backup = g_new0(KvssRetentionBackup, 1);
    backup->id = id;
    backup->time = time;
    backup->tags = tags;
    backup->members = members;
    backup->names = names;
    backup->date = g_steal_pointer(&date);
    backup->reasons = g_ptr_array_new_with_free_func(reason_free);
    return backup;
}

void
kvss_retention_backup_free(KvssRetentionBackup *backup)
{
    if (!backup)
        return;
    g_strfreev(backup->members);
    g_strfreev(backup->names);
    g_ptr_array_unref(backup->reasons);
    g_date_time_unref(backup->date);
    g_free(backup);
}

/* ---- times ---- */

/* Two times with the same number are in the same hour, day, ...; @at: the backup's place in its group. */
static int64_t
period_of(KvssKeep rule, GDateTime *date, guint at)
{
    int year, month, day;

    g_date_time_get_ymd(date, &year, &month, &day);
    switch (rule) {
    case KVSS_KEEP_HOURLY:
        return ((year * 100L + month) * 100 + day) * 100 + g_date_time_get_hour(date);
    case KVSS_KEEP_DAILY:
        return (year * 100L + month) * 100 + day;
    case KVSS_KEEP_WEEKLY:
        return g_date_time_get_week_numbering_year(date) * 100L
            + g_date_time_get_week_of_year(date);
    case KVSS_KEEP_MONTHLY:
        return year * 100L + month;
    case KVSS_KEEP_YEARLY:
        return year;
    case KVSS_KEEP_LAST:
    case KVSS_KEEP_N:
        break;
    }
    return at;
}

/*
 * The clock to count back by. As Go reads a time: one that is "Z" is UTC's; one
 * with an offset that this host's clock has at that time is this host's, with its
 * summer time; any other has just that offset.
 */
static GTimeZone *
clock_of(const KvssRetentionBackup *backup)
{
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    g_autoptr(GDateTime) here = g_date_time_to_timezone(backup->date, local);

    if (!g_str_has_suffix(backup->time, "Z") && here
        && g_date_time_get_utc_offset(here) == g_date_time_get_utc_offset(backup->date))
        return g_steal_pointer(&local);
    return g_time_zone_ref(g_date_time_get_timezone(backup->date));
}

/* A day of the month that there is not runs over into the next: a month before 31 October is 1 October. */
static GDateTime *
go_back(const KvssRetentionBackup *from, const KvssCalendarSpan *span)
{
    g_autoptr(GTimeZone) zone = clock_of(from);
    g_autoptr(GDateTime) date = g_date_time_to_timezone(from->date, zone);
    g_autoptr(GDateTime) first = NULL, day = NULL;
    int64_t months = g_date_time_get_year(date) * 12L + g_date_time_get_month(date) - 1
        - span->years * 12L - span->months;

    if (months < 12)
        return NULL;
    first = g_date_time_new(zone, (gint) (months / 12), (gint) (months % 12) + 1, 1,
                            g_date_time_get_hour(date), g_date_time_get_minute(date),
                            g_date_time_get_seconds(date));
    day = first ? g_date_time_add_days(first, g_date_time_get_day_of_month(date) - 1
                                                  - (gint) span->days)
                : NULL;
    return day ? g_date_time_add_hours(day, -(gint) span->hours) : NULL;
}

/* ---- one group ---- */

static gint
compare_age(gconstpointer a, gconstpointer b)
{
    const KvssRetentionBackup *one = *(KvssRetentionBackup *const *) a;
    const KvssRetentionBackup *two = *(KvssRetentionBackup *const *) b;
    int order = g_date_time_compare(two->date, one->date);

    return order ? order : strcmp(one->id, two->id);
}

/* @rule is taken. */
static void
keep(KvssRetentionBackup *backup, char *rule, const char *member)
{
    KvssRetentionReason *reason = g_new(KvssRetentionReason, 1);

    *reason = (KvssRetentionReason) { rule, member };
    g_ptr_array_add(backup->reasons, reason);
}

/* A group, the newest first, and for each backup in it the name by which the group knows itself there. */
typedef struct {
    GPtrArray *backups; /* KvssRetentionBackup, borrowed */
    const char *key;    /* a member, or NULL: by set */
} Group;

static const char *
name_in(const Group *group, const KvssRetentionBackup *backup)
{
    for (guint i = 0; group->key && backup->members[i]; i++)
        if (strcmp(backup->members[i], group->key) == 0)
            return backup->names[i];
    return NULL;
}

static void
apply_count(const Group *group, KvssKeep rule, unsigned count)
{
    int64_t last = -1;

    for (guint i = 0; i < group->backups->len && count > 0; i++) {
        KvssRetentionBackup *backup = g_ptr_array_index(group->backups, i);
        int64_t period = period_of(rule, backup->date, i);

        if (period == last)
            continue;
        keep(backup, g_strdup(kvss_keep_name(rule)), name_in(group, backup));
        last = period;
        count--;
    }
}

/* The newest that is not of the future; NULL when all are. */
static KvssRetentionBackup *
newest(const Group *group, GDateTime *now)
{
    for (guint i = 0; i < group->backups->len; i++) {
        KvssRetentionBackup *backup = g_ptr_array_index(group->backups, i);

        if (g_date_time_compare(backup->date, now) < 0)
            return backup;
    }
    return NULL;
}

static void
apply_within(const Group *group, const KvssPolicy *policy, GDateTime *now)
{
    KvssRetentionBackup *start = newest(group, now);
    g_autoptr(GDateTime) limit = start ? go_back(start, &policy->within) : NULL;

    for (guint i = 0; i < group->backups->len; i++) {
        KvssRetentionBackup *backup = g_ptr_array_index(group->backups, i);

        if (!limit || g_date_time_compare(backup->date, limit) > 0)
            keep(backup, g_strdup_printf("within %s", policy->within_text),
                 name_in(group, backup));
    }
}

static void
apply_group(const Group *group, const KvssPolicy *policy, GDateTime *now)
{
    g_ptr_array_sort(group->backups, compare_age);
    for (int rule = 0; rule < KVSS_KEEP_N; rule++)
        apply_count(group, (KvssKeep) rule, policy->keep[rule]);
    if (policy->within_text)
        apply_within(group, policy, now);
}

/* ---- all groups ---- */

static gint
compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* What the backup holds, as one text: the same for sets that hold the same. */
static char *
set_key(const KvssRetentionBackup *backup)
{
    g_auto(GStrv) sorted = g_strdupv(backup->members);

    qsort(sorted, g_strv_length(sorted), sizeof *sorted, compare_strings);
    return g_strjoinv("\n", sorted);
}

/* @key is taken. */
static void
add_to_group(GHashTable *groups, char *key, KvssRetentionBackup *backup)
{
    GPtrArray *group = g_hash_table_lookup(groups, key);

    if (!group) {
        group = g_ptr_array_new();
        g_hash_table_insert(groups, key, group);
    } else {
        g_free(key);
    }
    g_ptr_array_add(group, backup);
}

static GHashTable *
make_groups(const GPtrArray *backups, KvssRetentionGroup by)
{
    GHashTable *groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                               (GDestroyNotify) g_ptr_array_unref);

    for (guint i = 0; i < backups->len; i++) {
        KvssRetentionBackup *backup = g_ptr_array_index(backups, i);

        if (by == KVSS_GROUP_BY_SET || !backup->members[0])
            add_to_group(groups, set_key(backup), backup);
        else
            for (char **member = backup->members; *member; member++)
                add_to_group(groups, g_strdup(*member), backup);
    }
    return groups;
}

/* A backup has its tags whatever group it is in: told once. */
static void
apply_tags(const KvssPolicy *policy, KvssRetentionBackup *backup)
{
    for (guint i = 0; i < policy->tags->len; i++) {
        char **wanted = g_ptr_array_index(policy->tags, i);
        bool has_all = true;

        for (char **tag = wanted; *tag; tag++)
            has_all &= backup->tags && g_strv_contains(backup->tags, *tag);
        if (has_all) {
            g_autofree char *list = g_strjoinv(",", wanted);

            keep(backup, g_strdup_printf("tag %s", list), NULL);
        }
    }
}

void
kvss_retention_apply(const KvssPolicy *policy, const GPtrArray *backups,
                     KvssRetentionGroup by, GDateTime *now)
{
    g_autoptr(GHashTable) groups = make_groups(backups, by);
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(groups), (GCompareFunc) strcmp);

    for (guint i = 0; i < backups->len; i++)
        apply_tags(policy, g_ptr_array_index(backups, i));
    for (GList *key = keys; key; key = key->next) {
        Group group = { g_hash_table_lookup(groups, key->data),
                        by == KVSS_GROUP_BY_VM ? key->data : NULL };

        apply_group(&group, policy, now);
    }
}

char **
kvss_retention_lost(const GPtrArray *backups,
                    bool (*goes)(const KvssRetentionBackup *backup, gpointer data), gpointer data)
{
    g_autoptr(GHashTable) stay = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *lost = g_ptr_array_new();

    for (int pass = 0; pass < 2; pass++)
        for (guint i = 0; i < backups->len; i++) {
            const KvssRetentionBackup *backup = g_ptr_array_index(backups, i);
            bool is_leaving = goes(backup, data);

            for (guint n = 0; backup->members[n]; n++) {
                if (pass == 0 && !is_leaving)
                    g_hash_table_add(stay, backup->members[n]);
                if (pass == 1 && is_leaving && !g_hash_table_contains(stay, backup->members[n])
                    && g_hash_table_add(told, backup->members[n]))
                    g_ptr_array_add(lost, g_strdup(backup->names[n]));
            }
        }
    g_ptr_array_sort(lost, compare_strings);
    g_ptr_array_add(lost, NULL);
    return (char **) g_ptr_array_free(lost, FALSE);
}
