/*
 * selection.c - which components a run is about
 *
 * A name that is not there is an error, in --exclude as well: there it would
 * otherwise put a VM into the backup that somebody meant to leave out.
 */
#include "backup/selection.h"
#include "writer/writer.h"

#include <string.h>

/* Another writer's component may have the name of a VM; only a VM goes by its UUID. */
static bool
is_called(const KvssComponent *component, const char *name_or_uuid)
{
    return g_strcmp0(component->display_name, name_or_uuid) == 0
           || (g_uuid_string_is_valid(name_or_uuid)
               && g_ascii_strcasecmp(component->name, name_or_uuid) == 0);
}

KvssComponent *
kvss_backup_find_component(KvssCoordinator *coordinator, const char *name_or_uuid)
{
    GPtrArray *writers = kvss_coordinator_writers(coordinator);

    for (guint w = 0; w < writers->len; w++) {
        const KvssWriter *writer = g_ptr_array_index(writers, w);

        if (kvss_writer_has_dropped_out(writer))
            continue;
        for (guint i = 0; i < writer->components->len; i++) {
            KvssComponent *component = g_ptr_array_index(writer->components, i);

            if (is_called(component, name_or_uuid))
                return component;
        }
    }
    return NULL;
}

static void
note_unknown(KvssCoordinator *coordinator, const char *const *names, GString *unknown)
{
    for (; names && *names; names++)
        if (!kvss_backup_find_component(coordinator, *names))
            g_string_append_printf(unknown, "%s'%s'", unknown->len ? ", " : "", *names);
}

static bool
throw_unknown(const GString *unknown, GError **error)
{
    return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND,
                      "no VM %s on this host: 'kvss list vms' shows those that are there",
                      unknown->str);
}

/* What has a colon may be meant as a program's component: those are in another list. */
static bool
throw_unknown_component(const GString *unknown, GError **error)
{
    if (!strchr(unknown->str, ':'))
        return throw_unknown(unknown, error);
    return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND,
                      "no VM or component %s on this host: 'kvss list vms' and 'kvss list writers "
                      "--detailed' show those that are there",
                      unknown->str);
}

bool
kvss_backup_check_names(KvssCoordinator *coordinator, const char *const *names, GError **error)
{
    g_autoptr(GString) unknown = g_string_new(NULL);

    note_unknown(coordinator, names, unknown);
    return unknown->len == 0 || throw_unknown(unknown, error);
}

bool
kvss_backup_is_named(const KvssComponent *component, const char *const *names)
{
    for (; names && *names; names++)
        if (is_called(component, *names))
            return true;
    return false;
}

/* All of them are those that can be chosen; what belongs to one of these comes with it. */
static bool
is_meant(const KvssBackupRequest *request, const KvssComponent *component)
{
    if (kvss_backup_is_named(component, request->exclude))
        return false;
    return (request->all && component->is_selectable)
           || kvss_backup_is_named(component, request->vms);
}

static bool
throw_nothing(const KvssBackupRequest *request, GError **error)
{
    bool is_excluded = request->exclude && *request->exclude;

    return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND,
                      "nothing to back up: %s",
                      is_excluded ? "all that was chosen is excluded" : "this host has no VM");
}

/* What was to be left out may have come along with a component that was chosen. */
static bool
check_excluded(const KvssBackupRequest *request, GError **error)
{
    const GPtrArray *chosen = kvss_coordinator_set(request->coordinator)->components;

    for (guint i = 0; i < chosen->len; i++) {
        const KvssComponent *component = g_ptr_array_index(chosen, i);

        if (kvss_backup_is_named(component, request->exclude))
            return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_INSEPARABLE,
                              "%s cannot be left out: it belongs to a component that was chosen, "
                              "or its writer demands it: leave that out instead",
                              component->display_name);
    }
    return true;
}

bool
kvss_backup_select(const KvssBackupRequest *request, GError **error)
{
    GPtrArray *writers = kvss_coordinator_writers(request->coordinator);
    g_autoptr(GString) unknown = g_string_new(NULL);

    note_unknown(request->coordinator, request->vms, unknown);
    note_unknown(request->coordinator, request->exclude, unknown);
    note_unknown(request->coordinator, request->mentioned, unknown);
    if (unknown->len)
        return throw_unknown_component(unknown, error);

    for (guint w = 0; w < writers->len; w++) {
        const KvssWriter *writer = g_ptr_array_index(writers, w);

        if (kvss_writer_has_dropped_out(writer))
            continue;
        for (guint i = 0; i < writer->components->len; i++) {
            KvssComponent *component = g_ptr_array_index(writer->components, i);

            if (is_meant(request, component)
                && !kvss_coordinator_select_component(request->coordinator, component, error))
                return false;
        }
    }
    if (kvss_coordinator_set(request->coordinator)->components->len == 0)
        return throw_nothing(request, error);
    return check_excluded(request, error);
}
