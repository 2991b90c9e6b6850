/*
 * schema.h - a document against its schema in docs/format, as libxml2 sees it
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/**
 * schema_takes:
 * @schema: "writer-metadata.xsd"
 *
 * Is this XML, and valid? Complaints are printed when @is_loud.
 */
bool schema_takes(const char *schema, const char *text, size_t length, bool is_loud);
