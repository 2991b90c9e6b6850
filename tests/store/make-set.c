/*
 * make-set.c - backup sets without guests, for tests of whole commands on repositories
 *
 *   make-set init REPO                  a repository that opens at once: its key costs nothing
 *   make-set backup REPO VM/DISK=FILE...  one set; prints its id
 *
 * The password is in KVSS_PASSWORD, caches in KVSS_CACHE_DIR, state in KVSS_STATE_DIR. A
 * disk is cut into 64 KiB, so that a small repository has many blobs.
 */
#include "catalogue/catalogue.h"
#include "cheap-key.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <stdio.h>
#include <string.h>

#define CHUNK 65536u

static int
fail(const GError *error)
{
    fprintf(stderr, "make-set: %s\n", error->message);
    return 1;
}

static int
init(const char *location)
{
    g_autoptr(GError) error = NULL;

    return cheap_init(location, g_getenv("KVSS_PASSWORD"), &error) ? 0 : fail(error);
}

static KvssComponent *
component_of(GPtrArray *components, const char *name)
{
    g_autofree char *uuid = NULL, *xml = NULL;
    g_autoptr(GBytes) bytes = NULL;
    KvssComponent *component;

    for (guint i = 0; i < components->len; i++) {
        component = g_ptr_array_index(components, i);
        if (strcmp(component->display_name, name) == 0)
            return component;
    }
    uuid = g_strdup_printf("%08x-1111-4222-8333-444444444444", g_str_hash(name));
    xml = g_strdup_printf("<domain type='test'><name>%s</name><uuid>%s</uuid><memory>1024</memory>"
                          "<os><type>hvm</type></os></domain>", name, uuid);
    bytes = g_bytes_new(xml, strlen(xml));
    component = kvss_component_new(uuid, name);
    kvss_set_string(&component->state, "shut off");
    kvss_set_string(&component->method, "offline");
    kvss_set_string(&component->consistency, "offline");
    (void) kvss_component_add_bytes(component, "domain.xml", bytes, 0600);
    g_ptr_array_add(components, component);
    return component;
}

static KvssDisk *
add_disk(GPtrArray *components, const char *arg, uint64_t size)
{
    g_auto(GStrv) names = g_strsplit_set(arg, "/=", 3);
    KvssDisk *disk = kvss_component_add_disk(component_of(components, names[0]), names[1]);

    kvss_set_string(&disk->kind, "file");
    kvss_set_string(&disk->format, "raw");
    disk->size = size;
    disk->chunk_size = CHUNK;
    return disk;
}

static bool
store_disk(KvssUpload *upload, const KvssManifestVm *vm, const char *arg, GError **error)
{
    g_auto(GStrv) names = g_strsplit_set(arg, "/=", 3);
    g_autoptr(KvssSource) source = kvss_source_new_file(strchr(arg, '=') + 1, error);
    g_autoptr(KvssSink) sink = NULL;

    if (!source || strcmp(vm->component->display_name, names[0]) != 0)
        return source != NULL;
    sink = kvss_upload_open_file(upload, kvss_manifest_disk_path(vm, names[1]), source->size,
                                 CHUNK, 0600, NULL, error);
    return sink && kvss_copy(source, sink, NULL, NULL, NULL, NULL, error);
}

static bool
store_vm(KvssUpload *upload, const KvssManifestVm *vm, char **args, GError **error)
{
    const KvssFile *definition = g_ptr_array_index(vm->component->files, 0);

    for (; *args; args++)
        if (!store_disk(upload, vm, *args, error))
            return false;
    return kvss_upload_add_bytes(upload, kvss_manifest_file_path(vm, "domain.xml"),
                                 definition->bytes, 0600, error);
}

static bool
store_all(KvssUpload *upload, const KvssManifest *manifest, char **args, GError **error)
{
    g_autoptr(GBytes) text = kvss_manifest_to_json(manifest);

    for (guint i = 0; i < manifest->vms->len; i++)
        if (!store_vm(upload, g_ptr_array_index(manifest->vms, i), args, error))
            return false;
    return kvss_upload_add_bytes(upload, KVSS_MANIFEST_NAME, text, 0600, error);
}

static bool
make_manifest(KvssManifest *manifest, GPtrArray *components, char **args, GError **error)
{
    for (; *args; args++) {
        g_autoptr(KvssSource) source = kvss_source_new_file(strchr(*args, '=') + 1, error);

        if (!source)
            return false;
        (void) add_disk(components, *args, source->size);
        manifest->size += source->size;
    }
    for (guint i = 0; i < components->len; i++)
        (void) kvss_manifest_add(manifest, g_ptr_array_index(components, i), NULL);
    manifest->set_id = g_uuid_string_random();
    manifest->program = g_strdup("make-set");
    manifest->host = g_strdup("testhost");
    manifest->time_us = g_get_real_time();
    return true;
}

static int
backup(const char *location, char **args)
{
    static const char *const tags[] = { KVSS_CATALOGUE_TAG, NULL }, *const paths[] = { "/vms", NULL };
    KvssSnapshotInfo info = { "testhost", paths, tags, g_get_real_time() };
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) components
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssRepository) repository
        = kvss_repository_open(location, g_getenv("KVSS_PASSWORD"), KVSS_REPOSITORY_ADD,
                               g_getenv("KVSS_CACHE_DIR"), g_getenv("KVSS_STATE_DIR"), &error);
    g_autoptr(KvssUpload) upload = repository ? kvss_upload_new(repository, &error) : NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    if (!upload || !make_manifest(manifest, components, args, &error)
        || !store_all(upload, manifest, args, &error)
        || !kvss_upload_commit(upload, &info, id, &error))
        return fail(error);
    printf("%s\n", id);
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "init") == 0)
        return init(argv[2]);
    if (argc >= 4 && strcmp(argv[1], "backup") == 0)
        return backup(argv[2], argv + 3);
    fprintf(stderr, "usage: make-set init REPO | backup REPO VM/DISK=FILE...\n");
    return 2;
}
