/*
 * index-build.c - a table in the making, within bounded memory however large it gets
 *
 *   packs ──▶ run (sorted in memory) ──▶ runs file ─┐
 *                     last run, in memory ──────────┼─▶ merge ──▶ table file
 *                     old table, mapped ────────────┘
 */
#include "base/fd.h"
#include "repository/format/id.h"
#include "repository/index/index-build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* 24 MiB of entries, and half as much again while they are sorted. */
#define RUN_MAX (512u << 10)

/* Entries read of a run at a time, and written of the table. */
#define READ_ENTRIES 2048u
#define WRITE_LENGTH (1u << 20)

struct KvssIndexBuild {
    char *path;             /* (nullable) */
    int file, runs;         /* the table; sorted runs end to end, -1: there are none yet */
    size_t run_max;
    GByteArray *index_ids, *pack_ids;
    GHashTable *numbers;    /* pack id -> number + 1 */
    GArray *entries;        /* KvssTableEntry: the run in the making */
    GArray *run_lengths;    /* gsize: entries of each run in the file */
    const KvssIndexTable *old; /* (nullable) borrowed */
    GError *error;          /* the first failure to write a run */
};

/* ---- files ---- */

/*
 * A file that has no name until it is whole, so that one who is killed leaves nothing;
 * where the file system cannot do that, or there is no folder, it is memory.
 */
static int
file_new(const char *path)
{
    g_autofree char *folder = path ? g_path_get_dirname(path) : NULL;
    int fd = -1;

    if (folder && g_mkdir_with_parents(folder, 0700) == 0)
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : memfd_create("kvss-index", MFD_CLOEXEC);
}

/* Best effort: without a cache all works, slower. Not synced: its checksum tells when it is not whole. */
static void
file_publish(int fd, const char *path)
{
    g_autofree char *here = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *beside = g_strdup_printf("%s.%d", path, (int) getpid());

    (void) unlink(beside);
    if (linkat(AT_FDCWD, here, AT_FDCWD, beside, AT_SYMLINK_FOLLOW) < 0
        || rename(beside, path) < 0) {
        g_debug("no index cache at %s: %s", path, g_strerror(errno));
        (void) unlink(beside);
    }
}

KvssIndexBuild *
kvss_index_build_new(const char *path, size_t run_max, GError **error)
{
    KvssIndexBuild *build;
    int file = file_new(path);

    if (file < 0) {
        kvss_throw_errno(error, errno, "make an index table");
        return NULL;
    }
    build = g_new0(KvssIndexBuild, 1);
    build->path = g_strdup(path);
    build->file = file;
    build->runs = -1;
    build->run_max = run_max ? run_max : RUN_MAX;
    build->index_ids = g_byte_array_new();
    build->pack_ids = g_byte_array_new();
    build->numbers = g_hash_table_new_full(kvss_id_hash, kvss_id_same, g_free, NULL);
    build->entries = g_array_new(FALSE, FALSE, sizeof(KvssTableEntry));
    build->run_lengths = g_array_new(FALSE, FALSE, sizeof(gsize));
    return build;
}

void
kvss_index_build_free(KvssIndexBuild *build)
{
    if (!build)
        return;
    kvss_fd_clear(&build->file);
    kvss_fd_clear(&build->runs);
    g_byte_array_unref(build->index_ids);
    g_byte_array_unref(build->pack_ids);
    g_hash_table_unref(build->numbers);
    g_array_unref(build->entries);
    g_array_unref(build->run_lengths);
    g_clear_error(&build->error);
    g_free(build->path);
    g_free(build);
}

/* ---- adding ---- */

static void
write_run(KvssIndexBuild *build)
{
    gsize n = build->entries->len;

    kvss_index_table_sort((KvssTableEntry *) (void *) build->entries->data, n);
    if (build->runs < 0)
        build->runs = file_new(build->path);
    if (build->runs < 0)
        kvss_throw_errno(&build->error, errno, "make an index table");
    else if (kvss_write_exact(build->runs, build->entries->data, n * sizeof(KvssTableEntry),
                              &build->error))
        g_array_append_val(build->run_lengths, n);
    g_array_set_size(build->entries, 0);
}

