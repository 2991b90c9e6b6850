/*
 * index-table.c - all blobs of a set of index files, sorted, ready to be mapped
 */
#include "base/fd.h"
#include "repository/crypto.h"
#include "repository/id.h"
#include "repository/index-table.h"

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
 * A look-up brings the pages around those it touches, 64 KiB each. Of a table larger than
 * this they are let go of after so many: the whole of it would be this process's memory
 * in the end. That costs a look-up three microseconds, a fiftieth of hashing its chunk.
 */
#define LET_GO_FROM (128u << 20)
#define LOOKS_MAX 1024

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

/* Of a file whose checksum is right; NULL when its parts do not fit together. */
static KvssIndexTable *
table_of_file(int fd)
{
    KvssIndexTable *table;
    struct stat st;
    Header header;
    uint8_t *data;

    if (fstat(fd, &st) < 0 || st.st_size < (off_t) sizeof header
        || !kvss_pread_exact(fd, &header, sizeof header, 0, NULL)
        || !header_fits(&header, (size_t) st.st_size))
        return NULL;
    data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return NULL;
    table = g_new0(KvssIndexTable, 1);
    table->mapped = data;
    table->length = (size_t) st.st_size;
    table->n_index_ids = header.n_index_ids;
    table->n_pack_ids = header.n_pack_ids;
    table->n_entries = header.n_entries;
    table->index_ids = data + sizeof header;
    table->pack_ids = table->index_ids + table->n_index_ids * KVSS_ID_LENGTH;
    table->entries = (const void *) (table->pack_ids + table->n_pack_ids * KVSS_ID_LENGTH);
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

/*
 * The checksum is computed by reading, not through the mapping: the pages of a
 * large table then do not all become memory of this process.
 */
static bool
file_hash(int fd, uint64_t length, uint8_t out_id[KVSS_ID_LENGTH])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    g_autofree uint8_t *buffer = g_malloc(1u << 20);
    uint64_t at = sizeof(Header);
    bool ok = EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) == 1;

    while (ok && at < length) {
        size_t part = MIN(length - at, 1u << 20);

        ok = kvss_pread_exact(fd, buffer, part, at, NULL)
            && EVP_DigestUpdate(hash, buffer, part) == 1;
        at += part;
    }
    ok = ok && kvss_pread_exact(fd, buffer, sizeof(Header), 0, NULL)
        && EVP_DigestUpdate(hash, buffer, sizeof(Header)) == 1
        && EVP_DigestFinal_ex(hash, out_id, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return ok;
}

static bool
file_is_sound(int fd)
{
    uint8_t stored[KVSS_ID_LENGTH], found[KVSS_ID_LENGTH];
    struct stat st;
    uint64_t length;

    if (fstat(fd, &st) < 0 || st.st_size < (off_t) (sizeof(Header) + KVSS_ID_LENGTH))
        return false;
    length = (uint64_t) st.st_size - KVSS_ID_LENGTH;
    return kvss_pread_exact(fd, stored, sizeof stored, length, NULL) && file_hash(fd, length, found)
        && kvss_id_equal(stored, found);
}

KvssIndexTable *
kvss_index_table_map(const char *path)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    if (!file_is_sound(fd)) {
        g_debug("the index cache %s is damaged and is made anew", path);
        return NULL;
    }
    return table_of_file(fd);
}

KvssIndexTable *
kvss_index_table_seal(int fd, uint64_t n_index_ids, uint64_t n_pack_ids, uint64_t n_entries,
                      GError **error)
{
    Header header = {
        .byte_order = BYTE_ORDER_MARK, .entry_size = sizeof(KvssTableEntry),
        .n_index_ids = n_index_ids, .n_pack_ids = n_pack_ids, .n_entries = n_entries,
    };
    uint64_t length = sizeof header + (n_index_ids + n_pack_ids) * KVSS_ID_LENGTH
        + n_entries * sizeof(KvssTableEntry);
    KvssIndexTable *table = NULL;
    uint8_t hash[KVSS_ID_LENGTH];

    memcpy(header.magic, MAGIC, sizeof header.magic);
    if (!kvss_pwrite_exact(fd, &header, sizeof header, 0, error))
        return NULL;
    if (file_hash(fd, length, hash)) {
        if (!kvss_pwrite_exact(fd, hash, sizeof hash, length, error))
            return NULL;
        table = table_of_file(fd);
    }
    if (!table)
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "the index table that was written cannot be read: %s", g_strerror(errno));
    return table;
}

