/*
 * acts.c - how each thing a run does is taken back
 *
 * A guest that is frozen feels every millisecond, one that stands still nearly
 * as much, a job costs only space: that is the order. A database of the host that is
 * held feels it like a guest that stands still; its writer's program runs beside all that.
 */
#include "guardian/acts.h"
#include "base/fd.h"
#include "guardian/acts-program.h"
#include "guardian/acts-restore.h"
#include "guardian/acts-rewrite.h"
#include "guardian/details.h"
#include "host/domain.h"
#include "host/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Before the job is ended for its sake, an agent gets this long. */
#define FIRST_THAW_LIMIT_US (2 * G_USEC_PER_SEC)
#define SAVE_SETTLE_US (500 * 1000)
#define SAVE_POLL_US (50 * 1000)

typedef bool (*UndoFunc)(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error);
typedef bool (*ForwardFunc)(JsonObject *details, KvssHost *host, GError **error);

void
kvss_act_free(KvssAct *act)
{
    if (!act)
        return;
    g_clear_pointer(&act->details, json_object_unref);
    g_free(act);
}

/* The act's domain on a connection of its own; true with NULL when the domain is gone. */
static bool
act_domain(JsonObject *details, KvssHost *host, KvssDomain **out_domain, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(host, detail(details, "uuid"), &local);

    *out_domain = NULL;
    if (domain && kvss_domain_connect_alone(domain, &local)) {
        *out_domain = g_steal_pointer(&domain);
        return true;
    }
    if (g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* The same with the domain's state; a domain that is gone counts as off. */
static bool
act_domain_state(JsonObject *details, KvssHost *host, KvssDomain **out_domain,
                 KvssDomainState *out_state, GError **error)
{
    *out_state = KVSS_DOMAIN_OFF;
    if (!act_domain(details, host, out_domain, error))
        return false;
    return !*out_domain || kvss_domain_get_state(*out_domain, out_state, NULL, error);
}

static bool
undo_freeze(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(KvssDomain) domain = NULL;
    const char *socket = detail(details, "socket");
    gint64 now_us = g_get_monotonic_time();

    if (!act_domain(details, host, &domain, error))
        return false;
    if (!domain || kvss_agent_thaw_surely(domain, now_us + FIRST_THAW_LIMIT_US, NULL))
        return true;
    /* While a job runs libvirt may have lost the agent: the guest comes first, the backup is over. */
    if (*socket && !kvss_domain_end_job(domain, socket, &local))
        g_warning("%s: %s", kvss_domain_name(domain), local->message);
    return kvss_agent_thaw_surely(domain, now_us + (gint64) patience_s * G_USEC_PER_SEC, error);
}

static bool
undo_still(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    KvssDomainState state;

    if (!act_domain_state(details, host, &domain, &state, error))
        return false;
    return state != KVSS_DOMAIN_PAUSED || kvss_domain_resume(domain, error);
}

/* A scratch area that filled up paused the guest: without the job it can go on. */
static bool
resume_after_io_error(KvssDomain *domain, GError **error)
{
    KvssDomainState state;
    int reason;

    if (!kvss_domain_get_state(domain, &state, &reason, error))
        return false;
    if (state != KVSS_DOMAIN_PAUSED || reason != VIR_DOMAIN_PAUSED_IOERROR)
        return true;
    return kvss_domain_resume(domain, error);
}

static bool
undo_job(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    const char *socket = detail(details, "socket");

    if (!act_domain(details, host, &domain, error))
        return false;
    if (domain && (!kvss_domain_end_job(domain, socket, error)
                   || !resume_after_io_error(domain, error)))
        return false;
    (void) unlink(socket);
    return true;
}

/*
 * libvirt carries a save to its end although nobody waits for it any more, and may
 * only just have begun to read the request of a process that died: no job counts
 * when there was none for a moment.
 */
static bool
wait_for_save(KvssDomain *domain, gint64 deadline_us, GError **error)
{
    gint64 busy_us = g_get_monotonic_time();

    for (;;) {
        g_autoptr(GError) local = NULL;
        gint64 now_us = g_get_monotonic_time();

        if (!kvss_domain_check_idle(domain, &local)) {
            if (!g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY))
                return true; /* off, or gone: its state tells */
            busy_us = now_us;
        } else if (now_us - busy_us > SAVE_SETTLE_US) {
            return true;
        }
        if (now_us > deadline_us)
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY,
                              "%s is still being saved", kvss_domain_name(domain));
        g_usleep(SAVE_POLL_US);
    }
}

