/*
 * cheap-key.c - repositories for tests that open at once
 */
#include "cheap-key.h"

#include "repository/repository-private.h"

static const KvssKeyCost cheap_cost = { .n = 2, .r = 1, .p = 1 };

bool
cheap_init(const char *location, const char *password, GError **error)
{
    return kvss_repository_init_at_cost(location, password, &cheap_cost, NULL, error);
}

void
cheap_key(const char *location, const char *password)
{
    g_autoptr(KvssBackend) backend = kvss_backend_open(location, NULL);
    g_autoptr(GArray) old = kvss_backend_list(backend, KVSS_FILE_KEY, NULL);
    char name[KVSS_ID_HEX_LENGTH + 1];
    KvssKey key;

    g_assert_true(kvss_key_open(backend, password, &key, NULL));
    g_assert_true(kvss_key_add(backend, password, &key, &cheap_cost, NULL));
    kvss_id_to_hex(g_array_index(old, KvssStoredFile, 0).id, name);
    g_assert_true(kvss_backend_remove(backend, KVSS_FILE_KEY, name, NULL));
}
