/*
 * requester.c - backs up one VM, the way the kvss command does
 *
 *     requester REPOSITORY VM            the repository's password in KVSS_PASSWORD
 *
 * Prints which method the VM got and why, and the backup's id. The exit code is 0
 * when the VM is in the repository, 1 when it is not, 2 for wrong usage.
 */
#include <kvss/kvss.h>

#include <stdio.h>

static const char *
setting(const char *variable, const char *otherwise)
{
    const char *value = g_getenv(variable);

    return value && *value ? value : otherwise;
}

/* What runs that died left behind is undone first: a guest of theirs may stand still. */
static bool
recover(const char *state_dir, GError **error)
{
    KvssRecoveryReport report = { 0 };

    if (!kvss_recovery_run(state_dir, false, KVSS_RECOVERY_WAIT_S, &report, error))
        return false;
    for (guint i = 0; i < report.left->len; i++)
        fprintf(stderr, "needs a person: %s\n", (char *) g_ptr_array_index(report.left, i));
    kvss_recovery_report_clear(&report);
    return true;
}

static void
print_vm(const KvssComponent *vm)
{
    printf("%s: %s\n", vm->display_name, vm->method);
    for (guint i = 0; i < vm->reasons->len; i++)
        printf("because %s\n", ((KvssReason *) g_ptr_array_index(vm->reasons, i))->detail);
}

static bool
backup(const char *location, const char *vm, GError **error)
{
    const char *vms[] = { vm, NULL };
    KvssBackupRequest request = {
        .state_dir = setting("KVSS_STATE_DIR", "/var/lib/kvss"),
        .vms = vms,
    };
    KvssBackupResult result;
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(KvssCoordinator) coordinator = kvss_coordinator_new();
    KvssWriter *writer;

    if (!recover(request.state_dir, error))
        return false;
    request.repository = repository =
        kvss_repository_open(location, setting("KVSS_PASSWORD", ""), KVSS_REPOSITORY_ADD,
                             setting("KVSS_CACHE_DIR", NULL), request.state_dir, error);
    if (!repository)
        return false;
    request.host = host = kvss_host_open(setting("LIBVIRT_DEFAULT_URI", "qemu:///system"), error);
    if (!host)
        return false;

    /* A writer declares the VMs, here only one; a provider cuts disks. The coordinator takes both. */
    writer = kvss_vm_writer_new(host, NULL);
    kvss_vm_writer_limit_to(writer, vms);
    request.coordinator = coordinator;
    kvss_coordinator_take_writer(coordinator, writer);
    kvss_coordinator_take_provider(coordinator, kvss_qemu_provider_new());
    if (!kvss_backup_run(&request, &result, error))
        return false;
    print_vm(((KvssManifestVm *) g_ptr_array_index(result.manifest->vms, 0))->component);
    printf("backup %s\n", result.id);
    if (result.warning)
        fprintf(stderr, "the backup stands, but: %s\n", result.warning);
    kvss_backup_result_clear(&result);
    return true;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    if (argc != 3) {
        fprintf(stderr, "usage: requester REPOSITORY VM\n");
        return 2;
    }
    kvss_host_keep_quiet();
    if (backup(argv[1], argv[2], &error))
        return 0;
    fprintf(stderr, "requester: %s\n", error->message);
    return 1;
}
