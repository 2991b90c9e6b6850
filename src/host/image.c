/*
 * image.c - disk image files: what they are, and making them
 */
#include "host/image.h"
#include "base/fd.h"
#include "host/image-options.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define INFO_LIMIT_MS 30000
/* A preallocated image on a file system without fallocate is written out. */
#define CREATE_LIMIT_MS (60u * 60 * 1000)
#define CHAIN_MAX 200

static const char *const formats_we_create[] = { "raw",  "qcow2", "qed", "vdi",
                                                 "vhdx", "vmdk",  "vpc", NULL };

static void
link_free(gpointer data)
{
    KvssImageLink *link = data;

    g_free(link->path);
    g_free(link->format);
    g_free(link);
}

void
kvss_image_info_free(KvssImageInfo *info)
{
    if (!info)
        return;
    g_free(info->format);
    g_free(info->options);
    g_free(info->entangled);
    g_clear_pointer(&info->backing, g_ptr_array_unref);
    g_free(info);
}

/* ---- looking ---- */

static bool
info_throw(const char *path, GError *problem, GError **error)
{
    if (strstr(problem->message, "Is another process using the image")
        || strstr(problem->message, "\" lock")) {
        g_error_free(problem);
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY,
                          "%s is in use: its VM runs, or another program has it open", path);
    }
    g_propagate_error(error, problem);
    return false;
}

/* One image, without what lies below it. */
static JsonObject *
info_ask(const char *path, const char *format, bool is_in_use, GError **error)
{
    const char *const argv[] = { "qemu-img", "info", "--output=json", "-f", format,
                                 is_in_use ? "-U" : "--", is_in_use ? "--" : path,
                                 is_in_use ? path : NULL, NULL };
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *text = NULL;
    GError *problem = NULL;
    JsonNode *root;

    if (!kvss_process_run(argv, INFO_LIMIT_MS, NULL, &text, &problem)) {
        info_throw(path, problem, error);
        return NULL;
    }
    if (!json_parser_load_from_data(parser, text, -1, NULL)
        || !(root = json_parser_get_root(parser)) || !JSON_NODE_HOLDS_OBJECT(root)) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "qemu-img info %s: the answer is not a JSON object", path);
        return NULL;
    }
    return json_object_ref(json_node_get_object(root));
}

/* The link below an image as its header names it; NULL when it stands alone. */
static KvssImageLink *
info_link_below(JsonObject *info)
{
    const char *path = json_object_get_string_member_with_default(info, "full-backing-filename",
                                                                  NULL);
    KvssImageLink *link;

    if (!path)
        path = json_object_get_string_member_with_default(info, "backing-filename", NULL);
    if (!path)
        return NULL;
    link = g_new0(KvssImageLink, 1);
    link->path = g_strdup(path);
    link->format = g_strdup(
        json_object_get_string_member_with_default(info, "backing-filename-format", NULL));
    return link;
}

/*
 * Walks down. It ends where a header names no format (to probe would be to
 * believe the guest), where the image is no plain file, and where it cannot be read:
 * the chain is for the record, and what QEMU itself opens does not depend on it.
 */
static void
info_add_chain(KvssImageInfo *image, JsonObject *info, bool is_in_use)
{
    g_autoptr(JsonObject) at = json_object_ref(info);

    while (at && image->backing->len < CHAIN_MAX) {
        KvssImageLink *link = info_link_below(at);

        g_clear_pointer(&at, json_object_unref);
        if (!link)
            return;
        g_ptr_array_add(image->backing, link);
        if (link->format && g_path_is_absolute(link->path))
            at = info_ask(link->path, link->format, is_in_use, NULL);
    }
}

