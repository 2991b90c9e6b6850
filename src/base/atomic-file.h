/*
 * atomic-file.h - a file that appears whole or not at all
 */
#pragma once

#include "base/error.h"

/**
 * kvss_atomic_file_write:
 * @path: final name; an existing file is replaced
 * @mode: permissions, exact (the umask is not applied)
 *
 * Writes beside, syncs the file, renames it over @path, syncs the folder. When
 * this returns true the content survives a crash. On failure nothing is left
 * beside and @path is as it was.
 *
 * Errors: KVSS_IO_ERROR. Blocks: on disk. Threads: any.
 */
bool kvss_atomic_file_write(const char *path, const void *data, size_t length, unsigned mode,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
