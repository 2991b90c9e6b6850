/*
 * source.h - something of fixed size that can be read, and knows its holes
 *
 * A shadow copy's disk, a stored file, a local file: the copy loop sees them
 * all through this. Implementations fill KvssSourceOps and call nothing here;
 * callers use the functions and never the struct.
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

typedef struct KvssSource KvssSource;

/** A run of bytes of one kind. */
typedef struct {
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes, at least 1 */
    bool zero;       /* reads as zeroes: need not be read */
    bool unchanged;  /* reads as in the base that the source was opened with: see kvss_sink_keep() */
} KvssExtent;

typedef struct {
    /*
     * The extents from @offset on, in order, without gaps, at least one and
     * within @length; may stop early. NULL: all is data.
     */
    bool (*extents)(KvssSource *source, uint64_t offset, uint64_t length, GArray *out_extents,
                    GError **error);

    /* Exactly @length bytes; the caller has checked the range. */
    bool (*read)(KvssSource *source, uint64_t offset, void *buffer, size_t length,
                 GError **error);

    /* Closes; after it nothing may be called. */
    void (*free)(KvssSource *source);
} KvssSourceOps;

struct KvssSource {
    const KvssSourceOps *ops;
    uint64_t size;     /* bytes, fixed for the life of the source */
    bool is_parallel;  /* extents() and read() may run in several threads at once */
};

/**
 * kvss_source_extents:
 * @out_extents: (element-type KvssExtent) emptied, then filled
 *
 * What lies in [@offset, @offset + @length): extents in order, without gaps,
 * covering the whole range (the wrapper asks again where an implementation
 * stopped early). The range must lie inside the source.
 *
 * Errors: the implementation's. Blocks: yes. Threads: see is_parallel.
 */
bool kvss_source_extents(KvssSource *source, uint64_t offset, uint64_t length,
                         GArray *out_extents, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_source_read:
 *
 * Exactly @length bytes from @offset; the range must lie inside the source.
 */
bool kvss_source_read(KvssSource *source, uint64_t offset, void *buffer, size_t length,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Bytes of the whole source that are not zero extents. Blocks: as extents do. */
bool kvss_source_data_bytes(KvssSource *source, uint64_t *out_bytes, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Closes and frees. Accepts NULL. */
void kvss_source_free(KvssSource *source);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSource, kvss_source_free)

/**
 * kvss_source_new_file:
 * @path: a regular file or block device, opened read-only
 *
 * Holes are found with SEEK_DATA and SEEK_HOLE. The size is taken now; a file
 * that shrinks later gives KVSS_IO_ERROR_CORRUPT from read. Parallel.
 */
KvssSource *kvss_source_new_file(const char *path, GError **error);

/** The same of an open file; takes @fd, on failure too. @path: for messages. */
KvssSource *kvss_source_new_fd(int fd, const char *path, GError **error);

/** A source over memory. @bytes is referenced. Parallel. */
KvssSource *kvss_source_new_bytes(GBytes *bytes);

G_END_DECLS
