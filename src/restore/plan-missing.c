/*
 * plan-missing.c - files of the host that a definition names and that are not here
 *
 * A kernel, an initrd and the firmware belong to the host and not to the VM: they are
 * in no backup, and the definition goes on naming them. Without them the VM comes back
 * and does not start: better said now.
 */
#include "restore/plan-vm.h"

static void
note_missing(const PlanVm *vm, const char *what, const char *path)
{
    if (!path || !*path || g_file_test(path, G_FILE_TEST_EXISTS))
        return;
    g_ptr_array_add(vm->result->notes,
                    g_strdup_printf("its %s %s is not on this host: it will not start without",
                                    what, path));
}

void
plan_note_missing(const PlanVm *vm)
{
    const KvssDomainConfig *config = vm->config;
    bool has_nvram = kvss_component_find_file(vm->component, "nvram.fd") != NULL;

    note_missing(vm, "kernel", config->kernel);
    note_missing(vm, "initrd", config->initrd);
    note_missing(vm, "firmware", config->loader);
    /* A store that is restored needs no template. */
    if (!has_nvram)
        note_missing(vm, "template of firmware variables", config->nvram_template);
}
