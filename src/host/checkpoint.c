/*
 * checkpoint.c - checkpoints of a domain: since when its disks' changes are known
 *
 * A checkpoint is a note in libvirt and a dirty bitmap of its name in each image.
 * QEMU takes the bitmap out of an image it has open; out of one of a domain that
 * is off qemu-img does, and libvirt only forgets its note.
 */
#include "host/domain.h"
#include "host/process.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#define IMAGE_LIMIT_MS 20000

GPtrArray *
kvss_domain_checkpoints(KvssDomain *domain, const char *prefix, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    virDomainCheckpointPtr *checkpoints = NULL;
    int n = virDomainListAllCheckpoints(kvss_domain_handle(domain), &checkpoints,
                                        VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);

    if (n < 0) {
        if (virGetLastErrorCode() == VIR_ERR_NO_SUPPORT)
            return g_steal_pointer(&names);
        (void) kvss_throw_libvirt(error, "cannot list the checkpoints of %s",
                                  kvss_domain_name(domain));
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        const char *name = virDomainCheckpointGetName(checkpoints[i]);

        if (g_str_has_prefix(name, prefix))
            g_ptr_array_add(names, g_strdup(name));
        (void) virDomainCheckpointFree(checkpoints[i]);
    }
    free(checkpoints);
    return g_steal_pointer(&names);
}

/* As virsh would have stored it: libvirt wants the definition that belongs to it. */
static char *
redefinition(const char *name, const char *const *targets, const char *definition)
{
    GString *xml = g_string_new("<domaincheckpoint><name>");
    g_autofree char *escaped = g_markup_escape_text(name, -1);

    g_string_append_printf(xml, "%s</name><creationTime>%" G_GINT64_FORMAT "</creationTime><disks>",
                           escaped, g_get_real_time() / G_USEC_PER_SEC);
    for (; *targets; targets++) {
        g_autofree char *target = g_markup_escape_text(*targets, -1);

        g_string_append_printf(xml, "<disk name='%s' checkpoint='bitmap' bitmap='%s'/>", target,
                               escaped);
    }
    g_string_append_printf(xml, "</disks>%s</domaincheckpoint>", definition);
    return g_string_free(xml, FALSE);
}

bool
kvss_domain_redefine_checkpoint(KvssDomain *domain, const char *name, const char *const *targets,
                                bool is_checked, GError **error)
{
    unsigned flags = VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
        | (is_checked ? VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE : 0);
    g_autofree char *definition = kvss_domain_xml(domain, false, error);
    g_autofree char *xml = definition ? redefinition(name, targets, definition) : NULL;
    virDomainCheckpointPtr checkpoint;

    if (!xml)
        return false;
    checkpoint = virDomainCheckpointCreateXML(kvss_domain_handle(domain), xml, flags);
    if (!checkpoint)
        return kvss_throw_libvirt(error, "cannot tell libvirt of checkpoint %s of %s again", name,
                                  kvss_domain_name(domain));
    (void) virDomainCheckpointFree(checkpoint);
    return true;
}

/* Who has the image open has the bitmap as well, and takes it out at another time. */
static void
remove_bitmap(const char *image, const char *name)
{
    const char *const argv[] = { "qemu-img", "bitmap", "--remove", "-f", "qcow2", image, name, NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *said = NULL;

    if (g_path_is_absolute(image) && !kvss_process_run(argv, IMAGE_LIMIT_MS, NULL, &said, &error))
        g_debug("bitmap %s stays in %s: %s", name, image, error->message);
}

/* True with NULL: there is none. */
static bool
find_checkpoint(KvssDomain *domain, const char *name, virDomainCheckpointPtr *out_checkpoint,
                GError **error)
{
    *out_checkpoint = virDomainCheckpointLookupByName(kvss_domain_handle(domain), name, 0);
    if (*out_checkpoint || virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT
        || virGetLastErrorCode() == VIR_ERR_NO_SUPPORT)
        return true;
    return kvss_throw_libvirt(error, "cannot look for checkpoint %s of %s", name,
                              kvss_domain_name(domain));
}

static bool
delete_note(virDomainCheckpointPtr checkpoint, GError **error)
{
    if (virDomainCheckpointDelete(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot delete checkpoint %s",
                              virDomainCheckpointGetName(checkpoint));
}

static bool
forget(KvssDomain *domain, const char *name, GError **error)
{
    virDomainCheckpointPtr checkpoint;
    bool ok;

    if (!find_checkpoint(domain, name, &checkpoint, error))
        return false;
    if (!checkpoint)
        return true;
    ok = delete_note(checkpoint, error);
    (void) virDomainCheckpointFree(checkpoint);
    return ok;
}

void
kvss_domain_forget_checkpoints(KvssDomain *domain, GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GError) error = NULL;

        if (!forget(domain, g_ptr_array_index(names, i), &error))
            g_debug("%s: %s", kvss_domain_name(domain), error->message);
    }
}

bool
kvss_domain_delete_checkpoint(KvssDomain *domain, const char *name, const char *const *images,
                              GError **error)
{
    virDomainCheckpointPtr checkpoint;
    bool ok;

    if (!find_checkpoint(domain, name, &checkpoint, error))
        return false;
    if (!checkpoint)
        return true;
    ok = virDomainCheckpointDelete(checkpoint, 0) == 0;
    if (!ok) {
        /* A bitmap that is broken, gone, or in an image that nobody has open must not keep the note. */
        ok = delete_note(checkpoint, error);
        for (; ok && images && *images; images++)
            remove_bitmap(*images, name);
    }
    (void) virDomainCheckpointFree(checkpoint);
    return ok;
}
