/*
 * upload.h - what the two halves of an upload share: the tree, and the disks in it
 */
#pragma once

#include "repository/repository-private.h"
#include "repository/upload/packer.h"

/**
 * kvss_upload_store:
 * @inout_stats: counted up
 * @out_id: the blob's
 *
 * Stores a blob that the repository does not have; costs a hash and a look-up
 * when it has. Threads: any, each with its own codec and stats.
 */
bool kvss_upload_store(KvssUpload *upload, KvssCodec *codec, bool is_tree, const void *plain,
                       size_t length, KvssUploadStats *inout_stats,
                       uint8_t out_id[KVSS_ID_LENGTH], GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The same for a blob whose id the caller has made of it already. */
bool kvss_upload_store_named(KvssUpload *upload, KvssCodec *codec, bool is_tree, const void *plain,
                             size_t length, const uint8_t id[KVSS_ID_LENGTH],
                             KvssUploadStats *inout_stats, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Puts a file into the tree. @node is taken, and freed on failure. Errors: EXISTS. */
bool kvss_upload_add_node(KvssUpload *upload, const char *path, KvssNode *node, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The repository that it goes to. */
KvssRepository *kvss_upload_repository(KvssUpload *upload);

/** Adds to the totals. */
void kvss_upload_count(KvssUpload *upload, const KvssUploadStats *stats);

/** Is @path relative, with a good name in each part? Errors: FORMAT. */
bool kvss_upload_check_path(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A sink that was opened, or freed: commit wants none open. */
void kvss_upload_count_open(KvssUpload *upload, int change);
