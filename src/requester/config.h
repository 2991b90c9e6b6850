/*
 * config.h - what is settled outside the command line
 *
 * One key file, /etc/kvss/kvss.conf or KVSS_CONFIG; a key that nobody knows is an
 * error, since it is a typing error somebody relies on. Folders come from the
 * environment or are the system's.
 */
#pragma once

#include "coordinator/events.h"
#include "retention/policy.h"
#include "requester/options.h"

typedef struct {
    char *repository, *password_file; /* (nullable) */
    char *method;                     /* (nullable) */
    char *snapshot_dir, *scratch_dir; /* (nullable) */
    char *writers_dir;                /* (nullable) named; NULL: the default place, if it is there */
    unsigned freeze_limit_ms;         /* 0: the default */
    uint64_t limit;                   /* bytes a second that a backup reads at most; 0: no limit */
    KvssPolicy *retention;            /* what forget keeps when no option says */
    KvssLimits limits;                /* the table's, but for what the file says */
    char *state_dir, *cache_dir;
} KvssConfig;

/**
 * kvss_config_load:
 *
 * Reads the file; one that is absent at the default place is empty, one that
 * KVSS_CONFIG names must be there. Errors: KVSS_USAGE_ERROR_CONFIG with the key.
 */
KvssConfig *kvss_config_load(GError **error);
void kvss_config_free(KvssConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssConfig, kvss_config_free)

/** -c, LIBVIRT_DEFAULT_URI, qemu:///system. Borrowed. */
const char *kvss_config_uri(const KvssOptions *options);

/** -r, KVSS_REPOSITORY, the file, RESTIC_REPOSITORY; NULL when none says. Borrowed. */
const char *kvss_config_repository(const KvssConfig *config, const KvssOptions *options);

/**
 * kvss_config_password:
 * @is_new: ask twice when it comes to asking
 * @may_ask: ask at all
 * @cancellable: ends the asking
 *
 * --password-file, KVSS_PASSWORD_FILE, KVSS_PASSWORD, the file's password-file,
 * RESTIC_PASSWORD_FILE, RESTIC_PASSWORD, then a prompt on a terminal. A file is
 * trimmed of white space at both ends; one that others may read draws a warning.
 * Errors: KVSS_USAGE_ERROR_PASSWORD. Free with kvss_config_password_free().
 */
struct _GCancellable;
char *kvss_config_password(const KvssConfig *config, const KvssOptions *options, bool is_new,
                           bool may_ask, struct _GCancellable *cancellable, GError **error);

/**
 * kvss_config_new_password:
 *
 * --new-password-file, KVSS_NEW_PASSWORD_FILE, KVSS_NEW_PASSWORD, then a prompt on a
 * terminal, twice. Errors: KVSS_USAGE_ERROR_PASSWORD. Free with
 * kvss_config_password_free().
 */
char *kvss_config_new_password(const KvssOptions *options, struct _GCancellable *cancellable,
                               GError **error);

/** Wipes it first. */
void kvss_config_password_free(char *password);
