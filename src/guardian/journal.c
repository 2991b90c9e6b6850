/*
 * journal.c - the acts of one run on disk, in order, each synced before it happens
 */
#include "guardian/journal.h"
#include "base/fd.h"
#include "base/test-point.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is longer cannot be read, and its acts not be undone: it is never written. */
#define JOURNAL_LENGTH_MAX (2LL * KVSS_JOURNAL_ACTS_MAX)

struct KvssJournal {
    char *path;
    int fd;
    GMutex lock; /* one line at a time */
    GMutex told; /* one word at a time */
};

static KvssJournal *
journal_new(int fd, const char *path)
{
    KvssJournal *journal = g_new0(KvssJournal, 1);

    journal->fd = fd;
    journal->path = g_strdup(path);
    g_mutex_init(&journal->lock);
    g_mutex_init(&journal->told);
    return journal;
}

KvssJournal *
kvss_journal_from_fd(int fd, const char *path)
{
    return journal_new(fd, path);
}

void
kvss_journal_free(KvssJournal *journal)
{
    if (!journal)
        return;
    kvss_fd_clear(&journal->fd);
    g_mutex_clear(&journal->lock);
    g_mutex_clear(&journal->told);
    g_free(journal->path);
    g_free(journal);
}

int
kvss_journal_fd(const KvssJournal *journal)
{
    return journal->fd;
}

const char *
kvss_journal_path(const KvssJournal *journal)
{
    return journal->path;
}

/* Measured in the file: the guardian and the process append to the same one. */
static bool
has_room(const KvssJournal *journal, size_t length, gint64 length_max, GError **error)
{
    struct stat st;

    if (fstat(journal->fd, &st) < 0)
        return kvss_throw_errno(error, errno, "look at it");
    if (st.st_size <= length_max && (gint64) length <= length_max - st.st_size)
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                      "it has its greatest length (%" G_GINT64_FORMAT " MiB), since one run does too "
                      "much at once: name fewer VMs or components", length_max >> 20);
}

/*
 * Before a line and behind it: whoever dies at the first has done what the line before
 * announced, at the second not yet what this one does. So the points of one process,
 * counted, are all there is to be seen of it from outside.
 */
static void
journal_point(void)
{
    static gint step;
    g_autofree char *point = g_strdup_printf("step-%d", g_atomic_int_add(&step, 1));

    kvss_test_point(point);
}

/* What a power cut left of a line must not run into the next one. Returns: the length; -1 on failure. */
static gint64
journal_trim(KvssJournal *journal, GError **error)
{
    struct stat st;
    char last = '\n';
    gint64 end;

    if (fstat(journal->fd, &st) < 0) {
        kvss_throw_errno(error, errno, "look at it");
        return -1;
    }
    for (end = st.st_size; end > 0; end--)
        if (!kvss_pread_exact(journal->fd, &last, 1, (uint64_t) end - 1, error))
            return -1;
        else if (last == '\n')
            break;
    if (end == st.st_size || ftruncate(journal->fd, end) == 0)
        return end;
    kvss_throw_errno(error, errno, "cut off half a line");
    return -1;
}

/*
 * On failure nothing of the line is there: what was not acknowledged must not be read,
 * above all not that there is only forward.
 */
static bool
journal_append_line(KvssJournal *journal, const char *line, gint64 length_max, GError **error)
{
    gint64 before = journal_trim(journal, error);

    if (before < 0 || !has_room(journal, strlen(line), length_max, error))
        return false;
    if (kvss_write_exact(journal->fd, line, strlen(line), error)
        && kvss_fsync(journal->fd, "it", error))
        return true;
    if (ftruncate(journal->fd, before) < 0 || fsync(journal->fd) < 0)
        g_warning("journal %s: cannot take back a line: %s", journal->path, g_strerror(errno));
    return false;
}

/* One line in one write, then a sync: there whole, or not at all. Takes @object. */
static bool
journal_append(KvssJournal *journal, JsonObject *object, gint64 length_max, GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *text = NULL, *line = NULL;
    bool ok;

    json_node_take_object(node, object);
    text = json_to_string(node, FALSE);
    line = g_strconcat(text, "\n", NULL);
    journal_point();
    g_mutex_lock(&journal->lock);
    ok = journal_append_line(journal, line, length_max, error);
    g_mutex_unlock(&journal->lock);
    if (!ok)
        g_prefix_error(error, "journal %s: ", journal->path);
    journal_point();
    return ok;
}

