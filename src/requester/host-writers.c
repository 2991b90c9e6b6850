/*
 * host-writers.c - the executables of the host that are writers
 */
#include "requester/output.h"
#include "requester/requester.h"
#include "writer/program/program-writer.h"

#include <string.h>

#define WRITERS_DIR "/etc/kvss/writers.d"
/* Of the way from the end of PrepareForSnapshot to the start of Freeze, and to be told apart. */
#define SLACK_MS 60000u

static void
say_refused(const char *reason, gpointer data)
{
    KvssRequester *requester = data;

    requester->writers_refused++;
    kvss_say("not run as a writer: %s", reason);
}

/* Components are called "FILE:...". */
static bool
is_wanted(const char *path, const char *const *names)
{
    g_autofree char *file = g_path_get_basename(path);
    size_t length = strlen(file);

    if (!names)
        return true;
    for (; *names; names++)
        if (strncmp(*names, file, length) == 0 && (*names)[length] == ':')
            return true;
    return false;
}

/* Nobody means one: a folder with a wrong file in it must not trouble who asks for a VM. */
static bool
is_any_wanted(const char *const *names)
{
    if (!names)
        return true;
    for (; *names; names++)
        if (strchr(*names, ':'))
            return true;
    return false;
}

static KvssProgramWriterLimits
limits_of(const KvssConfig *config)
{
    const unsigned *step_ms = config->limits.step_ms;

    return (KvssProgramWriterLimits) {
        .prepared_ms = step_ms[KVSS_STEP_PREPARE_FOR_SNAPSHOT] + step_ms[KVSS_STEP_END_PREPARE]
                       + SLACK_MS,
        .frozen_ms = config->limits.window_ms,
    };
}

bool
kvss_requester_take_host_writers(KvssRequester *requester, KvssCoordinator *coordinator,
                                 const char *const *names, GError **error)
{
    const char *named = requester->config->writers_dir;
    KvssProgramWriterLimits limits = limits_of(requester->config);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) paths = NULL;

    if (!is_any_wanted(names))
        return true;
    paths = kvss_program_writers_find(named ? named : WRITERS_DIR, say_refused, requester,
                                      &problem);
    if (!paths && !named && g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
        return true;
    if (!paths) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    for (guint i = 0; i < paths->len; i++)
        if (is_wanted(g_ptr_array_index(paths, i), names))
            kvss_coordinator_take_writer(coordinator,
                                         kvss_program_writer_new(g_ptr_array_index(paths, i),
                                                                 &limits));
    return true;
}

unsigned
kvss_requester_say_dropped_writers(KvssCoordinator *coordinator)
{
    GPtrArray *writers = kvss_coordinator_writers(coordinator);
    unsigned n = 0;

    for (guint i = 0; i < writers->len; i++) {
        KvssWriter *writer = g_ptr_array_index(writers, i);
        g_autofree char *message = NULL;

        if (!kvss_writer_has_dropped_out(writer))
            continue;
        n++;
        message = kvss_writer_failure_message(writer);
        kvss_say("%s cannot say what it has, so nothing of it is in the backup: %s",
                 writer->instance_name, message ? message : "");
    }
    return n;
}