static uint32_t
pack_number(KvssIndexBuild *build, const uint8_t *pack)
{
    guint number = GPOINTER_TO_UINT(g_hash_table_lookup(build->numbers, pack));

    if (number == 0) {
        g_byte_array_append(build->pack_ids, pack, KVSS_ID_LENGTH);
        number = build->pack_ids->len / KVSS_ID_LENGTH;
        g_hash_table_insert(build->numbers, g_memdup2(pack, KVSS_ID_LENGTH),
                            GUINT_TO_POINTER(number));
    }
    return number - 1;
}

void
kvss_index_build_add_table(KvssIndexBuild *build, const KvssIndexTable *table)
{
    g_assert(!build->old && build->pack_ids->len == 0);
    build->old = table;
    g_byte_array_append(build->index_ids, table->index_ids,
                        (guint) (table->n_index_ids * KVSS_ID_LENGTH));
    for (size_t i = 0; i < table->n_pack_ids; i++)
        (void) pack_number(build, table->pack_ids + i * KVSS_ID_LENGTH);
}

void
kvss_index_build_add_index(KvssIndexBuild *build, const uint8_t id[KVSS_ID_LENGTH])
{
    g_byte_array_append(build->index_ids, id, KVSS_ID_LENGTH);
}

void
kvss_index_build_add_pack(const uint8_t pack[KVSS_ID_LENGTH], const GArray *entries, gpointer data)
{
    KvssIndexBuild *build = data;
    uint32_t number = pack_number(build, pack);

    for (guint i = 0; i < entries->len && !build->error; i++) {
        const KvssPackEntry *from = &g_array_index(entries, KvssPackEntry, i);
        KvssTableEntry to = {
            .pack = number | (from->is_tree ? KVSS_TABLE_TREE : 0),
            .offset = from->offset,
            .length = from->length,
            .plain_length = from->is_compressed ? from->plain_length : 0,
        };

        memcpy(to.id, from->id, KVSS_ID_LENGTH);
        g_array_append_val(build->entries, to);
        if (build->entries->len == build->run_max)
            write_run(build);
    }
}

/* ---- merging ---- */

/** One sorted row of entries. */
typedef struct {
    const KvssTableEntry *at, *end; /* at hand */
    KvssTableEntry *buffer;         /* (nullable) of a run in the file */
    uint64_t offset;                /* in the file, of what comes after the buffer */
    size_t left;                    /* entries in the file after it */
    uint64_t key;                   /* the first bytes of *at's id, as a number that sorts alike */
} Row;

static void
row_clear(gpointer data)
{
    g_free(((Row *) data)->buffer);
}

/* Makes *at valid, or at == end when the row is over. */
static bool
row_fill(const KvssIndexBuild *build, Row *row, GError **error)
{
    if (row->at == row->end && row->left > 0) {
        size_t n = MIN(row->left, READ_ENTRIES), length = n * sizeof(KvssTableEntry);

        if (!kvss_pread_exact(build->runs, row->buffer, length, row->offset, error))
            return false;
        row->at = row->buffer;
        row->end = row->buffer + n;
        row->offset += length;
        row->left -= n;
    }
    if (row->at != row->end) {
        memcpy(&row->key, row->at->id, sizeof row->key);
        row->key = GUINT64_FROM_BE(row->key);
    }
    return true;
}

static bool
row_add(const KvssIndexBuild *build, GArray *rows, Row row, GError **error)
{
    g_array_append_val(rows, row);
    return row_fill(build, &g_array_index(rows, Row, rows->len - 1), error);
}

static bool
rows_open(const KvssIndexBuild *build, GArray *rows, GError **error)
{
    const KvssTableEntry *last = (const KvssTableEntry *) (void *) build->entries->data;
    uint64_t offset = 0;
    bool ok = row_add(build, rows, (Row) { .at = last, .end = last + build->entries->len }, error);

    if (ok && build->old)
        ok = row_add(build, rows, (Row) { .at = build->old->entries,
                                          .end = build->old->entries + build->old->n_entries },
                     error);
    for (guint i = 0; ok && i < build->run_lengths->len; i++) {
        gsize n = g_array_index(build->run_lengths, gsize, i);

        ok = row_add(build, rows, (Row) { .buffer = g_new(KvssTableEntry, READ_ENTRIES),
                                          .offset = offset, .left = n }, error);
        offset += n * sizeof(KvssTableEntry);
    }
    return ok;
}

