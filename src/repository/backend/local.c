/*
 * local.c - a repository in a folder of this host
 *
 *   tmp/kvss-XXXXXX ── write, fsync ── rename ──▶ data/1f/1f8a…   then fsync data/1f
 *
 * A writer holds a flock on each of its files in tmp/ while it lives; a file
 * there that can be locked belongs to nobody any more. Names become durable by
 * an fsync of their folder: at once for small files, and once for many packs
 * in sync(), which comes before any index names them.
 */
#include "base/fd.h"
#include "repository/backend/append.h"
#include "repository/backend/backend.h"
#include "repository/format/id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEMPORARY_FOLDER "tmp"
#define TEMPORARY_PREFIX "kvss-"
#define N_DATA_FOLDERS 256

static const char *const type_folders[KVSS_FILE_N_TYPES] = {
    [KVSS_FILE_CONFIG] = ".",           [KVSS_FILE_KEY] = "keys",    [KVSS_FILE_LOCK] = "locks",
    [KVSS_FILE_SNAPSHOT] = "snapshots", [KVSS_FILE_INDEX] = "index", [KVSS_FILE_DATA] = "data",
};

typedef struct {
    KvssBackend backend;
    int root;                          /* the repository's folder */
    gint unsynced[N_DATA_FOLDERS];     /* 1: a pack was renamed into it since the last sync */
    gint has_failed_sync;              /* final: what was written may be lost, no later sync tells */
    GMutex settling;                   /* guards: */
    bool is_settled;                   /* see settle() */
    bool remove_when_freed;            /* created, and no config yet */
    bool made_root;
} LocalBackend;

typedef struct {
    KvssSpool spool;
    int fd;
    KvssAppend append; /* to fd */
    char name[64];     /* in the root, "tmp/kvss-..."; empty once stored */
} LocalSpool;

/* "data/1f/1f8a..." in @out, which has room for the longest. */
static void
file_path(KvssFileType type, const char *name, char out[PATH_MAX])
{
    if (type == KVSS_FILE_CONFIG)
        g_strlcpy(out, "config", PATH_MAX);
    else if (type == KVSS_FILE_DATA)
        g_snprintf(out, PATH_MAX, "data/%.2s/%s", name, name);
    else
        g_snprintf(out, PATH_MAX, "%s/%s", type_folders[type], name);
}

static void
folder_path(KvssFileType type, const char *name, char out[PATH_MAX])
{
    if (type == KVSS_FILE_DATA)
        g_snprintf(out, PATH_MAX, "data/%.2s", name);
    else
        g_strlcpy(out, type_folders[type], PATH_MAX);
}

static bool
sync_folder_at(int root, const char *folder, GError **error)
{
    kvss_autofd int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "open folder %s", folder);
    return kvss_fsync(fd, folder, error);
}

/* ---- listing and reading ---- */

static bool
list_one(int folder, const char *name, GArray *out_files, GError **error)
{
    KvssStoredFile file;
    struct stat st;

    if (!kvss_id_from_hex(name, strlen(name), file.id))
        return true; /* not a file of the repository: somebody's temporary one */
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "look at %s", name);
    if (!S_ISREG(st.st_mode))
        return true;
    file.size = (uint64_t) st.st_size;
    g_array_append_val(out_files, file);
    return true;
}

static bool
list_folder(int root, const char *folder, GArray *out_files, GError **error)
{
    kvss_autofd int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    bool ok = true;
    DIR *dir;

    if (fd < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "open folder %s", folder);
    dir = fdopendir(fd);
    if (!dir)
        return kvss_throw_errno(error, errno, "read folder %s", folder);
    (void) kvss_fd_steal(&fd); /* now the stream's */

    errno = 0;
    while (ok && (entry = readdir(dir)) != NULL) {
        ok = list_one(dirfd(dir), entry->d_name, out_files, error);
        errno = 0;
    }
    if (ok && errno != 0)
        ok = kvss_throw_errno(error, errno, "read folder %s", folder);
    closedir(dir);
    return ok;
}

