/*
 * image-options.h - creation options of image formats, read and written
 *
 * Inside host/ only: image.h is for callers.
 */
#pragma once

#include "host/error.h"

#include <json-glib/json-glib.h>

/**
 * kvss_image_options_read:
 * @fd: the image, open for reading
 * @info: what qemu-img info says of it
 *
 * The options that make such an image again, as a JSON object. What qemu-img
 * does not tell (VHD, VHDX, VDI) is read from the image's own header, bounded;
 * what makes no sense there is left out.
 */
JsonObject *kvss_image_options_read(int fd, const char *format, JsonObject *info);

/**
 * kvss_image_options_for_create:
 * @options: (nullable) JSON text, maybe a stranger's
 *
 * As qemu-img create -o wants them, "" for none. Only names from our table, with
 * checked values. Errors: INVALID.
 */
char *kvss_image_options_for_create(const char *format, const char *options, GError **error);
