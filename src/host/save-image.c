/*
 * save-image.c - libvirt's save images: RAM and device state of a domain in a file
 */
#include "host/save-image.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC_COMPLETE "LibvirtQemudSave"
#define MAGIC_PARTIAL "LibvirtQemudPart"
#define MAGIC_LENGTH 16
#define VERSION_MAX 3 /* 2 up to libvirt 10, which refuses larger ones than it knows by itself */
#define PADDING_LENGTH (64u * 1024)
#define COPY_LENGTH (1024u * 1024)

/* Offsets of the header's fields. */
enum { AT_VERSION = 16, AT_DATA_LENGTH = 20, AT_WAS_RUNNING = 24, AT_COMPRESSED = 28,
       AT_COOKIE = 32 };

static uint32_t
field_get(const uint8_t *header, size_t at, bool is_swapped)
{
    uint32_t value;

    memcpy(&value, header + at, sizeof value);
    return is_swapped ? GUINT32_SWAP_LE_BE(value) : value;
}

static void
field_set(uint8_t *header, size_t at, uint32_t value, bool is_swapped)
{
    if (is_swapped)
        value = GUINT32_SWAP_LE_BE(value);
    memcpy(header + at, &value, sizeof value);
}

static bool
throw_corrupt(const char *path, const char *what, GError **error)
{
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, "save image %s: %s", path,
                      what);
}

static bool
header_check_magic(const char *path, const uint8_t *header, GError **error)
{
    if (memcmp(header, MAGIC_PARTIAL, MAGIC_LENGTH) == 0)
        return throw_corrupt(path, "partial: its saving was interrupted", error);
    if (memcmp(header, MAGIC_COMPLETE, MAGIC_LENGTH) != 0)
        return throw_corrupt(path, "not a save image of libvirt's", error);
    return true;
}

bool
kvss_save_image_is_partial(const char *path)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint8_t magic[MAGIC_LENGTH];
    ssize_t n = fd < 0 ? -1 : read(fd, magic, sizeof magic);

    return n >= 0 && (n < MAGIC_LENGTH || memcmp(magic, MAGIC_PARTIAL, MAGIC_LENGTH) == 0);
}

static bool
header_parse(const char *path, const uint8_t *header, KvssSaveImage *image, GError **error)
{
    if (!header_check_magic(path, header, error))
        return false;
    /* Versions are small numbers: a large one was written in the other byte order. */
    image->is_swapped = field_get(header, AT_VERSION, false) > 0xffff;
    image->version = field_get(header, AT_VERSION, image->is_swapped);
    image->data_length = field_get(header, AT_DATA_LENGTH, image->is_swapped);
    image->was_running = field_get(header, AT_WAS_RUNNING, image->is_swapped) != 0;
    image->compressed = field_get(header, AT_COMPRESSED, image->is_swapped);

    if (image->version == 0 || image->version > VERSION_MAX)
        return throw_corrupt(path, "of a version that is not known", error);
    if (image->data_length == 0 || image->data_length > KVSS_SAVE_IMAGE_DATA_MAX
        || image->data_length >= image->size - KVSS_SAVE_IMAGE_HEADER_LENGTH)
        return throw_corrupt(path, "its definition is longer than the file or than sense", error);
    return true;
}

/* The definition, and the cookie behind it; both end with NUL inside the data. */
static bool
data_parse(const char *path, const uint8_t *header, const char *data, KvssSaveImage *image,
           GError **error)
{
    uint32_t cookie_at = field_get(header, AT_COOKIE, image->is_swapped);
    size_t xml_length = strnlen(data, image->data_length);

    if (xml_length == 0 || xml_length == image->data_length
        || !g_utf8_validate(data, (gssize) xml_length, NULL))
        return throw_corrupt(path, "its definition is no text", error);
    if (cookie_at > 0) {
        size_t left;

        if (cookie_at <= xml_length || cookie_at >= image->data_length)
            return throw_corrupt(path, "its cookie lies outside its data", error);
        left = image->data_length - cookie_at;
        if (strnlen(data + cookie_at, left) == left)
            return throw_corrupt(path, "its cookie has no end", error);
        image->cookie = g_strdup(data + cookie_at);
    }
    image->xml = g_strndup(data, xml_length);
    return true;
}

