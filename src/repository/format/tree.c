/*
 * tree.c - a folder's listing as JSON, both ways
 */
#include "repository/format/id.h"
#include "repository/format/json.h"
#include "repository/format/tree.h"

#include <string.h>
#include <sys/stat.h>

/* Go's os.FileMode: what is not among the nine permission bits lies elsewhere. */
#define GO_MODE_DIR (1u << 31)
#define GO_MODE_SYMLINK (1u << 27)
#define GO_MODE_SETUID (1u << 23)
#define GO_MODE_SETGID (1u << 22)
#define GO_MODE_STICKY (1u << 20)

void
kvss_node_free(KvssNode *node)
{
    if (!node)
        return;
    g_free(node->name);
    g_free(node->link_target);
    g_free(node->subtree);
    g_free(node->content);
    g_free(node);
}

bool
kvss_tree_name_is_safe(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- names: Go's strconv.Quote inside the JSON string, so that any bytes can be one ---- */

/* @digits of base @base at @at, or -1. */
static gint64
read_number(const char *at, unsigned digits, unsigned base)
{
    gint64 value = 0;

    for (unsigned i = 0; i < digits; i++) {
        int digit = g_ascii_xdigit_value(at[i]);

        if (digit < 0 || digit >= (int) base)
            return -1;
        value = value * base + digit;
    }
    return value;
}

/* \xHH, \NNN, \uHHHH, \UHHHHHHHH. Returns the place after it, or NULL. */
static const char *
unquote_number(const char *at, GString *out)
{
    unsigned digits = *at == 'x' ? 2 : *at == 'u' ? 4 : *at == 'U' ? 8 : 3;
    bool is_octal = digits == 3;
    const char *first = is_octal ? at : at + 1;
    gint64 value = read_number(first, digits, is_octal ? 8 : 16);

    if (value <= 0 || (is_octal && value > 255)
        || (digits >= 4 && !g_unichar_validate((gunichar) value)))
        return NULL;
    if (digits >= 4)
        g_string_append_unichar(out, (gunichar) value);
    else
        g_string_append_c(out, (char) value);
    return first + digits;
}

static const char *
unquote_one(const char *at, GString *out)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *known = *at ? strchr(from, *at) : NULL;

    if (!known)
        return unquote_number(at, out);
    g_string_append_c(out, to[known - from]);
    return at + 1;
}

