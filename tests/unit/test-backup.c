/*
 * test-backup.c - a set of fake VMs into a real repository, whole or not at all,
 * and found there again
 */
#include "backup/backup.h"
#include "backup/same-instant.h"
#include "catalogue/documents.h"
#include "host/connection.h"
#include "provider/fake/fake-provider.h"
#include "provider/files/files-provider.h"
#include "stream/sink.h"
#include "stream/source.h"
#include "writer/fake/fake-writer.h"

#include "cheap-key.h"

#include <ftw.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One repository; a coordinator with one writer of three VMs for each run. */
typedef struct {
    char *folder, *location;
    KvssRepository *repository;
    Script *writer, *provider;
    KvssCoordinator *coordinator;
    GCancellable *cancellable;
    KvssBackupRequest request;
} Fixture;

static void
fixture_renew(Fixture *f)
{
    KvssWriter *vms;

    g_clear_pointer(&f->coordinator, kvss_coordinator_free);
    g_clear_pointer(&f->writer, script_unref);
    g_clear_pointer(&f->provider, script_unref);
    f->writer = script_new();
    f->provider = script_new();
    f->coordinator = kvss_coordinator_new();
    vms = fake_writer_new(f->writer, "web", 3);
    fake_writer_be_vm_writer(vms);
    kvss_coordinator_take_writer(f->coordinator, vms);
    kvss_coordinator_take_provider(f->coordinator, fake_provider_new(f->provider, "fake", NULL));
    f->request.coordinator = f->coordinator;
}

static Fixture *
fixture_new(void)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *cache = NULL, *state = NULL;
    g_autoptr(GError) error = NULL;

    f->folder = g_dir_make_tmp("kvss-test-XXXXXX", &error);
    g_assert_no_error(error);
    f->location = g_build_filename(f->folder, "repository", NULL);
    cache = g_build_filename(f->folder, "cache", NULL);
    state = g_build_filename(f->folder, "state", NULL);
    g_assert_true(cheap_init(f->location, "secret", &error));
    f->repository = kvss_repository_open(f->location, "secret", KVSS_REPOSITORY_ADD, cache, state,
                                         &error);
    g_assert_no_error(error);
    f->cancellable = g_cancellable_new();
    f->request.repository = f->repository;
    f->request.all = true;
    f->request.cancellable = f->cancellable;
    fixture_renew(f);
    return f;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static void
