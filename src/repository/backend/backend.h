/*
 * backend.h - where a repository's files lie: a local folder, or behind a server
 *
 * A file is named by its type and (but for the config) 64 hex digits. A stored
 * file never changes. Implementations fill KvssBackendOps; callers use the
 * functions, which add the place to every error and turn "no room" into
 * KVSS_REPOSITORY_ERROR_NO_SPACE with what to do.
 *
 * Threads: any number, in every function.
 */
#pragma once

#include "repository/repository.h"

typedef enum {
    KVSS_FILE_CONFIG,
    KVSS_FILE_KEY,
    KVSS_FILE_LOCK,
    KVSS_FILE_SNAPSHOT,
    KVSS_FILE_INDEX,
    KVSS_FILE_DATA,
    KVSS_FILE_N_TYPES
} KvssFileType;

/** "key", "pack", ...: the word for messages. */
const char *kvss_file_type_name(KvssFileType type);

typedef struct {
    uint8_t id[KVSS_ID_LENGTH];
    uint64_t size;
} KvssStoredFile;

typedef struct KvssBackend KvssBackend;

/** A file that is being written and has no name yet. One thread at a time. */
typedef struct {
    KvssBackend *backend;
} KvssSpool;

typedef struct {
    const char *name; /* "local", "rest" */
    bool is_remote;   /* behind a server: a spool is memory, and each call a round trip */

    /* Appends to @out_files (element-type KvssStoredFile), in no order; other names are passed over. */
    bool (*list)(KvssBackend *backend, KvssFileType type, GArray *out_files, GError **error);

    bool (*size)(KvssBackend *backend, KvssFileType type, const char *name, uint64_t *out_size,
                 GError **error);

    /* Exactly @length bytes from @offset. */
    bool (*read)(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
                 void *buffer, size_t length, GError **error);

    /* The whole file; one that is longer than @max_length is CORRUPT. NULL: size(), then read(). */
    bool (*read_all)(KvssBackend *backend, KvssFileType type, const char *name, size_t max_length,
                     GBytes **out_bytes, GError **error);

    /* A small file at once: durable when it returns. */
    bool (*put)(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
                size_t length, GError **error);

    /* Durable when it returns. Absent is KVSS_IO_ERROR_NOT_FOUND. */
    bool (*remove)(KvssBackend *backend, KvssFileType type, const char *name, GError **error);

    /* Large files: append, then store once; free without a store leaves nothing. */
    KvssSpool *(*spool_new)(KvssBackend *backend, GError **error);
    bool (*spool_append)(KvssSpool *spool, const void *data, size_t length, GError **error);
    bool (*spool_store)(KvssSpool *spool, KvssFileType type, const char *name, GError **error);
    void (*spool_free)(KvssSpool *spool);

    /* Makes every store before it durable. */
    bool (*sync)(KvssBackend *backend, GError **error);

    /* Another process stored it, maybe a moment ago: the next sync() covers it too. NULL: nothing to do. */
    void (*count_on)(KvssBackend *backend, KvssFileType type, const char *name);

    /* Removes what dead writers left half-written. NULL: none can be. Best effort. */
    void (*drop_remains)(KvssBackend *backend);

    /* Can nothing be written here? NULL: no. */
    bool (*is_read_only)(KvssBackend *backend);

    void (*free)(KvssBackend *backend);
} KvssBackendOps;

struct KvssBackend {
    const KvssBackendOps *ops;
    char *location; /* for messages and lock notes: no credentials in it */
};

/** A repository that is there. MISSING when it is not or cannot be reached; UNSUPPORTED for what this build does not speak. */
KvssBackend *kvss_backend_open(const char *location, GError **error);

/** Makes the folders of a new one. EXISTS, MISSING. Freed without a config put: they are removed again. */
KvssBackend *kvss_backend_create(const char *location, GError **error);

void kvss_backend_free(KvssBackend *backend);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssBackend, kvss_backend_free)

GArray *kvss_backend_list(KvssBackend *backend, KvssFileType type, GError **error);
bool kvss_backend_size(KvssBackend *backend, KvssFileType type, const char *name,
                       uint64_t *out_size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_backend_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
                       void *buffer, size_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The whole file; one that is larger than @max_length is CORRUPT. */
GBytes *kvss_backend_read_all(KvssBackend *backend, KvssFileType type, const char *name,
                              size_t max_length, GError **error);
bool kvss_backend_put(KvssBackend *backend, KvssFileType type, const char *name, const void *data,
                      size_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_backend_remove(KvssBackend *backend, KvssFileType type, const char *name,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The same for what may be gone already: by an earlier attempt whose answer was lost, or by somebody else. */
bool kvss_backend_drop(KvssBackend *backend, KvssFileType type, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_backend_check_may_remove:
 *
 * A server that only takes says so when the first file is to go: better before
 * what is to replace it is written, and can never go either.
 */
bool kvss_backend_check_may_remove(KvssBackend *backend, KvssFileType type, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_backend_sync(KvssBackend *backend, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void kvss_backend_count_on(KvssBackend *backend, KvssFileType type, const char *name);
void kvss_backend_drop_remains(KvssBackend *backend);
bool kvss_backend_is_read_only(KvssBackend *backend);

/** Does it lie behind a server? */
bool kvss_backend_is_remote(KvssBackend *backend);

KvssSpool *kvss_spool_new(KvssBackend *backend, GError **error);
bool kvss_spool_append(KvssSpool *spool, const void *data, size_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_spool_store:
 *
 * Syncs the content and gives it its name; the name itself is durable after
 * kvss_backend_sync(). After a failure the spool can only be freed.
 */
bool kvss_spool_store(KvssSpool *spool, KvssFileType type, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void kvss_spool_free(KvssSpool *spool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSpool, kvss_spool_free)

/* backend/local.c; @path is a folder. */
KvssBackend *kvss_backend_open_local(const char *path, GError **error);
KvssBackend *kvss_backend_create_local(const char *path, GError **error);

/* backend/rest.c; @location is "rest:http(s)://[user[:password]@]host[:port]/path/". */
KvssBackend *kvss_backend_open_rest(const char *location, GError **error);
KvssBackend *kvss_backend_create_rest(const char *location, GError **error);

/** Without user and password, also when it is no URL at all. */
char *kvss_rest_location_text(const char *location);

/** Appends what a server's listing of either version names: KvssStoredFile, the size unknown (G_MAXUINT64) in version 1. Errors: CORRUPT. */
bool kvss_rest_listing_parse(const void *text, size_t length, bool is_v2, GArray *out_files,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* backend/s3.c; @location is "s3:http(s)://host[:port]/bucket[/prefix]" or "s3:host/bucket[/prefix]". */
KvssBackend *kvss_backend_open_s3(const char *location, GError **error);
KvssBackend *kvss_backend_create_s3(const char *location, GError **error);

/** Without opening the repository: for locks that a dead process left. */
bool kvss_backend_local_remove_lock(const char *path, const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
