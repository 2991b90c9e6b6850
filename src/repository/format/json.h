/*
 * json.h - JSON as restic writes it: read in one pass, written byte for byte
 *
 * A disk's tree is tens of megabytes and comes from outside, so it is scanned
 * and never made into a tree of objects. Writing follows Go's encoding/json,
 * since equal content must give equal ids.
 *
 * Reading is a scanner with a sticky error. Once something is wrong every
 * function returns "nothing more", so that parsing code stays straight and asks
 * once, at the end:
 *
 *     kvss_json_object(&json);
 *     while (kvss_json_key(&json, &key))
 *         if (kvss_json_text_is(&key, "size"))
 *             size = kvss_json_uint(&json);
 *         else
 *             kvss_json_skip(&json);
 *     return kvss_json_finish(&json, error);
 */
#pragma once

#include "repository/repository.h"

/** A string as it stands in the text, between its quotes. */
typedef struct {
    const char *at;
    size_t length;
    bool has_escapes;
} KvssJsonText;

typedef struct {
    const char *start, *at, *end;
    const char *wrong;  /* NULL while all is well */
    unsigned depth;     /* bounded: the input may be hostile */
    uint64_t is_first;  /* bit per level: nothing was read in it yet */
    uint64_t is_null;   /* bit per level: it was null */
} KvssJson;

/** @text: (borrowed) must outlive the scanner and every KvssJsonText; needs no NUL. */
void kvss_json_init(KvssJson *json, const void *text, size_t length);

/** Enters a value that must be an object, or an array. Null counts as an empty one. */
void kvss_json_object(KvssJson *json);
void kvss_json_array(KvssJson *json);

/** The next member of the object entered last: its value must be read or skipped. False at its end. */
bool kvss_json_key(KvssJson *json, KvssJsonText *out_key);

/** Another element in the array entered last? False at its end. */
bool kvss_json_item(KvssJson *json);

/** A string; null is an empty one. */
KvssJsonText kvss_json_text(KvssJson *json);
bool kvss_json_text_is(const KvssJsonText *text, const char *what);

/** A string with its escapes undone, as UTF-8; free with g_free. NULL once something is wrong. */
char *kvss_json_string(KvssJson *json);

/** A string that must be 64 hex digits. */
void kvss_json_id(KvssJson *json, uint8_t out_id[KVSS_ID_LENGTH]);

/** A string of base64, at most @max_length bytes decoded. NULL once something is wrong. */
GBytes *kvss_json_base64(KvssJson *json, size_t max_length);

/** A whole number from 0 to 2^64 - 1. */
uint64_t kvss_json_uint(KvssJson *json);
uint32_t kvss_json_uint32(KvssJson *json);
bool kvss_json_bool(KvssJson *json);

/** Any value, whatever it is. */
void kvss_json_skip(KvssJson *json);

/** The input is wrong in a way only the caller sees. @what: a literal. The first one stays. */
void kvss_json_fail(KvssJson *json, const char *what);

/** Nothing but space follows, and nothing was wrong. Errors: CORRUPT, with the place. */
bool kvss_json_finish(KvssJson *json, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- writing ---- */

/** A string with its quotes, escaped as Go does (<, > and & too). */
void kvss_json_append_string(GString *out, const char *string);

/** An array of strings; NULL is an empty one. */
void kvss_json_append_strings(GString *out, const char *const *strings);

/** An id with its quotes. */
void kvss_json_append_id(GString *out, const uint8_t id[KVSS_ID_LENGTH]);
