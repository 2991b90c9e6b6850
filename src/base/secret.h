/*
 * secret.h - memory for keys and passwords
 *
 * Pages of their own: locked, so that they are never written to swap, left out of
 * core dumps, and wiped when freed. A secret costs a page or more, so this is for a
 * few small ones.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

/**
 * kvss_secret_new:
 *
 * @length bytes of zeroes. A system that refuses to lock them (RLIMIT_MEMLOCK) is told
 * of once, at debug level; the memory serves all the same. Threads: any.
 */
void *kvss_secret_new(size_t length);

/** A copy of @length bytes of @text with a NUL behind. */
char *kvss_secret_text(const char *text, size_t length);

/** Wipes and frees. Accepts NULL. */
void kvss_secret_free(void *secret);

/** Wipes and frees a text from g_malloc that is or was a secret. Accepts NULL. */
void kvss_secret_wipe(char *text);
