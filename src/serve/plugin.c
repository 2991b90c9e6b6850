/*
 * plugin.c - stored disks for nbdkit: a plugin, loaded into its process
 *
 * The only file that speaks nbdkit's interface. serve.c starts it, and says there
 * what its settings are; by hand it is of no use, since it takes the password from a pipe.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "base/fd.h"
#include "base/secret.h"
#include "repository/read/stored-file.h"
#include "serve/cache.h"
#include "serve/exports.h"
#include "serve/report.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define CACHE_LENGTH (64u * 1024 * 1024)
/* What restic stored was cut by content, at 1 MiB on average: no cut fits all. */
#define PIECE_OF_OTHERS (1u * 1024 * 1024)
#define SECRETS_MAX 12288 /* password and location, with their ends */
/* A reader that tries again and again is told of once; a disk that is all damage, so often. */
#define DAMAGE_TOLD_MAX 1000u

/** An export that somebody has opened. */
typedef struct {
    KvssServeExport *export;
    KvssCached *disk;
} Open;

static struct {
    char *state_dir, *cache_dir, *backup, *vm, *disk;
    int password, report;
} settings = { .password = -1, .report = -1 };

static KvssRepository *repository;
static KvssBackup *backup;
static GPtrArray *exports; /* KvssServeExport */
static KvssCache *cache;

static GMutex lock;        /* guards what follows, and the opening of disks */
static KvssCached **opened; /* of each export; NULL: nobody has asked for it */
static GHashTable *told;   /* "name offset" of damage that was told */
static uint64_t damaged;

static uint64_t bytes_read; /* atomic */

/* ---- reports ---- */

static void
report(JsonObject *object, bool may_drop)
{
    static GMutex reporting;

    g_mutex_lock(&reporting);
    kvss_report_send(settings.report, object, may_drop);
    g_mutex_unlock(&reporting);
}

static JsonObject *
report_new(const char *type)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "type", type);
    return object;
}

/* What the library has to say is for people, who see the command's standard error and not ours. */
static GLogWriterOutput
write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
    JsonObject *object;

    if (level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG))
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") != 0)
            continue;
        object = report_new("warning");
        json_object_set_string_member(object, "message", fields[i].value);
        report(object, true);
    }
    return G_LOG_WRITER_HANDLED;
}

static void
report_ready(void)
{
    JsonObject *object = report_new("ready");
    JsonArray *list = json_array_new();

    json_object_set_string_member(object, "backup_id", backup->snapshot->id);
    for (guint i = 0; i < exports->len; i++) {
        const KvssServeExport *export = g_ptr_array_index(exports, i);
        JsonObject *entry = json_object_new();

        json_object_set_string_member(entry, "name", export->name);
        json_object_set_string_member(entry, "vm", export->vm->component->display_name);
        json_object_set_string_member(entry, "uuid", export->vm->component->name);
        json_object_set_string_member(entry, "target", export->disk->target);
        json_object_set_int_member(entry, "size", (gint64) export->disk->size);
        json_array_add_object_element(list, entry);
    }
    json_object_set_array_member(object, "exports", list);
    report(object, false);
}

static bool
damage_is_new(const KvssServeExport *export, uint64_t offset)
{
    char *key = g_strdup_printf("%s %" G_GUINT64_FORMAT, export->name, offset);
    bool is_new;

    g_mutex_lock(&lock);
    is_new = g_hash_table_size(told) < DAMAGE_TOLD_MAX && g_hash_table_add(told, key);
    if (is_new)
        damaged++;
    g_mutex_unlock(&lock);
    return is_new;
}

static void
report_damage(const KvssServeExport *export, uint64_t offset, const GError *problem)
{
    JsonObject *object;

    if (!damage_is_new(export, offset))
        return;
    object = report_new("damage");
    json_object_set_string_member(object, "name", export->name);
    json_object_set_string_member(object, "vm", export->vm->component->display_name);
    json_object_set_string_member(object, "target", export->disk->target);
    json_object_set_int_member(object, "offset", (gint64) offset);
    json_object_set_string_member(object, "message", problem->message);
    report(object, true);
}

/* ---- settings ---- */

