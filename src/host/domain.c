/*
 * domain.c - one domain: what it is and what state it is in
 */
#include "host/domain.h"
#include "host/save-image.h"

#include <libvirt/virterror.h>

struct KvssDomain {
    KvssHost *host; /* borrowed */
    virDomainPtr handle;
    char *name;
    char uuid[VIR_UUID_STRING_BUFLEN];
};

KvssDomain *
kvss_domain_new(KvssHost *host, virDomainPtr dom)
{
    KvssDomain *domain = g_new0(KvssDomain, 1);

    domain->host = host;
    domain->handle = dom;
    domain->name = g_strdup(virDomainGetName(dom));
    (void) virDomainGetUUIDString(dom, domain->uuid);
    return domain;
}

void
kvss_domain_free(KvssDomain *domain)
{
    if (!domain)
        return;
    (void) virDomainFree(domain->handle);
    g_free(domain->name);
    g_free(domain);
}

bool
kvss_domain_connect_alone(KvssDomain *domain, GError **error)
{
    virConnectPtr connection = kvss_host_new_connection(domain->host, error);
    virDomainPtr handle;

    if (!connection)
        return false;
    handle = virDomainLookupByUUIDString(connection, domain->uuid);
    /* The handle holds the connection from here on. */
    (void) virConnectClose(connection);
    if (!handle)
        return kvss_throw_libvirt(error, "%s is gone", domain->name);
    (void) virDomainFree(domain->handle);
    domain->handle = handle;
    return true;
}

const char *
kvss_domain_name(const KvssDomain *domain)
{
    return domain->name;
}

const char *
kvss_domain_uuid(const KvssDomain *domain)
{
    return domain->uuid;
}

KvssHost *
kvss_domain_host(const KvssDomain *domain)
{
    return domain->host;
}

virDomainPtr
kvss_domain_handle(const KvssDomain *domain)
{
    return domain->handle;
}

const char *
kvss_domain_state_name(KvssDomainState state)
{
    static const char *const names[] = {
        [KVSS_DOMAIN_OFF] = "shut off",
        [KVSS_DOMAIN_SAVED] = "saved",
        [KVSS_DOMAIN_RUNNING] = "running",
        [KVSS_DOMAIN_PAUSED] = "paused",
        [KVSS_DOMAIN_OTHER] = "in transition",
    };

    return names[state];
}

/*
 * libvirt starts from an image that lies in its folder, whether it has been told
 * of it or not: what counts is what the next start does.
 */
bool
kvss_domain_has_managed_save(KvssDomain *domain)
{
    g_autofree char *image = NULL;

    if (virDomainHasManagedSaveImage(domain->handle, 0) == 1)
        return true;
    image = kvss_host_is_local(domain->host) ? kvss_domain_managed_save_path(domain) : NULL;
    return image && g_file_test(image, G_FILE_TEST_EXISTS);
}

bool
kvss_domain_has_partial_save(KvssDomain *domain)
{
    g_autofree char *image = kvss_domain_managed_save_path(domain);

    return kvss_host_is_local(domain->host) && kvss_save_image_is_partial(image);
}

bool
kvss_domain_get_state(KvssDomain *domain, KvssDomainState *out_state, int *out_reason,
                      GError **error)
{
    int state, reason;

    if (virDomainGetState(domain->handle, &state, &reason, 0) < 0)
        return kvss_throw_libvirt(error, "cannot read the state of %s", domain->name);
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        *out_state = KVSS_DOMAIN_RUNNING;
        break;
    case VIR_DOMAIN_PAUSED:
        *out_state = KVSS_DOMAIN_PAUSED;
        break;
    case VIR_DOMAIN_SHUTOFF:
        *out_state = kvss_domain_has_managed_save(domain) ? KVSS_DOMAIN_SAVED : KVSS_DOMAIN_OFF;
        break;
    case VIR_DOMAIN_CRASHED:
        /* A crashed domain with no process is off; with one it stands there with its RAM. */
        *out_state = virDomainIsActive(domain->handle) == 1 ? KVSS_DOMAIN_OTHER : KVSS_DOMAIN_OFF;
        break;
    default:
        *out_state = KVSS_DOMAIN_OTHER;
    }
    if (out_reason)
        *out_reason = reason;
    return true;
}

