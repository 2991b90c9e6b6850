/*
 * repository.h - where backups are kept: a repository in restic's format, version 2
 *
 *   config  keys/  data/xx/  index/  snapshots/  locks/
 *
 * Nothing here knows of VMs: it stores trees of files under one snapshot, and
 * gives them back. A stored file never changes; the snapshot comes last and
 * makes everything before it exist.
 */
#pragma once

#include "../base/error.h"

#include <gio/gio.h>

G_BEGIN_DECLS

struct KvssSource;
struct KvssSink;

/** Absent, corrupt and could-not-look are never the same code. */
typedef enum {
    KVSS_REPOSITORY_ERROR_NOT_FOUND,  /* no such snapshot or file; a blob that is named and not there is CORRUPT */
    KVSS_REPOSITORY_ERROR_MISSING,    /* the repository is not there, or is none, or cannot be reached */
    KVSS_REPOSITORY_ERROR_EXISTS,     /* init: there is one already, or the folder is not empty */
    KVSS_REPOSITORY_ERROR_PASSWORD,   /* no key opens with this password */
    KVSS_REPOSITORY_ERROR_LOCKED,     /* somebody else works here; the message says who and since when */
    KVSS_REPOSITORY_ERROR_CORRUPT,    /* present, but fails its check: never skipped in silence */
    KVSS_REPOSITORY_ERROR_FORMAT,     /* a version this build does not know */
    KVSS_REPOSITORY_ERROR_NO_SPACE,   /* full; nothing was damaged */
    KVSS_REPOSITORY_ERROR_AMBIGUOUS,  /* an id prefix that fits several snapshots */
    KVSS_REPOSITORY_ERROR_UNSUPPORTED, /* a kind of repository this build does not speak; what a server refuses on principle */
    KVSS_REPOSITORY_ERROR_REFUSED,    /* it may not be done; nothing was changed */
} KvssRepositoryError;

#define KVSS_REPOSITORY_ERROR (kvss_repository_error_quark())
GQuark kvss_repository_error_quark(void);

typedef struct KvssRepository KvssRepository;

typedef enum {
    KVSS_REPOSITORY_LOOK, /* read; takes restic's shared lock, written anew while open */
    KVSS_REPOSITORY_ADD,  /* read and add; the same lock */
    KVSS_REPOSITORY_REMOVE, /* read, add and remove; restic's exclusive lock: alone */
} KvssRepositoryMode;

#define KVSS_ID_LENGTH 32      /* bytes of a SHA-256 */
#define KVSS_ID_HEX_LENGTH 64

/**
 * kvss_repository_init:
 * @location: a folder (absent or empty), or rest:http(s)://[user[:password]@]host[:port]/path/
 * @password: not empty
 *
 * Creates a repository. When this returns true it survives a crash. On failure
 * nothing that was not there before is left.
 *
 * Errors: EXISTS, MISSING (parent absent), NO_SPACE, UNSUPPORTED, KVSS_IO_ERROR.
 * Source: restic's design document, "Repository Layout".
 */
bool kvss_repository_init(const char *location, const char *password, char **out_id,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_repository_open:
 * @cache_dir: (nullable) folder for the index cache, made when absent
 * @state_dir: folder where our own locks are noted (see below), made when absent
 *
 * Opens and locks. Locks in the repository that a dead kvss process of this
 * state folder left are removed first: each lock of ours is noted in
 * @state_dir/locks with a file that is flock()ed while its process lives, so
 * that neither pid numbers nor clocks decide. An exclusive lock of somebody
 * else, for REMOVE any lock, is LOCKED at once, unless it is older than 30
 * minutes. On a file system mounted read-only LOOK works without a lock. ADD and
 * REMOVE also remove the temporary files of writers that are gone. The index is
 * read when it is first needed.
 *
 * Errors: MISSING, PASSWORD, LOCKED, CORRUPT, FORMAT, UNSUPPORTED, NO_SPACE (a lock is
 * a file), KVSS_IO_ERROR.
 * Blocks: on disk; scrypt costs about 200 ms. Threads: one caller at a time on
 * the object, but for what says otherwise.
 */
KvssRepository *kvss_repository_open(const char *location, const char *password,
                                     KvssRepositoryMode mode, const char *cache_dir,
                                     const char *state_dir, GError **error);

/** How long to wait for those whose lock is in the way. */
typedef struct {
    uint64_t limit_ms;           /* 0: not at all */
    GCancellable *cancellable;   /* (nullable) ends the waiting */
    void (*begin)(const GError *in_the_way, gpointer data); /* (nullable) once, when it begins */
    gpointer data;
} KvssLockWait;

/**
 * kvss_repository_open_patiently:
 * @wait: (nullable) NULL: not at all, as kvss_repository_open()
 *
 * Like kvss_repository_open(), but looks again after a second, then ever more
 * rarely down to every 10 seconds, until nobody's lock is in the way or the
 * limit has passed. Nothing of ours lies in the repository meanwhile.
 * Errors: also KVSS_IO_ERROR_CANCELLED.
 */
KvssRepository *kvss_repository_open_patiently(const char *location, const char *password,
                                               KvssRepositoryMode mode, const char *cache_dir,
                                               const char *state_dir, const KvssLockWait *wait,
                                               GError **error);

/** Unlocks, wipes the keys, frees. Accepts NULL. */
void kvss_repository_free(KvssRepository *repository);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssRepository, kvss_repository_free)

