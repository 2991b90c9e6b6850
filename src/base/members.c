/*
 * members.c - reading JSON that a stranger may have written
 *
 * json-glib takes more than JSON (comments, strings in single quotes, a second
 * document behind the first, a member that is there twice) and recurses without a
 * limit. So a scan of our own goes first: outside strings it lets only the
 * characters of JSON pass, and counts.
 */
#include "base/members.h"

#include <math.h>
#include <string.h>

#define DEPTH_MAX 32
/* Three thousand VMs have about 300,000 values. */
#define VALUES_MAX 2000000u

#define corrupt(error, ...) \
    kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, __VA_ARGS__)

/* The end of the string that begins at text[at], one past its quote; or 0. */
static size_t
scan_string(const char *text, size_t length, size_t at)
{
    for (at++; at < length; at++) {
        /* The parser ends a string there. */
        if (length - at >= 6 && memcmp(text + at, "\\u0000", 6) == 0)
            return 0;
        if (text[at] == '\\')
            at++;
        else if (text[at] == '"')
            return at + 1;
    }
    return 0;
}

/* @out_members: how many members the objects of the text have together. */
static bool
scan(const char *text, size_t length, unsigned *out_members, GError **error)
{
    unsigned depth = 0, values = 0;
    bool is_over = false;

    *out_members = 0;
    for (size_t at = 0; at < length;) {
        char c = text[at];

        if (is_over && !strchr(" \t\r\n", c))
            return corrupt(error, "byte %zu comes after its end", at);
        if (c == '"') {
            at = scan_string(text, length, at);
            if (at == 0)
                return corrupt(error, "a string has no end, or a NUL in it");
            continue;
        }
        if (!g_ascii_isalnum(c) && !strchr("{}[]:,+-. \t\r\n", c))
            return corrupt(error, "byte %zu is no JSON", at);
        if ((c == '{' || c == '[') && ++depth > DEPTH_MAX)
            return corrupt(error, "nested deeper than %d", DEPTH_MAX);
        if ((c == '}' || c == ']') && depth-- == 0)
            return corrupt(error, "byte %zu closes what was not open", at);
        is_over |= depth == 0 && (c == '}' || c == ']');
        *out_members += c == ':';
        if (strchr("{[,", c) && ++values > VALUES_MAX)
            return corrupt(error, "more than %u values", VALUES_MAX);
        at++;
    }
    return true;
}

/* The parser keeps the last of two members of one name: then there are fewer than were written. */
static unsigned
count_members(JsonNode *node)
{
    g_autoptr(GList) values = NULL;
    unsigned n = 0;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        values = json_object_get_values(json_node_get_object(node));
        n = json_object_get_size(json_node_get_object(node));
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        values = json_array_get_elements(json_node_get_array(node));
    }
    for (GList *value = values; value; value = value->next)
        n += count_members(value->data);
    return n;
}

JsonNode *
kvss_members_parse(GBytes *bytes, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) problem = NULL;
    unsigned members;
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);

    if (length == 0 || memchr(text, 0, length) || !g_utf8_validate(text, length, NULL)) {
        corrupt(error, "is not UTF-8 text");
        return NULL;
    }
    if (!scan(text, length, &members, error))
        return NULL;
    if (!json_parser_load_from_data(parser, text, length, &problem)) {
        corrupt(error, "is no JSON: %s", problem->message);
        return NULL;
    }
    if (!json_parser_get_root(parser) || !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser))) {
        corrupt(error, "is not an object");
        return NULL;
    }
    if (count_members(json_parser_get_root(parser)) != members) {
        corrupt(error, "has a member twice");
        return NULL;
    }
    return json_parser_steal_root(parser);
}

/* The member, or NULL when it is absent or null; false when it had to be there. */
static bool
find(JsonObject *object, const char *name, KvssMemberNeed need, JsonNode **out, GError **error)
{
    JsonNode *node = json_object_get_member(object, name);

    *out = node && !JSON_NODE_HOLDS_NULL(node) ? node : NULL;
    if (!*out && need == KVSS_MEMBER_REQUIRED)
        return corrupt(error, "%s is missing", name);
    return true;
}

