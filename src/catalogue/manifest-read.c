/*
 * manifest-read.c - set.json, read as the stranger's text that it is
 *
 * Three kinds of strings come out, each with its own check:
 *
 *   text     for people and comparisons: bounded, valid UTF-8
 *   name     one name in a folder: no '/', no control character, not "." or ".."
 *   place    a relative path of such names
 *
 * A VM's name and a disk's target are names, since files are called after them
 * again at restore. Places must lie below the VM's (the component's) own folder.
 */
#include "catalogue/manifest.h"
#include "base/members.h"

#include <string.h>

#define TEXT_MAX 65536u
#define METADATA_MAX (4u * 1024 * 1024)
#define NAME_MAX_LENGTH 255u
#define PLACE_MAX_LENGTH 4095u
#define VMS_MAX 20000u
#define DISKS_MAX 4096u
#define FILES_MAX 100000u /* as many as the provider of files takes */
#define COMPONENTS_MAX 4096u
#define LIST_MAX 16384u
#define EVENTS_MAX 200000u

#define corrupt(error, ...) \
    kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT, __VA_ARGS__)

#define text(name, out) \
    kvss_member_string(object, name, KVSS_MEMBER_OPTIONAL, TEXT_MAX, out, error)
#define needed(name, out) \
    kvss_member_string(object, name, KVSS_MEMBER_REQUIRED, TEXT_MAX, out, error)
#define number(name, out) \
    kvss_member_uint(object, name, KVSS_MEMBER_OPTIONAL, G_MAXINT64, out, error)

static bool
has_control(const char *value)
{
    for (const char *c = value; *c; c++)
        if (g_ascii_iscntrl(*c))
            return true;
    return false;
}

static bool
is_name(const char *value)
{
    return *value && strlen(value) <= NAME_MAX_LENGTH && !strchr(value, '/') &&
           !has_control(value) && strcmp(value, ".") != 0 && strcmp(value, "..") != 0;
}

static bool
is_place(const char *value)
{
    g_auto(GStrv) names = g_strsplit(value, "/", -1);

    if (strlen(value) > PLACE_MAX_LENGTH || !names[0])
        return false;
    for (char **name = names; *name; name++)
        if (!is_name(*name))
            return false;
    return true;
}

static bool
read_name(JsonObject *object, const char *member, char **out, GError **error)
{
    g_autofree char *value = NULL;

    if (!kvss_member_string(object, member, KVSS_MEMBER_REQUIRED, NAME_MAX_LENGTH, &value, error))
        return false;
    if (!is_name(value))
        return corrupt(error, "%s is no plain name", member);
    g_free(*out);
    *out = g_steal_pointer(&value);
    return true;
}

/* A path of the old host. It is only shown or offered, but must not climb. */
static bool
read_host_path(JsonObject *object, const char *member, char **out, GError **error)
{
    g_autofree char *value = NULL;

    if (!kvss_member_string(object, member, KVSS_MEMBER_OPTIONAL, PLACE_MAX_LENGTH, &value, error))
        return false;
    if (!value)
        return true;
    if (has_control(value) || strcmp(value, "..") == 0 || g_str_has_prefix(value, "../") ||
        g_str_has_suffix(value, "/..") || strstr(value, "/../"))
        return corrupt(error, "%s is no path that can be used", member);
    g_free(*out);
    *out = g_steal_pointer(&value);
    return true;
}

/* "file" of a disk or carried file: a place below vms/DIR or host/DIR. Put into @files under @key. */
static bool
read_place(JsonObject *object, const KvssManifestVm *vm, GHashTable *files, const char *key,
           GError **error)
{
    g_autofree char *value = NULL;
    g_autofree char *top = g_strdup_printf("%s/%s/", vm->top, vm->dir);

    if (!kvss_member_string(object, "file", KVSS_MEMBER_REQUIRED, PLACE_MAX_LENGTH, &value, error))
        return false;
    if (!is_place(value) || !g_str_has_prefix(value, top))
        return corrupt(error, "file is no path below %s", top);
    if (g_hash_table_contains(files, key))
        return corrupt(error, "'%s' is there twice", key);
    g_hash_table_insert(files, g_strdup(key), g_steal_pointer(&value));
    return true;
}

