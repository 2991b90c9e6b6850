/*
 * policy.h - the rules by which backups stay
 */
#pragma once

#include "base/error.h"

typedef enum {
    KVSS_RETENTION_ERROR_VALUE, /* a rule makes no sense; the message says which value */
} KvssRetentionError;

#define KVSS_RETENTION_ERROR (kvss_retention_error_quark())
GQuark kvss_retention_error_quark(void);

/** The rules that count, from short to long. */
typedef enum {
    KVSS_KEEP_LAST,
    KVSS_KEEP_HOURLY,
    KVSS_KEEP_DAILY,
    KVSS_KEEP_WEEKLY,
    KVSS_KEEP_MONTHLY,
    KVSS_KEEP_YEARLY,
    KVSS_KEEP_N
} KvssKeep;

/** "last", "hourly", ...: the word for options, keys and reasons. */
const char *kvss_keep_name(KvssKeep rule);

/** A time as calendars count it: a month is no number of days. */
typedef struct {
    unsigned years, months, days, hours;
} KvssCalendarSpan;

typedef struct {
    unsigned keep[KVSS_KEEP_N];  /* 0: no such rule; UINT_MAX: any number */
    KvssCalendarSpan within;     /* all zero: no such rule */
    char *within_text;           /* (nullable) as it was given */
    GPtrArray *tags;             /* char**: a backup that has all tags of one list stays */
} KvssPolicy;

KvssPolicy *kvss_policy_new(void);
void kvss_policy_free(KvssPolicy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssPolicy, kvss_policy_free)

/** No rule at all: nothing could stay. */
bool kvss_policy_is_empty(const KvssPolicy *policy);

/**
 * kvss_policy_set:
 * @name: "keep-last" ... "keep-yearly": a number, or "unlimited"; "keep-within": "2y5m7d3h";
 *     "keep-tag": tags with commas between; adds a list to those that are there
 *
 * Errors: VALUE, also for a name that is none.
 */
bool kvss_policy_set(KvssPolicy *policy, const char *name, const char *value, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
