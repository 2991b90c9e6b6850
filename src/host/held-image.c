/*
 * held-image.c - an image that an image server holds still, read from its files
 *
 * The map is asked for a window of the disk at a time, when somebody reads there: a disk of
 * holes costs nothing, and a disk in many pieces no more memory than a window of them.
 */
#include "host/held-image.h"
#include "base/fd.h"
#include "host/image-map.h"
#include "host/nbd-source.h"
#include "stream/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A map of more than KVSS_PROCESS_OUTPUT_MAX is asked for in smaller windows, down to the least. */
#define WINDOW_LENGTH (G_GUINT64_CONSTANT(8) << 30)
#define WINDOW_LEAST (G_GUINT64_CONSTANT(128) << 20)

/* Readers are a few windows of the copy loop apart: the last may be in the window before. */
#define N_WINDOWS 2

typedef struct {
    int fd;        /* -1: not to be read directly */
    uint64_t size; /* bytes; the last cluster of an image may end behind it */
} File;

/** What is known of a part of the disk. */
typedef struct {
    uint64_t start, end; /* equal: nothing yet */
    GArray *runs;        /* KvssImageRun; what lies between is the server's */
} Window;

typedef struct {
    KvssSource source;
    char *path, *format;
    GArray *files;       /* File, by depth */

    GMutex lock;         /* guards what follows */
    KvssSource *served;
    Window windows[N_WINDOWS];
    guint oldest;        /* the window that goes next */
    uint64_t window_length;
    bool has_map;        /* false: qemu-img does not tell; all comes through NBD */
} HeldImage;

/** The next bytes that come from one place. */
typedef struct {
    int fd;              /* -1: the server */
    uint64_t offset;     /* in the file */
    size_t length;
} Piece;

/* ---- the files ---- */

static bool
is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino
        && (S_ISREG(a->st_mode) || S_ISBLK(a->st_mode));
}

/* The file as @server has it open, opened once more: what the path names later does not matter. */
static int
open_as_server(pid_t server, const char *path)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int) server);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    struct stat wanted, there;
    const char *name;

    if (!dir || stat(path, &wanted) < 0)
        return -1;
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *link = g_build_filename(folder, name, NULL);
        kvss_autofd int fd = -1;

        if (stat(link, &there) < 0 || !is_same_file(&wanted, &there))
            continue;
        fd = open(link, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &there) == 0 && is_same_file(&wanted, &there))
            return kvss_fd_steal(&fd);
    }
    return -1;
}

/* A layer that cannot be opened so is read through the server. */
static void
open_files(HeldImage *self, pid_t server)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) paths = kvss_image_files(self->path, self->format, &problem);

    if (!paths)
        g_debug("%s is read through its server: %s", self->path, problem->message);
    for (guint i = 0; paths && i < paths->len; i++) {
        const char *path = g_ptr_array_index(paths, i);
        File file = { .fd = path ? open_as_server(server, path) : -1 };
        off_t size = file.fd >= 0 ? lseek(file.fd, 0, SEEK_END) : 0;

        file.size = size > 0 ? (uint64_t) size : 0;
        g_array_append_val(self->files, file);
        self->has_map |= file.fd >= 0;
    }
}

static void
file_clear(gpointer data)
{
    kvss_fd_clear(&((File *) data)->fd);
}

/* ---- the map ---- */

/*
 * Asks for the map from @offset on. Without an answer what comes next is the
 * server's: a part, where the map is too long even for the least window, or all.
 */
static void
window_load(HeldImage *self, Window *window, uint64_t offset)
{
    g_array_set_size(window->runs, 0);
    window->start = offset;
    for (;;) {
        g_autoptr(GError) problem = NULL;
        uint64_t length = MIN(self->window_length, self->source.size - offset);

        window->end = offset + length;
        if (kvss_image_map(self->path, self->format, offset, length, window->runs, &problem))
            return;
        g_debug("%s from byte %" G_GUINT64_FORMAT ": %s", self->path, offset, problem->message);
        if (!g_error_matches(problem, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID)) {
            self->has_map = false;
            return;
        }
        if (self->window_length == WINDOW_LEAST)
            return;
        self->window_length /= 2;
    }
}

static const Window *
window_at(HeldImage *self, uint64_t offset)
{
    Window *window;

    for (guint i = 0; i < N_WINDOWS; i++) {
        window = &self->windows[i];
        if (offset >= window->start && offset < window->end)
            return window;
    }
    window = &self->windows[self->oldest];
    self->oldest = (self->oldest + 1) % N_WINDOWS;
    window_load(self, window, offset);
    return window;
}