static bool
read_options(JsonObject *object, KvssDisk *disk, GError **error)
{
    JsonNode *node = json_object_get_member(object, "options");

    if (!node || !JSON_NODE_HOLDS_OBJECT(node))
        return text("options", &disk->options);
    disk->options = json_to_string(node, FALSE);
    return strlen(disk->options) <= TEXT_MAX || corrupt(error, "options is too long");
}

static bool
read_disk(JsonNode *element, gpointer data, GError **error)
{
    KvssManifestVm *vm = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *target = NULL;
    uint64_t chunk_size = 0;
    KvssDisk *disk;

    if (!object || !read_name(object, "target", &target, error))
        return false;
    disk = kvss_component_add_disk(vm->component, target);
    if (!kvss_member_uint(object, "size", KVSS_MEMBER_REQUIRED, G_MAXINT64, &disk->size, error) ||
        !kvss_member_uint(object, "chunk_size", KVSS_MEMBER_OPTIONAL, G_MAXUINT32, &chunk_size,
                          error))
        return false;
    disk->chunk_size = (uint32_t) chunk_size;
    return text("format", &disk->format) && text("kind", &disk->kind) &&
           read_host_path(object, "path", &disk->path, error) &&
           read_options(object, disk, error) && number("bytes_read", &disk->bytes_read) &&
           number("bytes_stored", &disk->bytes_stored) &&
           kvss_member_bool(object, "incremental", &disk->incremental, error) &&
           text("reason", &disk->reason) && text("image", &disk->image) &&
           text("tracked_by", &disk->tracked_by) && read_place(object, vm, vm->disk_files, target, error);
}

static bool
read_mode(JsonObject *object, unsigned *out, GError **error)
{
    g_autofree char *mode = NULL;
    guint64 value;

    if (!text("mode", &mode))
        return false;
    if (!mode)
        return true;
    if (!g_ascii_string_to_unsigned(mode, 8, 0, 07777, &value, NULL))
        return corrupt(error, "mode is '%s', no octal permissions", mode);
    *out = (unsigned) value;
    return true;
}

/* A numeric owner; -1 stays where it is not told. */
static bool
read_owner(JsonObject *object, const char *member, gint64 *out, GError **error)
{
    uint64_t value = 0;

    if (!json_object_has_member(object, member) || json_object_get_null_member(object, member))
        return true;
    /* The greatest is no owner: chown() takes it for "leave it". */
    if (!kvss_member_uint(object, member, KVSS_MEMBER_OPTIONAL, G_MAXUINT32 - 1, &value, error))
        return false;
    *out = (gint64) value;
    return true;
}

static bool
read_file(JsonNode *element, gpointer data, GError **error)
{
    KvssManifestVm *vm = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *name = NULL;
    KvssFile *file;

    if (!object ||
        !kvss_member_string(object, "name", KVSS_MEMBER_REQUIRED, PLACE_MAX_LENGTH, &name, error))
        return false;
    if (!is_place(name))
        return corrupt(error, "name is no relative path");
    file = kvss_component_add_file(vm->component, name, NULL, 0600);
    return read_host_path(object, "original", &file->original, error) &&
           read_mode(object, &file->mode, error) && read_owner(object, "uid", &file->uid, error) &&
           read_owner(object, "gid", &file->gid, error) &&
           read_place(object, vm, vm->file_files, name, error);
}

static bool
read_not_covered(JsonNode *element, gpointer data, GError **error)
{
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *target = NULL, *kind = NULL, *reason = NULL;
    bool is_writable = false;

    if (!object || !needed("target", &target) || !needed("kind", &kind) ||
        !needed("reason", &reason) || !kvss_member_bool(object, "writable", &is_writable, error))
        return false;
    kvss_component_add_not_covered(data, target, kind, is_writable, "%s", reason);
    return true;
}

static bool
read_condition(JsonNode *element, gpointer data, GError **error)
{
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *id = NULL, *detail = g_strdup("");
    bool holds = false;

    if (!object || !needed("id", &id) || !text("detail", &detail) ||
        !kvss_member_bool(object, "holds", &holds, error))
        return false;
    kvss_component_add_condition(data, id, holds, "%s", detail);
    return true;
}

static bool
read_reason(JsonNode *element, gpointer data, GError **error)
{
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *id = NULL, *detail = g_strdup("");

    if (!object || !needed("id", &id) || !text("detail", &detail))
        return false;
    kvss_component_add_reason(data, id, "%s", detail);
    return true;
}

