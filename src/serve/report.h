/*
 * report.h - what the server process tells the command that started it
 *
 * One JSON object a line, over a pipe. An error keeps its domain and its code on the way.
 */
#pragma once

#include "base/error.h"

#include <json-glib/json-glib.h>

/**
 * kvss_report_send:
 * @object: taken; "type" says what it is
 * @may_drop: when the reader is slow it is left out, rather than waited for; then it has to be short
 *
 * Threads: one at a time on @fd.
 */
void kvss_report_send(int fd, JsonObject *object, bool may_drop);

/** An object of type "error". (transfer full) */
JsonObject *kvss_report_error_new(const GError *error);

/** The error in an object of type "error"; something like it where it is none. */
GError *kvss_report_error(JsonObject *object);

/**
 * kvss_report_take:
 * @lines: bytes that have come so far; what is taken is removed
 *
 * The next object, or NULL: none is complete. A line that is no object is left out. (transfer full)
 */
JsonObject *kvss_report_take(GString *lines);