static bool
local_list(KvssBackend *backend, KvssFileType type, GArray *out_files, GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;

    if (type != KVSS_FILE_DATA)
        return list_folder(self->root, type_folders[type], out_files, error);

    for (unsigned i = 0; i < N_DATA_FOLDERS; i++) {
        char folder[16];

        g_snprintf(folder, sizeof folder, "data/%02x", i);
        if (!list_folder(self->root, folder, out_files, error))
            return false;
    }
    return true;
}

static bool
local_size(KvssBackend *backend, KvssFileType type, const char *name, uint64_t *out_size,
           GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;
    char path[PATH_MAX];
    struct stat st;

    file_path(type, name, path);
    if (fstatat(self->root, path, &st, 0) < 0)
        return kvss_throw_errno(error, errno, "look at %s", path);
    *out_size = (uint64_t) st.st_size;
    return true;
}

static bool
local_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
           void *buffer, size_t length, GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;
    kvss_autofd int fd = -1;
    char path[PATH_MAX];

    file_path(type, name, path);
    fd = openat(self->root, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    return kvss_pread_exact(fd, buffer, length, offset, error);
}

/* ---- writing ---- */

/* After a failed fsync the kernel may have dropped the data, and says so only once. */
static bool
check_sync(LocalBackend *self, GError **error)
{
    if (!g_atomic_int_get(&self->has_failed_sync))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "an earlier sync failed: nothing more is written in this run");
}

/* Remembers a failure. Returns: @ok. */
static bool
note_sync(LocalBackend *self, bool ok)
{
    if (!ok)
        g_atomic_int_set(&self->has_failed_sync, 1);
    return ok;
}

/*
 * A new locked file in tmp/. Between its creation and the lock another process
 * may take it for a dead one's and remove it: then there is no name left, and
 * we make another.
 */
static bool
spool_create(LocalBackend *self, LocalSpool *spool, GError **error)
{
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        struct stat st;

        g_snprintf(spool->name, sizeof spool->name, TEMPORARY_FOLDER "/" TEMPORARY_PREFIX "%08x%08x",
                   g_random_int(), g_random_int());
        spool->fd = openat(self->root, spool->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
        if (spool->fd < 0 && errno == ENOENT && mkdirat(self->root, TEMPORARY_FOLDER, 0700) == 0)
            continue;
        if (spool->fd < 0 && errno == EEXIST)
            continue;
        if (spool->fd < 0)
            return kvss_throw_errno(error, errno, "create %s", spool->name);
        if (flock(spool->fd, LOCK_EX | LOCK_NB) == 0 && fstat(spool->fd, &st) == 0
            && st.st_nlink > 0)
            return true;
        kvss_fd_clear(&spool->fd);
    }
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                      "no temporary file can be made and locked in %s", TEMPORARY_FOLDER);
}

static LocalSpool *
spool_new(LocalBackend *self, GError **error)
{
    LocalSpool *spool = g_new0(LocalSpool, 1);

    spool->spool.backend = &self->backend;
    spool->fd = -1;
    if (spool_create(self, spool, error))
        return spool;
    g_free(spool);
    return NULL;
}

static KvssSpool *
local_spool_new(KvssBackend *backend, GError **error)
{
    LocalSpool *spool = spool_new((LocalBackend *) backend, error);

    if (!spool)
        return NULL;
    kvss_append_begin(&spool->append, spool->fd);
    return &spool->spool;
}

static bool
local_spool_append(KvssSpool *spool, const void *data, size_t length, GError **error)
{
    return kvss_append_write(&((LocalSpool *) spool)->append, data, length, error);
}

/* Tools that copy a repository may drop its empty folders: the one for @path is made. */
static bool
make_missing_folder(LocalBackend *self, KvssFileType type, const char *name)
{
    char folder[PATH_MAX];

    folder_path(type, name, folder);
    (void) mkdirat(self->root, type_folders[type], 0700);
    (void) mkdirat(self->root, folder, 0700);
    return note_sync(self, sync_folder_at(self->root, type_folders[type], NULL)
                               && sync_folder_at(self->root, ".", NULL));
}

