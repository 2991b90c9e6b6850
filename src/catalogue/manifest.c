/*
 * manifest.c - a set's description in memory, and the places of things in a set
 *
 *   vms/DIR/disks/TARGET.raw    each disk, flat
 *   vms/DIR/NAME                each carried file under its own name
 *   host/DIR/...                the same, of components of other writers
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
    g_free(vm->writer_name);
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
    manifest->components = g_ptr_array_new_with_free_func(manifest_vm_free);
    manifest->owned = g_ptr_array_new_with_free_func(component_free);
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
    g_ptr_array_unref(manifest->owned);
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
is_dir_taken(const char *dir, gpointer data)
{
    GPtrArray *list = data;

    for (guint i = 0; i < list->len; i++)
        if (strcmp(((KvssManifestVm *) g_ptr_array_index(list, i))->dir, dir) == 0)
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

/* Where things of one component are laid. There may be a hundred thousand files. */
typedef struct {
    KvssManifestVm *vm;
    GHashTable *taken; /* paths in the set */
} Layout;

static bool
is_path_taken(const char *path, gpointer data)
{
    return g_hash_table_contains(((Layout *) data)->taken, path);
}

/* Takes @key. */
static void
lay(Layout *layout, GHashTable *files, char *key, const char *stem, const char *suffix)
{
    char *path = make_unique(stem, suffix, is_path_taken, layout);

    g_hash_table_add(layout->taken, g_strdup(path));
    g_hash_table_insert(files, key, path);
}

static void
place_disk(Layout *layout, const KvssDisk *disk)
{
    KvssManifestVm *vm = layout->vm;
    g_autofree char *target = kvss_manifest_safe_name(disk->target);
    g_autofree char *stem = g_strdup_printf("%s/%s/disks/%s", vm->top, vm->dir, target);

    lay(layout, vm->disk_files, g_strdup(disk->target), stem, ".raw");
}

static void
place_file(Layout *layout, const KvssFile *file)
{
    g_auto(GStrv) names = g_strsplit(file->name, "/", -1);
    g_autoptr(GString) stem = g_string_new(layout->vm->top);

    g_string_append_printf(stem, "/%s", layout->vm->dir);
    for (char **name = names; *name; name++) {
        g_autofree char *safe = kvss_manifest_safe_name(*name);

        g_string_append_printf(stem, "/%s", safe);
    }
    lay(layout, layout->vm->file_files, g_strdup(file->name), stem->str, "");
}

static void
place_all(KvssManifestVm *vm)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Layout layout = { vm, taken };

    for (guint i = 0; i < vm->component->disks->len; i++)
        place_disk(&layout, g_ptr_array_index(vm->component->disks, i));
    for (guint i = 0; i < vm->component->files->len; i++)
        place_file(&layout, g_ptr_array_index(vm->component->files, i));
}

KvssManifestVm *
kvss_manifest_add(KvssManifest *manifest, KvssComponent *component, const char *writer)
{
    KvssManifestVm *vm = g_new0(KvssManifestVm, 1);
    bool is_vm = !writer || g_ascii_strcasecmp(writer, KVSS_VM_WRITER_CLASS_ID) == 0;
    GPtrArray *list = is_vm ? manifest->vms : manifest->components;
    g_autofree char *safe = kvss_manifest_safe_name(component->display_name);

    vm->component = component;
    vm->top = is_vm ? "vms" : "host";
    vm->writer = g_strdup(writer);
    vm->dir = make_unique(safe, "", is_dir_taken, list);
    vm->disk_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    vm->file_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    place_all(vm);
    g_ptr_array_add(list, vm);
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

/* "db, web": what the list has, for who named something else; the first few when they are many. */
#define NAMES_TOLD_MAX 20u

static char *
names_in(const GPtrArray *list)
{
    g_autoptr(GString) names = g_string_new(list->len > 0 ? NULL : "none");

    for (guint i = 0; i < MIN(list->len, NAMES_TOLD_MAX); i++) {
        const KvssManifestVm *vm = g_ptr_array_index(list, i);

        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", vm->component->display_name);
    }
    if (list->len > NAMES_TOLD_MAX)
        g_string_append_printf(names, " and %u more", list->len - NAMES_TOLD_MAX);
    return g_string_free(g_steal_pointer(&names), FALSE);
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
    if (!found) {
        g_autofree char *names = names_in(manifest->vms);

        kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
                   "the set holds no VM '%s': its VMs are %s", name_or_uuid, names);
    }
    return found;
}

/* Adds what goes by @name in @list to what was @found before; false when it is one too many. */
static bool
find_in(GPtrArray *list, const char *name, KvssManifestVm **found, GError **error)
{
    for (guint i = 0; i < list->len; i++) {
        KvssManifestVm *vm = g_ptr_array_index(list, i);

        if (strcmp(vm->component->display_name, name) != 0
            && g_ascii_strcasecmp(vm->component->name, name) != 0)
            continue;
        if (*found)
            return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS,
                              "the set holds several things named '%s', among them %s and %s: "
                              "name a VM by its UUID", name, (*found)->component->display_name,
                              vm->component->display_name);
        *found = vm;
    }
    return true;
}

static KvssManifestVm *
find_by_uuid(const KvssManifest *manifest, const char *uuid)
{
    for (guint i = 0; i < manifest->vms->len; i++) {
        KvssManifestVm *vm = g_ptr_array_index(manifest->vms, i);

        if (g_ascii_strcasecmp(vm->component->name, uuid) == 0)
            return vm;
    }
    return NULL;
}

KvssManifestVm *
kvss_manifest_find(const KvssManifest *manifest, const char *name, GError **error)
{
    KvssManifestVm *found = find_by_uuid(manifest, name);

    if (found)
        return found;
    if (!find_in(manifest->vms, name, &found, error)
        || !find_in(manifest->components, name, &found, error))
        return NULL;
    if (!found) {
        g_autofree char *names = names_in(manifest->vms);

        kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
                   "the set holds no VM '%s', and no component of that name: its VMs are %s", name,
                   names);
    }
    return found;
}

static const KvssNotCovered *
find_not_covered(const KvssComponent *component, const char *target)
{
    for (guint i = 0; i < component->not_covered->len; i++) {
        const KvssNotCovered *entry = g_ptr_array_index(component->not_covered, i);

        if (g_strcmp0(entry->target, target) == 0)
            return entry;
    }
    return NULL;
}

static char *
targets_of(const KvssComponent *component)
{
    g_autoptr(GString) targets = g_string_new(component->disks->len > 0 ? NULL : "none");

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        g_string_append_printf(targets, "%s%s", i > 0 ? ", " : "", disk->target);
    }
    return g_string_free(g_steal_pointer(&targets), FALSE);
}

const KvssDisk *
kvss_manifest_find_disk(const KvssManifestVm *vm, const char *target, GError **error)
{
    const KvssComponent *component = vm->component;
    const KvssNotCovered *absent = find_not_covered(component, target);
    g_autofree char *targets = NULL;

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (g_str_equal(disk->target, target))
            return disk;
    }
    targets = targets_of(component);
    kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND,
               "%s: the backup has no disk '%s'%s%s%s: its disks are %s", component->display_name,
               target, absent ? " (" : "", absent ? absent->reason : "", absent ? ")" : "", targets);
    return NULL;
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
