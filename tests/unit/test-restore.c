/*
 * test-restore.c - a whole restore, on libvirt's test driver
 *
 * A set with one VM is made by hand, so that its documents can lie; its disks are
 * written by QEMU's own tools. Guests, memory and the kill of the process are
 * tested with guests.
 */
#include "catalogue/catalogue.h"
#include "guardian/acts.h"
#include "guardian/links.h"
#include "host/domain.h"
#include "host/image.h"
#include "repository-fixture.h"
#include "restore/export.h"
#include "restore/restore.h"
#include "stream/sink.h"
#include "stream/source.h"
#include "vss/documents.h"
#include "writer/fake/fake-writer.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define DISK_LENGTH (8u * 1024 * 1024)
#define CHUNK_LENGTH (256u * 1024)

typedef struct {
    Fixture *repo;
    char *dir;              /* where the VM's files are */
    KvssHost *host;
    GBytes *content;        /* of the disk */
    /* Lies of the set; NULL: the truth. */
    const char *disk_path, *definition_name, *options, *extra_file;
    const char *components; /* the backup components document; NULL: none */
} World;

/* Data in every third chunk, holes between. */
static GBytes *
content_new(void)
{
    uint8_t *data = g_malloc0(DISK_LENGTH);

    for (uint32_t at = 0; at < DISK_LENGTH; at += 3 * CHUNK_LENGTH)
        memset(data + at + 1000, (int) (at / CHUNK_LENGTH + 1), CHUNK_LENGTH / 2);
    return g_bytes_new_take(data, DISK_LENGTH);
}

static void
world_set_up(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    w->repo = fixture_new();
    w->dir = g_build_filename(w->repo->dir, "vms", NULL);
    g_assert_cmpint(g_mkdir(w->dir, 0700), ==, 0);
    w->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    w->content = content_new();
}

static void
world_tear_down(World *w, gconstpointer data)
{
    static const char *const names[] = { UUID, "other" };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(KvssDomain) left = kvss_host_find_domain(w->host, names[i], NULL);

        if (left)
            (void) virDomainUndefine(kvss_domain_handle(left));
    }
    kvss_host_free(w->host);
    g_bytes_unref(w->content);
    fixture_free(w->repo);
    g_free(w->dir);
}

static char *
in_dir(const World *w, const char *name)
{
    return g_build_filename(w->dir, name, NULL);
}

static char *
definition(const World *w)
{
    g_autofree char *disk = in_dir(w, "web.qcow2");

    return g_strdup_printf(
        "<domain type='test'><name>%s</name><uuid>" UUID "</uuid><memory>1024</memory><os>"
        "<type>hvm</type><kernel>/no/such/vmlinuz</kernel></os><devices><disk type='file' device='disk'><driver name='qemu' "
        "type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>"
        "<interface type='network'><mac address='52:54:00:aa:bb:cc'/><source network='gone'/>"
        "</interface></devices></domain>",
        w->definition_name ? w->definition_name : "web", disk);
}

static KvssComponent *
component_new(const World *w)
{
    KvssComponent *component = kvss_component_new(UUID, "web");
    KvssDisk *disk = kvss_component_add_disk(component, "vda");
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *xml = definition(w);
    g_autoptr(GBytes) bytes = g_bytes_new(xml, strlen(xml));
    g_autoptr(GBytes) extra = g_bytes_new_static("state", 5);

    kvss_set_string(&component->state, "shut off");
    kvss_set_string(&component->method, "offline");
    kvss_set_string(&component->consistency, "offline");
    kvss_set_string(&disk->kind, "file");
    kvss_set_string(&disk->format, "qcow2");
    kvss_set_string(&disk->path, w->disk_path ? w->disk_path : path);
    kvss_set_string(&disk->options, w->options ? w->options : "{\"cluster_size\":131072}");
    disk->size = DISK_LENGTH;
    disk->chunk_size = CHUNK_LENGTH;
    (void) kvss_component_add_bytes(component, "domain.xml", bytes, 0600);
    if (w->extra_file)
        (void) kvss_component_add_bytes(component, w->extra_file, extra, 0600);
    return component;
}

static void
upload_disk(World *w, KvssUpload *upload, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssSink) sink = kvss_upload_open_file(upload, path, DISK_LENGTH, CHUNK_LENGTH, 0600,
                                                     NULL, &error);

    g_assert_no_error(error);
    g_assert_true(kvss_sink_write(sink, 0, g_bytes_get_data(w->content, NULL), DISK_LENGTH,
                                  &error));
    g_assert_true(kvss_sink_finish(sink, &error));
}

/* A set as the backup engine writes it. */
static void
make_set(World *w)
{
    const char *const tags[] = { "kvss", NULL };
    g_autoptr(KvssRepository) repository = fixture_open(w->repo, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssComponent) component = component_new(w);
    KvssManifestVm *vm = kvss_manifest_add(manifest, component, NULL);
    KvssSnapshotInfo info = { .hostname = "h", .tags = tags, .time_us = g_get_real_time() };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    kvss_set_string(&manifest->set_id, "11111111-2222-4333-8444-555555555555");
    kvss_set_string(&manifest->program, "kvss test");
    kvss_set_string(&manifest->host, "h");
    manifest->time_us = info.time_us;
    manifest->backup_type = KVSS_BT_COPY;
    upload_disk(w, upload, kvss_manifest_disk_path(vm, "vda"));
    for (guint i = 0; i < component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(component->files, i);

        g_assert_true(kvss_upload_add_bytes(upload, kvss_manifest_file_path(vm, file->name),
                                            file->bytes, 0600, &error));
    }
    if (w->components) {
        g_autoptr(GBytes) components = g_bytes_new(w->components, strlen(w->components));

        g_assert_true(kvss_upload_add_bytes(upload, "vss/backup-components.xml", components, 0600,
                                            &error));
    }
    text = kvss_manifest_to_json(manifest);
    g_assert_true(kvss_upload_add_bytes(upload, KVSS_MANIFEST_NAME, text, 0600, &error));
    g_assert_true(kvss_upload_commit(upload, &info, id, &error));
    g_assert_no_error(error);
}

static bool
restore(World *w, KvssRestoreOptions options, KvssRestoreResult *result, GError **error)
{
    g_autoptr(KvssRepository) repository = fixture_open(w->repo, KVSS_REPOSITORY_LOOK);
    g_autoptr(KvssBackup) backup = kvss_catalogue_find(repository, "latest", NULL, error);

    if (!backup)
        return false;
    options.repository = repository;
    options.backup = backup;
    options.host = w->host;
    options.state_dir = w->repo->state;
    return kvss_restore_run(&options, result, error);
}

static bool
is_registered(World *w)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(w->host, UUID, NULL);

    return domain != NULL;
}

/* Nothing that a restore makes: no file, no VM, no journal. */
static void
assert_nothing_left(World *w, unsigned n_files)
{
    g_autofree char *journals = g_build_filename(w->repo->state, "journals", NULL);
    const char *const folders[] = { w->dir, journals };

    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autoptr(GDir) dir = g_dir_open(folders[i], 0, NULL);
        unsigned n = 0;

        while (dir && g_dir_read_name(dir))
            n++;
        g_assert_cmpuint(n, ==, i == 0 ? n_files : 0);
    }
}

