/*
 * cmd-export.c - kvss export: one stored disk into a file, or to standard output
 */
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/requester.h"
#include "restore/export.h"

#include <string.h>
#include <unistd.h>

#define STDOUT "-"

/** The four words of the command. */
typedef struct {
    const char *backup, *vm, *disk, *file;
} Words;

static bool
is_to_stdout(const Words *words)
{
    return strcmp(words->file, STDOUT) == 0;
}

static bool
check_stdout(const KvssOptions *options, GError **error)
{
    if (options->json)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "'-' and --json both want standard output: leave one away");
    if (options->format && strcmp(options->format, "raw") != 0)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "'-' is raw: %s cannot be written in one go, name a file",
                          options->format);
    if (isatty(STDOUT_FILENO))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "a disk is not written to a terminal: name a file, or let a program "
                          "read it");
    return true;
}

static bool
check_words(const KvssOptions *options, const Words *words, GError **error)
{
    if (!*words->file)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG, "FILE is empty");
    if (options->format && !kvss_export_is_format(options->format))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "there is no --format '%s': it is raw, qcow2, vhdx or vpc",
                          options->format);
    if (!options->format && !kvss_export_format_of(words->file))
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                          "%s: that format is not written; it is raw, qcow2, vhdx or vpc: name "
                          "another FILE, or give --format", words->file);
    return !is_to_stdout(words) || check_stdout(options, error);
}

/* ---- the result ---- */

static void
print_result_json(const KvssExportOptions *request, const KvssExportResult *result, double seconds)
{
    JsonObject *object = json_object_new();

    kvss_set_text(object, "type", "summary");
    kvss_set_text(object, "backup_id", request->backup->snapshot->id);
    kvss_set_text(object, "vm", request->vm->component->display_name);
    kvss_set_text(object, "uuid", request->vm->component->name);
    kvss_set_text(object, "target", request->disk->target);
    kvss_set_text(object, "format", request->format);
    kvss_set_text(object, "path", request->path);
    json_object_set_int_member(object, "size", (gint64) result->size);
    json_object_set_int_member(object, "bytes_written", (gint64) result->bytes_written);
    kvss_set_seconds(object, "seconds", seconds);
    kvss_print_json_object(object);
}

static void
print_result(const KvssExportOptions *request, const KvssExportResult *result, double seconds)
{
    g_autofree char *size = kvss_size_text(result->size);
    g_autofree char *written = kvss_size_text(result->bytes_written);

    kvss_print("%s: disk %s of backup %.8s: %s, %s, %s written, %.1f s\n", request->path,
               request->disk->target, request->backup->snapshot->id, request->format, size,
               written, seconds);
}

/* ---- */

/** Who is told how far it is. */
typedef struct {
    KvssProgress *progress;
    const KvssExportOptions *request;
} Listener;

static void
on_progress(uint64_t done, uint64_t size, gpointer data)
{
    const Listener *listener = data;

    kvss_progress_update(listener->progress, "Export",
                         listener->request->vm->component->display_name,
                         listener->request->disk->target, done, size);
}

static int
run(KvssRequester *requester, KvssExportOptions *request, bool to_stdout, GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssProgress)
        progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    Listener listener = { progress, request };
    gint64 start_us = g_get_monotonic_time();
    KvssExportResult result;
    double seconds;

    request->progress = on_progress;
    request->progress_data = &listener;
    if (to_stdout)
        return kvss_export_to_fd(request, STDOUT_FILENO, &result, error) ? KVSS_EXIT_DONE : -1;
    if (!kvss_export_run(request, &result, error))
        return -1;
    g_clear_pointer(&progress, kvss_progress_free);
    seconds = (double) (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC;
    if (options->json)
        print_result_json(request, &result, seconds);
    else if (!options->quiet)
        print_result(request, &result, seconds);
    return KVSS_EXIT_DONE;
}

static int
export(KvssRequester *requester, const Words *words, GError **error)
{
    const char *const vms[] = { words->vm, NULL };
    const char *format = requester->options->format;
    g_autofree char *path = g_canonicalize_filename(words->file, NULL);
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    KvssExportOptions request = {
        .path = path,
        .format = format ? format : kvss_export_format_of(path),
        .cancellable = requester->cancellable,
    };

    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    backup = kvss_catalogue_find(repository, words->backup, vms, error);
    if (!backup)
        return -1;
    request.repository = repository;
    request.backup = backup;
    request.vm = kvss_manifest_find_vm(backup->manifest, words->vm, error);
    request.disk = request.vm ? kvss_manifest_find_disk(request.vm, words->disk, error) : NULL;
    return request.disk ? run(requester, &request, is_to_stdout(words), error) : -1;
}

/* The VM and the disk in front of a message that does not name them; of a wrong name, the catalogue tells. */
static void
name_disk(KvssRequester *requester, const Words *words, GError **error)
{
    if (!error || !*error)
        return;
    kvss_set_string(&requester->failed_vm, words->vm);
    if ((*error)->domain == KVSS_CATALOGUE_ERROR)
        return;
    if (!strstr((*error)->message, words->disk))
        g_prefix_error(error, "disk %s: ", words->disk);
    if (!strstr((*error)->message, words->vm))
        g_prefix_error(error, "%s: ", words->vm);
}

int
kvss_cmd_export(KvssRequester *requester, GError **error)
{
    const char *const *given = kvss_options_list(requester->options->words);
    Words words = { given[0], given[1], given[2], given[3] };
    int code;

    if (!check_words(requester->options, &words, error)
        || !kvss_requester_recover(requester, false, error))
        return -1;
    code = export(requester, &words, error);
    if (code < 0)
        name_disk(requester, &words, error);
    return code;
}
