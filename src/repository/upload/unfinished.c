/*
 * unfinished.c - uploads that ended without an index for their last packs, gone on with
 *
 * A pack has its name only when it is whole, its header lies at its end and is
 * sealed: one that can be opened says what is before it. The name of a pack that
 * another process stored may not be durable yet, which the backend is told, so
 * that the sync before our index file covers it.
 *
 * Packs that repair set aside are named by no index either, and their headers may
 * well be sound: they are left alone.
 */
#include "base/fd.h"
#include "repository/damage/loss.h"
#include "repository/file/pack.h"
#include "repository/upload/unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Read from the end of a pack at first: the header of 600 blobs, which is more than ours have. */
#define TAIL_LENGTH (32u << 10)

struct KvssUnfinished {
    char *path;
    int fd;
};

static char *
records_folder(const KvssRepository *repository)
{
    return g_build_filename(repository->state_dir, "uploads", NULL);
}

KvssUnfinished *
kvss_unfinished_new(KvssRepository *repository, GError **error)
{
    g_autofree char *folder = records_folder(repository);
    g_autofree char *path
        = g_strdup_printf("%s/%s-%08x", folder, repository->id, g_random_int());
    kvss_autofd int fd = -1;
    KvssUnfinished *unfinished;

    if (!kvss_make_folders(folder, 0700, error))
        return NULL;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        kvss_throw_errno(error, errno, "create %s", path);
        return NULL;
    }
    if (!kvss_fsync_folder(folder, error))
        return NULL;
    unfinished = g_new0(KvssUnfinished, 1);
    unfinished->path = g_steal_pointer(&path);
    unfinished->fd = kvss_fd_steal(&fd);
    return unfinished;
}

void
kvss_unfinished_end(KvssUnfinished *unfinished, bool is_complete)
{
    if (!unfinished)
        return;
    if (is_complete)
        (void) unlink(unfinished->path);
    kvss_fd_clear(&unfinished->fd);
    g_free(unfinished->path);
    g_free(unfinished);
}

/* ---- packs that no index names ---- */

static bool
is_adoptable(KvssRepository *repository, const GArray *entries)
{
    bool is_new = false;

    for (guint i = 0; i < entries->len; i++) {
        const KvssPackEntry *entry = &g_array_index(entries, KvssPackEntry, i);

        if (kvss_index_claim(repository->index, entry->is_tree, entry->id))
            is_new = true;
    }
    return is_new;
}

/* The sealed header, from the last @have bytes of a pack. NULL: it is longer than that. */
static GArray *
open_tail(KvssRepository *repository, uint8_t *tail, size_t have, uint32_t *out_length,
          GError **error)
{
    g_autoptr(KvssCodec) codec = kvss_codec_take(repository->codecs);
    uint32_t le;

    memcpy(&le, tail + have - 4, sizeof le);
    *out_length = GUINT32_FROM_LE(le);
    if (*out_length > have - 4 || *out_length < KVSS_CRYPTO_OVERHEAD)
        return NULL;
    return kvss_pack_header_open(codec, tail + have - 4 - *out_length, *out_length, error);
}

static GArray *
read_entries_from(KvssRepository *repository, const char *name, uint64_t size, size_t have,
                  uint32_t *out_length, GError **error)
{
    g_autofree uint8_t *tail = g_malloc(have);

    *out_length = 0;
    if (!kvss_backend_read(repository->backend, KVSS_FILE_DATA, name, size - have, tail, have,
                           error))
        return NULL;
    return open_tail(repository, tail, have, out_length, error);
}

/* NULL, without an error, for what is no pack of this repository or not whole. */
static GArray *
read_entries(KvssRepository *repository, const char *name, uint64_t size, GError **error)
{
    size_t have = (size_t) MIN(size, TAIL_LENGTH);
    uint32_t length;
    GArray *entries;

    if (size < KVSS_PACK_HEADER_FRAME)
        return NULL;
    entries = read_entries_from(repository, name, size, have, &length, error);
    if (entries || (error && *error) || length < have - 4 || length > KVSS_PACK_HEADER_MAX
        || length > size - 4)
        return entries;
    return read_entries_from(repository, name, size, length + 4, &length, error);
}

