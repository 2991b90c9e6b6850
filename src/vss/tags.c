/*
 * tags.c - XML that a stranger may have written, one tag at a time
 *
 * Bytes are looked at twice: first all of them for encoding and characters, so
 * that the second look may trust them; then once from front to back, tag by tag.
 * Nothing is looked back for but the names of the elements that are open and the
 * attributes of the tag at hand, and of both there are few.
 */
#include "vss/tags.h"
#include "vss/documents.h"

#include <stdarg.h>
#include <string.h>

#define DECLARATION "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
/* Longer than any name of ours, and short enough for a message. */
#define NAME_MAX_LENGTH 64u
#define SPACE " \t\n"

G_DEFINE_QUARK(kvss-document-error-quark, kvss_document_error)

#define corrupt(tags, ...) kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_CORRUPT, __VA_ARGS__)
/* For messages: names of the text are plain ASCII by the time they are a piece. */
#define PIECE(piece) (int) MIN((piece).length, NAME_MAX_LENGTH), (piece).at

/* --- errors ------------------------------------------------------------------- */

static unsigned
line_of(const KvssTags *tags, const char *place)
{
    unsigned line = 1;

    for (const char *at = tags->start; at < place; at++)
        line += *at == '\n';
    return line;
}

G_GNUC_PRINTF(4, 0)
static void
fail_at(KvssTags *tags, const char *place, int code, const char *format, va_list args)
{
    g_autofree char *what = NULL;

    if (tags->error)
        return;
    what = g_strdup_vprintf(format, args);
    g_set_error(&tags->error, KVSS_DOCUMENT_ERROR, code, "line %u: %s", line_of(tags, place),
                what);
}

void
kvss_tags_fail(KvssTags *tags, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail_at(tags, tags->tag, code, format, args);
    va_end(args);
}

/* Something is wrong with the very bytes at @place. */
G_GNUC_PRINTF(3, 4)
static void
garbled(KvssTags *tags, const char *place, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail_at(tags, place, KVSS_DOCUMENT_ERROR_CORRUPT, format, args);
    va_end(args);
}

/* --- characters ----------------------------------------------------------------- */

/* Not in XML at all, or obeyed by terminals. */
static bool
is_refused(gunichar c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0xD800 && c <= 0xDFFF) || c == 0xFFFE
           || c == 0xFFFF || c > 0x10FFFF;
}

static bool
check_characters(KvssTags *tags)
{
    const char *valid;

    if (!g_utf8_validate_len(tags->start, (gsize) (tags->end - tags->start), &valid)) {
        garbled(tags, valid, *valid ? "is not UTF-8" : "has a NUL byte");
        return false;
    }
    for (const char *at = tags->start; at < tags->end; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);

        if (is_refused(c) && c != '\t' && c != '\n') {
            garbled(tags, at, "has the character U+%04X, which no document of ours has", c);
            return false;
        }
    }
    return true;
}

/* Encoding is told by the declaration, and ours is always the same. */
static bool
take_declaration(KvssTags *tags)
{
    size_t length = strlen(DECLARATION);

    if ((size_t) (tags->end - tags->at) < length || memcmp(tags->at, DECLARATION, length) != 0) {
        garbled(tags, tags->at, "does not begin with %s", DECLARATION);
        return false;
    }
    tags->at += length;
    return true;
}

void
kvss_tags_init(KvssTags *tags, GBytes *text, size_t max_length)
{
    gsize length;

    *tags = (KvssTags) { 0 };
    tags->start = tags->at = tags->tag = g_bytes_get_data(text, &length);
    tags->end = tags->start + length;
    if (length > max_length)
        kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_TOO_LARGE,
                       "is %" G_GSIZE_FORMAT " bytes long, more than %" G_GSIZE_FORMAT, length,
                       max_length);
    else if (take_declaration(tags))
        (void) check_characters(tags);
}

/* --- a tag ---------------------------------------------------------------------- */

static bool
is_at(const KvssTags *tags, const char *what)
{
    size_t length = strlen(what);

    return (size_t) (tags->end - tags->at) >= length && memcmp(tags->at, what, length) == 0;
}

/* Returns: whether there was any. */
static bool
skip_space(KvssTags *tags)
{
    const char *from = tags->at;

    while (tags->at < tags->end && memchr(SPACE, *tags->at, strlen(SPACE)))
        tags->at++;
    return tags->at > from;
}

static bool
take(KvssTags *tags, char what)
{
    if (tags->at < tags->end && *tags->at == what) {
        tags->at++;
        return true;
    }
    if (tags->at < tags->end)
        garbled(tags, tags->at, "expected '%c' in a tag", what);
    else
        garbled(tags, tags->at, "ends within a tag");
    return false;
}

