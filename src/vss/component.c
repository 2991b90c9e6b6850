/*
 * component.c - what can be chosen, and all that is known of it
 *
 * A component owns everything that hangs from it but the domain. Nothing here
 * locks: one component is touched by one thread at a time, and the coordinator
 * hands it on between events.
 */
#include "vss/component.h"

#include <string.h>

void
kvss_set_string(char **field, const char *value)
{
    char *copy = g_strdup(value); /* first: value may point into the old one */

    g_free(*field);
    *field = copy;
}

static void
disk_free(gpointer data)
{
    KvssDisk *disk = data;

    g_free(disk->target);
    g_free(disk->format);
    g_free(disk->kind);
    g_free(disk->path);
    g_free(disk->options);
    g_free(disk->volume);
    g_free(disk->provider);
    g_free(disk->shadow_id);
    g_free(disk->image);
    g_free(disk->since);
    g_free(disk->tracked_by);
    g_free(disk->nbd_socket);
    g_free(disk->nbd_export);
    g_free(disk->nbd_bitmap);
    g_free(disk->reason);
    g_free(disk);
}

static void
file_free(gpointer data)
{
    KvssFile *file = data;

    g_free(file->name);
    g_clear_pointer(&file->bytes, g_bytes_unref);
    g_free(file->path);
    g_free(file->original);
    g_free(file);
}

static void
file_set_free(gpointer data)
{
    KvssFileSet *files = data;

    g_free(files->path);
    g_free(files->filespec);
    g_free(files->provider);
    g_free(files);
}

static void
not_covered_free(gpointer data)
{
    KvssNotCovered *gap = data;

    g_free(gap->target);
    g_free(gap->kind);
    g_free(gap->reason);
    g_free(gap);
}

static void
condition_free(gpointer data)
{
    KvssCondition *condition = data;

    g_free(condition->id);
    g_free(condition->detail);
    g_free(condition);
}

static void
reason_free(gpointer data)
{
    KvssReason *reason = data;

    g_free(reason->id);
    g_free(reason->detail);
    g_free(reason);
}

KvssComponent *
kvss_component_new(const char *name, const char *display_name)
{
    KvssComponent *component = g_new0(KvssComponent, 1);

    component->name = g_strdup(name);
    component->display_name = g_strdup(display_name);
    component->logical_path = g_strdup("");
    component->caption = g_strdup(display_name);
    component->method = g_strdup("");
    component->is_selectable = true;
    component->is_selectable_for_restore = true;
    component->disks = g_ptr_array_new_with_free_func(disk_free);
    component->files = g_ptr_array_new_with_free_func(file_free);
    component->file_sets = g_ptr_array_new_with_free_func(file_set_free);
    component->not_covered = g_ptr_array_new_with_free_func(not_covered_free);
    component->conditions = g_ptr_array_new_with_free_func(condition_free);
    component->reasons = g_ptr_array_new_with_free_func(reason_free);
    component->notes = g_ptr_array_new_with_free_func(g_free);
    component->previous = g_ptr_array_new_with_free_func(disk_free);
    component->freeze_ms = -1;
    component->pause_ms = -1;
    component->instant_us = -1;
    component->frozen_us = -1;
    component->thawed_us = -1;
    return component;
}

void
kvss_component_free(KvssComponent *component)
{
    if (!component)
        return;
    g_free(component->name);
    g_free(component->logical_path);
    g_free(component->caption);
    g_free(component->display_name);
    g_free(component->state);
    g_free(component->method);
    g_free(component->demanded_by);
    g_free(component->consistency);
    g_ptr_array_unref(component->disks);
    g_ptr_array_unref(component->files);
    g_ptr_array_unref(component->file_sets);
    g_ptr_array_unref(component->not_covered);
    g_ptr_array_unref(component->conditions);
    g_ptr_array_unref(component->reasons);
    g_ptr_array_unref(component->notes);
    g_ptr_array_unref(component->previous);
    g_free(component->stamp);
    g_free(component->metadata);
    g_free(component->restore_options);
    g_free(component->work_folder);
    g_free(component->failure_message);
    g_free(component);
}

static KvssDisk *
add_disk(GPtrArray *disks, const char *target)
{
    KvssDisk *disk = g_new0(KvssDisk, 1);

    disk->target = g_strdup(target);
    g_ptr_array_add(disks, disk);
    return disk;
}

KvssDisk *
kvss_component_add_disk(KvssComponent *component, const char *target)
{
    return add_disk(component->disks, target);
}

KvssDisk *
kvss_component_add_previous(KvssComponent *component, const char *target)
{
    return add_disk(component->previous, target);
}

static KvssFile *
add_file(KvssComponent *component, const char *name, unsigned mode)
{
    KvssFile *file = g_new0(KvssFile, 1);

    file->name = g_strdup(name);
    file->mode = mode;
    file->uid = -1;
    file->gid = -1;
    g_ptr_array_add(component->files, file);
    return file;
}