static void
assert_disk_restored(World *w, const char *path)
{
    g_autofree char *raw = in_dir(w, "raw");
    g_autofree char *command
        = g_strdup_printf("qemu-img convert -f qcow2 -O raw '%s' '%s'", path, raw);
    g_autoptr(KvssImageInfo) info = kvss_image_info(path, "qcow2", false, NULL);
    g_autofree char *text = NULL;
    gsize length;

    g_assert_nonnull(info);
    g_assert_nonnull(strstr(info->options, "131072"));
    g_assert_cmpuint(info->allocated, <, DISK_LENGTH / 2);
    g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL));
    g_assert_true(g_file_get_contents(raw, &text, &length, NULL));
    g_assert_cmpuint(length, ==, DISK_LENGTH);
    g_assert_cmpint(memcmp(text, g_bytes_get_data(w->content, NULL), length), ==, 0);
    (void) g_remove(raw);
}

static void
test_whole(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    const KvssRestoredVm *vm;

    make_set(w);
    g_assert_true(restore(w, (KvssRestoreOptions){ 0 }, &result, &error));
    g_assert_no_error(error);
    g_assert_true(result.is_partial); /* the network is gone */
    g_assert_cmpuint(result.vms->len, ==, 1);
    vm = g_ptr_array_index(result.vms, 0);
    g_assert_cmpstr(vm->state, ==, "shut off");
    g_assert_false(((KvssRestoredNetwork *) g_ptr_array_index(vm->networks, 0))->is_connected);
    assert_disk_restored(w, path);
    g_assert_true(is_registered(w));
    assert_nothing_left(w, 1);
    kvss_restore_result_clear(&result);
}

/* Its own VM is replaced; what was there is gone, or kept when that is asked for. */
static void
test_again(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    for (int i = 0; i < 3; i++) {
        KvssRestoreOptions options = { .keep_old = i == 2 };

        g_assert_true(restore(w, options, &result, &error));
        g_assert_no_error(error);
        kvss_restore_result_clear(&result);
    }
    assert_nothing_left(w, 2);
}

static void
test_elsewhere(World *w, gconstpointer data)
{
    g_autofree char *to = in_dir(w, "a/b");
    g_autofree char *path = in_dir(w, "a/b/web-vda.qcow2");
    g_autoptr(KvssDomain) domain = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    g_assert_true(restore(w, (KvssRestoreOptions){ .to_dir = to }, &result, &error));
    g_assert_no_error(error);
    assert_disk_restored(w, path);
    domain = kvss_host_find_domain(w->host, UUID, NULL);
    xml = kvss_domain_xml(domain, true, NULL);
    g_assert_nonnull(strstr(xml, path));
    kvss_restore_result_clear(&result);
}

/* ---- links in the default location ---- */

/* The pool "default" of the test driver, in a folder of ours; it must be gone when the next test comes. */
static char *
default_pool_new(World *w)
{
    char *folder = in_dir(w, "images");
    g_autofree char *xml = g_strdup_printf("<pool type='dir'><name>default</name><target><path>%s"
                                           "</path></target></pool>", folder);
    virStoragePoolPtr pool = virStoragePoolDefineXML(kvss_host_connection(w->host), xml, 0);

    g_assert_nonnull(pool);
    (void) virStoragePoolFree(pool);
    return folder;
}

static void
default_pool_free(World *w)
{
    virStoragePoolPtr pool = virStoragePoolLookupByName(kvss_host_connection(w->host), "default");

    g_assert_cmpint(virStoragePoolUndefine(pool), ==, 0);
    (void) virStoragePoolFree(pool);
}

/* The mark is an attribute that only root can set. */
static bool
can_mark(World *w)
{
    g_autofree char *path = in_dir(w, "probe");
    KvssLink link = { path, (char *) "/x", (char *) UUID, (char *) "vda" };
    KvssLink gone = { path, (char *) "", (char *) UUID, (char *) "vda" };
    bool can = kvss_link_apply(&link, NULL) && kvss_link_apply(&gone, NULL);

    if (!can)
        g_test_skip("this user or file system cannot mark links");
    return can;
}

/* Restores to @to (nullable), which works; what became of the disk. Free with kvss_restore_result_clear. */
static const KvssRestoredDisk *
restore_disk_to(World *w, const char *to, bool dry_run, KvssRestoreResult *result)
{
    g_autoptr(GError) error = NULL;
    const KvssRestoredVm *vm;

    g_assert_true(restore(w, (KvssRestoreOptions){ .to_dir = to, .dry_run = dry_run }, result,
                          &error));
    g_assert_no_error(error);
    vm = g_ptr_array_index(result->vms, 0);
    return g_ptr_array_index(vm->disks, 0);
}

static bool
list_has(const GPtrArray *list, const char *part)
{
    for (guint i = 0; i < list->len; i++)
        if (strstr(g_ptr_array_index(list, i), part))
            return true;
    return false;
}

/* Made, made again to another place, taken away by a restore to where the backup has it. */
static void
test_link(World *w, gconstpointer data)
{
    g_autofree char *images = default_pool_new(w);
    g_autofree char *a = in_dir(w, "a"), *b = in_dir(w, "b");
    g_autofree char *link = g_build_filename(images, "web-vda.qcow2", NULL);
    KvssRestoreResult result = { 0 };
    const KvssRestoredDisk *disk;

    if (can_mark(w)) {
        make_set(w);
        disk = restore_disk_to(w, a, true, &result);
        g_assert_cmpstr(disk->link, ==, link);
        g_assert_true(list_has(result.steps, link));
        g_assert_true(list_has(((KvssRestoredVm *) g_ptr_array_index(result.vms, 0))->notes,
                               "vmlinuz is not on this host"));
        g_assert_false(g_file_test(images, G_FILE_TEST_EXISTS));
        kvss_restore_result_clear(&result);

        disk = restore_disk_to(w, a, false, &result);
        g_assert_cmpstr(disk->link, ==, link);
        g_assert_true(kvss_link_leads_to(link, disk->path));
        assert_disk_restored(w, link);
        kvss_restore_result_clear(&result);

        disk = restore_disk_to(w, b, false, &result);
        g_assert_true(kvss_link_leads_to(link, disk->path));
        assert_disk_restored(w, link);
        kvss_restore_result_clear(&result);

        disk = restore_disk_to(w, NULL, true, &result);
        g_assert_null(disk->link);
        g_assert_true(list_has(result.steps, "is removed"));
        g_assert_true(kvss_link_is_ours(link));
        kvss_restore_result_clear(&result);

        disk = restore_disk_to(w, NULL, false, &result);
        g_assert_null(disk->link);
        g_assert_false(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
        kvss_restore_result_clear(&result);
    }
    default_pool_free(w);
}

/* The default location is where the backup has the disk: the link makes place for it again, and none leads in. */
static void
test_link_in_its_place(World *w, gconstpointer data)
{
    g_autofree char *images = default_pool_new(w);
    g_autofree char *to = in_dir(w, "a");
    g_autofree char *path = g_build_filename(images, "web-vda.qcow2", NULL);
    g_autofree char *moved = g_build_filename(to, "web-vda.qcow2", NULL);
    KvssRestoreResult result = { 0 };
    const KvssRestoredDisk *disk;

    w->disk_path = path;
    if (can_mark(w)) {
        make_set(w);
        for (int i = 0; i < 2; i++) {
            disk = restore_disk_to(w, NULL, false, &result);
            g_assert_null(disk->link);
            g_assert_cmpstr(disk->path, ==, path);
            g_assert_false(g_file_test(path, G_FILE_TEST_IS_SYMLINK));
            g_assert_false(g_file_test(moved, G_FILE_TEST_EXISTS));
            assert_disk_restored(w, path);
            kvss_restore_result_clear(&result);

            disk = restore_disk_to(w, to, false, &result);
            g_assert_cmpstr(disk->link, ==, path);
            g_assert_true(kvss_link_leads_to(path, moved));
            assert_disk_restored(w, path);
            kvss_restore_result_clear(&result);
        }
        disk = restore_disk_to(w, images, false, &result);
        g_assert_null(disk->link);
        g_assert_false(g_file_test(path, G_FILE_TEST_IS_SYMLINK));
        assert_disk_restored(w, path);
        kvss_restore_result_clear(&result);
    }
    default_pool_free(w);
}

static unsigned
count_files(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    unsigned n = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        n += g_file_test(path, G_FILE_TEST_IS_DIR) && !g_file_test(path, G_FILE_TEST_IS_SYMLINK)
            ? count_files(path) : 1;
    }
    return n;
}

