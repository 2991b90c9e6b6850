/*
 * test-catalogue.c - set.json there and back, and what is refused in it
 */
#include "catalogue/manifest.h"

#include <json-glib/json-glib.h>
#include <string.h>

static KvssComponent *
component_web01(void)
{
    KvssComponent *component = kvss_component_new("5f0c6b0a-7a44-4d4c-9d57-30f1a2d6a001", "web01");
    g_autoptr(GBytes) xml = g_bytes_new_static("<domain/>", 9);
    KvssDisk *disk = kvss_component_add_disk(component, "vda");

    kvss_set_string(&component->state, "running");
    kvss_set_string(&component->method, "child-snapshot");
    kvss_set_string(&component->consistency, "application");
    component->freeze_ms = 34.5;
    kvss_set_string(&disk->format, "qcow2");
    kvss_set_string(&disk->kind, "file");
    kvss_set_string(&disk->path, "/var/lib/libvirt/images/web01.qcow2");
    kvss_set_string(&disk->options, "{\"cluster_size\":65536}");
    kvss_set_string(&disk->reason, "first backup");
    disk->size = 1 << 30;
    disk->chunk_size = 262144;
    disk->bytes_read = 4096;
    disk->bytes_stored = 999;
    kvss_component_add_bytes(component, "domain.xml", xml, 0600);
    kvss_set_string(
        &kvss_component_add_bytes(component, "tpm/tpm2-00.permall", xml, 0640)->original,
        "/var/lib/libvirt/swtpm/x/tpm2-00.permall");
    kvss_component_add_not_covered(component, "sdb", "lun", true, "a LUN goes past QEMU");
    kvss_component_add_condition(component, "C1", true, "the agent answered in %d ms", 3);
    kvss_component_add_reason(component, "C1", "all five conditions hold");
    kvss_component_add_note(component, "EFI system partition cannot be frozen");
    return component;
}

static void
test_round_trip(void)
{
    g_autoptr(KvssComponent) web01 = component_web01();
    g_autoptr(KvssManifest) manifest = kvss_manifest_new(), again = NULL;
    g_autoptr(GBytes) text = NULL, text_again = NULL;
    g_autoptr(GError) error = NULL;
    KvssManifestVm *vm;
    KvssDisk *disk;

    manifest->set_id = g_strdup("0b7e5d7a-53b8-4e0c-8d5e-0f4b4f9a5b11");
    manifest->host = g_strdup("kvm1");
    manifest->time_us = G_GINT64_CONSTANT(1800000000123456);
    manifest->skew_ms = 12.25;
    manifest->size = 1 << 30;
    kvss_manifest_add(manifest, web01, "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de");
    kvss_manifest_add_event(manifest, "Freeze", "fake", 1800000000000000, 1800000000000001,
                            KVSS_E_WRITERERROR_TIMEOUT);

    text = kvss_manifest_to_json(manifest);
    again = kvss_manifest_from_json(text, &error);
    g_assert_no_error(error);
    g_assert_cmpint(again->time_us, ==, manifest->time_us);
    g_assert_cmpfloat(again->skew_ms, ==, 12.25);
    vm = kvss_manifest_find_vm(again, "web01", &error);
    g_assert_no_error(error);
    g_assert_cmpfloat(vm->component->freeze_ms, ==, 34.5);
    g_assert_cmpfloat(vm->component->pause_ms, ==, -1);
    g_assert_true(vm ==
                  kvss_manifest_find_vm(again, "5F0C6B0A-7A44-4D4C-9D57-30F1A2D6A001", NULL));
    g_assert_null(kvss_manifest_find_vm(again, "web1", &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "its VMs are web01"));
    g_clear_error(&error);
    g_assert_true(kvss_manifest_find_disk(vm, "vda", NULL) ==
                  kvss_component_find_disk(vm->component, "vda"));
    g_assert_null(kvss_manifest_find_disk(vm, "sda", &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "its disks are vda"));
    g_clear_error(&error);
    disk = kvss_component_find_disk(vm->component, "vda");
    g_assert_cmpstr(disk->options, ==, "{\"cluster_size\":65536}");
    g_assert_cmpstr(kvss_manifest_disk_path(vm, "vda"), ==, "vms/web01/disks/vda.raw");
    g_assert_cmpstr(kvss_manifest_file_path(vm, "tpm/tpm2-00.permall"), ==,
                    "vms/web01/tpm/tpm2-00.permall");
    g_assert_cmpuint(kvss_component_find_file(vm->component, "tpm/tpm2-00.permall")->mode, ==,
                     0640);

    /* Nothing was lost: written again it is the same text. */
    text_again = kvss_manifest_to_json(again);
    g_assert_true(g_bytes_equal(text, text_again));
}

