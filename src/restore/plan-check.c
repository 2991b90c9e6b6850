/*
 * plan-check.c - what is in the way of a restore: other VMs, and want of room
 */
#include "host/image.h"
#include "restore/plan.h"
#include "stream/source.h"
#include "writer/domain/restore-steps.h"

#include <string.h>
#include <sys/stat.h>

/** What the host's other VMs use. */
typedef struct {
    GHashTable *paths;  /* real path -> name of the VM */
    GHashTable *macs;   /* lower case -> name of the VM */
    GHashTable *names;  /* name -> UUID */
} Others;

static void
others_init(Others *others)
{
    others->paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    others->macs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    others->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

static void
others_clear(Others *others)
{
    g_hash_table_unref(others->paths);
    g_hash_table_unref(others->macs);
    g_hash_table_unref(others->names);
}

static void
others_add_path(Others *others, const char *path, const char *vm)
{
    if (path && g_path_is_absolute(path))
        g_hash_table_insert(others->paths, kvss_vm_real_path(path), g_strdup(vm));
}

/* An image that others are built on is theirs as well. */
static void
others_add_chain(Others *others, const KvssDiskConfig *disk, const char *vm)
{
    g_autoptr(KvssImageInfo) info = NULL;

    if (!disk->source || !g_str_equal(disk->type, "file") || g_str_equal(disk->format, "raw"))
        return;
    info = kvss_image_info(disk->source, disk->format, true, NULL);
    for (guint i = 0; info && i < info->backing->len; i++)
        others_add_path(others, ((KvssImageLink *) g_ptr_array_index(info->backing, i))->path, vm);
}

static void
others_add_config(Others *others, const KvssDomainConfig *config, bool with_chains)
{
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        others_add_path(others, disk->source, config->name);
        if (with_chains)
            others_add_chain(others, disk, config->name);
    }
    for (guint i = 0; i < config->interfaces->len; i++) {
        const KvssInterfaceConfig *interface = g_ptr_array_index(config->interfaces, i);

        if (interface->mac)
            g_hash_table_insert(others->macs, g_ascii_strdown(interface->mac, -1),
                                g_strdup(config->name));
    }
    others_add_path(others, config->nvram, config->name);
}

static bool
is_chosen(const Plan *plan, const char *uuid)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        if (g_ascii_strcasecmp(vm->component->name, uuid) == 0)
            return true;
    }
    return false;
}

/* Looking into every image of the host costs time: only where files are in the way at all. */
static bool
something_is_there(const Plan *plan)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        for (guint k = 0; k < vm->disks->len; k++) {
            if (g_file_test(((PlanDisk *) g_ptr_array_index(vm->disks, k))->real,
                            G_FILE_TEST_EXISTS))
                return true;
        }
    }
    return false;
}

static bool
others_learn(Others *others, const Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) domains = kvss_host_list_domains(plan->options->host, error);
    bool with_chains = something_is_there(plan);

    if (!domains)
        return false;
    for (guint i = 0; i < domains->len; i++) {
        KvssDomain *domain = g_ptr_array_index(domains, i);
        g_autoptr(KvssDomainConfig) live = NULL;
        g_autoptr(KvssDomainConfig) inactive = NULL;
        g_autofree char *xml = NULL;

        if (is_chosen(plan, kvss_domain_uuid(domain)))
            continue;
        g_hash_table_insert(others->names, g_strdup(kvss_domain_name(domain)),
                            g_strdup(kvss_domain_uuid(domain)));
        /* One that vanishes meanwhile is in nobody's way. */
        live = kvss_domain_config(domain, NULL);
        xml = kvss_domain_xml(domain, true, NULL);
        inactive = xml ? kvss_domain_config_parse(xml, NULL) : NULL;
        if (live)
            others_add_config(others, live, with_chains);
        if (inactive)
            others_add_config(others, inactive, with_chains);
    }
    return true;
}

/* ---- one VM against the others ---- */

static bool
check_path_free(Others *others, const char *real, const PlanVm *vm, GError **error)
{
    const char *user = g_hash_table_lookup(others->paths, real);
    struct stat st;

    if (user)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: %s is in use by VM %s", vm->component->display_name, real, user);
    if (stat(real, &st) == 0 && S_ISDIR(st.st_mode))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: %s is a folder", vm->component->display_name, real);
    /* From here on it is this VM's: two of one backup must not share a place either. */
    g_hash_table_insert(others->paths, g_strdup(real), g_strdup(vm->component->display_name));
    return true;
}

static bool
check_identity(Others *others, const PlanVm *vm, GError **error)
{
    const char *name = vm->component->display_name;
    const char *uuid = g_hash_table_lookup(others->names, name);

    if (uuid)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s: another VM of this name is here, with UUID %s: rename or remove it",
                          name, uuid);
    for (guint i = 0; i < vm->config->interfaces->len; i++) {
        const KvssInterfaceConfig *interface = g_ptr_array_index(vm->config->interfaces, i);
        g_autofree char *mac = interface->mac ? g_ascii_strdown(interface->mac, -1) : NULL;
        const char *user = mac ? g_hash_table_lookup(others->macs, mac) : NULL;

        /* Where the VM is already here, two of one MAC are the host's old habit. */
        if (user && !vm->old)
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                              "%s: its MAC address %s is that of VM %s", name, mac, user);
    }
    return true;
}