static void
cancel_at_post_restore(const KvssRestoreProgressInfo *info, gpointer data)
{
    if (g_str_equal(info->step, "PostRestore"))
        g_cancellable_cancel(data);
}

/* The link has made place for the disk already: it comes back with everything else. */
static void
test_link_taken_back(World *w, gconstpointer data)
{
    g_autofree char *images = default_pool_new(w);
    g_autofree char *to = in_dir(w, "a");
    g_autofree char *path = g_build_filename(images, "web-vda.qcow2", NULL);
    g_autofree char *moved = g_build_filename(to, "web-vda.qcow2", NULL);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    KvssRestoreOptions options = { .progress = cancel_at_post_restore,
                                   .progress_data = cancellable, .cancellable = cancellable };
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    w->disk_path = path;
    if (can_mark(w)) {
        make_set(w);
        (void) restore_disk_to(w, to, false, &result);
        kvss_restore_result_clear(&result);
        g_assert_false(restore(w, options, &result, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
        g_assert_true(kvss_link_is_ours(path));
        g_assert_true(kvss_link_leads_to(path, moved));
        assert_disk_restored(w, path);
        g_assert_cmpuint(count_files(images), ==, 1);
        g_assert_cmpuint(count_files(to), ==, 1);
    }
    default_pool_free(w);
}

/* What is there and none of ours stays; the restore works, and says so. */
static void
test_link_obstructed(World *w, gconstpointer data)
{
    g_autofree char *images = default_pool_new(w);
    g_autofree char *to = in_dir(w, "a");
    g_autofree char *link = g_build_filename(images, "web-vda.qcow2", NULL);
    KvssRestoreResult result = { 0 };
    const KvssRestoredVm *vm;

    make_set(w);
    g_assert_cmpint(g_mkdir(images, 0700), ==, 0);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            g_assert_cmpint(symlink("/somebody/else", link), ==, 0);
        else
            g_assert_true(g_file_set_contents(link, "mine", -1, NULL));
        g_assert_null(restore_disk_to(w, to, true, &result)->link);
        g_assert_true(list_has(result.steps, "gets no link"));
        kvss_restore_result_clear(&result);
        g_assert_null(restore_disk_to(w, to, false, &result)->link);
        vm = g_ptr_array_index(result.vms, 0);
        g_assert_true(list_has(vm->notes, "no link of kvss"));
        kvss_restore_result_clear(&result);
        if (i == 0)
            g_assert_true(kvss_link_leads_to(link, "/somebody/else"));
        else
            g_assert_true(g_file_test(link, G_FILE_TEST_IS_REGULAR)
                          && !g_file_test(link, G_FILE_TEST_IS_SYMLINK));
        (void) g_unlink(link);
    }
    default_pool_free(w);
}

/* A run that dies before the point of no return has made none; after it, whoever completes it makes it. */
static void
test_link_act(World *w, gconstpointer data)
{
    g_autofree char *link = in_dir(w, "web-vda.qcow2"), *beside = NULL;
    JsonObject *details = json_object_new();
    KvssAct act = { 1, KVSS_ACT_LINK, details };

    json_object_set_string_member(details, "path", link);
    json_object_set_string_member(details, "target", "/srv/web-vda.qcow2");
    json_object_set_string_member(details, "uuid", UUID);
    json_object_set_string_member(details, "disk", "vda");
    if (can_mark(w)) {
        g_assert_true(kvss_act_undo(&act, NULL, 0, NULL));
        g_assert_false(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
        for (int i = 0; i < 2; i++) {
            g_autoptr(GPtrArray) found = NULL;

            g_assert_true(kvss_act_forward(&act, NULL, NULL));
            g_assert_true(kvss_link_leads_to(link, "/srv/web-vda.qcow2"));
            found = kvss_links_find(w->dir, UUID, "vda");
            g_assert_cmpuint(found->len, ==, 1);
            assert_nothing_left(w, 1);
        }
        json_object_set_string_member(details, "target", "");
        g_assert_true(kvss_act_forward(&act, NULL, NULL));
        g_assert_true(kvss_act_forward(&act, NULL, NULL));
        assert_nothing_left(w, 0);
    }
    json_object_unref(details);
}

/* The folder that the user names is a link, behind which a backup alone may not go. */
static void
test_elsewhere_behind_link(World *w, gconstpointer data)
{
    g_autofree char *real = g_strdup("/dev/shm/kvss-test-XXXXXX"), *to = in_dir(w, "link");
    g_autofree char *path = NULL;
    KvssRestoreResult result = { 0 };

    if (!mkdtemp(real)) {
        g_test_skip("no /dev/shm here");
        return;
    }
    path = g_build_filename(real, "web-vda.qcow2", NULL);
    make_set(w);
    g_assert_cmpint(symlink(real, to), ==, 0);
    (void) restore_disk_to(w, to, false, &result);
    assert_disk_restored(w, path);
    kvss_restore_result_clear(&result);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_rmdir(real), ==, 0);
}

static void
test_dry_run(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    g_assert_true(restore(w, (KvssRestoreOptions){ .dry_run = true }, &result, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(result.steps->len, >=, 3);
    g_assert_cmpstr(((KvssRestoredVm *) g_ptr_array_index(result.vms, 0))->state, ==, "shut off");
    g_assert_false(is_registered(w));
    assert_nothing_left(w, 0);
    kvss_restore_result_clear(&result);
}

static void
assert_refused(World *w, GQuark domain, int code, const char *complaint, unsigned n_files)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    g_assert_false(restore(w, (KvssRestoreOptions){ 0 }, &result, &error));
    g_assert_error(error, domain, code);
    if (!strstr(error->message, complaint))
        g_error("'%s' is not in '%s'", complaint, error->message);
    g_assert_false(is_registered(w));
    assert_nothing_left(w, n_files);
}

static void
test_hostile_paths(World *w, gconstpointer data)
{
    static const char *const paths[] = { "/etc/cron.d/x", "/usr/bin/x", "/lib/x", "/dev/shm/x" };

    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        w->disk_path = paths[i];
        assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID, "folders", 0);
        g_assert_false(g_file_test(paths[i], G_FILE_TEST_EXISTS));
    }
}

