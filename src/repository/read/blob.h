/*
 * blob.h - blobs by their id: found, read, checked
 */
#pragma once

#include "repository/repository-private.h"

/**
 * kvss_blob_find:
 *
 * Where a blob lies; the index is loaded, or loaded anew, when it does not say.
 * Errors: CORRUPT when no index names it: whoever asks has its id from a tree.
 */
bool kvss_blob_find(KvssRepository *repository, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                    KvssBlobLocation *out_location, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_blob_read:
 * @plain: @length bytes: exactly the blob's
 *
 * Every check on every read: MAC, length, hash. Where the first copy fails and
 * the repository has another, that one is used. Errors: CORRUPT. Threads: any.
 */
bool kvss_blob_read(KvssRepository *repository, bool is_tree, const uint8_t id[KVSS_ID_LENGTH],
                    void *plain, size_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** One of several data blobs that are wanted at once. */
typedef struct {
    const uint8_t *id;
    void *plain;   /* @length bytes: exactly the blob's */
    size_t length;
    bool is_right; /* out: it is there, with every check that kvss_blob_read() makes */
} KvssBlobWish;

/**
 * kvss_blob_read_several:
 * @wishes: @n of them, at most KVSS_LANES_MAX
 *
 * Their hashes are made side by side. Only the first copy of each is tried, by what the index
 * knows: one that is not right is for kvss_blob_read(), which tries the others or says what is
 * wrong. Threads: any.
 */
void kvss_blob_read_several(KvssRepository *repository, KvssBlobWish *wishes, size_t n);

/** A whole tree blob. */
GBytes *kvss_blob_read_tree(KvssRepository *repository, const uint8_t id[KVSS_ID_LENGTH],
                            GError **error);
