/*
 * cmd-show.c - kvss show: what one backup holds
 */
#include "catalogue/catalogue.h"
#include "requester/describe.h"
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
print_files(const KvssManifest *manifest)
{
    for (guint i = 0; i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

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

/* Paths of the VSS documents; a set that somebody put together may have none. */
static GPtrArray *
documents(KvssRepository *repository, const KvssBackup *backup)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(KvssNode) folder = kvss_repository_lookup(repository, backup->root, "vss", NULL);
    g_autoptr(GPtrArray) nodes = NULL;

    if (folder && folder->subtree)
        nodes = kvss_repository_read_folder(repository, folder->subtree, NULL);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        const KvssNode *node = g_ptr_array_index(nodes, i);

        if (node->type == KVSS_NODE_FILE)
            g_ptr_array_add(paths, g_strconcat("vss/", node->name, NULL));
    }
    g_ptr_array_add(paths, NULL);
    return paths;
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
    if (manifest->skew_ms >= 0)
        kvss_print("first to last instant: %.1f ms\n", manifest->skew_ms);
    kvss_print("\n");
    for (guint i = 0; i < manifest->vms->len; i++)
        kvss_describe_print(((KvssManifestVm *) g_ptr_array_index(manifest->vms, i))->component,
                            KVSS_DESCRIBE_RESULT);
    kvss_print("\nfiles:\n");
    print_files(manifest);
    for (guint i = 0; i < document_paths->len - 1; i++)
        kvss_print("  %s\n", (const char *) g_ptr_array_index(document_paths, i));
    if (verbose) {
        kvss_print("\nevents:\n");
        print_events(manifest);
    }
}

/* set.json as it is known here, with the snapshot's own words in front. */
static bool
print_set_json(const KvssBackup *backup, const GPtrArray *document_paths, GError **error)
{
    g_autoptr(GBytes) text = kvss_manifest_to_json(backup->manifest);
    gsize length;
    const char *data = g_bytes_get_data(text, &length);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;
    JsonObject *object;

    if (!json_parser_load_from_data(parser, data, (gssize) length, error))
        return false;
    root = json_parser_steal_root(parser);
    object = json_node_get_object(root);
    kvss_set_text(object, "id", backup->snapshot->id);
    json_object_set_array_member(object, "tags",
                                 kvss_texts((const char *const *) backup->snapshot->tags));
    json_object_set_array_member(object, "documents",
                                 kvss_texts((const char *const *) document_paths->pdata));
    kvss_print_json(root);
    return true;
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
    paths = documents(repository, backup);
    if (!requester->options->json)
        print_set(backup, paths, requester->options->verbose > 0);
    else if (!print_set_json(backup, paths, error))
        return -1;
    return KVSS_EXIT_DONE;
}