static char *
unquote(const char *quoted)
{
    g_autoptr(GString) out = g_string_new(NULL);

    while (*quoted) {
        if (*quoted != '\\') {
            g_string_append_c(out, *quoted++);
            continue;
        }
        quoted = unquote_one(quoted + 1, out);
        if (!quoted)
            return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void
quote_char(GString *out, gunichar c)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
    const char *known = c < 128 ? strchr(from, (int) c) : NULL;

    if (known)
        g_string_append_printf(out, "\\%c", to[known - from]);
    else if (c < ' ' || c == 0x7f)
        g_string_append_printf(out, "\\x%02x", c);
    else if (c < 0x7f || g_unichar_isprint(c))
        g_string_append_unichar(out, c);
    else if (c < 0x10000)
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_printf(out, "\\U%08x", c);
}

static char *
quote(const char *name)
{
    g_autoptr(GString) out = g_string_new(NULL);

    while (*name) {
        gunichar c = g_utf8_get_char_validated(name, -1);

        if (c == (gunichar) -1 || c == (gunichar) -2) {
            g_string_append_printf(out, "\\x%02x", (uint8_t) *name++);
            continue;
        }
        quote_char(out, c);
        name = g_utf8_next_char(name);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* ---- reading ---- */

static KvssNodeType
read_type(KvssJson *json)
{
    KvssJsonText text = kvss_json_text(json);

    if (kvss_json_text_is(&text, "file"))
        return KVSS_NODE_FILE;
    if (kvss_json_text_is(&text, "dir"))
        return KVSS_NODE_FOLDER;
    if (kvss_json_text_is(&text, "symlink"))
        return KVSS_NODE_SYMLINK;
    return KVSS_NODE_OTHER;
}

static unsigned
mode_from_go(uint32_t mode)
{
    return (mode & 0777) | (mode & GO_MODE_SETUID ? S_ISUID : 0)
        | (mode & GO_MODE_SETGID ? S_ISGID : 0) | (mode & GO_MODE_STICKY ? S_ISVTX : 0);
}

static char *
read_name(KvssJson *json)
{
    g_autofree char *quoted = kvss_json_string(json);
    g_autofree char *name = quoted ? unquote(quoted) : NULL;

    if (quoted && !name)
        kvss_json_fail(json, "a name has a bad escape");
    else if (name && !kvss_tree_name_is_safe(name))
        kvss_json_fail(json, "a name is not the name of a file");
    return json->wrong ? NULL : g_steal_pointer(&name);
}

static void
read_content(KvssNode *node, KvssJson *json)
{
    g_autoptr(GByteArray) ids = g_byte_array_new();
    uint8_t id[KVSS_ID_LENGTH];

    kvss_json_array(json);
    while (kvss_json_item(json)) {
        kvss_json_id(json, id);
        g_byte_array_append(ids, id, sizeof id);
    }
    g_free(node->content);
    node->n_content = ids->len / KVSS_ID_LENGTH;
    node->content = g_byte_array_free(g_steal_pointer(&ids), FALSE);
}

static void
read_subtree(KvssNode *node, KvssJson *json)
{
    uint8_t id[KVSS_ID_LENGTH];
    char hex[KVSS_ID_HEX_LENGTH + 1];

    kvss_json_id(json, id);
    kvss_id_to_hex(id, hex);
    g_free(node->subtree);
    node->subtree = g_strdup(hex);
}

static void
read_member(KvssNode *node, KvssJson *json, const KvssJsonText *key)
{
    if (kvss_json_text_is(key, "name") && !node->name)
        node->name = read_name(json);
    else if (kvss_json_text_is(key, "type"))
        node->type = read_type(json);
    else if (kvss_json_text_is(key, "mode"))
        node->mode = mode_from_go(kvss_json_uint32(json));
    else if (kvss_json_text_is(key, "uid"))
        node->uid = kvss_json_uint32(json);
    else if (kvss_json_text_is(key, "gid"))
        node->gid = kvss_json_uint32(json);
    else if (kvss_json_text_is(key, "size"))
        node->size = kvss_json_uint(json);
    else if (kvss_json_text_is(key, "linktarget") && !node->link_target)
        node->link_target = kvss_json_string(json);
    else if (kvss_json_text_is(key, "content"))
        read_content(node, json);
    else if (kvss_json_text_is(key, "subtree"))
        read_subtree(node, json);
    else
        kvss_json_skip(json);
}

static KvssNode *
read_node(KvssJson *json)
{
    g_autoptr(KvssNode) node = g_new0(KvssNode, 1);
    KvssJsonText key;

    node->type = KVSS_NODE_OTHER;
    kvss_json_object(json);
    while (kvss_json_key(json, &key))
        read_member(node, json, &key);
    if (!node->name)
        kvss_json_fail(json, "a node has no name");
    if (node->type == KVSS_NODE_FOLDER && !node->subtree)
        kvss_json_fail(json, "a folder has no subtree");
    return json->wrong ? NULL : g_steal_pointer(&node);
}

static void
read_nodes(KvssJson *json, GPtrArray *nodes)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    kvss_json_array(json);
    while (kvss_json_item(json)) {
        KvssNode *node = read_node(json);

        if (!node)
            continue; /* something was wrong, and the loop ends */
        g_ptr_array_add(nodes, node);
        if (!g_hash_table_add(names, node->name))
            kvss_json_fail(json, "a name comes twice");
    }
}

GPtrArray *
kvss_tree_parse(const void *text, size_t length, GError **error)
{
    g_autoptr(GPtrArray) nodes
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_node_free);
    bool has_nodes = false;
    KvssJsonText key;
    KvssJson json;

    kvss_json_init(&json, text, length);
    kvss_json_object(&json);
    while (kvss_json_key(&json, &key)) {
        if (kvss_json_text_is(&key, "nodes") && !has_nodes) {
            read_nodes(&json, nodes);
            has_nodes = true;
        } else {
            kvss_json_skip(&json);
        }
    }
    if (!has_nodes)
        kvss_json_fail(&json, "the nodes are missing");
    return kvss_json_finish(&json, error) ? g_steal_pointer(&nodes) : NULL;
}

/* ---- writing ---- */

static void
append_content(GString *json, const KvssNode *node)
{
    g_string_append_c(json, '[');
    for (size_t i = 0; i < node->n_content; i++) {
        if (i > 0)
            g_string_append_c(json, ',');
        kvss_json_append_id(json, node->content + i * KVSS_ID_LENGTH);
    }
    g_string_append_c(json, ']');
}

/* The members in the order of restic's struct, empty ones left out as "omitempty" does. */
static void
append_node(GString *json, const KvssNode *node)
{
    static const char times[] = "\"mtime\":\"1970-01-01T00:00:00Z\","
                                "\"atime\":\"1970-01-01T00:00:00Z\","
                                "\"ctime\":\"1970-01-01T00:00:00Z\"";
    bool is_folder = node->type == KVSS_NODE_FOLDER;
    uint32_t mode = (is_folder ? GO_MODE_DIR : 0) | (node->mode & 0777);
    g_autofree char *quoted = quote(node->name);

    g_assert(is_folder || node->type == KVSS_NODE_FILE);
    g_string_append(json, "{\"name\":");
    kvss_json_append_string(json, quoted);
    g_string_append_printf(json, ",\"type\":\"%s\"", is_folder ? "dir" : "file");
    if (mode)
        g_string_append_printf(json, ",\"mode\":%u", mode);
    g_string_append_printf(json, ",%s,\"uid\":%u,\"gid\":%u", times, node->uid, node->gid);
    if (node->size)
        g_string_append_printf(json, ",\"size\":%" G_GUINT64_FORMAT, node->size);
    if (is_folder) {
        g_string_append_printf(json, ",\"content\":null,\"subtree\":\"%s\"", node->subtree);
    } else {
        g_string_append(json, ",\"links\":1,\"content\":");
        append_content(json, node);
    }
    g_string_append_c(json, '}');
}

GString *
kvss_tree_text(const GPtrArray *nodes)
{
    GString *json = g_string_new("{\"nodes\":[");

    for (guint i = 0; i < nodes->len; i++) {
        if (i > 0)
            g_string_append_c(json, ',');
        append_node(json, g_ptr_array_index(nodes, i));
    }
    g_string_append(json, "]}\n");
    return json;
}
