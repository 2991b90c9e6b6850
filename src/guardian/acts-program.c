/*
 * acts-program.c - a host's writer told to let go of its data
 *
 * The program is somebody else's and may have been changed since: only what may be
 * run now is run, by the same rules as ever (host/program.h).
 */
#include "guardian/acts-program.h"
#include "host/program.h"

static GBytes *
request(JsonObject *details, const char *event)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();
    JsonNode *components = json_object_get_member(details, "components");
    char *text;

    json_object_set_int_member(object, "version", KVSS_PROGRAM_VERSION);
    json_object_set_string_member(object, "event", event);
    json_object_set_string_member(object, "set_id",
                                  json_object_get_string_member_with_default(details, "set_id", ""));
    if (components)
        json_object_set_member(object, "components", json_node_copy(components));
    json_node_take_object(node, object);
    text = json_to_string(node, FALSE);
    return g_bytes_new_take(text, strlen(text));
}

static bool
tell(JsonObject *details, const char *event, GError **error)
{
    const char *path = json_object_get_string_member_with_default(details, "path", "");
    const char *set_id = json_object_get_string_member_with_default(details, "set_id", "");
    g_autoptr(GBytes) input = request(details, event);
    g_auto(KvssProgramEnd) end = { 0 };
    g_autofree char *how = NULL;

    if (!g_path_is_absolute(path))
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID, "'%s' is no path", path);
    if (!kvss_program_call(path, event, set_id, input, KVSS_PROGRAM_UNDO_LIMIT_MS, NULL, &end,
                           error)) {
        g_prefix_error(error, "%s %s: ", path, event);
        return false;
    }
    if (end.status == 0)
        return true;
    how = kvss_program_end_describe(&end);
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "%s %s: %s", path, event, how);
}

bool
kvss_act_undo_program(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const char *event = json_object_get_string_member_with_default(details, "event", "abort");
    bool ok = tell(details, event, error);

    /* The last event comes after good and bad: it may clean up what Abort could not. */
    if (g_str_equal(event, "pre-restore") && !ok)
        g_prefix_error(error, "it keeps the restored files, and the old ones stay beside them as "
                              "NAME.kvss-old-...: it does not stop using them: ");
    if (g_str_equal(event, "abort"))
        ok = tell(details, "backup-shutdown", ok ? error : NULL) && ok;
    return ok;
}
