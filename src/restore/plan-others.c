/*
 * plan-others.c - what the host's other VMs use, and a restore must leave alone
 */
#include "restore/plan-others.h"
#include "host/image.h"
#include "writer/domain/restore-steps.h"

#include <string.h>
#include <sys/stat.h>

static void
others_init(PlanOthers *others)
{
    others->paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    others->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    others->macs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    others->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

void
plan_others_clear(PlanOthers *others)
{
    g_clear_pointer(&others->paths, g_hash_table_unref);
    g_clear_pointer(&others->files, g_hash_table_unref);
    g_clear_pointer(&others->macs, g_hash_table_unref);
    g_clear_pointer(&others->names, g_hash_table_unref);
}

/* One file may have several names. NULL: nothing is there. */
static char *
file_id(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return NULL;
    return g_strdup_printf("%llu:%llu", (unsigned long long) st.st_dev,
                           (unsigned long long) st.st_ino);
}

void
plan_others_add(PlanOthers *others, const char *path, const char *vm)
{
    char *id;

    if (!path || !g_path_is_absolute(path))
        return;
    id = file_id(path);
    g_hash_table_insert(others->paths, kvss_vm_real_path(path), g_strdup(vm));
    if (id)
        g_hash_table_insert(others->files, id, g_strdup(vm));
}

const char *
plan_others_user_of(const PlanOthers *others, const char *real)
{
    const char *user = g_hash_table_lookup(others->paths, real);
    g_autofree char *id = user ? NULL : file_id(real);

    return id ? g_hash_table_lookup(others->files, id) : user;
}

/* An image that others are built on is theirs as well. */
static void
others_add_chain(PlanOthers *others, const KvssDiskConfig *disk, const char *vm)
{
    g_autoptr(KvssImageInfo) info = NULL;

    if (!disk->source || !g_str_equal(disk->type, "file") || g_str_equal(disk->format, "raw"))
        return;
    info = kvss_image_info(disk->source, disk->format, true, NULL);
    for (guint i = 0; info && i < info->backing->len; i++)
        plan_others_add(others, ((KvssImageLink *) g_ptr_array_index(info->backing, i))->path, vm);
}

static void
others_add_config(PlanOthers *others, const KvssDomainConfig *config, bool with_chains)
{
    for (guint i = 0; i < config->disks->len; i++) {
        const KvssDiskConfig *disk = g_ptr_array_index(config->disks, i);

        plan_others_add(others, disk->source, config->name);
        if (with_chains)
            others_add_chain(others, disk, config->name);
    }
    for (guint i = 0; i < config->interfaces->len; i++) {
        const KvssInterfaceConfig *interface = g_ptr_array_index(config->interfaces, i);

        if (interface->mac)
            g_hash_table_insert(others->macs, g_ascii_strdown(interface->mac, -1),
                                g_strdup(config->name));
    }
    plan_others_add(others, config->nvram, config->name);
}

/* A VM beside which a disk is written is in the way like any other. */
static bool
is_chosen(const Plan *plan, const char *uuid)
{
    for (guint i = 0; i < plan->vms->len; i++) {
        const PlanVm *vm = g_ptr_array_index(plan->vms, i);

        if (!vm->is_beside && g_ascii_strcasecmp(vm->component->name, uuid) == 0)
            return true;
    }
    return false;
}

bool
plan_others_learn(PlanOthers *others, const Plan *plan, bool with_chains, GError **error)
{
    g_autoptr(GPtrArray) domains = kvss_host_list_domains(plan->options->host, error);

    if (!domains)
        return false;
    others_init(others);
    for (guint i = 0; i < domains->len; i++) {
        KvssDomain *domain = g_ptr_array_index(domains, i);
        g_autoptr(KvssDomainConfig) live = NULL;
        g_autoptr(KvssDomainConfig) inactive = NULL;
        g_autofree char *xml = NULL;
        g_autofree char *nvram = NULL;

        if (is_chosen(plan, kvss_domain_uuid(domain)))
            continue;
        g_hash_table_insert(others->names, g_strdup(kvss_domain_name(domain)),
                            g_strdup(kvss_domain_uuid(domain)));
        /* One that vanishes meanwhile is in nobody's way. */
        live = kvss_domain_config(domain, NULL);
        nvram = live ? kvss_host_nvram_path(plan->options->host, live, live->name) : NULL;
        plan_others_add(others, nvram, kvss_domain_name(domain));
        xml = kvss_domain_xml(domain, true, NULL);
        inactive = xml ? kvss_domain_config_parse(xml, NULL) : NULL;
        if (live)
            others_add_config(others, live, with_chains);
        if (inactive)
            others_add_config(others, inactive, with_chains);
    }
    return true;
}