fixture_free(Fixture *f)
{
    g_clear_pointer(&f->coordinator, kvss_coordinator_free);
    script_unref(f->writer);
    script_unref(f->provider);
    g_object_unref(f->cancellable);
    kvss_repository_free(f->repository);
    (void) nftw(f->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    g_free(f->folder);
    g_free(f->location);
    g_free(f);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

static void
assert_kept(Fixture *f, guint n)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) backups = kvss_catalogue_list(f->repository, NULL, NULL, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(backups->len, ==, n);
    g_assert_cmpuint(script_held(f->writer), ==, 0);
    g_assert_cmpuint(script_held(f->provider), ==, 0);
}

/* Runs a backup that succeeds and returns its id. */
static char *
run_well(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;
    char *id;

    g_assert_true(kvss_backup_run(&f->request, &result, &error));
    g_assert_no_error(error);
    g_assert_null(result.warning);
    id = g_strdup(result.id);
    kvss_backup_result_clear(&result);
    return id;
}

static void
assert_disk_is(Fixture *f, const KvssBackup *backup, const char *name, const char *target)
{
    g_autoptr(GError) error = NULL;
    KvssManifestVm *vm = kvss_manifest_find_vm(backup->manifest, name, &error);
    KvssDisk *disk = kvss_component_find_disk(vm->component, target);
    g_autoptr(GBytes) content = fake_provider_content(vm->component, disk);
    g_autoptr(KvssSource) source = kvss_backup_open_disk(f->repository, backup, vm, disk, &error);
    gsize length = g_bytes_get_size(content);
    g_autofree char *read = g_malloc(length);

    g_assert_no_error(error);
    g_assert_cmpuint(length, ==, disk->size);
    g_assert_true(kvss_source_read(source, 0, read, length, &error));
    g_assert_cmpmem(read, length, g_bytes_get_data(content, NULL), length);
}

/* It can be read, and has these words. */
static void
assert_document(Fixture *f, const KvssBackup *backup, const char *path, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = kvss_backup_read_document(f->repository, backup, path, &error);
    g_autofree char *copy = NULL;

    g_assert_no_error(error);
    copy = g_strndup(g_bytes_get_data(text, NULL), g_bytes_get_size(text));
    g_assert_nonnull(strstr(copy, words));
}

/* There are these two, and each names the component. */
static void
assert_documents(Fixture *f, const KvssBackup *backup, const char *component)
{
    static const char *const expected[] = {
        "vss/backup-components.xml",
        "vss/writer-66841cd4-6ded-4f4b-8f17-fd23f8ddc3de.xml",
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) paths = kvss_backup_documents(f->repository, backup, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(paths->len, ==, G_N_ELEMENTS(expected) + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(expected); i++) {
        g_assert_cmpstr(g_ptr_array_index(paths, i), ==, expected[i]);
        assert_document(f, backup, expected[i], component);
    }
    g_assert_true(kvss_backup_check_succeeded(f->repository, backup, NULL, &error));
}

static void
test_whole(void)
{
    static const char *const tags[] = { "nightly", "kvss", NULL };
    static const char *const names[] = { "web-2", NULL };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *prefix = NULL;
    g_autoptr(KvssBackup) backup = NULL, again = NULL;

    f->request.tags = tags;
    id = run_well(f);
    assert_kept(f, 1);
    prefix = g_strndup(id, 7);
    backup = kvss_catalogue_find(f->repository, prefix, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(backup->snapshot->id, ==, id);
    g_assert_cmpuint(g_strv_length(backup->snapshot->tags), ==, 2);
    g_assert_cmpstr(backup->snapshot->paths[0], ==, "/vms/web-0");
    g_assert_cmpuint(backup->manifest->vms->len, ==, 3);
    g_assert_cmpuint(backup->manifest->size, >=, 6 * 65536);
    g_assert_cmpuint(backup->manifest->events->len, >, 5);
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("web-%u", i);

        assert_disk_is(f, backup, name, "vda");
        assert_disk_is(f, backup, name, "vdb");
    }
    assert_documents(f, backup, "web-2");
    again = kvss_catalogue_find(f->repository, "latest", names, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again->snapshot->id, ==, id);
    g_assert_cmpuint(script_count(f->writer, "BackupComplete"), ==, 1);
}

/* FULL is passed on: to the writers, in the documents and in the set. COPY is the default. */
static void
test_type(void)
{
    static const struct {
        KvssBackupType asked, told;
        const char *text;
    } cases[] = {
        { 0, KVSS_BT_COPY, "backupType=\"copy\"" },
        { KVSS_BT_COPY, KVSS_BT_COPY, "backupType=\"copy\"" },
        { KVSS_BT_FULL, KVSS_BT_FULL, "backupType=\"full\"" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Fixture) f = fixture_new();
        g_autofree char *id = NULL;
        g_autoptr(KvssBackup) backup = NULL;

        f->request.backup_type = cases[i].asked;
        id = run_well(f);
        backup = kvss_catalogue_find(f->repository, id, NULL, NULL);
        g_assert_nonnull(backup);
        g_assert_cmpint(kvss_coordinator_set(f->request.coordinator)->backup_type, ==,
                        cases[i].told);
        g_assert_cmpint(backup->manifest->backup_type, ==, cases[i].told);
        assert_document(f, backup, "vss/backup-components.xml", cases[i].text);
    }
}

static void
test_chosen(void)
{
    static const char *const names[] = { "web-0", "web-1", NULL };
    static const char *const excluded[] = { "web-1", NULL };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    g_autofree char *id = NULL;

    f->request.all = false;
    f->request.vms = names;
    f->request.exclude = excluded;
    id = run_well(f);
    backup = kvss_catalogue_find(f->repository, id, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(backup->manifest->vms->len, ==, 1);
    g_assert_nonnull(kvss_manifest_find_vm(backup->manifest, "web-0", NULL));
    /* "latest" must hold all that are asked for. */
    g_assert_null(kvss_catalogue_find(f->repository, "latest", names, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND);
}

/* Who asks for nothing that is there is told what is, and where it is listed. */
static void
assert_not_there(const char *name, const char *excluded, const char *message)
{
    const char *const names[] = { name, NULL }, *const excludes[] = { excluded, NULL };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;

    f->request.all = false;
    f->request.vms = names;
    f->request.exclude = excludes;
    g_assert_false(kvss_backup_run(&f->request, &result, &error));
    g_assert_error(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, message));
    assert_kept(f, 0);
}

static void
test_not_there(void)
{
    assert_not_there("we", NULL, "no VM 'we' on this host: 'kvss list vms' shows");
    assert_not_there("web-0:x", NULL, "no VM or component 'web-0:x' on this host");
    assert_not_there("web-0:x", NULL, "'kvss list writers --detailed'");
    assert_not_there("web-0", "web-0", "nothing to back up: all that was chosen is excluded");
    assert_not_there(NULL, NULL, "nothing to back up: this host has no VM");
}

static void
test_unknown(void)
{
    static const char *const names[] = { "web-0", "nosuch", NULL };
    static const char *const excluded[] = { "neither", NULL };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *history = NULL;
    KvssBackupResult result;

    f->request.all = false;
    f->request.vms = names;
    f->request.exclude = excluded;
    g_assert_false(kvss_backup_run(&f->request, &result, &error));
    g_assert_error(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "'nosuch', 'neither'"));
    history = script_history(f->writer);
    g_assert_cmpstr(history, ==, "Identify");
    assert_kept(f, 0);
}

/* --- a part that cannot be left out --- */

static bool
declare_tree(KvssWriter *writer, GCancellable *cancellable, GError **error)
{
    KvssComponent *part = kvss_component_new("part", "app's part");

    kvss_set_string(&part->logical_path, "app");
    part->is_selectable = false;
    g_ptr_array_add(writer->components, kvss_component_new("app", "app"));
    g_ptr_array_add(writer->components, part);
    return true;
}

static void
free_tree(KvssWriter *writer)
{
    kvss_writer_clear(writer);
    g_free(writer);
}

static const KvssWriterOps tree_ops = {
    .class_id = "0b5e1d0c-6d3c-4a52-9c5e-4b6a7a6f5a0f",
    .friendly_name = "tree",
    .identify = declare_tree,
    .free = free_tree,
};

static void
test_inseparable(void)
{
    static const char *const excluded[] = { "app's part", NULL };
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    KvssWriter *tree = g_new0(KvssWriter, 1);
    KvssBackupResult result;

    kvss_writer_init(tree, &tree_ops, "tree");
    kvss_coordinator_take_writer(f->coordinator, tree);
    f->request.exclude = excluded;
    g_assert_false(kvss_backup_run(&f->request, &result, &error));
    g_assert_error(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_INSEPARABLE);
    g_assert_nonnull(strstr(error->message, "app's part cannot be left out"));
    assert_kept(f, 0);
}

/* Whatever fails before the commit: nothing is kept, nothing is held. */
static void
test_refused(void)
{
    static const char *const writer_events[] = {
        "PrepareForBackup", "PrepareForSnapshot", "Freeze", "Thaw", "PostSnapshot",
    };
    static const char *const provider_steps[] = {
        "BeginPrepareSnapshot",
        "CommitSnapshots",
        "PostFinalCommitSnapshots",
    };
    g_autoptr(Fixture) f = fixture_new();

    for (guint i = 0; i < G_N_ELEMENTS(writer_events) + G_N_ELEMENTS(provider_steps); i++) {
        g_autoptr(GError) error = NULL;
        KvssBackupResult result;

        fixture_renew(f);
        if (i < G_N_ELEMENTS(writer_events))
            script_refuse(f->writer, writer_events[i], 1, KVSS_E_WRITERERROR_NONRETRYABLE);
        else
            script_refuse(f->provider, provider_steps[i - G_N_ELEMENTS(writer_events)], 1,
                          KVSS_E_UNEXPECTED_PROVIDER_ERROR);
        g_assert_false(kvss_backup_run(&f->request, &result, &error));
        g_assert_nonnull(strstr(error->message, "web-1"));
        assert_kept(f, 0);
    }
    fixture_renew(f);
    g_free(run_well(f));
    assert_kept(f, 1);
}

static void
cancel_at(const KvssBackupStatus *status, gpointer data)
{
    Fixture *f = data;

    if (g_strcmp0(status->step, f->request.state_dir) == 0)
        g_cancellable_cancel(f->cancellable);
}

static void
test_cancelled(void)
{
    static const char *const steps[] = { "PrepareForBackup", "DoSnapshotSet", "Copy", "Commit" };
    g_autoptr(Fixture) f = fixture_new();

    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autoptr(GError) error = NULL;
        KvssBackupResult result;

        fixture_renew(f);
        g_cancellable_reset(f->cancellable);
        f->request.progress = cancel_at;
        f->request.progress_data = f;
        f->request.state_dir = steps[i]; /* not used without a host */
        g_assert_false(kvss_backup_run(&f->request, &result, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
        assert_kept(f, 0);
    }
}

/* After the commit the backup stands, whatever else happens. */
static void
test_late_failure(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;

    script_refuse(f->writer, "BackupComplete", 0, KVSS_E_WRITERERROR_RETRYABLE);
    g_assert_true(kvss_backup_run(&f->request, &result, &error));
    g_assert_no_error(error);
    g_assert_nonnull(strstr(result.warning, "web-0"));
    kvss_backup_result_clear(&result);
    assert_kept(f, 1);
}

/* A second backup stores next to nothing and keeps the cut of the first. */
static void
test_second(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *first = NULL, *second = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    KvssManifestVm *vm;
    KvssDisk *disk;

    first = run_well(f);
    fixture_renew(f);
    second = run_well(f);
    assert_kept(f, 2);
    g_assert_cmpstr(first, !=, second);
    backup = kvss_catalogue_find(f->repository, "latest", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(backup->snapshot->id, ==, second);
    vm = kvss_manifest_find_vm(backup->manifest, "web-1", NULL);
    disk = kvss_component_find_disk(vm->component, "vda");
    g_assert_cmpuint(disk->bytes_read, ==, 65536);
    g_assert_cmpuint(disk->bytes_stored, ==, 0);
    g_assert_cmpuint(disk->chunk_size, ==, 262144);
}

/* ---- sets that others wrote ---- */

static char *
put_snapshot(Fixture *f, const char *path, const char *text)
{
    static const char *const paths[] = { "/x", NULL };
    static const char *const tags[] = { "kvss", NULL };
    g_autoptr(KvssUpload) upload = NULL;
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
    g_autoptr(GError) error = NULL;
    KvssSnapshotInfo info = {
        .hostname = "other",
        .paths = paths,
        .tags = tags,
        .time_us = g_get_real_time(),
    };
    char id[KVSS_ID_HEX_LENGTH + 1];

    upload = kvss_upload_new(f->repository, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_upload_add_bytes(upload, path, bytes, 0600, &error));
    g_assert_true(kvss_upload_commit(upload, &info, id, &error));
    g_assert_no_error(error);
    return g_strdup(id);
}

#define EMPTY_SET "{\"schema\":1,\"set_id\":\"nested\",\"time\":\"2026-01-01T00:00:00Z\"}"

static void
test_nested(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *stranger = put_snapshot(f, "holiday/photo", "not a set");
    g_autofree char *id = put_snapshot(f, "srv/restored/set/set.json", EMPTY_SET);
    g_autoptr(KvssBackup) backup = NULL;

    backup = kvss_catalogue_find(f->repository, "latest", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(backup->snapshot->id, ==, id);
    g_assert_cmpstr(backup->manifest->set_id, ==, "nested");
    assert_kept(f, 1);
    g_assert_null(kvss_catalogue_find(f->repository, stranger, NULL, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_NOT_FOUND);
}

static void
count_problem(const char *snapshot_id, const GError *problem, gpointer data)
{
    ++*(guint *) data;
}

/* A set that cannot be read is told; "latest" does not quietly mean an older one. */
static void
test_broken(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *good = put_snapshot(f, "set.json", EMPTY_SET);
    g_autofree char *bad = put_snapshot(f, "set.json", "{\"schema\":1");
    g_autoptr(GPtrArray) backups = NULL;
    g_autoptr(KvssBackup) backup = NULL;
    guint problems = 0;

    backups = kvss_catalogue_list(f->repository, count_problem, &problems, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(backups->len, ==, 1);
    g_assert_cmpuint(problems, ==, 1);
    g_assert_null(kvss_catalogue_find(f->repository, "latest", NULL, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT);
    g_clear_error(&error);
    backup = kvss_catalogue_find(f->repository, good, NULL, &error);
    g_assert_no_error(error);
    g_assert_null(kvss_catalogue_find(f->repository, bad, NULL, &error));
    g_assert_error(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT);
}

/* ---- components of another writer ---- */

/* Beside the VMs a database of the host: a cut file, and a stable dump. */
typedef struct {
    Fixture *f;
    Script *script;
    KvssHost *host;
    char *data, *db, *dump, *state;
} HostWorld;

static void
host_set_up(HostWorld *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssWriter *writer;

    w->f = fixture_new();
    w->script = script_new();
    w->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    w->data = g_build_filename(w->f->folder, "data", NULL);
    w->db = g_build_filename(w->data, "inventory.db", NULL);
    w->dump = g_build_filename(w->data, "dump.sql", NULL);
    w->state = g_build_filename(w->f->folder, "run", NULL);
    g_assert_cmpint(g_mkdir(w->data, 0755), ==, 0);
    g_assert_true(g_file_set_contents(w->db, "rows", -1, NULL));
    g_assert_true(g_file_set_contents(w->dump, "insert", -1, NULL));
    g_assert_cmpint(chmod(w->db, 0640), ==, 0);
    g_assert_cmpint(chown(w->db, 77, 78), ==, 0);
    writer = fake_writer_new(w->script, "sqlite", 1);
    fake_writer_add_file_set(writer, w->data, "*.db", false, false);
    fake_writer_add_file_set(writer, w->data, "*.sql", false, true);
    kvss_coordinator_take_writer(w->f->coordinator, writer);
    kvss_coordinator_take_provider(w->f->coordinator, kvss_files_provider_new(NULL));
    w->f->request.host = w->host;
    w->f->request.state_dir = w->state;
}

static void
host_tear_down(HostWorld *w, gconstpointer data)
{
    fixture_free(w->f);
    script_unref(w->script);
    kvss_host_free(w->host);
    g_free(w->data);
    g_free(w->db);
    g_free(w->dump);
    g_free(w->state);
}

static void
assert_file_is(HostWorld *w, const KvssBackup *backup, const KvssManifestVm *vm, const char *path,
               const char *text)
{
    g_autofree char *name = g_strconcat("files", path, NULL);
    const KvssFile *file = kvss_component_find_file(vm->component, name);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = NULL;

    g_assert_nonnull(file);
    g_assert_cmpstr(file->original, ==, path);
    bytes = kvss_backup_read_file(w->f->repository, backup, vm, file, 1000, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), text, strlen(text));
}

static void
assert_no_journal(HostWorld *w)
{
    g_autofree char *journals = g_build_filename(w->state, "journals", NULL);
    g_autofree char *work = g_build_filename(w->state, "work", NULL);
    const char *const folders[] = { journals, work };

    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autoptr(GDir) dir = g_dir_open(folders[i], 0, NULL);

        g_assert_nonnull(dir);
        g_assert_null(g_dir_read_name(dir));
    }
}

static void
test_host(HostWorld *w, gconstpointer data)
{
    static const char *const names[] = { "sqlite-0", "web-1", NULL };
    g_autofree char *id = run_well(w->f);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssBackup) backup = kvss_catalogue_find(w->f->repository, "latest", names, &error);
    const KvssManifestVm *vm;
    const KvssFile *file;
    g_autofree char *name = g_strconcat("files", w->db, NULL);

    g_assert_no_error(error);
    g_assert_cmpstr(backup->snapshot->paths[0], ==, "/host/sqlite-0");
    g_assert_cmpstr(backup->snapshot->paths[3], ==, "/vms/web-2");
    g_assert_cmpuint(backup->manifest->vms->len, ==, 3);
    g_assert_cmpuint(backup->manifest->components->len, ==, 1);
    vm = kvss_manifest_find(backup->manifest, "sqlite-0", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(vm->writer_name, ==, "sqlite");
    g_assert_cmpuint(vm->bytes, ==, 10);
    assert_file_is(w, backup, vm, w->db, "rows");
    assert_file_is(w, backup, vm, w->dump, "insert");
    file = kvss_component_find_file(vm->component, name);
    g_assert_cmpuint(file->mode, ==, 0640);
    g_assert_cmpint(file->uid, ==, 77);
    g_assert_cmpint(file->gid, ==, 78);
    g_assert_cmpfloat(backup->manifest->skew_ms, >=, 0);
    g_assert_cmpint(ABS(vm->component->instant_us - g_get_real_time()), <, 600 * G_USEC_PER_SEC);
    assert_no_journal(w);
}

static void
test_host_chosen(HostWorld *w, gconstpointer data)
{
    static const char *const excluded[] = { "sqlite-0", NULL };
    g_autoptr(KvssBackup) backup = NULL;
    g_autofree char *id = NULL;

    w->f->request.exclude = excluded;
    id = run_well(w->f);
    backup = kvss_catalogue_find(w->f->repository, id, NULL, NULL);
    g_assert_cmpuint(backup->manifest->components->len, ==, 0);
    g_assert_cmpuint(backup->manifest->vms->len, ==, 3);
}

static void
test_host_named(HostWorld *w, gconstpointer data)
{
    static const char *const names[] = { "sqlite-0", NULL };
    g_autoptr(KvssBackup) backup = NULL;
    g_autofree char *id = NULL;

    w->f->request.all = false;
    w->f->request.vms = names;
    id = run_well(w->f);
    backup = kvss_catalogue_find(w->f->repository, id, NULL, NULL);
    g_assert_cmpuint(backup->manifest->components->len, ==, 1);
    g_assert_cmpuint(backup->manifest->vms->len, ==, 0);
}

static void
grow_dump(const KvssBackupStatus *status, gpointer data)
{
    HostWorld *w = data;

    if (g_str_equal(status->step, "Copy") && !status->vm)
        g_assert_true(g_file_set_contents(w->dump, "insert more", -1, NULL));
}

static void
link_dump(const KvssBackupStatus *status, gpointer data)
{
    HostWorld *w = data;

    if (!g_str_equal(status->step, "Copy") || status->vm)
        return;
    g_assert_cmpint(g_unlink(w->dump), ==, 0);
    g_assert_cmpint(symlink("/etc/passwd", w->dump), ==, 0);
}

/* What was called stable and was not is no backup; nor is what a link leads to. */
static void
test_host_not_stable(HostWorld *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;

    w->f->request.progress = data ? link_dump : grow_dump;
    w->f->request.progress_data = w;
    g_assert_false(kvss_backup_run(&w->f->request, &result, &error));
    if (!strstr(error->message, data ? "symbolic link" : "changed while it was read"))
        g_error("%s", error->message);
    g_assert_nonnull(strstr(error->message, "sqlite-0"));
    assert_kept(w->f, 0);
    assert_no_journal(w);
}

/* ---- one instant ---- */

typedef struct {
    gint64 frozen, cut, thawed;
} Times;

static bool
check_times(const Times *times, guint n, GError **error)
{
    g_autoptr(GPtrArray)
        guests = g_ptr_array_new_with_free_func((GDestroyNotify) kvss_component_free);

    for (guint i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("web-%u", i);
        KvssComponent *guest = kvss_component_new(name, name);

        guest->frozen_us = times[i].frozen;
        guest->instant_us = times[i].cut;
        guest->thawed_us = times[i].thawed;
        g_ptr_array_add(guests, guest);
    }
    return kvss_check_same_instant(guests, error);
}

static void
test_same_instant(void)
{
    static const struct {
        Times times[3];
        const char *complaint; /* NULL: it holds */
    } cases[] = {
        { { { 1, 10, 20 }, { 10, 12, 12 }, { -1, 99, -1 } }, NULL },
        { { { -1, 5, -1 }, { -1, -1, -1 }, { -1, 99, -1 } }, NULL },
        { { { 1, 10, 20 }, { 11, 12, 21 }, { 2, 13, 22 } }, "web-0 was cut 0.001 ms before" },
        { { { 1, 10, 11 }, { 2, 12, 21 }, { 2, 13, 22 } }, "web-2 was cut 0.002 ms after" },
        { { { 1, 10, 20 }, { 2, 12, -1 }, { 2, 13, 22 } }, "web-1 it is not known when it was thawed" },
        { { { 1, -1, 20 }, { 2, 12, 20 }, { 2, 13, 22 } }, "web-0 it is not known when it was cut" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(check_times(cases[i].times, 3, &error), ==, cases[i].complaint == NULL);
        if (cases[i].complaint && !strstr(error->message, cases[i].complaint))
            g_error("'%s' is not in '%s'", cases[i].complaint, error->message);
    }
}

/* One guest of the set thawed before the last was cut: no backup. */
static void
thaw_early(gpointer data)
{
    Fixture *f = data;
    GPtrArray *components = kvss_coordinator_set(f->coordinator)->components;

    for (guint i = 0; i < components->len; i++) {
        KvssComponent *component = g_ptr_array_index(components, i);

        component->frozen_us = 1;
        component->thawed_us = i == 1 ? 2 : G_MAXINT64;
    }
}

static void
test_not_same_instant(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GError) error = NULL;
    KvssBackupResult result;

    f->request.same_instant = true;
    script_on(f->writer, "PostSnapshot", thaw_early, f);
    g_assert_false(kvss_backup_run(&f->request, &result, &error));
    g_assert_error(error, KVSS_BACKUP_ERROR, KVSS_BACKUP_ERROR_NOT_SAME_INSTANT);
    g_assert_nonnull(strstr(error->message, "web-1"));
    assert_kept(f, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup/whole", test_whole);
    g_test_add_func("/backup/type", test_type);
    g_test_add_func("/backup/chosen", test_chosen);
    g_test_add_func("/backup/unknown", test_unknown);
    g_test_add_func("/backup/not-there", test_not_there);
    g_test_add_func("/backup/inseparable", test_inseparable);
    g_test_add_func("/backup/refused", test_refused);
    g_test_add_func("/backup/cancelled", test_cancelled);
    g_test_add_func("/backup/late-failure", test_late_failure);
    g_test_add_func("/backup/second", test_second);
#define HOST_TEST(name, data, function) \
    g_test_add(name, HostWorld, data, host_set_up, function, host_tear_down)
    HOST_TEST("/backup/host/whole", NULL, test_host);
    HOST_TEST("/backup/host/excluded", NULL, test_host_chosen);
    HOST_TEST("/backup/host/named", NULL, test_host_named);
    HOST_TEST("/backup/host/not-stable", NULL, test_host_not_stable);
    HOST_TEST("/backup/host/link", "link", test_host_not_stable);
    g_test_add_func("/backup/same-instant/times", test_same_instant);
    g_test_add_func("/backup/same-instant/refused", test_not_same_instant);
    g_test_add_func("/catalogue/nested", test_nested);
    g_test_add_func("/catalogue/broken", test_broken);
    return g_test_run();
}
