/*
 * cmd-key.c - kvss key list|add|remove|passwd: the passwords of a repository
 */
#include "requester/output.h"
#include "requester/requester.h"

#include <string.h>

/* ---- list ---- */

static void
add_json(JsonArray *array, const KvssKeyInfo *info)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "id", info->id);
    json_object_set_boolean_member(object, "current", info->is_current);
    kvss_set_text(object, "username", info->username);
    kvss_set_text(object, "hostname", info->hostname);
    kvss_set_text(object, "created", info->created);
    kvss_set_text(object, "damage", info->problem);
    json_array_add_object_element(array, object);
}

static void
print_json(const GPtrArray *infos)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < infos->len; i++)
        add_json(array, g_ptr_array_index(infos, i));
    kvss_print_json(json_node_init_array(json_node_alloc(), array));
    json_array_unref(array);
}

static char *
when(const KvssKeyInfo *info)
{
    g_autoptr(GDateTime) created
        = info->created ? g_date_time_new_from_iso8601(info->created, NULL) : NULL;

    return created ? kvss_time_text(g_date_time_to_unix(created) * G_USEC_PER_SEC)
                   : g_strdup(info->problem ? "damaged" : "?");
}

static void
print_text(const GPtrArray *infos)
{
    KvssTable *table = kvss_table_new("KEY", "IN USE", "USER", "HOST", "CREATED", NULL);

    for (guint i = 0; i < infos->len; i++) {
        const KvssKeyInfo *info = g_ptr_array_index(infos, i);
        g_autofree char *id = g_strndup(info->id, 8);
        g_autofree char *created = when(info);

        kvss_table_add(table, id, info->is_current ? "yes" : "no",
                       info->username ? info->username : "",
                       info->hostname ? info->hostname : "", created, NULL);
    }
    kvss_table_print(table);
}

static int
key_list(KvssRequester *requester, const char *id, GError **error)
{
    g_autoptr(KvssRepository) repository
        = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    g_autoptr(GPtrArray) infos
        = repository ? kvss_repository_list_keys(repository, error) : NULL;
    int code = KVSS_EXIT_DONE;

    if (!infos)
        return -1;
    if (requester->options->json)
        print_json(infos);
    else
        print_text(infos);
    for (guint i = 0; i < infos->len; i++) {
        const KvssKeyInfo *info = g_ptr_array_index(infos, i);

        if (!info->problem)
            continue;
        kvss_say("key %.8s is damaged: %s: 'kvss key remove %.8s' takes it away", info->id,
                 info->problem, info->id);
        code = KVSS_EXIT_DAMAGED;
    }
    return code;
}

/* ---- the others ---- */

static void
tell(KvssRequester *requester, const char *new_id, const char *removed_id)
{
    JsonObject *object;

    if (requester->options->json) {
        object = json_object_new();
        kvss_set_text(object, "id", new_id);
        kvss_set_text(object, "removed", removed_id);
        kvss_print_json_object(object);
        return;
    }
    if (requester->options->quiet)
        return;
    if (new_id)
        kvss_print("key %.8s added\n", new_id);
    if (removed_id)
        kvss_print("key %.8s removed\n", removed_id);
}

typedef bool (*NewPasswordFunc)(KvssRepository *repository, const char *password,
                                char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error);

/* The repository is opened first: who cannot open it is not asked for a new password. */
static bool
with_new_password(KvssRequester *requester, KvssRepository *repository, NewPasswordFunc func,
                  char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
{
    char *password = kvss_config_new_password(requester->options, requester->cancellable, error);
    bool ok = password && func(repository, password, out_id, error);

    kvss_config_password_free(password);
    return ok;
}

static int
key_add(KvssRequester *requester, const char *id, GError **error)
{
    g_autoptr(KvssRepository) repository
        = kvss_requester_open_repository(requester, KVSS_REPOSITORY_ADD, error);
    char new_id[KVSS_ID_HEX_LENGTH + 1];

    if (!repository
        || !with_new_password(requester, repository, kvss_repository_add_key, new_id, error))
        return -1;
    tell(requester, new_id, NULL);
    return KVSS_EXIT_DONE;
}

static int
key_remove(KvssRequester *requester, const char *id, GError **error)
{
    g_autofree char *prefix = g_ascii_strdown(id, -1);
    g_autoptr(KvssRepository) repository
        = kvss_requester_open_repository(requester, KVSS_REPOSITORY_REMOVE, error);
    char removed[KVSS_ID_HEX_LENGTH + 1];

    if (!repository || !kvss_repository_remove_key(repository, prefix, removed, error))
        return -1;
    tell(requester, NULL, removed);
    return KVSS_EXIT_DONE;
}

static int
key_passwd(KvssRequester *requester, const char *id, GError **error)
{
    g_autoptr(KvssRepository) repository
        = kvss_requester_open_repository(requester, KVSS_REPOSITORY_REMOVE, error);
    g_autofree char *old = repository ? g_strdup(kvss_repository_key(repository)) : NULL;
    char new_id[KVSS_ID_HEX_LENGTH + 1];

    if (!repository
        || !with_new_password(requester, repository, kvss_repository_replace_key, new_id, error))
        return -1;
    tell(requester, new_id, old);
    return KVSS_EXIT_DONE;
}

int
kvss_cmd_key(KvssRequester *requester, GError **error)
{
    static const struct {
        const char *name;
        int (*run)(KvssRequester *requester, const char *id, GError **error);
        bool wants_id, wants_password;
    } acts[] = {
        { "list", key_list, false, false },
        { "add", key_add, false, true },
        { "remove", key_remove, true, false },
        { "passwd", key_passwd, false, true },
    };
    const char *const *words = kvss_options_list(requester->options->words);

    for (guint i = 0; i < G_N_ELEMENTS(acts); i++) {
        if (strcmp(words[0], acts[i].name) != 0)
            continue;
        if (!words[1] != !acts[i].wants_id || (words[1] && !*words[1])) {
            kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                       acts[i].wants_id ? "key %s needs the key's id: 'kvss key list' shows it"
                                        : "key %s takes nothing more", acts[i].name);
            return -1;
        }
        if (requester->options->new_password_file && !acts[i].wants_password) {
            kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                       "--new-password-file goes with 'key add' and 'key passwd'");
            return -1;
        }
        return acts[i].run(requester, words[1], error);
    }
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
               "cannot '%s' a key: it is list, add, remove or passwd", words[0]);
    return -1;
}
