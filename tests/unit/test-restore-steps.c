/*
 * test-restore-steps.c - VMs set aside, put back, registered
 *
 * libvirt's test driver stands for the host: it has no QEMU, so what is saved and
 * loaded is tested with guests.
 */
#include "guardian/acts-restore.h"
#include "guardian/run.h"
#include "host/domain.h"
#include "writer/domain/definition.h"
#include "writer/domain/restore-steps.h"
#include "writer/writer.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#define ID "11111111-2222-4333-8444-555555555555"
#define UUID "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define HEAD "<domain type='test'><name>web</name><uuid>" UUID "</uuid><memory>1024</memory>" \
             "<os><type>hvm</type>%s</os><devices>"
#define TAIL "</devices></domain>"

typedef struct {
    char *dir, *disk, *aside;
    KvssHost *host;
    KvssRun *run;
    KvssSnapshotSet *set;
    KvssComponent *component;
} Fixture;

/* ---- set aside, put back, registered ---- */

static KvssComponent *
component_with_disk(const char *target, const char *kind, const char *path, const char *format)
{
    KvssComponent *component = kvss_component_new(UUID, "web");
    KvssDisk *disk = kvss_component_add_disk(component, target);

    kvss_set_string(&disk->kind, kind);
    kvss_set_string(&disk->path, path);
    kvss_set_string(&disk->format, format);
    return component;
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("'%s' is not in %s", part, text);
}

static void
assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        g_error("'%s' is in %s", part, text);
}

static char *
definition(const Fixture *f, const char *description)
{
    g_autofree char *head = g_strdup_printf(HEAD, "");

    return g_strdup_printf("%s<disk type='file' device='disk'><source file='%s'/>"
                           "<target dev='vda' bus='virtio'/></disk></devices>"
                           "<description>%s</description></domain>", head, f->disk, description);
}

static void
fixture_set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *state = NULL;
    g_autofree char *xml = NULL;

    f->dir = g_dir_make_tmp("kvss-restore-XXXXXX", &error);
    f->disk = g_build_filename(f->dir, "web.img", NULL);
    f->aside = g_strconcat(f->disk, ".kvss-old-11111111", NULL);
    state = g_build_filename(f->dir, "state", NULL);
    f->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    f->run = kvss_run_begin(state, NULL, f->host, ID, "restore", &error);
    g_assert_no_error(error);

    f->set = kvss_snapshot_set_new();
    f->set->run = f->run;
    f->component = component_with_disk("vda", "file", f->disk, "raw");
    f->component->is_selected = true;
    g_ptr_array_add(f->set->components, f->component);
    xml = definition(f, "new");
    {
        g_autoptr(GBytes) bytes = g_bytes_new(xml, strlen(xml));

        (void) kvss_component_add_bytes(f->component, "domain.xml", bytes, 0600);
    }
    kvss_set_string(&f->component->metadata, "{\"autostart\":true}");
}

static void
fixture_tear_down(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssDomain) left = kvss_host_find_domain(f->host, UUID, NULL);

    if (left)
        (void) virDomainUndefine(kvss_domain_handle(left));
    kvss_snapshot_set_free(f->set);
    kvss_component_free(f->component);
    kvss_run_free(f->run);
    kvss_host_free(f->host);
    g_assert_true(kvss_act_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_free(f->disk);
    g_free(f->aside);
}

static void
old_vm(Fixture *f)
{
    g_autofree char *xml = definition(f, "old");
    virDomainPtr domain = virDomainDefineXML(kvss_host_connection(f->host), xml);

    g_assert_nonnull(domain);
    (void) virDomainFree(domain);
    g_assert_true(g_file_set_contents(f->disk, "old", -1, NULL));
}

static void
assert_file(const char *path, const char *expected)
{
    g_autofree char *text = NULL;

    (void) g_file_get_contents(path, &text, NULL, NULL);
    g_assert_cmpstr(text, ==, expected);
}

/* "old", "new", or NULL: which of the two VMs is registered. */
static void
assert_registered(Fixture *f, const char *expected)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(f->host, UUID, NULL);
    g_autofree char *xml = domain ? kvss_domain_xml(domain, true, NULL) : NULL;
    g_autofree char *part = g_strdup_printf("<description>%s</description>", expected);

    g_assert_cmpint(domain != NULL, ==, expected != NULL);
    if (domain)
        assert_has(xml, part);
}