/* The first run that ends behind @offset; runs->len when there is none. */
static guint
first_run(const GArray *runs, uint64_t offset)
{
    guint low = 0, high = runs->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        const KvssImageRun *run = &g_array_index(runs, KvssImageRun, middle);

        if (run->start + run->length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where in its file @offset lies, as far as the file goes; else the server has the run. */
static Piece
piece_in_run(const HeldImage *self, const KvssImageRun *run, uint64_t offset, size_t length)
{
    Piece piece = { -1, run->offset + (offset - run->start),
                    MIN(length, run->start + run->length - offset) };
    const File *file = run->depth < self->files->len
        ? &g_array_index(self->files, File, run->depth) : NULL;

    if (!file || file->fd < 0 || piece.offset >= file->size)
        return piece;
    piece.fd = file->fd;
    piece.length = MIN(piece.length, file->size - piece.offset);
    return piece;
}

/* Called under the lock. */
static Piece
piece_at(HeldImage *self, uint64_t offset, size_t length)
{
    const Window *window;
    guint i;

    if (!self->has_map)
        return (Piece) { -1, 0, length };
    window = window_at(self, offset);
    length = MIN(length, window->end - offset);
    i = first_run(window->runs, offset);
    if (i < window->runs->len) {
        const KvssImageRun *run = &g_array_index(window->runs, KvssImageRun, i);

        if (run->start <= offset)
            return piece_in_run(self, run, offset, length);
        length = MIN(length, run->start - offset);
    }
    return (Piece) { -1, 0, length };
}

/* ---- the source ---- */

static bool
held_extents(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
             GError **error)
{
    HeldImage *self = (HeldImage *) source;
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    bool ok;

    g_mutex_lock(&self->lock);
    ok = kvss_source_extents(self->served, offset, length, extents, error);
    g_mutex_unlock(&self->lock);
    if (ok)
        g_array_append_vals(out_extents, extents->data, extents->len);
    return ok;
}

static bool
read_piece(HeldImage *self, uint64_t offset, uint8_t *buffer, size_t length, size_t *out_length,
           GError **error)
{
    Piece piece;
    bool ok = true;

    g_mutex_lock(&self->lock);
    piece = piece_at(self, offset, length);
    if (piece.fd < 0)
        ok = kvss_source_read(self->served, offset, buffer, piece.length, error);
    g_mutex_unlock(&self->lock);
    *out_length = piece.length;
    if (piece.fd < 0
        || kvss_pread_exact(piece.fd, buffer, piece.length, piece.offset, error))
        return ok;
    g_prefix_error(error, "%s: ", self->path);
    return false;
}

/* A server that is there now has held its lock all the time: it is started only once. */
static bool
check_lock(HeldImage *self, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = kvss_nbd_source_check_server(self->served, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool
held_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    HeldImage *self = (HeldImage *) source;
    uint8_t *to = buffer;

    while (length > 0) {
        size_t n;

        if (!read_piece(self, offset, to, length, &n, error))
            return false;
        to += n;
        offset += n;
        length -= n;
    }
    return check_lock(self, error);
}

static void
held_free(KvssSource *source)
{
    HeldImage *self = (HeldImage *) source;

    kvss_source_free(self->served);
    for (guint i = 0; i < N_WINDOWS; i++)
        g_array_unref(self->windows[i].runs);
    g_mutex_clear(&self->lock);
    g_array_unref(self->files);
    g_free(self->path);
    g_free(self->format);
    g_free(self);
}

static const KvssSourceOps held_ops = {
    .extents = held_extents,
    .read = held_read,
    .free = held_free,
};

static bool
has_plain_content(const char *format)
{
    return g_str_equal(format, "raw") || g_str_equal(format, "qcow2");
}

KvssSource *
kvss_held_image_new(const char *path, const char *format, const char *socket,
                    const char *export_name, GError **error)
{
    KvssSource *served = kvss_nbd_source_new(socket, export_name, error);
    pid_t server = served ? kvss_nbd_source_server(served) : 0;
    HeldImage *self;

    if (server <= 0 || !has_plain_content(format))
        return served;
    self = g_new0(HeldImage, 1);
    self->source.ops = &held_ops;
    self->source.size = served->size;
    self->source.is_parallel = true;
    self->path = g_strdup(path);
    self->format = g_strdup(format);
    self->served = served;
    self->files = g_array_new(FALSE, FALSE, sizeof(File));
    g_array_set_clear_func(self->files, file_clear);
    g_mutex_init(&self->lock);
    for (guint i = 0; i < N_WINDOWS; i++)
        self->windows[i].runs = g_array_new(FALSE, FALSE, sizeof(KvssImageRun));
    self->window_length = WINDOW_LENGTH;
    open_files(self, server);
    return &self->source;
}
