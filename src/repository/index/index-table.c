/*
 * index-table.c - all blobs of a set of index files, sorted, ready to be mapped
 */
#include "base/fd.h"
#include "repository/format/crypto.h"
#include "repository/format/id.h"
#include "repository/index/index-table.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The last digits count the layouts; a number in native order follows as the mark of byte order. */
#define MAGIC "kvssix02"
#define BYTE_ORDER_MARK 0x01020304u

/*
 * A look-up asks the keys, which are in memory, for the block, and finds the rest in there. Of a
 * table larger than this the block is read instead of mapped: pages that are looked at all over a
 * mapping would all be this process's memory in the end, and cost more to bring and let go of.
 */
#define READ_FROM (128u << 20)
#define BLOCK_ENTRIES 64u /* 3 KiB: one page or two */

typedef struct {
    char magic[8];
    uint32_t byte_order;
    uint32_t entry_size;
    uint64_t n_index_ids, n_pack_ids, n_entries;
} Header;

G_STATIC_ASSERT(sizeof(KvssTableEntry) == 48);
G_STATIC_ASSERT(sizeof(Header) == KVSS_TABLE_HEADER_LENGTH);

void
kvss_index_table_free(KvssIndexTable *table)
{
    if (!table)
        return;
    (void) munmap(table->mapped, table->length);
    kvss_fd_clear(&table->fd);
    g_free(table->keys);
    g_free(table);
}

/* The mapping is read only and of a file, or of memory that is a file: nothing is lost. */
void
kvss_index_table_let_go(const KvssIndexTable *table)
{
    (void) madvise(table->mapped, table->length, MADV_DONTNEED);
}

/* Sizes in a file are bounded before they are added up. */
static bool
header_fits(const Header *header, size_t size)
{
    uint64_t max = size / KVSS_ID_LENGTH;

    return memcmp(header->magic, MAGIC, sizeof header->magic) == 0
        && header->byte_order == BYTE_ORDER_MARK && header->entry_size == sizeof(KvssTableEntry)
        && header->n_index_ids <= max && header->n_pack_ids <= max && header->n_entries <= max
        && sizeof *header + (header->n_index_ids + header->n_pack_ids + 1) * KVSS_ID_LENGTH
                + header->n_entries * sizeof(KvssTableEntry) == size;
}

/* False when its parts do not fit together. */
static bool
read_header(int fd, Header *out_header)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_size >= (off_t) sizeof *out_header
        && kvss_pread_exact(fd, out_header, sizeof *out_header, 0, NULL)
        && header_fits(out_header, (size_t) st.st_size);
}

static uint64_t
entries_offset(const Header *header)
{
    return sizeof *header + (header->n_index_ids + header->n_pack_ids) * KVSS_ID_LENGTH;
}

/* Of everything but the checksum. */
static uint64_t
hashed_length(const Header *header)
{
    return entries_offset(header) + header->n_entries * sizeof(KvssTableEntry);
}