/*
 * A snapshot counts on index files that others may have named a moment ago and
 * not yet synced: they must not be lost when it survives.
 */
static bool
sync_index(LocalBackend *self, GError **error)
{
    return note_sync(self, sync_folder_at(self->root, type_folders[KVSS_FILE_INDEX], error));
}

/* Under its name, but the name is not yet durable. */
static bool
spool_rename(LocalBackend *self, LocalSpool *spool, KvssFileType type, const char *name,
             GError **error)
{
    char path[PATH_MAX];

    file_path(type, name, path);
    if (!check_sync(self, error) || !note_sync(self, kvss_fsync(spool->fd, spool->name, error)))
        return false;
    if (renameat(self->root, spool->name, self->root, path) < 0
        && (errno != ENOENT || !make_missing_folder(self, type, name)
            || renameat(self->root, spool->name, self->root, path) < 0))
        return kvss_throw_errno(error, errno, "rename %s to %s", spool->name, path);
    spool->name[0] = '\0';
    return true;
}

static void
local_count_on(KvssBackend *backend, KvssFileType type, const char *name)
{
    g_assert(type == KVSS_FILE_DATA);
    g_atomic_int_set(&((LocalBackend *) backend)->unsynced[g_ascii_xdigit_value(name[0]) << 4
                                                           | g_ascii_xdigit_value(name[1])], 1);
}

static bool
local_spool_store(KvssSpool *spool, KvssFileType type, const char *name, GError **error)
{
    LocalSpool *self = (LocalSpool *) spool;

    if (!kvss_append_end(&self->append, error)
        || !spool_rename((LocalBackend *) spool->backend, self, type, name, error))
        return false;
    local_count_on(spool->backend, type, name);
    return true;
}

static void
local_spool_free(KvssSpool *spool)
{
    LocalSpool *self = (LocalSpool *) spool;

    if (self->name[0])
        (void) unlinkat(((LocalBackend *) spool->backend)->root, self->name, 0);
    kvss_append_clear(&self->append);
    kvss_fd_clear(&self->fd);
    g_free(self);
}

static bool
put_spool(LocalBackend *self, LocalSpool *spool, KvssFileType type, const char *name,
          const void *data, size_t length, GError **error)
{
    char folder[PATH_MAX];

    folder_path(type, name, folder);
    return (type != KVSS_FILE_SNAPSHOT || sync_index(self, error))
        && kvss_write_exact(spool->fd, data, length, error)
        && spool_rename(self, spool, type, name, error)
        && note_sync(self, sync_folder_at(self->root, folder, error));
}

static bool
local_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
          size_t length, GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;
    LocalSpool *spool = spool_new(self, error);
    bool ok;

    if (!spool)
        return false;
    ok = put_spool(self, spool, type, name, data, length, error);
    local_spool_free(&spool->spool);
    if (ok && type == KVSS_FILE_CONFIG)
        self->remove_when_freed = false;
    return ok;
}

static bool
remove_at(int root, KvssFileType type, const char *name, GError **error)
{
    char path[PATH_MAX], folder[PATH_MAX];

    file_path(type, name, path);
    folder_path(type, name, folder);
    if (unlinkat(root, path, 0) < 0)
        return kvss_throw_errno(error, errno, "remove %s", path);
    return sync_folder_at(root, folder, error);
}

/*
 * An index file or a pack goes because nothing names it any more. Who took those names away
 * may have died before that was durable: in a crash an old snapshot or index file would come
 * back, without what it names. Whoever removes is alone, so once is enough: what we remove
 * ourselves is durable at once.
 */
