/*
 * sink.h - something that takes a disk's content, data and zeroes, in any order
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

typedef struct KvssSink KvssSink;

typedef struct {
    /* @length bytes at @offset; both multiples of block, but for the end. @buffer is borrowed. */
    bool (*write)(KvssSink *sink, uint64_t offset, const void *buffer, size_t length,
                  GError **error);

    /* The range reads as zeroes; same alignment. */
    bool (*zero)(KvssSink *sink, uint64_t offset, uint64_t length, GError **error);

    /* All was written: makes it durable or complete. Once, last. */
    bool (*finish)(KvssSink *sink, GError **error);

    /* Closes. Without a finish before, what was written is given up. */
    void (*free)(KvssSink *sink);

    /*
     * (nullable) The range is that of the base that the sink was opened with; same
     * alignment, and it ends at or before keep_end.
     */
    bool (*keep)(KvssSink *sink, uint64_t offset, uint64_t length, GError **error);
} KvssSinkOps;

struct KvssSink {
    const KvssSinkOps *ops;
    uint64_t size;     /* bytes it takes */
    uint32_t block;    /* bytes: the granularity of write and zero, at least 512 */
    bool is_parallel;  /* write(), zero() and keep() may run in several threads at once */
    uint64_t keep_end; /* bytes from the start that can be kept: whole blocks, or size; 0 without keep */
};

/** Wrappers: check range and alignment, then call. */
bool kvss_sink_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_sink_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_sink_keep(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_sink_finish(KvssSink *sink, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Closes and frees. Accepts NULL. */
void kvss_sink_free(KvssSink *sink);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSink, kvss_sink_free)

/**
 * kvss_sink_new_fd:
 * @fd: a regular file or block device, open for writing, of at least @size bytes; taken over
 * @path: for messages
 * @is_blank: it reads as zeroes: none are written, and it stays as sparse as it is
 *
 * finish() syncs it. Parallel. What lies behind @size stays as it is.
 */
KvssSink *kvss_sink_new_fd(int fd, const char *path, uint64_t size, bool is_blank);

/**
 * kvss_sink_new_file:
 * @path: a regular file of at least @size bytes that reads as zeroes; no link is followed
 *
 * Zeroes are not written: the file stays as sparse, or as preallocated, as it is.
 * finish() syncs it; its folder is the caller's. Parallel.
 */
KvssSink *kvss_sink_new_file(const char *path, uint64_t size, GError **error);

/** Is every byte zero? No bytes are. */
bool kvss_is_zero(const void *data, size_t length);

/**
 * kvss_sink_run:
 * @block: bytes, at least 1
 *
 * For implementations: the length of the run of blocks at @data that are all zero,
 * or all not; at least one block, or what there is.
 */
size_t kvss_sink_run(const void *data, size_t length, size_t block, bool *out_zero);

G_END_DECLS
