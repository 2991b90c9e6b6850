/*
 * manifest.c - a set's description in memory, and the places of things in a set
 *
 *   vms/DIR/disks/TARGET.raw    each disk, flat
 *   vms/DIR/NAME                each carried file under its own name
 *
 * DIR, TARGET and NAME are made safe for a path; what two of them would share
 * goes to the first, the other gets a number.
 */
#include "catalogue/manifest.h"

#include <string.h>

/* A folder's name may have 255 bytes; this leaves room for ".raw" and a number. */
#define SAFE_NAME_MAX 200

G_DEFINE_QUARK(kvss-catalogue-error-quark, kvss_catalogue_error)

static void
manifest_vm_free(gpointer data)
{
    KvssManifestVm *vm = data;

    g_free(vm->dir);
    g_free(vm->writer);
    g_hash_table_unref(vm->disk_files);
    g_hash_table_unref(vm->file_files);
    g_free(vm);
}

static void
manifest_event_free(gpointer data)
{
    KvssManifestEvent *event = data;

    g_free(event->event);
    g_free(event->who);
    g_free(event);
}

static void
component_free(gpointer component)
{
    kvss_component_free(component);
}

KvssManifest *
kvss_manifest_new(void)
{
    KvssManifest *manifest = g_new0(KvssManifest, 1);

    manifest->backup_type = KVSS_BT_COPY;
    manifest->skew_ms = -1;
    manifest->vms = g_ptr_array_new_with_free_func(manifest_vm_free);
    manifest->events = g_ptr_array_new_with_free_func(manifest_event_free);
    manifest->components = g_ptr_array_new_with_free_func(component_free);
    return manifest;
}

void
kvss_manifest_free(KvssManifest *manifest)
{
    if (!manifest)
        return;
    g_free(manifest->set_id);
    g_free(manifest->program);
    g_free(manifest->tools);
    g_free(manifest->host);
    g_free(manifest->uri);
    g_ptr_array_unref(manifest->vms);
    g_ptr_array_unref(manifest->events);
    g_ptr_array_unref(manifest->components);
    g_free(manifest);
}

char *
kvss_manifest_safe_name(const char *name)
{
    g_autofree char *safe = g_strndup(name, SAFE_NAME_MAX);

    for (char *c = safe; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("._-", *c))
            *c = '_';
    if (*safe == '.')
        *safe = '_';
    return *safe ? g_steal_pointer(&safe) : g_strdup("_");
}

static bool
is_dir_taken(const char *dir, gpointer manifest)
{
    GPtrArray *vms = ((KvssManifest *) manifest)->vms;

    for (guint i = 0; i < vms->len; i++)
        if (strcmp(((KvssManifestVm *) g_ptr_array_index(vms, i))->dir, dir) == 0)
            return true;
    return false;
}

/* @stem plus @suffix, with a number between them when that is taken. */
static char *
make_unique(const char *stem, const char *suffix, bool (*is_taken)(const char *, gpointer),
            gpointer data)
{
    char *name = g_strconcat(stem, suffix, NULL);

    for (unsigned n = 2; is_taken(name, data); n++) {
        g_free(name);
        name = g_strdup_printf("%s-%u%s", stem, n, suffix);
    }
    return name;
}

static bool
is_path_taken(const char *path, gpointer data)
{
    GHashTable *tables[] = {
        ((KvssManifestVm *) data)->disk_files,
        ((KvssManifestVm *) data)->file_files,
    };

    for (guint i = 0; i < G_N_ELEMENTS(tables); i++) {
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, tables[i]);
        while (g_hash_table_iter_next(&iter, NULL, &value))
            if (strcmp(value, path) == 0)
                return true;
    }
    return false;
}

static void
place_disk(KvssManifestVm *vm, const KvssDisk *disk)
{
    g_autofree char *target = kvss_manifest_safe_name(disk->target);
    g_autofree char *stem = g_strdup_printf("vms/%s/disks/%s", vm->dir, target);

    g_hash_table_insert(vm->disk_files, g_strdup(disk->target),
                        make_unique(stem, ".raw", is_path_taken, vm));
}

static void
place_file(KvssManifestVm *vm, const KvssFile *file)
{
    g_auto(GStrv) names = g_strsplit(file->name, "/", -1);
    g_autoptr(GString) stem = g_string_new("vms/");

    g_string_append(stem, vm->dir);
    for (char **name = names; *name; name++) {
        g_autofree char *safe = kvss_manifest_safe_name(*name);

        g_string_append_printf(stem, "/%s", safe);
    }
    g_hash_table_insert(vm->file_files, g_strdup(file->name),
                        make_unique(stem->str, "", is_path_taken, vm));
}

KvssManifestVm *
kvss_manifest_add(KvssManifest *manifest, KvssComponent *component, const char *writer)
{
    KvssManifestVm *vm = g_new0(KvssManifestVm, 1);
    g_autofree char *safe = kvss_manifest_safe_name(component->display_name);

    vm->component = component;
    vm->writer = g_strdup(writer);
    vm->dir = make_unique(safe, "", is_dir_taken, manifest);
    vm->disk_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    vm->file_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < component->disks->len; i++)
        place_disk(vm, g_ptr_array_index(component->disks, i));
    for (guint i = 0; i < component->files->len; i++)
        place_file(vm, g_ptr_array_index(component->files, i));
    g_ptr_array_add(manifest->vms, vm);
    return vm;
}

void
kvss_manifest_add_event(KvssManifest *manifest, const char *event, const char *who,
                        gint64 start_us, gint64 end_us, KvssHresult result)
{
    KvssManifestEvent *record = g_new0(KvssManifestEvent, 1);

    record->event = g_strdup(event);
    record->who = g_strdup(who);
    record->start_us = start_us;
    record->end_us = end_us;
    record->result = result;
    g_ptr_array_add(manifest->events, record);
}

KvssManifestVm *
kvss_manifest_find_vm(const KvssManifest *manifest, const char *name_or_uuid, GError **error)
{
    KvssManifestVm *found = NULL;

    for (guint i = 0; i < manifest->vms->len; i++) {
        KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        if (g_ascii_strcasecmp(vm->component->name, name_or_uuid) == 0)
            return vm;
        if (strcmp(vm->component->display_name, name_or_uuid) != 0)
            continue;
        if (found) {
            kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS,
                       "the set holds several VMs named '%s': name it by its UUID", name_or_uuid);
            return NULL;
        }
        found = vm;
    }
    if (!found)
        kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
                   "the set holds no VM '%s'", name_or_uuid);
    return found;
}

const char *
kvss_manifest_disk_path(const KvssManifestVm *vm, const char *target)
{
    return g_hash_table_lookup(vm->disk_files, target);
}

const char *
kvss_manifest_file_path(const KvssManifestVm *vm, const char *name)
{
    return g_hash_table_lookup(vm->file_files, name);
}