static bool
is_off(KvssDomainState state)
{
    return state == KVSS_DOMAIN_OFF || state == KVSS_DOMAIN_SAVED;
}

/* A start would not be a return but a fresh boot: after the death of a host that is its owner's to decide. */
static bool
drop_partial_save(KvssDomain *domain, KvssDomainState *state, GError **error)
{
    if (!kvss_domain_has_partial_save(domain))
        return true;
    g_warning("%s: the host died while its memory was being saved: it stays off, its disks are as "
              "after a power cut", kvss_domain_name(domain));
    *state = KVSS_DOMAIN_OFF;
    return kvss_domain_forget_managed_save(domain, error);
}

/*
 * Of a save that was ended by libvirt's own death only the VM is put back: libvirt lets it
 * run on and leaves the image, maybe whole, where its next start would find it.
 */
bool
kvss_act_end_save(KvssDomain *domain, unsigned patience_s, KvssDomainState *state, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64) patience_s * G_USEC_PER_SEC;

    if (!kvss_domain_get_state(domain, state, NULL, error))
        return false;
    if (!is_off(*state)
        && (!wait_for_save(domain, deadline_us, error)
            || !kvss_domain_get_state(domain, state, NULL, error)))
        return false;
    return is_off(*state) ? drop_partial_save(domain, state, error)
                          : kvss_domain_forget_managed_save(domain, error);
}

static bool
undo_managed_save(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    bool paused = json_object_get_boolean_member_with_default(details, "paused", TRUE);
    KvssDomainState state;

    if (!act_domain(details, host, &domain, error))
        return false;
    if (!domain)
        return true;
    if (!kvss_act_end_save(domain, patience_s, &state, error))
        return false;
    return state != KVSS_DOMAIN_SAVED || kvss_domain_start(domain, paused, error);
}

static GStrv
string_list(JsonObject *details, const char *member)
{
    g_autoptr(GStrvBuilder) list = g_strv_builder_new();
    JsonArray *array = json_object_has_member(details, member)
        ? json_object_get_array_member(details, member) : NULL;

    for (guint i = 0; array && i < json_array_get_length(array); i++)
        g_strv_builder_add(list, json_array_get_string_element(array, i));
    return g_strv_builder_end(list);
}

/* The dead run may have told libvirt of older ones again, and forgets them no more. */
static void
forget_checkpoints(KvssDomain *domain)
{
    g_autoptr(GPtrArray) names = kvss_domain_checkpoints(domain, KVSS_CHECKPOINT_PREFIX, NULL);

    if (names)
        kvss_domain_forget_checkpoints(domain, names);
}

static bool
undo_checkpoint(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = NULL;
    g_auto(GStrv) images = string_list(details, "images");

    if (!act_domain(details, host, &domain, error))
        return false;
    if (!domain)
        return true;
    if (!kvss_domain_delete_checkpoint(domain, detail(details, "checkpoint"),
                                       (const char *const *) images, error))
        return false;
    forget_checkpoints(domain);
    return true;
}

/* Field 22 of /proc/PID/stat; the command in field 2 may hold spaces and brackets. */
static bool
process_started_at(gint64 pid, gint64 start)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;
    char *after;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(after = strrchr(text, ')')))
        return false;
    fields = g_strsplit(g_strstrip(after + 1), " ", 22);
    return g_strv_length(fields) > 19 && g_ascii_strtoll(fields[19], NULL, 10) == start;
}

static bool
undo_process(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    gint64 pid = json_object_get_int_member_with_default(details, "pid", 0);
    gint64 start = json_object_get_int_member_with_default(details, "start", -1);

    if (pid > 1 && process_started_at(pid, start))
        (void) kill((pid_t) pid, SIGKILL);
    return true;
}

/* Where the act knows the file that we made, another one in its place is none of ours. */
static bool
is_another_file(JsonObject *details, const char *path)
{
    struct stat st;

    return json_object_has_member(details, "inode") && lstat(path, &st) == 0
        && ((gint64) st.st_ino != json_object_get_int_member(details, "inode")
            || (gint64) st.st_dev != json_object_get_int_member(details, "device"));
}

static bool
undo_empty_folder(const char *path, GError **error)
{
    if (rmdir(path) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == ENOTDIR)
        return true;
    return kvss_throw_errno(error, errno, "remove folder %s", path);
}

