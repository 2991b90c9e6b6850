/*
 * failure.c - which VSS result code a failure has, in its sentence and in its JSON
 */
#include "requester/failure.h"
#include "backup/backup.h"
#include "catalogue/catalogue.h"
#include "restore/restore.h"

#include <string.h>

/* "0x" and eight digits before a bracket at the very end; KVSS_S_OK when there is none. */
static KvssHresult
code_at_end(const char *message)
{
    size_t length = strlen(message), tail = strlen("0x800423F2)");
    const char *at;
    char *end;
    guint64 code;

    if (length <= tail)
        return KVSS_S_OK;
    at = message + length - tail;
    if (!g_str_has_prefix(at, "0x") || (at[-1] != ' ' && at[-1] != '('))
        return KVSS_S_OK;
    code = g_ascii_strtoull(at + 2, &end, 16);
    return strcmp(end, ")") == 0 ? (KvssHresult) code : KVSS_S_OK;
}

static bool
names_code(const char *message, KvssHresult code)
{
    g_autofree char *hex = g_strdup_printf("0x%08X)", code);

    return strstr(message, hex) != NULL;
}

/* For failures that no writer and no provider had a part in. */
static KvssHresult
code_of(const GError *error)
{
    const struct {
        GQuark domain;
        int code;
        KvssHresult result;
    } codes[] = {
        { KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND, KVSS_E_OBJECT_NOT_FOUND },
        { KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NOT_FOUND, KVSS_E_OBJECT_NOT_FOUND },
        { KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND, KVSS_E_OBJECT_NOT_FOUND },
        { KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOTHING, KVSS_E_OBJECT_NOT_FOUND },
        { KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, KVSS_E_OBJECT_ALREADY_EXISTS },
        { KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID, KVSS_E_NOT_SUPPORTED },
        { KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM, KVSS_E_INSUFFICIENT_STORAGE },
        { KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NO_SPACE, KVSS_E_INSUFFICIENT_STORAGE },
        { KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, KVSS_E_INSUFFICIENT_STORAGE },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++)
        if (g_error_matches(error, codes[i].domain, codes[i].code))
            return codes[i].result;
    return KVSS_S_OK;
}

static bool
may_be_unexpected(const KvssRequester *requester, const GError *error)
{
    return requester->has_set && error->domain != KVSS_USAGE_ERROR &&
           !g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
}

static void
append(GError *error, KvssHresult code)
{
    g_autofree char *before = error->message;
    g_autofree char *brackets = kvss_hresult_in_brackets(code);

    error->message = g_strdup_printf("%s %s", before, brackets);
}

void
kvss_failure_settle(KvssRequester *requester, GError *error)
{
    KvssHresult said = code_at_end(error->message);

    if (said != KVSS_S_OK) {
        if (!names_code(error->message, requester->failure))
            requester->failure = said;
        return;
    }
    if (requester->failure == KVSS_S_OK)
        requester->failure = code_of(error);
    if (requester->failure == KVSS_S_OK && may_be_unexpected(requester, error))
        requester->failure = KVSS_E_UNEXPECTED;
    if (requester->failure != KVSS_S_OK && !names_code(error->message, requester->failure))
        append(error, requester->failure);
}