static void
options_add_chain(JsonObject *options, const KvssImageInfo *image)
{
    JsonArray *chain = json_array_new();

    for (guint i = 0; i < image->backing->len; i++) {
        const KvssImageLink *link = g_ptr_array_index(image->backing, i);
        g_autofree char *text = g_strdup_printf("%s (%s)", link->path,
                                                link->format ? link->format : "unknown");

        json_array_add_string_element(chain, text);
    }
    json_object_set_array_member(options, "backing_chain", chain);
}

static char *
options_to_text(JsonObject *options)
{
    g_autoptr(JsonNode) root = json_node_init_object(json_node_alloc(), options);

    return json_to_string(root, FALSE);
}

/* LUKS around everything, or inside qcow2. */
static bool
info_is_encrypted(JsonObject *info, const char *format)
{
    return g_str_equal(format, "luks")
           || json_object_get_boolean_member_with_default(info, "encrypted", FALSE);
}

static bool
has_any(JsonObject *object, const char *list)
{
    JsonNode *node = object ? json_object_get_member(object, list) : NULL;

    return node && JSON_NODE_HOLDS_ARRAY(node) && json_array_get_length(json_node_get_array(node)) > 0;
}

/* Ours are kept up by whatever writes through QEMU, and doubted where it did not. */
static bool
has_foreign_bitmaps(JsonObject *data)
{
    JsonNode *node = data ? json_object_get_member(data, "bitmaps") : NULL;
    JsonArray *bitmaps = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    for (guint i = 0; bitmaps && i < json_array_get_length(bitmaps); i++) {
        JsonNode *bitmap = json_array_get_element(bitmaps, i);
        const char *name = JSON_NODE_HOLDS_OBJECT(bitmap)
            ? json_object_get_string_member_with_default(json_node_get_object(bitmap), "name", "")
            : "";

        if (!g_str_has_prefix(name, KVSS_CHECKPOINT_PREFIX))
            return true;
    }
    return false;
}

/* Content that is changed behind their back would ruin them. */
static const char *
info_entangled(JsonObject *info)
{
    JsonNode *specific = json_object_get_member(info, "format-specific");
    JsonNode *data = specific && JSON_NODE_HOLDS_OBJECT(specific)
        ? json_object_get_member(json_node_get_object(specific), "data") : NULL;
    JsonObject *object = data && JSON_NODE_HOLDS_OBJECT(data) ? json_node_get_object(data) : NULL;

    if (has_any(info, "snapshots"))
        return "internal snapshots";
    if (has_foreign_bitmaps(object))
        return "bitmaps that track changes";
    if (object && json_object_has_member(object, "data-file"))
        return "a data file of its own";
    if (object && json_object_get_boolean_member_with_default(object, "corrupt", FALSE))
        return "damaged tables";
    return NULL;
}

KvssImageInfo *
kvss_image_info(const char *path, const char *format, bool is_in_use, GError **error)
{
    g_autoptr(KvssImageInfo) image = NULL;
    g_autoptr(JsonObject) info = NULL;
    g_autoptr(JsonObject) options = NULL;
    kvss_autofd int fd = -1;

    if (!g_path_is_absolute(path)) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "image %s: the path must be absolute", path);
        return NULL;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        kvss_throw_errno(error, errno, "open image %s", path);
        return NULL;
    }
    info = info_ask(path, format, is_in_use, error);
    if (!info)
        return NULL;

    image = g_new0(KvssImageInfo, 1);
    image->format = g_strdup(format);
    image->size = (uint64_t) json_object_get_int_member_with_default(info, "virtual-size", 0);
    image->allocated = (uint64_t) json_object_get_int_member_with_default(info, "actual-size", 0);
    image->is_encrypted = info_is_encrypted(info, format);
    image->entangled = g_strdup(info_entangled(info));
    image->backing = g_ptr_array_new_with_free_func(link_free);
    info_add_chain(image, info, is_in_use);

    options = kvss_image_options_read(fd, format, info);
    image->can_track = g_str_equal(format, "qcow2")
        && g_strcmp0(json_object_get_string_member_with_default(options, "compat", NULL), "0.10") != 0
        && !json_object_has_member(options, "data_file");
    if (image->backing->len > 0)
        options_add_chain(options, image);
    image->options = options_to_text(options);
    return g_steal_pointer(&image);
}