static bool
read_note(JsonNode *element, gpointer data, GError **error)
{
    const char *note;

    if (json_node_get_value_type(element) != G_TYPE_STRING)
        return corrupt(error, "is not a string");
    note = json_node_get_string(element);
    if (strlen(note) > TEXT_MAX)
        return corrupt(error, "is longer than %u bytes", TEXT_MAX);
    kvss_component_add_note(data, "%s", note);
    return true;
}

static bool
read_instant(JsonObject *object, const char *member, gint64 *out, GError **error)
{
    return kvss_member_time(object, member, KVSS_MEMBER_OPTIONAL, out, error) &&
           (*out >= -1 || corrupt(error, "%s is before 1970", member));
}

static bool
read_component(JsonObject *object, KvssComponent *component, GError **error)
{
    return text("caption", &component->caption) && text("state", &component->state) &&
           needed("method", &component->method) && text("consistency", &component->consistency) &&
           kvss_member_string(object, "metadata", KVSS_MEMBER_OPTIONAL, METADATA_MAX,
                              &component->metadata, error) &&
           read_instant(object, "instant", &component->instant_us, error) &&
           read_instant(object, "frozen", &component->frozen_us, error) &&
           read_instant(object, "thawed", &component->thawed_us, error) &&
           kvss_member_ms(object, "freeze_ms", &component->freeze_ms, error) &&
           kvss_member_ms(object, "pause_ms", &component->pause_ms, error) &&
           kvss_member_each(object, "reasons", LIST_MAX, read_reason, component, error) &&
           kvss_member_each(object, "conditions", LIST_MAX, read_condition, component, error) &&
           kvss_member_each(object, "not_covered", LIST_MAX, read_not_covered, component, error) &&
           kvss_member_each(object, "notes", LIST_MAX, read_note, component, error);
}

/* What is being read: folders and names so far, so that none comes twice. */
typedef struct {
    KvssManifest *manifest;
    GHashTable *seen;
} Reading;

/* The places are read, not made: kvss_manifest_add() is for the way out. */
static KvssManifestVm *
add_vm(KvssManifest *manifest, GPtrArray *list, const char *name, const char *display_name,
       const char *dir)
{
    KvssManifestVm *vm = g_new0(KvssManifestVm, 1);

    vm->component = kvss_component_new(name, display_name);
    vm->top = list == manifest->vms ? "vms" : "host";
    vm->dir = g_strdup(dir);
    vm->disk_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    vm->file_files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_ptr_array_add(manifest->owned, vm->component);
    g_ptr_array_add(list, vm);
    return vm;
}

static bool
read_content(JsonObject *object, KvssManifestVm *vm, GError **error)
{
    if (text("writer", &vm->writer) && read_component(object, vm->component, error) &&
        kvss_member_each(object, "disks", DISKS_MAX, read_disk, vm, error) &&
        kvss_member_each(object, "files", FILES_MAX, read_file, vm, error))
        return true;
    g_prefix_error(error, "%s: ", vm->component->display_name);
    return false;
}

static bool
read_vm(JsonNode *element, gpointer data, GError **error)
{
    Reading *reading = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *name = NULL, *uuid = NULL, *dir = NULL;

    if (!object || !read_name(object, "name", &name, error) ||
        !read_name(object, "uuid", &uuid, error) || !read_name(object, "dir", &dir, error))
        return false;
    if (!g_hash_table_add(reading->seen, g_strconcat("dir ", dir, NULL)) ||
        !g_hash_table_add(reading->seen, g_strconcat("uuid ", uuid, NULL)))
        return corrupt(error, "'%s' is there twice", name);
    return read_content(object,
                        add_vm(reading->manifest, reading->manifest->vms, uuid, name, dir), error);
}

/* Its name is its writer's own; files are called after the folder only. */
static bool
read_label(JsonObject *object, const char *member, char **out, GError **error)
{
    if (!kvss_member_string(object, member, KVSS_MEMBER_REQUIRED, NAME_MAX_LENGTH, out, error))
        return false;
    return (**out && !has_control(*out)) || corrupt(error, "%s is no name", member);
}