static size_t
count_blocks(uint64_t n_entries)
{
    return (size_t) ((n_entries + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES);
}

/* Of a file whose checksum is right. @keys is taken. */
static KvssIndexTable *
table_of_file(int fd, const Header *header, uint64_t *keys)
{
    size_t length = hashed_length(header) + KVSS_ID_LENGTH;
    uint8_t *data = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    int own = data == MAP_FAILED ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    KvssIndexTable *table;

    if (own < 0) {
        if (data != MAP_FAILED)
            (void) munmap(data, length);
        g_free(keys);
        return NULL;
    }
    table = g_new0(KvssIndexTable, 1);
    table->mapped = data;
    table->length = length;
    table->fd = own;
    table->is_read = length > READ_FROM;
    table->keys = keys;
    table->n_index_ids = header->n_index_ids;
    table->n_pack_ids = header->n_pack_ids;
    table->n_entries = header->n_entries;
    table->index_ids = data + sizeof *header;
    table->pack_ids = table->index_ids + table->n_index_ids * KVSS_ID_LENGTH;
    table->entries = (const void *) (data + entries_offset(header));
    return table;
}

int
kvss_index_table_compare(const KvssTableEntry *a, const KvssTableEntry *b)
{
    int order = memcmp(a->id, b->id, KVSS_ID_LENGTH);

    if (order == 0)
        order = a->pack < b->pack ? -1 : a->pack > b->pack;
    if (order == 0)
        order = a->offset < b->offset ? -1 : a->offset > b->offset;
    return order;
}

static int
compare_entries(const void *a, const void *b)
{
    return kvss_index_table_compare(a, b);
}

void
kvss_index_table_sort(KvssTableEntry *entries, size_t n)
{
    if (n > 0)
        qsort(entries, n, sizeof *entries, compare_entries);
}

/* The first bytes of an id as a number that sorts alike. */
static uint64_t
key_of(const uint8_t *id)
{
    uint64_t key;

    memcpy(&key, id, sizeof key);
    return GUINT64_FROM_BE(key);
}

/*
 * The keys of the blocks that begin in @part, which lies at @at in the file. No key
 * lies across the end of a part: what is before it are ids, parts and blocks are
 * multiples of 32 bytes.
 */
static void
note_keys(const uint8_t *part, uint64_t at, size_t length, const Header *header, uint64_t *keys)
{
    const uint64_t block = BLOCK_ENTRIES * sizeof(KvssTableEntry), first = entries_offset(header);
    size_t n = count_blocks(header->n_entries);
    size_t i = at > first ? (size_t) ((at - first + block - 1) / block) : 0;

    for (; i < n && first + i * block < at + length; i++)
        keys[i] = key_of(part + (first + i * block - at));
}

/*
 * The checksum is computed by reading, not through the mapping: the pages of a
 * large table then do not all become memory of this process. @keys: a number for
 * each block.
 */
static bool
file_hash(int fd, const Header *header, uint64_t *keys, uint8_t out_id[KVSS_ID_LENGTH])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    g_autofree uint8_t *buffer = g_malloc(1u << 20);
    uint64_t at = sizeof *header, length = hashed_length(header);
    bool ok = EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) == 1;

    while (ok && at < length) {
        size_t part = MIN(length - at, 1u << 20);

        ok = kvss_pread_exact(fd, buffer, part, at, NULL)
            && EVP_DigestUpdate(hash, buffer, part) == 1;
        if (ok)
            note_keys(buffer, at, part, header, keys);
        at += part;
    }
    ok = ok && EVP_DigestUpdate(hash, header, sizeof *header) == 1
        && EVP_DigestFinal_ex(hash, out_id, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return ok;
}

/* Is all of it what was written? Fills @keys. */
static bool
file_is_sound(int fd, const Header *header, uint64_t *keys)
{
    uint8_t stored[KVSS_ID_LENGTH], found[KVSS_ID_LENGTH];

    return kvss_pread_exact(fd, stored, sizeof stored, hashed_length(header), NULL)
        && file_hash(fd, header, keys, found) && kvss_id_equal(stored, found);
}

KvssIndexTable *
kvss_index_table_map(const char *path)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autofree uint64_t *keys = NULL;
    Header header;

    if (fd < 0)
        return NULL;
    if (read_header(fd, &header)) {
        keys = g_new0(uint64_t, count_blocks(header.n_entries) + 1);
        if (file_is_sound(fd, &header, keys))
            return table_of_file(fd, &header, g_steal_pointer(&keys));
    }
    g_debug("the index cache %s is damaged and is made anew", path);
    return NULL;
}

KvssIndexTable *
kvss_index_table_seal(int fd, uint64_t n_index_ids, uint64_t n_pack_ids, uint64_t n_entries,
                      GError **error)
{
    Header header = {
        .byte_order = BYTE_ORDER_MARK, .entry_size = sizeof(KvssTableEntry),
        .n_index_ids = n_index_ids, .n_pack_ids = n_pack_ids, .n_entries = n_entries,
    };
    g_autofree uint64_t *keys = g_new0(uint64_t, count_blocks(n_entries) + 1);
    KvssIndexTable *table = NULL;
    uint8_t hash[KVSS_ID_LENGTH];

    memcpy(header.magic, MAGIC, sizeof header.magic);
    if (!kvss_pwrite_exact(fd, &header, sizeof header, 0, error))
        return NULL;
    if (file_hash(fd, &header, keys, hash)) {
        if (!kvss_pwrite_exact(fd, hash, sizeof hash, hashed_length(&header), error))
            return NULL;
        table = table_of_file(fd, &header, g_steal_pointer(&keys));
    }
    if (!table)
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "the index table that was written cannot be read: %s", g_strerror(errno));
    return table;
}

/** The entries of one block after the other. */
typedef struct {
    const KvssIndexTable *table;
    size_t block;                  /* at hand; SIZE_MAX: none yet */
    const KvssTableEntry *entries; /* of it */
    KvssTableEntry buffer[BLOCK_ENTRIES];
} Reader;