static bool
look_at_file(const char *path, struct statx *st)
{
    return statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, st) == 0
        && S_ISREG(st->stx_mode);
}

static void
append_file(GString *text, const struct statx *st)
{
    g_string_append_printf(text, "inode %" G_GUINT64_FORMAT, (guint64) st->stx_ino);
    if (st->stx_mask & STATX_BTIME)
        g_string_append_printf(text, " born %" G_GINT64_FORMAT ".%09u",
                               (gint64) st->stx_btime.tv_sec, st->stx_btime.tv_nsec);
}

char *
kvss_image_identity(const char *path, const KvssImageInfo *info)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct statx st;

    if (!look_at_file(path, &st))
        return NULL;
    append_file(text, &st);
    /* Nobody writes to these; who does, or puts others in their place, marks nothing in the image above. */
    for (guint i = 0; i < info->backing->len; i++) {
        const KvssImageLink *link = g_ptr_array_index(info->backing, i);

        if (!g_path_is_absolute(link->path) || !look_at_file(link->path, &st))
            return NULL;
        g_string_append(text, " over ");
        append_file(text, &st);
        g_string_append_printf(text, " written %" G_GINT64_FORMAT ".%09u",
                               (gint64) st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec);
    }
    return g_strdup(text->str);
}

/* ---- making ---- */

bool
kvss_image_can_create(const char *format)
{
    return g_strv_contains(formats_we_create, format);
}

/* Ours alone from the first moment: no file and no link in the way is written through. */
static bool
claim_name(const char *path, GError **error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return kvss_throw_errno(error, errno, "create %s", path);
    (void) close(fd);
    return true;
}

static bool
run_create(const char *path, const char *format, uint64_t size, const char *text, GError **error)
{
    g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    GError *problem = NULL;

    for (const char *const *word = (const char *const[]){ "qemu-img", "create", "-q", "-f", NULL };
         *word; word++)
        g_ptr_array_add(argv, (gpointer) *word);
    g_ptr_array_add(argv, (gpointer) format);
    if (*text) {
        g_ptr_array_add(argv, (gpointer) "-o");
        g_ptr_array_add(argv, (gpointer) text);
    }
    g_ptr_array_add(argv, (gpointer) "--");
    g_ptr_array_add(argv, (gpointer) path);
    g_ptr_array_add(argv, number);
    g_ptr_array_add(argv, NULL);
    if (kvss_process_run((const char *const *) argv->pdata, CREATE_LIMIT_MS, NULL, NULL,
                         &problem))
        return true;
    if (strstr(problem->message, g_strerror(ENOSPC))) {
        g_clear_error(&problem);
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE,
                          "no space for image %s", path);
    }
    g_propagate_error(error, problem);
    return false;
}

bool
kvss_image_create(const char *path, const char *format, uint64_t size, const char *options,
                  GError **error)
{
    g_autofree char *text = NULL;

    if (!g_path_is_absolute(path) || !kvss_image_can_create(format) || size > G_MAXINT64)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_UNSUPPORTED,
                          "image %s cannot be made with format '%s' and %" G_GUINT64_FORMAT
                          " bytes",
                          path, format, size);
    text = kvss_image_options_for_create(format, options, error);
    if (!text) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (!claim_name(path, error))
        return false;
    if (run_create(path, format, size, text, error))
        return true;
    (void) unlink(path);
    return false;
}

bool
kvss_image_room(const char *folder, uint64_t *out_free, GError **error)
{
    struct statvfs st;

    if (statvfs(folder, &st) != 0)
        return kvss_throw_errno(error, errno, "free space of %s", folder);
    *out_free = (uint64_t) st.f_bavail * st.f_frsize;
    return true;
}
