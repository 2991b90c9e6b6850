/*
 * stored-file.h - what a stored file says of its chunks without reading them
 *
 * For those who have content already and want to know whether it is the stored one.
 */
#pragma once

#include "repository/repository.h"

/**
 * kvss_stored_file_chunk_length:
 * @file: as kvss_repository_open_file() gave it
 *
 * The length of every chunk but a shorter last; 0 when they differ (the file was cut by
 * content).
 */
uint32_t kvss_stored_file_chunk_length(const struct KvssSource *file);

/** Is it what a sink with chunks of @length bytes would have made of the same content? */
bool kvss_stored_file_is_cut_by(const struct KvssSource *file, uint32_t length);

/** The ids of its chunks, KVSS_ID_LENGTH bytes each; as long as @file lives. */
const uint8_t *kvss_stored_file_ids(const struct KvssSource *file);

/**
 * kvss_stored_file_chunk_is:
 * @chunk: from 0; chunks are of one length
 *
 * Is the chunk these very bytes? By its SHA-256. Threads: any number.
 */
bool kvss_stored_file_chunk_is(const struct KvssSource *file, uint64_t chunk, const void *bytes,
                               size_t length);