/* What cannot be read is looked for in the mapping, whose fault is as loud as any. */
static const KvssTableEntry *
entry_at(Reader *reader, size_t number)
{
    const KvssIndexTable *table = reader->table;
    size_t block = number / BLOCK_ENTRIES, first = block * BLOCK_ENTRIES;

    if (block != reader->block) {
        size_t n = MIN(table->n_entries - first, BLOCK_ENTRIES);
        uint64_t offset = (uint64_t) ((const uint8_t *) (table->entries + first)
                                      - (const uint8_t *) table->mapped);

        reader->block = block;
        reader->entries = reader->buffer;
        if (!table->is_read
            || !kvss_pread_exact(table->fd, reader->buffer, n * sizeof *reader->buffer, offset,
                                 NULL))
            reader->entries = table->entries + first;
    }
    return &reader->entries[number - first];
}

/* Does the block begin below (@id, data)? Almost always its key tells. */
static bool
block_is_below(Reader *reader, size_t block, uint64_t key, const uint8_t *id)
{
    uint64_t first = reader->table->keys[block];

    if (first != key)
        return first < key;
    return memcmp(entry_at(reader, block * BLOCK_ENTRIES)->id, id, KVSS_ID_LENGTH) < 0;
}

/*
 * The first block that does not begin below (@id, data): around its likely place, as ids
 * being hashes are nearly spread evenly, in steps that double until it is between two of
 * them, then by halves.
 */
static size_t
find_block(Reader *reader, const uint8_t *id)
{
    size_t low = 0, high = count_blocks(reader->table->n_entries), step = 16;
    uint64_t key = key_of(id);
    size_t at = (size_t) (((key >> 32) * high) >> 32);

    while (at < high && block_is_below(reader, at, key, id)) {
        low = at + 1;
        at += MIN(step, high - at);
        step *= 2;
    }
    high = MIN(high, at);
    for (step = 16; low < high; step *= 2) {
        size_t before = high - low > step ? high - step : low;

        if (block_is_below(reader, before, key, id)) {
            low = before + 1;
            break;
        }
        high = before;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (block_is_below(reader, middle, key, id))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first entry that is not below (@id, data): in the block before, or the first of this one. */
static size_t
lower_bound(Reader *reader, const uint8_t *id)
{
    size_t block = find_block(reader, id);
    size_t high = MIN(block * BLOCK_ENTRIES, reader->table->n_entries);
    size_t low = block > 0 ? (block - 1) * BLOCK_ENTRIES : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(entry_at(reader, middle)->id, id, KVSS_ID_LENGTH) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

KvssPackEntry
kvss_index_table_pack_entry(const KvssTableEntry *entry)
{
    KvssPackEntry out = {
        .offset = entry->offset,
        .length = entry->length,
        .plain_length = entry->plain_length ? entry->plain_length
                                            : entry->length - KVSS_CRYPTO_OVERHEAD,
        .is_tree = (entry->pack & KVSS_TABLE_TREE) != 0,
        .is_compressed = entry->plain_length != 0,
    };

    memcpy(out.id, entry->id, KVSS_ID_LENGTH);
    return out;
}

static bool
entry_is(const KvssIndexTable *table, const KvssTableEntry *entry, bool is_tree)
{
    return is_tree == ((entry->pack & KVSS_TABLE_TREE) != 0)
        && (entry->pack & ~KVSS_TABLE_TREE) < table->n_pack_ids;
}

/* The number of the blob's @copy-th entry, or n_entries; the entry is in the reader then. */
static size_t
find_entry(Reader *reader, bool is_tree, const uint8_t *id, unsigned copy)
{
    const KvssIndexTable *table = reader->table;

    for (size_t i = lower_bound(reader, id); i < table->n_entries; i++) {
        const KvssTableEntry *entry = entry_at(reader, i);

        if (!kvss_id_equal(entry->id, id))
            break;
        if (entry_is(table, entry, is_tree) && copy-- == 0)
            return i;
    }
    return table->n_entries;
}

bool
kvss_index_table_find(const KvssIndexTable *table, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                      unsigned copy, size_t *out_number, KvssBlobLocation *out_location)
{
    Reader reader = { .table = table, .block = SIZE_MAX };
    size_t number = find_entry(&reader, is_tree, id, copy);
    const KvssTableEntry *entry;
    KvssPackEntry found;

    if (number == table->n_entries)
        return false;
    if (out_number)
        *out_number = number;
    if (!out_location)
        return true;
    entry = entry_at(&reader, number);
    found = kvss_index_table_pack_entry(entry);
    *out_location = (KvssBlobLocation) {
        .offset = found.offset,
        .length = found.length,
        .plain_length = found.plain_length,
        .is_compressed = found.is_compressed,
    };
    memcpy(out_location->pack,
           table->pack_ids + (size_t) (entry->pack & ~KVSS_TABLE_TREE) * KVSS_ID_LENGTH,
           KVSS_ID_LENGTH);
    return true;
}
