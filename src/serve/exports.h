/*
 * exports.h - which disks of a backup are served, and what they are called
 *
 * "web/vda"; where two VMs of a set have the same name, "UUID/vda".
 */
#pragma once

#include "catalogue/catalogue.h"

typedef struct {
    char *name;
    char *description;  /* one line for people */
    const KvssManifestVm *vm;
    const KvssDisk *disk;
} KvssServeExport;

/**
 * kvss_serve_exports_new:
 * @vm, @target: (nullable) this VM's only, this disk only
 *
 * (element-type KvssServeExport), in the order of the set; the backup must outlive it. Errors:
 * those of kvss_manifest_find_vm() and of kvss_manifest_find_disk(); KVSS_CATALOGUE_ERROR_NOT_FOUND
 * when there is no disk at all.
 */
GPtrArray *kvss_serve_exports_new(const KvssBackup *backup, const char *vm, const char *target,
                                  GError **error);

/** By its name, or by UUID/target. With "" the only one. Returns: its index, or -1. */
int kvss_serve_exports_find(const GPtrArray *exports, const char *name);

/** "nbd+unix:///web/vda?socket=/run/x.sock", with all escaped that must be. Free with g_free. */
char *kvss_serve_uri(const char *name, const char *socket);
