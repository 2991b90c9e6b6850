/*
 * fd.h - descriptors that close themselves, and whole reads and writes
 */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/** An int that is closed when it goes out of scope; -1 is nothing. */
#define kvss_autofd __attribute__((cleanup(kvss_fd_clear)))

/** Closes *@fd if it is open and sets it to -1. errno is kept. */
void kvss_fd_clear(int *fd);

/** Hands the descriptor over: returns *@fd and leaves -1 there. */
int kvss_fd_steal(int *fd);

/**
 * kvss_pread_exact, kvss_pwrite_exact:
 *
 * Transfer exactly @length bytes at @offset, going on after short transfers and
 * EINTR. A file that ends early is KVSS_IO_ERROR_CORRUPT. Block: on the file.
 */
bool kvss_pread_exact(int fd, void *buffer, size_t length, uint64_t offset, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_pwrite_exact(int fd, const void *buffer, size_t length, uint64_t offset,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** What memory, offset and length are multiples of where kvss_fd_open_direct()'s descriptor is used. */
#define KVSS_DIRECT_ALIGNMENT 4096u

/**
 * kvss_fd_open_direct:
 * @fd: a regular file or block device, open for writing
 *
 * Another descriptor of it, past the page cache (O_DIRECT); -1 where that is not possible, or
 * where the file system does something with the content on its way through the cache
 * (compression, checksums). A write through it may still be refused: then the cache is the way.
 */
int kvss_fd_open_direct(int fd);

/**
 * kvss_fd_enter_direct, kvss_fd_leave_direct:
 * @fd: a regular file or block device, open for writing
 *
 * The same for this very descriptor, from now on and until it is left. enter() returns: is it
 * so? Nothing has changed where it is not.
 */
bool kvss_fd_enter_direct(int fd);
void kvss_fd_leave_direct(int fd);

/**
 * kvss_write_exact:
 *
 * Writes at the current position; for pipes, sockets and appended files.
 */
bool kvss_write_exact(int fd, const void *buffer, size_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_fsync:
 * @path: for the message only
 *
 * A failed fsync is final: the caller must give the file up, never try again.
 */
bool kvss_fsync(int fd, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Opens the folder, syncs it, closes it. Makes a rename or unlink in it durable. */
bool kvss_fsync_folder(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_make_folders:
 *
 * Makes the folder and those above it that are missing, each durable in the one above before
 * this returns: what is synced in it later cannot be lost with it. One that is there is fine.
 */
bool kvss_make_folders(const char *path, mode_t mode, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Is what is open here still what the path names? */
bool kvss_fd_is_at(int fd, const char *path);