static void
pre_restore(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_vm_pre_restore(f->host, f->set, &error));
    g_assert_no_error(error);
    assert_registered(f, NULL);
}

/* As the restore does it: in the journal, then written. */
static void
write_new_disk(Fixture *f)
{
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "path", f->disk);
    json_object_set_string_member(details, "aside",
                                  g_file_test(f->aside, G_FILE_TEST_EXISTS) ? f->aside : "");
    g_assert_cmpuint(kvss_run_act_begin(f->run, KVSS_ACT_FILE, details, NULL), !=, 0);
    g_assert_true(g_file_set_contents(f->disk, "new", -1, NULL));
}

static void
finish(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_run_finish(f->run, &error));
    g_assert_no_error(error);
}

static void
test_replaced(Fixture *f, gconstpointer data)
{
    g_autoptr(KvssDomain) domain = NULL;
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    int autostart = 0;

    old_vm(f);
    pre_restore(f);
    assert_file(f->disk, NULL);
    assert_file(f->aside, "old");
    write_new_disk(f);
    f->component->restore_status = KVSS_RS_ALL;
    g_assert_true(kvss_vm_post_restore(f->host, f->set, &error));
    g_assert_no_error(error);
    domain = kvss_host_find_domain(f->host, UUID, NULL);
    g_assert_cmpint(virDomainGetAutostart(kvss_domain_handle(domain), &autostart), ==, 0);
    g_assert_cmpint(autostart, ==, 0); /* it may still be taken back */
    g_clear_pointer(&domain, kvss_domain_free);
    g_assert_true(kvss_run_point_of_no_return(f->run, &error));
    finish(f);

    assert_registered(f, "new");
    assert_file(f->disk, "new");
    assert_file(f->aside, NULL);
    domain = kvss_host_find_domain(f->host, UUID, NULL);
    xml = kvss_domain_xml(domain, true, NULL);
    assert_has_not(xml, KVSS_RESTORE_MARK_URI);
    g_assert_cmpint(virDomainGetAutostart(kvss_domain_handle(domain), &autostart), ==, 0);
    g_assert_cmpint(autostart, ==, 1);
}

/* Whatever the order of failure, the old VM and its disk come back. */
static void
test_taken_back(Fixture *f, gconstpointer data)
{
    const char *when = data;
    g_autoptr(GError) error = NULL;
    struct stat before, after;

    old_vm(f);
    g_assert_cmpint(stat(f->disk, &before), ==, 0);
    pre_restore(f);
    if (!g_str_equal(when, "before-files"))
        write_new_disk(f);
    if (g_str_equal(when, "status")) {
        f->component->restore_status = KVSS_RS_FAILED;
        g_assert_false(kvss_vm_post_restore(f->host, f->set, &error));
        g_assert_error(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED);
        g_assert_cmpuint(f->component->failure, !=, KVSS_S_OK);
    } else if (g_str_equal(when, "registered")) {
        f->component->restore_status = KVSS_RS_ALL;
        g_assert_true(kvss_vm_post_restore(f->host, f->set, &error));
        assert_registered(f, "new");
    }
    finish(f);
    assert_registered(f, "old");
    assert_file(f->disk, "old");
    assert_file(f->aside, NULL);
    g_assert_cmpint(stat(f->disk, &after), ==, 0);
    g_assert_cmpuint(before.st_ino, ==, after.st_ino);
}

/* No VM was there: nothing of the new one stays. */
static void
test_nothing_before(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    pre_restore(f);
    write_new_disk(f);
    f->component->restore_status = KVSS_RS_ALL;
    g_assert_true(kvss_vm_post_restore(f->host, f->set, &error));
    finish(f);
    assert_registered(f, NULL);
    assert_file(f->disk, NULL);
}

/* A file that belongs to no VM is kept, also after success. */
static void
test_foreign_file(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(f->disk, "precious", -1, NULL));
    pre_restore(f);
    write_new_disk(f);
    f->component->restore_status = KVSS_RS_ALL;
    g_assert_true(kvss_vm_post_restore(f->host, f->set, &error));
    g_assert_true(kvss_run_point_of_no_return(f->run, &error));
    finish(f);
    assert_file(f->disk, "new");
    assert_file(f->aside, "precious");
    g_assert_cmpuint(f->component->notes->len, >=, 1);
}

