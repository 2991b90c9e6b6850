/*
 * append.h - a new file that is written once from its beginning to its end
 *
 * Nobody reads a pack soon after it was written, and it is synced when it is whole. So
 * it goes past the page cache in large pieces where the file system allows that: no copy,
 * nothing of the host's cache is displaced, and little is left for the sync.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

typedef struct {
    int fd;          /* borrowed */
    uint8_t *buffer; /* (nullable) what will go past the cache, until it is a whole piece */
    size_t held;     /* bytes in there */
} KvssAppend;

/**
 * kvss_append_begin:
 * @fd: a new, empty file, open for writing; nobody else moves its position
 *
 * Nothing is asked of the file system that it may refuse: where it does, the cache is the way.
 */
void kvss_append_begin(KvssAppend *append, int fd);

/** Behind what is there. A failure is final. Blocks: on the disk. */
bool kvss_append_write(KvssAppend *append, const void *data, size_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** All of it is in the file, not yet synced. Nothing may be written after it. */
bool kvss_append_end(KvssAppend *append, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Frees. What was not written out is lost. Twice is fine, and so is one of zeroes. */
void kvss_append_clear(KvssAppend *append);
