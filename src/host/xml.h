/*
 * xml.h - definitions as trees: parsed from a stranger's text, walked, written again
 *
 * Without network, entities or unbounded input. A NULL node is one without
 * children and attributes, so that steps can be chained.
 */
#pragma once

#include "host/error.h"

#include <libxml/tree.h>

/**
 * kvss_xml_parse_domain:
 *
 * The text of a <domain>, in a shape that leaves no doubt which element libvirt goes
 * by: what it has once is there once, and nothing but metadata and extensions has a
 * namespace. Errors: KVSS_HOST_ERROR_INVALID. Free with xmlFreeDoc().
 */
xmlDocPtr kvss_xml_parse_domain(const char *xml, GError **error);

/** The document without its declaration, one element's text. Free with g_free. */
char *kvss_xml_text(xmlDocPtr document);

/** An element without a namespace; so are those that are found by name. */
bool kvss_xml_is(xmlNodePtr node, const char *name);
xmlNodePtr kvss_xml_child(xmlNodePtr node, const char *name);
xmlNodePtr kvss_xml_child_or_new(xmlNodePtr node, const char *name);
/** The next sibling of that name. */
xmlNodePtr kvss_xml_next(xmlNodePtr node, const char *name);

/** NULL when absent. Free with g_free. */
char *kvss_xml_attribute(xmlNodePtr node, const char *name);
bool kvss_xml_attribute_is(xmlNodePtr node, const char *name, const char *expected);
void kvss_xml_set_attribute(xmlNodePtr node, const char *name, const char *value);
void kvss_xml_unset_attribute(xmlNodePtr node, const char *name);

/** Text without the blanks around it; NULL when @node is. Free with g_free. */
char *kvss_xml_content(xmlNodePtr node);
void kvss_xml_set_content(xmlNodePtr node, const char *text);

void kvss_xml_remove(xmlNodePtr node);
void kvss_xml_remove_children(xmlNodePtr node, const char *name);