/* Where it would be if ids were spread evenly; being hashes, they nearly are. */
static size_t
likely_place(const KvssIndexTable *table, const uint8_t id[KVSS_ID_LENGTH])
{
    uint32_t front;

    memcpy(&front, id, sizeof front);
    return (size_t) (((uint64_t) GUINT32_FROM_BE(front) * table->n_entries) >> 32);
}

static bool
is_below(const KvssIndexTable *table, size_t number, const uint8_t id[KVSS_ID_LENGTH])
{
    return memcmp(table->entries[number].id, id, KVSS_ID_LENGTH) < 0;
}

/*
 * The first entry that is not below (@id, data): around its likely place, in steps that
 * double until it is between two of them, then by halves. So a look-up touches a page or
 * two of a table that has many thousands.
 */
static size_t
lower_bound(const KvssIndexTable *table, const uint8_t id[KVSS_ID_LENGTH])
{
    size_t low = 0, high = table->n_entries, step = 16;
    size_t at = likely_place(table, id);

    while (at < high && is_below(table, at, id)) {
        low = at + 1;
        at += MIN(step, high - at);
        step *= 2;
    }
    high = MIN(high, at);
    for (step = 16; low < high; step *= 2) {
        size_t before = high - low > step ? high - step : low;

        if (is_below(table, before, id)) {
            low = before + 1;
            break;
        }
        high = before;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (is_below(table, middle, id))
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
entry_is(const KvssIndexTable *table, size_t number, bool is_tree)
{
    uint32_t pack = table->entries[number].pack;

    return is_tree == ((pack & KVSS_TABLE_TREE) != 0)
        && (pack & ~KVSS_TABLE_TREE) < table->n_pack_ids;
}

/* The @copy-th entry of the blob, or n_entries. */
static size_t
find_entry(const KvssIndexTable *table, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
           unsigned copy)
{
    if (table->length > LET_GO_FROM
        && g_atomic_int_add(&((KvssIndexTable *) table)->n_looks, 1) % LOOKS_MAX == LOOKS_MAX - 1)
        kvss_index_table_let_go(table);
    for (size_t i = lower_bound(table, id);
         i < table->n_entries && kvss_id_equal(table->entries[i].id, id); i++)
        if (entry_is(table, i, is_tree) && copy-- == 0)
            return i;
    return table->n_entries;
}

bool
kvss_index_table_number(const KvssIndexTable *table, bool is_tree,
                        const uint8_t id[KVSS_ID_LENGTH], size_t *out_number)
{
    size_t number = find_entry(table, is_tree, id, 0);

    if (number == table->n_entries)
        return false;
    *out_number = number;
    return true;
}

bool
kvss_index_table_find(const KvssIndexTable *table, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                      unsigned copy, KvssBlobLocation *out_location)
{
    size_t number = find_entry(table, is_tree, id, copy);
    KvssPackEntry found;
    size_t pack;

    if (number == table->n_entries)
        return false;
    found = kvss_index_table_pack_entry(&table->entries[number]);
    pack = table->entries[number].pack & ~KVSS_TABLE_TREE;
    *out_location = (KvssBlobLocation) {
        .offset = found.offset,
        .length = found.length,
        .plain_length = found.plain_length,
        .is_compressed = found.is_compressed,
    };
    memcpy(out_location->pack, table->pack_ids + pack * KVSS_ID_LENGTH, KVSS_ID_LENGTH);
    return true;
}