/* With this success, of the set with an id that ends so, and @failure in it. */
static char *
components(const char *id_end, const char *succeeded, const char *failure)
{
    return g_strdup_printf(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<BACKUP_COMPONENTS "
        "xmlns=\"urn:kvss:backup-components:1\" version=\"1.0\" bootableSystemStateBackup=\"no\" "
        "selectComponents=\"yes\" backupType=\"copy\" partialFileSupport=\"no\" "
        "snapshotSetId=\"11111111-2222-4333-8444-%s\"><WRITER_COMPONENTS "
        "instanceId=\"2b7d5a0e-0a43-4f4d-a9c8-5f6f3b1f9c77\" "
        "writerId=\"66841cd4-6ded-4f4b-8f17-fd23f8ddc3de\" backupSchema=\"272\"><COMPONENT "
        "componentName=\"" UUID "\" componentType=\"filegroup\" backupSucceeded=\"%s\">%s"
        "</COMPONENT></WRITER_COMPONENTS></BACKUP_COMPONENTS>",
        id_end, succeeded, failure);
}

static void
test_documents(World *w, gconstpointer data)
{
    g_autofree char *good = components("555555555555", "yes", "");
    g_autofree char *other = components("666666666666", "yes", "");
    g_autofree char *failed = components("555555555555", "no", "");
    g_autofree char *told = components("555555555555", "no",
                                       "<BACKUP_FAILURE code=\"VSS_E_WRITERERROR_TIMEOUT\" "
                                       "hresult=\"0x800423f2\" message=\"no answer\"/>");
    g_autofree char *cut = g_strndup(good, strlen(good) - 5);
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    w->components = cut;
    assert_refused(w, KVSS_DOCUMENT_ERROR, KVSS_DOCUMENT_ERROR_CORRUPT,
                   "vss/backup-components.xml: backup components document: line 2: has </BACKUP_C", 0);
    w->components = other;
    assert_refused(w, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT,
                   "is of the set 11111111-2222-4333-8444-666666666666, and set.json of", 0);
    w->components = failed;
    assert_refused(w, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_FAILED,
                   "web: its backup did not succeed: take another one", 0);
    w->components = told;
    assert_refused(w, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_FAILED,
                   "take another one: no answer (VSS_E_WRITERERROR_TIMEOUT, 0x800423F2)", 0);
    w->components = good;
    make_set(w);
    (void) !restore(w, (KvssRestoreOptions){ 0 }, &result, &error);
    g_assert_no_error(error);
    kvss_restore_result_clear(&result);
}

static void
test_hostile_definition(World *w, gconstpointer data)
{
    w->definition_name = "another";
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_INVALID, "another VM", 0);
}

static void
test_hostile_options(World *w, gconstpointer data)
{
    w->options = "{\"cluster_size\":\"64k,backing_file=/etc/shadow\"}";
    assert_refused(w, KVSS_HOST_ERROR, KVSS_HOST_ERROR_INVALID, "cluster_size", 0);
}

/* A saved state that is none: found after the disks were written; all goes back. */
static void
test_hostile_state(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    w->extra_file = "state.save";
    make_set(w);
    g_assert_false(restore(w, (KvssRestoreOptions){ 0 }, &result, &error));
    g_assert_nonnull(strstr(error->message, "save image"));
    g_assert_false(is_registered(w));
    assert_nothing_left(w, 0);
}

/* The disk of another VM is never in our way: we are in its. */
static void
test_path_of_another(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *link = in_dir(w, "link");
    g_autofree char *xml = g_strdup_printf(
        "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os>"
        "<devices><disk type='file' device='disk'><source file='%s'/><target dev='vda'/></disk>"
        "</devices></domain>", link);
    virDomainPtr other;

    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    g_assert_cmpint(symlink(path, link), ==, 0);
    other = virDomainDefineXML(kvss_host_connection(w->host), xml);
    g_assert_nonnull(other);
    (void) virDomainFree(other);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "in use by VM other", 2);
}

static void
test_name_of_another(World *w, gconstpointer data)
{
    virDomainPtr other = virDomainDefineXML(
        kvss_host_connection(w->host),
        "<domain type='test'><name>web</name><memory>1024</memory><os><type>hvm</type></os>"
        "</domain>");

    g_assert_nonnull(other);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "another VM of this name",
                   0);
    (void) virDomainUndefine(other);
    (void) virDomainFree(other);
}

/* By another name of the same file, too. */
static void
test_file_of_another(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *theirs = in_dir(w, "theirs");
    g_autofree char *xml = g_strdup_printf(
        "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os>"
        "<devices><disk type='file' device='disk'><source file='%s'/><target dev='vda'/></disk>"
        "</devices></domain>", theirs);
    virDomainPtr other;

    g_assert_true(g_file_set_contents(theirs, "precious", -1, NULL));
    g_assert_cmpint(link(theirs, path), ==, 0);
    other = virDomainDefineXML(kvss_host_connection(w->host), xml);
    g_assert_nonnull(other);
    (void) virDomainFree(other);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "in use by VM other", 2);
}

static void
test_mac_of_another(World *w, gconstpointer data)
{
    virDomainPtr other = virDomainDefineXML(
        kvss_host_connection(w->host),
        "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os>"
        "<devices><interface type='user'><mac address='52:54:00:AA:BB:CC'/></interface></devices>"
        "</domain>");

    g_assert_nonnull(other);
    (void) virDomainFree(other);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                   "its MAC address 52:54:00:aa:bb:cc is that of VM other", 0);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "--as NAME", 0);
}

/* What a local user may put where the backup says its disk was. */
static void
test_planted_link(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *secret = g_build_filename(w->repo->dir, "secret", NULL);
    g_autofree char *text = NULL;

    if (geteuid() != 0) {
        g_test_skip("needs root");
        return;
    }
    g_assert_true(g_file_set_contents(secret, "precious", -1, NULL));
    g_assert_cmpint(symlink(secret, path), ==, 0);
    g_assert_cmpint(lchown(path, 12345, 12345), ==, 0);
    assert_refused(w, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT, "a symbolic link that user",
                   1);
    g_assert_true(g_file_get_contents(secret, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
}

/* ---- another identity ---- */

static void
assert_not_restored(World *w, KvssRestoreOptions options, int code, const char *complaint)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    g_assert_false(restore(w, options, &result, &error));
    g_assert_error(error, KVSS_RESTORE_ERROR, code);
    if (!strstr(error->message, complaint))
        g_error("'%s' is not in '%s'", complaint, error->message);
}

static char *
xml_of(World *w, const char *name)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(w->host, name, NULL);

    return domain ? kvss_domain_xml(domain, true, NULL) : NULL;
}

/* Beside the VM itself, which is as it was: its definition, its disk. */
static void
test_copy(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *copy = in_dir(w, "other-vda.qcow2");
    KvssRestoreOptions options = { .as_name = "other" };
    g_autofree char *before = NULL, *after = NULL, *xml = NULL;
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    const KvssRestoredVm *vm;

    make_set(w);
    g_assert_true(restore(w, (KvssRestoreOptions){ 0 }, &result, &error));
    kvss_restore_result_clear(&result);
    before = xml_of(w, UUID);
    g_assert_true(restore(w, options, &result, &error));
    g_assert_no_error(error);
    after = xml_of(w, UUID);
    g_assert_cmpstr(after, ==, before);
    xml = xml_of(w, "other");
    g_assert_nonnull(xml);
    g_assert_nonnull(strstr(xml, copy));
    g_assert_nonnull(strstr(xml, "52:54:00:"));
    g_assert_null(strstr(xml, "52:54:00:aa:bb:cc"));
    g_assert_null(strstr(xml, UUID));
    vm = g_ptr_array_index(result.vms, 0);
    g_assert_cmpstr(vm->name, ==, "other");
    g_assert_cmpstr(vm->copy_of, ==, "web");
    g_assert_nonnull(strstr(xml, vm->uuid));
    kvss_restore_result_clear(&result);
    assert_disk_restored(w, path);
    assert_disk_restored(w, copy);
    assert_nothing_left(w, 2);
    assert_not_restored(w, options, KVSS_RESTORE_ERROR_CONFLICT, "other: a VM of this name");
}

