/*
 * retention.h - which backups stay?
 *
 * Backups are sorted into groups, the newest first, and each rule keeps some of
 * each group:
 *
 *   last N                 the newest N
 *   hourly ... yearly N    the newest of an hour, day, week (ISO), month or year, for the
 *                          newest N of these that have a backup
 *   within SPAN            all that are younger than that, counted from the newest
 *   tag                    all that have it
 *
 * A backup is one set: it stays whole if any rule of any of its groups keeps it.
 *
 * Hours and days are those of the clock by which the time was stored: of UTC for
 * what kvss wrote, so that hosts in different zones, and summer and winter,
 * decide the same.
 *
 * Source: restic's "forget", 0.14: internal/restic/snapshot_policy.go.
 */
#pragma once

#include "retention/policy.h"

/** Why a backup stays. */
typedef struct {
    char *rule;          /* "daily", "within 7d", "tag monthly" */
    const char *member;  /* (nullable) the name of the VM that needs it; borrowed from the backup */
} KvssRetentionReason;

/** One backup. What is given is borrowed, and must outlive it. */
typedef struct {
    const char *id;
    const char *time;               /* RFC 3339, as stored */
    const char *const *tags;
    char **members, **names;        /* what it holds: keys (UUIDs), and names for people; owned */
    GPtrArray *reasons;             /* KvssRetentionReason; empty: it goes */

    GDateTime *date;                /* @time, by the clock that it names */
} KvssRetentionBackup;

/** @members, @names are taken. NULL when @time is none. */
KvssRetentionBackup *kvss_retention_backup_new(const char *id, const char *time,
                                               const char *const *tags, char **members,
                                               char **names);
void kvss_retention_backup_free(KvssRetentionBackup *backup);

typedef enum {
    KVSS_GROUP_BY_VM,  /* each VM, and each component of another writer, by itself */
    KVSS_GROUP_BY_SET, /* backups that hold exactly the same */
} KvssRetentionGroup;

/**
 * kvss_retention_apply:
 * @backups: (element-type KvssRetentionBackup) in any order; their reasons are filled
 * @now: what is newer is no start for "within"
 */
void kvss_retention_apply(const KvssPolicy *policy, const GPtrArray *backups,
                          KvssRetentionGroup group, GDateTime *now);

/**
 * kvss_retention_lost:
 * @goes: does this backup go?
 *
 * Names of what no backup would hold any more, sorted. Free with g_strfreev.
 */
char **kvss_retention_lost(const GPtrArray *backups,
                           bool (*goes)(const KvssRetentionBackup *backup, gpointer data),
                           gpointer data);
