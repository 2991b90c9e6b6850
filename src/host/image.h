/*
 * image.h - disk image files: what they are, how to make the same again, serving them
 *
 * QEMU's own tools do the work. The format is always given, never probed: the
 * first sectors of a raw disk belong to the guest. Paths are absolute, so that
 * nothing in them can be taken for a protocol or an option.
 */
#pragma once

#include "host/error.h"

#include <sys/types.h>

/** What checkpoints of ours, and their bitmaps in images, are called. */
#define KVSS_CHECKPOINT_PREFIX "kvss-"

/** One image below another. */
typedef struct {
    char *path;
    char *format;        /* (nullable) not on record in the image above: not looked into further */
} KvssImageLink;

typedef struct {
    char *format;
    uint64_t size;       /* guest-visible bytes */
    uint64_t allocated;  /* bytes on the host's file system */
    char *options;       /* JSON for kvss_image_create; "{}" at least */
    GPtrArray *backing;  /* KvssImageLink, nearest first; empty for an image that stands alone */
    bool is_encrypted;
    bool can_track;      /* dirty bitmaps can be kept in it: qcow2 of version 3 that holds its data itself */
    char *entangled;     /* (nullable) what else hangs on its content: "internal snapshots", "a data file of its own", ...; not bitmaps of ours */
} KvssImageInfo;

/**
 * kvss_image_info:
 * @is_in_use: a running VM has it open: read beside its lock (metadata only)
 *
 * Options are those that qemu-img would need to make such an image: cluster_size,
 * compat, lazy_refcounts, refcount_bits, extended_l2, compression_type (qcow2),
 * subformat, block_size, log_size (vpc, vhdx), ... and, for the record only,
 * "backing_chain" (a list of "PATH (FORMAT)") and "data_file".
 *
 * Errors: BUSY (in use, and @is_in_use is false), FAILED with QEMU's words, INVALID.
 * Blocks: some 20 ms an image. Source: qemu-img info --output=json.
 */
KvssImageInfo *kvss_image_info(const char *path, const char *format, bool is_in_use,
                               GError **error);
void kvss_image_info_free(KvssImageInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssImageInfo, kvss_image_info_free)

/**
 * kvss_image_identity:
 * @info: of this image
 *
 * Which file it is, whatever its name: a copy, and what replaced it, are others. So are the
 * images below it, and when they were written last. NULL where one is no regular file.
 * Free with g_free. Source: statx (inode, time of birth, of the last write).
 */
char *kvss_image_identity(const char *path, const KvssImageInfo *info);

/** True for formats that QEMU can make and write: raw, qcow2, qed, vdi, vhdx, vmdk, vpc. */
bool kvss_image_can_create(const char *format);

/**
 * kvss_image_create:
 * @path: must not exist
 * @options: (nullable) as kvss_image_info() gave it, or a stranger's text
 *
 * Makes an image that reads as zeroes and has no backing file, mode 0600. An
 * option this build does not know is left out (options shape how a disk lies, not
 * what is on it); a value that is out of range is INVALID. On failure nothing is left.
 *
 * Errors: KVSS_IO_ERROR (a file in the way, no space), UNSUPPORTED, INVALID, FAILED.
 */
bool kvss_image_create(const char *path, const char *format, uint64_t size, const char *options,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** True if @options ask for room on the file system from the start (an image with no holes). */
bool kvss_image_options_preallocate(const char *options);
/** Where an image had its data, when that was a file of its own; NULL: in itself. Free with g_free. */
char *kvss_image_options_data_file(const char *options);

/** The file system's word on a path: bytes free there for us. */
bool kvss_image_room(const char *folder, uint64_t *out_free, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- serving an image as NBD (image-server.c) ---- */

typedef struct {
    const char *path;         /* image or block device */
    const char *format;
    const char *socket;       /* where to serve; absolute, under 108 characters, must not exist */
    const char *export_name;  /* "vda" */
    bool is_writable;         /* for a restore; else the image is held still and read-only */
    bool keeps_room;          /* zeroes written do not become holes */
    const char *bitmap;       /* (nullable) a dirty bitmap of the image, offered with it (read-only) */
    bool is_new;              /* filled once, and read by nobody before: past the page cache where that is possible */
} KvssImageServerOptions;

typedef struct KvssImageServer KvssImageServer;

/**
 * kvss_image_server_start:
 *
 * Serves an image by qemu-nbd, with the image locked: a VM that uses it cannot
 * start meanwhile, and an image that a VM uses cannot be served. When this
 * returns the socket accepts. The server lives as long as this object: a
 * connection of ours stays open until then, and the server ends by itself with
 * its last connection, also when this process is killed.
 *
 * Errors: BUSY (image in use), UNSUPPORTED (qemu-nbd missing), FAILED with its words,
 * TIMED_OUT. Blocks: some 50 ms, at most a minute.
 * Source: qemu-nbd(8); libvirt-qemu.md 7B.
 */
KvssImageServer *kvss_image_server_start(const KvssImageServerOptions *options, GError **error);

/** For a journal: names the process, also for a later process (see process.h). */
pid_t kvss_image_server_pid(const KvssImageServer *server);
uint64_t kvss_image_server_start_time(const KvssImageServer *server);
const char *kvss_image_server_socket(const KvssImageServer *server);
const char *kvss_image_server_export(const KvssImageServer *server);
/** Guest-visible bytes. */
uint64_t kvss_image_server_size(const KvssImageServer *server);

/**
 * kvss_image_server_finish:
 *
 * After writing, with all other connections closed: lets the server end in good
 * order and syncs the image. True: everything written survives a crash.
 */
bool kvss_image_server_finish(KvssImageServer *server, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Ends the server, removes its socket, frees. Accepts NULL. */
void kvss_image_server_free(KvssImageServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssImageServer, kvss_image_server_free)
