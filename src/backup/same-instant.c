/*
 * same-instant.c - were all guests frozen while each of them was cut?
 */
#include "backup/same-instant.h"
#include "backup/backup.h"

/** The guests at the edges: each is the one that a disagreement would be about. */
typedef struct {
    const KvssComponent *last_frozen, *first_cut, *last_cut, *first_thawed;
} Edges;

static void
widen(Edges *edges, const KvssComponent *guest)
{
    if (!edges->last_frozen || guest->frozen_us > edges->last_frozen->frozen_us)
        edges->last_frozen = guest;
    if (!edges->first_thawed || guest->thawed_us < edges->first_thawed->thawed_us)
        edges->first_thawed = guest;
    if (!edges->first_cut || guest->instant_us < edges->first_cut->instant_us)
        edges->first_cut = guest;
    if (!edges->last_cut || guest->instant_us > edges->last_cut->instant_us)
        edges->last_cut = guest;
}

static bool
throw_order(const KvssComponent *cut, const char *word, const KvssComponent *other,
            gint64 gap_us, GError **error)
{
    return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_SAME_INSTANT,
                      "not every guest was frozen throughout the cuts: %s was cut %.3f ms %s %s",
                      cut->display_name, (double) gap_us / 1000, word, other->display_name);
}

bool
kvss_check_same_instant(const GPtrArray *guests, GError **error)
{
    Edges edges = { 0 };

    for (guint i = 0; i < guests->len; i++) {
        const KvssComponent *guest = g_ptr_array_index(guests, i);

        if (guest->frozen_us < 0)
            continue;
        if (guest->instant_us < 0 || guest->thawed_us < 0)
            return kvss_throw(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_SAME_INSTANT,
                              "not every guest was frozen throughout the cuts: of %s it is not "
                              "known when it was %s", guest->display_name,
                              guest->instant_us < 0 ? "cut" : "thawed");
        widen(&edges, guest);
    }
    if (!edges.last_frozen)
        return true;
    if (edges.last_frozen->frozen_us > edges.first_cut->instant_us)
        return throw_order(edges.first_cut, "before the freeze was over of", edges.last_frozen,
                           edges.last_frozen->frozen_us - edges.first_cut->instant_us, error);
    if (edges.last_cut->instant_us > edges.first_thawed->thawed_us)
        return throw_order(edges.last_cut, "after the thaw began of", edges.first_thawed,
                           edges.last_cut->instant_us - edges.first_thawed->thawed_us, error);
    return true;
}
