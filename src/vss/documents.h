/*
 * documents.h - the two documents that are stored with every backup
 *
 * They are like VSS's in shape and words, but in namespaces of our own: the
 * schema of the originals is private, and we do not claim to be it. Both are
 * UTF-8 text with an XML declaration, indented, ending in a newline; what XML
 * cannot hold (control characters, broken UTF-8) becomes U+FFFD.
 */
#pragma once

#include "snapshot-set.h"

G_BEGIN_DECLS

#define KVSS_WRITER_METADATA_NS "urn:kvss:writer-metadata:1"
#define KVSS_BACKUP_COMPONENTS_NS "urn:kvss:backup-components:1"

/** VSS_BS_COPY | VSS_BS_WRITER_SUPPORTS_NEW_TARGET: what our writers can do. */
#define KVSS_BACKUP_SCHEMA 0x110

/** Who a writer is. Strings and array are borrowed; GUIDs have no braces. */
typedef struct {
    const char *class_id;
    const char *friendly_name;
    const char *instance_id;
    const char *instance_name; /* (nullable) */
    const GPtrArray *components; /* (element-type KvssComponent) all it has declared */
} KvssWriterIdentity;

/**
 * kvss_writer_metadata_document:
 *
 * The Writer Metadata Document: who the writer is, how it wants to be restored
 * (RESTORE_IF_CAN_BE_REPLACED, and it always takes part), and of every component
 * of @writer, chosen or not, its names and files. A disk or file without a path on
 * the host (a network disk, generated text) has no entry.
 *
 * Returns: (transfer full) the text. Threads: any. Source: VSS, IVssExamineWriterMetadata.
 */
char *kvss_writer_metadata_document(const KvssWriterIdentity *writer);

/**
 * kvss_backup_components_document:
 * @writers: (array length=n_writers) those without a component in @set are left out
 *
 * The Backup Components Document: what is in this backup. Of every component of
 * @set its names, whether its backup succeeded, and in base64 what its writer
 * noted for itself. No files: those are in the writer's document.
 *
 * Returns: (transfer full) the text. Threads: any. Source: VSS, IVssBackupComponents.
 */
char *kvss_backup_components_document(const KvssSnapshotSet *set,
                                      const KvssWriterIdentity *writers, size_t n_writers);

G_END_DECLS
