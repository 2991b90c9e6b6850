/*
 * test-list.c - what kvss list prints of writers, providers and shadow copies
 *
 * People compare it with vssadmin's and diskshadow's: every blank counts.
 */
#include "guardian/shadows.h"
#include "provider/fake/fake-provider.h"
#include "requester/list.h"
#include "requester/output.h"
#include "writer/fake/fake-writer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- stdout, caught ---- */

typedef struct {
    FILE *file;
    int before;
} Capture;

static Capture
capture_begin(void)
{
    Capture capture = { tmpfile(), -1 };

    (void) fflush(stdout);
    capture.before = dup(STDOUT_FILENO);
    g_assert_cmpint(dup2(fileno(capture.file), STDOUT_FILENO), ==, STDOUT_FILENO);
    return capture;
}

static char *
capture_end(Capture *capture)
{
    char *text = g_malloc0(65536);

    (void) fflush(stdout);
    g_assert_cmpint(dup2(capture->before, STDOUT_FILENO), ==, STDOUT_FILENO);
    (void) close(capture->before);
    rewind(capture->file);
    (void) fread(text, 1, 65535, capture->file);
    (void) fclose(capture->file);
    return text;
}

/* GUIDs and the name of this host, which differ from run to run. */
static char *
filtered(char *text)
{
    g_autofree char *given = text;
    g_autoptr(GRegex) guid = g_regex_new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", 0, 0, NULL);
    g_autofree char *no_guid = g_regex_replace_literal(guid, given, -1, 0, "GUID", 0, NULL);
    g_auto(GStrv) parts = g_strsplit(no_guid, g_get_host_name(), -1);

    return g_strjoinv("HOST", parts);
}

/* ---- writers ---- */

typedef struct {
    Script *script;
    GPtrArray *writers;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    KvssWriter *writer;
    KvssComponent *component;
    KvssDisk *disk;

    f->script = script_new();
    f->writers = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_writer_free);
    writer = fake_writer_new(f->script, "Web Writer", 1);
    g_ptr_array_add(f->writers, writer);
    g_assert_true(kvss_writer_send(writer, KVSS_EVENT_IDENTIFY, NULL, NULL));
    kvss_set_string(&writer->instance_name, "web");
    component = g_ptr_array_index(writer->components, 0);
    kvss_set_string(&component->caption, "Online\\web");
    kvss_set_string(&component->logical_path, "farm");
    for (guint i = 0; i < component->disks->len; i++) {
        disk = g_ptr_array_index(component->disks, i);
        kvss_set_string(&disk->format, "qcow2");
        kvss_set_string(&disk->volume, "/srv (xfs on /dev/sdb1)");
    }
    disk = g_ptr_array_index(component->disks, 0);
    kvss_set_string(&disk->path, "/srv/a.qcow2");
    kvss_component_add_file_set(component, "/etc/web", "*.conf", true);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_ptr_array_unref(f->writers);
    script_unref(f->script);
}

/* A second writer whose Identify fails: it is there, and says why. */
static void
add_broken(Fixture *f)
{
    g_autoptr(Script) script = script_new();
    KvssWriter *writer = fake_writer_new(script, "Db Writer", 0);
    g_autoptr(GError) error = NULL;

    script_throw(script, "Identify", g_error_new(KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                                                 "the database does not answer"));
    g_assert_false(kvss_writer_send(writer, KVSS_EVENT_IDENTIFY, NULL, &error));
    kvss_set_string(&writer->instance_name, "db");
    g_ptr_array_add(f->writers, writer);
}

static char *
listed(Fixture *f, KvssListWriters how, bool json)
{
    Capture capture = capture_begin();

    kvss_list_print_writers(f->writers, how, json);
    return filtered(capture_end(&capture));
}

static void
test_plain(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;

    add_broken(f);
    text = listed(f, KVSS_LIST_PLAIN, false);
    g_assert_cmpstr(text, ==,
                    "Writer name: 'Web Writer'\n"
                    "   Writer Id: {GUID}\n"
                    "   Writer Instance Id: {GUID}\n"
                    "   Writer Instance Name: web\n"
                    "   State: [1] Stable\n"
                    "   Last error: No error\n"
                    "\n"
                    "Writer name: 'Db Writer'\n"
                    "   Writer Id: {GUID}\n"
                    "   Writer Instance Id: {GUID}\n"
                    "   Writer Instance Name: db\n"
                    "   State: [6] Failed\n"
                    "   Last error: Timed out (VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)\n"
                    "   Reason: the database does not answer\n"
                    "\n");
}

