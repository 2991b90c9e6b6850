/*
 * lanes.h - SHA-256 of several messages at once
 *
 * One SHA-256 is a chain of steps that wait for each other, and leaves most of a
 * core idle. Messages that have nothing to do with each other fill it:
 *
 *   16 messages, one in each lane of AVX-512       2.6 times OpenSSL's speed
 *   up to 4, their SHA-NI instructions in turn     1.7 times
 *   one, or any on another processor               OpenSSL's, one after the other
 *
 * (docs/performance.md). What fits is chosen by what the processor can do and by
 * how many messages are left. The digests are the same in every way.
 *
 * KVSS_SHA256=openssl in the environment has OpenSSL do it all, KVSS_SHA256=sha-ni
 * leaves AVX-512 out: for comparisons, and for whoever suspects this code.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVSS_LANES_DIGEST 32

/* As many messages as give the most speed at once; more are welcome, and wait for a free lane. */
#define KVSS_LANES_MAX 16

typedef struct {
    const void *data; /* borrowed; at any address; NULL only with length 0 */
    size_t length;    /* bytes, any */
    uint8_t *out_digest; /* KVSS_LANES_DIGEST bytes, in nobody's data */
} KvssMessage;

/**
 * kvss_lanes_hash:
 * @messages: @n of them (0 is fine), of any lengths
 *
 * The SHA-256 of each. Messages of about the same length, a multiple of
 * KVSS_LANES_MAX of them, are the fastest. Threads: any; cannot fail.
 */
void kvss_lanes_hash(const KvssMessage *messages, size_t n);

/* ---- for tests: the ways by name ---- */

typedef enum {
    KVSS_LANES_SHA_NI = 1 << 0,
    KVSS_LANES_AVX512 = 1 << 1,
} KvssLanesWays;

/** What this processor can do; 0: nothing but OpenSSL's own. */
KvssLanesWays kvss_lanes_possible(void);

/** The same with these ways only (0: OpenSSL's), which must be possible. */
void kvss_lanes_hash_by(KvssLanesWays ways, const KvssMessage *messages, size_t n);
