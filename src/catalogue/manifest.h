/*
 * manifest.h - set.json: what a backup set says of itself
 *
 * One JSON document at the top of a set makes it a set. It is written from the
 * components as the writers filled them, and read back into components for a
 * restore. What is read is a stranger's text: bounded, checked, and no path in
 * it leads out of the set.
 *
 * Source: docs/format/set.md.
 */
#pragma once

#include "../vss/snapshot-set.h"

G_BEGIN_DECLS

#define KVSS_MANIFEST_NAME "set.json"
#define KVSS_MANIFEST_SCHEMA 1
/** A larger set.json is refused unread. Three thousand VMs need about 10 MiB. */
#define KVSS_MANIFEST_MAX_LENGTH (64u * 1024 * 1024)

typedef enum {
    KVSS_CATALOGUE_ERROR_NOT_FOUND, /* no such backup; no such VM in it */
    KVSS_CATALOGUE_ERROR_AMBIGUOUS, /* a prefix or name that fits several */
    KVSS_CATALOGUE_ERROR_CORRUPT,   /* set.json is not what it must be */
    KVSS_CATALOGUE_ERROR_VERSION,   /* written by a newer kvss */
    KVSS_CATALOGUE_ERROR_FAILED,    /* the set says that the backup of a VM did not succeed */
    KVSS_CATALOGUE_ERROR_NOT_SELECTABLE, /* a component is restored with another one only */
} KvssCatalogueError;

#define KVSS_CATALOGUE_ERROR (kvss_catalogue_error_quark())
GQuark kvss_catalogue_error_quark(void);

/** One VM of the set, or one component of another writer: what it is, and where it lies in the set. */
typedef struct {
    const char *top;          /* "vms"; "host" for a component of another writer */
    char *dir;                /* folder below it: its name made safe, unique there */
    char *writer;             /* (nullable) class id of the writer that declared it */
    char *writer_name;        /* (nullable) that writer's friendly name */
    uint64_t bytes;           /* of its carried files; counted for other writers' components */
    KvssComponent *component; /* display_name: the true name; name: the UUID. A read one has its times by
                               * the UTC clock, in microseconds since 1970 */
    GHashTable *disk_files;   /* disk target -> path in the set: "vms/web01/disks/vda.raw" */
    GHashTable *file_files;   /* KvssFile name -> path in the set: "vms/web01/domain.xml" */
} KvssManifestVm;

/** What happened in the run: one event or step of one writer or provider. */
typedef struct {
    char *event, *who;
    gint64 start_us, end_us;  /* UTC microseconds since 1970 */
    KvssHresult result;
} KvssManifestEvent;

typedef struct {
    char *set_id;             /* GUID of the snapshot set */
    char *program;            /* "kvss 0.1.0" */
    char *tools;              /* (nullable) "libvirt 9.0.0, QEMU 7.2.22" */
    char *host;               /* the hypervisor's host name */
    char *uri;                /* (nullable) libvirt URI */
    gint64 time_us;           /* UTC microseconds since 1970: when the instant was cut */
    KvssBackupType backup_type;
    bool same_instant;
    double skew_ms;           /* -1: does not apply */
    uint64_t size;            /* bytes of all disks and carried files as the set shows them */
    uint64_t bytes_read, bytes_stored;
    GPtrArray *vms;           /* KvssManifestVm: the virtual machines */
    GPtrArray *components;    /* KvssManifestVm: components of other writers */
    GPtrArray *events;        /* KvssManifestEvent, oldest first */
    GPtrArray *owned;         /* KvssComponent: those that the manifest owns */
    gint64 clock_offset_us;   /* what the components' times need to be UTC: 0 when they were read */
} KvssManifest;

KvssManifest *kvss_manifest_new(void);
void kvss_manifest_free(KvssManifest *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssManifest, kvss_manifest_free)

/**
 * kvss_manifest_add:
 * @component: (borrowed) must outlive the manifest
 * @writer: (nullable) class id; NULL, or that of the VM writer: it is a VM
 *
 * Adds a VM, or a component of another writer, and gives it, its disks and its files
 * their places in the set. The returned object belongs to the manifest.
 */
KvssManifestVm *kvss_manifest_add(KvssManifest *manifest, KvssComponent *component,
                                  const char *writer);

void kvss_manifest_add_event(KvssManifest *manifest, const char *event, const char *who,
                             gint64 start_us, gint64 end_us, KvssHresult result);

/** The VM by UUID or else by name; AMBIGUOUS when two have the name, NOT_FOUND. Borrowed. */
KvssManifestVm *kvss_manifest_find_vm(const KvssManifest *manifest, const char *name_or_uuid,
                                      GError **error);

/**
 * kvss_manifest_find:
 *
 * The same among VMs and components of other writers; these go by their display name
 * or their name. Borrowed.
 */
KvssManifestVm *kvss_manifest_find(const KvssManifest *manifest, const char *name, GError **error);

/**
 * kvss_manifest_find_disk:
 * @target: "vda"
 *
 * A disk of a VM of the set. Errors: NOT_FOUND, with the disks there are, or why this one
 * is not in the set. Borrowed.
 */
const KvssDisk *kvss_manifest_find_disk(const KvssManifestVm *vm, const char *target,
                                        GError **error);

/** Path of a disk, of a carried file, in the set; NULL when it is not one of the VM's. Borrowed. */
const char *kvss_manifest_disk_path(const KvssManifestVm *vm, const char *target);
const char *kvss_manifest_file_path(const KvssManifestVm *vm, const char *name);

/** The text of set.json. */
GBytes *kvss_manifest_to_json(const KvssManifest *manifest);

/**
 * kvss_manifest_from_json:
 *
 * Reads it back. Members that this version does not know are ignored. Strings,
 * lists and depth have limits; names of folders and files are checked, so that
 * every path that comes out is relative and stays inside the set.
 * Restored components have no bytes: read them from the set.
 *
 * Errors: CORRUPT with the place that is wrong; VERSION.
 */
KvssManifest *kvss_manifest_from_json(GBytes *text, GError **error);

/** @name made safe for a path: letters, digits, '.', '_', '-'; the rest '_'; no '.' in front; never empty. */
char *kvss_manifest_safe_name(const char *name);

/** "2026-01-31T12:00:00.123456Z". Free with g_free. */
char *kvss_manifest_time(gint64 time_us);

G_END_DECLS
