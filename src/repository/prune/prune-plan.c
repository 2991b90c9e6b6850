/*
 * prune-plan.c - what becomes of each pack?
 *
 * A pack of which nobody needs anything goes. One that is needed in part stays as
 * it is until there is more rubbish in all such packs together than is allowed;
 * then those go first that have the largest part of it: they cost the least to
 * write anew and free the most.
 */
#include "repository/prune/prune.h"

/** A pack with rubbish in it. */
typedef struct {
    uint32_t pack;
    double part; /* rubbish of all its blobs, 0 to 1 */
} Candidate;

static int
compare_candidates(const void *a, const void *b)
{
    const Candidate *one = a, *two = b;

    if (one->part != two->part)
        return one->part > two->part ? -1 : 1;
    return one->pack < two->pack ? -1 : 1;
}

/* How many bytes of rubbish may stay beside @used bytes that are needed. */
static uint64_t
allowed_rubbish(const KvssPruneOptions *options, uint64_t used)
{
    double percent = options->max_unused_percent;

    if (percent < 0)
        return options->max_unused_bytes;
    if (percent >= 100)
        return UINT64_MAX;
    return (uint64_t) (percent / (100 - percent) * (double) used);
}

static uint64_t
rubbish_of(const KvssPrunePack *pack)
{
    return pack->length - pack->kept;
}

static void
plan_whole(KvssPrunePack *pack, KvssPruneResult *result)
{
    pack->fate = pack->kept > 0 ? KVSS_PACK_KEEP : KVSS_PACK_REMOVE;
    if (pack->kept > 0)
        return;
    if (pack->size == 0) {
        result->packs_missing++;
    } else {
        result->packs_removed++;
        result->bytes_freed += pack->size;
    }
}

static void
plan_repack(KvssPrunePack *pack, KvssPruneResult *result)
{
    pack->fate = KVSS_PACK_REPACK;
    result->packs_repacked++;
    result->bytes_repacked += pack->kept;
    result->bytes_unused -= rubbish_of(pack);
    result->bytes_freed += pack->size - pack->kept;
}

void
kvss_prune_plan(KvssPrunePack *packs, size_t n, const KvssPruneOptions *options,
                KvssPruneResult *result)
{
    g_autoptr(GArray) candidates = g_array_new(FALSE, FALSE, sizeof(Candidate));
    uint64_t used = 0, allowed;

    for (uint32_t i = 0; i < n; i++) {
        KvssPrunePack *pack = &packs[i];

        plan_whole(pack, result);
        used += pack->kept;
        if (pack->fate == KVSS_PACK_KEEP && rubbish_of(pack) > 0) {
            Candidate candidate = { i, (double) rubbish_of(pack) / (double) pack->length };

            g_array_append_val(candidates, candidate);
            result->bytes_unused += rubbish_of(pack);
        }
    }
    g_array_sort(candidates, compare_candidates);
    allowed = allowed_rubbish(options, used);
    for (guint i = 0; i < candidates->len && result->bytes_unused > allowed; i++) {
        KvssPrunePack *pack = &packs[g_array_index(candidates, Candidate, i).pack];

        if (pack->kept <= options->max_repack_bytes - result->bytes_repacked)
            plan_repack(pack, result);
    }
}
