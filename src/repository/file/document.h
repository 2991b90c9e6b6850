/*
 * document.h - small sealed JSON files that are named by their hash: index files, snapshots, locks
 */
#pragma once

#include "repository/backend/backend.h"
#include "repository/format/codec.h"

/* The most a document may have, unpacked: they come from outside. */
#define KVSS_CONFIG_MAX (1u << 20)
#define KVSS_KEY_MAX (64u << 10)
#define KVSS_LOCK_MAX (64u << 10)
#define KVSS_SNAPSHOT_MAX (16u << 20)
#define KVSS_INDEX_MAX (512u << 20)

/**
 * kvss_document_read:
 * @name: 64 hex digits: must be the hash of the file's bytes
 *
 * The JSON of an index, snapshot or lock file.
 * Errors: CORRUPT, FORMAT; KVSS_IO_ERROR with the backend's words.
 */
GBytes *kvss_document_read(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                           const char *name, size_t max_length, GError **error);

/** Seals @json, stores it under its hash, durable; on failure it is not there. @out_name: (optional). */
bool kvss_document_write(KvssBackend *backend, KvssCodecPool *codecs, KvssFileType type,
                         const GString *json, char out_name[KVSS_ID_HEX_LENGTH + 1],
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
