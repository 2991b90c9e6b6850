/*
 * tags.h - XML that a stranger may have written, one tag at a time
 *
 * Our documents are tags with attributes and nothing else. So this reads that and
 * refuses the rest before it can do harm: no document type (hence no entities and
 * nothing external), no comments, CDATA, processing instructions, prefixes or text
 * between tags, and no encoding but UTF-8. There is no recursion and no tree: what
 * is held is the tag at hand and the names above it.
 *
 * As in repository/format/json.h the error is sticky: once something is wrong every
 * function returns "nothing more", and the caller asks once, at the end:
 *
 *     kvss_tags_init(&tags, text, max_length);
 *     if (kvss_tags_expect(&tags, "SET"))
 *         while (kvss_tags_child(&tags))
 *             read_one(&tags);     // its attributes; its children by the same loop
 *     return kvss_tags_finish(&tags, error);
 *
 * An attribute that nobody asked for is an error when the reader moves on.
 */
#pragma once

#include "base/error.h"

#define KVSS_TAGS_ATTRIBUTES_MAX 16u
#define KVSS_TAGS_DEPTH_MAX 8u
/** Of a whole text: what is made of an element may be larger than the element. */
#define KVSS_TAGS_ELEMENTS_MAX 100000u

/** A piece of the text, not ended by NUL. */
typedef struct {
    const char *at;
    size_t length;
} KvssTagsPiece;

typedef struct {
    KvssTagsPiece name, value; /* value: between its quotes, references not yet undone */
    bool is_read;
} KvssTagsAttribute;

typedef struct {
    const char *start, *at, *end;
    const char *tag;    /* where the tag at hand begins */
    GError *error;      /* NULL while all is well */
    unsigned depth;
    KvssTagsPiece open[KVSS_TAGS_DEPTH_MAX];
    bool is_empty;      /* the tag at hand is <x/> */
    unsigned n_elements, n_attributes;
    KvssTagsAttribute attributes[KVSS_TAGS_ATTRIBUTES_MAX]; /* of the tag at hand */
} KvssTags;

/** @text: (borrowed) must outlive the reader; larger than @max_length is TOO_LARGE. */
void kvss_tags_init(KvssTags *tags, GBytes *text, size_t max_length);

/**
 * Goes to the next child of the element entered last, or to the root. False at that
 * element's end, which is left by it. Every child's own children must be asked for
 * until there are no more.
 */
bool kvss_tags_child(KvssTags *tags);

/** The same, and it must be called @name. */
bool kvss_tags_expect(KvssTags *tags, const char *name);

/** The element entered last has no (more) children. */
void kvss_tags_end(KvssTags *tags);

/** Is the tag at hand called @name? */
bool kvss_tags_is(const KvssTags *tags, const char *name);

/**
 * kvss_tags_text:
 * @max_length: bytes; a longer value is TOO_LARGE
 *
 * An attribute of the tag at hand, with its references undone: valid UTF-8 without
 * control characters. NULL when it is absent, which kvss_tags_needed() does not
 * allow. Free with g_free.
 */
char *kvss_tags_text(KvssTags *tags, const char *name, size_t max_length);
char *kvss_tags_needed(KvssTags *tags, const char *name, size_t max_length);

/** The text is wrong in a way only the caller sees. @code: KvssDocumentError. The first one stays. */
void kvss_tags_fail(KvssTags *tags, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/** Nothing follows the root, and nothing was wrong. Errors: KVSS_DOCUMENT_ERROR, with the line. */
bool kvss_tags_finish(KvssTags *tags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