static void
test_copy_refused(World *w, gconstpointer data)
{
    static const char *const names[] = { "", " ", "a/b", "..", "-x", "a\nb", "a ", UUID };
    g_autofree char *in_the_way = in_dir(w, "other-vda.qcow2");
    g_autofree char *text = NULL;

    make_set(w);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_not_restored(w, (KvssRestoreOptions){ .as_name = names[i] },
                            KVSS_RESTORE_ERROR_INVALID, "cannot be the name of a VM");
    g_assert_true(g_file_set_contents(in_the_way, "precious", -1, NULL));
    assert_not_restored(w, (KvssRestoreOptions){ .as_name = "other" },
                        KVSS_RESTORE_ERROR_CONFLICT, "a copy takes the place of nothing");
    g_assert_true(g_file_get_contents(in_the_way, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
    assert_nothing_left(w, 1);
}

static void
test_network(World *w, gconstpointer data)
{
    const char *const networks[] = { "gone=default", NULL };
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    const KvssRestoredNetwork *network;

    make_set(w);
    g_assert_true(restore(w, (KvssRestoreOptions){ .networks = networks }, &result, &error));
    g_assert_no_error(error);
    g_assert_false(result.is_partial);
    network = g_ptr_array_index(((KvssRestoredVm *) g_ptr_array_index(result.vms, 0))->networks, 0);
    g_assert_cmpstr(network->source, ==, "default");
    g_assert_cmpstr(network->was, ==, "gone");
    g_assert_cmpstr(network->mac, ==, "52:54:00:aa:bb:cc");
    xml = xml_of(w, UUID);
    g_assert_nonnull(strstr(xml, "<source network='default'/>"));
    g_assert_nonnull(strstr(xml, "52:54:00:aa:bb:cc"));
    kvss_restore_result_clear(&result);
}

static void
test_network_refused(World *w, gconstpointer data)
{
    static const struct {
        const char *words[3];
        int code;
        const char *complaint;
    } cases[] = {
        { { "gone" }, KVSS_RESTORE_ERROR_INVALID, "OLD=NEW" },
        { { "=default" }, KVSS_RESTORE_ERROR_INVALID, "OLD=NEW" },
        { { "gone=" }, KVSS_RESTORE_ERROR_INVALID, "OLD=NEW" },
        { { "gone=nowhere" }, KVSS_RESTORE_ERROR_NOT_FOUND, "no network or bridge 'nowhere'" },
        { { "gone=bridge:default" }, KVSS_RESTORE_ERROR_NOT_FOUND, "no network or bridge" },
        { { "gone=bridge:../../x" }, KVSS_RESTORE_ERROR_NOT_FOUND, "no network or bridge" },
        { { "gone=lo" }, KVSS_RESTORE_ERROR_NOT_FOUND, "no network or bridge 'lo'" },
        { { "br9=default" }, KVSS_RESTORE_ERROR_NOT_FOUND, "their networks: gone" },
        { { "gone=default", "gone=network:default" }, KVSS_RESTORE_ERROR_INVALID, "two networks" },
    };

    make_set(w);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_not_restored(w, (KvssRestoreOptions){ .networks = cases[i].words }, cases[i].code,
                            cases[i].complaint);
    g_assert_false(is_registered(w));
    assert_nothing_left(w, 0);
}

/* A damaged pack is found while the disk is written; what was set aside comes back. */
static void
test_damaged(World *w, gconstpointer data)
{
    g_autofree char *path = in_dir(w, "web.qcow2");
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    unsigned n;

    make_set(w);
    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    n = fixture_count(w->repo, "data");
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *pack = fixture_file(w->repo, "data", i);

        fixture_flip(pack, 100);
    }
    g_assert_false(restore(w, (KvssRestoreOptions){ 0 }, &result, &error));
    g_assert_nonnull(error);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
    g_assert_false(is_registered(w));
    assert_nothing_left(w, 1);
}

static void
test_cancelled(World *w, gconstpointer data)
{
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    g_cancellable_cancel(cancellable);
    g_assert_false(restore(w, (KvssRestoreOptions){ .cancellable = cancellable }, &result,
                           &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
    g_assert_false(is_registered(w));
    assert_nothing_left(w, 0);
}

static void
test_unknown_vm(World *w, gconstpointer data)
{
    const char *const vms[] = { "nobody", NULL };
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    make_set(w);
    g_assert_false(restore(w, (KvssRestoreOptions){ .vms = vms }, &result, &error));
    g_assert_nonnull(strstr(error->message, "nobody"));
    assert_nothing_left(w, 0);
}

/* Every second chunk of the disk is a hole, and each is known as what it is. */
static void
test_extents(World *w, gconstpointer data)
{
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    g_autoptr(KvssSource) source = NULL;
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(KvssExtent));
    const uint8_t *content = g_bytes_get_data(w->content, NULL);
    KvssManifestVm *vm;

    make_set(w);
    repository = fixture_open(w->repo, KVSS_REPOSITORY_LOOK);
    backup = kvss_catalogue_find(repository, "latest", NULL, NULL);
    vm = g_ptr_array_index(backup->manifest->vms, 0);
    source = kvss_backup_open_disk(repository, backup, vm, vm->component->disks->pdata[0], NULL);
    g_assert_true(kvss_source_extents(source, 0, DISK_LENGTH, extents, NULL));
    for (guint i = 0; i < extents->len; i++) {
        const KvssExtent *extent = &g_array_index(extents, KvssExtent, i);

        for (uint64_t at = extent->offset; at < extent->offset + extent->length;
             at += CHUNK_LENGTH) {
            g_autofree uint8_t *zeroes = g_malloc0(CHUNK_LENGTH);

            g_assert_cmpint(memcmp(content + at, zeroes, CHUNK_LENGTH) == 0, ==, extent->zero);
        }
    }
}

/* ---- components of another writer ---- */

#define FAKE_CLASS_ID "0b5e1d0c-6d3c-4a52-9c5e-4b6a7a6f5a01"

/* A database of the host: its folder as it is now, its writer, and a set that has an older one. */
typedef struct {
    World w;
    Script *script;
    KvssCoordinator *coordinator; /* NULL: its writer is not here */
    char *data, *db, *wal, *other, *deep, *outside;
    const char *original;         /* NULL: the truth */
    bool with_vm;
} HostWorld;

static void
put(const char *path, const char *text)
{
    g_autofree char *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void
host_set_up(HostWorld *h, gconstpointer data)
{
    KvssWriter *writer;

    world_set_up(&h->w, NULL);
    h->data = in_dir(&h->w, "data");
    h->db = g_build_filename(h->data, "stock.db", NULL);
    h->wal = g_build_filename(h->data, "stock.db-wal", NULL);
    h->other = g_build_filename(h->data, "other.txt", NULL);
    h->deep = g_build_filename(h->data, "sub/deep/stock.db2", NULL);
    h->outside = in_dir(&h->w, "outside");
    put(h->db, "now");
    put(h->wal, "log of now");
    put(h->other, "other");
    put(h->deep, "deep now");
    g_assert_cmpint(g_mkdir(h->outside, 0755), ==, 0);
    h->script = script_new();
    writer = fake_writer_new(h->script, "sqlite", 1);
    fake_writer_add_file_set(writer, h->data, "stock*", true, false);
    h->coordinator = kvss_coordinator_new();
    kvss_coordinator_take_writer(h->coordinator, writer);
    g_assert_true(kvss_coordinator_gather(h->coordinator, NULL));
}

static void
host_tear_down(HostWorld *h, gconstpointer data)
{
    kvss_coordinator_free(h->coordinator);
    script_unref(h->script);
    g_free(h->data);
    g_free(h->db);
    g_free(h->wal);
    g_free(h->other);
    g_free(h->deep);
    g_free(h->outside);
    world_tear_down(&h->w, NULL);
}

static void
add_stored(KvssComponent *component, const char *original, const char *text)
{
    g_autofree char *name = g_strdup_printf("files/%u%s", component->files->len, original);
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
    KvssFile *file = kvss_component_add_bytes(component, name, bytes, 0640);

    kvss_set_string(&file->original, original);
    file->uid = 77;
    file->gid = 78;
}

static void
upload_component(KvssUpload *upload, const KvssManifestVm *vm)
{
    for (guint i = 0; i < vm->component->files->len; i++) {
        const KvssFile *file = g_ptr_array_index(vm->component->files, i);

        g_assert_true(kvss_upload_add_bytes(upload, kvss_manifest_file_path(vm, file->name),
                                            file->bytes, 0600, NULL));
    }
}

static void
make_host_set(HostWorld *h)
{
    const char *const tags[] = { "kvss", NULL };
    g_autoptr(KvssRepository) repository = fixture_open(h->w.repo, KVSS_REPOSITORY_ADD);
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, NULL);
    g_autoptr(KvssManifest) manifest = kvss_manifest_new();
    g_autoptr(KvssComponent) component = kvss_component_new("sqlite-0", "sqlite-0");
    g_autoptr(KvssComponent) vm = component_new(&h->w);
    KvssSnapshotInfo info = { .hostname = "h", .tags = tags, .time_us = g_get_real_time() };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    add_stored(component, h->original ? h->original : h->db, "then");
    add_stored(component, h->deep, "deep then");
    kvss_set_string(&manifest->set_id, "11111111-2222-4333-8444-555555555555");
    manifest->time_us = info.time_us;
    upload_component(upload, kvss_manifest_add(manifest, component, FAKE_CLASS_ID));
    if (h->with_vm) {
        KvssManifestVm *stored = kvss_manifest_add(manifest, vm, NULL);

        upload_component(upload, stored);
        upload_disk(&h->w, upload, kvss_manifest_disk_path(stored, "vda"));
    }
    text = kvss_manifest_to_json(manifest);
    g_assert_true(kvss_upload_add_bytes(upload, KVSS_MANIFEST_NAME, text, 0600, &error));
    g_assert_true(kvss_upload_commit(upload, &info, id, &error));
    g_assert_no_error(error);
}

static void
assert_text(const char *path, const char *text)
{
    g_autofree char *content = NULL;

    if (!text) {
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        return;
    }
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, text);
}

static void
assert_no_journals(HostWorld *h)
{
    g_autofree char *journals = g_build_filename(h->w.repo->state, "journals", NULL);

    g_assert_cmpuint(count_files(journals), ==, 0);
}

static void
assert_as_before(HostWorld *h)
{
    assert_text(h->db, "now");
    assert_text(h->wal, "log of now");
    assert_text(h->other, "other");
    assert_text(h->deep, "deep now");
    g_assert_cmpuint(count_files(h->data), ==, 4);
    g_assert_cmpuint(count_files(h->outside), ==, 0);
    g_assert_cmpuint(script_held(h->script), ==, 0);
    assert_no_journals(h);
}

static void
restore_host_well(HostWorld *h, KvssRestoreOptions options)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    options.host_coordinator = h->coordinator;
    make_host_set(h);
    (void) restore(&h->w, options, &result, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(result.components->len, ==, 1);
    g_assert_cmpuint(((KvssRestoredComponent *) result.components->pdata[0])->files, ==, 2);
    g_assert_null(result.warning);
    kvss_restore_result_clear(&result);
    assert_no_journals(h);
}

static void
refuse_host(HostWorld *h, KvssRestoreOptions options, const char *words)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };

    options.host_coordinator = h->coordinator;
    make_host_set(h);
    g_assert_false(restore(&h->w, options, &result, &error));
    if (!strstr(error->message, words))
        g_error("'%s' is not in '%s'", words, error->message);
}

