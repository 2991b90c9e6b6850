/*
 * s3-listing.c - XML that an S3 server answers, by libxml2
 *
 * libxml2 is fed only what cannot make it work long or look elsewhere: no
 * declarations (so no document type and no entities), no tag longer than a
 * name and a namespace (it compares a tag's attributes each with each), and
 * UTF-8 whatever the text says of itself.
 */
#include "repository/backend/s3-listing.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

#define OBJECTS_MAX 1000u /* as many as we ask for */
#define KEY_MAX 4096u     /* S3's own limit is 1024 */
#define TOKEN_MAX 8192u
#define TAG_MAX 512u

static void
object_clear(gpointer object)
{
    g_free(((KvssS3Object *) object)->key);
}

void
kvss_s3_listing_clear(KvssS3Listing *listing)
{
    g_clear_pointer(&listing->objects, g_array_unref);
    g_clear_pointer(&listing->next, g_free);
}

/* ---- the document ---- */

static bool
check_tags(const char *text, size_t length, GError **error)
{
    const char *end = text + length;

    for (const char *at = text; (at = memchr(at, '<', (size_t) (end - at))) != NULL;) {
        const char *close = memchr(at, '>', (size_t) (end - at));

        if (!close || close - at > (ptrdiff_t) TAG_MAX)
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "the answer has a tag without an end");
        if (at[1] == '!')
            return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                              "the answer has a declaration in it, which no S3 server sends");
        at = close;
    }
    return true;
}

/* NULL with an error for what is no XML, or whose root is not @root. To be freed with xmlFreeDoc(). */
static xmlDoc *
read_document(const void *text, size_t length, const char *root, GError **error)
{
    const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING
                        | XML_PARSE_NOCDATA;
    xmlNode *node;
    xmlDoc *doc;

    if (length > KVSS_S3_ANSWER_MAX || length == 0) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                   "an answer of %zu bytes is none of an S3 server", length);
        return NULL;
    }
    if (!check_tags(text, length, error))
        return NULL;
    doc = xmlReadMemory(text, (int) length, NULL, "UTF-8", options);
    node = doc ? xmlDocGetRootElement(doc) : NULL;
    if (node && xmlStrEqual(node->name, BAD_CAST root))
        return doc;
    xmlFreeDoc(doc);
    kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
               "the answer is not the XML of an S3 server: %s expected", root);
    return NULL;
}

static bool
is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && xmlStrEqual(node->name, BAD_CAST name);
}

static xmlNode *
child_named(const xmlNode *parent, const char *name)
{
    for (xmlNode *child = parent->children; child; child = child->next)
        if (is_element(child, name))
            return child;
    return NULL;
}

/* The text of the child @name, at most @max bytes; NULL when it is not there, or longer. */
static char *
child_text(const xmlNode *parent, const char *name, size_t max)
{
    const xmlNode *child = child_named(parent, name);
    xmlChar *content = child ? xmlNodeGetContent(child) : NULL;
    char *text = NULL;

    if (content && strlen((const char *) content) <= max)
        text = g_strdup((const char *) content);
    xmlFree(content);
    return text;
}

static bool
child_is(const xmlNode *parent, const char *name, const char *value)
{
    g_autofree char *text = child_text(parent, name, 64);

    return text && g_str_equal(text, value);
}

/* ---- a listing ---- */

static bool
read_object(const xmlNode *node, bool is_escaped, GArray *objects, GError **error)
{
    g_autofree char *key = child_text(node, "Key", KEY_MAX);
    g_autofree char *size = child_text(node, "Size", 20);
    KvssS3Object object = { 0 };

    if (!key || !*key)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the listing has an object without a key");
    if (!size || !g_ascii_string_to_unsigned(size, 10, 0, G_MAXINT64, &object.size, NULL))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the listing has an object whose size is no number");
    if (objects->len >= OBJECTS_MAX)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the listing has more than %u objects in one answer", OBJECTS_MAX);
    object.key = is_escaped ? g_uri_unescape_string(key, NULL) : g_steal_pointer(&key);
    if (object.key) /* else an escaped NUL, or no escape: nothing of ours has that */
        g_array_append_val(objects, object);
    return true;
}

static bool
read_next(const xmlNode *root, char **out_next, GError **error)
{
    if (!child_is(root, "IsTruncated", "true"))
        return true;
    *out_next = child_text(root, "NextContinuationToken", TOKEN_MAX);
    return (*out_next && **out_next)
        || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "the listing goes on and does not say where");
}

static bool
read_listing(const xmlNode *root, KvssS3Listing *listing, GError **error)
{
    bool is_escaped = child_is(root, "EncodingType", "url");

    if (!child_named(root, "IsTruncated"))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "the listing does not say whether it goes on");
    for (const xmlNode *child = root->children; child; child = child->next)
        if (is_element(child, "Contents")
            && !read_object(child, is_escaped, listing->objects, error))
            return false;
    return read_next(root, &listing->next, error);
}

bool
kvss_s3_listing_parse(const void *text, size_t length, KvssS3Listing *out, GError **error)
{
    g_auto(KvssS3Listing) listing = { 0 };
    xmlDoc *doc = read_document(text, length, "ListBucketResult", error);
    bool ok;

    if (!doc)
        return false;
    listing.objects = g_array_new(FALSE, FALSE, sizeof(KvssS3Object));
    g_array_set_clear_func(listing.objects, object_clear);
    ok = read_listing(xmlDocGetRootElement(doc), &listing, error);
    xmlFreeDoc(doc);
    if (ok) {
        *out = listing;
        listing = (KvssS3Listing) { 0 };
    }
    return ok;
}

/* ---- errors ---- */

/* For messages: bytes that are not printable become '?', what is too long is cut. */
static void
copy_printable(const xmlNode *root, const char *name, char *out, size_t size)
{
    g_autofree char *text = child_text(root, name, 4096);

    g_strlcpy(out, text ? text : "", size);
    for (char *at = out; *at; at++)
        if (!g_ascii_isprint(*at))
            *at = '?';
}

void
kvss_s3_refusal_parse(const void *text, size_t length, KvssS3Refusal *out)
{
    xmlDoc *doc = read_document(text, length, "Error", NULL);
    const xmlNode *root;

    memset(out, 0, sizeof *out);
    if (!doc)
        return;
    root = xmlDocGetRootElement(doc);
    copy_printable(root, "Code", out->code, sizeof out->code);
    copy_printable(root, "Message", out->message, sizeof out->message);
    copy_printable(root, "Region", out->region, sizeof out->region);
    xmlFreeDoc(doc);
}

char *
kvss_s3_location_parse(const void *text, size_t length)
{
    xmlDoc *doc = read_document(text, length, "LocationConstraint", NULL);
    xmlChar *content;
    char *region;

    if (!doc)
        return NULL;
    content = xmlNodeGetContent(xmlDocGetRootElement(doc));
    region = g_strstrip(g_strdup(content ? (const char *) content : ""));
    xmlFree(content);
    xmlFreeDoc(doc);
    if (g_str_equal(region, "") || g_str_equal(region, "EU")) {
        char *known = g_strdup(*region ? "eu-west-1" : "us-east-1");

        g_free(region);
        return known;
    }
    return region;
}