static bool
check_old(const PlanVm *vm, GError **error)
{
    const char *name = vm->component->display_name;

    if (!vm->old)
        return true;
    if (vm->old_state == KVSS_DOMAIN_OTHER)
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s is in transition (starting, shutting down or crashed): wait, or "
                          "shut it off", name);
    if (!kvss_domain_is_persistent(vm->old))
        return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_CONFLICT,
                          "%s runs as a transient VM, which cannot be set aside: shut it off",
                          name);
    if (vm->old_state == KVSS_DOMAIN_OFF || vm->old_state == KVSS_DOMAIN_SAVED)
        return true;
    return kvss_domain_check_idle(vm->old, error);
}

static bool
check_vm(Others *others, const PlanVm *vm, GError **error)
{
    if (!check_old(vm, error) || !check_identity(others, vm, error))
        return false;
    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (!check_path_free(others, disk->real, vm, error))
            return false;
    }
    for (guint i = 0; i < vm->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(vm->files, i);
        g_autofree char *real = kvss_vm_real_path(file->file->path);

        if (!check_path_free(others, real, vm, error))
            return false;
    }
    return true;
}

bool
plan_check_conflicts(Plan *plan, GError **error)
{
    Others others;
    bool ok;

    others_init(&others);
    ok = others_learn(&others, plan, error);
    for (guint i = 0; ok && i < plan->vms->len; i++)
        ok = check_vm(&others, g_ptr_array_index(plan->vms, i), error);
    others_clear(&others);
    return ok;
}

/* ---- room ---- */

/** What goes to one file system. */
typedef struct {
    dev_t device;
    char *folder; /* one on it */
    uint64_t need;
} Need;

static void
need_free(gpointer data)
{
    Need *need = data;

    g_free(need->folder);
    g_free(need);
}

/* The nearest folder above @path that exists. */
static char *
existing_folder(const char *path)
{
    char *folder = g_path_get_dirname(path);

    while (!g_file_test(folder, G_FILE_TEST_IS_DIR) && !g_str_equal(folder, "/")) {
        char *above = g_path_get_dirname(folder);

        g_free(folder);
        folder = above;
    }
    return folder;
}

static bool
need_add(GPtrArray *needs, const char *path, uint64_t bytes, GError **error)
{
    g_autofree char *folder = existing_folder(path);
    struct stat st;
    Need *need;

    if (stat(folder, &st) < 0)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "cannot look at folder %s",
                          folder);
    for (guint i = 0; i < needs->len; i++) {
        need = g_ptr_array_index(needs, i);
        if (need->device == st.st_dev) {
            need->need += bytes;
            return true;
        }
    }
    need = g_new0(Need, 1);
    need->device = st.st_dev;
    need->folder = g_steal_pointer(&folder);
    need->need = bytes;
    g_ptr_array_add(needs, need);
    return true;
}

/* Images carry tables of their own: one part in a hundred, and a little. */
static uint64_t
image_bytes(const PlanDisk *disk)
{
    uint64_t bytes = disk->keeps_room ? disk->disk->size : disk->data_bytes;

    return bytes + bytes / 100 + 1024 * 1024;
}

static bool
file_bytes(const Plan *plan, const PlanVm *vm, const PlanFile *file, uint64_t *out_bytes,
           GError **error)
{
    g_autoptr(KvssSource) source = kvss_backup_open_file(
        plan->options->repository, plan->options->backup, vm->vm, file->stored, error);

    if (!source)
        return false;
    *out_bytes = source->size;
    return true;
}

static bool
needs_of_vm(GPtrArray *needs, const Plan *plan, const PlanVm *vm, GError **error)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(vm->disks, i);

        if (!disk->is_block && !need_add(needs, disk->real, image_bytes(disk), error))
            return false;
    }
    for (guint i = 0; i < vm->files->len; i++) {
        const PlanFile *file = g_ptr_array_index(vm->files, i);
        uint64_t bytes;

        if (!file_bytes(plan, vm, file, &bytes, error)
            || !need_add(needs, file->file->path, bytes, error))
            return false;
        /* libvirt saves it once more, as its own. */
        if (g_str_equal(file->stored->name, "state.save")
            && !need_add(needs, kvss_host_save_folder(plan->options->host), bytes, error))
            return false;
    }
    return true;
}

bool
plan_check_room(Plan *plan, GError **error)
{
    g_autoptr(GPtrArray) needs = g_ptr_array_new_with_free_func(need_free);

    for (guint i = 0; i < plan->vms->len; i++) {
        if (!needs_of_vm(needs, plan, g_ptr_array_index(plan->vms, i), error))
            return false;
    }
    for (guint i = 0; i < plan->hosts->len; i++) {
        const PlanHost *host = g_ptr_array_index(plan->hosts, i);
        const PlanFile *first = host->files->len > 0 ? g_ptr_array_index(host->files, 0) : NULL;

        /* All of them where the first one goes: a set of files is seldom on several file systems. */
        if (first && !need_add(needs, first->file->path, host->stored->bytes, error))
            return false;
    }
    for (guint i = 0; i < needs->len; i++) {
        const Need *need = g_ptr_array_index(needs, i);
        uint64_t room;

        if (!kvss_image_room(need->folder, &room, error))
            return false;
        if (room < need->need)
            return kvss_throw(error, KVSS_RESTORE_ERROR, KVSS_RESTORE_ERROR_NO_ROOM,
                              "no room in %s: the restore needs %" G_GUINT64_FORMAT
                              " MiB there, %" G_GUINT64_FORMAT
                              " MiB are free (old disks stay until the new ones are registered)",
                              need->folder, need->need >> 20, room >> 20);
    }
    return true;
}
