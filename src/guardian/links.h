/*
 * links.h - symbolic links of ours in the host's default location
 *
 * A VM whose disks were restored elsewhere has a link to each where people and
 * programs look first. Such a link carries our mark, an extended attribute that
 * names the VM and the disk (trusted.kvss.link: "UUID/TARGET"), and gets its name
 * only with the mark on it. So whether it is ours is told by the link itself, on
 * whatever host, with no record that could be lost; nothing else is ever replaced
 * or removed.
 */
#pragma once

#include "base/error.h"

typedef struct {
    char *path;   /* the link */
    char *target; /* where it leads; "" in kvss_link_apply(): nowhere, it goes */
    char *uuid;   /* of the VM */
    char *disk;   /* "vda" */
} KvssLink;

/** Is a link of ours at @path? */
bool kvss_link_is_ours(const char *path);

/** Is any link at @path that leads to @target, by these very words? */
bool kvss_link_leads_to(const char *path, const char *target);

/** Our links in @folder for this disk of this VM. (element-type char*: paths) */
GPtrArray *kvss_links_find(const char *folder, const char *uuid, const char *disk);

/**
 * kvss_link_apply:
 *
 * With a target: makes the link, and its folder when only that is missing; one of
 * ours in its place is replaced. Without: removes it, if it is ours. May run twice,
 * in any process; what is done stays done through a crash.
 *
 * Errors: KVSS_IO_ERROR_BUSY when something that is not ours is there: it stays.
 * FAILED where the file system holds no such attribute.
 */
bool kvss_link_apply(const KvssLink *link, GError **error) G_GNUC_WARN_UNUSED_RESULT;
