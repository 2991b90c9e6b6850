/*
 * make-repository.c - repositories of a size that nobody wants to wait for, made of what only counts
 *
 *   make-repository chunks REPO COUNT        index files that name COUNT chunks more; their packs are not there
 *   make-repository sets REPO BACKUPS VMS    BACKUPS sets of VMS virtual machines each, without disks' content
 *   make-repository disks REPO VMS           one set of VMS virtual machines with two disks of 40 GiB each, no
 *                                            chunk twice; packs are files of the right length, without content
 *
 * REPO exists, for disks it is a folder. The password is in KVSS_PASSWORD. What is made can be listed,
 * looked up, and looked through by prune and by verify without --read-data, which is what
 * bench/run scale and the tests measure; it cannot be restored.
 */
#include "base/fd.h"
#include "catalogue/catalogue.h"
#include "repository/file/document.h"
#include "repository/file/pack.h"
#include "repository/repository-private.h"
#include "repository/upload/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a pack of ours holds, and an index file. */
#define PACK_CHUNKS 128u
#define FILE_PACKS 312u
#define CHUNK (256u << 10)
#define DISK_SIZE (G_GUINT64_CONSTANT(40) << 30)

static KvssRepository *
open_repository(const char *location, GError **error)
{
    const char *state = g_getenv("KVSS_STATE_DIR");

    return kvss_repository_open(location, g_getenv("KVSS_PASSWORD"), KVSS_REPOSITORY_ADD,
                                g_getenv("KVSS_CACHE_DIR"), state ? state : "/tmp/kvss-make",
                                error);
}

/* ---- chunks ---- */

/* Ids are random, as hashes are; lengths are those of chunks that compress by half. */
static KvssIndexedPack
indexed_pack(uint64_t n)
{
    KvssIndexedPack pack = { .entries = g_array_new(FALSE, FALSE, sizeof(KvssPackEntry)) };
    uint32_t offset = 0;

    kvss_crypto_random(pack.id, sizeof pack.id);
    for (uint64_t i = 0; i < n; i++) {
        KvssPackEntry entry = {
            .offset = offset, .length = 131072, .plain_length = CHUNK, .is_compressed = true,
        };

        kvss_crypto_random(entry.id, sizeof entry.id);
        offset += entry.length;
        g_array_append_val(pack.entries, entry);
    }
    return pack;
}

static void
indexed_clear(gpointer pack)
{
    g_array_unref(((KvssIndexedPack *) pack)->entries);
}

/* A hole of the length that the index demands. */
static bool
make_pack(KvssRepository *repository, const KvssIndexedPack *pack, GError **error)
{
    const KvssPackEntry *entries = (const KvssPackEntry *) (void *) pack->entries->data;
    const KvssPackEntry *last = &entries[pack->entries->len - 1];
    char hex[KVSS_ID_HEX_LENGTH + 1];
    g_autofree char *path = NULL;
    kvss_autofd int fd = -1;

    kvss_id_to_hex(pack->id, hex);
    path = g_strdup_printf("%s/data/%.2s/%s", kvss_repository_folder(repository), hex, hex);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0
        || ftruncate(fd, (off_t) (last->offset + last->length
                                  + kvss_pack_header_length(entries, pack->entries->len))) < 0)
        return kvss_throw_errno(error, errno, "make pack %s", path);
    return true;
}

/* @content: (nullable) gets the chunks' ids, and their packs are made. */
static bool
make_chunks(KvssRepository *repository, uint64_t count, GByteArray *content, GError **error)
{
    while (count > 0) {
        g_autoptr(GArray) packs = g_array_new(FALSE, FALSE, sizeof(KvssIndexedPack));
        g_autoptr(GString) json = NULL;

        g_array_set_clear_func(packs, indexed_clear);
        while (packs->len < FILE_PACKS && count > 0) {
            uint64_t n = MIN(count, PACK_CHUNKS);
            KvssIndexedPack pack = indexed_pack(n);

            g_array_append_val(packs, pack);
            count -= n;
            for (guint i = 0; content && i < n; i++)
                g_byte_array_append(content, g_array_index(pack.entries, KvssPackEntry, i).id,
                                    KVSS_ID_LENGTH);
            if (content && !make_pack(repository, &pack, error))
                return false;
        }
        json = kvss_index_text(packs);
        if (!kvss_document_write(repository->backend, repository->codecs, KVSS_FILE_INDEX, json,
                                 NULL, error))
            return false;
    }
    return true;
}

/* ---- sets ---- */

