/*
 * own-store.c - a requester with a store of its own: the disks of one VM as raw files
 *
 *     own-store STATE_DIR FOLDER VM
 *
 * For tests. What kvss_backup_run() does, by hand: the journal is begun before the set
 * touches anything and finished after it, well or ill.
 */
#include <kvss/kvss.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define STEP (1024 * 1024)

static bool
store(KvssSource *source, const char *path, GError **error)
{
    g_autofree char *buffer = g_malloc(STEP);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0;

    for (uint64_t at = 0; ok && at < source->size; at += STEP) {
        size_t length = MIN(STEP, source->size - at);

        if (!kvss_source_read(source, at, buffer, length, error)) {
            (void) close(fd);
            return false;
        }
        ok = pwrite(fd, buffer, length, (off_t) at) == (ssize_t) length;
    }
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    return ok || kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "%s", path);
}

static bool
store_component(KvssCoordinator *coordinator, KvssComponent *component, const char *folder,
                GError **error)
{
    for (guint i = 0; i < component->disks->len; i++) {
        KvssDisk *disk = g_ptr_array_index(component->disks, i);
        g_autofree char *path = g_strdup_printf("%s/%s.raw", folder, disk->target);
        g_autoptr(KvssSource)
            source = kvss_coordinator_open(coordinator, component, disk, error);

        if (!source || !store(source, path, error))
            return false;
    }
    kvss_coordinator_set_succeeded(coordinator, component, true);
    return true;
}

static bool
run_set(KvssCoordinator *coordinator, const char *folder, GError **error)
{
    const KvssSnapshotSet *set = kvss_coordinator_set(coordinator);

    return kvss_coordinator_prepare_for_backup(coordinator, error) &&
           kvss_coordinator_do_snapshot_set(coordinator, error) &&
           store_component(coordinator, g_ptr_array_index(set->components, 0), folder, error) &&
           kvss_coordinator_backup_complete(coordinator, error);
}

static bool
backup(KvssHost *host, char **argv, GError **error)
{
    g_autoptr(KvssCoordinator) coordinator = kvss_coordinator_new();
    KvssSnapshotSet *set = kvss_coordinator_set(coordinator);
    KvssComponent *component;
    bool ok;

    kvss_coordinator_take_writer(coordinator, kvss_vm_writer_new(host, NULL));
    kvss_coordinator_take_provider(coordinator, kvss_qemu_provider_new());
    if (!kvss_coordinator_gather(coordinator, error))
        return false;
    component = kvss_backup_find_component(coordinator, argv[3]);
    if (!component)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND, "no VM %s", argv[3]);
    if (!kvss_coordinator_select(coordinator, component->name, error))
        return false;
    if (g_getenv("OWN_STORE_WITHOUT_RUN"))
        return run_set(coordinator, argv[2], error);
    set->run = kvss_run_begin(argv[1], NULL, host, set->id, "backup", error);
    if (!set->run)
        return false;
    ok = run_set(coordinator, argv[2], error);
    if (!ok)
        kvss_coordinator_abort(coordinator);
    if (!kvss_run_finish(set->run, ok ? error : NULL))
        return false;
    printf("%s: %s\n", component->display_name, component->method);
    return ok;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssHost) host = NULL;

    if (argc != 4)
        return 2;
    host = kvss_host_open("qemu:///system", &error);
    if (host && backup(host, argv, &error))
        return 0;
    fprintf(stderr, "own-store: %s\n", error->message);
    return 1;
}
