/*
 * loss.c - what a backup has lost, for people and as JSON
 */
#include "requester/loss.h"
#include "requester/output.h"

#include <string.h>

#define RANGES_SHOWN 8u /* in a sentence; JSON has all */

/* "/vms/web/disks/vda.raw" without a set to ask: "web". */
static char *
name_from_path(const char *path)
{
    const char *place = strstr(path, "/vms/");
    const char *name = place ? place + strlen("/vms/") : NULL;

    return name && *name ? g_strndup(name, strcspn(name, "/")) : NULL;
}

static void
add_hit(GPtrArray *names, const GPtrArray *vms, const KvssLoss *loss)
{
    for (guint i = 0; i < vms->len; i++) {
        const KvssManifestVm *vm = g_ptr_array_index(vms, i);

        if (kvss_backup_vm_is_hit(vm, loss))
            g_ptr_array_add(names, g_strdup(vm->component->display_name));
    }
}

GPtrArray *
kvss_loss_vms(const KvssLoss *loss, const KvssBackup *backup)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    char *guess = backup ? NULL : name_from_path(loss->path);

    if (guess)
        g_ptr_array_add(names, guess);
    if (backup) {
        add_hit(names, backup->manifest->vms, loss);
        add_hit(names, backup->manifest->components, loss);
    }
    g_ptr_array_add(names, NULL);
    return names;
}

/* The VM's disk or file that it is; NULL when it is neither. */
static const char *
part_of(const KvssLoss *loss, const KvssBackup *backup, const KvssManifestVm **out_vm,
        bool *out_is_disk)
{
    const GPtrArray *vms = backup ? backup->manifest->vms : NULL;

    for (guint i = 0; vms && i < vms->len; i++) {
        const char *part;

        *out_vm = g_ptr_array_index(vms, i);
        if (!kvss_backup_vm_is_hit(*out_vm, loss))
            continue;
        part = kvss_backup_lost_part(*out_vm, loss, out_is_disk);
        if (part)
            return part;
    }
    *out_vm = NULL;
    return NULL;
}

static void
append_ranges(GString *text, const KvssLoss *loss)
{
    g_autofree char *size = kvss_size_text(loss->bytes);

    g_string_append(text, "bytes ");
    for (guint i = 0; i < MIN(loss->ranges->len, RANGES_SHOWN); i++) {
        const KvssRange *range = &g_array_index(loss->ranges, KvssRange, i);

        g_string_append_printf(text, "%s%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                               i ? ", " : "", range->offset, range->offset + range->length - 1);
    }
    if (loss->ranges->len > RANGES_SHOWN || loss->has_more)
        g_string_append(text, ", and more");
    g_string_append_printf(text, " (%s) are lost", size);
}

char *
kvss_loss_text(const KvssLoss *loss, const KvssBackup *backup)
{
    GString *text = g_string_new(NULL);
    g_autoptr(GPtrArray) names = kvss_loss_vms(loss, backup);
    g_autofree char *all = g_strjoinv(", ", (char **) names->pdata);
    const KvssManifestVm *vm;
    bool is_disk = false;
    const char *part = part_of(loss, backup, &vm, &is_disk);

    if (*all)
        g_string_append_printf(text, "VM%s %s, ", names->len > 2 ? "s" : "", all);
    if (part)
        g_string_append_printf(text, "%s %s: ", is_disk ? "disk" : "file", part);
    else
        g_string_append_printf(text, "%s: ", loss->path);
    if (loss->is_folder)
        g_string_append(text, "the list of what lies in it is lost, and everything with it");
    else
        append_ranges(text, loss);
    return g_string_free(text, FALSE);
}

JsonObject *
kvss_loss_json(const KvssLoss *loss, const KvssBackup *backup)
{
    JsonObject *object = json_object_new();
    JsonArray *ranges = json_array_new();
    g_autoptr(GPtrArray) names = kvss_loss_vms(loss, backup);
    const KvssManifestVm *vm;
    bool is_disk = false;
    const char *part = part_of(loss, backup, &vm, &is_disk);

    for (guint i = 0; i < loss->ranges->len; i++) {
        const KvssRange *range = &g_array_index(loss->ranges, KvssRange, i);
        JsonArray *pair = json_array_new();

        json_array_add_int_element(pair, (gint64) range->offset);
        json_array_add_int_element(pair, (gint64) range->length);
        json_array_add_array_element(ranges, pair);
    }
    kvss_set_text(object, "backup", loss->snapshot_id);
    json_object_set_array_member(object, "vms", kvss_texts((const char *const *) names->pdata));
    kvss_set_text(object, "disk", is_disk ? part : NULL);
    kvss_set_text(object, "path", loss->path);
    json_object_set_boolean_member(object, "folder", loss->is_folder);
    json_object_set_int_member(object, "bytes", (gint64) loss->bytes);
    json_object_set_array_member(object, "ranges", ranges);
    json_object_set_boolean_member(object, "more", loss->has_more);
    return object;
}

JsonArray *
kvss_losses_json(const KvssBackup *backup)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; backup->losses && i < backup->losses->len; i++)
        json_array_add_object_element(
            array, kvss_loss_json(g_ptr_array_index(backup->losses, i), backup));
    return array;
}

const KvssBackup *
kvss_loss_backup(const GPtrArray *backups, const char *snapshot_id)
{
    for (guint i = 0; backups && i < backups->len; i++) {
        const KvssBackup *backup = g_ptr_array_index(backups, i);

        if (strcmp(backup->snapshot->id, snapshot_id) == 0)
            return backup;
    }
    return NULL;
}
