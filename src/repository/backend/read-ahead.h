/*
 * read-ahead.h - packs behind a server, read in larger pieces than asked for
 *
 * Who reads a disk back asks for one chunk after the other, and chunks that were
 * stored together lie together in a pack. Each request costs a round trip, so
 * that reads which follow each other are served from windows, and the next
 * window is asked for while one is used. A read here and there is left alone:
 * it costs what it asks for.
 *
 * A stored file never changes, so that nothing here grows old. Content is
 * checked by whoever reads it, as always.
 *
 * Threads: any number.
 */
#pragma once

#include "repository/backend/backend.h"

/** What one request fetches at most. */
#define KVSS_READ_AHEAD_WINDOW ((size_t) 4 << 20)

typedef struct KvssReadAhead KvssReadAhead;

/** Up to @max_length bytes of pack @name from @offset; fewer only at its end. Called in several threads. */
typedef GBytes *(*KvssReadAheadFetch)(KvssBackend *backend, const char *name, uint64_t offset,
                                      size_t max_length, GError **error);

/** @backend: (borrowed) for @fetch. */
KvssReadAhead *kvss_read_ahead_new(KvssBackend *backend, KvssReadAheadFetch fetch);

/** Waits for what is under way. Accepts NULL. */
void kvss_read_ahead_free(KvssReadAhead *ahead);

/**
 * kvss_read_ahead_serve:
 *
 * True: @buffer has the bytes. False: none of it; read them by themselves. That
 * is no error: the reason will be met there as well.
 */
bool kvss_read_ahead_serve(KvssReadAhead *ahead, const char *name, uint64_t offset, void *buffer,
                           size_t length) G_GNUC_WARN_UNUSED_RESULT;
