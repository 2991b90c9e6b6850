/*
 * summary-cache.c - what was found out about sets, kept on this host
 */
#include "base/atomic-file.h"
#include "catalogue/catalogue-private.h"
#include "catalogue/summary-cache.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The last digits count the layouts. */
#define MAGIC "kvsssum1"
#define TYPE "(ayssxta(ss)a(ss))"
#define HASH_LENGTH 32u

/* Some thousand VMs in some thousand sets; a file beyond that is none of ours. */
#define FILE_MAX (128u << 20)

typedef struct {
    char magic[8];
    uint8_t hash[HASH_LENGTH];
} Header;

G_STATIC_ASSERT(sizeof(Header) % 8 == 0); /* GVariant wants what follows aligned */

struct KvssSummaryCache {
    char *path;       /* (nullable) */
    GVariant *sets;   /* (nullable) */
    GHashTable *at;   /* snapshot id in hex -> place in sets + 1 */
    gsize n_used;     /* found since */
};

static void
hash_of(const void *data, size_t length, uint8_t out_hash[HASH_LENGTH])
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize n = HASH_LENGTH;

    g_checksum_update(checksum, data, (gssize) length);
    g_checksum_get_digest(checksum, out_hash, &n);
}

/* The layout knows the byte order: a file of the other one has another hash in front of it. */
static void
header_of(const void *data, size_t length, Header *out_header)
{
    memcpy(out_header->magic, MAGIC, sizeof out_header->magic);
    hash_of(data, length, out_header->hash);
    if (G_BYTE_ORDER == G_BIG_ENDIAN)
        out_header->magic[0] = 'K';
}

/* ---- reading ---- */

static GVariant *
read_sets(const char *path)
{
    g_autofree char *data = NULL;
    g_autoptr(GBytes) file = NULL, rest = NULL;
    struct stat st;
    gsize length;
    Header header;

    if (stat(path, &st) < 0 || st.st_size > FILE_MAX
        || !g_file_get_contents(path, &data, &length, NULL) || length < sizeof header)
        return NULL;
    header_of(data + sizeof header, length - sizeof header, &header);
    if (memcmp(data, &header, sizeof header) != 0) {
        g_debug("%s is damaged or of another version, and made anew", path);
        return NULL;
    }
    file = g_bytes_new_take(g_steal_pointer(&data), length);
    rest = g_bytes_new_from_bytes(file, sizeof header, length - sizeof header);
    return g_variant_ref_sink(
        g_variant_new_from_bytes(G_VARIANT_TYPE("a" TYPE), rest, FALSE));
}

static char *
hex_of(GVariant *set)
{
    g_autoptr(GVariant) bytes = g_variant_get_child_value(set, 0);
    gsize n;
    const uint8_t *id = g_variant_get_fixed_array(bytes, &n, 1);
    GString *hex = g_string_new(NULL);

    for (gsize i = 0; i < n; i++)
        g_string_append_printf(hex, "%02x", id[i]);
    return g_string_free(hex, FALSE);
}

KvssSummaryCache *
kvss_summary_cache_open(const char *folder)
{
    KvssSummaryCache *cache = g_new0(KvssSummaryCache, 1);

    cache->path = folder ? g_build_filename(folder, "sets", NULL) : NULL;
    cache->sets = cache->path ? read_sets(cache->path) : NULL;
    cache->at = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (gsize i = 0; cache->sets && i < g_variant_n_children(cache->sets); i++) {
        g_autoptr(GVariant) set = g_variant_get_child_value(cache->sets, i);

        g_hash_table_insert(cache->at, hex_of(set), GSIZE_TO_POINTER(i + 1));
    }
    return cache;
}

void
kvss_summary_cache_free(KvssSummaryCache *cache)
{
    if (!cache)
        return;
    g_clear_pointer(&cache->sets, g_variant_unref);
    g_hash_table_unref(cache->at);
    g_free(cache->path);
    g_free(cache);
}