KvssJournal *
kvss_journal_create(const char *folder, const char *id, const char *purpose, const char *uri,
                    GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%s.journal", folder, id);
    kvss_autofd int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    g_autoptr(KvssJournal) journal = NULL;
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    JsonObject *header;

    if (fd < 0) {
        kvss_throw_errno(error, errno, "create journal %s", path);
        return NULL;
    }
    if (flock(fd, LOCK_EX) < 0) { /* whoever looks holds it for a moment only */
        kvss_throw_errno(error, errno, "lock journal %s", path);
        (void) unlink(path);
        return NULL;
    }
    journal = journal_new(kvss_fd_steal(&fd), path);
    header = json_object_new();
    json_object_set_string_member(header, "run", id);
    json_object_set_int_member(header, "version", 1);
    json_object_set_string_member(header, "purpose", purpose);
    json_object_set_string_member(header, "uri", uri);
    json_object_set_int_member(header, "pid", getpid());
    json_object_set_string_member(header, "time", time);
    if (!journal_append(journal, header, KVSS_JOURNAL_ACTS_MAX, error) || !kvss_fsync_folder(folder, error)) {
        (void) unlink(path);
        return NULL;
    }
    return g_steal_pointer(&journal);
}

KvssJournal *
kvss_journal_open_dead(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open journal %s", path);
        return NULL;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        kvss_throw_errno(error, errno, "journal %s is in use", path);
        return NULL;
    }
    return journal_new(kvss_fd_steal(&fd), path);
}

KvssJournal *
kvss_journal_open_look(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open journal %s", path);
        return NULL;
    }
    return journal_new(kvss_fd_steal(&fd), path);
}

bool
kvss_journal_is_held(const char *path)
{
    kvss_autofd int fd = open(path, O_RDWR | O_CLOEXEC);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

bool
kvss_journal_write_act(KvssJournal *journal, const KvssAct *act, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "act", (gint64) act->id);
    json_object_set_string_member(object, "kind", kvss_act_kind_name(act->kind));
    json_object_set_object_member(object, "details", json_object_ref(act->details));
    return journal_append(journal, object, KVSS_JOURNAL_ACTS_MAX, error);
}

bool
kvss_journal_write_end(KvssJournal *journal, uint64_t act, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "end", (gint64) act);
    return journal_append(journal, object, JOURNAL_LENGTH_MAX, error);
}

bool
kvss_journal_write_forward(KvssJournal *journal, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_boolean_member(object, "forward", TRUE);
    return journal_append(journal, object, JOURNAL_LENGTH_MAX, error);
}

bool
kvss_journal_write_stays(KvssJournal *journal, const char *writer, const char *why, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "stays", writer);
    json_object_set_string_member(object, "why", why);
    return journal_append(journal, object, JOURNAL_LENGTH_MAX, error);
}

bool
kvss_journal_write_claim(KvssJournal *journal, const char *id, const char *name, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "claim", id);
    json_object_set_string_member(object, "name", name);
    return journal_append(journal, object, KVSS_JOURNAL_ACTS_MAX, error);
}

/* ---- reading ---- */

void
kvss_journal_content_clear(KvssJournalContent *content)
{
    g_clear_pointer(&content->id, g_free);
    g_clear_pointer(&content->purpose, g_free);
    g_clear_pointer(&content->uri, g_free);
    g_clear_pointer(&content->open, g_ptr_array_unref);
    g_clear_pointer(&content->claims, g_ptr_array_unref);
    g_clear_pointer(&content->stays, g_ptr_array_unref);
}

static const char *
string_member(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, "");
}

gint64
kvss_journal_time(JsonObject *object)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(string_member(object, "time"), NULL);

    return time ? g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time)
                : 0;
}