/* A second way back, after a crash in the first one, does no harm. */
static void
test_undo_twice(Fixture *f, gconstpointer data)
{
    g_autoptr(JsonObject) aside = json_object_new();
    g_autoptr(JsonObject) file = json_object_new();
    KvssAct act_aside = { 1, KVSS_ACT_ASIDE, aside };
    KvssAct act_file = { 2, KVSS_ACT_FILE, file };
    g_autoptr(GError) error = NULL;

    old_vm(f);
    json_object_set_string_member(aside, "from", f->disk);
    json_object_set_string_member(aside, "to", f->aside);
    json_object_set_string_member(file, "path", f->disk);
    json_object_set_string_member(file, "aside", f->aside);
    /* The old disk is back already: the undo of ours must not take it for ours. */
    for (int i = 0; i < 2; i++) {
        g_assert_true(kvss_act_undo(&act_file, f->host, 1, &error));
        g_assert_true(kvss_act_undo(&act_aside, f->host, 1, &error));
        assert_file(f->disk, "old");
    }
    finish(f);
}

/* The new VM is registered, and no act says so any more. */
static JsonObject *
new_vm(Fixture *f)
{
    g_autofree char *xml = definition(f, "new");
    g_autofree char *marked
        = kvss_definition_correct(xml, f->component, NULL, ID, NULL, NULL);
    virDomainPtr domain = virDomainDefineXML(kvss_host_connection(f->host), marked);
    JsonObject *details = json_object_new();

    g_assert_nonnull(domain);
    (void) virDomainFree(domain);
    json_object_set_string_member(details, "uuid", UUID);
    json_object_set_string_member(details, "name", "web");
    json_object_set_string_member(details, "run", ID);
    return details;
}

/* Nothing of the old one is started then. */
static void
test_undo_refuses(Fixture *f, gconstpointer data)
{
    g_autoptr(JsonObject) details = new_vm(f);
    KvssAct act = { 1, KVSS_ACT_STOP, details };
    g_autoptr(GError) error = NULL;

    g_assert_false(kvss_act_undo(&act, f->host, 1, &error));
    g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE);
    finish(f);
}

/* libvirt had not got to it when its own act was undone: the old one comes in its place all the same. */
static void
test_late_definition(Fixture *f, gconstpointer data)
{
    g_autoptr(JsonObject) details = new_vm(f);
    g_autofree char *old = definition(f, "old"), *there = NULL;
    KvssAct act = { 1, KVSS_ACT_UNDEFINE, details };
    g_autoptr(GError) error = NULL;
    virDomainPtr domain;

    json_object_set_string_member(details, "xml", old);
    for (int i = 0; i < 2; i++) {
        g_assert_true(kvss_act_undo(&act, f->host, 1, &error));
        g_assert_no_error(error);
    }
    domain = virDomainLookupByUUIDString(kvss_host_connection(f->host), UUID);
    g_assert_nonnull(domain);
    there = virDomainGetXMLDesc(domain, 0);
    g_assert_null(strstr(there, KVSS_RESTORE_MARK_URI));
    g_assert_nonnull(strstr(there, "old"));
    (void) virDomainFree(domain);
    finish(f);
}

int
main(int argc, char **argv)
{
    static const char *const whens[] = { "before-files", "files", "status", "registered" };

    g_test_init(&argc, &argv, NULL);
    /* The undo of what cannot be undone is told as a warning, which a test must survive. */
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
#define TEST(name, data, function) \
    g_test_add(name, Fixture, data, fixture_set_up, function, fixture_tear_down)
    TEST("/restore-steps/replaced", NULL, test_replaced);
    for (gsize i = 0; i < G_N_ELEMENTS(whens); i++) {
        g_autofree char *name = g_strconcat("/restore-steps/taken-back/", whens[i], NULL);

        TEST(name, whens[i], test_taken_back);
    }
    TEST("/restore-steps/nothing-before", NULL, test_nothing_before);
    TEST("/restore-steps/foreign-file", NULL, test_foreign_file);
    TEST("/restore-steps/undo-twice", NULL, test_undo_twice);
    TEST("/restore-steps/undo-refuses", NULL, test_undo_refuses);
    TEST("/restore-steps/late-definition", NULL, test_late_definition);
    return g_test_run();
}