static bool
undo_file(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const char *path = detail(details, "path"), *aside = detail(details, "aside");
    struct stat st;

    if (json_object_get_boolean_member_with_default(details, "folder", FALSE))
        return undo_empty_folder(path, error);
    if (is_another_file(details, path))
        return true;

    /* The old file, which was set aside, is back in its place: ours is gone by that. */
    if (*aside && lstat(aside, &st) < 0 && errno == ENOENT)
        return true;
    if (unlink(path) == 0 || errno == ENOENT)
        return true;
    return kvss_throw_errno(error, errno, "remove %s", path);
}

/* A disk whose VM stayed registered: until now the VM could not be started with it. */
static bool
forward_file(JsonObject *details, KvssHost *host, GError **error)
{
    const char *path = detail(details, "path"), *becomes = detail(details, "becomes");
    g_autofree char *folder = g_path_get_dirname(path);

    if (!*becomes)
        return true;
    if (renameat2(AT_FDCWD, path, AT_FDCWD, becomes, RENAME_NOREPLACE) == 0)
        return kvss_fsync_folder(folder, error);
    if (errno == EINVAL && access(becomes, F_OK) < 0 && rename(path, becomes) == 0)
        return kvss_fsync_folder(folder, error);
    if (errno == ENOENT && access(becomes, F_OK) == 0)
        return true; /* done, and its end was not written any more */
    return kvss_throw_errno(error, errno, "rename %s to %s", path, becomes);
}

static bool remove_at(int parent, const char *name, dev_t device, GError **error);

/* Every entry; the first failure is told, and the others are tried all the same. Takes @fd. */
static bool
remove_content(int fd, dev_t device, GError **error)
{
    DIR *dir = fdopendir(fd);
    bool ok = true;

    if (!dir) {
        (void) kvss_throw_errno(error, errno, "look into a folder");
        (void) close(fd);
        return false;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (g_str_equal(entry->d_name, ".") || g_str_equal(entry->d_name, ".."))
            continue;
        ok = remove_at(dirfd(dir), entry->d_name, device, ok ? error : NULL) && ok;
    }
    (void) closedir(dir);
    return ok;
}

/*
 * By descriptor, so that whoever owns a folder above cannot lead us elsewhere in the
 * middle: symbolic links are removed, never followed. Other file systems are not entered.
 */
static bool
remove_at(int parent, const char *name, dev_t device, GError **error)
{
    struct stat st;
    int fd;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "look at %s", name);
    if (S_ISDIR(st.st_mode)) {
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != device) {
            (void) kvss_throw_errno(error, fd < 0 ? errno : EXDEV, "look into %s", name);
            kvss_fd_clear(&fd);
            return false;
        }
        if (!remove_content(fd, device, error))
            return false;
    }
    if (unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        return kvss_throw_errno(error, errno, "remove %s", name);
    return true;
}

bool
kvss_act_remove_tree(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    kvss_autofd int parent = -1;
    struct stat st;

    if (!g_path_is_absolute(path))
        return true;
    parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "open %s", folder);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "look at %s", path);
    if (remove_at(parent, name, st.st_dev, error))
        return true;
    g_prefix_error(error, "remove %s: ", path);
    return false;
}

static bool
undo_folder(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    return kvss_act_remove_tree(detail(details, "path"), error);
}

/* Done or undone, the work folder goes. */
static bool
forward_folder(JsonObject *details, KvssHost *host, GError **error)
{
    return undo_folder(details, host, 0, error);
}

