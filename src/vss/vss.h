/*
 * vss.h - the words and numbers of the Volume Shadow Copy protocol
 *
 * Events, writer states, result codes and contexts, with the values that the
 * public VSS documentation gives them, so that our output can be compared.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

G_BEGIN_DECLS

/** Class id of the writer whose components are virtual machines: Hyper-V's. */
#define KVSS_VM_WRITER_CLASS_ID "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"

typedef enum {
    KVSS_EVENT_IDENTIFY,
    KVSS_EVENT_PREPARE_FOR_BACKUP,
    KVSS_EVENT_PREPARE_FOR_SNAPSHOT,
    KVSS_EVENT_FREEZE,
    KVSS_EVENT_THAW,
    KVSS_EVENT_POST_SNAPSHOT,
    KVSS_EVENT_BACKUP_COMPLETE,
    KVSS_EVENT_BACKUP_SHUTDOWN,
    KVSS_EVENT_ABORT,
    KVSS_EVENT_PRE_RESTORE,
    KVSS_EVENT_POST_RESTORE,
    KVSS_EVENT_N
} KvssEvent;

/** "PrepareForSnapshot", ... */
const char *kvss_event_name(KvssEvent event);

/** VSS_WRITER_STATE, same numbers. */
typedef enum {
    KVSS_WS_UNKNOWN = 0,
    KVSS_WS_STABLE = 1,
    KVSS_WS_WAITING_FOR_FREEZE = 2,
    KVSS_WS_WAITING_FOR_THAW = 3,
    KVSS_WS_WAITING_FOR_POST_SNAPSHOT = 4,
    KVSS_WS_WAITING_FOR_BACKUP_COMPLETE = 5,
    KVSS_WS_FAILED_AT_IDENTIFY = 6,
    KVSS_WS_FAILED_AT_PREPARE_BACKUP = 7,
    KVSS_WS_FAILED_AT_PREPARE_SNAPSHOT = 8,
    KVSS_WS_FAILED_AT_FREEZE = 9,
    KVSS_WS_FAILED_AT_THAW = 10,
    KVSS_WS_FAILED_AT_POST_SNAPSHOT = 11,
    KVSS_WS_FAILED_AT_BACKUP_COMPLETE = 12,
    KVSS_WS_FAILED_AT_PRE_RESTORE = 13,
    KVSS_WS_FAILED_AT_POST_RESTORE = 14,
    KVSS_WS_FAILED_AT_BACKUPSHUTDOWN = 15,
} KvssWriterState;

/** "VSS_WS_STABLE", ... */
const char *kvss_writer_state_name(KvssWriterState state);

/** vssadmin's word: "Stable", "Waiting for completion", "Failed", ... */
const char *kvss_writer_state_text(KvssWriterState state);

/** VSS_SNAPSHOT_STATE, same numbers: how far a provider is with a set. */
typedef enum {
    KVSS_SS_UNKNOWN = 0,
    KVSS_SS_PREPARING = 1,
    KVSS_SS_PROCESSING_PREPARE = 2,
    KVSS_SS_PREPARED = 3,
    KVSS_SS_PROCESSING_PRECOMMIT = 4,
    KVSS_SS_PRECOMMITTED = 5,
    KVSS_SS_PROCESSING_COMMIT = 6,
    KVSS_SS_COMMITTED = 7,
    KVSS_SS_PROCESSING_POSTCOMMIT = 8,
    KVSS_SS_PROCESSING_PREFINALCOMMIT = 9,
    KVSS_SS_PREFINALCOMMITTED = 10,
    KVSS_SS_PROCESSING_POSTFINALCOMMIT = 11,
    KVSS_SS_CREATED = 12,
    KVSS_SS_ABORTED = 13,
    KVSS_SS_DELETED = 14,
    KVSS_SS_POSTCOMMITTED = 15,
} KvssSnapshotState;

const char *kvss_snapshot_state_name(KvssSnapshotState state);

