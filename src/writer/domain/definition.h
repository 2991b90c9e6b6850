/*
 * definition.h - a stored definition, made true for where the VM is restored
 *
 * Pure work on text: libvirt is asked only whether a network exists.
 */
#pragma once

#include "vss/component.h"

struct KvssHost;

/** One interface of the VM, and what became of it. */
typedef struct {
    char *type;        /* "network", "bridge", "direct", "user", ... */
    char *source;      /* (nullable) name of the network, bridge or device */
    char *mac;         /* (nullable) */
    bool is_connected; /* false: its source is not on this host; its link is down */
} KvssDefinitionNetwork;

typedef struct {
    GPtrArray *networks; /* KvssDefinitionNetwork */
    GPtrArray *notes;    /* char*: what was changed that a person should know */
    bool left_out_host_access; /* something that the host would have run */
} KvssDefinitionReport;

void kvss_definition_report_clear(KvssDefinitionReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssDefinitionReport, kvss_definition_report_clear)

/**
 * kvss_definition_correct:
 * @xml: the stored definition, or the one inside a save image; a stranger's text
 * @component: its disks[] say path, kind and format of each restored disk, its
 *     file "nvram.fd" the path of the variable store
 * @host: (nullable) NULL: every network counts as there
 * @mark_run: (nullable) puts the mark of an unfinished restore of this run inside
 * @out_report: (optional)
 *
 * Each restored disk points to its place, with its format, as a single image
 * (backing chain, encryption and slices are dropped: the stored content is flat
 * and plain). Interfaces keep their MAC; one whose network, bridge or device is
 * not on this host becomes an unconnected one with its link down. Removable media
 * that are not here become optional. What would make the host run a command of the
 * definition's choice is left out: arguments for QEMU, an emulator outside /usr,
 * scripts of interfaces. Everything else stays as it was.
 *
 * Returns: the new text, free with g_free. Errors: KVSS_HOST_ERROR_INVALID.
 */
char *kvss_definition_correct(const char *xml, const KvssComponent *component,
                              struct KvssHost *host, const char *mark_run,
                              KvssDefinitionReport *out_report, GError **error);
