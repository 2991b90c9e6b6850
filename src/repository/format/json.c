/*
 * json.c - JSON as restic writes it: read in one pass, written byte for byte
 */
#include "repository/format/id.h"
#include "repository/format/json.h"

#include <string.h>

#define DEPTH_MAX 60 /* restic's documents have 5; the bits of is_first set the limit */

void
kvss_json_init(KvssJson *json, const void *text, size_t length)
{
    const char *start = length > 0 ? text : "";

    *json = (KvssJson) { .start = start, .at = start, .end = start + length };
}

void
kvss_json_fail(KvssJson *json, const char *what)
{
    if (!json->wrong)
        json->wrong = what;
}

static void
skip_space(KvssJson *json)
{
    while (json->at < json->end
           && (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r'))
        json->at++;
}

/* Consumes @c if it comes next. */
static bool
accept(KvssJson *json, char c)
{
    if (json->wrong)
        return false;
    skip_space(json);
    if (json->at == json->end || *json->at != c)
        return false;
    json->at++;
    return true;
}

static void
expect(KvssJson *json, char c, const char *wrong)
{
    if (!accept(json, c))
        kvss_json_fail(json, wrong);
}

static bool
accept_word(KvssJson *json, const char *word)
{
    size_t length = strlen(word);

    if (json->wrong)
        return false;
    skip_space(json);
    if ((size_t) (json->end - json->at) < length || memcmp(json->at, word, length) != 0)
        return false;
    json->at += length;
    return true;
}

/* Null is entered as a container that ends at once. */
static void
enter(KvssJson *json, char open, const char *wrong)
{
    uint64_t bit;
    bool is_null;

    if (json->depth == DEPTH_MAX)
        kvss_json_fail(json, "nested too deep");
    is_null = accept_word(json, "null");
    if (!is_null)
        expect(json, open, wrong);
    if (json->wrong)
        return;
    bit = G_GUINT64_CONSTANT(1) << json->depth++;
    json->is_first |= bit;
    json->is_null = is_null ? json->is_null | bit : json->is_null & ~bit;
}

/* True when another member or element follows; false leaves the container. */
static bool
go_on(KvssJson *json, char close)
{
    uint64_t bit;

    if (json->wrong)
        return false;
    g_assert(json->depth > 0);
    bit = G_GUINT64_CONSTANT(1) << (json->depth - 1);
    if ((json->is_null & bit) || accept(json, close)) {
        json->depth--;
        return false;
    }
    if (!(json->is_first & bit))
        expect(json, ',', "a comma is missing");
    json->is_first &= ~bit;
    return !json->wrong;
}

void
kvss_json_object(KvssJson *json)
{
    enter(json, '{', "an object is missing");
}

void
kvss_json_array(KvssJson *json)
{
    enter(json, '[', "an array is missing");
}

bool
kvss_json_key(KvssJson *json, KvssJsonText *out_key)
{
    if (!go_on(json, '}'))
        return false;
    *out_key = kvss_json_text(json);
    expect(json, ':', "a colon is missing");
    return !json->wrong;
}

bool
kvss_json_item(KvssJson *json)
{
    return go_on(json, ']');
}

KvssJsonText
kvss_json_text(KvssJson *json)
{
    KvssJsonText text = { .at = "" };

    if (accept_word(json, "null"))
        return text;
    expect(json, '"', "a string is missing");
    if (json->wrong)
        return text;

    for (const char *at = json->at; at < json->end; at++) {
        if (*at == '"') {
            text.at = json->at;
            text.length = (size_t) (at - json->at);
            json->at = at + 1;
            return text;
        }
        if (*at == '\\') {
            text.has_escapes = true;
            at += at + 1 < json->end;
        } else if ((uint8_t) *at < 0x20) {
            break;
        }
    }
    kvss_json_fail(json, "a string does not end");
    return (KvssJsonText) { .at = "" };
}

bool
kvss_json_text_is(const KvssJsonText *text, const char *what)
{
    return text->length == strlen(what) && memcmp(text->at, what, text->length) == 0;
}

/* Four hex digits, or -1. */
static int
read_hex4(const char *at, const char *end)
{
    int value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value(at[i]);

        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* What follows "\u": one unit, or two that are a surrogate pair. Returns the place after it, or NULL. */
static const char *
unescape_unicode(const char *at, const char *end, GString *out)
{
    int unit = read_hex4(at, end);
    gunichar c;

    if (unit < 0)
        return NULL;
    at += 4;
    c = (gunichar) unit;
    if (unit >= 0xd800 && unit < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        int low = read_hex4(at + 2, end);

        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000u + (((gunichar) unit - 0xd800u) << 10) + ((gunichar) low - 0xdc00u);
            at += 6;
        }
    }
    if (c == 0)
        return NULL; /* no string of ours can hold it, and no name may */
    g_string_append_unichar(out, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    return at;
}

static const char *
unescape_one(const char *at, const char *end, GString *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known;

    if (*at == 'u')
        return unescape_unicode(at + 1, end, out);
    known = *at ? strchr(from, *at) : NULL;
    if (!known)
        return NULL;
    g_string_append_c(out, to[known - from]);
    return at + 1;
}

/* The scanner has seen to it that no text ends in a lone backslash. */
static char *
unescape(const KvssJsonText *text)
{
    g_autoptr(GString) out = g_string_sized_new(text->length);
    const char *at = text->at, *end = text->at + text->length;

    while (at < end) {
        if (*at != '\\') {
            g_string_append_c(out, *at++);
            continue;
        }
        at = unescape_one(at + 1, end, out);
        if (!at)
            return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *
kvss_json_string(KvssJson *json)
{
    KvssJsonText text = kvss_json_text(json);
    g_autofree char *string = NULL;

    if (json->wrong)
        return NULL;
    string = unescape(&text);
    if (!string)
        kvss_json_fail(json, "a string has a bad escape");
    else if (!g_utf8_validate(string, -1, NULL))
        kvss_json_fail(json, "a string is not UTF-8");
    return json->wrong ? NULL : g_steal_pointer(&string);
}

void
kvss_json_id(KvssJson *json, uint8_t out_id[KVSS_ID_LENGTH])
{
    KvssJsonText text = kvss_json_text(json);

    if (!json->wrong && !kvss_id_from_hex(text.at, text.length, out_id))
        kvss_json_fail(json, "an id is not 64 hex digits");
    if (json->wrong)
        memset(out_id, 0, KVSS_ID_LENGTH);
}

GBytes *
kvss_json_base64(KvssJson *json, size_t max_length)
{
    g_autofree char *string = kvss_json_string(json);
    guchar *data;
    gsize length;

    if (!string)
        return NULL;
    if (strlen(string) / 4 * 3 > max_length + 2) {
        kvss_json_fail(json, "a base64 string is too long");
        return NULL;
    }
    data = g_base64_decode(string, &length);
    return g_bytes_new_take(data, length);
}

uint64_t
kvss_json_uint(KvssJson *json)
{
    uint64_t value = 0;
    const char *first;

    if (json->wrong)
        return 0;
    skip_space(json);
    first = json->at;
    for (; json->at < json->end && g_ascii_isdigit(*json->at); json->at++) {
        uint64_t digit = (uint64_t) (*json->at - '0');

        if (value > (G_MAXUINT64 - digit) / 10) {
            kvss_json_fail(json, "a number is too large");
            return 0;
        }
        value = value * 10 + digit;
    }
    if (json->at == first)
        kvss_json_fail(json, "a whole number is missing");
    return json->wrong ? 0 : value;
}

uint32_t
kvss_json_uint32(KvssJson *json)
{
    uint64_t value = kvss_json_uint(json);

    if (value > G_MAXUINT32)
        kvss_json_fail(json, "a number is too large");
    return json->wrong ? 0 : (uint32_t) value;
}

bool
kvss_json_bool(KvssJson *json)
{
    if (accept_word(json, "true"))
        return true;
    if (!accept_word(json, "false"))
        kvss_json_fail(json, "true or false is missing");
    return false;
}

static void
skip_number(KvssJson *json)
{
    const char *first = json->at;

    while (json->at < json->end
           && (g_ascii_isdigit(*json->at) || (*json->at && strchr("+-.eE", *json->at))))
        json->at++;
    if (json->at == first)
        kvss_json_fail(json, "a value is missing");
}

/* Recursion is bounded by the depth that enter() allows. */
void
kvss_json_skip(KvssJson *json)
{
    KvssJsonText key;

    if (json->wrong)
        return;
    skip_space(json);
    if (json->at == json->end) {
        kvss_json_fail(json, "a value is missing");
    } else if (*json->at == '{') {
        kvss_json_object(json);
        while (kvss_json_key(json, &key))
            kvss_json_skip(json);
    } else if (*json->at == '[') {
        kvss_json_array(json);
        while (kvss_json_item(json))
            kvss_json_skip(json);
    } else if (*json->at == '"') {
        (void) kvss_json_text(json);
    } else if (!accept_word(json, "null") && !accept_word(json, "true")
               && !accept_word(json, "false")) {
        skip_number(json);
    }
}

bool
kvss_json_finish(KvssJson *json, GError **error)
{
    if (!json->wrong) {
        skip_space(json);
        if (json->at != json->end)
            kvss_json_fail(json, "something follows the end");
    }
    if (!json->wrong)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "JSON at byte %zu: %s", (size_t) (json->at - json->start), json->wrong);
}

static void
append_escaped(GString *out, gunichar c)
{
    if (c == '"' || c == '\\')
        g_string_append_printf(out, "\\%c", (char) c);
    else if (c == '\n')
        g_string_append(out, "\\n");
    else if (c == '\r')
        g_string_append(out, "\\r");
    else if (c == '\t')
        g_string_append(out, "\\t");
    else if (c < 0x20 || c == '<' || c == '>' || c == '&' || c == 0x2028 || c == 0x2029)
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_unichar(out, c);
}

void
kvss_json_append_string(GString *out, const char *string)
{
    g_autofree char *valid = g_utf8_make_valid(string, -1);

    g_string_append_c(out, '"');
    for (const char *at = valid; *at; at = g_utf8_next_char(at))
        append_escaped(out, g_utf8_get_char(at));
    g_string_append_c(out, '"');
}

void
kvss_json_append_strings(GString *out, const char *const *strings)
{
    g_string_append_c(out, '[');
    for (size_t i = 0; strings && strings[i]; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        kvss_json_append_string(out, strings[i]);
    }
    g_string_append_c(out, ']');
}

void
kvss_json_append_id(GString *out, const uint8_t id[KVSS_ID_LENGTH])
{
    char hex[KVSS_ID_HEX_LENGTH + 1];

    kvss_id_to_hex(id, hex);
    g_string_append_c(out, '"');
    g_string_append_len(out, hex, KVSS_ID_HEX_LENGTH);
    g_string_append_c(out, '"');
}
