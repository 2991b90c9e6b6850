/*
 * export.c - one stored disk into a file, with no VM and no libvirt
 */
#include "restore/export.h"
#include "base/fd.h"
#include "base/test-point.h"
#include "host/image.h"
#include "restore/image-write.h"
#include "restore/restore.h"
#include "stream/source.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_LENGTH (4u * 1024 * 1024)
/* Of a file's name, in the name beside it: a name has at most 255 bytes. */
#define NAME_KEPT_MAX 220

typedef struct {
    const KvssExportOptions *options;
    KvssSource *source;
    char *folder;
    char *part;    /* what FILE is called until it is whole; NULL until it was made */
    uint64_t need; /* bytes on the file system, about */
    KvssCopyStats stats;
} Export;

static void
export_clear(Export *export)
{
    kvss_source_free(export->source);
    g_free(export->folder);
    g_free(export->part);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Export, export_clear)

static const struct {
    const char *suffix, *format;
} suffixes[] = {
    { ".raw", "raw" }, { ".img", "raw" }, { ".qcow2", "qcow2" }, { ".vhdx", "vhdx" }, { ".vhd", "vpc" },
};

bool
kvss_export_is_format(const char *format)
{
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (g_str_equal(suffixes[i].format, format))
            return true;
    return false;
}

/* Ends in the name of another format: whoever opens the file would be misled. */
static bool
is_foreign(const char *lower)
{
    static const char *const foreign[] = { ".vmdk", ".vdi", ".qed", ".qcow", ".hdd", ".ova" };

    for (size_t i = 0; i < G_N_ELEMENTS(foreign); i++)
        if (g_str_has_suffix(lower, foreign[i]))
            return true;
    return false;
}

const char *
kvss_export_format_of(const char *path)
{
    g_autofree char *lower = g_ascii_strdown(path, -1);

    if (is_foreign(lower))
        return NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (g_str_has_suffix(lower, suffixes[i].suffix))
            return suffixes[i].format;
    return "raw";
}

/* ---- before anything is written ---- */

static bool
check_path(const char *path, const char *folder, GError **error)
{
    struct stat st;

    g_assert(g_path_is_absolute(path));
    if (!g_file_test(folder, G_FILE_TEST_IS_DIR))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                          "%s: there is no folder %s", path, folder);
    if (lstat(path, &st) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s is a folder: name a file in it", path);
    if (S_ISBLK(st.st_mode))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s is a block device: an export is written into a new file only", path);
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                      "%s exists already and is not replaced: name another file, or remove it",
                      path);
}

/* Images carry tables of their own: one part in a hundred, and a little. */
static bool
export_check_room(Export *export, GError **error)
{
    uint64_t data, room;

    if (!kvss_source_data_bytes(export->source, &data, error)
        || !kvss_image_room(export->folder, &room, error))
        return false;
    export->need = data + data / 100 + 1024 * 1024;
    if (room >= export->need)
        return true;
    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM,
                      "no room in %s: %s needs up to %" G_GUINT64_FORMAT " bytes there, %"
                      G_GUINT64_FORMAT " are free", export->folder, export->options->path,
                      export->need, room);
}

static bool
export_open(Export *export, GError **error)
{
    const KvssExportOptions *options = export->options;

    export->source = kvss_backup_open_disk(options->repository, options->backup, options->vm,
                                           options->disk, error);
    return export->source != NULL;
}

static char *
part_name(const Export *export)
{
    g_autofree char *name = g_path_get_basename(export->options->path);

    return g_strdup_printf("%s/.%.*s.kvss-part-%08x", export->folder, NAME_KEPT_MAX, name,
                                   g_random_int());
}

/* ---- writing ---- */

/* A folder of its own for the socket: FILE's own may lie where no socket can be. */
static bool
part_write(Export *export, GError **error)
{
    const KvssExportOptions *options = export->options;
    g_autofree char *folder = g_dir_make_tmp("kvss-XXXXXX", error);
    g_autofree char *socket = folder ? g_build_filename(folder, "nbd", NULL) : NULL;
    ImageWrite image = {
        .path = export->part,
        .format = options->format,
        .socket = socket,
        .export_name = options->disk->target,
        .progress = options->progress,
        .data = options->progress_data,
        .cancellable = options->cancellable,
    };
    bool ok;

    if (!folder)
        return false;
    ok = image_write(&image, export->source, &export->stats, error);
    (void) g_rmdir(folder);
    return ok;
}

static bool
part_make(Export *export, GError **error)
{
    g_autofree char *part = part_name(export);

    if (!kvss_image_create(part, export->options->format, export->source->size, NULL, error))
        return false;
    export->part = g_steal_pointer(&part);
    return true;
}

/* How much it would have needed belongs to what the kernel, or QEMU, said. */
static bool
export_write(Export *export, GError **error)
{
    GError *problem = NULL;

    if (part_make(export, &problem) && part_write(export, &problem))
        return true;
    if (g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE)) {
        g_clear_error(&problem);
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                          "no space left in %s: %s needs up to %" G_GUINT64_FORMAT " bytes",
                          export->folder, export->options->path, export->need);
    }
    g_propagate_error(error, problem);
    return false;
}

/* ---- its name ---- */

/* Where the file system cannot rename without replacing, the name is taken first. */
static bool
rename_over_claim(const char *from, const char *to, GError **error)
{
    kvss_autofd int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "%s was not there before, but now cannot be made", to);
    if (rename(from, to) == 0)
        return true;
    kvss_throw_errno(error, errno, "rename %s to %s", from, to);
    (void) unlink(to);
    return false;
}

static bool
rename_to_new(const char *from, const char *to, GError **error)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno == EINVAL || errno == ENOSYS)
        return rename_over_claim(from, to, error);
    if (errno == EEXIST)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s was made by somebody else meanwhile, and is not replaced", to);
    return kvss_throw_errno(error, errno, "rename %s to %s", from, to);
}

bool
kvss_export_run(const KvssExportOptions *options, KvssExportResult *out_result, GError **error)
{
    g_auto(Export) export = { .options = options };
    bool ok;

    export.folder = g_path_get_dirname(options->path);
    if (!check_path(options->path, export.folder, error) || !export_open(&export, error)
        || !export_check_room(&export, error))
        return false;
    ok = export_write(&export, error);
    kvss_test_point("export");
    if (!ok || !kvss_check_cancelled(options->cancellable, error)
        || !rename_to_new(export.part, options->path, error)) {
        if (export.part)
            (void) unlink(export.part);
        return false;
    }
    out_result->size = export.source->size;
    out_result->bytes_written = export.stats.bytes_read;
    return kvss_fsync_folder(export.folder, error);
}

bool
kvss_export_to_fd(const KvssExportOptions *options, int fd, KvssExportResult *out_result,
                  GError **error)
{
    g_auto(Export) export = { .options = options };
    g_autofree uint8_t *buffer = g_malloc(BUFFER_LENGTH);
    uint64_t at = 0;

    if (!export_open(&export, error))
        return false;
    while (at < export.source->size) {
        size_t n = MIN(BUFFER_LENGTH, export.source->size - at);

        if (!kvss_check_cancelled(options->cancellable, error)
            || !kvss_source_read(export.source, at, buffer, n, error)
            || !kvss_write_exact(fd, buffer, n, error))
            return false;
        at += n;
        if (options->progress)
            options->progress(at, export.source->size, options->progress_data);
    }
    out_result->size = out_result->bytes_written = at;
    return true;
}