static KvssSaveImage *
image_read_fd(const char *path, int fd, uint8_t *header, GError **error)
{
    g_autoptr(KvssSaveImage) image = g_new0(KvssSaveImage, 1);
    g_autofree char *data = NULL;
    struct stat st;

    if (fstat(fd, &st) != 0) {
        kvss_throw_errno(error, errno, "save image %s", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_size <= (off_t) KVSS_SAVE_IMAGE_HEADER_LENGTH) {
        throw_corrupt(path, "no file, or shorter than its header", error);
        return NULL;
    }
    image->size = (uint64_t) st.st_size;
    if (!kvss_pread_exact(fd, header, KVSS_SAVE_IMAGE_HEADER_LENGTH, 0, error)
        || !header_parse(path, header, image, error))
        return NULL;
    data = g_malloc(image->data_length);
    if (!kvss_pread_exact(fd, data, image->data_length, KVSS_SAVE_IMAGE_HEADER_LENGTH, error)
        || !data_parse(path, header, data, image, error))
        return NULL;
    return g_steal_pointer(&image);
}

KvssSaveImage *
kvss_save_image_read(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    uint8_t header[KVSS_SAVE_IMAGE_HEADER_LENGTH];

    if (fd < 0) {
        kvss_throw_errno(error, errno, "open save image %s", path);
        return NULL;
    }
    return image_read_fd(path, fd, header, error);
}

void
kvss_save_image_free(KvssSaveImage *image)
{
    if (!image)
        return;
    g_free(image->xml);
    g_free(image->cookie);
    g_free(image);
}

bool
kvss_save_image_set_running(const char *path, bool is_running, GError **error)
{
    kvss_autofd int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    uint8_t header[KVSS_SAVE_IMAGE_HEADER_LENGTH];
    g_autoptr(KvssSaveImage) image = NULL;

    if (fd < 0)
        return kvss_throw_errno(error, errno, "open save image %s", path);
    image = image_read_fd(path, fd, header, error);
    if (!image)
        return false;
    if (image->was_running == is_running)
        return true;
    field_set(header, AT_WAS_RUNNING, is_running, image->is_swapped);
    return kvss_pwrite_exact(fd, header + AT_WAS_RUNNING, 4, AT_WAS_RUNNING, error)
           && kvss_fsync(fd, path, error);
}

/* The new data behind the header, padded to @length; the header's fields are set to it. */
static GByteArray *
data_build(uint8_t *header, const KvssSaveImage *image, const char *xml, size_t length)
{
    GByteArray *data = g_byte_array_new();
    uint32_t cookie_at = 0;
    guint used;

    g_byte_array_append(data, (const uint8_t *) xml, (guint) strlen(xml) + 1);
    if (image->cookie) {
        cookie_at = data->len;
        g_byte_array_append(data, (const uint8_t *) image->cookie,
                            (guint) strlen(image->cookie) + 1);
    }
    used = data->len;
    g_assert(used <= length);
    g_byte_array_set_size(data, (guint) length);
    memset(data->data + used, 0, length - used);
    field_set(header, AT_DATA_LENGTH, (uint32_t) length, image->is_swapped);
    field_set(header, AT_COOKIE, cookie_at, image->is_swapped);
    return data;
}

/*
 * In place a crash half-way leaves a definition that is neither; the image is
 * marked partial meanwhile, so that libvirt never takes such a thing for whole.
 */
static bool
replace_in_place(const char *path, int fd, uint8_t *header, const GByteArray *data,
                 GError **error)
{
    memcpy(header, MAGIC_PARTIAL, MAGIC_LENGTH);
    if (!kvss_pwrite_exact(fd, header, MAGIC_LENGTH, 0, error) || !kvss_fsync(fd, path, error)
        || !kvss_pwrite_exact(fd, header, KVSS_SAVE_IMAGE_HEADER_LENGTH, 0, error)
        || !kvss_pwrite_exact(fd, data->data, data->len, KVSS_SAVE_IMAGE_HEADER_LENGTH, error)
        || !kvss_fsync(fd, path, error))
        return false;
    memcpy(header, MAGIC_COMPLETE, MAGIC_LENGTH);
    return kvss_pwrite_exact(fd, header, MAGIC_LENGTH, 0, error) && kvss_fsync(fd, path, error);
}

static bool
stream_copy(int from, uint64_t at, uint64_t end, int to, GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(COPY_LENGTH);

    while (at < end) {
        size_t n = MIN(COPY_LENGTH, end - at);

        if (!kvss_pread_exact(from, buffer, n, at, error)
            || !kvss_write_exact(to, buffer, n, error))
            return false;
        at += n;
    }
    return true;
}

static bool
replace_by_copy(const char *path, int fd, const KvssSaveImage *image, const uint8_t *header,
                const GByteArray *data, GError **error)
{
    g_autofree char *beside = g_strconcat(path, ".new", NULL);
    g_autofree char *folder = g_path_get_dirname(path);
    kvss_autofd int to = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    bool ok;

    if (to < 0)
        return kvss_throw_errno(error, errno, "create %s", beside);
    ok = kvss_write_exact(to, header, KVSS_SAVE_IMAGE_HEADER_LENGTH, error)
         && kvss_write_exact(to, data->data, data->len, error)
         && stream_copy(fd, KVSS_SAVE_IMAGE_HEADER_LENGTH + image->data_length, image->size, to,
                        error)
         && kvss_fsync(to, beside, error);
    if (ok && (fstat(fd, &st) != 0 || fchown(to, st.st_uid, st.st_gid) != 0
               || fchmod(to, st.st_mode & 07777) != 0 || rename(beside, path) != 0))
        ok = kvss_throw_errno(error, errno, "replace %s", path);
    if (!ok) {
        (void) unlink(beside);
        return false;
    }
    return kvss_fsync_folder(folder, error);
}

bool
kvss_save_image_set_xml(const char *path, const char *xml, GError **error)
{
    kvss_autofd int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    uint8_t header[KVSS_SAVE_IMAGE_HEADER_LENGTH];
    g_autoptr(KvssSaveImage) image = NULL;
    g_autoptr(GByteArray) data = NULL;
    size_t need;

    if (fd < 0)
        return kvss_throw_errno(error, errno, "open save image %s", path);
    image = image_read_fd(path, fd, header, error);
    if (!image)
        return false;
    need = strlen(xml) + 1 + (image->cookie ? strlen(image->cookie) + 1 : 0);
    if (need > KVSS_SAVE_IMAGE_DATA_MAX - PADDING_LENGTH)
        return throw_corrupt(path, "the new definition is too long", error);

    data = data_build(header, image, xml,
                      need <= image->data_length ? image->data_length : need + PADDING_LENGTH);
    if (need <= image->data_length)
        return replace_in_place(path, fd, header, data, error);
    return replace_by_copy(path, fd, image, header, data, error);
}