/* The example beside the description of the format is read, and written again as it is. */
static void
test_documented(void)
{
    g_autoptr(KvssManifest) manifest = NULL;
    g_autoptr(GBytes) text = NULL, again = NULL;
    g_autoptr(JsonNode) before = NULL, after = NULL;
    g_autoptr(GError) error = NULL;
    char *content;
    gsize length;

    g_assert_true(g_file_get_contents(SET_JSON, &content, &length, &error));
    text = g_bytes_new_take(content, length);
    manifest = kvss_manifest_from_json(text, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(manifest->vms->len, ==, 2);
    g_assert_cmpuint(manifest->components->len, ==, 1);
    again = kvss_manifest_to_json(manifest);
    before = json_from_string(content, &error);
    after = json_from_string(g_bytes_get_data(again, NULL), &error);
    g_assert_no_error(error);
    g_assert_true(json_node_equal(before, after));
}

static void
test_safe_names(void)
{
    static const struct {
        const char *name, *safe;
    } cases[] = {
        { "web01", "web01" },
        { "my web", "my_web" },
        { "../../etc", "_._.._etc" },
        { ".hidden", "_hidden" },
        { "", "_" },
        { "a/b", "a_b" },
        { "T\303\274r", "T__r" },
        { "..", "_." },
        { "x.y-z_1", "x.y-z_1" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *safe = kvss_manifest_safe_name(cases[i].name);

        g_assert_cmpstr(safe, ==, cases[i].safe);
    }
}

/* VMs whose safe names are the same get folders of their own. */
static void
test_names_collide(void)
{
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssComponent) a = kvss_component_new("1", "my web");
    g_autoptr(KvssComponent) b = kvss_component_new("2", "my/web");
    g_autoptr(KvssComponent) c = kvss_component_new("3", "my_web-2");
    KvssManifestVm *vm;

    kvss_component_add_disk(a, "v da");
    kvss_component_add_disk(a, "v/da");
    vm = kvss_manifest_add(manifest, a, NULL);
    g_assert_cmpstr(vm->dir, ==, "my_web");
    g_assert_cmpstr(kvss_manifest_disk_path(vm, "v da"), ==, "vms/my_web/disks/v_da.raw");
    g_assert_cmpstr(kvss_manifest_disk_path(vm, "v/da"), ==, "vms/my_web/disks/v_da-2.raw");
    g_assert_cmpstr(kvss_manifest_add(manifest, b, NULL)->dir, ==, "my_web-2");
    g_assert_cmpstr(kvss_manifest_add(manifest, c, NULL)->dir, ==, "my_web-2-2");
}

/* Two VMs of one name: the name alone does not say which. */
static void
test_name_is_ambiguous(void)
{
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssComponent) a = kvss_component_new("1", "web");
    g_autoptr(KvssComponent) b = kvss_component_new("2", "web");
    g_autoptr(GError) error = NULL;

    kvss_manifest_add(manifest, a, NULL);
    kvss_manifest_add(manifest, b, NULL);
    g_assert_null(kvss_manifest_find_vm(manifest, "web", &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_AMBIGUOUS);
    g_assert_nonnull(kvss_manifest_find_vm(manifest, "2", NULL));
}

#define HEAD "{\"schema\":1,\"set_id\":\"s\",\"time\":\"2026-01-01T00:00:00Z\""
#define VM(rest)                                                                                  \
    HEAD ",\"vms\":[{\"name\":\"a\",\"uuid\":\"u\",\"dir\":\"a\",\"method\":\"offline\"" rest "}" \
         "]"                                                                                      \
         "}"
#define DISK(rest) VM(",\"disks\":[{\"size\":1," rest "}]")

static const struct {
    const char *text, *complaint;
} hostile[] = {
    { "", "set.json: is not UTF-8 text" },
    { "\xff{}", "set.json: is not UTF-8 text" },
    { "[]", "set.json: is not an object" },
    { "{", "set.json: is no JSON" },
    { "{\"a\":\"b}", "set.json: a string has no end" },
    { "{'a':1}", "set.json: byte 1 is no JSON" },
    { "{/**/}", "set.json: byte 1 is no JSON" },
    { "}", "set.json: byte 0 closes what was not open" },
    { "{}", "set.json: schema is missing" },
    { "{\"schema\":\"1\"}", "set.json: schema is not an integer" },
    { "{\"schema\":0}", "set.json: schema is 0" },
    { "{\"schema\":1}", "set.json: set_id is missing" },
    { HEAD ",\"vms\":{}}", "set.json: vms is not a list" },
    { HEAD ",\"vms\":[1]}", "set.json: vms[0]: is not an object" },
    { HEAD ",\"vms\":[{\"name\":\"a/b\"}]}", "set.json: vms[0]: name is no plain name" },
    { HEAD ",\"skew_ms\":-1}", "set.json: skew_ms is out of range" },
    { HEAD ",\"size\":-1}", "set.json: size is -1, out of range" },
    { VM(",\"files\":[{\"name\":\"../x\",\"file\":\"vms/a/x\"}]"),
      "set.json: vms[0]: a: files[0]: name is no relative path" },
    { VM(",\"files\":[{\"name\":\"/x\",\"file\":\"vms/a/x\"}]"),
      "set.json: vms[0]: a: files[0]: name is no relative path" },
    { VM(",\"files\":[{\"name\":\"x\",\"file\":\"vms/a/../../x\"}]"),
      "set.json: vms[0]: a: files[0]: file is no path below vms/a/" },
    { VM(",\"files\":[{\"name\":\"x\",\"mode\":\"9\",\"file\":\"vms/a/x\"}]"),
      "set.json: vms[0]: a: files[0]: mode is '9'" },
    { VM(",\"files\":[{\"name\":\"x\",\"original\":\"/a/../b\",\"file\":\"vms/a/x\"}]"),
      "set.json: vms[0]: a: files[0]: original is no path" },
    { DISK("\"target\":\"..\""), "set.json: vms[0]: a: disks[0]: target is no plain name" },
    { DISK("\"target\":\"vda\""), "set.json: vms[0]: a: disks[0]: file is missing" },
    { DISK("\"target\":\"vda\",\"file\":\"vms/b/disks/vda.raw\""),
      "set.json: vms[0]: a: disks[0]: file is no path below vms/a/" },
    { DISK("\"target\":\"vda\",\"file\":\"vms/a/1\"},{\"size\":1,\"target\":\"vda\",\"file\":"
           "\"vms/a/2\""),
      "set.json: vms[0]: a: disks[1]: 'vda' is there twice" },
    { VM(",\"disks\":[{\"target\":\"vda\",\"size\":1.5,\"file\":\"vms/a/1\"}]"),
      "set.json: vms[0]: a: disks[0]: size is not an integer" },
};

#define HOST(rest)                                                                              \
    HEAD ",\"components\":[{\"name\":\"a\",\"display_name\":\"s:a\",\"writer\":\"w\",\"method\":\"\"" rest \
         "}]}"

static const struct {
    const char *text, *complaint;
} hostile_host[] = {
    { HEAD ",\"components\":[{}]}", "set.json: components[0]: name is missing" },
    { HEAD ",\"components\":[{\"name\":\"\",\"dir\":\"a\"}]}", "set.json: components[0]: name is no name" },
    { HOST(""), "set.json: components[0]: dir is missing" },
    { HOST(",\"dir\":\"..\""), "set.json: components[0]: dir is no plain name" },
    { HOST(",\"dir\":\"a\",\"bytes\":-1"), "set.json: components[0]: bytes is -1" },
    { HOST(",\"dir\":\"a\",\"instant\":\"1950-01-01T00:00:00Z\""),
      "set.json: components[0]: s:a: instant is before" },
    { HOST(",\"dir\":\"a\",\"files\":[{\"name\":\"x\",\"file\":\"vms/a/x\"}]"),
      "set.json: components[0]: s:a: files[0]: file is no path below host/a/" },
    { HOST(",\"dir\":\"a\",\"files\":[{\"name\":\"x\",\"file\":\"host/a/../b\"}]"),
      "set.json: components[0]: s:a: files[0]: file is no path below host/a/" },
    { HOST(",\"dir\":\"a\",\"files\":[{\"name\":\"x\",\"uid\":4294967295,\"file\":\"host/a/x\"}]"),
      "set.json: components[0]: s:a: files[0]: uid is 4294967295, out of range" },
    { HOST(",\"dir\":\"a\",\"files\":[{\"name\":\"x\",\"original\":\"/a/../../etc\",\"file\":\"host/a/x\"}]"),
      "set.json: components[0]: s:a: files[0]: original is no path" },
    { HOST(",\"dir\":\"a\"},{\"name\":\"a\",\"display_name\":\"b\",\"writer\":\"w\",\"method\":\"\",\"dir\":\"b\""),
      "set.json: components[1]: 'b' is there twice" },
    { HOST(",\"dir\":\"a\"},{\"name\":\"b\",\"display_name\":\"b\",\"writer\":\"w\",\"method\":\"\",\"dir\":\"a\""),
      "set.json: components[1]: 'b' is there twice" },
};

static void
test_hostile_host(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(hostile_host); i++) {
        g_autoptr(GBytes)
            text = g_bytes_new_static(hostile_host[i].text, strlen(hostile_host[i].text));
        g_autoptr(GError) error = NULL;

        g_assert_null(kvss_manifest_from_json(text, &error));
        g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT);
        if (!g_str_has_prefix(error->message, hostile_host[i].complaint))
            g_error("'%s' where '%s' was expected", error->message, hostile_host[i].complaint);
    }
}

