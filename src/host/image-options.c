/*
 * image-options.c - creation options of image formats, read and written
 *
 * One table says which options there are; reading fills some of them, creating
 * passes on those that check.
 */
#include "base/fd.h"
#include "host/image-options.h"
#include "host/image.h"

#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX_LENGTH (1024u * 1024)
#define KIB (G_GINT64_CONSTANT(1) << 10)
#define MIB (G_GINT64_CONSTANT(1) << 20)

typedef struct {
    const char *format, *name;
    /* A word out of a list; or a boolean; or a number, a power of two where min is one. */
    const char *const *words;
    bool is_boolean;
    gint64 min, max;
} Option;

static const char *const qcow2_compat[] = { "0.10", "1.1", NULL };
static const char *const qcow2_compression[] = { "zlib", "zstd", NULL };
static const char *const vhd_subformat[] = { "dynamic", "fixed", NULL };
static const char *const preallocation[] = { "off", "falloc", NULL };

static const Option known_options[] = {
    { "raw", "preallocation", preallocation },
    { "qcow2", "preallocation", preallocation },
    { "qcow2", "compat", qcow2_compat },
    { "qcow2", "compression_type", qcow2_compression },
    { "qcow2", "lazy_refcounts", .is_boolean = true },
    { "qcow2", "extended_l2", .is_boolean = true },
    { "qcow2", "cluster_size", .min = 512, .max = 2 * MIB },
    { "qcow2", "refcount_bits", .min = 1, .max = 64 },
    { "qed", "cluster_size", .min = 4 * KIB, .max = 64 * MIB },
    { "vdi", "static", .is_boolean = true },
    { "vhdx", "subformat", vhd_subformat },
    { "vhdx", "block_size", .min = MIB, .max = 256 * MIB },
    { "vhdx", "log_size", .min = MIB, .max = 4096 * MIB - MIB },
    { "vpc", "subformat", vhd_subformat },
    { "vpc", "force_size", .is_boolean = true },
};

/* ---- reading ---- */

/* An image without holes had its room from the start, or has needed all of it: it keeps it. */
static void
read_preallocation(JsonObject *info, JsonObject *options)
{
    gint64 size = json_object_get_int_member_with_default(info, "virtual-size", 0);
    gint64 allocated = json_object_get_int_member_with_default(info, "actual-size", 0);

    if (size > 0 && allocated >= size)
        json_object_set_string_member(options, "preallocation", "falloc");
}

static void
read_qcow2(JsonObject *info, JsonObject *options)
{
    JsonObject *specific = json_object_has_member(info, "format-specific")
                               ? json_object_get_object_member(info, "format-specific")
                               : NULL;
    JsonObject *data = specific && json_object_has_member(specific, "data")
                           ? json_object_get_object_member(specific, "data")
                           : NULL;

    if (json_object_has_member(info, "cluster-size"))
        json_object_set_int_member(options, "cluster_size",
                                   json_object_get_int_member(info, "cluster-size"));
    if (!data)
        return;
    json_object_set_string_member(
        options, "compat", json_object_get_string_member_with_default(data, "compat", "1.1"));
    json_object_set_int_member(
        options, "refcount_bits",
        json_object_get_int_member_with_default(data, "refcount-bits", 16));
    json_object_set_boolean_member(
        options, "lazy_refcounts",
        json_object_get_boolean_member_with_default(data, "lazy-refcounts", FALSE));
    json_object_set_boolean_member(
        options, "extended_l2",
        json_object_get_boolean_member_with_default(data, "extended-l2", FALSE));
    json_object_set_string_member(
        options, "compression_type",
        json_object_get_string_member_with_default(data, "compression-type", "zlib"));
    if (json_object_has_member(data, "data-file"))
        json_object_set_string_member(options, "data_file",
                                      json_object_get_string_member(data, "data-file"));
    else
        read_preallocation(info, options);
}

