/*
 * assignment.c - who cuts what: a provider for each disk and each set of files
 */
#include "coordinator/private.h"

KvssProvider *
assignment_find(KvssCoordinator *c, const char *name)
{
    for (guint i = 0; i < c->providers->len; i++) {
        KvssProvider *p = g_ptr_array_index(c->providers, i);

        if (g_str_equal(p->ops->name, name))
            return p;
    }
    return NULL;
}

static void
involve_provider(KvssCoordinator *c, const KvssProvider *provider)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (p->provider == provider)
            p->is_involved = true;
    }
}

/* What of a component needs a provider: a disk, or a set of files of the host. */
typedef struct {
    KvssComponent *component;
    KvssDisk *disk;     /* one of the two */
    KvssFileSet *files;
} Piece;

static const char *
piece_name(const Piece *piece)
{
    return piece->disk ? piece->disk->target : piece->files->path;
}

static bool
is_supported(KvssProvider *p, const Piece *piece, char **out_reason)
{
    return piece->disk ? kvss_provider_is_supported(p, piece->component, piece->disk, out_reason)
                       : kvss_provider_is_file_set_supported(p, piece->component, piece->files,
                                                             out_reason);
}

/*
 * The first in order of preference that can; or the one demanded, which is about
 * disks. NULL: @why says it of each.
 */
static KvssProvider *
find_supporting(KvssCoordinator *c, const Piece *piece, GString *why)
{
    const char *demanded = piece->disk ? c->demanded : NULL;

    for (guint i = 0; i < c->providers->len; i++) {
        KvssProvider *p = g_ptr_array_index(c->providers, i);
        g_autofree char *reason = NULL;

        if (demanded && !g_str_equal(demanded, p->ops->name))
            continue;
        if (is_supported(p, piece, &reason))
            return p;
        g_string_append_printf(why, "%s%s: %s", why->len ? "; " : "", p->ops->name, reason);
    }
    if (why->len == 0)
        g_string_append_printf(why, "there is no provider %s", demanded ? demanded : "at all");
    return NULL;
}

struct KvssProvider *
kvss_coordinator_find_provider(KvssCoordinator *c, KvssComponent *component, KvssDisk *disk,
                               char **out_reason)
{
    g_autoptr(GString) why = g_string_new(NULL);
    KvssProvider *found = find_supporting(c, &(Piece) { component, disk, NULL }, why);

    if (!found && out_reason)
        *out_reason = g_strdup(why->str);
    return found;
}

static void
assign(KvssCoordinator *c, const Piece *piece, KvssProvider *p)
{
    kvss_set_string(piece->disk ? &piece->disk->provider : &piece->files->provider, p->ops->name);
    if (piece->disk)
        piece->disk->needs_rollback = p->ops->needs_auto_recovery;
    involve_provider(c, p);
}

static bool
choose_provider(KvssCoordinator *c, const Piece *piece, GError **error)
{
    g_autoptr(GString) why = g_string_new(NULL);
    KvssProvider *found = find_supporting(c, piece, why);

    if (found) {
        assign(c, piece, found);
        return true;
    }
    kvss_component_fail(piece->component, KVSS_E_VOLUME_NOT_SUPPORTED, "%s: %s",
                        piece_name(piece), why->str);
    if (c->failure == KVSS_S_OK)
        c->failure = KVSS_E_VOLUME_NOT_SUPPORTED;
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_UNSUPPORTED,
                      "%s: %s: no provider can cut this %s: %s (%s, 0x%08X)",
                      piece->component->display_name, piece_name(piece),
                      piece->disk ? "disk" : "folder", why->str,
                      kvss_hresult_name(KVSS_E_VOLUME_NOT_SUPPORTED), KVSS_E_VOLUME_NOT_SUPPORTED);
}

static bool
choose_for_component(KvssCoordinator *c, KvssComponent *component, GError **error)
{
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);

        if (!disk->provider && !choose_provider(c, &(Piece) { component, disk, NULL }, error))
            return false;
    }
    for (guint i = 0; i < component->file_sets->len; i++) {
        KvssFileSet *files = g_ptr_array_index(component->file_sets, i);

        if (!files->provider && !choose_provider(c, &(Piece) { component, NULL, files }, error))
            return false;
    }
    return true;
}

bool
assignment_make(KvssCoordinator *c, GError **error)
{
    for (guint i = 0; i < c->set->components->len; i++)
        if (!choose_for_component(c, g_ptr_array_index(c->set->components, i), error))
            return false;
    return true;
}

struct KvssProvider *
kvss_coordinator_provider_of(KvssCoordinator *c, const KvssDisk *disk)
{
    return disk->provider ? assignment_find(c, disk->provider) : NULL;
}
