/*
 * names.c - the protocol's words for its numbers
 *
 * One table a kind. What people read in a message must be what the public VSS
 * documentation calls it, so that they can search for it.
 */
#include "vss/vss.h"

#include <glib.h>

static const char *const event_names[KVSS_EVENT_N] = {
    [KVSS_EVENT_IDENTIFY] = "Identify",
    [KVSS_EVENT_PREPARE_FOR_BACKUP] = "PrepareForBackup",
    [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = "PrepareForSnapshot",
    [KVSS_EVENT_FREEZE] = "Freeze",
    [KVSS_EVENT_THAW] = "Thaw",
    [KVSS_EVENT_POST_SNAPSHOT] = "PostSnapshot",
    [KVSS_EVENT_BACKUP_COMPLETE] = "BackupComplete",
    [KVSS_EVENT_BACKUP_SHUTDOWN] = "BackupShutdown",
    [KVSS_EVENT_ABORT] = "Abort",
    [KVSS_EVENT_PRE_RESTORE] = "PreRestore",
    [KVSS_EVENT_POST_RESTORE] = "PostRestore",
};

static const char *const writer_state_names[] = {
    [KVSS_WS_UNKNOWN] = "VSS_WS_UNKNOWN",
    [KVSS_WS_STABLE] = "VSS_WS_STABLE",
    [KVSS_WS_WAITING_FOR_FREEZE] = "VSS_WS_WAITING_FOR_FREEZE",
    [KVSS_WS_WAITING_FOR_THAW] = "VSS_WS_WAITING_FOR_THAW",
    [KVSS_WS_WAITING_FOR_POST_SNAPSHOT] = "VSS_WS_WAITING_FOR_POST_SNAPSHOT",
    [KVSS_WS_WAITING_FOR_BACKUP_COMPLETE] = "VSS_WS_WAITING_FOR_BACKUP_COMPLETE",
    [KVSS_WS_FAILED_AT_IDENTIFY] = "VSS_WS_FAILED_AT_IDENTIFY",
    [KVSS_WS_FAILED_AT_PREPARE_BACKUP] = "VSS_WS_FAILED_AT_PREPARE_BACKUP",
    [KVSS_WS_FAILED_AT_PREPARE_SNAPSHOT] = "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT",
    [KVSS_WS_FAILED_AT_FREEZE] = "VSS_WS_FAILED_AT_FREEZE",
    [KVSS_WS_FAILED_AT_THAW] = "VSS_WS_FAILED_AT_THAW",
    [KVSS_WS_FAILED_AT_POST_SNAPSHOT] = "VSS_WS_FAILED_AT_POST_SNAPSHOT",
    [KVSS_WS_FAILED_AT_BACKUP_COMPLETE] = "VSS_WS_FAILED_AT_BACKUP_COMPLETE",
    [KVSS_WS_FAILED_AT_PRE_RESTORE] = "VSS_WS_FAILED_AT_PRE_RESTORE",
    [KVSS_WS_FAILED_AT_POST_RESTORE] = "VSS_WS_FAILED_AT_POST_RESTORE",
    [KVSS_WS_FAILED_AT_BACKUPSHUTDOWN] = "VSS_WS_FAILED_AT_BACKUPSHUTDOWN",
};

static const char *const snapshot_state_names[] = {
    [KVSS_SS_UNKNOWN] = "VSS_SS_UNKNOWN",
    [KVSS_SS_PREPARING] = "VSS_SS_PREPARING",
    [KVSS_SS_PROCESSING_PREPARE] = "VSS_SS_PROCESSING_PREPARE",
    [KVSS_SS_PREPARED] = "VSS_SS_PREPARED",
    [KVSS_SS_PROCESSING_PRECOMMIT] = "VSS_SS_PROCESSING_PRECOMMIT",
    [KVSS_SS_PRECOMMITTED] = "VSS_SS_PRECOMMITTED",
    [KVSS_SS_PROCESSING_COMMIT] = "VSS_SS_PROCESSING_COMMIT",
    [KVSS_SS_COMMITTED] = "VSS_SS_COMMITTED",
    [KVSS_SS_PROCESSING_POSTCOMMIT] = "VSS_SS_PROCESSING_POSTCOMMIT",
    [KVSS_SS_PROCESSING_PREFINALCOMMIT] = "VSS_SS_PROCESSING_PREFINALCOMMIT",
    [KVSS_SS_PREFINALCOMMITTED] = "VSS_SS_PREFINALCOMMITTED",
    [KVSS_SS_PROCESSING_POSTFINALCOMMIT] = "VSS_SS_PROCESSING_POSTFINALCOMMIT",
    [KVSS_SS_CREATED] = "VSS_SS_CREATED",
    [KVSS_SS_ABORTED] = "VSS_SS_ABORTED",
    [KVSS_SS_DELETED] = "VSS_SS_DELETED",
    [KVSS_SS_POSTCOMMITTED] = "VSS_SS_POSTCOMMITTED",
};

#define CODE(name) { KVSS_##name, "VSS_" #name }
static const struct {
    KvssHresult code;
    const char *name;
} hresult_names[] = {
    { KVSS_S_OK, "S_OK" },
    { KVSS_E_INVALIDARG, "E_INVALIDARG" },
    CODE(E_BAD_STATE),
    CODE(E_UNEXPECTED),
    CODE(E_PROVIDER_VETO),
    CODE(E_OBJECT_NOT_FOUND),
    CODE(E_VOLUME_NOT_SUPPORTED),
    CODE(E_VOLUME_NOT_SUPPORTED_BY_PROVIDER),
    CODE(E_UNEXPECTED_PROVIDER_ERROR),
    CODE(E_FLUSH_WRITES_TIMEOUT),
    CODE(E_HOLD_WRITES_TIMEOUT),
    CODE(E_UNEXPECTED_WRITER_ERROR),
    CODE(E_SNAPSHOT_SET_IN_PROGRESS),
    CODE(E_WRITER_NOT_RESPONDING),
    CODE(E_UNSUPPORTED_CONTEXT),
    CODE(E_INSUFFICIENT_STORAGE),
    CODE(E_WRITERERROR_INCONSISTENTSNAPSHOT),
    CODE(E_WRITERERROR_OUTOFRESOURCES),
    CODE(E_WRITERERROR_TIMEOUT),
    CODE(E_WRITERERROR_RETRYABLE),
    CODE(E_WRITERERROR_NONRETRYABLE),
    CODE(E_WRITERERROR_RECOVERY_FAILED),
    CODE(E_WRITERERROR_PARTIAL_FAILURE),
};

const char *
kvss_event_name(KvssEvent event)
{
    g_assert((unsigned) event < KVSS_EVENT_N);
    return event_names[event];
}

const char *
kvss_writer_state_name(KvssWriterState state)
{
    g_assert((unsigned) state < G_N_ELEMENTS(writer_state_names));
    return writer_state_names[state];
}

const char *
kvss_snapshot_state_name(KvssSnapshotState state)
{
    g_assert((unsigned) state < G_N_ELEMENTS(snapshot_state_names));
    return snapshot_state_names[state];
}

const char *
kvss_hresult_name(KvssHresult code)
{
    for (gsize i = 0; i < G_N_ELEMENTS(hresult_names); i++)
        if (hresult_names[i].code == code)
            return hresult_names[i].name;
    return "unknown";
}