static void
test_status(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;

    add_broken(f);
    text = listed(f, KVSS_LIST_STATUS, false);
    g_assert_cmpstr(text, ==,
                    "* WRITER \"Web Writer\"\n"
                    "    - Status: 1 (VSS_WS_STABLE)\n"
                    "    - Writer Failure code: 0x00000000 (S_OK)\n"
                    "    - Writer ID: {GUID}\n"
                    "    - Instance ID: {GUID}\n"
                    "\n"
                    "* WRITER \"Db Writer\"\n"
                    "    - Status: 6 (VSS_WS_FAILED_AT_IDENTIFY)\n"
                    "    - Writer Failure code: 0x800423F2 (VSS_E_WRITERERROR_TIMEOUT)\n"
                    "    - Writer ID: {GUID}\n"
                    "    - Instance ID: {GUID}\n"
                    "    - Reason: the database does not answer\n"
                    "\n"
                    "2 writers listed.\n");
}

static void
test_detailed(Fixture *f, gconstpointer data)
{
    g_autofree char *text = listed(f, KVSS_LIST_DETAILED, false);

    g_assert_cmpstr(text, ==,
                    "* WRITER \"Web Writer\"\n"
                    "    - Writer ID = {GUID}\n"
                    "    - Writer instance ID = {GUID}\n"
                    "    - Writer instance name = web\n"
                    "    - Status = 1 (VSS_WS_STABLE)\n"
                    "    - Writer failure code = 0x00000000 (S_OK)\n"
                    "    - Supports restore events = TRUE\n"
                    "    - Events = Identify, PrepareForBackup, PrepareForSnapshot, Freeze, Thaw, "
                    "PostSnapshot, BackupComplete, BackupShutdown, Abort, PreRestore, "
                    "PostRestore\n"
                    "    - Writer restore conditions = VSS_WRE_ALWAYS\n"
                    "    - Restore method = VSS_RME_RESTORE_IF_CAN_BE_REPLACED\n"
                    "    - Requires reboot after restore = FALSE\n"
                    "    - Excluded files:\n"
                    "    + Component \"Web Writer:\\farm\\Web Writer-0\"\n"
                    "        - Name: Web Writer-0\n"
                    "        - Logical path: farm\n"
                    "        - Full path: \\farm\\Web Writer-0\n"
                    "        - Caption: Online\\web\n"
                    "        - Type: VSS_CT_FILEGROUP [2]\n"
                    "        - Is selectable: TRUE\n"
                    "        - Is top level: FALSE\n"
                    "        - Notify on backup complete: FALSE\n"
                    "        - Disks:\n"
                    "            - vda: qcow2, /srv/a.qcow2\n"
                    "            - vdb: qcow2, no path on this host\n"
                    "        - Paths affected by this component:\n"
                    "            - /srv/a.qcow2\n"
                    "            - /etc/web/*.conf (recursive)\n"
                    "        - Volumes affected by this component:\n"
                    "            - /srv (xfs on /dev/sdb1)\n"
                    "\n"
                    "1 writers listed.\n");
}

/* The raw document, which a program can read. */
static void
test_metadata(Fixture *f, gconstpointer data)
{
    g_autofree char *text = listed(f, KVSS_LIST_METADATA, false);

    g_assert_true(g_str_has_prefix(text, "<?xml version=\"1.0\""));
    g_assert_nonnull(strstr(text, "<WRITER_METADATA "));
    g_assert_nonnull(strstr(text, "componentName=\"Web Writer-0\""));
    g_assert_true(g_str_has_suffix(text, "</WRITER_METADATA>\n"));
}

static JsonArray *
parsed(const char *text)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return json_array_ref(json_node_get_array(node));
}

static void
test_writers_json(Fixture *f, gconstpointer data)
{
    g_autofree char *text = NULL;
    g_autoptr(JsonArray) array = NULL;
    JsonObject *web, *db, *component;

    add_broken(f);
    text = listed(f, KVSS_LIST_DETAILED, true);
    array = parsed(text);
    g_assert_cmpuint(json_array_get_length(array), ==, 2);
    web = json_array_get_object_element(array, 0);
    db = json_array_get_object_element(array, 1);
    g_assert_cmpint(json_object_get_int_member(web, "state"), ==, 1);
    g_assert_true(json_object_get_null_member(web, "reason"));
    g_assert_cmpstr(json_object_get_string_member(db, "last_error"), ==, "0x800423F2");
    g_assert_cmpstr(json_object_get_string_member(db, "reason"), ==,
                    "the database does not answer");
    component = json_array_get_object_element(json_object_get_array_member(web, "components"), 0);
    g_assert_cmpstr(json_object_get_string_member(component, "full_path"), ==,
                    "\\farm\\Web Writer-0");
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(component, "volumes")), ==,
                     1);
}

