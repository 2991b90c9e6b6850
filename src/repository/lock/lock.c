/*
 * lock.c - our place among those who work on a repository
 */
#include "repository/file/document.h"
#include "repository/format/id.h"
#include "repository/format/json.h"
#include "repository/format/timestamp.h"
#include "repository/lock/lock-note.h"
#include "repository/lock/lock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* restic's numbers: it writes anew after 5 minutes and believes no lock older than 30. */
#define REFRESH_US (5 * 60 * G_USEC_PER_SEC)
#define STALE_US (30 * 60 * G_USEC_PER_SEC)

/* Ours counts as lost a little before others may think so. */
#define LOST_US (25 * 60 * G_USEC_PER_SEC)

/* A refresh that failed is tried again after this. */
#define RETRY_US (30 * G_USEC_PER_SEC)

/* restic's pause before the second look, for storage that shows new files late. */
#define SHOWS_LATE_US (200 * 1000)

struct KvssLock {
    KvssBackend *backend;    /* borrowed */
    KvssCodecPool *codecs;   /* borrowed */
    KvssLockNote *note;
    bool is_exclusive;

    GMutex mutex;            /* guards what follows */
    GCond wake;
    bool is_ending;
    char name[KVSS_ID_HEX_LENGTH + 1]; /* of the lock file; empty: none */
    bool is_left;            /* a lock file of ours may be there yet: the note must stay */
    gint64 written_us;       /* wall clock: what the others go by, and it counts sleep */
    gint64 next_us;          /* monotonic */
    GThread *thread;
};

void
kvss_lock_record_clear(KvssLockRecord *record)
{
    g_clear_pointer(&record->hostname, g_free);
    g_clear_pointer(&record->username, g_free);
}

static void
record_read_time(KvssLockRecord *record, KvssJson *json)
{
    g_autofree char *text = kvss_json_string(json);

    if (text && !kvss_time_parse(text, &record->time_us))
        kvss_json_fail(json, "a time is not in RFC 3339");
}

static void
record_read_member(KvssLockRecord *record, KvssJson *json, const KvssJsonText *key)
{
    if (kvss_json_text_is(key, "time"))
        record_read_time(record, json);
    else if (kvss_json_text_is(key, "exclusive"))
        record->is_exclusive = kvss_json_bool(json);
    else if (kvss_json_text_is(key, "hostname") && !record->hostname)
        record->hostname = kvss_json_string(json);
    else if (kvss_json_text_is(key, "username") && !record->username)
        record->username = kvss_json_string(json);
    else if (kvss_json_text_is(key, "pid"))
        record->pid = kvss_json_uint(json);
    else
        kvss_json_skip(json);
}

bool
kvss_lock_record_parse(const void *text, size_t length, KvssLockRecord *out_record,
                       GError **error)
{
    g_auto(KvssLockRecord) record = { 0 };
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key))
        record_read_member(&record, &json, &key);
    if (!kvss_json_finish(&json, error))
        return false;
    *out_record = record;
    record = (KvssLockRecord) { 0 };
    return true;
}

static GString *
lock_text(bool is_exclusive, gint64 now_us)
{
    g_autofree char *time = kvss_time_format(now_us);
    GString *json = g_string_new("{\"time\":");

    kvss_json_append_string(json, time);
    g_string_append_printf(json, ",\"exclusive\":%s,\"hostname\":",
                           is_exclusive ? "true" : "false");
    kvss_json_append_string(json, g_get_host_name());
    g_string_append(json, ",\"username\":");
    kvss_json_append_string(json, g_get_user_name());
    g_string_append_printf(json, ",\"pid\":%d", (int) getpid());
    if (getuid() != 0)
        g_string_append_printf(json, ",\"uid\":%u", (unsigned) getuid());
    if (getgid() != 0)
        g_string_append_printf(json, ",\"gid\":%u", (unsigned) getgid());
    g_string_append_c(json, '}');
    return json;
}