/** The repository's id, 64 hex digits. */
const char *kvss_repository_id(const KvssRepository *repository);

/** Where this host may keep what it found out about it, in files with names of their own; NULL: nowhere. */
const char *kvss_repository_cache_dir(const KvssRepository *repository);

/** The local folder that it lies in, absolute; NULL: it lies behind a server. */
const char *kvss_repository_folder(const KvssRepository *repository);

/** @location for people: a URL without user and password. Free with g_free(). */
char *kvss_repository_location_text(const char *location);

/**
 * kvss_repository_drop_stale_locks:
 * @out_dropped: (optional) how many
 *
 * Only what open does first: removes the locks that dead kvss processes noted in
 * @state_dir left in any local repository, no password needed.
 */
bool kvss_repository_drop_stale_locks(const char *state_dir, bool dry_run,
                                      unsigned *out_dropped, GError **error);

/**
 * kvss_repository_drop_remote_locks:
 * @location: (nullable) a URL whose credentials are used where it names the same repository
 * @out_left: (element-type utf8) gets a sentence for each process whose locks may still be
 * there, since the server cannot be reached or refuses
 *
 * The same in repositories behind servers, which open does for its own one only.
 * Blocks: on the network, seconds for each server that does not answer.
 */
bool kvss_repository_drop_remote_locks(const char *state_dir, const char *location, bool dry_run,
                                       unsigned *out_dropped, GPtrArray *out_left,
                                       GError **error);

/* ---- keys: the passwords that open it ---- */

/** A key file. */
typedef struct {
    char id[KVSS_ID_HEX_LENGTH + 1];
    bool is_current;                      /* the one that opened the repository */
    char *created, *username, *hostname;  /* (nullable) RFC 3339, and who and where it was made */
    char *problem;                        /* (nullable) it is damaged: why */
} KvssKeyInfo;

void kvss_key_info_free(KvssKeyInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssKeyInfo, kvss_key_info_free)

/** The id of the key file that opened the repository. */
const char *kvss_repository_key(const KvssRepository *repository);

/** All key files, oldest first. (element-type KvssKeyInfo), free with unref. */
GPtrArray *kvss_repository_list_keys(KvssRepository *repository, GError **error);

/**
 * kvss_repository_add_key:
 * @repository: open with ADD or REMOVE
 * @password: not empty; opens the repository from now on, as all others do
 *
 * Durable when it returns. Errors: NO_SPACE, KVSS_IO_ERROR.
 */
