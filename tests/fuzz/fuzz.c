/*
 * fuzz.c - a libFuzzer program for the target that FUZZ_TARGET names
 */
#include "targets.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    for (const FuzzTarget *target = fuzz_targets; target->name; target++)
        if (strcmp(target->name, FUZZ_TARGET) == 0)
            target->feed(data, length);
    return 0;
}
