/*
 * cheap-key.h - a repository for tests that opens at once
 */
#pragma once

/** A key that costs nothing in place of the one that init made: scrypt takes a moment each time. */
void cheap_key(const char *location, const char *password);