/** Result codes, as HRESULTs. */
typedef uint32_t KvssHresult;
#define KVSS_S_OK 0x00000000u
#define KVSS_E_INVALIDARG 0x80070057u
#define KVSS_E_BAD_STATE 0x80042301u
#define KVSS_E_UNEXPECTED 0x80042302u
#define KVSS_E_PROVIDER_ALREADY_REGISTERED 0x80042303u
#define KVSS_E_PROVIDER_NOT_REGISTERED 0x80042304u
#define KVSS_E_PROVIDER_VETO 0x80042306u
#define KVSS_E_PROVIDER_IN_USE 0x80042307u
#define KVSS_E_OBJECT_NOT_FOUND 0x80042308u
#define KVSS_E_VOLUME_NOT_SUPPORTED 0x8004230Cu
#define KVSS_E_OBJECT_ALREADY_EXISTS 0x8004230Du
#define KVSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER 0x8004230Eu
#define KVSS_E_UNEXPECTED_PROVIDER_ERROR 0x8004230Fu
#define KVSS_E_INVALID_XML_DOCUMENT 0x80042311u
#define KVSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED 0x80042312u
#define KVSS_E_FLUSH_WRITES_TIMEOUT 0x80042313u
#define KVSS_E_HOLD_WRITES_TIMEOUT 0x80042314u
#define KVSS_E_UNEXPECTED_WRITER_ERROR 0x80042315u
#define KVSS_E_SNAPSHOT_SET_IN_PROGRESS 0x80042316u
#define KVSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED 0x80042317u
#define KVSS_E_WRITER_INFRASTRUCTURE 0x80042318u
#define KVSS_E_WRITER_NOT_RESPONDING 0x80042319u
#define KVSS_E_WRITER_ALREADY_SUBSCRIBED 0x8004231Au
#define KVSS_E_UNSUPPORTED_CONTEXT 0x8004231Bu
#define KVSS_E_VOLUME_IN_USE 0x8004231Du
#define KVSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED 0x8004231Eu
#define KVSS_E_INSUFFICIENT_STORAGE 0x8004231Fu
#define KVSS_E_UNSELECTED_VOLUME 0x8004232Au
#define KVSS_E_SNAPSHOT_NOT_IN_SET 0x8004232Bu
#define KVSS_E_NESTED_VOLUME_LIMIT 0x8004232Cu
#define KVSS_E_VOLUME_NOT_LOCAL 0x8004232Du
#define KVSS_E_CLUSTER_TIMEOUT 0x8004232Eu
#define KVSS_E_NOT_SUPPORTED 0x8004232Fu
#define KVSS_E_WRITERERROR_PARTIAL_FAILURE 0x80042336u
#define KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT 0x800423F0u
#define KVSS_E_WRITERERROR_OUTOFRESOURCES 0x800423F1u
#define KVSS_E_WRITERERROR_TIMEOUT 0x800423F2u
#define KVSS_E_WRITERERROR_RETRYABLE 0x800423F3u
#define KVSS_E_WRITERERROR_NONRETRYABLE 0x800423F4u
#define KVSS_E_WRITERERROR_RECOVERY_FAILED 0x800423F5u
#define KVSS_E_MISSING_DISK 0x800423F8u
#define KVSS_E_MISSING_VOLUME 0x800423FAu
#define KVSS_E_AUTORECOVERY_FAILED 0x800423FBu
#define KVSS_E_CLUSTER_ERROR 0x80042400u
#define KVSS_E_WRITER_STATUS_NOT_AVAILABLE 0x80042409u

/** "VSS_E_WRITERERROR_TIMEOUT"; "unknown" for a code that is not in the list above. */
const char *kvss_hresult_name(KvssHresult code);

/**
 * As it stands at the end of messages: "(VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)"; "(0x80070005)"
 * for a code without a name. Free with g_free.
 */
char *kvss_hresult_in_brackets(KvssHresult code);

/** vssadmin's words for a writer's last error: "No error", "Timed out", ... */
const char *kvss_hresult_text(KvssHresult code);

/** Attribute bits of a context, of a shadow copy (VSS_VOLSNAP_ATTR_*). VSS_CTX_BACKUP is 0. */
#define KVSS_CTX_BACKUP 0x0u
#define KVSS_ATTR_PERSISTENT 0x1u
#define KVSS_ATTR_NO_AUTORECOVERY 0x2u
#define KVSS_ATTR_CLIENT_ACCESSIBLE 0x4u
#define KVSS_ATTR_NO_AUTO_RELEASE 0x8u
#define KVSS_ATTR_NO_WRITERS 0x10u
#define KVSS_ATTR_HARDWARE_ASSISTED 0x10000u
#define KVSS_ATTR_DIFFERENTIAL 0x20000u
#define KVSS_ATTR_PLEX 0x40000u
#define KVSS_ATTR_AUTORECOVER 0x400000u

/** vssadmin's words: "Differential, Auto recovered"; "None". Free with g_free. */
char *kvss_attributes_text(uint32_t attributes);

/** VSS_APPLICATION_LEVEL: Freeze goes from the front end to the system, Thaw back. */
typedef enum {
    KVSS_LEVEL_SYSTEM = 1,
    KVSS_LEVEL_BACK_END = 2,
    KVSS_LEVEL_FRONT_END = 3, /* the default */
} KvssApplicationLevel;

/** VSS_BACKUP_TYPE: what a writer may do to its own logs. */
typedef enum { KVSS_BT_FULL = 1, KVSS_BT_COPY = 5 } KvssBackupType;

/** VSS_FILE_RESTORE_STATUS. */
typedef enum {
    KVSS_RS_UNDEFINED = 0,
    KVSS_RS_NONE = 1,   /* nothing was written */
    KVSS_RS_ALL = 2,    /* everything was */
    KVSS_RS_FAILED = 3, /* some was: the component is damaged */
} KvssRestoreStatus;

G_END_DECLS
