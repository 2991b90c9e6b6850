/*
 * policy.c - the rules by which backups stay
 */
#include "retention/policy.h"

#include <limits.h>
#include <string.h>

G_DEFINE_QUARK(kvss-retention-error-quark, kvss_retention_error)

#define wrong(error, ...) \
    kvss_throw(error, KVSS_RETENTION_ERROR, KVSS_RETENTION_ERROR_VALUE, __VA_ARGS__)

/* More than anybody has backups, or years: what is added up of them stays a date. */
#define COUNT_MAX 1000000u
#define SPAN_MAX 100000u

static const char *const names[KVSS_KEEP_N] = {
    [KVSS_KEEP_LAST] = "last",     [KVSS_KEEP_HOURLY] = "hourly",
    [KVSS_KEEP_DAILY] = "daily",   [KVSS_KEEP_WEEKLY] = "weekly",
    [KVSS_KEEP_MONTHLY] = "monthly", [KVSS_KEEP_YEARLY] = "yearly",
};

const char *
kvss_keep_name(KvssKeep rule)
{
    return names[rule];
}

KvssPolicy *
kvss_policy_new(void)
{
    KvssPolicy *policy = g_new0(KvssPolicy, 1);

    policy->tags = g_ptr_array_new_with_free_func((GDestroyNotify) g_strfreev);
    return policy;
}

void
kvss_policy_free(KvssPolicy *policy)
{
    if (!policy)
        return;
    g_free(policy->within_text);
    g_ptr_array_unref(policy->tags);
    g_free(policy);
}

bool
kvss_policy_is_empty(const KvssPolicy *policy)
{
    for (int i = 0; i < KVSS_KEEP_N; i++)
        if (policy->keep[i] > 0)
            return false;
    return !policy->within_text && policy->tags->len == 0;
}

static bool
set_count(unsigned *count, const char *name, const char *value, GError **error)
{
    guint64 number;

    if (strcmp(value, "unlimited") == 0) {
        *count = UINT_MAX;
        return true;
    }
    if (!g_ascii_string_to_unsigned(value, 10, 0, COUNT_MAX, &number, NULL))
        return wrong(error, "%s is '%s', not a number of backups or 'unlimited'", name, value);
    *count = (unsigned) number;
    return true;
}

static unsigned *
span_part(KvssCalendarSpan *span, char unit)
{
    switch (unit) {
    case 'y': return &span->years;
    case 'm': return &span->months;
    case 'd': return &span->days;
    case 'h': return &span->hours;
    default: return NULL;
    }
}

/* "2y5m7d3h", any of them, each once. */
static bool
span_parse(const char *text, KvssCalendarSpan *out_span)
{
    KvssCalendarSpan span = { 0 };
    const char *at = text;

    while (*at) {
        size_t digits = strspn(at, "0123456789");
        g_autofree char *number = g_strndup(at, digits);
        unsigned *part = span_part(&span, at[digits]);
        guint64 value;

        if (!part || *part > 0
            || !g_ascii_string_to_unsigned(number, 10, 0, SPAN_MAX, &value, NULL))
            return false;
        *part = (unsigned) value;
        at += digits + 1;
    }
    if (span.years + span.months + span.days + span.hours == 0)
        return false;
    *out_span = span;
    return true;
}

static bool
set_within(KvssPolicy *policy, const char *value, GError **error)
{
    if (!span_parse(value, &policy->within))
        return wrong(error, "keep-within is '%s', not a time such as 2y5m7d3h (years, months, "
                     "days, hours)", value);
    g_free(policy->within_text);
    policy->within_text = g_strdup(value);
    return true;
}

static bool
add_tags(KvssPolicy *policy, const char *value, GError **error)
{
    g_auto(GStrv) tags = g_strsplit(value, ",", -1);

    for (char **tag = tags; *tag; tag++)
        if (!*g_strstrip(*tag))
            return wrong(error, "keep-tag is '%s': a tag in it is empty", value);
    if (!tags[0])
        return wrong(error, "keep-tag is empty");
    g_ptr_array_add(policy->tags, g_steal_pointer(&tags));
    return true;
}

bool
kvss_policy_set(KvssPolicy *policy, const char *name, const char *value, GError **error)
{
    const char *rule = g_str_has_prefix(name, "keep-") ? name + strlen("keep-") : "";

    for (int i = 0; i < KVSS_KEEP_N; i++)
        if (strcmp(rule, names[i]) == 0)
            return set_count(&policy->keep[i], name, value, error);
    if (strcmp(rule, "within") == 0)
        return set_within(policy, value, error);
    if (strcmp(rule, "tag") == 0)
        return add_tags(policy, value, error);
    return wrong(error, "there is no rule '%s'", name);
}