/* As many files as there may be are laid out, written and read back. */
static void
test_many_files(void)
{
    g_autoptr(KvssManifest) manifest = kvss_manifest_new(), again = NULL;
    g_autoptr(KvssComponent) component = kvss_component_new("big", "db:big");
    g_autoptr(GBytes) text = NULL;
    g_autoptr(GError) error = NULL;
    KvssManifestVm *vm;

    for (unsigned i = 0; i < 100000; i++) {
        g_autofree char *name = g_strdup_printf("files/srv/database/folder %u/file number %u",
                                                i / 1000, i);

        kvss_component_add_file(component, name, NULL, 0600);
    }
    manifest->set_id = g_strdup("s");
    vm = kvss_manifest_add(manifest, component, "0b5e1d0c-6d3c-4a52-9c5e-4b6a7a6f5a01");
    g_assert_cmpstr(vm->dir, ==, "db_big");
    text = kvss_manifest_to_json(manifest);
    again = kvss_manifest_from_json(text, &error);
    g_assert_no_error(error);
    vm = kvss_manifest_find(again, "big", &error);
    g_assert_true(vm == kvss_manifest_find(again, "db:big", NULL));
    g_assert_cmpuint(vm->component->files->len, ==, 100000);
    g_assert_null(kvss_manifest_find_vm(again, "db:big", NULL));
}

