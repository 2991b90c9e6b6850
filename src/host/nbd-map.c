/*
 * nbd-map.c - what an NBD server says of an export's bytes without sending them
 *
 *   base:allocation    |  data   |   zeroes    | data |
 *   the bitmap         | unchanged  |  changed | unch…|
 *   extents            |    u    |uz|    z     |  u   |
 *
 * The server answers for each context by itself, with borders of its own, and
 * need not come equally far: what only one of them covers is asked for again.
 */
#include "host/nbd-map.h"
#include "stream/source.h"

#include <string.h>

#define MAP_STEP (G_GUINT64_CONSTANT(1) << 30)
#define FLAG_ZERO 2u  /* base:allocation: reads as zeroes. The hole flag says nothing of that. */
#define FLAG_DIRTY 1u /* a bitmap: may have been written since */

/** What one context says of the range asked for. */
typedef struct {
    const char *name;   /* (nullable) not asked for: all its flags are `otherwise` */
    uint32_t otherwise;
    GArray *runs;       /* Run */
} Context;

typedef struct {
    uint32_t length;
    uint32_t flags;
} Run;

typedef struct {
    uint64_t offset;
    Context base, changes;
    bool is_wrong;      /* the server's answer makes no sense */
} MapAnswer;

static int
take_map(void *data, const char *name, uint64_t offset, uint32_t *entries, size_t n_entries,
         int *error)
{
    MapAnswer *answer = data;
    Context *context = g_strcmp0(name, answer->base.name) == 0      ? &answer->base
                       : g_strcmp0(name, answer->changes.name) == 0 ? &answer->changes
                                                                    : NULL;

    if (!context)
        return 0;
    if (offset != answer->offset || context->runs->len > 0)
        answer->is_wrong = true;
    for (size_t i = 0; i + 1 < n_entries; i += 2) {
        Run run = { entries[i], entries[i + 1] };

        if (run.length == 0)
            answer->is_wrong = true;
        g_array_append_val(context->runs, run);
    }
    return 0;
}

/* The next run of a context, of at most @left bytes; false at the end of its answer. */
static bool
next_run(const Context *context, guint *inout_number, uint64_t *inout_used, uint64_t left,
         uint64_t *out_length, uint32_t *out_flags)
{
    const Run *run;

    *out_length = left;
    *out_flags = context->otherwise;
    if (!context->name)
        return true;
    if (*inout_number < context->runs->len
        && *inout_used == g_array_index(context->runs, Run, *inout_number).length) {
        ++*inout_number;
        *inout_used = 0;
    }
    if (*inout_number == context->runs->len)
        return false;
    run = &g_array_index(context->runs, Run, *inout_number);
    *out_length = MIN(left, run->length - *inout_used);
    *out_flags = run->flags;
    return true;
}

static void
merge(const MapAnswer *answer, uint64_t length, GArray *out_extents)
{
    guint base_number = 0, changes_number = 0;
    uint64_t base_used = 0, changes_used = 0, at = answer->offset, end = at + length;

    while (at < end) {
        uint64_t base_length, changes_length;
        uint32_t base_flags, changes_flags;
        KvssExtent extent = { .offset = at };

        if (!next_run(&answer->base, &base_number, &base_used, end - at, &base_length, &base_flags)
            || !next_run(&answer->changes, &changes_number, &changes_used, end - at,
                         &changes_length, &changes_flags))
            return;
        extent.length = MIN(base_length, changes_length);
        extent.zero = base_flags & FLAG_ZERO;
        extent.unchanged = !(changes_flags & FLAG_DIRTY);
        g_array_append_val(out_extents, extent);
        at += extent.length;
        base_used += extent.length;
        changes_used += extent.length;
    }
}

static bool
ask(KvssNbdClient *client, MapAnswer *answer, uint64_t length, GError **error)
{
    nbd_extent_callback on_extent = { .callback = take_map, .user_data = answer };
    int64_t cookie;

    if (!kvss_nbd_client_check(client, error))
        return false;
    cookie = nbd_aio_block_status(client->nbd, length, answer->offset, on_extent,
                                  kvss_nbd_client_completion(client), 0);
    return kvss_nbd_client_sent(client, cookie, error)
           && kvss_nbd_client_wait(client, 0, KVSS_NBD_SILENCE_MS, error);
}

bool
kvss_nbd_map(KvssNbdClient *client, uint64_t offset, uint64_t length, GArray *out_extents,
             GError **error)
{
    g_autoptr(GArray) base = g_array_new(FALSE, FALSE, sizeof(Run));
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(Run));
    MapAnswer answer = {
        .offset = offset,
        .base = { client->has_map ? LIBNBD_CONTEXT_BASE_ALLOCATION : NULL, 0, base },
        .changes = { client->changes, FLAG_DIRTY, changes },
    };
    guint before = out_extents->len;

    length = MIN(length, MAP_STEP);
    if ((answer.base.name || answer.changes.name) && !ask(client, &answer, length, error))
        return false;
    if (!answer.is_wrong)
        merge(&answer, length, out_extents);
    if (out_extents->len == before)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID,
                          "NBD export '%s': the server's map at byte %" G_GUINT64_FORMAT
                          " makes no sense",
                          client->export_name, offset);
    return true;
}