/* ---- providers ---- */

static void
test_providers(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) providers
        = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_provider_free);
    const KvssProvider *provider;
    g_autofree char *text = NULL, *expected = NULL, *given = NULL;
    Capture capture;

    g_ptr_array_add(providers, fake_provider_new(f->script, "btrfs", NULL));
    provider = g_ptr_array_index(providers, 0);
    expected = g_strdup_printf("Provider name: 'btrfs'\n   Provider type: %c%s\n"
                               "   Provider Id: {%s}\n   Version: %s\n\n",
                               g_ascii_toupper(*provider->ops->type), provider->ops->type + 1,
                               provider->ops->id, provider->ops->version);
    capture = capture_begin();
    kvss_list_print_providers(providers, false);
    text = capture_end(&capture);
    g_assert_cmpstr(text, ==, expected);
}

/* ---- shadow copies ---- */

static KvssShadowSet *
shadow_set(GPtrArray *shadows, bool is_alive)
{
    static KvssShadowSet set;

    set = (KvssShadowSet) { .id = (char *) "11111111-2222-4333-8444-555555555555",
                            .purpose = (char *) "backup",
                            .uri = (char *) "qemu:///system",
                            .pid = 4711,
                            .is_alive = is_alive,
                            .start_us = 1769860799000000,
                            .shadows = shadows };
    return &set;
}

static char *
shadows_listed(KvssShadowSet *set, bool json)
{
    g_autoptr(GPtrArray) sets = g_ptr_array_new();
    Capture capture = capture_begin();

    if (set)
        g_ptr_array_add(sets, set);
    kvss_list_print_shadows(sets, json);
    return filtered(capture_end(&capture));
}

static void
test_shadows(Fixture *f, gconstpointer data)
{
    KvssShadow vda = { .id = (char *) "aaaaaaaa-2222-4333-8444-555555555555",
                       .vm = (char *) "web",
                       .vm_uuid = (char *) "bbbbbbbb-2222-4333-8444-555555555555",
                       .target = (char *) "vda",
                       .original = (char *) "/srv/a.qcow2",
                       .device = (char *) "nbd+unix:///vda?socket=/w/nbd",
                       .provider = (char *) "qemu",
                       .time_us = 1769860800000000,
                       .attributes = KVSS_ATTR_DIFFERENTIAL };
    KvssShadow old = { .vm = (char *) "db",
                       .device = (char *) "nbd+unix:///?socket=/w/1/nbd",
                       .provider = (char *) "qemu" };
    g_autoptr(GPtrArray) shadows = g_ptr_array_new();
    g_autofree char *living = NULL, *left = NULL, *json = NULL, *none = NULL;
    g_autoptr(JsonArray) array = NULL;
    JsonObject *first;

    g_ptr_array_add(shadows, &vda);
    living = shadows_listed(shadow_set(shadows, true), false);
    g_assert_cmpstr(living, ==,
                    "Contents of shadow copy set ID: {GUID}\n"
                    "   Contained 1 shadow copies at creation time: 2026-01-31 12:00:00\n"
                    "      Shadow Copy ID: {GUID}\n"
                    "         Original Volume: (web: vda)/srv/a.qcow2\n"
                    "         Shadow Copy Volume: nbd+unix:///vda?socket=/w/nbd\n"
                    "         Originating Machine: HOST\n"
                    "         Service Machine: HOST\n"
                    "         Provider: 'qemu'\n"
                    "         Type: Backup\n"
                    "         Attributes: Differential\n"
                    "\n");
    g_ptr_array_set_size(shadows, 0);
    g_ptr_array_add(shadows, &old);
    left = shadows_listed(shadow_set(shadows, false), false);
    g_assert_nonnull(strstr(left, "Left by an interrupted backup (process 4711 is gone): 'kvss "
                                  "doctor' removes them\n"));
    g_assert_nonnull(strstr(left, "Shadow Copy ID: {not told}\n"));
    g_assert_nonnull(strstr(left, "creation time: 2026-01-31 11:59:59\n"));

    json = shadows_listed(shadow_set(shadows, false), true);
    array = parsed(json);
    first = json_array_get_object_element(array, 0);
    g_assert_false(json_object_get_boolean_member(first, "alive"));
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(first, "shadows")), ==, 1);

    none = shadows_listed(NULL, false);
    g_assert_cmpstr(none, ==, "No items found that satisfy the query.\n");
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/list/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("plain", test_plain);
    ADD("status", test_status);
    ADD("detailed", test_detailed);
    ADD("metadata", test_metadata);
    ADD("writers-json", test_writers_json);
    ADD("providers", test_providers);
    ADD("shadows", test_shadows);
    return g_test_run();
}
