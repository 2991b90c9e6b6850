/*
 * cmd-show.c - kvss show: what one backup holds
 */
#include "catalogue/documents.h"
#include "requester/describe.h"
#include "requester/loss.h"
#include "requester/output.h"
#include "requester/requester.h"

static void
print_events(const KvssManifest *manifest)
{
    for (guint i = 0; i < manifest->events->len; i++) {
        const KvssManifestEvent *event = g_ptr_array_index(manifest->events, i);
        g_autofree char *start = kvss_manifest_time(event->start_us);
        g_autofree char *took = kvss_ms_text((double) (event->end_us - event->start_us) / 1000);

        kvss_print("  %s  %-24s %s, %s\n", start, event->event, event->who, took);
    }
}

static void
print_files(const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(list, i);

        for (guint n = 0; n < vm->component->disks->len; n++) {
            const KvssDisk *disk = g_ptr_array_index(vm->component->disks, n);

            kvss_print("  %s\n", kvss_manifest_disk_path(vm, disk->target));
        }
        for (guint n = 0; n < vm->component->files->len; n++) {
            const KvssFile *file = g_ptr_array_index(vm->component->files, n);

            kvss_print("  %s\n", kvss_manifest_file_path(vm, file->name));
        }
    }
}

static void
print_set(const KvssBackup *backup, const GPtrArray *document_paths, bool verbose)
{
    const KvssManifest *manifest = backup->manifest;
    g_autofree char *time = kvss_time_text(manifest->time_us);
    g_autofree char *size = kvss_size_text(manifest->size);
    g_autofree char *read = kvss_size_text(manifest->bytes_read);
    g_autofree char *stored = kvss_size_text(manifest->bytes_stored);
    g_autofree char *tags = backup->snapshot->tags ? g_strjoinv(", ", backup->snapshot->tags)
                                                   : g_strdup("");

    kvss_print("backup %s\nset %s of %s on %s\nmade by %s%s%s\ntags %s\n", backup->snapshot->id,
               manifest->set_id, time, manifest->host ? manifest->host : "?",
               manifest->program ? manifest->program : "?", manifest->tools ? ", " : "",
               manifest->tools ? manifest->tools : "", tags);
    kvss_print("%s, of which %s were read and %s newly stored\n", size, read, stored);
    for (guint i = 0; backup->losses && i < backup->losses->len; i++) {
        g_autofree char *lost = kvss_loss_text(g_ptr_array_index(backup->losses, i), backup);

        kvss_print("lost: %s\n", lost);
    }
    if (manifest->skew_ms >= 0)
        kvss_print("first to last instant: %.1f ms\n", manifest->skew_ms);
    kvss_print("\n");
    for (guint i = 0; i < manifest->vms->len; i++)
        kvss_describe_print(((KvssManifestVm *) g_ptr_array_index(manifest->vms, i))->component,
                            KVSS_DESCRIBE_RESULT);
    for (guint i = 0; i < manifest->components->len; i++)
        kvss_describe_print_host(g_ptr_array_index(manifest->components, i));
    kvss_print("\nfiles:\n");
    print_files(manifest->vms);
    print_files(manifest->components);
    for (guint i = 0; i < document_paths->len - 1; i++)
        kvss_print("  %s\n", (const char *) g_ptr_array_index(document_paths, i));
    if (verbose) {
        kvss_print("\nevents:\n");
        print_events(manifest);
    }
}

/* The text of a document; NULL when it is damaged, which is said and noted. Other errors are the caller's. */
static bool
read_document(KvssRepository *repository, const KvssBackup *backup, const char *path,
              char **out_text, GError **out_damage, GError **error)
{
    g_autoptr(GError) trouble = NULL;
    g_autoptr(GBytes) bytes = kvss_backup_read_document(repository, backup, path, &trouble);

    *out_text = NULL;
    if (bytes) {
        *out_text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    } else if (kvss_exit_code(trouble) == KVSS_EXIT_DAMAGED) {
        kvss_say("%s", trouble->message);
        *out_damage = g_steal_pointer(&trouble);
    } else {
        g_propagate_error(error, g_steal_pointer(&trouble));
        return false;
    }
    return true;
}

