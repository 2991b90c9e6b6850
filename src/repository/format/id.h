/*
 * id.h - the SHA-256 that names every blob and every file of a repository
 */
#pragma once

#include "repository/repository.h"

/** Lower-case hex, with a NUL at the end. */
void kvss_id_to_hex(const uint8_t id[KVSS_ID_LENGTH], char out_hex[KVSS_ID_HEX_LENGTH + 1]);

/** Returns: false, and leaves @out_id alone, unless @hex is exactly 64 lower-case hex digits. */
bool kvss_id_from_hex(const char *hex, size_t length, uint8_t out_id[KVSS_ID_LENGTH]);

static inline bool
kvss_id_equal(const uint8_t *a, const uint8_t *b)
{
    return __builtin_memcmp(a, b, KVSS_ID_LENGTH) == 0;
}

/** The SHA-256 of @data; for single use. Loops go through KvssCrypto, which keeps its context. */
void kvss_id_of(const void *data, size_t length, uint8_t out_id[KVSS_ID_LENGTH]);

/** Hash and equality for GHashTable over ids: a SHA-256 needs no further mixing. */
guint kvss_id_hash(gconstpointer id);
gboolean kvss_id_same(gconstpointer a, gconstpointer b);