static bool
content_add_act(KvssJournalContent *content, JsonObject *line, GError **error)
{
    KvssAct *act;
    KvssActKind kind;
    JsonNode *details = json_object_get_member(line, "details");

    if (!kvss_act_kind_from_name(string_member(line, "kind"), &kind) || !details
        || !JSON_NODE_HOLDS_OBJECT(details))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "an act of unknown kind '%s'", string_member(line, "kind"));
    act = g_new0(KvssAct, 1);
    act->id = (uint64_t) json_object_get_int_member(line, "act");
    act->kind = kind;
    act->details = json_object_ref(json_node_get_object(details));
    g_ptr_array_add(content->open, act);
    return true;
}

static void
content_end_act(KvssJournalContent *content, uint64_t id)
{
    for (guint i = content->open->len; i-- > 0;) { /* mostly it began lately */
        if (((KvssAct *) g_ptr_array_index(content->open, i))->id == id) {
            g_ptr_array_remove_index(content->open, i);
            return;
        }
    }
}

static void
content_let_stay(KvssJournalContent *content, JsonObject *line)
{
    const char *writer = string_member(line, "stays");

    for (guint i = content->open->len; i-- > 0;)
        if (g_str_equal(kvss_act_writer(g_ptr_array_index(content->open, i)), writer))
            g_ptr_array_remove_index(content->open, i);
    g_ptr_array_add(content->stays, g_strdup(string_member(line, "why")));
}

static bool
content_add_line(KvssJournalContent *content, JsonObject *line, GError **error)
{
    if (json_object_has_member(line, "act"))
        return content_add_act(content, line, error);
    if (json_object_has_member(line, "end")) {
        content_end_act(content, (uint64_t) json_object_get_int_member(line, "end"));
    } else if (*string_member(line, "stays")) {
        content_let_stay(content, line);
    } else if (json_object_has_member(line, "forward")) {
        content->is_forward = true;
    } else if (json_object_has_member(line, "claim")) {
        g_ptr_array_add(content->claims, g_strdup(string_member(line, "claim")));
    } else if (json_object_has_member(line, "run")) {
        content->id = g_strdup(string_member(line, "run"));
        content->purpose = g_strdup(string_member(line, "purpose"));
        content->uri = g_strdup(string_member(line, "uri"));
        content->pid = json_object_get_int_member_with_default(line, "pid", 0);
        content->start_us = kvss_journal_time(line);
    }
    return true;
}

bool
kvss_journal_needs_host(const KvssJournalContent *content)
{
    for (guint i = 0; i < content->open->len; i++)
        if (kvss_act_needs_host(g_ptr_array_index(content->open, i)))
            return true;
    return false;
}

static char *
journal_read_text(KvssJournal *journal, GError **error)
{
    struct stat st;
    g_autofree char *text = NULL;

    if (fstat(journal->fd, &st) < 0) {
        kvss_throw_errno(error, errno, "journal %s", journal->path);
        return NULL;
    }
    if (st.st_size > JOURNAL_LENGTH_MAX) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, "journal %s is too long",
                   journal->path);
        return NULL;
    }
    text = g_malloc((gsize) st.st_size + 1);
    if (!kvss_pread_exact(journal->fd, text, (size_t) st.st_size, 0, error))
        return NULL;
    text[st.st_size] = '\0';
    return g_steal_pointer(&text);
}

bool
kvss_journal_read(KvssJournal *journal, KvssJournalContent *out, GError **error)
{
    g_autofree char *text = journal_read_text(journal, error);
    g_auto(KvssJournalContent) content = { 0 };
    unsigned number = 0;

    if (!text)
        return false;
    content.open = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_act_free);
    content.claims = g_ptr_array_new_with_free_func(g_free);
    content.stays = g_ptr_array_new_with_free_func(g_free);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        g_autoptr(JsonNode) node = NULL;
        g_autoptr(GError) local = NULL;

        *end = '\0';
        number++;
        node = json_from_string(line, &local);
        if (!node || !JSON_NODE_HOLDS_OBJECT(node))
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "journal %s: line %u is not an object%s%s", journal->path, number,
                              local ? ": " : "", local ? local->message : "");
        if (!content_add_line(&content, json_node_get_object(node), error)) {
            g_prefix_error(error, "journal %s: line %u: ", journal->path, number);
            return false;
        }
    }
    *out = content;
    memset(&content, 0, sizeof content);
    return true;
}

