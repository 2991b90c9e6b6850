/*
 * capture.c - the small files of a VM: definition, NVRAM, TPM state
 */
#include "base/fd.h"
#include "writer/domain/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* A variable store has 528 KiB, a TPM some 10 KiB; more is something else. */
#define SMALL_FILE_MAX (64u * 1024 * 1024)

bool
kvss_vm_capture_definition(KvssVm *vm, GError **error)
{
    bool persistent = kvss_domain_is_persistent(vm->domain);
    char *xml = kvss_domain_xml(vm->domain, persistent, error);
    g_autoptr(GBytes) bytes = NULL;

    if (!xml)
        return false;
    bytes = g_bytes_new_take(xml, strlen(xml));
    kvss_component_add_bytes(vm->component, "domain.xml", bytes, 0600);
    if (!persistent)
        kvss_component_add_note(vm->component,
                                "a transient VM: a restore registers it for good");
    return true;
}

static bool
read_small(const char *path, GBytes **out_bytes, unsigned *out_mode, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autofree uint8_t *data = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return kvss_throw_errno(error, errno, "read %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > SMALL_FILE_MAX)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "%s is no small file: it cannot be carried in the set", path);
    data = g_malloc((gsize) st.st_size + 1);
    if (!kvss_pread_exact(fd, data, (size_t) st.st_size, 0, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    *out_bytes = g_bytes_new_take(g_steal_pointer(&data), (gsize) st.st_size);
    *out_mode = st.st_mode & 07777;
    return true;
}

/* Absent is no failure: a variable store is made at the first start. */
static bool
capture_file(KvssVm *vm, const char *path, const char *name, GError **error)
{
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) local = NULL;
    KvssFile *file;
    unsigned mode = 0;

    if (!read_small(path, &bytes, &mode, &local)) {
        if (g_error_matches(local, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    file = kvss_component_add_bytes(vm->component, name, bytes, mode);
    kvss_set_string(&file->original, path);
    return true;
}

/* "tpm2/tpm2-00.permall", "tpm1.2/...": as swtpm laid them out, without its lock. */
static bool
capture_tpm_folder(KvssVm *vm, const char *folder, const char *version, GError **error)
{
    g_autofree char *path = g_build_filename(folder, version, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_autofree char *stored = g_strdup_printf("tpm/%s/%s", version, name);

        if (g_str_equal(name, ".lock"))
            continue;
        if (!capture_file(vm, file, stored, error))
            return false;
    }
    return true;
}

static bool
capture_tpm(KvssVm *vm, GError **error)
{
    g_autofree char *folder = g_build_filename(
        kvss_host_tpm_folder(kvss_domain_host(vm->domain)), kvss_domain_uuid(vm->domain), NULL);

    return capture_tpm_folder(vm, folder, "tpm2", error)
        && capture_tpm_folder(vm, folder, "tpm1.2", error);
}

bool
kvss_vm_capture_firmware(KvssVm *vm, GError **error)
{
    g_autofree char *nvram = kvss_host_nvram_path(kvss_domain_host(vm->domain), vm->config,
                                                  kvss_domain_name(vm->domain));

    if (nvram && !capture_file(vm, nvram, "nvram.fd", error))
        return false;
    return !vm->config->has_tpm || capture_tpm(vm, error);
}