bool kvss_repository_add_key(KvssRepository *repository, const char *password,
                             char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_repository_remove_key:
 * @repository: open with REMOVE
 * @prefix: what the key's id begins with
 *
 * Who copied the key file before can still open the repository with its password.
 * Errors: NOT_FOUND, AMBIGUOUS; REFUSED for the one that opened the repository, and so
 * for the last one; KVSS_IO_ERROR.
 */
bool kvss_repository_remove_key(KvssRepository *repository, const char *prefix,
                                char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_repository_replace_key:
 * @repository: open with REMOVE
 *
 * Another password in place of the one that opened the repository. Errors: as the two above;
 * when the old one could not be removed both open.
 */
bool kvss_repository_replace_key(KvssRepository *repository, const char *password,
                                 char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- snapshots: finished backups ---- */

/** Read only: the repository that it was read from shares it. */
typedef struct {
    char id[KVSS_ID_HEX_LENGTH + 1];
    char *time;          /* RFC 3339, as stored */
    gint64 time_us;      /* the same, UTC microseconds since 1970 */
    char *hostname;
    char *username;
    char **paths;
    char **tags;
    char *tree;          /* hex id */
    char *program_version; /* (nullable) */
} KvssSnapshot;

void kvss_snapshot_free(KvssSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssSnapshot, kvss_snapshot_free)

/**
 * All snapshots with @tag (NULL: all), oldest first. (element-type KvssSnapshot), free with unref.
 * One that is damaged is CORRUPT, and names it: find_snapshot() still gives the others.
 */
GPtrArray *kvss_repository_list_snapshots(KvssRepository *repository, const char *tag,
                                          GError **error);

/** Told of a snapshot file that is there and cannot be read. */
typedef void (*KvssSnapshotProblem)(const char *id, const GError *problem, gpointer data);

/**
 * kvss_repository_list_readable_snapshots:
 * @problem: (nullable) called for each snapshot file that is left out, whatever its tag may be
 *
 * The same, but damage of some does not hide the others. Errors: could not list
 * (KVSS_IO_ERROR); none could be read, and not one of them for damage.
 */
GPtrArray *kvss_repository_list_readable_snapshots(KvssRepository *repository, const char *tag,
                                                   KvssSnapshotProblem problem, gpointer data,
                                                   GError **error);

/** The snapshot whose id begins with @prefix. NOT_FOUND, AMBIGUOUS. */
KvssSnapshot *kvss_repository_find_snapshot(KvssRepository *repository, const char *prefix,
                                            GError **error);

/* ---- reading ---- */

typedef enum { KVSS_NODE_FILE, KVSS_NODE_FOLDER, KVSS_NODE_SYMLINK, KVSS_NODE_OTHER } KvssNodeType;

/** One entry of a stored folder. */
typedef struct {
    char *name;
    KvssNodeType type;
    unsigned mode;       /* permission bits, 0 to 07777 */
    unsigned uid, gid;
    uint64_t size;       /* bytes; files */
    char *link_target;   /* symlinks */
    char *subtree;       /* hex id; folders */
    uint8_t *content;    /* files: n_content ids of KVSS_ID_LENGTH bytes, in order */
    size_t n_content;
} KvssNode;

void kvss_node_free(KvssNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssNode, kvss_node_free)

/** The entries of the folder with tree id @tree. (element-type KvssNode). Names are checked: no '/', not ".", not "..". */
GPtrArray *kvss_repository_read_folder(KvssRepository *repository, const char *tree,
                                       GError **error);

/**
 * kvss_repository_lookup:
 * @tree: hex id of the folder to start in
 * @path: relative, '/' between names, "" for the folder itself is not allowed
 *
 * Errors: NOT_FOUND (absent), CORRUPT, KVSS_IO_ERROR.
 */
KvssNode *kvss_repository_lookup(KvssRepository *repository, const char *tree, const char *path,
                                 GError **error);

/** A small file whole. Larger than @max_length bytes is CORRUPT ("larger than expected"). Threads: any number. */
GBytes *kvss_repository_read_file(KvssRepository *repository, const KvssNode *node,
                                  size_t max_length, GError **error);

/**
 * kvss_repository_open_file:
 * @node: a file; borrowed only during the call
 *
 * A stored file as a source: parallel, random access, whatever the lengths of
 * its chunks; chunks of zeroes are reported as zero extents. Each chunk's hash
 * is checked on every read. A node whose size is not the sum of its chunks is
 * CORRUPT. The source must be freed before the repository.
 */
struct KvssSource *kvss_repository_open_file(KvssRepository *repository, const KvssNode *node,
                                             GError **error);

/* ---- adding ---- */

/** A backup in the making. Nothing of it exists for readers before commit. */
typedef struct KvssUpload KvssUpload;

typedef struct {
    uint64_t bytes_stored;  /* bytes added to the repository, after compression and encryption */
    uint64_t bytes_new;     /* plain bytes that the repository did not have */
    uint64_t chunks, chunks_new;
} KvssUploadStats;

/** @repository must be open with ADD, and outlive the upload. One upload at a time per object. */
KvssUpload *kvss_upload_new(KvssRepository *repository, GError **error);

/** How a disk of @size bytes is cut: 256 KiB up to 32 GiB, 512 KiB to 128 GiB, 1 MiB to 1 TiB, then doubling. */
uint32_t kvss_upload_chunk_size(uint64_t size);

/**
 * kvss_upload_open_file:
 * @path: relative path in the snapshot ("vms/web01/disks/vda.raw"); folders on the way are made
 * @size: bytes
 * @chunk_size: power of two, 64 KiB to 16 MiB; stays what it was for a disk that grows
 * @mode: permission bits
 * @out_stats: (optional) filled by finish(); must live until the sink is freed
 *
 * A parallel sink with block = @chunk_size: write() hashes, looks up, and for new
 * chunks compresses, encrypts and packs, in the calling thread; full packs go to
 * disk. What is never written reads as zeroes. finish() adds the file to the tree.
 * Memory: bounded, independent of @size but for 32 bytes a chunk until commit.
 * Several files may be open at once.
 * Errors: FORMAT for a path that is none, EXISTS from finish() when @path is taken,
 * NO_SPACE, KVSS_IO_ERROR. After an error of a write the whole upload can only be freed.
 */
struct KvssSink *kvss_upload_open_file(KvssUpload *upload, const char *path, uint64_t size,
                                       uint32_t chunk_size, unsigned mode,
                                       KvssUploadStats *out_stats, GError **error);

/**
 * kvss_upload_use_base:
 * @sink: from kvss_upload_open_file(); nothing was given to it yet
 * @base: an earlier state of the same file, from kvss_repository_open_file() of the same
 *   repository, which has proven that its chunks are there; not needed afterwards
 *
 * What did not change since can be kept (kvss_sink_keep()) as far as @sink's keep_end
 * says: it costs neither reading nor hashing. False: they are cut differently, nothing
 * can be kept.
 */
bool kvss_upload_use_base(struct KvssSink *sink, const struct KvssSource *base);

/** A small file at once. */
bool kvss_upload_add_bytes(KvssUpload *upload, const char *path, GBytes *bytes, unsigned mode,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** What the snapshot says of itself. */
typedef struct {
    const char *hostname;
    const char *const *paths;  /* sorted */
    const char *const *tags;
    gint64 time_us;            /* UTC microseconds since 1970 */
} KvssSnapshotInfo;

/**
 * kvss_upload_commit:
 * @out_id: 64 hex digits
 *
 * Last packs, index, trees, then the snapshot: all synced, in that order. True
 * means that the backup exists and survives a crash; false, that it does not exist
 * (what was stored of it is reused by the next upload). Once, with no file open.
 *
 * Memory: a folder's files are one JSON text of 67 bytes a chunk, held whole while it
 * is stored: 67 MiB for a disk of 1 TiB.
 * Errors: NO_SPACE; LOCKED when our lock was lost meanwhile; KVSS_IO_ERROR.
 */
bool kvss_upload_commit(KvssUpload *upload, const KvssSnapshotInfo *info,
                        char out_id[KVSS_ID_HEX_LENGTH + 1], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Totals so far. Threads: any. */
KvssUploadStats kvss_upload_stats(KvssUpload *upload);

/**
 * kvss_upload_free:
 *
 * Without commit: gives the backup up; finished packs stay, with an index, for
 * the next run to use, and no temporary file stays. Accepts NULL.
 */
void kvss_upload_free(KvssUpload *upload);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssUpload, kvss_upload_free)

/* ---- verify ---- */

/** One finding. @snapshot_ids: (nullable) NULL-terminated ids of the snapshots it hurts. */
typedef void (*KvssDamageFunc)(const char *what, char **snapshot_ids, char **paths, gpointer data);
/** @done of @total: bytes with read_data, else packs. */
typedef void (*KvssVerifyProgress)(uint64_t done, uint64_t total, gpointer data);

typedef struct {
    bool read_data;             /* every byte of every pack needed, not only structure */
    double sample_share;        /* with read_data: of packs drawn at random, up to this share of the bytes */
    uint64_t sample_bytes;      /* with read_data: ... up to so many bytes. Both 0: no sample, all packs */
    bool snapshots_once;        /* a snapshot file that this object has read since it was opened is not read again */
    uint32_t sample_seed;       /* the same packs and the same seed draw the same sample */
    KvssDamageFunc damage;      /* called for each finding, one at a time */
    KvssVerifyProgress progress;/* (nullable) */
    gpointer data;
    GCancellable *cancellable;  /* (nullable) */
} KvssVerifyOptions;

typedef struct {
    uint64_t snapshots, packs, blobs, bytes_read;
    uint64_t bytes_stored;      /* of all packs needed: what bytes_read is a share of */
    uint64_t damaged;           /* findings */
} KvssVerifyResult;

/**
 * kvss_repository_verify:
 * @snapshot_ids: (nullable) NULL-terminated full ids; NULL: all
 *
 * Structure: each tree readable, each blob indexed, each pack present with the
 * size its index demands. With read_data each pack's name, MACs and blob hashes;
 * of a sample, whole packs, each as likely as it is large, until the amount is
 * reached: at least one.
 * Keys, index files and snapshots by their hash, index files past the cache.
 * Damage is a finding, not an error: true with damaged > 0. A file that cannot be
 * read is a finding too. Without a readable index nothing behind it is looked at.
 * Findings are told at the end, when it is known whom they reach. Memory: each
 * thread holds one pack.
 * Errors: a folder of the repository could not be listed (KVSS_IO_ERROR),
 * NOT_FOUND for an id in @snapshot_ids, cancelled.
 */
bool kvss_repository_verify(KvssRepository *repository, char **snapshot_ids,
                            const KvssVerifyOptions *options, KvssVerifyResult *out_result,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- removing ---- */

/**
 * kvss_repository_remove_snapshot:
 * @id: 64 hex digits
 *
 * The backup does not exist any more when this returns true, and after a crash. What
 * only it used stays until a prune. @repository must be open with REMOVE.
 * Errors: NOT_FOUND; LOCKED when our lock was lost meanwhile; KVSS_IO_ERROR.
 */
bool kvss_repository_remove_snapshot(KvssRepository *repository, const char *id, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** @step: what is done; @done of @total bytes, 0 of 0 where nothing is counted. Threads: any, one at a time. */
typedef void (*KvssPruneProgress)(const char *step, uint64_t done, uint64_t total, gpointer data);

typedef struct {
    bool dry_run;               /* say what would be done: LOOK is enough */
    const char *const *without; /* (nullable) dry run only: ids of snapshots, as if they were removed */
    bool may_empty;             /* also when there is no snapshot at all */
    double max_unused_percent;  /* of what stays, rubbish that may stay in packs; below 0: ... */
    uint64_t max_unused_bytes;  /* ... this many bytes of it */
    uint64_t max_repack_bytes;  /* bytes that may be written anew; UINT64_MAX: any */
    KvssPruneProgress progress; /* (nullable) */
    gpointer data;
    GCancellable *cancellable;  /* (nullable) */
} KvssPruneOptions;

/** With dry_run: what it would be. */
typedef struct {
    uint64_t snapshots;
    uint64_t blobs_used, blobs_unused, blobs_duplicate; /* as index files name them */
    uint64_t packs, bytes;          /* files in data/ before */
    uint64_t packs_removed;         /* nobody needs anything of them */
    uint64_t packs_repacked;        /* what is needed of them was written into new ones */
    uint64_t packs_unknown;         /* no index file names them */
    uint64_t packs_missing;         /* index files name them, they are not there, nobody needs them */
    uint64_t bytes_repacked;        /* written anew */
    uint64_t bytes_freed;           /* what data/ is smaller now */
    uint64_t bytes_unused;          /* rubbish that stays in packs */
    uint64_t indexes_removed, indexes_written;
} KvssPruneResult;

/**
 * kvss_repository_prune:
 *
 * Frees what no snapshot needs. Whatever happens in between, a crash too, every
 * snapshot is whole at every moment; a prune that was interrupted is completed by
 * the next. Every blob that is written anew is checked first.
 *
 * Memory: the mapped index table, a bit for each of its entries, 48 bytes a pack,
 * 12 bytes a blob that is written anew, one index file.
 * Errors: CORRUPT, nothing removed: something that a snapshot needs is missing or
 * damaged; NOT_FOUND, nothing removed: there are packs and no snapshot; LOCKED when our lock was lost meanwhile; NO_SPACE; KVSS_IO_ERROR; cancelled.
 */
bool kvss_repository_prune(KvssRepository *repository, const KvssPruneOptions *options,
                           KvssPruneResult *out_result, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* ---- repair ---- */

/** A stretch of a stored file, in bytes. */
typedef struct {
    uint64_t offset, length;
} KvssRange;

/** A file or folder of a backup of which something cannot be had any more. */
typedef struct {
    char snapshot_id[KVSS_ID_HEX_LENGTH + 1];
    char *path;          /* "/vms/web/disks/vda.raw"; "/" is the whole backup */
    bool is_folder;      /* its listing is lost, and so everything below it */
    GArray *ranges;      /* KvssRange: of a file, in order, not touching each other */
    uint64_t bytes;      /* of a file: how much is lost */
    GByteArray *blobs;   /* the ids of what is lost, KVSS_ID_LENGTH bytes each */
    bool has_more;       /* more is lost than ranges and blobs name */
} KvssLoss;

void kvss_loss_free(KvssLoss *loss);
KvssLoss *kvss_loss_copy(const KvssLoss *loss);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssLoss, kvss_loss_free)

/**
 * kvss_repository_list_losses:
 *
 * What the last repair found lost and what still is: a loss is over as soon as the
 * repository has all of its blobs again. (element-type KvssLoss), free with unref.
 * Errors: CORRUPT when the note of it cannot be read; those of the index.
 */
GPtrArray *kvss_repository_list_losses(KvssRepository *repository, GError **error);

/**
 * kvss_repository_renew_config:
 *
 * A new config in place of one that cannot be read: the repository gets a new id, and
 * restic cuts files at other places than before; nothing else depends on it. Needs the
 * password, and the repository for itself. Errors: REFUSED when the config is sound; as
 * kvss_repository_open().
 */
bool kvss_repository_renew_config(const char *location, const char *password,
                                  const char *state_dir, char out_id[KVSS_ID_HEX_LENGTH + 1],
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** @what: one phrase about one damaged file: "pack 12ab34cd is damaged: ...". */
typedef void (*KvssRepairFunc)(const char *what, gpointer data);
typedef void (*KvssLossFunc)(const KvssLoss *loss, gpointer data);

typedef struct {
    bool read_data;              /* look at every byte of every pack, not only at headers and trees */
    bool dry_run;                /* look only */
    KvssRepairFunc found;        /* (nullable) for each damaged file, one at a time */
    KvssLossFunc lost;           /* (nullable) for each file that lost something */
    KvssVerifyProgress progress; /* (nullable) bytes */
    gpointer data;
    GCancellable *cancellable;   /* (nullable) heeded until the first change */
} KvssRepairOptions;

typedef struct {
    uint64_t packs;             /* looked at */
    uint64_t indexes_damaged;   /* index files that could not be read */
    uint64_t indexes_replaced;  /* with those that named damaged packs */
    uint64_t packs_found;       /* whole packs that no index named, and that are named now */
    uint64_t packs_damaged;     /* or missing; with those of aside_before */
    uint64_t packs_aside;       /* of them, those that are in the repository still, for prune to remove */
    uint64_t blobs_saved, bytes_saved; /* of damaged packs, into new ones */
    uint64_t losses;            /* files that have lost something */
    uint64_t beyond_repair;     /* damaged snapshots and keys: they stay as they are */
} KvssRepairResult;

/**
 * kvss_repository_repair:
 * @repository: open with REMOVE; with dry_run LOOK will do
 *
 * Makes the repository consistent again, and loses nothing that can be had: index
 * files that are damaged, or that name what is not there, are made anew from the
 * packs' own headers; whole blobs of damaged packs are stored anew; what is lost is
 * written into a note in the repository (a snapshot with the tag "kvss-damage"). No
 * backup and no pack is removed. What an index does not name any more the next
 * backup stores again if the VMs still have it, and then the older backups that
 * lacked it are whole again.
 *
 * Killed anywhere, the repository is as it was or better; running it again goes on.
 * Errors: a folder could not be listed; NO_SPACE; KVSS_IO_ERROR; cancelled.
 */
bool kvss_repository_repair(KvssRepository *repository, const KvssRepairOptions *options,
                            KvssRepairResult *out_result, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
