/*
 * unfinished.h - uploads that ended without an index for their last packs, gone on with
 *
 *   STATE_DIR/uploads/REPOSITORY-RANDOM    flock()ed while its upload lives
 *
 * What a killed upload stored since its last index file is named by nothing: a
 * run that starts anew would store it again. So each upload is on record on this
 * host until all of its packs are in an index. An upload that finds the record of
 * a dead one reads the headers of the packs that no index names, and counts on
 * their blobs as if they were its own.
 */
#pragma once

#include "repository/upload/packer.h"

typedef struct KvssUnfinished KvssUnfinished;

/** Puts an upload on record, durable. */
KvssUnfinished *kvss_unfinished_new(KvssRepository *repository, GError **error);

/** @is_complete: every pack is in an index; else the record stays. Frees. Accepts NULL. */
void kvss_unfinished_end(KvssUnfinished *unfinished, bool is_complete);

/**
 * kvss_unfinished_adopt:
 * @packer: of the upload that starts, which is on record already
 *
 * Without the record of a dead upload it asks the repository nothing. What cannot
 * be read is left alone: it is stored again. So is what repair set aside, and repair's
 * own upload (it is open with REMOVE) goes on with nothing. The index must be loaded.
 */
void kvss_unfinished_adopt(KvssRepository *repository, KvssPacker *packer);
