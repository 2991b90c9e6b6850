/*
 * cheap-key.h - repositories for tests that open at once
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/** kvss_repository_init() with a key that costs nothing: scrypt takes a moment each time. */
bool cheap_init(const char *location, const char *password,
                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The same for a repository that is there: one more key, and the one that it had goes. */
void cheap_key(const char *location, const char *password);
