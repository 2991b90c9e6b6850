/*
 * details.h - what an act's details say, and whether what they name is there
 *
 * Private to the files that undo acts.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/** A text of the details; "" where they have none. Borrowed. */
static inline const char *
detail(JsonObject *details, const char *name)
{
    return json_object_get_string_member_with_default(details, name, "");
}

/** Something is at @path, a link that leads nowhere too; "" is nothing. */
static inline bool
is_there(const char *path)
{
    struct stat st;

    return *path && lstat(path, &st) == 0;
}
