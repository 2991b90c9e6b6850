/*
 * answer.c - what a writer's program says, read as a stranger's text
 */
#include "writer/program/answer.h"
#include "base/members.h"
#include "guardian/acts-program.h"
#include "writer/domain/vm-writer.h"

#include <string.h>

#define NAME_LENGTH_MAX 255u
#define TEXT_LENGTH_MAX 1000u
#define PATH_LENGTH_MAX 4095u
#define METADATA_LENGTH_MAX (64u * 1024)

#define corrupt(error, ...) kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT, __VA_ARGS__)

void
identify_answer_clear(IdentifyAnswer *answer)
{
    g_clear_pointer(&answer->class_id, g_free);
    g_clear_pointer(&answer->friendly_name, g_free);
    g_clear_pointer(&answer->components, g_ptr_array_unref);
}

char *
component_full_name(const KvssComponent *component)
{
    if (*component->logical_path == '\0')
        return g_strdup(component->name);
    return g_strconcat(component->logical_path, "\\", component->name, NULL);
}

/* ---- strings ---- */

/* On one line, and it says something. */
static bool
check_text(const char *member, const char *text, GError **error)
{
    if (*text == '\0')
        return corrupt(error, "%s is empty", member);
    for (const char *at = text; *at; at = g_utf8_next_char(at))
        if (g_unichar_type(g_utf8_get_char(at)) == G_UNICODE_CONTROL)
            return corrupt(error, "%s has a control character in it", member);
    return true;
}

/* Optional ones leave *@out alone. */
static bool
read_text(JsonObject *object, const char *member, KvssMemberNeed need, size_t max, char **out,
          GError **error)
{
    g_autofree char *text = NULL;

    if (!kvss_member_string(object, member, need, max, &text, error))
        return false;
    if (!text)
        return true;
    if (!check_text(member, text, error))
        return false;
    g_free(*out);
    *out = g_steal_pointer(&text);
    return true;
}

/* A name of the tree of components: no separator, and no name that a VM goes by. */
static bool
check_name(const char *member, const char *name, GError **error)
{
    if (strpbrk(name, "\\/"))
        return corrupt(error, "%s is '%s', with a separator in it", member, name);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return corrupt(error, "%s is '%s', which is no name", member, name);
    if (g_uuid_string_is_valid(name))
        return corrupt(error, "%s is %s, a UUID: those are the names of VMs", member, name);
    return true;
}

static bool
check_logical_path(const char *path, GError **error)
{
    g_auto(GStrv) names = g_strsplit(path, "\\", -1);

    for (char **name = names; *name; name++)
        if (**name == '\0' || !check_name("logical_path", *name, error))
            return error && *error ? false : corrupt(error, "logical_path has an empty name in it");
    return true;
}

static bool
check_folder(const char *path, GError **error)
{
    g_autofree char *plain = g_path_is_absolute(path) ? g_canonicalize_filename(path, "/") : NULL;

    /* Two slashes in front are a path of their own by POSIX, and nobody means that. */
    if (!plain || strcmp(plain, path) != 0 || g_str_has_prefix(path, "//"))
        return corrupt(error, "path is '%s', no plain absolute path", path);
    return true;
}

static bool
check_filespec(const char *filespec, GError **error)
{
    if (strchr(filespec, '/') || strcmp(filespec, ".") == 0 || strcmp(filespec, "..") == 0)
        return corrupt(error, "filespec is '%s', no name of a file", filespec);
    return true;
}

/* ---- identify ---- */

static bool
read_file_set(JsonNode *element, gpointer data, GError **error)
{
    KvssComponent *component = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *path = NULL, *filespec = g_strdup("*");
    bool is_recursive = false, is_stable = false;

    if (!object
        || !read_text(object, "path", KVSS_MEMBER_REQUIRED, PATH_LENGTH_MAX, &path, error)
        || !read_text(object, "filespec", KVSS_MEMBER_OPTIONAL, NAME_LENGTH_MAX, &filespec, error)
        || !kvss_member_bool(object, "recursive", &is_recursive, error)
        || !kvss_member_bool(object, "stable", &is_stable, error)
        || !check_folder(path, error) || !check_filespec(filespec, error))
        return false;
    kvss_component_add_file_set(component, path, filespec, is_recursive)->is_stable = is_stable;
    return true;
}

