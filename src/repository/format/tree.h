/*
 * tree.h - a folder's listing as JSON, both ways
 *
 * Written byte for byte as Go's encoding/json writes restic's struct, so that
 * equal folders have equal ids whoever wrote them.
 *
 * Source: restic's design document, "Trees and Data".
 */
#pragma once

#include "repository/repository.h"

/** Folders in folders: more than any path can name. Who walks trees stops there. */
#define KVSS_TREE_DEPTH_MAX 500

/**
 * kvss_tree_parse:
 *
 * (element-type KvssNode). Errors: CORRUPT, for bad names and names twice too.
 */
GPtrArray *kvss_tree_parse(const void *text, size_t length, GError **error);

/**
 * kvss_tree_text:
 * @nodes: (element-type KvssNode) sorted by name
 *
 * Times are left at 1970: what a disk's chunks are is content, when they were
 * stored is in the snapshot, and so an unchanged folder stays one blob.
 */
GString *kvss_tree_text(const GPtrArray *nodes);

/** May a file in a snapshot, and so on somebody's disk, have this name? */
bool kvss_tree_name_is_safe(const char *name);
