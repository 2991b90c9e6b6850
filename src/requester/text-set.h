/*
 * text-set.h - texts in the order in which they came, each once
 *
 * A server that lost its disk loses packs by the ten thousand: what is known already is
 * looked up, not searched for.
 */
#pragma once

#include <glib.h>

typedef struct {
    GPtrArray *list;   /* char*, in order */
    GHashTable *known; /* those of the list */
} KvssTextSet;

void kvss_text_set_init(KvssTextSet *set);

/** @text: (nullable) copied, unless it is NULL or there already. */
void kvss_text_set_add(KvssTextSet *set, const char *text);

/** The list, (transfer full), free with unref; of the set nothing is left to be cleared. */
GPtrArray *kvss_text_set_end(KvssTextSet *set);

void kvss_text_set_clear(KvssTextSet *set);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssTextSet, kvss_text_set_clear)
