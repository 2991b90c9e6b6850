/*
 * carried.h - one file of the host that is carried in a set, while it is read
 *
 * A file that a provider found must be the one it found, and must be when it has
 * been read what it was before: a file that its writer called stable and that was
 * changed after all is no backup.
 */
#pragma once

#include "stream/pace.h"
#include "vss/component.h"

typedef struct KvssCarried KvssCarried;

/** @pace: (nullable) (borrowed) kept by every read. */
KvssCarried *kvss_carried_open(const KvssFile *file, KvssPace *pace, GError **error);
void kvss_carried_free(KvssCarried *carried);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssCarried, kvss_carried_free)

/** Borrowed. */
KvssSource *kvss_carried_source(KvssCarried *carried);

/** The whole content in *@out_bytes, if it is small; else NULL. False: it could not be read. */
bool kvss_carried_read_if_small(KvssCarried *carried, GBytes **out_bytes, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** After the last byte was read. CORRUPT: it changed meanwhile. */
bool kvss_carried_check(const KvssCarried *carried, GError **error) G_GNUC_WARN_UNUSED_RESULT;