typedef struct {
    const char *file;
    IdentifyAnswer *answer;
    GHashTable *seen; /* full names */
} Reading;

static bool
read_rest(JsonObject *object, KvssComponent *component, GError **error)
{
    return read_text(object, "caption", KVSS_MEMBER_OPTIONAL, TEXT_LENGTH_MAX, &component->caption,
                     error)
           && kvss_member_bool(object, "selectable", &component->is_selectable, error)
           && kvss_member_bool(object, "selectable_for_restore",
                               &component->is_selectable_for_restore, error)
           && kvss_member_bool(object, "notify", &component->is_notified, error)
           && kvss_member_string(object, "metadata", KVSS_MEMBER_OPTIONAL, METADATA_LENGTH_MAX,
                                 &component->metadata, error)
           && kvss_member_each(object, "files", ANSWER_FILE_SETS_MAX, read_file_set, component,
                               error);
}

static bool
read_component(JsonNode *element, gpointer data, GError **error)
{
    Reading *reading = data;
    JsonObject *object = kvss_member_object(element, error);
    g_autofree char *name = NULL, *logical_path = NULL, *full_name = NULL, *display_name = NULL;
    g_autoptr(KvssComponent) component = NULL;

    if (!object || !read_text(object, "name", KVSS_MEMBER_REQUIRED, NAME_LENGTH_MAX, &name, error)
        || !check_name("name", name, error)
        || !read_text(object, "logical_path", KVSS_MEMBER_OPTIONAL, TEXT_LENGTH_MAX, &logical_path,
                      error)
        || (logical_path && !check_logical_path(logical_path, error)))
        return false;
    component = kvss_component_new(name, name);
    kvss_set_string(&component->logical_path, logical_path ? logical_path : "");
    full_name = component_full_name(component);
    display_name = g_strconcat(reading->file, ":", full_name, NULL);
    kvss_set_string(&component->display_name, display_name);
    if (!g_hash_table_add(reading->seen, g_steal_pointer(&full_name)))
        return corrupt(error, "'%s' is there twice", display_name);
    if (!read_rest(object, component, error)) {
        g_prefix_error(error, "%s: ", display_name);
        return false;
    }
    g_ptr_array_add(reading->answer->components, g_steal_pointer(&component));
    return true;
}

static bool
read_level(JsonObject *object, KvssApplicationLevel *out, GError **error)
{
    static const struct {
        const char *name;
        KvssApplicationLevel level;
    } levels[] = {
        { "front-end", KVSS_LEVEL_FRONT_END },
        { "back-end", KVSS_LEVEL_BACK_END },
        { "system", KVSS_LEVEL_SYSTEM },
    };
    g_autofree char *name = NULL;

    *out = KVSS_LEVEL_FRONT_END;
    if (!read_text(object, "level", KVSS_MEMBER_OPTIONAL, NAME_LENGTH_MAX, &name, error))
        return false;
    for (guint i = 0; name && i < G_N_ELEMENTS(levels); i++) {
        if (strcmp(levels[i].name, name) == 0) {
            *out = levels[i].level;
            return true;
        }
    }
    return !name || corrupt(error, "level is '%s', not front-end, back-end or system", name);
}

/* A program that claims to be the VM writer would be given VMs to restore. */
static bool
read_class_id(JsonObject *object, char **out, GError **error)
{
    g_autofree char *id = NULL;

    if (!read_text(object, "id", KVSS_MEMBER_REQUIRED, NAME_LENGTH_MAX, &id, error))
        return false;
    if (!g_uuid_string_is_valid(id))
        return corrupt(error, "id is '%s', no GUID", id);
    if (g_ascii_strcasecmp(id, KVSS_VM_WRITER_CLASS_ID) == 0)
        return corrupt(error, "id is %s, which is the VM writer's: make one with uuidgen", id);
    *out = g_ascii_strdown(id, -1);
    return true;
}

