/*
 * context-tool.c - a requester that forbids auto-recovery, and a provider that needs it
 *
 *   context-tool URI VM CONTEXT     CONTEXT as a number: 0, or 2 (NO_AUTORECOVERY)
 *
 * Prepares a set of one VM, whose disks a provider cuts after the guest's own
 * instant, prints the method it would get, and takes everything back. A failure
 * prints its message, the writer's state, and the component's code. The state
 * folder is KVSS_STATE_DIR, else that of the kvss command.
 */
#include "coordinator/coordinator.h"
#include "guardian/run.h"
#include "provider/fake/fake-provider.h"
#include "writer/domain/vm-writer.h"

#include <stdio.h>
#include <stdlib.h>

static KvssCoordinator *
coordinator_for(KvssHost *host, const char *vm, Script *script, KvssWriter **out_writer)
{
    const char *const names[] = { vm, NULL };
    KvssCoordinator *coordinator = kvss_coordinator_new();
    KvssProvider *provider = fake_provider_new(script, "later", NULL);

    fake_provider_set_needs_auto_recovery(provider);
    *out_writer = kvss_vm_writer_new(host, NULL);
    kvss_vm_writer_limit_to(*out_writer, names);
    kvss_coordinator_take_writer(coordinator, *out_writer);
    kvss_coordinator_take_provider(coordinator, provider);
    return coordinator;
}

static bool
prepare(KvssCoordinator *coordinator, KvssWriter *writer, KvssHost *host, GError **error)
{
    KvssSnapshotSet *set = kvss_coordinator_set(coordinator);
    const char *state = g_getenv("KVSS_STATE_DIR");

    if (!kvss_coordinator_gather(coordinator, error))
        return false;
    if (writer->components->len != 1)
        return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_NOT_FOUND,
                          "there is no such VM");
    set->run = kvss_run_begin(state ? state : "/var/lib/kvss", NULL, host, set->id, "backup", error);
    return set->run
           && kvss_coordinator_select_component(coordinator,
                                                g_ptr_array_index(writer->components, 0), error)
           && kvss_coordinator_prepare_for_backup(coordinator, error);
}

static void
tell(KvssWriter *writer, bool ok, const GError *error)
{
    const KvssComponent *vm = writer->components->len ? g_ptr_array_index(writer->components, 0)
                                                      : NULL;

    if (ok)
        printf("%s\n", vm->method);
    else
        printf("%s\n%s\n0x%08X\n", error->message,
               kvss_writer_state_name(kvss_writer_status(writer, NULL)), vm ? vm->failure : 0);
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssHost) host = NULL;
    g_autoptr(Script) script = script_new();
    KvssCoordinator *coordinator;
    KvssWriter *writer;
    KvssRun *run;
    bool ok;

    if (argc != 4 || !(host = kvss_host_open(argv[1], &error))) {
        fprintf(stderr, "%s\n", error ? error->message : "usage: context-tool URI VM CONTEXT");
        return 2;
    }
    coordinator = coordinator_for(host, argv[2], script, &writer);
    kvss_coordinator_set(coordinator)->context = (uint32_t) strtoul(argv[3], NULL, 0);
    ok = prepare(coordinator, writer, host, &error);
    tell(writer, ok, error);
    run = kvss_coordinator_set(coordinator)->run;
    kvss_coordinator_free(coordinator);
    if (run && !kvss_run_finish(run, NULL))
        ok = false;
    kvss_run_free(run);
    return ok ? 0 : 1;
}