KvssFile *
kvss_component_add_bytes(KvssComponent *component, const char *name, GBytes *bytes, unsigned mode)
{
    KvssFile *file = add_file(component, name, mode);

    file->bytes = g_bytes_ref(bytes);
    return file;
}

KvssFile *
kvss_component_add_file(KvssComponent *component, const char *name, const char *path,
                        unsigned mode)
{
    KvssFile *file = add_file(component, name, mode);

    file->path = g_strdup(path);
    return file;
}

KvssFileSet *
kvss_component_add_file_set(KvssComponent *component, const char *path, const char *filespec,
                            bool is_recursive)
{
    KvssFileSet *files = g_new0(KvssFileSet, 1);

    files->path = g_strdup(path);
    files->filespec = g_strdup(filespec);
    files->is_recursive = is_recursive;
    g_ptr_array_add(component->file_sets, files);
    return files;
}

/* The text of a variadic adder; a macro because va_start() must be in the caller. */
#define FORMAT_TEXT(out, format)             \
    do {                                     \
        va_list args;                        \
                                             \
        va_start(args, format);              \
        *(out) = g_strdup_vprintf(format, args); \
        va_end(args);                        \
    } while (0)

void
kvss_component_add_not_covered(KvssComponent *component, const char *target, const char *kind,
                               bool is_writable, const char *format, ...)
{
    KvssNotCovered *gap = g_new0(KvssNotCovered, 1);

    gap->target = g_strdup(target);
    gap->kind = g_strdup(kind);
    gap->is_writable = is_writable;
    FORMAT_TEXT(&gap->reason, format);
    g_ptr_array_add(component->not_covered, gap);
}

void
kvss_component_add_condition(KvssComponent *component, const char *id, bool holds,
                             const char *format, ...)
{
    KvssCondition *condition = g_new0(KvssCondition, 1);

    condition->id = g_strdup(id);
    condition->holds = holds;
    FORMAT_TEXT(&condition->detail, format);
    g_ptr_array_add(component->conditions, condition);
}

void
kvss_component_add_reason(KvssComponent *component, const char *id, const char *format, ...)
{
    KvssReason *reason = g_new0(KvssReason, 1);

    reason->id = g_strdup(id);
    FORMAT_TEXT(&reason->detail, format);
    g_ptr_array_add(component->reasons, reason);
}

void
kvss_component_add_note(KvssComponent *component, const char *format, ...)
{
    char *note;

    FORMAT_TEXT(&note, format);
    g_ptr_array_add(component->notes, note);
}

void
kvss_component_fail(KvssComponent *component, KvssHresult code, const char *format, ...)
{
    g_autofree char *message = NULL;

    g_assert(code != KVSS_S_OK);
    FORMAT_TEXT(&message, format);
    if (component->failure != KVSS_S_OK) {
        g_debug("component %s: a later failure, not kept: %s", component->display_name, message);
        return;
    }
    component->failure = code;
    component->failure_message = g_steal_pointer(&message);
}

GPtrArray *
kvss_components_healthy(GPtrArray *components)
{
    GPtrArray *healthy = g_ptr_array_new();

    for (guint i = 0; i < components->len; i++) {
        KvssComponent *component = g_ptr_array_index(components, i);

        if (component->is_selected && component->failure == KVSS_S_OK)
            g_ptr_array_add(healthy, component);
    }
    return healthy;
}

const KvssComponent *
kvss_components_first_failed(GPtrArray *components)
{
    for (guint i = 0; i < components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(components, i);

        if (component->failure != KVSS_S_OK)
            return component;
    }
    return NULL;
}

KvssDisk *
kvss_component_find_disk(const KvssComponent *component, const char *target)
{
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (g_str_equal(disk->target, target))
            return disk;
    }
    return NULL;
}

KvssFile *
kvss_component_find_file(const KvssComponent *component, const char *name)
{
    for (guint i = 0; i < component->files->len; i++) {
        KvssFile *file = g_ptr_array_index(component->files, i);

        if (g_str_equal(file->name, name))
            return file;
    }
    return NULL;
}

/* Goes back to the last '*' only: that is enough, and bounded by both lengths multiplied. */
bool
kvss_filespec_matches(const char *filespec, const char *name)
{
    const char *star = NULL, *resume = NULL;

    while (*name) {
        if (*filespec == '*') {
            star = ++filespec;
            resume = name;
        } else if (*filespec == '?') {
            filespec++;
            name = g_utf8_next_char(name);
        } else if (*filespec == *name) {
            filespec++;
            name++;
        } else if (star) {
            filespec = star;
            name = resume = g_utf8_next_char(resume);
        } else {
            return false;
        }
    }
    return filespec[strspn(filespec, "*")] == '\0';
}

bool
kvss_file_set_has(const KvssFileSet *files, const char *path)
{
    size_t length = strlen(files->path);
    const char *below = path + length, *name;

    if (strncmp(path, files->path, length) != 0 || *below != '/')
        return false;
    name = strrchr(below, '/') + 1;
    if (!files->is_recursive && name != below + 1)
        return false;
    return kvss_filespec_matches(files->filespec, name);
}
