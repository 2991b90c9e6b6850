/*
 * host-plan.c - which files of a component go where, by what its writer declares now
 */
#include "restore/host-parts.h"
#include "base/beneath.h"
#include "writer/writer.h"

#include <string.h>

/* What a writer carries beside its files: a note, a position in a log. */
#define NOTE_MAX (16u * 1024 * 1024)

void
host_free(gpointer data)
{
    PlanHost *host = data;

    if (!host->component_is_taken)
        kvss_component_free(host->component);
    kvss_restored_component_free(host->result);
    g_ptr_array_unref(host->files);
    g_hash_table_unref(host->kept);
    g_free(host);
}

const char *
host_name(const PlanHost *host)
{
    return host->stored->component->display_name;
}

static bool
throw_absent(const PlanHost *host, const char *what, GError **error)
{
    g_autofree char *code = kvss_hresult_in_brackets(KVSS_E_OBJECT_NOT_FOUND);

    return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND,
                      "%s: %s: name the VMs to restore them without it, or write its files into a "
                      "folder with --to DIR %s", host_name(host), what, code);
}

static KvssComponent *
find_declared(const KvssWriter *writer, const KvssComponent *stored)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *live = g_ptr_array_index(writer->components, i);

        if (strcmp(live->name, stored->name) == 0
            && g_strcmp0(live->logical_path, stored->logical_path) == 0)
            return live;
    }
    return NULL;
}

/* The writer that is here now, and what it declares now. */
static bool
find_writer(const Plan *plan, PlanHost *host, GError **error)
{
    KvssCoordinator *coordinator = plan->options->host_coordinator;
    GPtrArray *writers = coordinator ? kvss_coordinator_writers(coordinator) : NULL;
    const char *why = "its writer is not here";

    for (guint i = 0; writers && i < writers->len; i++) {
        KvssWriter *writer = g_ptr_array_index(writers, i);

        if (g_ascii_strcasecmp(writer->ops->class_id, host->stored->writer) != 0)
            continue;
        if (kvss_writer_has_dropped_out(writer)) {
            why = "its writer cannot say what it has";
            continue;
        }
        why = "its writer does not have this component now";
        host->writer = writer;
        host->live = find_declared(writer, host->stored->component);
        if (host->live)
            return true;
    }
    return throw_absent(host, why, error);
}

bool
host_declares(const KvssComponent *live, const char *path)
{
    for (guint i = 0; i < live->file_sets->len; i++)
        if (kvss_file_set_has(g_ptr_array_index(live->file_sets, i), path))
            return true;
    return false;
}

static bool
check_original(const PlanHost *host, const char *original, GError **error)
{
    if (!kvss_is_plain_path(original) || strlen(original) > 3000)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: the backup names a path that is not allowed: %.200s", host_name(host),
                          original);
    if (host->live && !host_declares(host->live, original))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: its writer does not declare %s now, so nothing is written there: "
                          "restore with --to DIR", host_name(host), original);
    return true;
}

static void
plan_file(Plan *plan, PlanHost *host, const KvssFile *stored, const char *relative)
{
    g_autofree char *path = g_build_filename(plan->options->to_dir ? plan->options->to_dir : "/",
                                             relative, NULL);
    PlanFile *file = g_new0(PlanFile, 1);

    file->stored = stored;
    file->file = kvss_component_add_file(host->component, stored->name, path, stored->mode & 0777);
    kvss_set_string(&file->file->original, stored->original);
    file->file->uid = stored->uid;
    file->file->gid = stored->gid;
    g_ptr_array_add(host->files, file);
    g_hash_table_add(plan->host_folders, g_path_get_dirname(path));
}

/* What its writer carried beside its files has no place of its own: it is given back to it. */
static bool
plan_note(Plan *plan, PlanHost *host, const KvssFile *stored, GError **error)
{
    const KvssRestoreOptions *options = plan->options;
    g_autofree char *relative = g_build_filename(host->stored->dir, stored->name, NULL);
    g_autoptr(GBytes) bytes = NULL;

    if (options->to_dir) {
        plan_file(plan, host, stored, relative);
        return true;
    }
    bytes = kvss_backup_read_file(options->repository, options->backup, host->stored, stored,
                                  NOTE_MAX, error);
    if (bytes)
        (void) kvss_component_add_bytes(host->component, stored->name, bytes, stored->mode);
    return bytes != NULL;
}

static bool
plan_all_files(Plan *plan, PlanHost *host, GError **error)
{
    const GPtrArray *files = host->stored->component->files;

    for (guint i = 0; i < files->len; i++) {
        const KvssFile *stored = g_ptr_array_index(files, i);
        g_autofree char *relative = NULL;

        if (!stored->original) {
            if (!plan_note(plan, host, stored, error))
                return false;
            continue;
        }
        if (!check_original(host, stored->original, error))
            return false;
        relative = plan->options->to_dir
            ? g_build_filename(host->stored->dir, stored->original + 1, NULL)
            : g_strdup(stored->original + 1);
        plan_file(plan, host, stored, relative);
    }
    return true;
}

static void
component_fill(PlanHost *host)
{
    const KvssComponent *stored = host->stored->component;
    KvssComponent *component = host->component;

    kvss_set_string(&component->logical_path, stored->logical_path);
    kvss_set_string(&component->caption, stored->caption);
    kvss_set_string(&component->metadata, stored->metadata);
    for (guint i = 0; host->live && i < host->live->file_sets->len; i++) {
        const KvssFileSet *live = g_ptr_array_index(host->live->file_sets, i);

        kvss_component_add_file_set(component, live->path, live->filespec, live->is_recursive)
            ->is_stable = live->is_stable;
    }
}

static void
note_not_covered(Plan *plan, PlanHost *host)
{
    const GPtrArray *list = host->stored->component->not_covered;

    for (guint i = 0; i < list->len; i++) {
        const KvssNotCovered *gap = g_ptr_array_index(list, i);

        plan->is_partial |= gap->is_writable;
        g_ptr_array_add(host->result->notes,
                        g_strdup_printf("%s was not in the backup", gap->target));
    }
}

bool
host_plan(Plan *plan, const KvssManifestVm *stored, GError **error)
{
    PlanHost *host = g_new0(PlanHost, 1);

    host->stored = stored;
    host->files = g_ptr_array_new_with_free_func(g_free);
    host->kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->component = kvss_component_new(stored->component->name,
                                         stored->component->display_name);
    host->result = kvss_restored_component_new(stored);
    g_ptr_array_add(plan->hosts, host);
    if (stored->component->disks->len > 0)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID,
                          "%s: has disks, and is no VM: use restic", host_name(host));
    if (!plan->options->to_dir && !find_writer(plan, host, error))
        return false;
    component_fill(host);
    note_not_covered(plan, host);
    if (!plan_all_files(plan, host, error))
        return false;
    host->result->files = host->files->len;
    plan->total_bytes += stored->bytes;
    return true;
}
