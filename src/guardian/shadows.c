/*
 * shadows.c - the shadow copies that exist on this host, told by the journals
 *
 * An act in a journal says that a job was to begin, not that it did, nor that its
 * QEMU lives: the kernel's table of sockets says whether it is served.
 */
#include "guardian/shadows.h"
#include "guardian/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* __SO_ACCEPTCON, in the column "Flags" of /proc/net/unix. */
#define LISTENING 0x10000u

static void
shadow_free(KvssShadow *shadow)
{
    g_free(shadow->id);
    g_free(shadow->vm);
    g_free(shadow->vm_uuid);
    g_free(shadow->target);
    g_free(shadow->original);
    g_free(shadow->device);
    g_free(shadow->provider);
    g_free(shadow);
}

static void
set_free(KvssShadowSet *set)
{
    g_free(set->id);
    g_free(set->purpose);
    g_free(set->uri);
    g_ptr_array_unref(set->shadows);
    g_free(set);
}

/* ---- what the kernel knows ---- */

/* Paths of unix sockets that somebody listens on. */
static GHashTable *
listening_sockets(void)
{
    GHashTable *paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/net/unix", &text, NULL, NULL))
        return paths;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned flags;
        int at = 0;

        /* Num RefCount Protocol Flags Type St Inode Path */
        if (sscanf(*line, "%*s %*s %*s %x %*s %*s %*s %n", &flags, &at) == 1 && at > 0 &&
            (flags & LISTENING) && (*line)[at] == '/')
            g_hash_table_add(paths, g_strdup(*line + at));
    }
    return paths;
}

/*
 * Who is alive is told by the lock that only the run's own process holds. Here it is
 * looked up and not tried, so that nobody ever finds it taken by us. The device's
 * number is not compared: on btrfs the kernel's differs from what stat() says.
 */
static bool
holds_lock(gint64 pid, const char *path)
{
    g_autofree char *text = NULL, *wanted = NULL;
    g_auto(GStrv) lines = NULL;
    struct stat st;

    if (stat(path, &st) < 0 || !g_file_get_contents("/proc/locks", &text, NULL, NULL))
        return false;
    wanted = g_strdup_printf(":%" G_GUINT64_FORMAT, (guint64) st.st_ino);
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char kind[16], place[64];
        long long holder;

        /* "3: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF" */
        if (sscanf(*line, "%*s %15s %*s %*s %lld %63s", kind, &holder, place) == 3 &&
            strcmp(kind, "FLOCK") == 0 && holder == pid && g_str_has_suffix(place, wanted))
            return true;
    }
    return false;
}

/* ---- one job ---- */

static const char *
text_of(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, NULL);
}

static char *
device_of(const char *socket, const char *target)
{
    g_autofree char *name = g_uri_escape_string(target ? target : "", NULL, FALSE);

    return g_strdup_printf("nbd+unix:///%s?socket=%s", name, socket);
}

/* @disk: (nullable) in journals of older versions the job is all that is told. */
static KvssShadow *
shadow_new(JsonObject *job, JsonObject *disk)
{
    KvssShadow *shadow = g_new0(KvssShadow, 1);
    const char *provider = text_of(job, "provider");

    shadow->vm = g_strdup(text_of(job, "name"));
    shadow->vm_uuid = g_strdup(text_of(job, "uuid"));
    shadow->time_us = kvss_journal_time(job);
    shadow->provider = g_strdup(provider ? provider : "qemu");
    shadow->attributes = (uint32_t) json_object_get_int_member_with_default(
        job, "attributes", KVSS_ATTR_DIFFERENTIAL);
    if (disk) {
        shadow->id = g_strdup(text_of(disk, "shadow_id"));
        shadow->target = g_strdup(text_of(disk, "target"));
        shadow->original = g_strdup(text_of(disk, "path"));
    }
    shadow->device = device_of(text_of(job, "socket"), shadow->target);
    return shadow;
}

static void
add_job(GPtrArray *shadows, JsonObject *job, GHashTable *served)
{
    const char *socket = text_of(job, "socket");
    JsonNode *node = json_object_get_member(job, "disks");
    JsonArray *disks = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    if (!socket || !g_hash_table_contains(served, socket))
        return;
    for (guint i = 0; disks && i < json_array_get_length(disks); i++) {
        JsonNode *disk = json_array_get_element(disks, i);

        if (JSON_NODE_HOLDS_OBJECT(disk))
            g_ptr_array_add(shadows, shadow_new(job, json_node_get_object(disk)));
    }
    if (!disks)
        g_ptr_array_add(shadows, shadow_new(job, NULL));
}

/* ---- one journal ---- */

/* NULL without an error: there is nothing of it, or it ended under our eyes. */
static KvssShadowSet *
read_set(const char *path, GHashTable *served, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(KvssJournal) journal = NULL;
    g_auto(KvssJournalContent) content = { 0 };
    g_autoptr(GPtrArray) shadows = g_ptr_array_new_with_free_func((GDestroyNotify) shadow_free);
    g_autofree char *alive = kvss_journal_alive_path(path);
    KvssShadowSet *set;

    if (fd < 0 && errno == ENOENT)
        return NULL;
    if (fd < 0) {
        kvss_throw_errno(error, errno, "open journal %s", path);
        return NULL;
    }
    journal = kvss_journal_from_fd(fd, path);
    if (!kvss_journal_read(journal, &content, error))
        return NULL;
    for (guint i = 0; i < content.open->len; i++) {
        const KvssAct *act = g_ptr_array_index(content.open, i);

        if (act->kind == KVSS_ACT_JOB)
            add_job(shadows, act->details, served);
    }
    if (shadows->len == 0)
        return NULL;
    set = g_new0(KvssShadowSet, 1);
    set->id = g_strdup(content.id);
    set->purpose = g_strdup(content.purpose);
    set->uri = g_strdup(content.uri);
    set->pid = content.pid;
    set->start_us = content.start_us;
    set->is_alive = holds_lock(content.pid, alive);
    set->shadows = g_steal_pointer(&shadows);
    return set;
}

static gint
by_start(gconstpointer a, gconstpointer b)
{
    const KvssShadowSet *one = *(KvssShadowSet *const *) a, *two = *(KvssShadowSet *const *) b;

    if (one->start_us != two->start_us)
        return one->start_us < two->start_us ? -1 : 1;
    return g_strcmp0(one->id, two->id);
}

GPtrArray *
kvss_shadows_list(const char *state_dir, GPtrArray **out_problems, GError **error)
{
    g_autofree char *folder = g_build_filename(state_dir, "journals", NULL);
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &local);
    g_autoptr(GPtrArray) sets = g_ptr_array_new_with_free_func((GDestroyNotify) set_free);
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) served = NULL;
    const char *name;

    if (!dir && !g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "cannot look for shadow copies: %s",
                   local->message);
        return NULL;
    }
    served = listening_sockets();
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(GError) problem = NULL;
        KvssShadowSet *set;

        if (!g_str_has_suffix(name, ".journal"))
            continue;
        set = read_set(path, served, &problem);
        if (set)
            g_ptr_array_add(sets, set);
        else if (problem)
            g_ptr_array_add(problems, g_strdup(problem->message));
    }
    g_ptr_array_sort(sets, by_start);
    *out_problems = g_steal_pointer(&problems);
    return g_steal_pointer(&sets);
}