/* Plain ASCII; with a ':' in it, it would have a prefix. */
static bool
take_name(KvssTags *tags, KvssTagsPiece *out_name)
{
    const char *from = tags->at;

    while (tags->at < tags->end
           && (g_ascii_isalpha(*tags->at) || *tags->at == '_'
               || (tags->at > from && g_ascii_isdigit(*tags->at))))
        tags->at++;
    *out_name = (KvssTagsPiece) { from, (size_t) (tags->at - from) };
    if (out_name->length > 0 && out_name->length <= NAME_MAX_LENGTH)
        return true;
    if (tags->at == tags->end)
        garbled(tags, tags->at, "ends within a tag");
    else
        garbled(tags, from, "has a tag or attribute without a name that we know");
    return false;
}

static bool
piece_is(const KvssTagsPiece *piece, const char *what)
{
    return piece->length == strlen(what) && memcmp(piece->at, what, piece->length) == 0;
}

static KvssTagsAttribute *
find_attribute(KvssTags *tags, const KvssTagsPiece *name)
{
    for (unsigned i = 0; i < tags->n_attributes; i++) {
        const KvssTagsPiece *other = &tags->attributes[i].name;

        if (other->length == name->length && memcmp(other->at, name->at, name->length) == 0)
            return &tags->attributes[i];
    }
    return NULL;
}

static bool
take_value(KvssTags *tags, KvssTagsPiece *out_value)
{
    char quote = tags->at < tags->end && *tags->at == '\'' ? '\'' : '"';
    const char *from, *close;

    if (!take(tags, quote))
        return false;
    from = tags->at;
    close = memchr(from, quote, (size_t) (tags->end - from));
    if (!close) {
        garbled(tags, from, "ends within an attribute");
        return false;
    }
    *out_value = (KvssTagsPiece) { from, (size_t) (close - from) };
    tags->at = close + 1;
    return true;
}

static bool
take_attribute(KvssTags *tags)
{
    KvssTagsAttribute attribute = { 0 };

    if (!take_name(tags, &attribute.name))
        return false;
    if (find_attribute(tags, &attribute.name)) {
        garbled(tags, tags->tag, "has %.*s twice in one tag", PIECE(attribute.name));
        return false;
    }
    if (tags->n_attributes == KVSS_TAGS_ATTRIBUTES_MAX) {
        kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_TOO_LARGE, "a tag has more than %u attributes",
                       KVSS_TAGS_ATTRIBUTES_MAX);
        return false;
    }
    (void) skip_space(tags);
    if (!take(tags, '='))
        return false;
    (void) skip_space(tags);
    if (!take_value(tags, &attribute.value))
        return false;
    tags->attributes[tags->n_attributes++] = attribute;
    return true;
}

/* From behind its '<' to behind its '>'. */
static bool
take_start_tag(KvssTags *tags)
{
    KvssTagsPiece name;

    tags->n_attributes = 0;
    if (!take_name(tags, &name))
        return false;
    while (skip_space(tags) && tags->at < tags->end && *tags->at != '/' && *tags->at != '>')
        if (!take_attribute(tags))
            return false;
    tags->is_empty = tags->at < tags->end && *tags->at == '/';
    if ((tags->is_empty && !take(tags, '/')) || !take(tags, '>'))
        return false;
    if (tags->depth == KVSS_TAGS_DEPTH_MAX || tags->n_elements == KVSS_TAGS_ELEMENTS_MAX) {
        kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_TOO_LARGE,
                       "has more than %u elements, or more than %u within each other",
                       KVSS_TAGS_ELEMENTS_MAX, KVSS_TAGS_DEPTH_MAX);
        return false;
    }
    tags->open[tags->depth++] = name;
    tags->n_elements++;
    return true;
}

/* From behind its '</' to behind its '>': of the element entered last. */
static void
take_end_tag(KvssTags *tags)
{
    const KvssTagsPiece *open = tags->depth > 0 ? &tags->open[tags->depth - 1] : NULL;
    KvssTagsPiece name;

    if (!take_name(tags, &name))
        return;
    if (!open || open->length != name.length || memcmp(open->at, name.at, name.length) != 0) {
        garbled(tags, tags->tag, "has </%.*s> where it was not begun", PIECE(name));
        return;
    }
    (void) skip_space(tags);
    (void) take(tags, '>');
    tags->depth--;
}

/* --- from tag to tag --------------------------------------------------------------- */

static void
check_all_read(KvssTags *tags)
{
    for (unsigned i = 0; i < tags->n_attributes; i++)
        if (!tags->attributes[i].is_read) {
            corrupt(tags, "<%.*s> has an attribute %.*s that is not known",
                    PIECE(tags->open[tags->depth - 1]), PIECE(tags->attributes[i].name));
            return;
        }
    tags->n_attributes = 0;
}

/* At the '<' of the next tag; everything else between tags is refused. */
static bool
go_to_tag(KvssTags *tags)
{
    (void) skip_space(tags);
    if (tags->at == tags->end && tags->depth == 0 && tags->n_elements > 0)
        return false;
    if (tags->at == tags->end)
        garbled(tags, tags->at, "ends before its last tag");
    else if (is_at(tags, "<!DOCTYPE"))
        garbled(tags, tags->at, "has a document type, which no document of ours has");
    else if (is_at(tags, "<!") || is_at(tags, "<?"))
        garbled(tags, tags->at,
                "has a comment, CDATA or instruction, which no document of ours has");
    else if (*tags->at != '<')
        garbled(tags, tags->at, "has text between its tags");
    else if (tags->depth == 0 && tags->n_elements > 0)
        garbled(tags, tags->at, "goes on after its last tag");
    return !tags->error;
}

