/*
 * targets.h - what the fuzzers feed: every reader of a stranger's bytes
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name; /* of the program and of its folder in corpus/ */
    void (*feed)(const uint8_t *data, size_t length);
} FuzzTarget;

/** Ended by one without a name. */
extern const FuzzTarget fuzz_targets[];
