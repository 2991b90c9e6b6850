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
    CODE(E_PROVIDER_ALREADY_REGISTERED),
    CODE(E_PROVIDER_NOT_REGISTERED),
    CODE(E_PROVIDER_VETO),
    CODE(E_PROVIDER_IN_USE),
    CODE(E_OBJECT_NOT_FOUND),
    CODE(E_VOLUME_NOT_SUPPORTED),
    CODE(E_OBJECT_ALREADY_EXISTS),
    CODE(E_VOLUME_NOT_SUPPORTED_BY_PROVIDER),
    CODE(E_UNEXPECTED_PROVIDER_ERROR),
    CODE(E_INVALID_XML_DOCUMENT),
    CODE(E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED),
    CODE(E_FLUSH_WRITES_TIMEOUT),
    CODE(E_HOLD_WRITES_TIMEOUT),
    CODE(E_UNEXPECTED_WRITER_ERROR),
    CODE(E_SNAPSHOT_SET_IN_PROGRESS),
    CODE(E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED),
    CODE(E_WRITER_INFRASTRUCTURE),
    CODE(E_WRITER_NOT_RESPONDING),
    CODE(E_WRITER_ALREADY_SUBSCRIBED),
    CODE(E_UNSUPPORTED_CONTEXT),
    CODE(E_VOLUME_IN_USE),
    CODE(E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED),
    CODE(E_INSUFFICIENT_STORAGE),
    CODE(E_UNSELECTED_VOLUME),
    CODE(E_SNAPSHOT_NOT_IN_SET),
    CODE(E_NESTED_VOLUME_LIMIT),
    CODE(E_VOLUME_NOT_LOCAL),
    CODE(E_CLUSTER_TIMEOUT),
    CODE(E_NOT_SUPPORTED),
    CODE(E_WRITERERROR_PARTIAL_FAILURE),
    CODE(E_WRITERERROR_INCONSISTENTSNAPSHOT),
    CODE(E_WRITERERROR_OUTOFRESOURCES),
    CODE(E_WRITERERROR_TIMEOUT),
    CODE(E_WRITERERROR_RETRYABLE),
    CODE(E_WRITERERROR_NONRETRYABLE),
    CODE(E_WRITERERROR_RECOVERY_FAILED),
    CODE(E_MISSING_DISK),
    CODE(E_MISSING_VOLUME),
    CODE(E_AUTORECOVERY_FAILED),
    CODE(E_CLUSTER_ERROR),
    CODE(E_WRITER_STATUS_NOT_AVAILABLE),
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

char *
kvss_hresult_in_brackets(KvssHresult code)
{
    const char *name = kvss_hresult_name(code);

    if (g_str_equal(name, "unknown"))
        return g_strdup_printf("(0x%08X)", code);
    return g_strdup_printf("(%s, 0x%08X)", name, code);
}

/* ---- vssadmin's words ---- */

const char *
kvss_writer_state_text(KvssWriterState state)
{
    switch (state) {
    case KVSS_WS_UNKNOWN:
        return "Unknown";
    case KVSS_WS_STABLE:
        return "Stable";
    case KVSS_WS_WAITING_FOR_FREEZE:
        return "Waiting for freeze";
    case KVSS_WS_WAITING_FOR_THAW:
        return "Frozen";
    case KVSS_WS_WAITING_FOR_POST_SNAPSHOT:
    case KVSS_WS_WAITING_FOR_BACKUP_COMPLETE:
        return "Waiting for completion";
    default:
        return "Failed";
    }
}

const char *
kvss_hresult_text(KvssHresult code)
{
    /* The first five are vssadmin's own; the others are in its manner. */
    static const struct {
        KvssHresult code;
        const char *text;
    } texts[] = {
        { KVSS_S_OK, "No error" },
        { KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT, "Inconsistent shadow copy" },
        { KVSS_E_WRITERERROR_TIMEOUT, "Timed out" },
        { KVSS_E_WRITERERROR_RETRYABLE, "Retryable error" },
        { KVSS_E_WRITERERROR_NONRETRYABLE, "Non-retryable error" },
        { KVSS_E_WRITERERROR_OUTOFRESOURCES, "Out of resources" },
        { KVSS_E_WRITERERROR_RECOVERY_FAILED, "Recovery failed" },
        { KVSS_E_WRITERERROR_PARTIAL_FAILURE, "Partial failure" },
        { KVSS_E_WRITER_NOT_RESPONDING, "Not responding" },
        { KVSS_E_WRITER_STATUS_NOT_AVAILABLE, "Status not available" },
        { KVSS_E_INSUFFICIENT_STORAGE, "Insufficient storage" },
        { KVSS_E_BAD_STATE, "Bad state" },
        { KVSS_E_OBJECT_NOT_FOUND, "Object not found" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        if (texts[i].code == code)
            return texts[i].text;
    return "Unexpected error";
}

char *
kvss_attributes_text(uint32_t attributes)
{
    static const struct {
        uint32_t bit;
        const char *word;
    } words[] = {
        { KVSS_ATTR_PERSISTENT, "Persistent" },
        { KVSS_ATTR_CLIENT_ACCESSIBLE, "Client-accessible" },
        { KVSS_ATTR_NO_AUTO_RELEASE, "No auto release" },
        { KVSS_ATTR_NO_WRITERS, "No writers" },
        { KVSS_ATTR_NO_AUTORECOVERY, "No auto recovery" },
        { KVSS_ATTR_HARDWARE_ASSISTED, "Hardware assisted" },
        { KVSS_ATTR_DIFFERENTIAL, "Differential" },
        { KVSS_ATTR_PLEX, "Plex" },
        { KVSS_ATTR_AUTORECOVER, "Auto recovered" },
    };
    GString *text = g_string_new(NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (attributes & words[i].bit)
            g_string_append_printf(text, "%s%s", text->len ? ", " : "", words[i].word);
    if (text->len == 0)
        g_string_append(text, "None");
    return g_string_free(text, FALSE);
}