static bool
read_host_component(JsonNode *element, gpointer data, GError **error)
{
    Reading *reading = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *name = NULL, *display_name = NULL, *dir = NULL, *writer = NULL;
    g_autofree char *path = g_strdup("");
    uint64_t bytes = 0;
    KvssManifestVm *vm;

    if (!object || !read_label(object, "name", &name, error) ||
        !read_label(object, "display_name", &display_name, error) ||
        !read_name(object, "dir", &dir, error) || !read_label(object, "writer", &writer, error) ||
        !text("logical_path", &path) || !number("bytes", &bytes))
        return false;
    if (!g_hash_table_add(reading->seen, g_strconcat("host dir ", dir, NULL)) ||
        !g_hash_table_add(reading->seen, g_strjoin("\n", "host", writer, path, name, NULL)))
        return corrupt(error, "'%s' is there twice", display_name);
    vm = add_vm(reading->manifest, reading->manifest->components, name, display_name, dir);
    vm->bytes = bytes;
    kvss_set_string(&vm->component->logical_path, path);
    return text("writer_name", &vm->writer_name) && read_content(object, vm, error);
}

static bool
read_event(JsonNode *element, gpointer data, GError **error)
{
    KvssManifest *manifest = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *event = NULL, *who = NULL, *result = NULL;
    gint64 start = 0, end = 0;

    if (!object || !needed("event", &event) || !text("who", &who) || !text("result", &result) ||
        !kvss_member_time(object, "start", KVSS_MEMBER_OPTIONAL, &start, error) ||
        !kvss_member_time(object, "end", KVSS_MEMBER_OPTIONAL, &end, error))
        return false;
    kvss_manifest_add_event(manifest, event, who ? who : "", start, end,
                            result ? (KvssHresult) g_ascii_strtoull(result, NULL, 16) : 0);
    return true;
}

static bool
read_schema(JsonObject *object, GError **error)
{
    uint64_t schema = 0;

    if (!kvss_member_uint(object, "schema", KVSS_MEMBER_REQUIRED, G_MAXINT32, &schema, error))
        return false;
    if (schema > KVSS_MANIFEST_SCHEMA)
        return kvss_throw(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_VERSION,
                          "has schema %u, this kvss knows up to %d: use a newer kvss",
                          (unsigned) schema, KVSS_MANIFEST_SCHEMA);
    return schema > 0 || corrupt(error, "schema is 0");
}

static bool
read_set(JsonObject *object, KvssManifest *manifest, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Reading reading = { manifest, seen };
    g_autofree char *type = NULL;

    if (!read_schema(object, error) || !needed("set_id", &manifest->set_id) ||
        !text("program", &manifest->program) || !text("tools", &manifest->tools) ||
        !text("host", &manifest->host) || !text("uri", &manifest->uri) ||
        !kvss_member_time(object, "time", KVSS_MEMBER_REQUIRED, &manifest->time_us, error) ||
        !text("backup_type", &type) ||
        !kvss_member_bool(object, "same_instant", &manifest->same_instant, error) ||
        !kvss_member_ms(object, "skew_ms", &manifest->skew_ms, error) ||
        !number("size", &manifest->size) || !number("bytes_read", &manifest->bytes_read) ||
        !number("bytes_stored", &manifest->bytes_stored))
        return false;
    manifest->backup_type = g_strcmp0(type, "full") == 0 ? KVSS_BT_FULL : KVSS_BT_COPY;
    return kvss_member_each(object, "vms", VMS_MAX, read_vm, &reading, error) &&
           kvss_member_each(object, "components", COMPONENTS_MAX, read_host_component, &reading,
                            error) &&
           kvss_member_each(object, "events", EVENTS_MAX, read_event, manifest, error);
}

/* What is wrong with the text is one kind of error, whoever found it. */
static void
fail_as_ours(GError *error)
{
    if (!g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT))
        return;
    error->domain = KVSS_CATALOGUE_ERROR;
    error->code = KVSS_CATALOGUE_ERROR_CORRUPT;
}

KvssManifest *
kvss_manifest_from_json(GBytes *bytes, GError **error)
{
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(JsonNode) root = NULL;

    if (g_bytes_get_size(bytes) > KVSS_MANIFEST_MAX_LENGTH)
        corrupt(error, "is larger than %u bytes", KVSS_MANIFEST_MAX_LENGTH);
    else if ((root = kvss_members_parse(bytes, error)) &&
             read_set(json_node_get_object(root), manifest, error))
        return g_steal_pointer(&manifest);
    if (error)
        fail_as_ours(*error);
    g_prefix_error(error, "%s: ", KVSS_MANIFEST_NAME);
    return NULL;
}