bool
kvss_member_string(JsonObject *object, const char *name, KvssMemberNeed need, size_t max,
                   char **out, GError **error)
{
    JsonNode *node;
    const char *text;

    if (!find(object, name, need, &node, error))
        return false;
    if (!node)
        return true;
    if (json_node_get_value_type(node) != G_TYPE_STRING)
        return corrupt(error, "%s is not a string", name);
    text = json_node_get_string(node);
    if (strlen(text) > max)
        return corrupt(error, "%s is longer than %zu bytes", name, max);
    g_free(*out);
    *out = g_strdup(text);
    return true;
}

bool
kvss_member_uint(JsonObject *object, const char *name, KvssMemberNeed need, uint64_t max,
                 uint64_t *out, GError **error)
{
    JsonNode *node;
    gint64 value;

    if (!find(object, name, need, &node, error))
        return false;
    if (!node)
        return true;
    if (json_node_get_value_type(node) != G_TYPE_INT64)
        return corrupt(error, "%s is not an integer", name);
    value = json_node_get_int(node);
    if (value < 0 || (uint64_t) value > max)
        return corrupt(error, "%s is %" G_GINT64_FORMAT ", out of range", name, value);
    *out = (uint64_t) value;
    return true;
}

bool
kvss_member_ms(JsonObject *object, const char *name, double *out, GError **error)
{
    JsonNode *node;
    double value;

    if (!find(object, name, KVSS_MEMBER_OPTIONAL, &node, error))
        return false;
    if (!node)
        return true;
    if (json_node_get_value_type(node) != G_TYPE_INT64 &&
        json_node_get_value_type(node) != G_TYPE_DOUBLE)
        return corrupt(error, "%s is not a number", name);
    value = json_node_get_double(node);
    if (!isfinite(value) || value < 0)
        return corrupt(error, "%s is out of range", name);
    *out = value;
    return true;
}

bool
kvss_member_bool(JsonObject *object, const char *name, bool *out, GError **error)
{
    JsonNode *node;

    if (!find(object, name, KVSS_MEMBER_OPTIONAL, &node, error))
        return false;
    if (!node)
        return true;
    if (json_node_get_value_type(node) != G_TYPE_BOOLEAN)
        return corrupt(error, "%s is neither true nor false", name);
    *out = json_node_get_boolean(node);
    return true;
}

bool
kvss_member_time(JsonObject *object, const char *name, KvssMemberNeed need, gint64 *out,
                 GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GDateTime) time = NULL;
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();

    if (!kvss_member_string(object, name, need, 64, &text, error))
        return false;
    if (!text)
        return true;
    time = g_date_time_new_from_iso8601(text, utc);
    if (!time)
        return corrupt(error, "%s is no time: '%s'", name, text);
    *out = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
    return true;
}

bool
kvss_member_each(JsonObject *object, const char *name, guint max, KvssMemberElement func,
                 gpointer data, GError **error)
{
    JsonNode *node;
    JsonArray *list;

    if (!find(object, name, KVSS_MEMBER_OPTIONAL, &node, error))
        return false;
    if (!node)
        return true;
    if (!JSON_NODE_HOLDS_ARRAY(node))
        return corrupt(error, "%s is not a list", name);
    list = json_node_get_array(node);
    if (json_array_get_length(list) > max)
        return corrupt(error, "%s has more than %u elements", name, max);
    for (guint i = 0; i < json_array_get_length(list); i++)
        if (!func(json_array_get_element(list, i), data, error)) {
            g_prefix_error(error, "%s[%u]: ", name, i);
            return false;
        }
    return true;
}

JsonObject *
kvss_member_object(JsonNode *element, GError **error)
{
    if (JSON_NODE_HOLDS_OBJECT(element))
        return json_node_get_object(element);
    corrupt(error, "is not an object");
    return NULL;
}
