/*
 * definition.h - a stored definition, made true for where the VM is restored
 *
 * Work on text: the host is only looked at (networks, media, kernels), never changed.
 */
#pragma once

#include "vss/component.h"

struct KvssHost;

/** One interface of the VM, and what became of it. */
typedef struct {
    char *type;        /* "network", "bridge", "direct", "user", ... */
    char *source;      /* (nullable) name of the network, bridge or device */
    char *was;         /* (nullable) name of the one that this takes the place of */
    char *mac;         /* (nullable) */
    bool is_connected; /* false: its source is not on this host; its link is down */
} KvssDefinitionNetwork;

typedef struct {
    GPtrArray *networks;       /* KvssDefinitionNetwork */
    GPtrArray *notes;          /* char*: what was changed that a person should know */
    GPtrArray *kept;           /* char*: what reaches into the host and stays, with the reason */
    GPtrArray *lost_disks;     /* char*: targets of disks that are not in the VM any more */
    bool left_out_host_access; /* something that reaches into the host */
    bool lost_device;          /* one that the guest had: its saved memory does not fit any more */
} KvssDefinitionReport;

void kvss_definition_report_clear(KvssDefinitionReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssDefinitionReport, kvss_definition_report_clear)

/**
 * kvss_definition_correct:
 * @xml: the stored definition, or the one inside a save image; a stranger's text
 * @component: its disks[] say path, kind and format of each restored disk, its
 *     file "nvram.fd" the path of the variable store, its restore_options the wishes
 *     (see restore-steps.h)
 * @host: (nullable) NULL: every network counts as there
 * @mark_run: (nullable) puts the mark of an unfinished restore of this run inside
 * @out_report: (optional)
 *
 * Disks: each restored one points to its place, with its format, as a single image
 * (backing chain, encryption and slices are dropped: the stored content is flat
 * and plain).
 *
 * Interfaces keep their MAC and get a new port. One whose network is mapped goes to
 * the other one; one whose network, bridge or device is not on this host becomes an
 * unconnected one with its link down. Removable media that are not here become optional.
 *
 * Host access: what would make the host run a command of the definition's choice, or
 * let the guest at files, devices, sockets of the host that are not restored, is left
 * out (docs/guarantees.md has the list), unless it was asked for or the VM that is
 * replaced has just the same here and now. A character device stays, with nothing behind it.
 *
 * A copy gets its new name, UUID, MACs and generation ID, and shares no path.
 *
 * Everything else stays as it was.
 *
 * Returns: the new text, free with g_free. Errors: KVSS_HOST_ERROR_INVALID.
 */
char *kvss_definition_correct(const char *xml, const KvssComponent *component,
                              struct KvssHost *host, const char *mark_run,
                              KvssDefinitionReport *out_report, GError **error);
