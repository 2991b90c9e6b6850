/*
 * text-set.c - texts in the order in which they came, each once
 */
#include "requester/text-set.h"

void
kvss_text_set_init(KvssTextSet *set)
{
    set->list = g_ptr_array_new_with_free_func(g_free);
    set->known = g_hash_table_new(g_str_hash, g_str_equal);
}

void
kvss_text_set_add(KvssTextSet *set, const char *text)
{
    char *own;

    if (!text || g_hash_table_contains(set->known, text))
        return;
    own = g_strdup(text);
    g_ptr_array_add(set->list, own);
    g_hash_table_add(set->known, own);
}

GPtrArray *
kvss_text_set_end(KvssTextSet *set)
{
    g_clear_pointer(&set->known, g_hash_table_unref);
    return g_steal_pointer(&set->list);
}

void
kvss_text_set_clear(KvssTextSet *set)
{
    g_clear_pointer(&set->known, g_hash_table_unref);
    g_clear_pointer(&set->list, g_ptr_array_unref);
}