/* The log of the newer database must not be found beside the older one. */
static void
test_host_in_place(HostWorld *h, gconstpointer data)
{
    struct stat st;

    restore_host_well(h, (KvssRestoreOptions){ 0 });
    assert_text(h->db, "then");
    assert_text(h->wal, NULL);
    assert_text(h->other, "other");
    assert_text(h->deep, "deep then");
    g_assert_cmpuint(count_files(h->data), ==, 3);
    g_assert_cmpint(stat(h->db, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0640);
    g_assert_cmpuint(st.st_uid, ==, 77);
    g_assert_cmpuint(st.st_gid, ==, 78);
    g_assert_cmpuint(script_count(h->script, "PreRestore"), ==, 1);
    g_assert_cmpuint(script_count(h->script, "PostRestore"), ==, 1);
}

static void
test_host_keep_old(HostWorld *h, gconstpointer data)
{
    restore_host_well(h, (KvssRestoreOptions){ .keep_old = true });
    assert_text(h->db, "then");
    assert_text(h->wal, NULL);
    g_assert_cmpuint(count_files(h->data), ==, 6);
}

static bool
is_in(const GPtrArray *texts, const char *words)
{
    for (guint i = 0; i < texts->len; i++)
        if (strstr(g_ptr_array_index(texts, i), words))
            return true;
    return false;
}

/* The one file of the folder, which has lost its name. */
static void
assert_kept(const char *folder, const char *text)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name = dir ? g_dir_read_name(dir) : NULL;
    g_autofree char *path = name ? g_build_filename(folder, name, NULL) : NULL;

    g_assert_nonnull(path);
    g_assert_nonnull(strstr(name, ".kvss-old-"));
    assert_text(path, text);
    g_assert_null(g_dir_read_name(dir));
}

/* Folders that came after the backup: what is in them exists nowhere else. */
static void
test_host_new_folder(HostWorld *h, gconstpointer data)
{
    g_autofree char *space = g_build_filename(h->data, "space", NULL);
    g_autofree char *file = g_build_filename(space, "stock.db3", NULL);
    g_autofree char *words = g_strdup_printf("%s: the backup has no file of this folder", space);
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    KvssRestoredComponent *component;

    put(file, "new and only here");
    make_host_set(h);
    g_assert_true(restore(&h->w, (KvssRestoreOptions){ .host_coordinator = h->coordinator },
                          &result, &error));
    g_assert_no_error(error);
    assert_kept(space, "new and only here");
    assert_text(h->db, "then");
    assert_text(h->wal, NULL);
    g_assert_cmpuint(count_files(h->data), ==, 4); /* it, other.txt, and the two of the set */
    component = g_ptr_array_index(result.components, 0);
    g_assert_true(is_in(component->notes, words));
    g_assert_nonnull(strstr(result.warning, "sqlite-0"));
    kvss_restore_result_clear(&result);
    assert_no_journals(h);
}

/* What writes a file wants a longer name for a moment. */
static void
put_long(HostWorld *h, const char *path)
{
    g_autofree char *made = g_build_filename(h->data, "made", NULL);

    put(made, "long now");
    g_assert_cmpint(g_rename(made, path), ==, 0);
}