static uint32_t
get_be32(const uint8_t *p)
{
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static uint32_t
get_le32(const uint8_t *p)
{
    return (uint32_t) p[3] << 24 | (uint32_t) p[2] << 16 | (uint32_t) p[1] << 8 | p[0];
}

static uint64_t
get_le64(const uint8_t *p)
{
    return (uint64_t) get_le32(p + 4) << 32 | get_le32(p);
}

/* The footer is the last 512 bytes; its field at 60 says the type. Source: VHD specification. */
static void
read_vpc(int fd, JsonObject *options)
{
    off_t end = lseek(fd, 0, SEEK_END);
    uint8_t footer[512];
    bool ok = end >= (off_t) sizeof footer
              && kvss_pread_exact(fd, footer, sizeof footer, (uint64_t) end - sizeof footer, NULL)
              && memcmp(footer, "conectix", 8) == 0;

    /* The exact size, not one rounded to cylinders: what the guest had before. */
    json_object_set_boolean_member(options, "force_size", TRUE);
    if (ok)
        json_object_set_string_member(options, "subformat",
                                      get_be32(footer + 60) == 2 ? "fixed" : "dynamic");
}

/* Where the metadata region begins, from the region table; 0: not found. Source: MS-VHDX 2.2.3. */
static uint64_t
vhdx_find_metadata(int fd)
{
    static const uint8_t metadata_guid[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                               0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
    uint8_t table[4096];

    if (!kvss_pread_exact(fd, table, sizeof table, 192 * KIB, NULL)
        || memcmp(table, "regi", 4) != 0)
        return 0;
    for (uint32_t i = 0; i < MIN(get_le32(table + 8), 100u); i++) {
        const uint8_t *entry = table + 16 + i * 32;

        if (memcmp(entry, metadata_guid, 16) == 0)
            return get_le64(entry + 16);
    }
    return 0;
}

/* Block size and the "leave blocks allocated" bit. Source: MS-VHDX 2.6.2.1. */
static void
vhdx_read_file_parameters(int fd, uint64_t metadata, JsonObject *options)
{
    static const uint8_t parameters_guid[16] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                                 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
    uint8_t table[4096], item[8];

    if (!kvss_pread_exact(fd, table, sizeof table, metadata, NULL)
        || memcmp(table, "metadata", 8) != 0)
        return;
    for (uint32_t i = 0; i < MIN(get_le32(table + 8) >> 16, 100u); i++) {
        const uint8_t *entry = table + 32 + i * 32;

        if (memcmp(entry, parameters_guid, 16) != 0)
            continue;
        if (!kvss_pread_exact(fd, item, sizeof item, metadata + get_le32(entry + 16), NULL))
            return;
        json_object_set_int_member(options, "block_size", get_le32(item));
        json_object_set_string_member(options, "subformat",
                                      get_le32(item + 4) & 1 ? "fixed" : "dynamic");
    }
}

static void
read_vhdx(int fd, JsonObject *options)
{
    uint64_t metadata = vhdx_find_metadata(fd);
    uint8_t header[80];

    if (kvss_pread_exact(fd, header, sizeof header, 64 * KIB, NULL)
        && memcmp(header, "head", 4) == 0)
        json_object_set_int_member(options, "log_size", get_le32(header + 68));
    if (metadata > 0)
        vhdx_read_file_parameters(fd, metadata, options);
}

/* The image type is at 76: 1 dynamic, 2 static. */
static void
read_vdi(int fd, JsonObject *options)
{
    uint8_t header[80];

    if (kvss_pread_exact(fd, header, sizeof header, 0, NULL)
        && get_le32(header + 64) == 0xbeda107f)
        json_object_set_boolean_member(options, "static", get_le32(header + 76) == 2);
}

JsonObject *
kvss_image_options_read(int fd, const char *format, JsonObject *info)
{
    JsonObject *options = json_object_new();

    if (g_str_equal(format, "qcow2"))
        read_qcow2(info, options);
    else if (g_str_equal(format, "raw"))
        read_preallocation(info, options);
    else if (g_str_equal(format, "vpc"))
        read_vpc(fd, options);
    else if (g_str_equal(format, "vhdx"))
        read_vhdx(fd, options);
    else if (g_str_equal(format, "vdi"))
        read_vdi(fd, options);
    else if (g_str_equal(format, "qed") && json_object_has_member(info, "cluster-size"))
        json_object_set_int_member(options, "cluster_size",
                                   json_object_get_int_member(info, "cluster-size"));
    return options;
}

/* ---- creating ---- */

static bool
option_throw(const Option *option, GError **error)
{
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                      "image option %s of %s has a value that is not allowed", option->name,
                      option->format);
}

static bool
option_append_number(const Option *option, JsonNode *value, GString *text, GError **error)
{
    gint64 number = json_node_get_value_type(value) == G_TYPE_INT64 ? json_node_get_int(value)
                                                                    : -1;
    bool is_power = number > 0 && (number & (number - 1)) == 0;

    if (number < option->min || number > option->max
        || (!is_power && !g_str_equal(option->name, "log_size")))
        return option_throw(option, error);
    g_string_append_printf(text, "%s=%" G_GINT64_FORMAT, option->name, number);
    return true;
}

static bool
option_append(const Option *option, JsonNode *value, GString *text, GError **error)
{
    if (!JSON_NODE_HOLDS_VALUE(value))
        return option_throw(option, error);
    if (text->len > 0)
        g_string_append_c(text, ',');
    if (option->is_boolean) {
        if (json_node_get_value_type(value) != G_TYPE_BOOLEAN)
            return option_throw(option, error);
        g_string_append_printf(text, "%s=%s", option->name,
                               json_node_get_boolean(value) ? "on" : "off");
        return true;
    }
    if (option->words) {
        if (json_node_get_value_type(value) != G_TYPE_STRING
            || !g_strv_contains(option->words, json_node_get_string(value)))
            return option_throw(option, error);
        g_string_append_printf(text, "%s=%s", option->name, json_node_get_string(value));
        return true;
    }
    return option_append_number(option, value, text, error);
}

/* NULL with an error; the root lives as long as @parser. */
static JsonObject *
options_parse(JsonParser *parser, const char *options, GError **error)
{
    JsonNode *root;

    if (strlen(options) > OPTIONS_MAX_LENGTH
        || !json_parser_load_from_data(parser, options, -1, NULL)
        || !(root = json_parser_get_root(parser)) || !JSON_NODE_HOLDS_OBJECT(root)) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "image options are not a JSON object");
        return NULL;
    }
    return json_node_get_object(root);
}

