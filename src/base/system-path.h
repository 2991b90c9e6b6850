/*
 * system-path.h - the system's own folders, which no VM's data belongs into
 */
#pragma once

#include <stdbool.h>

/** @path is @folder, or something below it; only the text is looked at. */
bool kvss_path_is_below(const char *path, const char *folder);

/**
 * kvss_path_is_systems:
 * @path: absolute and plain (beneath.h)
 *
 * In a folder of the system's: a backup that names a path there for data of a VM
 * wants something else.
 */
bool kvss_path_is_systems(const char *path);
