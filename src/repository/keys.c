/*
 * keys.c - the passwords of an open repository
 *
 * Every key file seals the same master key with another password. The one that
 * opened the repository stays: who removes keys must leave himself a way in, and
 * of two who do so at once (which the exclusive lock prevents) none may remove the
 * other's.
 */
#include "repository/file/document.h"
#include "repository/file/key.h"
#include "repository/repository-private.h"

#include <string.h>

void
kvss_key_info_free(KvssKeyInfo *info)
{
    if (!info)
        return;
    g_free(info->created);
    g_free(info->username);
    g_free(info->hostname);
    g_free(info->problem);
    g_free(info);
}

/* A key file that is damaged is listed with what is wrong: it can be removed like any other. */
static bool
read_note(KvssRepository *repository, const char *name, KvssKeyNote *out_note, GError **error)
{
    g_autoptr(GBytes) text
        = kvss_backend_read_all(repository->backend, KVSS_FILE_KEY, name, KVSS_KEY_MAX, error);
    uint8_t id[KVSS_ID_LENGTH];
    char hex[KVSS_ID_HEX_LENGTH + 1];

    if (!text)
        return false;
    kvss_id_of(g_bytes_get_data(text, NULL), g_bytes_get_size(text), id);
    kvss_id_to_hex(id, hex);
    if (strcmp(hex, name) != 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "its content does not have the hash that names it");
    return kvss_key_note_parse(g_bytes_get_data(text, NULL), g_bytes_get_size(text), out_note,
                               error);
}

static KvssKeyInfo *
info_new(KvssRepository *repository, const char *name)
{
    KvssKeyInfo *info = g_new0(KvssKeyInfo, 1);
    g_autoptr(GError) error = NULL;
    KvssKeyNote note = { 0 };

    g_strlcpy(info->id, name, sizeof info->id);
    info->is_current = strcmp(name, repository->key) == 0;
    if (!read_note(repository, name, &note, &error))
        info->problem = g_strdup(error->message);
    info->created = note.created;
    info->username = note.username;
    info->hostname = note.hostname;
    return info;
}

static int
compare_infos(gconstpointer a, gconstpointer b)
{
    const KvssKeyInfo *one = *(KvssKeyInfo *const *) a, *two = *(KvssKeyInfo *const *) b;
    int by_time = g_strcmp0(one->created, two->created);

    return by_time ? by_time : strcmp(one->id, two->id);
}

GPtrArray *
kvss_repository_list_keys(KvssRepository *repository, GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_KEY, error);
    GPtrArray *infos;

    if (!files)
        return NULL;
    infos = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_key_info_free);
    for (guint i = 0; i < files->len; i++) {
        char name[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, name);
        g_ptr_array_add(infos, info_new(repository, name));
    }
    g_ptr_array_sort(infos, compare_infos);
    return infos;
}

bool
kvss_repository_add_key(KvssRepository *repository, const char *password,
                        char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    g_return_val_if_fail(repository->mode != KVSS_REPOSITORY_LOOK && password && *password, false);

    return kvss_key_add_named(repository->backend, password,
                              kvss_codec_pool_key(repository->codecs), &kvss_key_cost, out_id,
                              error);
}

/* The one key file whose name begins with @prefix. */
static bool
find_key(KvssRepository *repository, const char *prefix, char out_name[KVSS_ID_HEX_LENGTH + 1],
         GError **error)
{
    g_autoptr(GArray) files = kvss_backend_list(repository->backend, KVSS_FILE_KEY, error);
    unsigned n = 0;

    for (guint i = 0; files && i < files->len; i++) {
        char name[KVSS_ID_HEX_LENGTH + 1];

        kvss_id_to_hex(g_array_index(files, KvssStoredFile, i).id, name);
        if (!g_str_has_prefix(name, prefix))
            continue;
        memcpy(out_name, name, sizeof name);
        n++;
    }
    if (!files || n == 1)
        return files != NULL;
    return n == 0 ? kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NOT_FOUND,
                               "no key has an id that begins with \"%s\": 'kvss key list' shows "
                               "them", prefix)
                  : kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_AMBIGUOUS,
                               "%u keys have an id that begins with \"%s\": give more of it", n,
                               prefix);
}

bool
kvss_repository_remove_key(KvssRepository *repository, const char *prefix,
                           char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    g_return_val_if_fail(repository->mode == KVSS_REPOSITORY_REMOVE, false);

    if (!find_key(repository, prefix, out_id, error))
        return false;
    if (strcmp(out_id, repository->key) == 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_REFUSED,
                          "key %.8s is the one in use and cannot be removed: add another, and "
                          "remove this one with that one's password", out_id);
    return (!repository->lock || kvss_lock_check(repository->lock, error))
        && kvss_backend_remove(repository->backend, KVSS_FILE_KEY, out_id, error);
}

/* The new one first: killed in between, both open. */
bool
kvss_repository_replace_key(KvssRepository *repository, const char *password,
                            char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    char old[KVSS_ID_HEX_LENGTH + 1];

    g_return_val_if_fail(repository->mode == KVSS_REPOSITORY_REMOVE, false);

    memcpy(old, repository->key, sizeof old);
    if (!kvss_repository_add_key(repository, password, out_id, error)
        || (repository->lock && !kvss_lock_check(repository->lock, error)))
        return false;
    memcpy(repository->key, out_id, sizeof repository->key);
    if (kvss_backend_remove(repository->backend, KVSS_FILE_KEY, old, error))
        return true;
    g_prefix_error(error, "the new password opens the repository, and the old one still does: ");
    return false;
}
