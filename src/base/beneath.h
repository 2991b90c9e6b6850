/*
 * beneath.h - paths gone step by step, so that no symbolic link leads elsewhere
 *
 * Between a look at a path and its use somebody may put a link into it. These
 * functions hold the folder of each step open and follow no link in any of them.
 */
#pragma once

#include "base/error.h"

/** No ".." or ".", no empty name, no control character between '/'; absolute, valid UTF-8. */
bool kvss_is_plain_path(const char *path);

/**
 * kvss_open_real:
 * @path: absolute and plain
 * @flags: of open(); O_NOFOLLOW and O_CLOEXEC are added
 *
 * -1 with KVSS_IO_ERROR where the path is absent, or leads through a link.
 */
int kvss_open_real(const char *path, int flags, GError **error);

/**
 * kvss_open_folder_beneath:
 * @root: an open folder
 * @relative: "a/b"; "" is @root itself
 * @make_mode: mode of folders that are made where they are absent; 0: none is made
 *
 * The folder, open for reading. A link on the way is an error.
 */
int kvss_open_folder_beneath(int root, const char *relative, unsigned make_mode, GError **error);
