/*
 * selection.c - which components are in the set
 *
 * VSS's rules for the tree that logical paths make. What hangs below a chosen
 * component comes along; what may not be chosen by itself comes along too, with
 * its selectable ancestor or, where it has none, with anything of its writer.
 *
 *   app            selectable          chosen: "app" explicit, "app\db" and "app\db\log" implicit
 *   app\db         not selectable      cannot be chosen
 *   app\db\log     selectable          may be chosen alone, while "app" is not
 *   settings       not selectable      required: comes with anything of the writer, explicit
 */
#include "coordinator/private.h"

#include <string.h>

static char *
full_name(const KvssComponent *component)
{
    if (*component->logical_path == '\0')
        return g_strdup(component->name);
    return g_strconcat(component->logical_path, "\\", component->name, NULL);
}

static bool
is_below(const KvssComponent *component, const KvssComponent *ancestor)
{
    g_autofree char *name = full_name(ancestor);
    size_t length = strlen(name);

    return strncmp(component->logical_path, name, length) == 0
           && (component->logical_path[length] == '\0' || component->logical_path[length] == '\\');
}

static KvssComponent *
selectable_ancestor(const KvssWriter *writer, const KvssComponent *component)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *other = g_ptr_array_index(writer->components, i);

        if (other->is_selectable && is_below(component, other))
            return other;
    }
    return NULL;
}

static const Participant *
owner_of(KvssCoordinator *c, const KvssComponent *component)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        const Participant *p = g_ptr_array_index(all, i);

        if (p->writer && !p->has_dropped_out
            && g_ptr_array_find(p->writer->components, component, NULL))
            return p;
    }
    return NULL;
}

static KvssComponent *
find_component(KvssCoordinator *c, const char *name)
{
    GPtrArray *all = c->estate->participants;

    for (guint i = 0; i < all->len; i++) {
        const Participant *p = g_ptr_array_index(all, i);

        for (guint k = 0; p->writer && !p->has_dropped_out && k < p->writer->components->len; k++) {
            KvssComponent *component = g_ptr_array_index(p->writer->components, k);

            if (g_str_equal(component->name, name))
                return component;
        }
    }
    return NULL;
}

static void
include(KvssCoordinator *c, KvssComponent *component, bool is_explicit)
{
    component->is_explicit = is_explicit;
    if (component->is_selected)
        return;
    component->is_selected = true;
    g_ptr_array_add(c->set->components, component);
}

/* A component brings those below it, whether they were chosen alone before or not. */
static void
include_set(KvssCoordinator *c, const KvssWriter *writer, KvssComponent *component)
{
    include(c, component, true);
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *other = g_ptr_array_index(writer->components, i);

        if (is_below(other, component))
            include(c, other, false);
    }
}

static void
include_required(KvssCoordinator *c, const KvssWriter *writer)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (!component->is_selectable && !component->is_selected
            && !selectable_ancestor(writer, component))
            include(c, component, true);
    }
}

static bool
throw_not_found(const char *name, GError **error)
{
    g_autofree char *code = report_code(KVSS_E_OBJECT_NOT_FOUND);

    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND,
                      "no writer has a component %s %s", name, code);
}

static bool
check_selectable(const KvssWriter *writer, const KvssComponent *component, GError **error)
{
    const KvssComponent *ancestor = selectable_ancestor(writer, component);
    g_autofree char *code = report_code(KVSS_E_INVALIDARG);

    if (component->is_selectable || !ancestor)
        return true;
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_SELECTABLE,
                      "%s of writer %s cannot be chosen alone: it comes with %s %s",
                      component->display_name, writer->ops->friendly_name, ancestor->display_name,
                      code);
}

bool
kvss_coordinator_select_component(KvssCoordinator *c, KvssComponent *component, GError **error)
{
    const Participant *owner = owner_of(c, component);
    const KvssComponent *ancestor;

    if (!expect_state(c, SET_GATHERED, "select", error))
        return false;
    if (!owner)
        return throw_not_found(component->display_name, error);
    if (!check_selectable(owner->writer, component, error))
        return false;

    ancestor = selectable_ancestor(owner->writer, component);
    if (!ancestor || !ancestor->is_selected) /* else it is there already, as a part */
        include_set(c, owner->writer, component);
    include_required(c, owner->writer);
    return true;
}

bool
kvss_coordinator_select(KvssCoordinator *c, const char *name, GError **error)
{
    KvssComponent *component;

    if (!expect_state(c, SET_GATHERED, "select", error))
        return false;
    component = find_component(c, name);
    return component ? kvss_coordinator_select_component(c, component, error)
                     : throw_not_found(name, error);
}

void
kvss_coordinator_take_component(KvssCoordinator *c, struct KvssWriter *writer,
                                KvssComponent *component)
{
    g_assert(c->state == SET_GATHERED);
    g_assert(g_ptr_array_find(c->writers, writer, NULL));

    g_ptr_array_add(writer->components, component);
    component->is_selected = false;
    include(c, component, true);
}

void
kvss_coordinator_set_succeeded(KvssCoordinator *c, KvssComponent *component, bool succeeded)
{
    const Participant *owner = owner_of(c, component);

    g_assert(owner && component->is_selected && component->is_explicit);
    component->backup_succeeded = succeeded;
    for (guint i = 0; i < owner->writer->components->len; i++) {
        KvssComponent *other = g_ptr_array_index(owner->writer->components, i);

        if (other->is_selected && !other->is_explicit && is_below(other, component))
            other->backup_succeeded = succeeded;
    }
}
