/*
 * schema.c - a document against its schema in docs/format, as libxml2 sees it
 */
#include "schema.h"

#include <glib.h>
#include <libxml/parser.h>
#include <libxml/xmlschemas.h>

static xmlSchema *
schema_load(const char *name)
{
    static GHashTable *loaded;
    g_autofree char *path = g_build_filename(FORMAT_DIR, name, NULL);
    xmlSchemaParserCtxt *context;
    xmlSchema *schema;

    if (!loaded)
        loaded = g_hash_table_new(g_str_hash, g_str_equal);
    schema = g_hash_table_lookup(loaded, name);
    if (schema)
        return schema;
    context = xmlSchemaNewParserCtxt(path);
    schema = xmlSchemaParse(context);
    g_assert_nonnull(schema);
    xmlSchemaFreeParserCtxt(context);
    g_hash_table_insert(loaded, g_strdup(name), schema);
    return schema;
}

static void
complain(void *data, xmlError *error)
{
    if (data)
        g_printerr("line %d: %s", error->line, error->message);
}

bool
schema_takes(const char *name, const char *text, size_t length, bool is_loud)
{
    xmlSchemaValidCtxt *context;
    xmlDoc *document
        = xmlReadMemory(text, (int) length, name, NULL,
                        XML_PARSE_NONET | XML_PARSE_HUGE | (is_loud ? 0 : XML_PARSE_NOERROR));
    int result;

    if (!document)
        return false;
    context = xmlSchemaNewValidCtxt(schema_load(name));
    xmlSchemaSetValidStructuredErrors(context, complain, is_loud ? context : NULL);
    result = xmlSchemaValidateDoc(context, document);
    xmlSchemaFreeValidCtxt(context);
    xmlFreeDoc(document);
    return result == 0;
}
