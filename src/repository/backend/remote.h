/*
 * remote.h - what backends of servers have in common
 *
 * A backend embeds KvssRemoteBackend as its first member, says by KvssRemoteOps how
 * its server names a file and refuses a request, and takes the functions here for
 * its KvssBackendOps and its life.
 *
 * Threads: as backend.h; what is about the life of the object: one.
 */
#pragma once

#include "repository/backend/http.h"
#include "repository/backend/uploads.h"

typedef struct KvssRemoteBackend KvssRemoteBackend;

typedef struct {
    /* The path of a request for a file. Free with g_free. */
    char *(*file_path)(KvssRemoteBackend *remote, KvssFileType type, const char *name);

    /* True: a success. Every refusal is an error; absent is KVSS_IO_ERROR_NOT_FOUND. */
    bool (*send)(KvssRemoteBackend *remote, const KvssHttpRequest *request,
                 KvssHttpAnswer *out_answer, GError **error);
} KvssRemoteOps;

struct KvssRemoteBackend {
    KvssBackend backend;         /* first: this is one */
    const KvssRemoteOps *server;
    KvssUploads *uploads;
    GPtrArray *new_keys;         /* created, and no config yet: names of what is removed when cleared; else NULL */
};

/** "keys/", "data/": where files of a type are, below the repository; "config" itself. */
const char *kvss_remote_type_path(KvssFileType type);

/** @location: copied; shown in messages. */
void kvss_remote_init(KvssRemoteBackend *remote, const KvssBackendOps *ops,
                      const KvssRemoteOps *server, const char *location);

/** Waits for what is under way, removes the keys of a repository that got no config. The server must still be there. */
void kvss_remote_clear(KvssRemoteBackend *remote);

/* For KvssBackendOps. */
bool kvss_remote_size(KvssBackend *backend, KvssFileType type, const char *name,
                      uint64_t *out_size, GError **error);
bool kvss_remote_read(KvssBackend *backend, KvssFileType type, const char *name, uint64_t offset,
                      void *buffer, size_t length, GError **error);
bool kvss_remote_read_all(KvssBackend *backend, KvssFileType type, const char *name,
                          size_t max_length, GBytes **out_bytes, GError **error);

/** Is the config that lies there the one that we put? An attempt whose answer was lost may have stored it. */
bool kvss_remote_config_is(KvssBackend *backend, const void *data, size_t length);

/** A repository is there. MISSING: it is not, or cannot be looked at, with the reason. */
bool kvss_remote_check_there(KvssRemoteBackend *remote, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** None is there. EXISTS; MISSING as above. */
bool kvss_remote_check_absent(KvssRemoteBackend *remote, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** From here on it is being created: until kvss_remote_end_creation(), keys go with the object. */
void kvss_remote_begin_creation(KvssRemoteBackend *remote);
void kvss_remote_end_creation(KvssRemoteBackend *remote);

/** A put of @name is about to begin. */
void kvss_remote_note_put(KvssRemoteBackend *remote, KvssFileType type, const char *name);