static bool
read_version(JsonObject *object, KvssMemberNeed need, GError **error)
{
    uint64_t version = KVSS_PROGRAM_VERSION;

    if (!kvss_member_uint(object, "version", need, G_MAXINT32, &version, error))
        return false;
    return version == KVSS_PROGRAM_VERSION
           || corrupt(error, "version is %u, this kvss knows %d", (unsigned) version,
                      KVSS_PROGRAM_VERSION);
}

bool
identify_answer_read(GBytes *text, const char *file, IdentifyAnswer *out, GError **error)
{
    g_autoptr(JsonNode) root = kvss_members_parse(text, error);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(IdentifyAnswer) answer = { 0 };
    Reading reading = { file, &answer, seen };
    JsonObject *object;

    if (!root)
        return false;
    object = json_node_get_object(root);
    answer.friendly_name = g_strdup(file);
    answer.components = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);
    if (!read_version(object, KVSS_MEMBER_REQUIRED, error)
        || !read_text(object, "name", KVSS_MEMBER_OPTIONAL, NAME_LENGTH_MAX, &answer.friendly_name,
                      error)
        || !read_class_id(object, &answer.class_id, error)
        || !read_level(object, &answer.level, error)
        || !kvss_member_each(object, "components", ANSWER_COMPONENTS_MAX, read_component, &reading,
                             error))
        return false;
    *out = answer;
    memset(&answer, 0, sizeof answer);
    return true;
}

/* ---- the other events ---- */

static KvssComponent *
find_chosen(GPtrArray *components, const char *full_name)
{
    for (guint i = 0; i < components->len; i++) {
        KvssComponent *component = g_ptr_array_index(components, i);
        g_autofree char *its_name = component_full_name(component);

        if (component->is_selected && strcmp(its_name, full_name) == 0)
            return component;
    }
    return NULL;
}

/* With @apply unset it is only checked: a bad answer changes nothing. */
static bool
read_metadata(JsonObject *texts, GPtrArray *components, bool apply, GError **error)
{
    g_autoptr(GList) names = json_object_get_members(texts);

    for (GList *name = names; name; name = name->next) {
        KvssComponent *component = find_chosen(components, name->data);
        g_autofree char *text = NULL;

        if (!component)
            return corrupt(error, "metadata: there is no chosen component '%s'",
                           (const char *) name->data);
        if (!kvss_member_string(texts, name->data, KVSS_MEMBER_REQUIRED, METADATA_LENGTH_MAX,
                                &text, error))
            return false;
        if (apply)
            kvss_set_string(&component->metadata, text);
    }
    return true;
}

static void
add_note(GPtrArray *components, const char *message)
{
    for (guint i = 0; message && i < components->len; i++) {
        KvssComponent *component = g_ptr_array_index(components, i);

        if (component->is_selected)
            kvss_component_add_note(component, "%s", message);
    }
}

static bool
is_blank(GBytes *text)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(text, &length);

    for (gsize i = 0; i < length; i++)
        if (!g_ascii_isspace(bytes[i]))
            return false;
    return true;
}

bool
event_answer_read(GBytes *text, GPtrArray *components, GError **error)
{
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *message = NULL;
    JsonObject *object, *texts = NULL;
    JsonNode *metadata;

    if (is_blank(text))
        return true;
    root = kvss_members_parse(text, error);
    if (!root)
        return false;
    object = json_node_get_object(root);
    metadata = json_object_get_member(object, "metadata");
    if (metadata && !(texts = kvss_member_object(metadata, error))) {
        g_prefix_error(error, "metadata: ");
        return false;
    }
    if (!read_version(object, KVSS_MEMBER_OPTIONAL, error)
        || !read_text(object, "message", KVSS_MEMBER_OPTIONAL, TEXT_LENGTH_MAX, &message, error)
        || (texts && !read_metadata(texts, components, false, error)))
        return false;
    if (texts && !read_metadata(texts, components, true, error))
        return false;
    add_note(components, message);
    return true;
}
