/*
 * output.h - what is printed: sentences, tables, JSON
 *
 * Results go to stdout, remarks to stderr. Text that came from a guest, a
 * document or a repository loses its control characters on the way to a person.
 */
#pragma once

#include "base/error.h"

#include <json-glib/json-glib.h>
#include <stdio.h>

/** One line on stderr, with "kvss: " in front. */
void kvss_say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/** printf to stdout, control characters but newline replaced. */
void kvss_print(const char *format, ...) G_GNUC_PRINTF(1, 2);

/** One JSON value on a line of stdout, at once. Takes @node. */
void kvss_print_json(JsonNode *node);
/** The same for an object. */
void kvss_print_json_object(JsonObject *object);

/** @text without control characters and invalid UTF-8. Free with g_free. */
char *kvss_plain(const char *text);

/** "1.5 GiB", "512 B". Free with g_free. */
char *kvss_size_text(uint64_t bytes);
/** "34 ms", "1.2 s". Free with g_free. */
char *kvss_ms_text(double ms);
/** A moment in the user's own time zone: "2026-01-31 12:00". Free with g_free. */
char *kvss_time_text(gint64 time_us);

/** Columns that line up. */
typedef struct KvssTable KvssTable;

/** @headers: NULL-terminated. */
KvssTable *kvss_table_new(const char *first_header, ...) G_GNUC_NULL_TERMINATED;
/** As many cells as headers; strings are copied. */
void kvss_table_add(KvssTable *table, const char *first_cell, ...) G_GNUC_NULL_TERMINATED;
/** Prints to stdout and frees. */
void kvss_table_print(KvssTable *table);

/** String members with NULL as null. */
void kvss_set_text(JsonObject *object, const char *name, const char *value);
void kvss_set_seconds(JsonObject *object, const char *name, double seconds);
/** A list of strings; NULL is an empty one. (transfer full) */
JsonArray *kvss_texts(const char *const *texts);

/** Flushes stdout; false when what was printed did not arrive. A closed pipe counts as arrived. */
bool kvss_print_finish(GError **error);