static bool
settle(LocalBackend *self, GError **error)
{
    bool ok;

    g_mutex_lock(&self->settling);
    ok = self->is_settled
        || (note_sync(self, sync_folder_at(self->root, type_folders[KVSS_FILE_SNAPSHOT], error))
            && sync_index(self, error));
    self->is_settled = ok;
    g_mutex_unlock(&self->settling);
    return ok;
}

static bool
local_remove(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;
    bool is_named = type == KVSS_FILE_INDEX || type == KVSS_FILE_DATA;

    return (!is_named || settle(self, error)) && remove_at(self->root, type, name, error);
}

/*
 * Every pack itself was synced before its rename; here the names follow. A flag
 * is cleared before its folder is synced, so that a rename in between is not
 * lost; after a failure the run is over anyway.
 */
static bool
local_sync(KvssBackend *backend, GError **error)
{
    LocalBackend *self = (LocalBackend *) backend;

    if (!check_sync(self, error))
        return false;
    for (unsigned i = 0; i < N_DATA_FOLDERS; i++) {
        char folder[16];

        if (!g_atomic_int_compare_and_exchange(&self->unsynced[i], 1, 0))
            continue;
        g_snprintf(folder, sizeof folder, "data/%02x", i);
        if (!note_sync(self, sync_folder_at(self->root, folder, error)))
            return false;
    }
    return true;
}

/* ---- what dead writers left ---- */

static void
drop_if_dead(int folder, const char *name)
{
    kvss_autofd int fd = -1;

    if (!g_str_has_prefix(name, TEMPORARY_PREFIX))
        return;
    fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return;
    g_debug("removing %s, left by a writer that is gone", name);
    (void) unlinkat(folder, name, 0);
}

static void
local_drop_remains(KvssBackend *backend)
{
    int fd = openat(((LocalBackend *) backend)->root, TEMPORARY_FOLDER,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir) {
        kvss_fd_clear(&fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        drop_if_dead(dirfd(dir), entry->d_name);
    closedir(dir);
}

static bool
local_is_read_only(KvssBackend *backend)
{
    struct statvfs vfs;

    return fstatvfs(((LocalBackend *) backend)->root, &vfs) == 0 && (vfs.f_flag & ST_RDONLY);
}

/* ---- life ---- */

static bool
folder_is_empty(int fd, bool *out_empty, GError **error)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;

    if (!dir) {
        kvss_throw_errno(error, errno, "read the folder");
        kvss_fd_clear(&copy);
        return false;
    }
    *out_empty = true;
    while (*out_empty && (entry = readdir(dir)) != NULL)
        *out_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return true;
}

static void
remove_folders(LocalBackend *self)
{
    for (unsigned i = 0; i < N_DATA_FOLDERS; i++) {
        char folder[16];

        g_snprintf(folder, sizeof folder, "data/%02x", i);
        (void) unlinkat(self->root, folder, AT_REMOVEDIR);
    }
    for (unsigned i = KVSS_FILE_CONFIG + 1; i < KVSS_FILE_N_TYPES; i++)
        (void) unlinkat(self->root, type_folders[i], AT_REMOVEDIR);
    (void) unlinkat(self->root, TEMPORARY_FOLDER, AT_REMOVEDIR);
    if (self->made_root)
        (void) rmdir(self->backend.location);
}

/* A key that was put before the config failed goes first. */
static void
remove_keys(LocalBackend *self)
{
    g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(KvssStoredFile));

    (void) list_folder(self->root, "keys", files, NULL);
    for (guint i = 0; i < files->len; i++) {
        char hex[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, hex);
        (void) remove_at(self->root, KVSS_FILE_KEY, hex, NULL);
    }
}

static void
local_free(KvssBackend *backend)
{
    LocalBackend *self = (LocalBackend *) backend;

    if (self->remove_when_freed) {
        remove_keys(self);
        remove_folders(self);
    }
    kvss_fd_clear(&self->root);
    g_mutex_clear(&self->settling);
    g_free(backend->location);
    g_free(self);
}