static int
serve_config(const char *key, const char *value)
{
    const struct {
        const char *key;
        char **text;
        int *number;
    } known[] = {
        { "state-dir", &settings.state_dir, NULL },  { "cache-dir", &settings.cache_dir, NULL },
        { "backup", &settings.backup, NULL },        { "vm", &settings.vm, NULL },
        { "disk", &settings.disk, NULL },            { "password-fd", NULL, &settings.password },
        { "report-fd", NULL, &settings.report },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(known[i].key, key) != 0)
            continue;
        if (known[i].number)
            return nbdkit_parse_int(key, value, known[i].number);
        kvss_set_string(known[i].text, value);
        return 0;
    }
    nbdkit_error("unknown setting %s", key);
    return -1;
}

static int
serve_config_complete(void)
{
    if (settings.state_dir && settings.backup && settings.password >= 0
        && settings.report >= 0)
        return 0;
    nbdkit_error("this plugin is started by 'kvss serve'");
    return -1;
}

/* ---- the repository ---- */

/* All there is in the pipe, into memory for secrets: the password, the location, each with its end. */
static bool
read_secrets(char *secrets, GError **error)
{
    size_t length = 0;
    ssize_t n;

    while ((n = read(settings.password, secrets + length, SECRETS_MAX - length)) != 0) {
        if (n < 0 && errno != EINTR)
            return kvss_throw_errno(error, errno, "the password from the pipe");
        length += n > 0 ? (size_t) n : 0;
    }
    kvss_fd_clear(&settings.password);
    secrets[length] = '\0';
    if (strlen(secrets) < length)
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "the pipe does not have a password and a location");
}

static bool
open_repository(GError **error)
{
    char *secrets = kvss_secret_new(SECRETS_MAX + 1);
    g_autofree char *text = NULL;

    if (read_secrets(secrets, error)) {
        const char *location = secrets + strlen(secrets) + 1;

        text = kvss_repository_location_text(location);
        repository = kvss_repository_open(location, secrets, KVSS_REPOSITORY_LOOK,
                                          settings.cache_dir, settings.state_dir, error);
    }
    kvss_secret_free(secrets);
    if (!repository && text && error && !strstr((*error)->message, text))
        g_prefix_error(error, "repository %s: ", text);
    return repository != NULL;
}

/* Called under the lock. */
static KvssCached *
disk_open(guint number, GError **error)
{
    const KvssServeExport *export = g_ptr_array_index(exports, number);
    KvssSource *source;
    uint32_t piece;

    if (opened[number])
        return opened[number];
    source = kvss_backup_open_disk(repository, backup, export->vm, export->disk, error);
    if (!source) {
        g_prefix_error(error, "%s: ", export->name);
        return NULL;
    }
    piece = kvss_stored_file_chunk_length(source);
    opened[number] = kvss_cache_add(cache, source, piece ? piece : PIECE_OF_OTHERS);
    return opened[number];
}

static bool
open_all(GError **error)
{
    const char *const vms[] = { settings.vm, NULL };

    if (!open_repository(error))
        return false;
    backup = kvss_catalogue_find(repository, settings.backup, vms, error);
    if (!backup)
        return false;
    exports = kvss_serve_exports_new(backup, settings.vm, settings.disk, error);
    if (!exports)
        return false;
    told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    cache = kvss_cache_new(CACHE_LENGTH, g_get_num_processors());
    opened = g_new0(KvssCached *, exports->len);
    /* The only one will be wanted, and its reader should not wait for a long list of chunks. */
    return exports->len > 1 || disk_open(0, error);
}

static void
close_all(void)
{
    g_clear_pointer(&cache, kvss_cache_free);
    g_clear_pointer(&opened, g_free);
    g_clear_pointer(&told, g_hash_table_unref);
    g_clear_pointer(&exports, g_ptr_array_unref);
    g_clear_pointer(&backup, kvss_backup_free);
    g_clear_pointer(&repository, kvss_repository_free);
}

/*
 * In the process that serves: the lock's thread would not live through a fork. "restic unlock"
 * asks with SIGHUP whether the lock's holder lives, and nbdkit would take it for an order to leave.
 * A terminal's goes to kvss, which ends us.
 */
static int
serve_after_fork(void)
{
    g_autoptr(GError) error = NULL;

    (void) signal(SIGHUP, SIG_IGN);
    g_log_set_writer_func(write_log, NULL, NULL);
    if (open_all(&error)) {
        report_ready();
        return 0;
    }
    report(kvss_report_error_new(error), false);
    nbdkit_error("%s", error->message);
    close_all(); /* nbdkit leaves at once, and our lock has to go */
    return -1;
}

