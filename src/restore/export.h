/*
 * export.h - one stored disk into a file, with no VM and no libvirt
 *
 *   repository ─▶ source ─▶ copy ─▶ .FILE.kvss-part-… ─▶ synced ─▶ FILE
 *
 * A FILE that is there is whole: it gets its name last.
 */
#pragma once

#include "../catalogue/catalogue.h"
#include "../stream/copy.h"

G_BEGIN_DECLS

/** What is asked. Everything is borrowed until the export is over. */
typedef struct {
    KvssRepository *repository;
    const KvssBackup *backup;
    const KvssManifestVm *vm;
    const KvssDisk *disk;
    const char *path;             /* absolute; must not exist, its folder must */
    const char *format;           /* one that kvss_export_is_format() knows */
    KvssCopyProgress progress;    /* (nullable) */
    gpointer progress_data;
    GCancellable *cancellable;    /* (nullable) */
} KvssExportOptions;

typedef struct {
    uint64_t size;                /* bytes of the disk */
    uint64_t bytes_written;       /* of them that were not known to be zero */
} KvssExportResult;

/** "raw", "qcow2", "vhdx", "vpc" (which is VHD). */
bool kvss_export_is_format(const char *format);

/** The format that the end of a file's name stands for: .raw .img .qcow2 .vhdx .vhd; else "raw";
 * NULL for that of a format which is not written (.vmdk, .vdi, ...). */
const char *kvss_export_format_of(const char *path);

/**
 * kvss_export_run:
 *
 * Writes the disk into a new image of mode 0600, sparse, with its format's own defaults. True: it
 * is complete and survives a crash. On failure there is no FILE and nothing beside it; a
 * process that is killed leaves its ".FILE.kvss-part-*".
 *
 * Errors: KVSS_IO_ERROR (BUSY: a file in the way, NO_SPACE, CANCELLED);
 * KVSS_RESTORE_ERROR_NO_ROOM: it would not fit, nothing was written; KVSS_HOST_ERROR: what
 * QEMU's tools said; those of the repository. Blocks: until done.
 */
bool kvss_export_run(const KvssExportOptions *options, KvssExportResult *out_result,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_export_to_fd:
 * @fd: (borrowed) a pipe, or whatever takes bytes in order
 *
 * The same disk as raw bytes, zeroes and all; path and format of @options are not used.
 */
bool kvss_export_to_fd(const KvssExportOptions *options, int fd, KvssExportResult *out_result,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
