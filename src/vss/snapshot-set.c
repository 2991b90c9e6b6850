/*
 * snapshot-set.c - all shadow copies that share one instant
 */
#include "vss/snapshot-set.h"

KvssSnapshotSet *
kvss_snapshot_set_new(void)
{
    KvssSnapshotSet *set = g_new0(KvssSnapshotSet, 1);

    set->id = g_uuid_string_random();
    set->context = KVSS_CTX_BACKUP;
    /* A guest's own log chain is its owner's: COPY changes nothing in it. */
    set->backup_type = KVSS_BT_COPY;
    set->components = g_ptr_array_new();
    return set;
}

void
kvss_snapshot_set_free(KvssSnapshotSet *set)
{
    if (!set)
        return;
    g_free(set->id);
    g_ptr_array_unref(set->components);
    g_free(set);
}

double
kvss_snapshot_set_skew_ms(const KvssSnapshotSet *set)
{
    gint64 first = G_MAXINT64, last = G_MININT64;
    guint n = 0;

    for (guint i = 0; i < set->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(set->components, i);

        if (component->instant_us < 0)
            continue; /* was off: any instant is its own */
        first = MIN(first, component->instant_us);
        last = MAX(last, component->instant_us);
        n++;
    }
    return n < 2 ? -1 : (double) (last - first) / 1000;
}
