/*
 * answer.h - what a writer's program says, read as a stranger's text
 *
 * Private to writer/program. The program is the administrator's, but what it says may
 * come out of a database: bounded, checked, never a path that is not plain.
 *
 * Source: docs/writers.md.
 */
#pragma once

#include "vss/component.h"

#include <gio/gio.h>

#define ANSWER_COMPONENTS_MAX 1000u
#define ANSWER_FILE_SETS_MAX 1000u /* of one component */

/** What a program says to "identify". */
typedef struct {
    char *class_id;        /* lower case, no braces */
    char *friendly_name;
    KvssApplicationLevel level;
    GPtrArray *components; /* KvssComponent; display_name is "FILE:PATH\NAME" */
} IdentifyAnswer;

void identify_answer_clear(IdentifyAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(IdentifyAnswer, identify_answer_clear)

/**
 * identify_answer_read:
 * @file: the program's name, in front of the names of its components
 *
 * Errors: KVSS_IO_ERROR_CORRUPT with the member that is wrong; @out untouched.
 */
bool identify_answer_read(GBytes *text, const char *file, IdentifyAnswer *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * event_answer_read:
 * @components: (element-type KvssComponent) the chosen ones get their new metadata, and all
 * of them the message as a note
 *
 * The answer to any other event; an empty one says nothing. Errors: CORRUPT; then no
 * component has changed.
 */
bool event_answer_read(GBytes *text, GPtrArray *components, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** "PATH\NAME", or "NAME" at the top. Free with g_free. */
char *component_full_name(const KvssComponent *component);