char *
kvss_journal_alive_path(const char *path)
{
    g_autofree char *stem = g_strndup(path, strlen(path) - strlen(".journal"));

    return g_strconcat(stem, ".alive", NULL);
}

bool
kvss_journal_remove(KvssJournal *journal, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(journal->path);
    g_autofree char *alive = kvss_journal_alive_path(journal->path);

    journal_point();
    (void) unlink(alive);
    if (unlink(journal->path) < 0 && errno != ENOENT)
        return kvss_throw_errno(error, errno, "remove journal %s", journal->path);
    return kvss_fsync_folder(folder, error);
}

/* ---- undoing ---- */

static gint
compare_urgency(gconstpointer a, gconstpointer b)
{
    const KvssAct *one = *(KvssAct *const *) a, *two = *(KvssAct *const *) b;
    unsigned u1 = kvss_act_urgency(one), u2 = kvss_act_urgency(two);

    if (u1 != u2)
        return u1 < u2 ? -1 : 1;
    return one->id > two->id ? -1 : one->id < two->id ? 1 : 0;
}

static bool
undo_or_forward(const KvssAct *act, bool forward, KvssHost *host, unsigned patience_s,
                GError **error)
{
    if (kvss_act_needs_host(act) && !host)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NO_CONNECTION,
                          "libvirt cannot be reached");
    return forward ? kvss_act_forward(act, host, error)
                   : kvss_act_undo(act, host, patience_s, error);
}

/* One act, and its end. */
static bool
finish_act(KvssJournal *journal, const KvssAct *act, bool forward, KvssHost *host,
           unsigned patience_s, KvssUndoTold told, gpointer data, GError **error)
{
    g_autoptr(GError) problem = NULL;
    bool ok = undo_or_forward(act, forward, host, patience_s, &problem)
              && kvss_journal_write_end(journal, act->id, &problem);

    g_mutex_lock(&journal->told);
    if (told)
        told(act, forward, problem, data);
    g_mutex_unlock(&journal->told);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&problem));
    return ok;
}

static bool
is_skipped(const KvssAct *act, GHashTable *skip)
{
    return skip && g_hash_table_contains(skip, GSIZE_TO_POINTER(act->id));
}

/*
 * Under a database that is in use no file is swapped, now or later: it may go on for days
 * with what it has. Final when this returns true.
 */
static bool
let_stay(KvssJournal *journal, const KvssAct *act, const GError *problem, GError **error)
{
    g_autofree char *what = kvss_act_describe(act);
    g_autofree char *why = g_strdup_printf("%s: %s", what, problem->message);

    return kvss_journal_write_stays(journal, kvss_act_writer(act), why, error);
}

/* The writer's yes; or everything of it is left as it is. @stays: writers of whom nothing is undone. */
static bool
finish_stop(KvssJournal *journal, const KvssAct *act, bool forward, KvssUndoTold told,
            gpointer data, GHashTable *stays, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (finish_act(journal, act, forward, NULL, 0, told, data, &problem))
        return true;
    g_hash_table_add(stays, (gpointer) kvss_act_writer(act));
    return let_stay(journal, act, problem, error);
}

/* Later acts of its VM still stand: see kvss_act_vm(). */
static bool
must_wait(const KvssAct *act, bool forward, GHashTable *stuck)
{
    return !forward && *kvss_act_vm(act) && g_hash_table_contains(stuck, kvss_act_vm(act));
}

