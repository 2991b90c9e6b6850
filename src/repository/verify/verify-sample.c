/*
 * verify-sample.c - which packs a sample reads
 *
 * Each pack gets a random number u from the seed and its own name; those with
 * the smallest -ln(u) / size are drawn. That is drawing one by one without putting
 * back, with chances in proportion to size (Efraimidis and Spirakis, 2006): damage
 * in a byte anywhere is as likely to be met as in any other.
 */
#include "repository/verify/verify.h"

#include <math.h>
#include <string.h>

typedef struct {
    KvssVerifyPack pack;
    double key;
} Ticket;

bool
kvss_verify_has_sample(const KvssVerifyOptions *options)
{
    return options->read_data && (options->sample_share > 0 || options->sample_bytes > 0);
}

/* From the open interval (0, 1): its logarithm is finite and not 0. */
static double
random_number(uint32_t seed, const uint8_t *pack)
{
    uint8_t text[4 + KVSS_ID_LENGTH], hash[KVSS_ID_LENGTH];
    uint32_t le = GUINT32_TO_LE(seed), bits;

    memcpy(text, &le, 4);
    memcpy(text + 4, pack, KVSS_ID_LENGTH);
    kvss_id_of(text, sizeof text, hash);
    memcpy(&bits, hash, 4);
    return (GUINT32_FROM_LE(bits) + 0.5) / 4294967296.0;
}

static int
compare_tickets(gconstpointer a, gconstpointer b)
{
    const Ticket *one = a, *two = b;

    return one->key < two->key ? -1 : one->key > two->key;
}

static uint64_t
amount(const GArray *packs, const KvssVerifyOptions *options)
{
    uint64_t total = 0;

    if (options->sample_bytes > 0)
        return options->sample_bytes;
    for (guint i = 0; i < packs->len; i++)
        total += g_array_index(packs, KvssVerifyPack, i).size;
    return (uint64_t) ceil((double) total * MIN(options->sample_share, 1));
}

void
kvss_verify_draw_sample(GArray *packs, const KvssVerifyOptions *options)
{
    g_autoptr(GArray) tickets = g_array_new(FALSE, FALSE, sizeof(Ticket));
    uint64_t wanted = amount(packs, options), drawn = 0;

    for (guint i = 0; i < packs->len; i++) {
        Ticket ticket = { .pack = g_array_index(packs, KvssVerifyPack, i) };

        ticket.key = -log(random_number(options->sample_seed, ticket.pack.id))
            / (double) ticket.pack.size;
        g_array_append_val(tickets, ticket);
    }
    g_array_sort(tickets, compare_tickets);
    g_array_set_size(packs, 0);
    for (guint i = 0; i < tickets->len && drawn < wanted; i++) {
        const Ticket *ticket = &g_array_index(tickets, Ticket, i);

        g_array_append_val(packs, ticket->pack);
        drawn += ticket->pack.size;
    }
}
