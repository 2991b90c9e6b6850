/*
 * documents.h - the two documents that are stored with every backup
 *
 * They are like VSS's in shape and words, but in namespaces of our own: the
 * schema of the originals is private, and we do not claim to be it. Both are
 * UTF-8 text with an XML declaration, indented, ending in a newline. What XML or
 * a terminal cannot hold (control characters, broken UTF-8) is replaced in what
 * is written, and refused in what is read.
 *
 * Source: docs/format/documents.md and the two schemas beside it.
 */
#pragma once

#include "snapshot-set.h"

G_BEGIN_DECLS

#define KVSS_WRITER_METADATA_NS "urn:kvss:writer-metadata:1"
#define KVSS_BACKUP_COMPONENTS_NS "urn:kvss:backup-components:1"

/** VSS_BS_COPY | VSS_BS_WRITER_SUPPORTS_NEW_TARGET: what our writers can do. */
#define KVSS_BACKUP_SCHEMA 0x110

/** A larger document is neither written nor read. Ten thousand VMs need about 8 MiB. */
#define KVSS_DOCUMENT_MAX_LENGTH (16u * 1024 * 1024)

typedef enum {
    KVSS_DOCUMENT_ERROR_CORRUPT,   /* not what it must be */
    KVSS_DOCUMENT_ERROR_VERSION,   /* ours, but of another version */
    KVSS_DOCUMENT_ERROR_TOO_LARGE, /* the text, its number of elements, or one value */
} KvssDocumentError;

#define KVSS_DOCUMENT_ERROR (kvss_document_error_quark())
GQuark kvss_document_error_quark(void);

/* --- written ---------------------------------------------------------------------- */

/** Who a writer is. Strings and array are borrowed; GUIDs have no braces. */
typedef struct {
    const char *class_id;
    const char *friendly_name;
    const char *instance_id;
    const char *instance_name; /* (nullable) */
    KvssApplicationLevel level;
    const GPtrArray *components; /* (element-type KvssComponent) all it has declared */
} KvssWriterIdentity;

/**
 * kvss_writer_metadata_document:
 *
 * The Writer Metadata Document: who the writer is, how it wants to be restored
 * (RESTORE_IF_CAN_BE_REPLACED, and it always takes part), and of every component
 * of @writer, chosen or not, its names and files: its file sets, its disks, and
 * the carried files that are in no file set. A disk or file without a path on the
 * host (a network disk, generated text), or with one that has ".." in it, has no
 * entry; of two alike there is one.
 *
 * Returns: (transfer full) the text, which the reader below takes. Errors:
 * KVSS_DOCUMENT_ERROR, when the reader would not: TOO_LARGE, or CORRUPT for a
 * component without a usable name or of the same name as another.
 * Threads: any. Source: VSS, IVssExamineWriterMetadata.
 */
char *kvss_writer_metadata_document(const KvssWriterIdentity *writer, GError **error);

/**
 * kvss_backup_components_document:
 * @writers: (array length=n_writers) those without a chosen component in @set are left out
 *
 * The Backup Components Document: what was chosen for this backup. Of every
 * component of @set that was chosen itself, and not brought along by another, its
 * names, whether its backup succeeded, how it failed, and in base64 what its writer
 * noted for itself. No files: those are in the writer's document.
 *
 * Returns, errors, threads: as above. Source: VSS, IVssBackupComponents.
 */
char *kvss_backup_components_document(const KvssSnapshotSet *set,
                                      const KvssWriterIdentity *writers, size_t n_writers,
                                      GError **error);

/* --- read ------------------------------------------------------------------------- */

/** FILE_LIST, EXCLUDE_FILES: names in a folder of the host. */
typedef struct {
    char *path;        /* absolute, no "." or ".." in it */
    char *filespec;    /* may have '?' and '*', never a separator */
    bool is_recursive;
} KvssDocumentFiles;

/** FILE_GROUP: one component as its writer declared it. */
typedef struct {
    char *logical_path; /* "" at the top */
    char *name;
    char *caption;      /* (nullable) */
    bool restores_metadata, is_notified, is_selectable, is_selectable_for_restore;
    uint32_t flags;
    GPtrArray *files;   /* KvssDocumentFiles */
} KvssFileGroup;

typedef struct {
    char *class_id, *instance_id, *friendly_name;
    char *instance_name; /* (nullable) */
    uint32_t backup_schema;
    KvssApplicationLevel level;
    GPtrArray *groups;   /* KvssFileGroup */
    GPtrArray *excludes; /* KvssDocumentFiles */
} KvssWriterMetadata;

/** COMPONENT: one that was chosen. */
typedef struct {
    char *logical_path;    /* "" at the top */
    char *name;
    bool backup_succeeded;
    KvssHresult failure;   /* KVSS_S_OK when none is told */
    char *failure_message; /* (nullable) */
    char *metadata;        /* (nullable) the writer's own text, as it was before base64 */
} KvssChosenComponent;

typedef struct {
    char *class_id, *instance_id;
    char *instance_name;   /* (nullable) */
    uint32_t backup_schema;
    GPtrArray *components; /* KvssChosenComponent */
} KvssChosenWriter;

typedef struct {
    char *set_id;
    KvssBackupType backup_type;
    uint32_t context;
    GPtrArray *writers;    /* KvssChosenWriter */
} KvssBackupComponents;

/**
 * kvss_writer_metadata_read, kvss_backup_components_read:
 *
 * A stranger's text as plain structs. It is read from front to back, in less than a
 * second and, beyond the text itself, less than 64 MiB; nothing in it makes the
 * reader open anything. What is taken is valid by the schema beside
 * docs/format/documents.md; the page says what is checked besides.
 *
 * Errors: KVSS_DOCUMENT_ERROR, with the kind of document and the line. Threads: any.
 */
KvssWriterMetadata *kvss_writer_metadata_read(GBytes *text, GError **error);
KvssBackupComponents *kvss_backup_components_read(GBytes *text, GError **error);

void kvss_writer_metadata_free(KvssWriterMetadata *metadata);
void kvss_backup_components_free(KvssBackupComponents *components);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssWriterMetadata, kvss_writer_metadata_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssBackupComponents, kvss_backup_components_free)

G_END_DECLS
