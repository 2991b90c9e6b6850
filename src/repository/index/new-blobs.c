/*
 * new-blobs.c - the blobs that this run adds, known before any index file names them
 *
 * Each shard is a hash table with open addressing; ids are hashes already, so
 * their own bytes choose shard and place.
 */
#include "repository/format/id.h"
#include "repository/index/new-blobs.h"

#include <string.h>

#define N_SHARDS 16u
#define SLOTS_AT_FIRST 256u

enum { SLOT_EMPTY, SLOT_CLAIMED, SLOT_STORED };

typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint32_t pack; /* number in KvssNewBlobs.packs */
    uint32_t offset, length, plain_length;
    uint8_t state, is_tree, is_compressed;
} Slot;

typedef struct {
    GMutex lock;
    Slot *slots;
    size_t n_slots, n_used; /* n_slots: a power of two */
} Shard;

struct KvssNewBlobs {
    Shard shards[N_SHARDS];
    GMutex packs_lock; /* taken inside a shard's lock, never around one */
    GByteArray *packs; /* ids, end to end */
};

KvssNewBlobs *
kvss_new_blobs_new(void)
{
    KvssNewBlobs *blobs = g_new0(KvssNewBlobs, 1);

    for (unsigned i = 0; i < N_SHARDS; i++)
        g_mutex_init(&blobs->shards[i].lock);
    g_mutex_init(&blobs->packs_lock);
    blobs->packs = g_byte_array_new();
    return blobs;
}

void
kvss_new_blobs_free(KvssNewBlobs *blobs)
{
    if (!blobs)
        return;
    for (unsigned i = 0; i < N_SHARDS; i++) {
        g_free(blobs->shards[i].slots);
        g_mutex_clear(&blobs->shards[i].lock);
    }
    g_mutex_clear(&blobs->packs_lock);
    g_byte_array_unref(blobs->packs);
    g_free(blobs);
}

static Shard *
shard_of(KvssNewBlobs *blobs, const uint8_t *id)
{
    return &blobs->shards[id[0] % N_SHARDS];
}

/* The slot that has the blob, or the empty one where it belongs. */
static Slot *
probe(Slot *slots, size_t n_slots, bool is_tree, const uint8_t *id)
{
    uint64_t at;

    memcpy(&at, id + 8, sizeof at);
    for (;; at++) {
        Slot *slot = &slots[at & (n_slots - 1)];

        if (slot->state == SLOT_EMPTY
            || (slot->is_tree == is_tree && kvss_id_equal(slot->id, id)))
            return slot;
    }
}

/* Into @n_slots new slots, without those in @state_dropped. */
static void
shard_rebuild(Shard *shard, size_t n_slots, int state_dropped)
{
    Slot *old = shard->slots;
    size_t n_old = shard->n_slots;

    shard->slots = g_new0(Slot, n_slots);
    shard->n_slots = n_slots;
    shard->n_used = 0;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].state == SLOT_EMPTY || old[i].state == state_dropped)
            continue;
        *probe(shard->slots, n_slots, old[i].is_tree, old[i].id) = old[i];
        shard->n_used++;
    }
    g_free(old);
}

/* The blob's slot, made when absent. At most two thirds are used, so that probing ends soon. */
static Slot *
shard_slot(Shard *shard, bool is_tree, const uint8_t *id)
{
    Slot *slot;

    if (shard->n_used * 3 >= shard->n_slots * 2)
        shard_rebuild(shard, shard->n_slots ? 2 * shard->n_slots : SLOTS_AT_FIRST, SLOT_EMPTY);
    slot = probe(shard->slots, shard->n_slots, is_tree, id);
    if (slot->state == SLOT_EMPTY) {
        memcpy(slot->id, id, KVSS_ID_LENGTH);
        slot->is_tree = is_tree;
        shard->n_used++;
    }
    return slot;
}