/* clang-format off */
static const struct {
    const char *name;
    unsigned urgency;
    bool needs_host;
    UndoFunc undo;
    ForwardFunc forward; /* NULL: after the point of no return there is nothing to do */
    const char *describe; /* "%s" is the VM's name or the path */
} kinds[KVSS_ACT_N] = {
    [KVSS_ACT_FREEZE]       = { "freeze", 0, true, undo_freeze, NULL, "%s may be frozen" },
    [KVSS_ACT_STILL]        = { "still", 1, true, undo_still, NULL, "%s stands still" },
    [KVSS_ACT_JOB]          = { "job", 2, true, undo_job, NULL, "%s has a backup job of ours" },
    [KVSS_ACT_MANAGED_SAVE] = { "managed-save", 3, true, undo_managed_save, NULL, "%s was saved by us" },
    [KVSS_ACT_PROCESS]      = { "process", 4, false, undo_process, NULL, "a helper process runs%.0s" },
    [KVSS_ACT_FILE]         = { "file", 5, false, undo_file, forward_file, "file %s" },
    [KVSS_ACT_FOLDER]       = { "folder", 6, false, undo_folder, forward_folder, "work folder %s" },
    [KVSS_ACT_PROGRAM]      = { "program", 1, false, kvss_act_undo_program, NULL, "writer %s may hold its data" },
    [KVSS_ACT_CHECKPOINT]   = { "checkpoint", 3, true, undo_checkpoint, NULL, "%s has a checkpoint of an unfinished backup" },
    [KVSS_ACT_ASIDE]        = { "aside", 5, false, kvss_act_undo_aside, kvss_act_forward_aside, "%s was set aside" },
    [KVSS_ACT_UNDEFINE]     = { "undefine", 5, true, kvss_act_undo_undefine, NULL, "%s was taken away for a restore" },
    [KVSS_ACT_STOP]         = { "stop", 5, true, kvss_act_undo_stop, NULL, "%s was stopped for a restore" },
    [KVSS_ACT_DEFINE]       = { "define", 5, true, kvss_act_undo_define, kvss_act_forward_define, "%s was registered by an unfinished restore" },
    [KVSS_ACT_LINK]         = { "link", 5, false, kvss_act_undo_link, kvss_act_forward_link, "link %s was about to change" },
    [KVSS_ACT_REWRITE]      = { "rewrite", 5, false, kvss_act_undo_rewrite, kvss_act_forward_rewrite, "%s is being written over" },
};
/* clang-format on */

const char *
kvss_act_kind_name(KvssActKind kind)
{
    return kinds[kind].name;
}

bool
kvss_act_kind_from_name(const char *name, KvssActKind *out_kind)
{
    for (int i = 0; i < KVSS_ACT_N; i++) {
        if (g_str_equal(kinds[i].name, name)) {
            *out_kind = (KvssActKind) i;
            return true;
        }
    }
    return false;
}

char *
kvss_act_describe(const KvssAct *act)
{
    const char *what = detail(act->details, "name");

    if (!*what)
        what = detail(act->details, "path");
    if (!*what)
        what = detail(act->details, "from");
    if (kvss_act_is_stop(act))
        return g_strdup_printf("writer %s may use restored files", what);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return g_strdup_printf(kinds[act->kind].describe, what);
#pragma GCC diagnostic pop
}

unsigned
kvss_act_urgency(const KvssAct *act)
{
    return kvss_act_is_last(act) ? G_MAXUINT : kinds[act->kind].urgency;
}

bool
kvss_act_is_felt(const KvssAct *act)
{
    return act->kind == KVSS_ACT_FREEZE || act->kind == KVSS_ACT_STILL || act->kind == KVSS_ACT_JOB;
}

bool
kvss_act_is_apart(const KvssAct *act)
{
    return act->kind == KVSS_ACT_PROGRAM && !kvss_act_is_last(act) && !kvss_act_is_stop(act);
}

bool
kvss_act_is_stop(const KvssAct *act)
{
    return act->kind == KVSS_ACT_PROGRAM
        && g_str_equal(detail(act->details, "event"), "pre-restore");
}

const char *
kvss_act_writer(const KvssAct *act)
{
    return detail(act->details, "writer");
}

bool
kvss_act_is_last(const KvssAct *act)
{
    return act->kind == KVSS_ACT_PROGRAM
        && g_str_equal(detail(act->details, "event"), "post-restore");
}

const char *
kvss_act_vm(const KvssAct *act)
{
    static const KvssActKind restores[] = { KVSS_ACT_FILE, KVSS_ACT_ASIDE, KVSS_ACT_UNDEFINE, KVSS_ACT_STOP,
                                            KVSS_ACT_DEFINE, KVSS_ACT_REWRITE };

    for (gsize i = 0; i < G_N_ELEMENTS(restores); i++)
        if (act->kind == restores[i])
            return detail(act->details, "uuid");
    return "";
}

bool
kvss_act_needs_host(const KvssAct *act)
{
    /* libvirt must be told of a managed save image, and not throw it away with the new VM. */
    return kinds[act->kind].needs_host
        || (act->kind == KVSS_ACT_ASIDE && kvss_act_aside_is_memory(act->details));
}

bool
kvss_act_undo(const KvssAct *act, KvssHost *host, unsigned patience_s, GError **error)
{
    return kinds[act->kind].undo(act->details, host, patience_s, error);
}

bool
kvss_act_forward(const KvssAct *act, KvssHost *host, GError **error)
{
    ForwardFunc forward = kinds[act->kind].forward;

    return !forward || forward(act->details, host, error);
}