/* Absent is fine: somebody took it for stale, which kvss_lock_check() tells. */
static bool
remove_lock_file(KvssLock *lock, const char *name)
{
    g_autoptr(GError) error = NULL;

    if (kvss_backend_remove(lock->backend, KVSS_FILE_LOCK, name, &error)
        || g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true;
    g_warning("%s", error->message);
    return false;
}

/* A new lock file, on record before it exists. The caller holds the mutex or is alone. */
static bool
lock_write(KvssLock *lock, GError **error)
{
    gint64 now_us = g_get_real_time();
    g_autoptr(GString) json = lock_text(lock->is_exclusive, now_us);
    g_autoptr(KvssCodec) codec = kvss_codec_take(lock->codecs);
    g_autoptr(GBytes) stored = kvss_codec_seal_document(codec, json->str, json->len);
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint8_t id[KVSS_ID_LENGTH];
    gsize length;
    const void *data = g_bytes_get_data(stored, &length);

    kvss_id_of(data, length, id);
    kvss_id_to_hex(id, name);
    if (!kvss_lock_note_add(lock->note, name, error))
        return false;
    if (!kvss_backend_put(lock->backend, KVSS_FILE_LOCK, name, data, length, error)) {
        /* It may be there all the same, when only its sync failed, and come back in a crash. */
        (void) remove_lock_file(lock, name);
        lock->is_left = true;
        return false;
    }

    memcpy(lock->name, name, sizeof name);
    lock->written_us = now_us;
    return true;
}

static void
lock_refresh(KvssLock *lock)
{
    g_autoptr(GError) error = NULL;
    char old[KVSS_ID_HEX_LENGTH + 1];

    memcpy(old, lock->name, sizeof old);
    if (lock_write(lock, &error)) {
        (void) remove_lock_file(lock, old);
        lock->next_us = g_get_monotonic_time() + REFRESH_US;
    } else {
        g_debug("lock not refreshed: %s", error->message);
        lock->next_us = g_get_monotonic_time() + RETRY_US;
    }
}

static gpointer
lock_thread(gpointer data)
{
    KvssLock *lock = data;

    g_mutex_lock(&lock->mutex);
    while (!lock->is_ending)
        if (!g_cond_wait_until(&lock->wake, &lock->mutex, lock->next_us))
            lock_refresh(lock);
    g_mutex_unlock(&lock->mutex);
    return NULL;
}

/* ---- the others ---- */

/* Is the other a process of this host that is not there any more? Told only: a pid says too little
 * (containers share names) to pass over a lock for it. */
static bool
seems_dead(const KvssLockRecord *record)
{
    return g_strcmp0(record->hostname, g_get_host_name()) == 0 && record->pid > 0
        && record->pid <= G_MAXINT && kill((pid_t) record->pid, 0) < 0 && errno == ESRCH;
}

static bool
check_record(KvssLock *lock, const KvssLockRecord *record, GError **error)
{
    g_autofree char *since = NULL;

    if ((!record->is_exclusive && !lock->is_exclusive)
        || record->time_us < g_get_real_time() - STALE_US)
        return true;
    since = kvss_time_format(MAX(record->time_us, 0));
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED,
                      "repository %s is locked for %s on %s (pid %" G_GUINT64_FORMAT
                      ")%s since %s: %s", lock->backend->location,
                      record->username ? record->username : "somebody",
                      record->hostname ? record->hostname : "an unknown host", record->pid,
                      record->is_exclusive ? " alone" : "", since,
                      seems_dead(record)
                          ? "that process does not run any more, run \"restic unlock\""
                          : "try again when that has ended (--retry-lock waits for it), or run "
                            "\"restic unlock\" if it is dead");
}