bool
kvss_new_blobs_claim(KvssNewBlobs *blobs, bool is_tree, const uint8_t id[KVSS_ID_LENGTH])
{
    Shard *shard = shard_of(blobs, id);
    Slot *slot;
    bool is_new;

    g_mutex_lock(&shard->lock);
    slot = shard_slot(shard, is_tree, id);
    is_new = slot->state == SLOT_EMPTY;
    if (is_new)
        slot->state = SLOT_CLAIMED;
    g_mutex_unlock(&shard->lock);
    return is_new;
}

static uint32_t
add_pack(KvssNewBlobs *blobs, const uint8_t *pack)
{
    uint32_t number;

    g_mutex_lock(&blobs->packs_lock);
    number = blobs->packs->len / KVSS_ID_LENGTH;
    g_byte_array_append(blobs->packs, pack, KVSS_ID_LENGTH);
    g_mutex_unlock(&blobs->packs_lock);
    return number;
}

void
kvss_new_blobs_add(KvssNewBlobs *blobs, const uint8_t pack[KVSS_ID_LENGTH],
                   const KvssPackEntry *entries, size_t n)
{
    uint32_t number = add_pack(blobs, pack);

    for (size_t i = 0; i < n; i++) {
        const KvssPackEntry *entry = &entries[i];
        Shard *shard = shard_of(blobs, entry->id);
        Slot *slot;

        g_mutex_lock(&shard->lock);
        slot = shard_slot(shard, entry->is_tree, entry->id);
        slot->pack = number;
        slot->offset = entry->offset;
        slot->length = entry->length;
        slot->plain_length = entry->plain_length;
        slot->is_compressed = entry->is_compressed;
        slot->state = SLOT_STORED;
        g_mutex_unlock(&shard->lock);
    }
}

static void
locate(KvssNewBlobs *blobs, const Slot *slot, KvssBlobLocation *out_location)
{
    *out_location = (KvssBlobLocation) {
        .offset = slot->offset,
        .length = slot->length,
        .plain_length = slot->plain_length,
        .is_compressed = slot->is_compressed,
    };
    g_mutex_lock(&blobs->packs_lock);
    memcpy(out_location->pack, blobs->packs->data + (size_t) slot->pack * KVSS_ID_LENGTH,
           KVSS_ID_LENGTH);
    g_mutex_unlock(&blobs->packs_lock);
}

bool
kvss_new_blobs_find(KvssNewBlobs *blobs, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                    KvssBlobLocation *out_location)
{
    Shard *shard = shard_of(blobs, id);
    bool found = false;

    g_mutex_lock(&shard->lock);
    if (shard->n_slots > 0) {
        const Slot *slot = probe(shard->slots, shard->n_slots, is_tree, id);

        found = slot->state == SLOT_STORED;
        if (found)
            locate(blobs, slot, out_location);
    }
    g_mutex_unlock(&shard->lock);
    return found;
}

void
kvss_new_blobs_drop_claims(KvssNewBlobs *blobs)
{
    for (unsigned i = 0; i < N_SHARDS; i++) {
        Shard *shard = &blobs->shards[i];

        g_mutex_lock(&shard->lock);
        if (shard->n_slots > 0)
            shard_rebuild(shard, shard->n_slots, SLOT_CLAIMED);
        g_mutex_unlock(&shard->lock);
    }
}

void
kvss_new_blobs_clear(KvssNewBlobs *blobs)
{
    for (unsigned i = 0; i < N_SHARDS; i++) {
        Shard *shard = &blobs->shards[i];

        g_mutex_lock(&shard->lock);
        g_clear_pointer(&shard->slots, g_free);
        shard->n_slots = shard->n_used = 0;
        g_mutex_unlock(&shard->lock);
    }
    g_mutex_lock(&blobs->packs_lock);
    g_byte_array_set_size(blobs->packs, 0);
    g_mutex_unlock(&blobs->packs_lock);
}
