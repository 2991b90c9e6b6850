/*
 * index-table.c - all blobs of a set of index files, sorted, ready to be mapped
 */
#include "base/atomic-file.h"
#include "base/fd.h"
#include "repository/crypto.h"
#include "repository/id.h"
#include "repository/index-table.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

/* The last digits count the layouts; a number in native order follows as the mark of byte order. */
#define MAGIC "kvssix01"
#define BYTE_ORDER_MARK 0x01020304u

typedef struct {
    char magic[8];
    uint32_t byte_order;
    uint32_t entry_size;
    uint64_t n_index_ids, n_pack_ids, n_entries;
} Header;

G_STATIC_ASSERT(sizeof(KvssTableEntry) == 48);
G_STATIC_ASSERT(sizeof(Header) == 40);

void
kvss_index_table_free(KvssIndexTable *table)
{
    if (!table)
        return;
    g_bytes_unref(table->bytes);
    g_free(table);
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

/* @bytes is taken; NULL when its parts do not fit together. */
static KvssIndexTable *
table_over(GBytes *bytes)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    KvssIndexTable *table;
    Header header;

    if (size < sizeof header) {
        g_bytes_unref(bytes);
        return NULL;
    }
    memcpy(&header, data, sizeof header);
    if (!header_fits(&header, size)) {
        g_bytes_unref(bytes);
        return NULL;
    }
    table = g_new0(KvssIndexTable, 1);
    table->bytes = bytes;
    table->n_index_ids = header.n_index_ids;
    table->n_pack_ids = header.n_pack_ids;
    table->n_entries = header.n_entries;
    table->index_ids = data + sizeof header;
    table->pack_ids = table->index_ids + table->n_index_ids * KVSS_ID_LENGTH;
    table->entries = (const void *) (table->pack_ids + table->n_pack_ids * KVSS_ID_LENGTH);
    return table;
}

/* By id; trees after data; then by place, so that equal entries are neighbours. */
static int
compare_entries(const void *a, const void *b)
{
    const KvssTableEntry *one = a, *two = b;
    int order = memcmp(one->id, two->id, KVSS_ID_LENGTH);

    if (order == 0)
        order = one->pack < two->pack ? -1 : one->pack > two->pack;
    if (order == 0)
        order = one->offset < two->offset ? -1 : one->offset > two->offset;
    return order;
}

static void
sort_and_drop_equal(GArray *entries)
{
    KvssTableEntry *at = (KvssTableEntry *) (void *) entries->data;
    guint kept = 0;

    if (entries->len == 0)
        return;
    qsort(at, entries->len, sizeof *at, compare_entries);
    for (guint i = 1; i < entries->len; i++)
        if (compare_entries(&at[kept], &at[i]) != 0)
            at[++kept] = at[i];
    g_array_set_size(entries, kept + 1);
}

KvssIndexTable *
kvss_index_table_build(const GByteArray *index_ids, const GByteArray *pack_ids, GArray *entries)
{
    Header header = { .byte_order = BYTE_ORDER_MARK, .entry_size = sizeof(KvssTableEntry) };
    size_t entries_size, size;
    uint8_t *data, *at;

    sort_and_drop_equal(entries);
    memcpy(header.magic, MAGIC, sizeof header.magic);
    header.n_index_ids = index_ids->len / KVSS_ID_LENGTH;
    header.n_pack_ids = pack_ids->len / KVSS_ID_LENGTH;
    header.n_entries = entries->len;

    entries_size = (size_t) entries->len * sizeof(KvssTableEntry);
    size = sizeof header + index_ids->len + pack_ids->len + entries_size + KVSS_ID_LENGTH;
    at = data = g_malloc(size);
    at = mempcpy(at, &header, sizeof header);
    if (index_ids->len)
        at = mempcpy(at, index_ids->data, index_ids->len);
    if (pack_ids->len)
        at = mempcpy(at, pack_ids->data, pack_ids->len);
    if (entries_size)
        at = mempcpy(at, entries->data, entries_size);
    kvss_id_of(data, size - KVSS_ID_LENGTH, at);
    return table_over(g_bytes_new_take(data, size));
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
    uint64_t at = 0;
    bool ok = EVP_DigestInit_ex2(hash, EVP_sha256(), NULL) == 1;

    while (ok && at < length) {
        size_t part = MIN(length - at, 1u << 20);

        ok = kvss_pread_exact(fd, buffer, part, at, NULL)
            && EVP_DigestUpdate(hash, buffer, part) == 1;
        at += part;
    }
    ok = ok && EVP_DigestFinal_ex(hash, out_id, NULL) == 1;
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
    g_autoptr(GMappedFile) mapped = NULL;

    if (fd < 0)
        return NULL;
    if (!file_is_sound(fd)) {
        g_debug("the index cache %s is damaged and is made anew", path);
        return NULL;
    }
    mapped = g_mapped_file_new_from_fd(fd, FALSE, NULL);
    return mapped ? table_over(g_mapped_file_get_bytes(mapped)) : NULL;
}

void
kvss_index_table_save(const KvssIndexTable *table, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;
    gsize size;
    const void *data = g_bytes_get_data(table->bytes, &size);

    if (g_mkdir_with_parents(folder, 0700) < 0
        || !kvss_atomic_file_write(path, data, size, 0600, &error))
        g_debug("no index cache: %s", error ? error->message : folder);
}

/* The first entry that is not below (@id, data). */
static size_t
lower_bound(const KvssIndexTable *table, const uint8_t id[KVSS_ID_LENGTH])
{
    size_t low = 0, high = table->n_entries;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(table->entries[middle].id, id, KVSS_ID_LENGTH) < 0)
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