bool
kvss_domain_is_persistent(KvssDomain *domain)
{
    return virDomainIsPersistent(domain->handle) == 1;
}

char *
kvss_domain_xml(KvssDomain *domain, bool inactive, GError **error)
{
    unsigned flags = VIR_DOMAIN_XML_SECURE | (inactive ? VIR_DOMAIN_XML_INACTIVE : 0);
    char *xml = virDomainGetXMLDesc(domain->handle, flags);
    char *copy;

    if (!xml && virGetLastErrorCode() == VIR_ERR_OPERATION_DENIED)
        xml = virDomainGetXMLDesc(domain->handle, flags & ~VIR_DOMAIN_XML_SECURE);
    if (!xml) {
        kvss_throw_libvirt(error, "cannot read the definition of %s", domain->name);
        return NULL;
    }
    copy = g_strdup(xml);
    free(xml);
    return copy;
}

KvssDomainConfig *
kvss_domain_config(KvssDomain *domain, GError **error)
{
    g_autofree char *xml = kvss_domain_xml(domain, false, error);
    KvssDomainConfig *config;

    if (!xml)
        return NULL;
    config = kvss_domain_config_parse(xml, error);
    if (!config)
        g_prefix_error(error, "%s: ", domain->name);
    return config;
}

/* A backup job whose end is under way still counts, but libvirt has no data of it any more. */
#define ENDING_LIMIT_US (10 * G_USEC_PER_SEC)
#define ENDING_POLL_US (100 * 1000)

static bool
look_at_job(KvssDomain *domain, virDomainJobInfo *out_info)
{
    gint64 deadline_us = g_get_monotonic_time() + ENDING_LIMIT_US;

    while (virDomainGetJobInfo(domain->handle, out_info) < 0) {
        if (virGetLastErrorCode() != VIR_ERR_INTERNAL_ERROR
            || g_get_monotonic_time() > deadline_us)
            return false;
        g_usleep(ENDING_POLL_US);
    }
    return true;
}

bool
kvss_domain_check_idle(KvssDomain *domain, GError **error)
{
    virDomainJobInfo info;

    if (!look_at_job(domain, &info)) {
        /* Drivers without jobs (the test driver) have none running. */
        if (virGetLastErrorCode() == VIR_ERR_NO_SUPPORT)
            return true;
        return kvss_throw_libvirt(error, "cannot ask %s for running jobs", domain->name);
    }
    if (info.type == VIR_DOMAIN_JOB_NONE)
        return true;
    return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_BUSY,
                      "%s has a job running already (a backup, save or migration): wait for it, or "
                      "end it with 'virsh domjobabort %s'", domain->name, domain->name);
}

bool
kvss_domain_disk_size(KvssDomain *domain, const char *target, uint64_t *out_size, GError **error)
{
    virDomainBlockInfo info;

    if (virDomainGetBlockInfo(domain->handle, target, &info, 0) < 0)
        return kvss_throw_libvirt(error, "cannot read the size of disk %s of %s", target,
                                  domain->name);
    *out_size = info.capacity;
    return true;
}

bool
kvss_domain_memory_size(KvssDomain *domain, uint64_t *out_size, GError **error)
{
    virDomainInfo info;

    if (virDomainGetInfo(domain->handle, &info) < 0)
        return kvss_throw_libvirt(error, "cannot read the memory size of %s", domain->name);
    *out_size = (uint64_t) info.maxMem * 1024;
    return true;
}

bool
kvss_domain_suspend(KvssDomain *domain, GError **error)
{
    if (virDomainSuspend(domain->handle) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot pause %s", domain->name);
}

bool
kvss_domain_resume(KvssDomain *domain, GError **error)
{
    if (virDomainResume(domain->handle) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot resume %s", domain->name);
}

bool
kvss_domain_start(KvssDomain *domain, bool paused, GError **error)
{
    if (virDomainCreateWithFlags(domain->handle, paused ? VIR_DOMAIN_START_PAUSED : 0) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot start %s", domain->name);
}
