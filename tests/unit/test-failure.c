/*
 * test-failure.c - the last words of a failure: the result code, once
 */
#include "backup/backup.h"
#include "catalogue/catalogue.h"
#include "host/error.h"
#include "requester/failure.h"
#include "restore/restore.h"

#include <string.h>

typedef struct {
    const char *message;
    GQuark domain;
    int code;
    KvssHresult noted; /* by the set */
    bool has_set;
    KvssHresult expected;
    const char *expected_message;
} Case;

static void
check(const Case *c)
{
    g_autoptr(GError) error = g_error_new_literal(c->domain, c->code, c->message);
    KvssRequester requester = { .failure = c->noted, .has_set = c->has_set };

    kvss_failure_settle(&requester, error);
    g_assert_cmpstr(error->message, ==, c->expected_message);
    g_assert_cmphex(requester.failure, ==, c->expected);
    /* Nothing is doubled. */
    kvss_failure_settle(&requester, error);
    g_assert_cmpstr(error->message, ==, c->expected_message);
    g_assert_cmphex(requester.failure, ==, c->expected);
}

static void
test_settle(void)
{
    const Case cases[] = {
        { "writer a: Freeze: web: late (VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)",
          KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED,
          KVSS_E_WRITERERROR_TIMEOUT, true, KVSS_E_WRITERERROR_TIMEOUT,
          "writer a: Freeze: web: late (VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)" },
        /* A restore's coordinator is not ours: its sentence tells. */
        { "web: PreRestore (VSS_E_WRITERERROR_RETRYABLE, 0x800423F3)", KVSS_COORDINATOR_ERROR,
          KVSS_COORDINATOR_ERROR_WRITER_FAILED, KVSS_S_OK, true, KVSS_E_WRITERERROR_RETRYABLE,
          "web: PreRestore (VSS_E_WRITERERROR_RETRYABLE, 0x800423F3)" },
        { "odd (0x80070005)", KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED, KVSS_S_OK, true,
          0x80070005u, "odd (0x80070005)" },
        /* Several writers failed: the first one's code is in the middle, and stands. */
        { "a (VSS_E_WRITERERROR_RETRYABLE, 0x800423F3); b (VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)",
          KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_WRITER_FAILED,
          KVSS_E_WRITERERROR_RETRYABLE, true, KVSS_E_WRITERERROR_RETRYABLE,
          "a (VSS_E_WRITERERROR_RETRYABLE, 0x800423F3); b (VSS_E_WRITERERROR_TIMEOUT, "
          "0x800423F2)" },
        /* A component failed in the engine. */
        { "web: disk vda: read error", KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, KVSS_E_PROVIDER_VETO,
          true, KVSS_E_PROVIDER_VETO,
          "web: disk vda: read error (VSS_E_PROVIDER_VETO, 0x80042306)" },
        { "web: repository full", KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_NO_SPACE,
          KVSS_S_OK, true, KVSS_E_INSUFFICIENT_STORAGE,
          "web: repository full (VSS_E_INSUFFICIENT_STORAGE, 0x8004231F)" },
        { "no VM 'x'", KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND, KVSS_S_OK, false,
          KVSS_E_OBJECT_NOT_FOUND, "no VM 'x' (VSS_E_OBJECT_NOT_FOUND, 0x80042308)" },
        { "path taken", KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, KVSS_S_OK, true,
          KVSS_E_OBJECT_ALREADY_EXISTS, "path taken (VSS_E_OBJECT_ALREADY_EXISTS, 0x8004230D)" },
        { "journal: input/output error", KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, KVSS_S_OK, true,
          KVSS_E_UNEXPECTED, "journal: input/output error (VSS_E_UNEXPECTED, 0x80042302)" },
        /* These are no business of VSS. */
        { "wrong password", KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_PASSWORD, KVSS_S_OK,
          false, KVSS_S_OK, "wrong password" },
        { "interrupted", KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, KVSS_S_OK, true, KVSS_S_OK,
          "interrupted" },
        { "no such option", KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG, KVSS_S_OK, true, KVSS_S_OK,
          "no such option" },
        { ")", KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, KVSS_S_OK, false, KVSS_S_OK, ")" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        check(&cases[i]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/failure/settle", test_settle);
    return g_test_run();
}
