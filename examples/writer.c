/*
 * writer.c - a writer: the log of some application takes part in a set, beside a VM
 *
 *     writer REPOSITORY LOG [VM]         the repository's password in KVSS_PASSWORD
 *
 * Whoever adds to LOG holds its flock() meanwhile: flock LOG -c 'echo ... >> LOG'. The
 * writer holds it from Freeze to Thaw, so the log in the set ends with a whole entry.
 * It refuses Freeze, and the set fails, when the lock is not free within a second.
 */
#include <kvss/kvss.h>

#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static const char *path;
static int log_fd = -1;

static bool
identify(KvssWriter *writer, GCancellable *cancellable, GError **error)
{
    g_ptr_array_add(writer->components, kvss_component_new("log", "log"));
    return true;
}

static bool
freeze(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GBytes) bytes = NULL;

    log_fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int tries = 0; flock(log_fd, LOCK_EX | LOCK_NB) < 0; tries++, g_usleep(10000))
        if (tries == 100)
            return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_TIMEOUT,
                              "%s is in use", path);
    bytes = g_file_load_bytes(file, set->cancellable, NULL, error);
    return bytes && kvss_component_add_bytes(writer->components->pdata[0], "log", bytes, 0600);
}

/* After a failure: in any state, several times, perhaps while a call is stuck. */
static void
give_up(KvssWriter *writer, KvssSnapshotSet *set)
{
    (void) close(g_atomic_int_exchange(&log_fd, -1)); /* -1 when nothing is held */
}

static bool
thaw(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    give_up(writer, set);
    return true;
}

static const KvssWriterOps ops = {
    .class_id = "5b7e4f8e-6f0b-4c55-9f5c-1f6d6c0a7a11", .friendly_name = "Example log writer",
    .identify = identify, .freeze = freeze, .thaw = thaw, .abort = give_up,
    .free = kvss_writer_clear, /* the struct itself is static */
};

int
main(int argc, char **argv)
{
    static KvssWriter writer;
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssHost) host = argc > 3 ? kvss_host_open("qemu:///system", &error) : NULL;
    g_autoptr(KvssCoordinator) coordinator = kvss_coordinator_new();
    const GArray *history = kvss_coordinator_history(coordinator);
    KvssBackupRequest request = {
        .coordinator = coordinator, .host = host,
        .state_dir = g_getenv("KVSS_STATE_DIR") ?: "/var/lib/kvss",
        .vms = (const char *[]){ "log", host ? argv[3] : NULL, NULL },
    };
    KvssBackupResult result = { 0 };
    bool ok;

    if (argc > 2 && !error)
        request.repository = kvss_repository_open(argv[1], g_getenv("KVSS_PASSWORD") ?: "",
                                                  KVSS_REPOSITORY_ADD, NULL, request.state_dir,
                                                  &error);
    path = argv[argc > 2 ? 2 : 0];
    kvss_writer_init(&writer, &ops, "example");
    kvss_coordinator_take_writer(coordinator, &writer);
    if (host) {
        kvss_coordinator_take_writer(coordinator, kvss_vm_writer_new(host, NULL));
        kvss_coordinator_take_provider(coordinator, kvss_qemu_provider_new());
    }
    ok = request.repository && kvss_backup_run(&request, &result, &error);
    for (guint i = 0; i < history->len; i++) {
        const KvssEventRecord *record = &g_array_index(history, KvssEventRecord, i);

        printf("%s: %s: %s\n", record->event, record->who, kvss_hresult_name(record->result));
    }
    printf("%s\n", ok ? result.id : error ? error->message : "give REPOSITORY LOG [VM]");
    kvss_backup_result_clear(&result);
    kvss_repository_free(request.repository);
    return ok ? 0 : 1;
}
