/*
 * xml.c - definitions as trees: parsed from a stranger's text, walked, written again
 */
#include "host/xml.h"

#include <libxml/parser.h>
#include <string.h>

/* libvirt itself refuses definitions larger than this. */
#define XML_LENGTH_MAX (10 * 1024 * 1024)
#define X(text) ((const xmlChar *) (text))

/* ---- shape ---- */

/* Elements that libvirt has once in each other. With two, it may go by another one than we do. */
static const char *const once[] = {
    "name", "uuid", "os", "devices", "kernel", "initrd", "cmdline", "dtb", "shim", "loader", "nvram",
    "acpi", "emulator", "driver", "source", "target", "backend", "backingStore", "mirror", "model",
    "acceleration", "gl", "log", "rom", NULL,
};

static bool
check_once(xmlNodePtr node, GError **error)
{
    const char *name = (const char *) node->name;

    /* Of a port that speaks UDP one is its own end, one the other. */
    if (!g_strv_contains(once, name) || !kvss_xml_next(node, name)
        || (g_str_equal(name, "source") && kvss_xml_attribute_is(node->parent, "type", "udp")))
        return true;
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                      "the definition has <%s> more than once in one place", name);
}

static bool
has_namespace(xmlNodePtr node)
{
    for (xmlAttrPtr a = node->properties; a; a = a->next)
        if (a->ns)
            return true;
    return node->ns != NULL;
}

/* libvirt passes over some elements of another namespace and takes others by their mere name. */
static bool
check_below(xmlNodePtr node, GError **error)
{
    for (xmlNodePtr n = node->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        if (has_namespace(n))
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                              "the definition has <%s> in a namespace of its own",
                              (const char *) n->name);
        if (!check_once(n, error) || !check_below(n, error))
            return false;
    }
    return true;
}

/* Metadata is whose namespace it says; what extends <domain> stands right below it. */
static bool
check_shape(xmlNodePtr root, GError **error)
{
    for (xmlNodePtr n = root->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE || n->ns || kvss_xml_is(n, "metadata"))
            continue;
        if (!check_once(n, error) || !check_below(n, error))
            return false;
    }
    return true;
}

/* ---- parsing ---- */

xmlDocPtr
kvss_xml_parse_domain(const char *xml, GError **error)
{
    size_t length = strlen(xml);
    xmlDocPtr document = NULL;
    xmlNodePtr root;

    if (length > XML_LENGTH_MAX) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "the definition is too long: %zu bytes", length);
        return NULL;
    }
    document = xmlReadMemory(xml, (int) length, NULL, NULL,
                             XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!document) {
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "the definition is not well-formed XML");
        return NULL;
    }
    root = xmlDocGetRootElement(document);
    /* libvirt writes no document type; with one come entities. */
    if (!root || xmlGetIntSubset(document) || !kvss_xml_is(root, "domain"))
        kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                   "the definition is not a <domain>");
    else if (check_shape(root, error))
        return document;
    xmlFreeDoc(document);
    return NULL;
}

char *
kvss_xml_text(xmlDocPtr document)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    char *text;

    (void) xmlNodeDump(buffer, document, xmlDocGetRootElement(document), 0, 0);
    text = g_strdup((const char *) xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

bool
kvss_xml_is(xmlNodePtr node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns && xmlStrEqual(node->name, X(name));
}

xmlNodePtr
kvss_xml_child(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr n = node ? node->children : NULL; n; n = n->next)
        if (kvss_xml_is(n, name))
            return n;
    return NULL;
}

xmlNodePtr
kvss_xml_child_or_new(xmlNodePtr node, const char *name)
{
    xmlNodePtr found = kvss_xml_child(node, name);

    return found ? found : xmlNewChild(node, NULL, X(name), NULL);
}

xmlNodePtr
kvss_xml_next(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr n = node->next; n; n = n->next)
        if (kvss_xml_is(n, name))
            return n;
    return NULL;
}

char *
kvss_xml_attribute(xmlNodePtr node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, X(name)) : NULL;
    char *copy = g_strdup((const char *) value);

    xmlFree(value);
    return copy;
}

bool
kvss_xml_attribute_is(xmlNodePtr node, const char *name, const char *expected)
{
    g_autofree char *value = kvss_xml_attribute(node, name);

    return g_strcmp0(value, expected) == 0;
}

void
kvss_xml_set_attribute(xmlNodePtr node, const char *name, const char *value)
{
    (void) xmlSetProp(node, X(name), X(value));
}

void
kvss_xml_unset_attribute(xmlNodePtr node, const char *name)
{
    (void) xmlUnsetProp(node, X(name));
}

char *
kvss_xml_content(xmlNodePtr node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup((const char *) text);

    xmlFree(text);
    return copy ? g_strstrip(copy) : NULL;
}

void
kvss_xml_set_content(xmlNodePtr node, const char *text)
{
    xmlNodeSetContent(node, NULL);
    xmlNodeAddContent(node, X(text));
}

void
kvss_xml_remove(xmlNodePtr node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

void
kvss_xml_remove_children(xmlNodePtr node, const char *name)
{
    xmlNodePtr next;

    for (xmlNodePtr n = node ? node->children : NULL; n; n = next) {
        next = n->next;
        if (kvss_xml_is(n, name))
            kvss_xml_remove(n);
    }
}
