/*
 * image-map.c - where the content of a disk image lies in its files
 */
#include "host/image-map.h"
#include "host/process.h"

#include <json-glib/json-glib.h>

#define ASK_LIMIT_MS 60000
#define DEPTH_MAX 200u

/* The array that @text is; NULL with an error. Its elements live as long as @parser. */
static JsonArray *
parse_array(JsonParser *parser, const char *text, const char *what, GError **error)
{
    JsonNode *root;

    if (json_parser_load_from_data(parser, text, -1, NULL)
        && (root = json_parser_get_root(parser)) != NULL && JSON_NODE_HOLDS_ARRAY(root))
        return json_node_get_array(root);
    kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
               "qemu-img %s: the answer is not a JSON array", what);
    return NULL;
}

static JsonObject *
object_at(JsonArray *array, guint i)
{
    JsonNode *node = json_array_get_element(array, i);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* ---- the map ---- */

/* A member that is a number and not negative. */
static bool
get_number(JsonObject *entry, const char *name, uint64_t *out)
{
    JsonNode *node = json_object_get_member(entry, name);
    gint64 number;

    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
        return false;
    number = json_node_get_int(node);
    *out = (uint64_t) number;
    return number >= 0;
}

static bool
has_flag(JsonObject *entry, const char *name)
{
    JsonNode *node = json_object_get_member(entry, name);

    return node && JSON_NODE_HOLDS_VALUE(node)
        && json_node_get_value_type(node) == G_TYPE_BOOLEAN && json_node_get_boolean(node);
}

/* The entry must begin at @next and end by @end. @out_plain: its bytes stand in a file as they are. */
static bool
read_entry(JsonObject *entry, uint64_t next, uint64_t end, KvssImageRun *out_run, bool *out_plain)
{
    uint64_t depth = 0;

    if (!entry || !get_number(entry, "start", &out_run->start) || out_run->start != next
        || !get_number(entry, "length", &out_run->length) || out_run->length == 0
        || out_run->length > end - next)
        return false;
    /* QEMU 8.2 and later say so; before, what is compressed has no offset. */
    *out_plain = has_flag(entry, "data") && !has_flag(entry, "zero")
        && !has_flag(entry, "compressed") && json_object_has_member(entry, "offset");
    if (!*out_plain)
        return true;
    if (!get_number(entry, "offset", &out_run->offset) || !get_number(entry, "depth", &depth)
        || depth > DEPTH_MAX || out_run->offset > G_MAXINT64 - out_run->length)
        return false;
    out_run->depth = (guint) depth;
    return true;
}

bool
kvss_image_map_parse(const char *text, uint64_t start, uint64_t length, GArray *out_runs,
                     GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonArray *entries = parse_array(parser, text, "map", error);
    uint64_t next = start;

    g_array_set_size(out_runs, 0);
    for (guint i = 0; entries && i < json_array_get_length(entries); i++) {
        KvssImageRun run = { 0 };
        bool is_plain;

        if (!read_entry(object_at(entries, i), next, start + length, &run, &is_plain)) {
            g_array_set_size(out_runs, 0);
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                              "qemu-img map: entry %u, at byte %" G_GUINT64_FORMAT
                              " or behind it, makes no sense", i, next);
        }
        if (is_plain)
            g_array_append_val(out_runs, run);
        next = run.start + run.length;
    }
    return entries != NULL;
}

bool
kvss_image_map(const char *path, const char *format, uint64_t start, uint64_t length,
               GArray *out_runs, GError **error)
{
    g_autofree char *from = g_strdup_printf("%" G_GUINT64_FORMAT, start);
    g_autofree char *most = g_strdup_printf("%" G_GUINT64_FORMAT, length);
    const char *const argv[] = { "qemu-img", "map", "--output=json", "-f", format,
                                 "--start-offset", from, "--max-length", most, "--", path, NULL };
    g_autofree char *text = NULL;

    return kvss_process_run(argv, ASK_LIMIT_MS, NULL, &text, error)
        && kvss_image_map_parse(text, start, length, out_runs, error);
}

/* ---- the files ---- */

static bool
has_data_file(JsonObject *info)
{
    JsonNode *node = json_object_get_member(info, "format-specific");
    JsonObject *specific = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    node = specific ? json_object_get_member(specific, "data") : NULL;
    return node && JSON_NODE_HOLDS_OBJECT(node)
        && json_object_has_member(json_node_get_object(node), "data-file");
}

static char *
file_of(JsonObject *info)
{
    const char *format = info
        ? json_object_get_string_member_with_default(info, "format", NULL) : NULL;
    const char *path = info
        ? json_object_get_string_member_with_default(info, "filename", NULL) : NULL;

    if (!path || !g_path_is_absolute(path) || has_flag(info, "encrypted") || has_data_file(info)
        || (g_strcmp0(format, "raw") != 0 && g_strcmp0(format, "qcow2") != 0))
        return NULL;
    return g_strdup(path);
}

GPtrArray *
kvss_image_files_parse(const char *text, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonArray *chain = parse_array(parser, text, "info", error);
    GPtrArray *files;

    if (!chain)
        return NULL;
    files = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < MIN(json_array_get_length(chain), DEPTH_MAX); i++)
        g_ptr_array_add(files, file_of(object_at(chain, i)));
    return files;
}

GPtrArray *
kvss_image_files(const char *path, const char *format, GError **error)
{
    const char *const argv[] = { "qemu-img", "info", "--output=json", "--backing-chain", "-f",
                                 format, "--", path, NULL };
    g_autofree char *text = NULL;

    return kvss_process_run(argv, ASK_LIMIT_MS, NULL, &text, error)
        ? kvss_image_files_parse(text, error) : NULL;
}
