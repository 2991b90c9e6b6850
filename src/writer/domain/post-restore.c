/*
 * post-restore.c - PostRestore: what was restored is registered, or nothing is
 *
 *   all files there?  ─no─▶  undo list, writer failure
 *        │yes
 *   define each  ─▶  put saved states back
 *
 * A VM in saved state is loaded paused and saved again by libvirt itself: that
 * proves that this host can load it, and libvirt knows of it from then on. No
 * guest instruction runs.
 */
#include "base/fd.h"
#include "guardian/run.h"
#include "host/domain.h"
#include "host/save-image.h"
#include "writer/domain/definition.h"
#include "writer/domain/restore-steps.h"
#include "writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_LENGTH (1024u * 1024)

typedef struct {
    KvssHost *host;
    KvssSnapshotSet *set;
    KvssComponent *component;
    virConnectPtr connection; /* of its own: a load may take minutes */
    virDomainPtr domain;      /* (nullable) once registered */
} Comeback;

static void
add_notes(KvssComponent *component, const KvssDefinitionReport *report)
{
    for (guint i = 0; i < report->notes->len; i++)
        kvss_component_add_note(component, "%s", (char *) g_ptr_array_index(report->notes, i));
}

/* ---- registration ---- */

static char *
stored_definition(const KvssComponent *component, GError **error)
{
    const KvssFile *file = kvss_component_find_file(component, "domain.xml");
    gsize length;
    const char *text = file && file->bytes ? g_bytes_get_data(file->bytes, &length) : NULL;

    if (text && !memchr(text, '\0', length))
        return g_strndup(text, length);
    kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
               "the backup holds no definition of the VM");
    return NULL;
}

static virDomainPtr
define_checked(Comeback *back, const char *xml, GError **error)
{
    virDomainPtr domain
        = virDomainDefineXMLFlags(back->connection, xml, VIR_DOMAIN_DEFINE_VALIDATE);

    /* It was good enough for libvirt once: that the schema is stricter must not cost the VM. */
    if (!domain && virGetLastErrorCode() == VIR_ERR_XML_INVALID_SCHEMA) {
        kvss_component_add_note(back->component, "its definition does not pass libvirt's schema: %s",
                                virGetLastErrorMessage());
        domain = virDomainDefineXMLFlags(back->connection, xml, 0);
    }
    if (!domain)
        kvss_throw_libvirt(error, "cannot register it");
    return domain;
}

static bool
wants_autostart(const KvssComponent *component)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;

    if (!component->metadata
        || !json_parser_load_from_data(parser, component->metadata, -1, NULL))
        return false;
    root = json_parser_get_root(parser);
    return root && JSON_NODE_HOLDS_OBJECT(root)
        && json_object_get_boolean_member_with_default(json_node_get_object(root), "autostart",
                                                       FALSE);
}

static bool
vm_register(Comeback *back, GError **error)
{
    g_autofree char *stored = stored_definition(back->component, error);
    g_auto(KvssDefinitionReport) report = { 0 };
    const char *run_id = kvss_run_id(back->set->run);
    g_autofree char *xml = stored ? kvss_definition_correct(stored, back->component, back->host,
                                                            run_id, &report, error)
                                  : NULL;
    JsonObject *details;

    if (!xml)
        return false;
    add_notes(back->component, &report);

    details = json_object_new();
    json_object_set_string_member(details, "uuid", back->component->name);
    json_object_set_string_member(details, "name", back->component->display_name);
    json_object_set_string_member(details, "run", run_id);
    json_object_set_boolean_member(details, "autostart", wants_autostart(back->component));
    if (!kvss_run_act_begin(back->set->run, KVSS_ACT_DEFINE, details, error))
        return false;
    back->domain = define_checked(back, xml, error);
    return back->domain != NULL;
}

/* ---- saved state ---- */

static bool
file_copy(const char *from, const char *to, GError **error)
{
    kvss_autofd int in = open(from, O_RDONLY | O_CLOEXEC);
    kvss_autofd int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    g_autofree uint8_t *buffer = g_malloc(COPY_LENGTH);

    if (in < 0 || out < 0)
        return kvss_throw_errno(error, errno, "copy %s to %s", from, to);
    for (;;) {
        ssize_t n = read(in, buffer, COPY_LENGTH);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kvss_throw_errno(error, errno, "read %s", from);
        if (n == 0)
            return kvss_fsync(out, to, error);
        if (!kvss_write_exact(out, buffer, (size_t) n, error))
            return false;
    }
}

