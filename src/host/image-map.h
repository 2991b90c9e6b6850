/*
 * image-map.h - where the content of a disk image lies in its files
 *
 * As QEMU's own tools tell it. What is compressed, encrypted or zero, and what lies
 * in a format that is not raw or qcow2, has no place here.
 */
#pragma once

#include "host/error.h"

/** A stretch of the guest's disk whose bytes stand in a file as they are. */
typedef struct {
    uint64_t start, length; /* on the guest's disk, bytes */
    uint64_t offset;        /* in the file */
    guint depth;            /* which file: 0 the image, 1 the one below it, ... */
} KvssImageRun;

/**
 * kvss_image_map:
 * @path: absolute, as everywhere
 * @start, @length: which part of the guest's disk, bytes
 * @out_runs: (element-type KvssImageRun) emptied, then filled; in order, none overlaps another
 *
 * Errors: INVALID (an answer that makes no sense, or of more than KVSS_PROCESS_OUTPUT_MAX: ask
 * for less), and those of kvss_process_run(). Nothing is found of an image that somebody writes.
 * Blocks: some 20 ms. Source: qemu-img map --output=json.
 */
bool kvss_image_map(const char *path, const char *format, uint64_t start, uint64_t length,
                    GArray *out_runs, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The same of the text of such an answer. */
bool kvss_image_map_parse(const char *text, uint64_t start, uint64_t length, GArray *out_runs,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_image_files:
 *
 * Returns: (element-type utf8) by depth, the files that the map speaks of; NULL for one whose content
 * is not in the file itself (a data file of its own), or that is not a plain path or of another
 * format. Errors: as above. Source: qemu-img info --backing-chain.
 */
GPtrArray *kvss_image_files(const char *path, const char *format, GError **error);

/** The same of the text of such an answer. */
GPtrArray *kvss_image_files_parse(const char *text, GError **error);
