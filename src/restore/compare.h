/*
 * compare.h - where a disk differs from what is stored of it
 *
 * Private to restore/. Counted in grains, the smallest piece that is written over.
 */
#pragma once

#include "stream/copy.h"
#include "stream/source.h"

#include <gio/gio.h>

#define KVSS_GRAIN_LENGTH (64u * 1024)

typedef struct Difference {
    uint64_t size;           /* of the disk */
    uint8_t *differs;        /* a bit for each grain */
    uint64_t differ_bytes;   /* of the grains that differ, or may */
    uint64_t data_bytes;     /* of them, that are not zero now: what a way back must hold */
    uint64_t growth_bytes;   /* of them, that are zero now and may need room */
} Difference;

Difference *difference_new(uint64_t size);
void difference_free(Difference *difference);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Difference, difference_free)

/**
 * difference_find:
 * @old: the disk as it is; of the same size as @stored
 * @stored: as kvss_repository_open_file() gave it
 *
 * Reads @old once, where it has data, and nothing of @stored. What was cut by content cannot be
 * told without reading it: all of its data counts as differing.
 */
bool difference_find(Difference *difference, KvssSource *old, KvssSource *stored,
                     KvssCopyProgress progress, gpointer data, GCancellable *cancellable,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The first run of grains that differ at or after @from, of @at_most bytes; false: none. */
bool difference_next(const Difference *difference, uint64_t from, uint64_t at_most,
                     uint64_t *out_offset, uint64_t *out_length);