static GPtrArray *
members_of(GVariantIter *iter)
{
    GPtrArray *members = kvss_summary_members_new();
    const char *name, *display_name;

    while (g_variant_iter_next(iter, "(&s&s)", &name, &display_name))
        kvss_summary_add_member(members, name, display_name);
    return members;
}

KvssSummary *
kvss_summary_cache_find(KvssSummaryCache *cache, const char *snapshot_id)
{
    gsize place = GPOINTER_TO_SIZE(g_hash_table_lookup(cache->at, snapshot_id));
    g_autoptr(GVariant) set = NULL;
    g_autoptr(GVariantIter) vms = NULL;
    g_autoptr(GVariantIter) components = NULL;
    const char *set_id, *host;
    KvssSummary *summary;

    if (place == 0)
        return NULL;
    summary = g_new0(KvssSummary, 1);
    set = g_variant_get_child_value(cache->sets, place - 1);
    g_variant_get(set, "(@ay&s&sxta(ss)a(ss))", NULL, &set_id, &host, &summary->time_us,
                  &summary->size, &vms, &components);
    summary->set_id = g_strdup(set_id);
    summary->host = *host ? g_strdup(host) : NULL;
    summary->vms = members_of(vms);
    summary->components = members_of(components);
    cache->n_used++;
    return summary;
}

/* ---- writing ---- */

static GVariant *
id_variant(const char *hex)
{
    uint8_t id[KVSS_ID_LENGTH];

    for (size_t i = 0; i < sizeof id; i++)
        id[i] = (uint8_t) (g_ascii_xdigit_value(hex[2 * i]) << 4
                           | g_ascii_xdigit_value(hex[2 * i + 1]));
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, id, sizeof id, 1);
}

static GVariant *
members_variant(const GPtrArray *members)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ss)"));
    for (guint i = 0; i < members->len; i++) {
        const KvssSummaryMember *member = g_ptr_array_index(members, i);

        g_variant_builder_add(&builder, "(ss)", member->name, member->display_name);
    }
    return g_variant_builder_end(&builder);
}

static GVariant *
summary_variant(const KvssSummary *summary)
{
    return g_variant_new("(@ayssxt@a(ss)@a(ss))", id_variant(summary->snapshot->id),
                         summary->set_id ? summary->set_id : "",
                         summary->host ? summary->host : "", summary->time_us, summary->size,
                         members_variant(summary->vms), members_variant(summary->components));
}

/* The newest that fit, from @first on: the first try is all of them. */
static GVariant *
newest_that_fit(const GPtrArray *summaries)
{
    for (guint first = 0;; first += (summaries->len - first + 1) / 2) {
        g_autoptr(GVariant) all = NULL;
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE("a" TYPE));
        for (guint i = first; i < summaries->len; i++)
            g_variant_builder_add_value(&builder,
                                        summary_variant(g_ptr_array_index(summaries, i)));
        all = g_variant_ref_sink(g_variant_builder_end(&builder));
        if (first == summaries->len || g_variant_get_size(all) <= FILE_MAX - sizeof(Header))
            return g_steal_pointer(&all);
    }
}

static void
write_sets(const char *path, GVariant *sets)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GByteArray) file = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    gsize length = g_variant_get_size(sets);
    Header header;

    header_of(g_variant_get_data(sets), length, &header);
    g_byte_array_append(file, (const guint8 *) &header, sizeof header);
    if (length > 0)
        g_byte_array_append(file, g_variant_get_data(sets), (guint) length);
    if (g_mkdir_with_parents(folder, 0700) < 0
        || !kvss_atomic_file_write(path, file->data, file->len, 0600, &error))
        g_debug("no cache of sets: %s", error ? error->message : folder);
}

void
kvss_summary_cache_save(KvssSummaryCache *cache, const GPtrArray *summaries)
{
    gsize n_known = cache->sets ? g_variant_n_children(cache->sets) : 0;
    g_autoptr(GVariant) sets = NULL;

    if (!cache->path || (cache->n_used == summaries->len && n_known == summaries->len))
        return;
    sets = newest_that_fit(summaries);
    write_sets(cache->path, sets);
}
