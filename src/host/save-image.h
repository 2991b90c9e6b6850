/*
 * save-image.h - libvirt's save images: RAM and device state of a domain in a file
 *
 *   92 bytes of header │ XML, NUL, cookie, NUL, padding (data_len bytes) │ QEMU's stream
 *
 * The file may come from a stranger's repository: everything is checked before
 * it is used. Source: libvirt's qemu_saveimage.h; libvirt-qemu.md 5.5.
 */
#pragma once

#include "base/error.h"

#define KVSS_SAVE_IMAGE_HEADER_LENGTH 92u
/** A definition with cookie and padding is far smaller; more is a lie. */
#define KVSS_SAVE_IMAGE_DATA_MAX (16u * 1024 * 1024)

typedef struct {
    bool is_swapped;      /* written on a host of the other byte order */
    uint32_t version;
    uint32_t compressed;  /* 0 raw, 1 gzip, 2 bzip2, 3 xz, 4 lzop, ... */
    bool was_running;     /* a start resumes it; else it stays paused */
    char *xml;            /* the definition inside */
    char *cookie;         /* (nullable) */
    uint64_t data_length; /* bytes between header and stream */
    uint64_t size;        /* of the file */
} KvssSaveImage;

/**
 * kvss_save_image_read:
 *
 * Reads header and definition. Errors: KVSS_IO_ERROR_CORRUPT for a partial image,
 * another file, lengths that lie; KVSS_IO_ERROR.
 */
KvssSaveImage *kvss_save_image_read(const char *path, GError **error);
void kvss_save_image_free(KvssSaveImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSaveImage, kvss_save_image_free)

/**
 * It is there, and its writing never came to an end: libvirt throws such an image away at the
 * next start and starts the domain afresh. false where there is none, or it cannot be read.
 */
bool kvss_save_image_is_partial(const char *path);

/** Sets whether a start resumes it, in place, and syncs. */
bool kvss_save_image_set_running(const char *path, bool is_running, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_save_image_set_xml:
 * @xml: the new definition: same devices, memory and machine type as before
 *
 * Puts another definition inside; the cookie stays. In place where it fits into
 * the padding, else through a new file beside that is renamed over @path. Synced.
 */
bool kvss_save_image_set_xml(const char *path, const char *xml, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