static void
test_hostile(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(hostile); i++) {
        g_autoptr(GBytes) text = g_bytes_new_static(hostile[i].text, strlen(hostile[i].text));
        g_autoptr(GError) error = NULL;

        g_assert_null(kvss_manifest_from_json(text, &error));
        g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT);
        if (!g_str_has_prefix(error->message, hostile[i].complaint))
            g_error("'%s' where '%s' was expected", error->message, hostile[i].complaint);
    }
}

/* A million brackets end in an error, not on the stack's end. */
static void
test_deep(void)
{
    g_autofree char *deep = g_malloc(1000000);
    g_autoptr(GBytes) text = NULL;
    g_autoptr(GError) error = NULL;

    memset(deep, '[', 1000000);
    text = g_bytes_new_static(deep, 1000000);
    g_assert_null(kvss_manifest_from_json(text, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT);
}

static void
test_newer(void)
{
    static const char newer[] = "{\"schema\":2,\"anything\":[1,2]}";
    static const char unknown[] = HEAD ",\"colour\":\"blue\",\"vms\":[]}";
    g_autoptr(GBytes) text = g_bytes_new_static(newer, sizeof newer - 1);
    g_autoptr(GBytes) ours = g_bytes_new_static(unknown, sizeof unknown - 1);
    g_autoptr(KvssManifest) manifest = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_null(kvss_manifest_from_json(text, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_VERSION);
    g_clear_error(&error);
    manifest = kvss_manifest_from_json(ours, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(manifest->set_id, ==, "s");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/manifest/round-trip", test_round_trip);
    g_test_add_func("/manifest/documented", test_documented);
    g_test_add_func("/manifest/safe-names", test_safe_names);
    g_test_add_func("/manifest/names-collide", test_names_collide);
    g_test_add_func("/manifest/name-is-ambiguous", test_name_is_ambiguous);
    g_test_add_func("/manifest/hostile", test_hostile);
    g_test_add_func("/manifest/hostile-host", test_hostile_host);
    g_test_add_func("/manifest/many-files", test_many_files);
    g_test_add_func("/manifest/deep", test_deep);
    g_test_add_func("/manifest/newer", test_newer);
    return g_test_run();
}