static void
report_end(void)
{
    JsonObject *object = report_new("end");

    json_object_set_int_member(object, "bytes_read", (gint64) bytes_read);
    json_object_set_int_member(object, "damaged", (gint64) damaged);
    report(object, false);
}

static void
serve_unload(void)
{
    close_all();
    if (settings.report >= 0)
        report_end();
    kvss_fd_clear(&settings.report);
    kvss_fd_clear(&settings.password);
    g_free(settings.state_dir);
    g_free(settings.cache_dir);
    g_free(settings.backup);
    g_free(settings.vm);
    g_free(settings.disk);
}

/* ---- exports ---- */

static int
serve_list_exports(int readonly, int is_tls, struct nbdkit_exports *list)
{
    for (guint i = 0; i < exports->len; i++) {
        const KvssServeExport *export = g_ptr_array_index(exports, i);

        if (nbdkit_add_export(list, export->name, export->description) < 0)
            return -1;
    }
    return 0;
}

/* With several there is none: who gives no name is told so when it opens. */
static const char *
serve_default_export(int readonly, int is_tls)
{
    return exports->len == 1 ? ((KvssServeExport *) g_ptr_array_index(exports, 0))->name : "";
}

static void *
serve_open(int readonly)
{
    const char *name = nbdkit_export_name();
    g_autoptr(GError) error = NULL;
    int number = kvss_serve_exports_find(exports, name ? name : "");
    KvssCached *disk;
    Open *open;

    if (number < 0) {
        nbdkit_error("there is no export '%s'%s", name,
                     *name ? "" : ": there are several, name one of them");
        return NULL;
    }
    g_mutex_lock(&lock);
    disk = disk_open((guint) number, &error);
    g_mutex_unlock(&lock);
    if (!disk) {
        report_damage(g_ptr_array_index(exports, (guint) number), 0, error);
        nbdkit_error("%s", error->message);
        return NULL;
    }
    open = g_new0(Open, 1);
    open->export = g_ptr_array_index(exports, (guint) number);
    open->disk = disk;
    return open;
}

static void
serve_close(void *handle)
{
    g_free(handle);
}

static const char *
serve_export_description(void *handle)
{
    return ((const Open *) handle)->export->description;
}

static int64_t
serve_get_size(void *handle)
{
    return (int64_t) kvss_cached_source(((const Open *) handle)->disk)->size;
}

/* Nothing is ever written: every connection sees the same. */
static int
serve_can_multi_conn(void *handle)
{
    return 1;
}

static int
serve_can_cache(void *handle)
{
    return NBDKIT_CACHE_NATIVE;
}

/* ---- requests ---- */

static int
serve_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    const Open *open = handle;
    g_autoptr(GError) error = NULL;
    uint64_t bad = offset;

    if (kvss_cached_read(open->disk, offset, buffer, count, &bad, &error)) {
        __atomic_add_fetch(&bytes_read, count, __ATOMIC_RELAXED);
        return 0;
    }
    report_damage(open->export, bad, error);
    nbdkit_set_error(EIO);
    return -1;
}

static int
serve_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    kvss_cached_read_ahead(((const Open *) handle)->disk, offset, count);
    return 0;
}

static int
add_extents(struct nbdkit_extents *list, const GArray *extents, bool only_one)
{
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        if (nbdkit_add_extent(list, extent->offset, extent->length,
                              extent->zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) < 0)
            return -1;
        if (only_one)
            break;
    }
    return 0;
}

static int
serve_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *list)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    KvssSource *source = kvss_cached_source(((const Open *) handle)->disk);
    g_autoptr(GError) error = NULL;

    if (kvss_source_extents(source, offset, count, extents, &error))
        return add_extents(list, extents, flags & NBDKIT_FLAG_REQ_ONE);
    nbdkit_error("%s", error->message);
    nbdkit_set_error(EIO);
    return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "kvss",
    .longname = "disks of kvss backups",
    .version = KVSS_VERSION,
    .description = "read-only; started by kvss serve",
    .unload = serve_unload,
    .config = serve_config,
    .config_complete = serve_config_complete,
    .after_fork = serve_after_fork,
    .list_exports = serve_list_exports,
    .default_export = serve_default_export,
    .open = serve_open,
    .close = serve_close,
    .export_description = serve_export_description,
    .get_size = serve_get_size,
    .can_multi_conn = serve_can_multi_conn,
    .can_cache = serve_can_cache,
    .pread = serve_pread,
    .cache = serve_cache,
    .extents = serve_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