/* The row whose next entry is the smallest; NULL when all are over. There are few. */
static Row *
rows_smallest(GArray *rows)
{
    Row *best = NULL;

    for (guint i = 0; i < rows->len; i++) {
        Row *row = &g_array_index(rows, Row, i);

        if (row->at == row->end)
            continue;
        if (!best || row->key < best->key
            || (row->key == best->key && kvss_index_table_compare(row->at, best->at) < 0))
            best = row;
    }
    return best;
}

/** The table file, from its first byte behind the header. */
typedef struct {
    int fd;
    uint8_t *buffer;
    size_t n;
    uint64_t offset; /* of the buffer in the file */
} Writer;

static bool
writer_flush(Writer *writer, GError **error)
{
    if (!kvss_pwrite_exact(writer->fd, writer->buffer, writer->n, writer->offset, error))
        return false;
    writer->offset += writer->n;
    writer->n = 0;
    return true;
}

static bool
writer_add(Writer *writer, const void *data, size_t length, GError **error)
{
    const uint8_t *at = data;

    while (length > 0) {
        size_t part = MIN(length, WRITE_LENGTH - writer->n);

        memcpy(writer->buffer + writer->n, at, part);
        writer->n += part;
        at += part;
        length -= part;
        if (writer->n == WRITE_LENGTH && !writer_flush(writer, error))
            return false;
    }
    return true;
}

/* Equal entries are neighbours, and one of them is enough. */
static bool
write_entries(const KvssIndexBuild *build, GArray *rows, Writer *writer, uint64_t *out_n,
              GError **error)
{
    KvssTableEntry last = { 0 };
    uint64_t n = 0, n_read = 0;
    Row *row;

    while ((row = rows_smallest(rows)) != NULL) {
        if (n == 0 || kvss_index_table_compare(&last, row->at) != 0) {
            last = *row->at;
            n++;
            if (!writer_add(writer, &last, sizeof last, error))
                return false;
        }
        row->at++;
        if (!row_fill(build, row, error))
            return false;
        if (build->old && ++n_read % (1u << 20) == 0)
            kvss_index_table_let_go(build->old);
    }
    *out_n = n;
    return true;
}

static bool
write_table(const KvssIndexBuild *build, uint64_t *out_n, GError **error)
{
    g_autoptr(GArray) rows = g_array_new(FALSE, TRUE, sizeof(Row));
    g_autofree uint8_t *buffer = g_malloc(WRITE_LENGTH);
    Writer writer = { .fd = build->file, .buffer = buffer,
                      .offset = KVSS_TABLE_HEADER_LENGTH };

    g_array_set_clear_func(rows, row_clear);
    return rows_open(build, rows, error)
        && writer_add(&writer, build->index_ids->data, build->index_ids->len, error)
        && writer_add(&writer, build->pack_ids->data, build->pack_ids->len, error)
        && write_entries(build, rows, &writer, out_n, error) && writer_flush(&writer, error);
}

KvssIndexTable *
kvss_index_build_finish(KvssIndexBuild *build, GError **error)
{
    KvssIndexTable *table;
    uint64_t n_entries;

    if (build->error) {
        g_propagate_error(error, g_steal_pointer(&build->error));
        return NULL;
    }
    kvss_index_table_sort((KvssTableEntry *) (void *) build->entries->data, build->entries->len);
    if (!write_table(build, &n_entries, error))
        return NULL;
    g_array_set_size(build->entries, 0);
    table = kvss_index_table_seal(build->file, build->index_ids->len / KVSS_ID_LENGTH,
                                  build->pack_ids->len / KVSS_ID_LENGTH, n_entries, error);
    if (table && build->path)
        file_publish(build->file, build->path);
    return table;
}