/* As a VM with two disks and an agent is described. */
static KvssComponent *
component_new(unsigned number)
{
    g_autofree char *uuid = g_strdup_printf("5f0c6b0a-7a44-4d4c-9d57-%012x", number);
    g_autofree char *name = g_strdup_printf("machine-%03u", number);
    g_autofree char *path = g_strdup_printf("/var/lib/libvirt/images/%s.qcow2", name);
    KvssComponent *component = kvss_component_new(uuid, name);

    kvss_set_string(&component->state, "running");
    kvss_set_string(&component->method, "child-snapshot");
    kvss_set_string(&component->consistency, "application");
    component->freeze_ms = 34.5;
    for (const char *target = "vda"; target; target = target[2] == 'a' ? "vdb" : NULL) {
        KvssDisk *disk = kvss_component_add_disk(component, target);

        kvss_set_string(&disk->format, "qcow2");
        kvss_set_string(&disk->kind, "file");
        kvss_set_string(&disk->path, path);
        kvss_set_string(&disk->options, "{\"cluster_size\":65536}");
        kvss_set_string(&disk->reason, "changes are not tracked by this version");
        disk->size = DISK_SIZE;
        disk->chunk_size = CHUNK;
    }
    for (unsigned i = 1; i <= 5; i++) {
        g_autofree char *id = g_strdup_printf("C%u", i);

        kvss_component_add_condition(component, id, true, "it holds: the agent answered in %u ms", i);
    }
    kvss_component_add_reason(component, "C1", "all five conditions hold");
    return component;
}

static KvssManifest *
manifest_new(unsigned n_vms, unsigned number, gint64 time_us, GPtrArray *owned)
{
    KvssManifest *manifest = kvss_manifest_new();

    manifest->set_id = g_strdup_printf("0b7e5d7a-53b8-4e0c-8d5e-%012x", number);
    manifest->program = g_strdup("make-repository");
    manifest->host = g_strdup("kvm1");
    manifest->time_us = time_us;
    manifest->size = 2 * DISK_SIZE * n_vms;
    for (unsigned i = 0; i < n_vms; i++) {
        KvssComponent *component = component_new(i);

        g_ptr_array_add(owned, component);
        (void) kvss_manifest_add(manifest, component, NULL);
    }
    return manifest;
}

static bool
add_disk(KvssRepository *repository, KvssUpload *upload, const char *path, GError **error)
{
    g_autoptr(GByteArray) content = g_byte_array_new();
    KvssNode *node;

    if (!make_chunks(repository, DISK_SIZE / CHUNK, content, error))
        return false;
    node = g_new0(KvssNode, 1);
    node->name = g_path_get_basename(path);
    node->mode = 0600;
    node->size = DISK_SIZE;
    node->n_content = content->len / KVSS_ID_LENGTH;
    node->content = g_byte_array_free(g_steal_pointer(&content), FALSE);
    return kvss_upload_add_node(upload, path, node, error);
}

static bool
add_disks(KvssRepository *repository, KvssUpload *upload, const KvssManifest *manifest,
          GError **error)
{
    for (guint i = 0; i < manifest->vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        if (!add_disk(repository, upload, kvss_manifest_disk_path(vm, "vda"), error)
            || !add_disk(repository, upload, kvss_manifest_disk_path(vm, "vdb"), error))
            return false;
    }
    return true;
}

static bool
make_set(KvssRepository *repository, unsigned n_vms, unsigned number, bool with_disks,
         GError **error)
{
    const char *tags[] = { KVSS_CATALOGUE_TAG, NULL }, *paths[] = { "/vms", NULL };
    gint64 time_us = G_GINT64_CONSTANT(1700000000000000) + number * G_TIME_SPAN_HOUR;
    KvssSnapshotInfo info = { "kvm1", paths, tags, time_us };
    g_autoptr(GPtrArray) owned = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);
    g_autoptr(KvssManifest) manifest = manifest_new(n_vms, number, time_us, owned);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, error);
    g_autoptr(GBytes) text = kvss_manifest_to_json(manifest);
    char id[KVSS_ID_HEX_LENGTH + 1];

    return upload && kvss_upload_add_bytes(upload, KVSS_MANIFEST_NAME, text, 0600, error)
        && (!with_disks || add_disks(repository, upload, manifest, error))
        && kvss_upload_commit(upload, &info, id, error);
}

static bool
make(KvssRepository *repository, int argc, char **argv, GError **error)
{
    if (strcmp(argv[1], "chunks") == 0)
        return make_chunks(repository, g_ascii_strtoull(argv[3], NULL, 10), NULL, error);
    if (argc == 4)
        return make_set(repository, (unsigned) atoi(argv[3]), 0, true, error);
    for (unsigned i = 0; i < (unsigned) atoi(argv[3]); i++)
        if (!make_set(repository, (unsigned) atoi(argv[4]), i, false, error))
            return false;
    return true;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssRepository) repository = NULL;

    if (!(argc == 4 && (strcmp(argv[1], "chunks") == 0 || strcmp(argv[1], "disks") == 0))
        && !(argc == 5 && strcmp(argv[1], "sets") == 0)) {
        fprintf(stderr, "usage: make-repository chunks REPO COUNT | sets REPO BACKUPS VMS | "
                        "disks REPO VMS\n");
        return 2;
    }
    repository = open_repository(argv[2], &error);
    if (repository && make(repository, argc, argv, &error))
        return 0;
    fprintf(stderr, "make-repository: %s\n", error->message);
    return 1;
}