/* The image itself becomes the managed save image; libvirt finds it at the next start. */
static bool
state_install(Comeback *back, const char *path, const char *xml, bool running, GError **error)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(back->host, back->component->name, error);
    g_autofree char *to = domain ? kvss_domain_managed_save_path(domain) : NULL;
    g_autofree char *folder = to ? g_path_get_dirname(to) : NULL;
    JsonObject *details;

    if (!to || !kvss_save_image_set_xml(path, xml, error)
        || !kvss_save_image_set_running(path, running, error))
        return false;
    details = json_object_new();
    json_object_set_string_member(details, "uuid", back->component->name);
    json_object_set_string_member(details, "path", to);
    json_object_set_string_member(details, "aside", "");
    if (!kvss_run_act_begin(back->set->run, KVSS_ACT_FILE, details, error))
        return false;
    if (g_mkdir_with_parents(folder, 0700) < 0)
        return kvss_throw_errno(error, errno, "make folder %s", folder);
    if (rename(path, to) < 0 && (errno != EXDEV || !file_copy(path, to, error))) {
        if (error && !*error)
            kvss_throw_errno(error, errno, "move %s to %s", path, to);
        return false;
    }
    return kvss_fsync_folder(folder, error);
}

/*
 * libvirt loads the image, stands still, and saves it as its own. It compares @xml
 * with the definition inside, and takes no other name, UUID or MAC: of a copy the
 * one inside is changed first.
 */
static bool
state_load_and_save(Comeback *back, const char *path, const char *xml, bool running,
                    GError **error)
{
    const unsigned flags = running ? VIR_DOMAIN_SAVE_RUNNING : VIR_DOMAIN_SAVE_PAUSED;
    bool is_copy = kvss_vm_is_copy(back->component);

    if (is_copy && !kvss_save_image_set_xml(path, xml, error))
        return false;
    if (virDomainRestoreFlags(back->connection, path, is_copy ? NULL : xml, VIR_DOMAIN_SAVE_PAUSED)
        < 0)
        return kvss_throw_libvirt(error, "its saved state cannot be loaded");
    if (virDomainManagedSave(back->domain, flags) == 0)
        return true;
    kvss_throw_libvirt(error, "its state was loaded and cannot be saved again");
    (void) virDomainDestroy(back->domain);
    return false;
}

static bool
goes_back_running(const KvssComponent *component, const KvssSaveImage *image)
{
    if (g_strcmp0(component->state, "running") == 0)
        return true;
    return g_strcmp0(component->state, "paused") != 0 && image->was_running;
}

static bool
vm_put_saved_state_back(Comeback *back, GError **error)
{
    const KvssFile *file = kvss_component_find_file(back->component, "state.save");
    g_autoptr(KvssSaveImage) image = NULL;
    g_autofree char *xml = NULL;
    g_autoptr(GError) refusal = NULL;
    bool running;

    if (!file || !file->path)
        return true;
    image = kvss_save_image_read(file->path, error);
    xml = image ? kvss_definition_correct(image->xml, back->component, back->host, NULL, NULL,
                                          error)
                : NULL;
    if (!xml)
        return false;
    if (kvss_vm_is_copy(back->component))
        kvss_component_add_note(back->component,
                                "its memory is that of the VM that it is a copy of: until it is "
                                "restarted it keeps that VM's MAC and IP addresses");
    running = goes_back_running(back->component, image);
    if (state_load_and_save(back, file->path, xml, running, &refusal))
        return true;
    kvss_component_add_note(back->component, "%s; the next start tries again from the same image",
                            refusal->message);
    return state_install(back, file->path, xml, running, error);
}

/* ---- one VM ---- */

static bool
component_comes_back(KvssHost *host, KvssSnapshotSet *set, KvssComponent *component,
                     GError **error)
{
    Comeback back = { host, set, component, kvss_host_new_connection(host, error), NULL };
    bool ok = back.connection && vm_register(&back, error)
        && vm_put_saved_state_back(&back, error);

    if (back.domain)
        (void) virDomainFree(back.domain);
    if (back.connection)
        (void) virConnectClose(back.connection);
    return ok;
}

static bool
throw_taken_back(KvssSnapshotSet *set, GError *problem, GError **error)
{
    g_autoptr(GError) undo_error = NULL;

    if (!kvss_run_undo(set->run, &undo_error))
        g_warning("%s; 'kvss doctor' tries again", undo_error->message);
    g_propagate_error(error, problem);
    return false;
}

/* The specification's test: anything but ALL, and the VM is not registered. */
static bool
check_restored(KvssSnapshotSet *set, GError **error)
{
    bool ok = true;

    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (component->restore_status == KVSS_RS_ALL)
            continue;
        kvss_component_fail(component, KVSS_E_WRITERERROR_NONRETRYABLE,
                            "its files were not all restored");
        if (ok)
            kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                       "%s: its files were not all restored, so no VM was registered",
                       component->display_name);
        ok = false;
    }
    return ok;
}

bool
kvss_vm_post_restore(KvssHost *host, KvssSnapshotSet *set, GError **error)
{
    GError *problem = NULL;

    if (!check_restored(set, &problem))
        return throw_taken_back(set, problem, error);
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (kvss_vm_restore_option(component, "only-disks")
            || component_comes_back(host, set, component, &problem))
            continue;
        kvss_component_fail(component, KVSS_E_WRITERERROR_NONRETRYABLE, "%s", problem->message);
        g_prefix_error(&problem, "%s: ", component->display_name);
        return throw_taken_back(set, problem, error);
    }
    return true;
}