char *
kvss_image_options_for_create(const char *format, const char *options, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GString) text = g_string_new(NULL);
    JsonObject *object = options_parse(parser, options ? options : "{}", error);

    if (!object)
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(known_options); i++) {
        const Option *option = &known_options[i];

        if (!g_str_equal(option->format, format) || !json_object_has_member(object, option->name))
            continue;
        if (!option_append(option, json_object_get_member(object, option->name), text, error))
            return NULL;
    }
    /* VHD sizes would be rounded to whole cylinders otherwise. */
    if (g_str_equal(format, "vpc") && !json_object_has_member(object, "force_size"))
        g_string_append_printf(text, "%sforce_size=on", text->len > 0 ? "," : "");
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* A text among the options; NULL: none of that name. Free with g_free. */
static char *
options_text(const char *options, const char *name)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *object = options_parse(parser, options ? options : "{}", NULL);
    JsonNode *value = object ? json_object_get_member(object, name) : NULL;

    return value && JSON_NODE_HOLDS_VALUE(value)
                   && json_node_get_value_type(value) == G_TYPE_STRING
               ? json_node_dup_string(value)
               : NULL;
}

bool
kvss_image_options_preallocate(const char *options)
{
    g_autofree char *value = options_text(options, "preallocation");

    return g_strcmp0(value, "falloc") == 0;
}

char *
kvss_image_options_data_file(const char *options)
{
    return options_text(options, "data_file");
}