/* Returns: an exit code, or -1 with @error. */
static int
print_documents(KvssRepository *repository, const KvssBackup *backup,
                const GPtrArray *document_paths, GError **error)
{
    int code = KVSS_EXIT_DONE;

    for (guint i = 0; i < document_paths->len - 1; i++) {
        const char *path = g_ptr_array_index(document_paths, i);
        g_autoptr(GError) damage = NULL;
        g_autofree char *text = NULL;

        if (!read_document(repository, backup, path, &text, &damage, error))
            return -1;
        if (text)
            kvss_print("==> %s <==\n%s%s", path, text, g_str_has_suffix(text, "\n") ? "" : "\n");
        else
            code = KVSS_EXIT_DAMAGED;
    }
    return code;
}

/* path and xml, or path and error. Returns: an exit code, or -1 with @error. */
static int
add_document_texts(KvssRepository *repository, const KvssBackup *backup,
                   const GPtrArray *document_paths, JsonArray *texts, GError **error)
{
    int code = KVSS_EXIT_DONE;

    for (guint i = 0; i < document_paths->len - 1; i++) {
        const char *path = g_ptr_array_index(document_paths, i);
        g_autoptr(GError) damage = NULL;
        g_autofree char *text = NULL;
        JsonObject *object;

        if (!read_document(repository, backup, path, &text, &damage, error))
            return -1;
        object = json_object_new();
        kvss_set_text(object, "path", path);
        kvss_set_text(object, text ? "xml" : "error", text ? text : damage->message);
        json_array_add_object_element(texts, object);
        if (!text)
            code = KVSS_EXIT_DAMAGED;
    }
    return code;
}

/*
 * set.json as it is known here, with the snapshot's own words in front. @texts: (nullable)
 * taken. Returns: false with @error.
 */
static bool
print_set_json(const KvssBackup *backup, const GPtrArray *document_paths, JsonArray *document_texts,
               GError **error)
{
    g_autoptr(GBytes) text = kvss_manifest_to_json(backup->manifest);
    gsize length;
    const char *data = g_bytes_get_data(text, &length);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;
    JsonObject *object;

    if (!json_parser_load_from_data(parser, data, (gssize) length, error)) {
        g_clear_pointer(&document_texts, json_array_unref);
        return false;
    }
    root = json_parser_steal_root(parser);
    object = json_node_get_object(root);
    kvss_set_text(object, "id", backup->snapshot->id);
    json_object_set_array_member(object, "tags",
                                 kvss_texts((const char *const *) backup->snapshot->tags));
    json_object_set_array_member(object, "documents",
                                 kvss_texts((const char *const *) document_paths->pdata));
    json_object_set_array_member(object, "lost", kvss_losses_json(backup));
    if (document_texts)
        json_object_set_array_member(object, "document_texts", document_texts);
    kvss_print_json(root);
    return true;
}

static int
show_json(KvssRequester *requester, KvssRepository *repository, const KvssBackup *backup,
          const GPtrArray *document_paths, GError **error)
{
    g_autoptr(JsonArray) texts = requester->options->documents ? json_array_new() : NULL;
    int code = KVSS_EXIT_DONE;

    if (texts)
        code = add_document_texts(repository, backup, document_paths, texts, error);
    if (code < 0 || !print_set_json(backup, document_paths, g_steal_pointer(&texts), error))
        return -1;
    return code;
}

int
kvss_cmd_show(KvssRequester *requester, GError **error)
{
    const char *name = kvss_options_list(requester->options->words)[0];
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    g_autoptr(GPtrArray) paths = NULL;

    if (!kvss_requester_recover(requester, false, error))
        return -1;
    repository = kvss_requester_open_repository(requester, KVSS_REPOSITORY_LOOK, error);
    if (!repository)
        return -1;
    backup = kvss_catalogue_find(repository, name, NULL, error);
    if (!backup)
        return -1;
    paths = kvss_backup_documents(repository, backup, error);
    if (!paths)
        return -1;
    if (requester->options->json)
        return show_json(requester, repository, backup, paths, error);
    if (requester->options->documents)
        return print_documents(repository, backup, paths, error);
    print_set(backup, paths, requester->options->verbose > 0);
    return KVSS_EXIT_DONE;
}