bool
kvss_journal_undo(KvssJournal *journal, KvssHost *host, unsigned patience_s, GHashTable *skip,
                  KvssUndoTold told, gpointer data, GError **error)
{
    g_auto(KvssJournalContent) content = { 0 };
    g_autoptr(GHashTable) stays = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) stuck = g_hash_table_new(g_str_hash, g_str_equal); /* VMs */
    bool all = true;

    if (!kvss_journal_read(journal, &content, error))
        return false;
    g_ptr_array_sort(content.open, compare_urgency);
    for (guint i = 0; i < content.open->len; i++) {
        const KvssAct *act = g_ptr_array_index(content.open, i);

        if (kvss_act_is_apart(act) || g_hash_table_contains(stays, kvss_act_writer(act)))
            continue;
        if (kvss_act_is_stop(act) && !is_skipped(act, skip)) {
            if (!finish_stop(journal, act, content.is_forward, told, data, stays,
                             error && !*error ? error : NULL))
                all = false;
            continue;
        }
        if (must_wait(act, content.is_forward, stuck) || is_skipped(act, skip)
            || (!all && kvss_act_is_last(act))
            || !finish_act(journal, act, content.is_forward, host, patience_s, told, data,
                           error && !*error ? error : NULL)) {
            all = false;
            g_hash_table_add(stuck, (gpointer) kvss_act_vm(act));
        }
    }
    return all;
}

/* Nothing is ended: kvss_journal_undo() looks again. */
static void
relieve_guests(const KvssJournalContent *content, KvssHost *host, unsigned patience_s)
{
    for (guint i = 0; i < content->open->len; i++) {
        const KvssAct *act = g_ptr_array_index(content->open, i);
        g_autoptr(GError) problem = NULL;

        if (kvss_act_is_felt(act) && !kvss_act_undo(act, host, patience_s, &problem))
            g_debug("%s", problem->message);
    }
}

void
kvss_journal_settle(KvssJournal *journal, KvssHost *host, unsigned patience_s)
{
    g_auto(KvssJournalContent) content = { 0 };

    if (!host || !kvss_journal_read(journal, &content, NULL) || !kvss_journal_needs_host(&content))
        return;
    g_ptr_array_sort(content.open, compare_urgency);
    if (!content.is_forward)
        relieve_guests(&content, host, patience_s);
    kvss_host_settle(host);
}

/* ---- acts apart ---- */

/* Nobody has more writers than that stuck at once; the others wait their turn. */
#define APART_PARALLEL 16

struct KvssApart {
    KvssJournal *journal;
    KvssJournalContent content;
    KvssUndoTold told;
    gpointer data;
    GThreadPool *pool;
    GMutex lock;   /* guards what follows */
    bool ok;
    GError *error; /* the first */
};

static void
apart_fail(KvssApart *apart, GError *error)
{
    g_mutex_lock(&apart->lock);
    apart->ok = false;
    if (!apart->error)
        apart->error = g_steal_pointer(&error);
    g_mutex_unlock(&apart->lock);
    g_clear_error(&error);
}

static void
apart_one(gpointer act, gpointer user_data)
{
    KvssApart *apart = user_data;
    GError *error = NULL;

    if (!finish_act(apart->journal, act, apart->content.is_forward, NULL, 0, apart->told,
                    apart->data, &error))
        apart_fail(apart, error);
}

KvssApart *
kvss_journal_start_apart(KvssJournal *journal, GHashTable *skip, KvssUndoTold told, gpointer data)
{
    KvssApart *apart = g_new0(KvssApart, 1);
    GError *error = NULL;

    apart->journal = journal;
    apart->told = told;
    apart->data = data;
    apart->ok = true;
    g_mutex_init(&apart->lock);
    apart->pool = g_thread_pool_new(apart_one, apart, APART_PARALLEL, FALSE, NULL);
    if (!kvss_journal_read(journal, &apart->content, &error)) {
        apart_fail(apart, error);
        return apart;
    }
    for (guint i = 0; i < apart->content.open->len; i++) {
        KvssAct *act = g_ptr_array_index(apart->content.open, i);

        if (!kvss_act_is_apart(act))
            continue;
        if (is_skipped(act, skip))
            apart->ok = false;
        else
            (void) g_thread_pool_push(apart->pool, act, NULL);
    }
    return apart;
}

bool
kvss_apart_wait(KvssApart *apart, GError **error)
{
    bool ok;

    g_thread_pool_free(apart->pool, FALSE, TRUE);
    ok = apart->ok;
    if (apart->error)
        g_propagate_error(error, apart->error);
    kvss_journal_content_clear(&apart->content);
    g_mutex_clear(&apart->lock);
    g_free(apart);
    return ok;
}
