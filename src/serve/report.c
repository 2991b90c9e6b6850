/*
 * report.c - what the server process tells the command that started it
 */
#include "serve/report.h"
#include "base/fd.h"
#include "host/error.h"

#include <limits.h>
#include <poll.h>
#include <string.h>

/* A pipe that can be written has room for this at least, and takes it as one. */
#define SHORT_LENGTH PIPE_BUF

static bool
has_room(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLOUT };

    return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT);
}

void
kvss_report_send(int fd, JsonObject *object, bool may_drop)
{
    g_autoptr(JsonNode) root = json_node_init_object(json_node_alloc(), object);
    g_autofree char *text = json_to_string(root, FALSE);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    size_t length = strlen(line);

    json_object_unref(object);
    if (may_drop && (length > SHORT_LENGTH || !has_room(fd)))
        return;
    (void) !kvss_write_exact(fd, line, length, NULL); /* nobody there to be told */
}

JsonObject *
kvss_report_error_new(const GError *error)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "type", "error");
    json_object_set_string_member(object, "domain", g_quark_to_string(error->domain));
    json_object_set_int_member(object, "code", error->code);
    json_object_set_string_member(object, "message", error->message);
    return object;
}

GError *
kvss_report_error(JsonObject *object)
{
    const char *domain = json_object_get_string_member_with_default(object, "domain", NULL);
    const char *message = json_object_get_string_member_with_default(object, "message", NULL);
    gint64 code = json_object_get_int_member_with_default(object, "code", -1);

    if (!domain || !message || code < 0 || code > G_MAXINT)
        return g_error_new(KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, "the server failed");
    return g_error_new_literal(g_quark_from_string(domain), (int) code, message);
}

JsonObject *
kvss_report_take(GString *lines)
{
    JsonObject *object = NULL;
    char *end;

    while (!object && (end = strchr(lines->str, '\n')) != NULL) {
        g_autoptr(JsonParser) parser = json_parser_new();
        gssize length = end - lines->str;
        JsonNode *root = NULL;

        if (json_parser_load_from_data(parser, lines->str, length, NULL))
            root = json_parser_get_root(parser);
        if (root && JSON_NODE_HOLDS_OBJECT(root))
            object = json_object_ref(json_node_get_object(root));
        g_string_erase(lines, 0, length + 1);
    }
    return object;
}
