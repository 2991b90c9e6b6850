/*
 * id.c - the SHA-256 that names every blob and every file of a repository
 */
#include "repository/format/id.h"

#include <openssl/sha.h>
#include <string.h>

void
kvss_id_to_hex(const uint8_t id[KVSS_ID_LENGTH], char out_hex[KVSS_ID_HEX_LENGTH + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < KVSS_ID_LENGTH; i++) {
        out_hex[2 * i] = digits[id[i] >> 4];
        out_hex[2 * i + 1] = digits[id[i] & 15];
    }
    out_hex[KVSS_ID_HEX_LENGTH] = '\0';
}

/* -1 for what is no lower-case hex digit: restic writes no other. */
static int
digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool
kvss_id_from_hex(const char *hex, size_t length, uint8_t out_id[KVSS_ID_LENGTH])
{
    uint8_t id[KVSS_ID_LENGTH];

    if (length != KVSS_ID_HEX_LENGTH)
        return false;
    for (size_t i = 0; i < KVSS_ID_LENGTH; i++) {
        int high = digit_value(hex[2 * i]);
        int low = digit_value(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        id[i] = (uint8_t) (high << 4 | low);
    }
    memcpy(out_id, id, sizeof id);
    return true;
}

void
kvss_id_of(const void *data, size_t length, uint8_t out_id[KVSS_ID_LENGTH])
{
    SHA256(data, length, out_id);
}

guint
kvss_id_hash(gconstpointer id)
{
    guint hash;

    memcpy(&hash, id, sizeof hash);
    return hash;
}

gboolean
kvss_id_same(gconstpointer a, gconstpointer b)
{
    return kvss_id_equal(a, b);
}
