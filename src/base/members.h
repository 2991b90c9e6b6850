/*
 * members.h - reading JSON that a stranger may have written
 *
 * Every function that takes a member's name leaves its output untouched when the
 * member is absent or null, unless it is required. Errors are
 * KVSS_IO_ERROR_CORRUPT and name the member.
 */
#pragma once

#include "base/error.h"

#include <json-glib/json-glib.h>

/**
 * kvss_members_parse:
 *
 * Parses strict JSON whose top is an object, with nothing behind it and no member
 * twice. Depth and number of values are counted before the parser sees the text:
 * it recurses, and keeps about a hundred bytes a value.
 */
JsonNode *kvss_members_parse(GBytes *text, GError **error);

typedef enum { KVSS_MEMBER_OPTIONAL, KVSS_MEMBER_REQUIRED } KvssMemberNeed;

/** A string of at most @max bytes. The old content of *@out is freed. */
bool kvss_member_string(JsonObject *object, const char *name, KvssMemberNeed need, size_t max,
                      char **out, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** An integer from 0 to @max. */
bool kvss_member_uint(JsonObject *object, const char *name, KvssMemberNeed need, uint64_t max,
                    uint64_t *out, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/** A number of milliseconds, at least 0. */
bool kvss_member_ms(JsonObject *object, const char *name, double *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_member_bool(JsonObject *object, const char *name, bool *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/** An RFC 3339 time, as UTC microseconds since 1970. */
bool kvss_member_time(JsonObject *object, const char *name, KvssMemberNeed need, gint64 *out,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Reads one element of a list into what @data stands for. */
typedef bool (*KvssMemberElement)(JsonNode *element, gpointer data, GError **error);

/**
 * kvss_member_each:
 *
 * Calls @func for each element of the list @name, of at most @max; an error gets
 * "NAME[3]: " in front.
 */
bool kvss_member_each(JsonObject *object, const char *name, guint max, KvssMemberElement func,
                    gpointer data, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The object in @element; CORRUPT when it is something else. Borrowed. */
JsonObject *kvss_member_object(JsonNode *element, GError **error);