static bool
check_other(KvssLock *lock, const char *name, GError **error)
{
    g_auto(KvssLockRecord) record = { 0 };
    g_autoptr(GError) local_error = NULL;
    g_autoptr(GBytes) json = kvss_document_read(lock->backend, lock->codecs, KVSS_FILE_LOCK, name,
                                                KVSS_LOCK_MAX, &local_error);

    if (!json) {
        if (g_error_matches(local_error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
            return true; /* given back meanwhile */
        g_propagate_error(error, g_steal_pointer(&local_error));
        return false;
    }
    if (!kvss_lock_record_parse(g_bytes_get_data(json, NULL), g_bytes_get_size(json), &record,
                                error)) {
        g_prefix_error(error, "lock %.8s is damaged: ", name);
        return false;
    }
    return check_record(lock, &record, error);
}

/* @seen: ids of locks that were not in the way before. A lock file never changes: they are not read again. */
static bool
check_others(KvssLock *lock, GHashTable *seen, GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(lock->backend, KVSS_FILE_LOCK, error);

    for (guint i = 0; files && i < files->len; i++) {
        const uint8_t *id = g_array_index(files, KvssStoredFile, i).id;
        char name[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(id, name);
        if (g_str_equal(name, lock->name) || g_hash_table_contains(seen, id))
            continue;
        if (!check_other(lock, name, error))
            return false;
        g_hash_table_add(seen, g_memdup2(id, KVSS_ID_LENGTH));
    }
    return files != NULL;
}

/*
 * Look, write, look again: of two that must not be side by side at least the
 * one that writes later sees the other, and gives way. Storage may show new
 * files late (objects, network file systems), so we wait before the second look
 * as restic does. Only a shared lock in a folder does not wait: that is shown at
 * once where it is local, and elsewhere the one that is exclusive waits.
 */
static bool
lock_acquire(KvssLock *lock, GError **error)
{
    g_autoptr(GHashTable) seen
        = g_hash_table_new_full(kvss_id_hash, kvss_id_same, g_free, NULL);

    if (!check_others(lock, seen, error) || !lock_write(lock, error))
        return false;
    if (lock->is_exclusive || kvss_backend_is_remote(lock->backend))
        g_usleep(SHOWS_LATE_US);
    return check_others(lock, seen, error);
}

KvssLock *
kvss_lock_take(KvssBackend *backend, KvssCodecPool *codecs, const char *state_dir,
               bool is_exclusive, GError **error)
{
    KvssLock *lock = g_new0(KvssLock, 1);

    lock->backend = backend;
    lock->codecs = codecs;
    lock->is_exclusive = is_exclusive;
    g_mutex_init(&lock->mutex);
    g_cond_init(&lock->wake);
    lock->note = kvss_lock_note_new(state_dir, backend->location, error);
    if (!lock->note || !lock_acquire(lock, error)) {
        kvss_lock_free(lock);
        return NULL;
    }
    lock->next_us = g_get_monotonic_time() + REFRESH_US;
    lock->thread = g_thread_new("lock", lock_thread, lock);
    return lock;
}

bool
kvss_lock_check(KvssLock *lock, GError **error)
{
    uint64_t size;
    gint64 age_us;
    bool ok;

    g_mutex_lock(&lock->mutex);
    age_us = g_get_real_time() - lock->written_us;
    ok = age_us < LOST_US
        && kvss_backend_size(lock->backend, KVSS_FILE_LOCK, lock->name, &size, NULL);
    g_mutex_unlock(&lock->mutex);
    return ok
        || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_LOCKED,
                      "our lock in %s was lost, last written %" G_GINT64_FORMAT
                      " s ago: what this run counts on may have been removed, run it again",
                      lock->backend->location, age_us / G_USEC_PER_SEC);
}

static void
lock_stop_thread(KvssLock *lock)
{
    g_mutex_lock(&lock->mutex);
    lock->is_ending = true;
    g_cond_signal(&lock->wake);
    g_mutex_unlock(&lock->mutex);
    g_thread_join(lock->thread);
}

void
kvss_lock_free(KvssLock *lock)
{
    if (!lock)
        return;
    if (lock->thread)
        lock_stop_thread(lock);
    if (lock->name[0] && !remove_lock_file(lock, lock->name))
        lock->is_left = true;
    if (lock->is_left)
        kvss_lock_note_abandon(lock->note);
    else
        kvss_lock_note_free(lock->note);
    g_cond_clear(&lock->wake);
    g_mutex_clear(&lock->mutex);
    g_free(lock);
}
