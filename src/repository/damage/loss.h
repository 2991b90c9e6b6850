/*
 * loss.h - what backups have lost, and the note of it in the repository
 *
 * The note is a snapshot of its own, tagged "kvss-damage", with one file:
 * damage.json. So restic shows and copies it like any other, no backup is changed,
 * and it can be taken back by removing it. It says of each file that lost something
 * which blobs those were: as soon as all of them are in the index again, because a
 * later backup stored them anew, the file is whole and the note does not count.
 * It also names the packs that repair set aside: an index that is made anew must
 * not name them.
 */
#pragma once

#include "repository/repository-private.h"

#define KVSS_DAMAGE_TAG "kvss-damage"
#define KVSS_DAMAGE_FILE "damage.json"

typedef struct {
    GPtrArray *losses;       /* KvssLoss */
    GByteArray *packs;       /* ids of the packs set aside */
    GPtrArray *snapshot_ids; /* char*: of all notes there are; the newest is last, and is what was read */
} KvssDamageNote;

KvssDamageNote *kvss_damage_note_new(void);
void kvss_damage_note_free(KvssDamageNote *note);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssDamageNote, kvss_damage_note_free)

/** The newest note; an empty one when there is none. One that cannot be read is an error. */
KvssDamageNote *kvss_damage_note_read(KvssRepository *repository, GError **error);

/** The JSON of damage.json, both ways. Errors: CORRUPT: it comes from outside. */
GString *kvss_damage_note_text(const KvssDamageNote *note);
bool kvss_damage_note_parse(KvssDamageNote *note, const void *text, size_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_damage_note_replace:
 * @old: as it was read
 *
 * Stores @note, unless it says nothing or the same, then removes the notes before it.
 * The repository is open with REMOVE.
 */
bool kvss_damage_note_replace(KvssRepository *repository, const KvssDamageNote *old,
                              const KvssDamageNote *note, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Would kvss_damage_note_replace() remove a snapshot? */
bool kvss_damage_note_removes(const KvssDamageNote *old, const KvssDamageNote *note);

/** What the walk below asks: where blobs are. */
typedef struct {
    bool (*is_there)(bool is_tree, const uint8_t id[KVSS_ID_LENGTH], gpointer data);
    /* The plain length of a data blob, there or not; 0 when nobody knows. */
    uint32_t (*length_of)(const uint8_t id[KVSS_ID_LENGTH], gpointer data);
    GBytes *(*read_tree)(const uint8_t id[KVSS_ID_LENGTH], gpointer data, GError **error);
    gpointer data;
    GCancellable *cancellable; /* (nullable) */
} KvssLossWalk;

/** What each of @snapshots (KvssSnapshot; notes are passed over) has lost. (element-type KvssLoss) */
GPtrArray *kvss_loss_walk(const GPtrArray *snapshots, const KvssLossWalk *walk, GError **error);