/* A name so long that nothing can be added to it. */
static void
test_host_long_name(HostWorld *h, gconstpointer data)
{
    g_autofree char *name = g_strnfill(NAME_MAX, 'x');
    g_autofree char *path = NULL;

    memcpy(name, "stock", 5);
    path = g_build_filename(h->data, name, NULL);
    put_long(h, path);
    h->original = path;
    restore_host_well(h, (KvssRestoreOptions){ .keep_old = true });
    assert_text(path, "then");
    g_assert_cmpuint(count_files(h->data), ==, 7); /* other.txt, two of the set, four kept */
}

/* It goes back to its own name when the writer refuses. */
static void
test_host_long_name_back(HostWorld *h, gconstpointer data)
{
    g_autofree char *name = g_strnfill(NAME_MAX, 'y');
    g_autofree char *path = NULL;

    memcpy(name, "stock", 5);
    path = g_build_filename(h->data, name, NULL);
    put_long(h, path);
    script_refuse(h->script, "PostRestore", 0, KVSS_E_WRITERERROR_NONRETRYABLE);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "refuses");
    assert_text(path, "long now");
    g_assert_cmpuint(count_files(h->data), ==, 5);
}

/* The folder is lost with all in it; it is made for the owner of the files. */
static void
test_host_lost(HostWorld *h, gconstpointer data)
{
    g_autofree char *moved = in_dir(&h->w, "moved");
    struct stat st;

    g_assert_cmpint(g_rename(h->data, moved), ==, 0);
    restore_host_well(h, (KvssRestoreOptions){ 0 });
    assert_text(h->deep, "deep then");
    g_assert_cmpint(stat(h->data, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, 77);
}

static void
test_host_dry_run(HostWorld *h, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    unsigned n_aside = 0;

    make_host_set(h);
    g_assert_true(restore(&h->w, (KvssRestoreOptions){ .dry_run = true,
                                                       .host_coordinator = h->coordinator },
                          &result, &error));
    for (guint i = 0; i < result.steps->len; i++)
        n_aside += strstr(g_ptr_array_index(result.steps, i), "is set aside") != NULL;
    g_assert_cmpuint(n_aside, ==, 3);
    kvss_restore_result_clear(&result);
    assert_as_before(h);
    g_assert_cmpuint(script_count(h->script, "PreRestore"), ==, 0);
}

static void
test_host_elsewhere(HostWorld *h, gconstpointer data)
{
    g_autofree char *to = in_dir(&h->w, "to");
    g_autofree char *path = g_strconcat(to, "/sqlite-0", h->db, NULL);

    restore_host_well(h, (KvssRestoreOptions){ .to_dir = to });
    assert_text(path, "then");
    assert_as_before(h);
    g_assert_cmpuint(script_count(h->script, "PreRestore"), ==, 0);
    /* Once more over itself, and its writer need not be here. */
    g_clear_pointer(&h->coordinator, kvss_coordinator_free);
    restore_host_well(h, (KvssRestoreOptions){ .to_dir = to });
    assert_text(path, "then");
    g_assert_cmpuint(count_files(to), ==, 2);
}

/* Somebody has put a link into the folder. */
static void
test_host_elsewhere_link(HostWorld *h, gconstpointer data)
{
    g_autofree char *to = in_dir(&h->w, "to");
    g_autofree char *link = g_build_filename(to, "sqlite-0", NULL);

    g_assert_cmpint(g_mkdir(to, 0755), ==, 0);
    g_assert_cmpint(symlink(h->outside, link), ==, 0);
    refuse_host(h, (KvssRestoreOptions){ .to_dir = to }, "symbolic link");
    assert_as_before(h);
}

static void
test_host_writer_absent(HostWorld *h, gconstpointer data)
{
    g_clear_pointer(&h->coordinator, kvss_coordinator_free);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "(VSS_E_OBJECT_NOT_FOUND, 0x80042308)");
    assert_as_before(h);
}

/* A set is a stranger's: it cannot name a place that the writer does not. */
static void
test_host_hostile(HostWorld *h, gconstpointer data)
{
    g_autofree char *passwd = g_build_filename(h->outside, "stock.db", NULL);

    h->original = passwd;
    refuse_host(h, (KvssRestoreOptions){ 0 }, "does not declare");
    g_assert_cmpuint(script_count(h->script, "PreRestore"), ==, 0);
    assert_as_before(h);
}

static void
test_host_other_name(HostWorld *h, gconstpointer data)
{
    h->original = h->other;
    refuse_host(h, (KvssRestoreOptions){ 0 }, "does not declare");
    assert_as_before(h);
}

static void
test_host_twice(HostWorld *h, gconstpointer data)
{
    h->original = h->deep;
    refuse_host(h, (KvssRestoreOptions){ 0 }, "two files of the backup belong to");
    assert_as_before(h);
}

static void
replace_by_link(gpointer data)
{
    HostWorld *h = data;
    g_autofree char *sub = g_build_filename(h->data, "sub", NULL);
    g_autofree char *moved = in_dir(&h->w, "moved");

    g_assert_cmpint(g_rename(sub, moved), ==, 0);
    g_assert_cmpint(symlink(h->outside, sub), ==, 0);
}

static void
put_link_back(HostWorld *h)
{
    g_autofree char *sub = g_build_filename(h->data, "sub", NULL);
    g_autofree char *moved = in_dir(&h->w, "moved");

    g_assert_cmpint(g_unlink(sub), ==, 0);
    g_assert_cmpint(g_rename(moved, sub), ==, 0);
}

/* A folder becomes a link to another place after the plan was made. */
static void
test_host_race(HostWorld *h, gconstpointer data)
{
    script_on(h->script, "PreRestore", replace_by_link, h);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "symbolic link");
    put_link_back(h);
    assert_as_before(h);
}

/* A writer declares a folder that holds ours, or lies in it: the journal would be set aside. */
static void
test_host_over_ours(HostWorld *h, gconstpointer below)
{
    g_autofree char *declared = g_build_filename(h->w.repo->dir, below, NULL);
    g_autofree char *words = g_strdup_printf("sqlite-0: its writer declares %s, and %s/", declared,
                                             h->w.repo->dir);
    KvssWriter *writer = g_ptr_array_index(kvss_coordinator_writers(h->coordinator), 0);
    KvssComponent *live = g_ptr_array_index(writer->components, 0);

    g_assert_nonnull(live);
    (void) kvss_component_add_file_set(live, declared, "*", true);
    refuse_host(h, (KvssRestoreOptions){ 0 }, words);
    refuse_host(h, (KvssRestoreOptions){ .dry_run = true }, "restore with --to DIR");
    g_assert_cmpuint(script_count(h->script, "PreRestore"), ==, 0);
    assert_as_before(h);
}

/* What stands in a file's place and is none cannot be set aside, and is not replaced. */
static void
test_host_in_the_way(HostWorld *h, gconstpointer data)
{
    g_autofree char *target = g_build_filename(h->outside, "precious", NULL);

    g_assert_cmpint(g_unlink(h->deep), ==, 0);
    g_assert_cmpint(symlink(target, h->deep), ==, 0);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "in its place");
    g_assert_true(g_file_test(h->deep, G_FILE_TEST_IS_SYMLINK));
    g_assert_cmpint(g_unlink(h->deep), ==, 0);
    put(h->deep, "deep now");
    assert_as_before(h);
}