bool
kvss_tags_child(KvssTags *tags)
{
    if (tags->error)
        return false;
    check_all_read(tags);
    if (tags->is_empty) {
        tags->is_empty = false;
        tags->depth--;
        return false;
    }
    if (tags->error || !go_to_tag(tags))
        return false;
    tags->tag = tags->at++;
    if (tags->at < tags->end && *tags->at == '/') {
        tags->at++;
        take_end_tag(tags);
        return false;
    }
    return take_start_tag(tags);
}

bool
kvss_tags_expect(KvssTags *tags, const char *name)
{
    unsigned depth = tags->depth;

    if (kvss_tags_child(tags) && kvss_tags_is(tags, name))
        return true;
    if (tags->depth > depth)
        corrupt(tags, "<%.*s> stands where <%s> must be", PIECE(tags->open[depth]), name);
    else
        corrupt(tags, "there is no <%s>", name);
    return false;
}

void
kvss_tags_end(KvssTags *tags)
{
    if (kvss_tags_child(tags))
        corrupt(tags, "<%.*s> stands where nothing may be", PIECE(tags->open[tags->depth - 1]));
}

bool
kvss_tags_is(const KvssTags *tags, const char *name)
{
    return !tags->error && tags->depth > 0 && piece_is(&tags->open[tags->depth - 1], name);
}

/* --- values ------------------------------------------------------------------------ */

static const struct {
    const char *reference;
    char character;
} named[] = {
    { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' },
};

/* "&#65;", "&#x41;" behind its "&#"; false when it is none or stands for what is refused. */
static bool
decode_number(const char **at, const char *end, gunichar *out_c)
{
    unsigned base = *at < end && **at == 'x' ? 16 : 10;
    const char *from = *at += base == 16;
    gunichar c = 0;

    for (; *at < end && g_ascii_isxdigit(**at) && *at - from < 8; ++*at) {
        unsigned digit = (unsigned) g_ascii_xdigit_value(**at);

        if (digit >= base || c > 0x10FFFF)
            return false;
        c = c * base + digit;
    }
    *out_c = c;
    return *at > from && *at < end && *(*at)++ == ';' && !is_refused(c);
}

/* A reference at *@at, which is moved behind it. */
static bool
decode_reference(const char **at, const char *end, GString *out)
{
    gunichar c;

    for (size_t i = 0; i < G_N_ELEMENTS(named); i++) {
        size_t length = strlen(named[i].reference);

        if ((size_t) (end - *at) >= length && memcmp(*at, named[i].reference, length) == 0) {
            *at += length;
            g_string_append_c(out, named[i].character);
            return true;
        }
    }
    if (end - *at < 2 || (*at)[1] != '#')
        return false;
    *at += 2;
    if (!decode_number(at, end, &c))
        return false;
    g_string_append_unichar(out, c);
    return true;
}

/* NULL: it has something that no value may have. */
static char *
decode(const KvssTagsPiece *value)
{
    g_autoptr(GString) text = g_string_sized_new(value->length);
    const char *at = value->at, *end = value->at + value->length;

    while (at < end) {
        size_t plain = 0;

        while (at + plain < end && !memchr("&<\t\n", at[plain], 4))
            plain++;
        g_string_append_len(text, at, (gssize) plain);
        at += plain;
        if (at < end && (*at != '&' || !decode_reference(&at, end, text)))
            return NULL;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

char *
kvss_tags_text(KvssTags *tags, const char *name, size_t max_length)
{
    KvssTagsPiece wanted = { name, strlen(name) };
    KvssTagsAttribute *attribute = tags->error ? NULL : find_attribute(tags, &wanted);
    char *text;

    if (!attribute)
        return NULL;
    attribute->is_read = true;
    text = decode(&attribute->value);
    if (!text)
        corrupt(tags, "%s holds a character or a reference that no value may have", name);
    if (!text || strlen(text) <= max_length)
        return text;
    kvss_tags_fail(tags, KVSS_DOCUMENT_ERROR_TOO_LARGE,
                   "%s is longer than %" G_GSIZE_FORMAT " bytes", name, max_length);
    g_free(text);
    return NULL;
}

char *
kvss_tags_needed(KvssTags *tags, const char *name, size_t max_length)
{
    char *text = kvss_tags_text(tags, name, max_length);

    if (!text && !tags->error)
        corrupt(tags, "<%.*s> has no %s", PIECE(tags->open[tags->depth - 1]), name);
    return text;
}

bool
kvss_tags_finish(KvssTags *tags, GError **error)
{
    if (!tags->error && kvss_tags_child(tags))
        corrupt(tags, "was not read to its end");
    if (!tags->error)
        return true;
    g_propagate_error(error, g_steal_pointer(&tags->error));
    return false;
}
