/*
 * test-vss.c - components, sets, names
 */
#include "vss/snapshot-set.h"

#include <string.h>

static void
test_names(void)
{
    g_assert_cmpstr(kvss_event_name(KVSS_EVENT_PREPARE_FOR_SNAPSHOT), ==, "PrepareForSnapshot");
    for (KvssEvent event = 0; event < KVSS_EVENT_N; event++)
        g_assert_nonnull(kvss_event_name(event));
    for (KvssWriterState state = 0; state <= KVSS_WS_FAILED_AT_BACKUPSHUTDOWN; state++)
        g_assert_true(g_str_has_prefix(kvss_writer_state_name(state), "VSS_WS_"));
    for (KvssSnapshotState state = 0; state <= KVSS_SS_POSTCOMMITTED; state++)
        g_assert_true(g_str_has_prefix(kvss_snapshot_state_name(state), "VSS_SS_"));

    g_assert_cmpstr(kvss_hresult_name(0x800423F2u), ==, "VSS_E_WRITERERROR_TIMEOUT");
    g_assert_cmpstr(kvss_hresult_name(KVSS_S_OK), ==, "S_OK");
    g_assert_cmpstr(kvss_hresult_name(1), ==, "unknown");
}

/* What vssadmin's users read, and what ends a message. */
static void
test_texts(void)
{
    static const struct {
        KvssWriterState state;
        const char *text;
    } states[] = {
        { KVSS_WS_UNKNOWN, "Unknown" },
        { KVSS_WS_STABLE, "Stable" },
        { KVSS_WS_WAITING_FOR_FREEZE, "Waiting for freeze" },
        { KVSS_WS_WAITING_FOR_THAW, "Frozen" },
        { KVSS_WS_WAITING_FOR_BACKUP_COMPLETE, "Waiting for completion" },
        { KVSS_WS_FAILED_AT_IDENTIFY, "Failed" },
        { KVSS_WS_FAILED_AT_BACKUPSHUTDOWN, "Failed" },
    };
    g_autofree char *known = kvss_hresult_in_brackets(KVSS_E_WRITERERROR_TIMEOUT);
    g_autofree char *foreign = kvss_hresult_in_brackets(0x80070005u);
    g_autofree char *none = kvss_attributes_text(0);
    g_autofree char *some = kvss_attributes_text(KVSS_ATTR_DIFFERENTIAL | KVSS_ATTR_AUTORECOVER);

    for (gsize i = 0; i < G_N_ELEMENTS(states); i++)
        g_assert_cmpstr(kvss_writer_state_text(states[i].state), ==, states[i].text);
    g_assert_cmpstr(kvss_hresult_text(KVSS_S_OK), ==, "No error");
    g_assert_cmpstr(kvss_hresult_text(0x800423F0u), ==, "Inconsistent shadow copy");
    g_assert_cmpstr(kvss_hresult_text(0x800423F2u), ==, "Timed out");
    g_assert_cmpstr(kvss_hresult_text(0x800423F3u), ==, "Retryable error");
    g_assert_cmpstr(kvss_hresult_text(0x800423F4u), ==, "Non-retryable error");
    g_assert_cmpstr(kvss_hresult_text(0x80070005u), ==, "Unexpected error");
    g_assert_cmpstr(known, ==, "(VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)");
    g_assert_cmpstr(foreign, ==, "(0x80070005)");
    g_assert_cmpstr(none, ==, "None");
    g_assert_cmpstr(some, ==, "Differential, Auto recovered");
    g_assert_cmpstr(kvss_hresult_name(0x8004232Du), ==, "VSS_E_VOLUME_NOT_LOCAL");
}

static void
test_component(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new("uuid", "web01");
    g_autoptr(GBytes) bytes = g_bytes_new_static("<domain/>", 9);
    KvssDisk *disk = kvss_component_add_disk(component, "vda");
    KvssFile *file = kvss_component_add_bytes(component, "domain.xml", bytes, 0600);

    kvss_component_add_file(component, "state.save", "/var/lib/x", 0600);
    kvss_component_add_not_covered(component, "sdb", "lun", true, "a %s disk", "LUN");
    kvss_component_add_condition(component, "C1", false, "%d pings", 3);
    kvss_component_add_reason(component, "C1", "no agent");
    kvss_component_add_note(component, "%s is vfat", "/boot/efi");

    g_assert_true(kvss_component_find_disk(component, "vda") == disk);
    g_assert_null(kvss_component_find_disk(component, "vdb"));
    g_assert_true(kvss_component_find_file(component, "domain.xml") == file);
    g_assert_null(kvss_component_find_file(component, "nvram.fd"));
    g_assert_cmpstr(((KvssNotCovered *) component->not_covered->pdata[0])->reason, ==,
                    "a LUN disk");
    g_assert_cmpstr(((KvssCondition *) component->conditions->pdata[0])->detail, ==, "3 pings");
    g_assert_cmpstr(component->notes->pdata[0], ==, "/boot/efi is vfat");
    g_assert_cmpfloat(component->freeze_ms, ==, -1);
}

static void
test_first_failure_stays(void)
{
    g_autoptr(KvssComponent) component = kvss_component_new("uuid", "web01");

    kvss_component_fail(component, KVSS_E_WRITERERROR_TIMEOUT, "no answer in %d s", 5);
    kvss_component_fail(component, KVSS_E_WRITERERROR_NONRETRYABLE, "thaw failed");
    g_assert_cmpuint(component->failure, ==, KVSS_E_WRITERERROR_TIMEOUT);
    g_assert_cmpstr(component->failure_message, ==, "no answer in 5 s");
}

static void
test_set_string(void)
{
    g_autofree char *text = g_strdup("Online\\web01");

    kvss_set_string(&text, text + 7);
    g_assert_cmpstr(text, ==, "web01");
    kvss_set_string(&text, NULL);
    g_assert_null(text);
}

static void
test_skew(void)
{
    g_autoptr(KvssSnapshotSet) set = kvss_snapshot_set_new();
    g_autoptr(KvssComponent) web = kvss_component_new("1", "web");
    g_autoptr(KvssComponent) off = kvss_component_new("2", "off");
    g_autoptr(KvssComponent) db = kvss_component_new("3", "db");

    g_assert_true(g_uuid_string_is_valid(set->id));
    web->instant_us = 5000;
    g_ptr_array_add(set->components, web);
    g_ptr_array_add(set->components, off);
    g_assert_cmpfloat(kvss_snapshot_set_skew_ms(set), ==, -1);
    db->instant_us = 3500;
    g_ptr_array_add(set->components, db);
    g_assert_cmpfloat(kvss_snapshot_set_skew_ms(set), ==, 1.5);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vss/names", test_names);
    g_test_add_func("/vss/texts", test_texts);
    g_test_add_func("/vss/component", test_component);
    g_test_add_func("/vss/first-failure-stays", test_first_failure_stays);
    g_test_add_func("/vss/set-string", test_set_string);
    g_test_add_func("/vss/skew", test_skew);
    return g_test_run();
}