static const KvssBackendOps local_ops = {
    .name = "local",
    .list = local_list,
    .size = local_size,
    .read = local_read,
    .put = local_put,
    .remove = local_remove,
    .spool_new = local_spool_new,
    .spool_append = local_spool_append,
    .spool_store = local_spool_store,
    .spool_free = local_spool_free,
    .sync = local_sync,
    .count_on = local_count_on,
    .drop_remains = local_drop_remains,
    .is_read_only = local_is_read_only,
    .free = local_free,
};

static LocalBackend *
local_new(const char *path, int root)
{
    LocalBackend *self = g_new0(LocalBackend, 1);

    self->backend.ops = &local_ops;
    self->backend.location = g_canonicalize_filename(path, NULL);
    self->root = root;
    g_mutex_init(&self->settling);
    return self;
}

KvssBackend *
kvss_backend_open_local(const char *path, GError **error)
{
    kvss_autofd int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                   "repository %s: %s%s", path, g_strerror(errno),
                   errno == ENOENT ? "; is it mounted? 'kvss init' makes a new one" : "");
        return NULL;
    }
    if (faccessat(root, "config", R_OK, 0) < 0) {
        kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                   errno == ENOENT ? "%s is not a repository: it has no config file (%s); 'kvss "
                                     "init' makes a new one"
                                   : "repository %s: config: %s",
                   path, g_strerror(errno));
        return NULL;
    }
    return &local_new(path, kvss_fd_steal(&root))->backend;
}

static bool
make_folder_at(int root, const char *name, GError **error)
{
    if (mkdirat(root, name, 0700) == 0)
        return true;
    return kvss_throw_errno(error, errno, "make folder %s", name);
}

static bool
make_folders(LocalBackend *self, GError **error)
{
    for (unsigned i = KVSS_FILE_CONFIG + 1; i < KVSS_FILE_N_TYPES; i++)
        if (!make_folder_at(self->root, type_folders[i], error))
            return false;
    for (unsigned i = 0; i < N_DATA_FOLDERS; i++) {
        char folder[16];

        g_snprintf(folder, sizeof folder, "data/%02x", i);
        if (!make_folder_at(self->root, folder, error))
            return false;
    }
    return sync_folder_at(self->root, "data", error) && sync_folder_at(self->root, ".", error);
}

static bool
check_unused(int root, const char *path, GError **error)
{
    bool empty;

    if (faccessat(root, "config", F_OK, 0) == 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                          "%s is a repository already", path);
    if (!folder_is_empty(root, &empty, error))
        return false;
    return empty
        || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_EXISTS,
                      "folder %s is not empty", path);
}

/* Makes the repository's own folder, durable in its parent; one that is there must be empty. */
static bool
make_root(const char *path, int *out_root, bool *out_made, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    g_autofree char *parent = g_path_get_dirname(absolute);
    bool made = mkdir(path, 0700) == 0;
    kvss_autofd int root = -1;

    if (!made && errno == ENOENT)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING,
                          "folder %s is not there", parent);
    if (!made && errno != EEXIST)
        return kvss_throw_errno(error, errno, "make folder %s", path);
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    if (!made && !check_unused(root, path, error))
        return false;
    if (made && !kvss_fsync_folder(parent, error)) {
        (void) rmdir(path);
        return false;
    }
    *out_root = kvss_fd_steal(&root);
    *out_made = made;
    return true;
}

KvssBackend *
kvss_backend_create_local(const char *path, GError **error)
{
    LocalBackend *self;
    bool made = false;
    int root = -1;

    if (!make_root(path, &root, &made, error))
        return NULL;
    self = local_new(path, root);
    self->made_root = made;
    self->remove_when_freed = true;
    if (make_folders(self, error))
        return &self->backend;
    local_free(&self->backend);
    return NULL;
}

bool
kvss_backend_local_remove_lock(const char *path, const char *name, GError **error)
{
    kvss_autofd int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    return remove_at(root, KVSS_FILE_LOCK, name, error);
}