static void
test_host_refused(HostWorld *h, gconstpointer event)
{
    script_refuse(h->script, event, 0, KVSS_E_WRITERERROR_NONRETRYABLE);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "refuses");
    assert_text(h->db, "now");
    assert_text(h->wal, "log of now");
    assert_text(h->deep, "deep now");
    g_assert_cmpuint(count_files(h->data), ==, 4);
    assert_no_journals(h);
}

static void
see_old_files(gpointer data)
{
    HostWorld *h = data;

    assert_text(h->db, "now");
    assert_text(h->wal, "log of now");
}

/* The VM fails after the files were written: they are back before their writer hears of it. */
static void
test_host_with_failing_vm(HostWorld *h, gconstpointer data)
{
    h->with_vm = true;
    h->w.extra_file = "state.save";
    script_on(h->script, "PostRestore", see_old_files, h);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "save image");
    g_assert_cmpuint(script_count(h->script, "PostRestore"), ==, 1);
    g_assert_false(is_registered(&h->w));
    assert_as_before(h);
}

static void
test_host_with_vm(HostWorld *h, gconstpointer data)
{
    h->with_vm = true;
    restore_host_well(h, (KvssRestoreOptions){ 0 });
    assert_text(h->db, "then");
    g_assert_true(is_registered(&h->w));
}

/* A writer declares the folder of the VM's images: the new disk would be set aside. */
static void
test_host_over_vm(HostWorld *h, gconstpointer data)
{
    KvssWriter *writer = g_ptr_array_index(kvss_coordinator_writers(h->coordinator), 0);
    KvssComponent *live = g_ptr_array_index(writer->components, 0);

    h->with_vm = true;
    (void) kvss_component_add_file_set(live, h->w.dir, "*", true);
    refuse_host(h, (KvssRestoreOptions){ 0 }, "which belongs to the VM web of the same restore");
    assert_as_before(h);
}

static void
test_host_damaged(HostWorld *h, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssRestoreResult result = { 0 };
    unsigned n;

    make_host_set(h);
    n = fixture_count(h->w.repo, "data");
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *pack = fixture_file(h->w.repo, "data", i);

        fixture_flip(pack, 20);
    }
    g_assert_false(restore(&h->w, (KvssRestoreOptions){ .host_coordinator = h->coordinator },
                           &result, &error));
    g_assert_nonnull(error);
    assert_as_before(h);
}

static void
test_export_formats(void)
{
    g_assert_cmpstr(kvss_export_format_of("/a/b.QCOW2"), ==, "qcow2");
    g_assert_cmpstr(kvss_export_format_of("/a/b.vhd"), ==, "vpc");
    g_assert_cmpstr(kvss_export_format_of("/a/b.vhdx"), ==, "vhdx");
    g_assert_cmpstr(kvss_export_format_of("/a/b.img"), ==, "raw");
    g_assert_cmpstr(kvss_export_format_of("/a.qcow2/b"), ==, "raw");
    g_assert_true(kvss_export_is_format("vpc"));
    g_assert_false(kvss_export_is_format("vhd"));
    g_assert_false(kvss_export_is_format("luks"));
}

int
main(int argc, char **argv)
{
    g_autofree char *tool = g_find_program_in_path("qemu-nbd");

    g_test_init(&argc, &argv, NULL);
    /* What cannot be undone is told as a warning, which a test must survive. */
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
#define TEST(name, function) g_test_add(name, World, NULL, world_set_up, function, world_tear_down)
    TEST("/restore/extents", test_extents);
#define HOST_TEST_WITH(name, data, function) \
    g_test_add(name, HostWorld, data, host_set_up, function, host_tear_down)
#define HOST_TEST(name, function) HOST_TEST_WITH(name, NULL, function)
    g_test_add_func("/restore/export-formats", test_export_formats);
    HOST_TEST("/restore/host/in-place", test_host_in_place);
    HOST_TEST("/restore/host/keep-old", test_host_keep_old);
    HOST_TEST("/restore/host/new-folder", test_host_new_folder);
    HOST_TEST("/restore/host/long-name", test_host_long_name);
    HOST_TEST("/restore/host/long-name-back", test_host_long_name_back);
    HOST_TEST("/restore/host/lost", test_host_lost);
    HOST_TEST("/restore/host/dry-run", test_host_dry_run);
    HOST_TEST("/restore/host/elsewhere", test_host_elsewhere);
    HOST_TEST("/restore/host/elsewhere-link", test_host_elsewhere_link);
    HOST_TEST("/restore/host/writer-absent", test_host_writer_absent);
    HOST_TEST("/restore/host/hostile", test_host_hostile);
    HOST_TEST("/restore/host/other-name", test_host_other_name);
    HOST_TEST("/restore/host/twice", test_host_twice);
    HOST_TEST("/restore/host/race", test_host_race);
    HOST_TEST("/restore/host/in-the-way", test_host_in_the_way);
    HOST_TEST_WITH("/restore/host/over-ours/above", "", test_host_over_ours);
    HOST_TEST_WITH("/restore/host/over-ours/state", "state", test_host_over_ours);
    HOST_TEST_WITH("/restore/host/over-ours/journals", "state/journals", test_host_over_ours);
    HOST_TEST_WITH("/restore/host/over-ours/repository", "repository", test_host_over_ours);
    HOST_TEST_WITH("/restore/host/over-ours/packs", "repository/data", test_host_over_ours);
    HOST_TEST_WITH("/restore/host/refuses-pre", "PreRestore", test_host_refused);
    HOST_TEST_WITH("/restore/host/refuses-post", "PostRestore", test_host_refused);
    HOST_TEST("/restore/host/damaged", test_host_damaged);
    if (tool) {
        HOST_TEST("/restore/host/with-vm", test_host_with_vm);
        HOST_TEST("/restore/host/over-vm", test_host_over_vm);
        HOST_TEST("/restore/host/with-failing-vm", test_host_with_failing_vm);
        TEST("/restore/whole", test_whole);
        TEST("/restore/again", test_again);
        TEST("/restore/elsewhere", test_elsewhere);
        TEST("/restore/elsewhere-behind-link", test_elsewhere_behind_link);
        TEST("/restore/link/whole", test_link);
        TEST("/restore/link/in-its-place", test_link_in_its_place);
        TEST("/restore/link/taken-back", test_link_taken_back);
        TEST("/restore/link/obstructed", test_link_obstructed);
        TEST("/restore/link/act", test_link_act);
        TEST("/restore/dry-run", test_dry_run);
        TEST("/restore/hostile/paths", test_hostile_paths);
        TEST("/restore/documents", test_documents);
        TEST("/restore/hostile/definition", test_hostile_definition);
        TEST("/restore/hostile/options", test_hostile_options);
        TEST("/restore/hostile/state", test_hostile_state);
        TEST("/restore/conflict/path", test_path_of_another);
        TEST("/restore/conflict/name", test_name_of_another);
        TEST("/restore/conflict/file", test_file_of_another);
        TEST("/restore/conflict/mac", test_mac_of_another);
        TEST("/restore/conflict/planted-link", test_planted_link);
        TEST("/restore/copy", test_copy);
        TEST("/restore/copy-refused", test_copy_refused);
        TEST("/restore/network", test_network);
        TEST("/restore/network-refused", test_network_refused);
        TEST("/restore/damaged", test_damaged);
        TEST("/restore/cancelled", test_cancelled);
        TEST("/restore/unknown-vm", test_unknown_vm);
    }
    return g_test_run();
}
