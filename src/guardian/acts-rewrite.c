/*
 * acts-rewrite.c - a disk written over where it is, and its way back
 *
 * Each step can be done again after a death in its middle: a rename that was done is
 * found done, and what was written back is written back once more.
 */
#include "guardian/acts-rewrite.h"
#include "base/fd.h"
#include "guardian/details.h"
#include "guardian/place.h"
#include "guardian/undo-log.h"
#include "host/device-sink.h"
#include "host/image.h"
#include "host/nbd-sink.h"
#include "stream/sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The server of the run that failed was told to end, and may need a moment. */
#define BUSY_LIMIT_US (20 * G_USEC_PER_SEC)
#define BUSY_POLL_US (100 * 1000)

/* True if @from was renamed now or before; somebody else's file in the way is left alone. */
static bool
move(const char *from, const char *to, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(from);

    if (!is_there(from))
        return is_there(to) || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND,
                                          "neither %s nor %s is there", to, from);
    if (is_there(to))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY,
                          "%s is in the way of %s, which belongs there", to, from);
    if (rename(from, to) < 0)
        return kvss_throw_errno(error, errno, "rename %s to %s", from, to);
    return kvss_fsync_folder(folder, error);
}

static bool
unpark(JsonObject *details, GError **error)
{
    const char *parked = detail(details, "parked");

    return !is_there(parked) || move(parked, detail(details, "path"), error);
}

static bool
log_remove(JsonObject *details, GError **error)
{
    const char *log = detail(details, "log");
    g_autofree char *folder = g_path_get_dirname(log);

    if (!*log)
        return true;
    if (unlink(log) < 0)
        return errno == ENOENT || kvss_throw_errno(error, errno, "remove roll-back log %s", log);
    return kvss_fsync_folder(folder, error);
}

static gint64
number(JsonObject *details, const char *name)
{
    return json_object_get_int_member_with_default(details, name, 0);
}

/*
 * Without a log nothing was written over, or all is back; but for where the log, or the
 * image, lies on a file system that is not mounted.
 */
static bool
check_places(JsonObject *details, GError **error)
{
    const char *path = detail(details, "path"), *parked = detail(details, "parked");

    if (is_there(detail(details, "log")))
        return true;
    if (!*parked)
        return kvss_place_check(number(details, "log-place"), detail(details, "log"), error);
    return is_there(path) || is_there(parked) || kvss_place_check(number(details, "place"), path, error);
}

/* ---- writing back ---- */

static bool
replay(JsonObject *details, KvssSink *sink, GError **error)
{
    return kvss_undo_log_replay(detail(details, "log"), detail(details, "run"), sink, error)
        && kvss_sink_finish(sink, error);
}

static KvssImageServer *
serve(const KvssImageServerOptions *options, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + BUSY_LIMIT_US;

    for (;;) {
        g_autoptr(GError) local = NULL;
        KvssImageServer *server = kvss_image_server_start(options, &local);

        if (server)
            return server;
        if (!g_error_matches(local, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY)
            || g_get_monotonic_time() > deadline_us) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
        g_usleep(BUSY_POLL_US);
    }
}

static bool
image_write_back(JsonObject *details, const char *image, GError **error)
{
    const char *folder = detail(details, "folder");
    g_autofree char *name = g_strdup_printf("undo-%.8s-%d.sock", detail(details, "run"),
                                            (int) getpid());
    g_autofree char *socket = g_build_filename(folder, name, NULL);
    KvssImageServerOptions options = {
        .path = image,
        .format = detail(details, "format"),
        .socket = socket,
        .export_name = "disk",
        .is_writable = true,
        .keeps_room = json_object_get_boolean_member_with_default(details, "keeps-room", FALSE),
    };
    g_autoptr(KvssImageServer) server = NULL;
    KvssSink *sink;
    bool ok;

    if (g_mkdir_with_parents(folder, 0711) < 0)
        return kvss_throw_errno(error, errno, "make folder %s", folder);
    (void) unlink(socket); /* of a dead process of our number */
    server = serve(&options, error);
    if (!server)
        return false;
    sink = kvss_nbd_sink_new(
        socket, options.export_name,
        (uint64_t) json_object_get_int_member_with_default(details, "size", 0), false, error);
    ok = sink && replay(details, sink, error);
    kvss_sink_free(sink);
    return ok && kvss_image_server_finish(server, error);
}

static bool
device_write_back(JsonObject *details, GError **error)
{
    g_autoptr(KvssSink) sink = kvss_device_sink_new(
        detail(details, "path"),
        (uint64_t) json_object_get_int_member_with_default(details, "size", 0), error);

    return sink && replay(details, sink, error);
}

static bool
write_back(JsonObject *details, GError **error)
{
    const char *parked = detail(details, "parked");

    if (!*parked)
        return device_write_back(details, error);
    /* It stands at its place already when the run ended after its last write. */
    return move(detail(details, "path"), parked, error)
        && image_write_back(details, parked, error);
}

bool
kvss_act_undo_rewrite(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const char *log = detail(details, "log");

    if (!check_places(details, error))
        return false;
    if (is_there(log) && !write_back(details, error)) {
        g_prefix_error(error, "disk %s is half old and half new, its old content is in %s: ",
                       detail(details, "path"), log);
        return false;
    }
    /* In this order: what is at its place may be used, and must not be written over then. */
    return log_remove(details, error) && unpark(details, error);
}

bool
kvss_act_forward_rewrite(JsonObject *details, KvssHost *host, GError **error)
{
    return check_places(details, error) && log_remove(details, error) && unpark(details, error);
}

/* ---- what must wait for it ---- */

bool
kvss_act_check_whole(JsonObject *details, GError **error)
{
    JsonArray *logs = json_object_has_member(details, "logs")
        ? json_object_get_array_member(details, "logs") : NULL;
    JsonArray *places = json_object_has_member(details, "log-places")
        ? json_object_get_array_member(details, "log-places") : NULL;
    guint n = logs ? json_array_get_length(logs) : 0;
    guint n_places = places ? json_array_get_length(places) : 0;

    for (guint i = 0; i < n; i++) {
        const char *log = json_array_get_string_element(logs, i);
        gint64 place = i < n_places ? json_array_get_int_element(places, i) : 0;

        if (!is_there(log) && !kvss_place_check(place, log, error))
            return false;
        if (is_there(log))
            return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE,
                              "%s waits until its disk is whole again: its old content is in %s",
                              detail(details, "name"), log);
    }
    return true;
}
