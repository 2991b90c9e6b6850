/*
 * cmd-init.c - kvss init: create a repository
 */
#include "requester/output.h"
#include "requester/requester.h"

#include <string.h>

int
kvss_cmd_init(KvssRequester *requester, GError **error)
{
    const char *location = kvss_requester_repository(requester, error);
    g_autofree char *id = NULL, *text = NULL;
    char *password;
    JsonObject *object;
    bool ok;

    if (!location)
        return -1;
    password = kvss_config_password(requester->config, requester->options, true, true,
                                    requester->cancellable, error);
    if (!password)
        return -1;
    ok = kvss_repository_init(location, password, &id, error);
    kvss_config_password_free(password);
    if (!ok) {
        kvss_requester_name_repository(location, "", error);
        return -1;
    }
    text = kvss_repository_location_text(location);
    if (requester->options->json) {
        object = json_object_new();
        kvss_set_text(object, "repository", text);
        kvss_set_text(object, "id", id);
        kvss_print_json_object(object);
    } else if (!requester->options->quiet) {
        kvss_print("repository %s created, id %.10s\n"
                   "Keep the password in a safe place: without it nothing in there can be read.\n",
                   text, id);
    }
    return KVSS_EXIT_DONE;
}