/* Do the blobs and the header fill the file? */
static bool
is_filled(const GArray *entries, uint64_t size)
{
    uint64_t length = kvss_pack_header_length((const KvssPackEntry *) (void *) entries->data,
                                              entries->len);

    for (guint i = 0; i < entries->len; i++)
        length += g_array_index(entries, KvssPackEntry, i).length;
    return entries->len > 0 && length == size;
}

static void
adopt_pack(KvssRepository *repository, KvssPacker *packer, const KvssStoredFile *file)
{
    g_autoptr(GArray) entries = NULL;
    g_autoptr(GError) why = NULL;
    char name[KVSS_ID_HEX_LENGTH + 1];
    KvssIndexedPack indexed;

    kvss_id_to_hex(file->id, name);
    entries = read_entries(repository, name, file->size, &why);
    if (!entries || !is_filled(entries, file->size)) {
        g_debug("pack %.8s, which no index names, is left alone: %s", name,
                why ? why->message : "it is not whole");
        return;
    }
    if (!is_adoptable(repository, entries))
        return;
    memcpy(indexed.id, file->id, sizeof indexed.id);
    indexed.entries = g_steal_pointer(&entries);
    kvss_backend_count_on(repository->backend, KVSS_FILE_DATA, name);
    kvss_packer_adopt(packer, &indexed);
}

static void
add_ids(GHashTable *set, const GByteArray *ids)
{
    for (guint at = 0; at + KVSS_ID_LENGTH <= ids->len; at += KVSS_ID_LENGTH)
        g_hash_table_add(set, ids->data + at);
}

static bool
adopt_packs(KvssRepository *repository, KvssPacker *packer, GError **error)
{
    g_autoptr(KvssDamageNote) note = kvss_damage_note_read(repository, error);
    g_autoptr(GArray) files
        = note ? kvss_backend_list(repository->backend, KVSS_FILE_DATA, error) : NULL;
    g_autoptr(GHashTable) known = g_hash_table_new(kvss_id_hash, kvss_id_same);
    g_autoptr(GByteArray) ids = NULL;

    if (!files)
        return false;
    ids = kvss_index_pack_ids(repository->index);
    add_ids(known, ids);
    add_ids(known, note->packs);
    for (guint i = 0; i < files->len; i++) {
        const KvssStoredFile *file = &g_array_index(files, KvssStoredFile, i);

        if (!g_hash_table_contains(known, file->id))
            adopt_pack(repository, packer, file);
    }
    return true;
}

/* ---- records of the dead ---- */

/* Locked: nobody else goes on with it. -1: its upload lives, or it is gone. */
static int
open_dead(const char *path)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? kvss_fd_steal(&fd) : -1;
}

static void
dead_free(gpointer data)
{
    kvss_unfinished_end(data, false);
}

static GPtrArray *
dead_records(const KvssRepository *repository)
{
    GPtrArray *dead = g_ptr_array_new_with_free_func(dead_free);
    g_autofree char *folder = records_folder(repository);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        int fd = g_str_has_prefix(name, repository->id) ? open_dead(path) : -1;
        KvssUnfinished *record;

        if (fd < 0)
            continue;
        record = g_new0(KvssUnfinished, 1);
        record->path = g_steal_pointer(&path);
        record->fd = fd;
        g_ptr_array_add(dead, record);
    }
    return dead;
}

/* From here on the new upload's own record stands for what was adopted. */
void
kvss_unfinished_adopt(KvssRepository *repository, KvssPacker *packer)
{
    g_autoptr(GPtrArray) dead = NULL;
    g_autoptr(GError) error = NULL;

    if (repository->mode == KVSS_REPOSITORY_REMOVE)
        return;
    dead = dead_records(repository);
    if (dead->len == 0)
        return;
    if (!adopt_packs(repository, packer, &error)) {
        g_debug("an upload that was interrupted is not gone on with: %s", error->message);
        return;
    }
    for (guint i = 0; i < dead->len; i++)
        (void) unlink(((KvssUnfinished *) g_ptr_array_index(dead, i))->path);
}
