/*
 * acts-restore.c - the acts of a restore, taken back or completed
 */
#include "guardian/acts-restore.h"
#include "host/domain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *
detail(JsonObject *details, const char *name)
{
    return json_object_get_string_member_with_default(details, name, "");
}

/* What stands at "from" by now is the unfinished restore's: the rename replaces it. */
bool
kvss_act_undo_aside(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    const char *from = detail(details, "from"), *to = detail(details, "to");

    if (rename(to, from) == 0 || errno == ENOENT)
        return true;
    return kvss_throw_errno(error, errno, "put %s back to %s", to, from);
}

bool
kvss_act_forward_aside(JsonObject *details, KvssHost *host, GError **error)
{
    const char *to = detail(details, "to");

    if (json_object_get_boolean_member_with_default(details, "keep", FALSE))
        return true;
    if (unlink(to) == 0 || errno == ENOENT)
        return true;
    return kvss_throw_errno(error, errno, "remove %s", to);
}

bool
kvss_act_undo_undefine(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) present = kvss_host_find_domain(host, detail(details, "uuid"), NULL);
    virDomainPtr domain;

    if (present)
        return true;
    domain = virDomainDefineXML(kvss_host_connection(host), detail(details, "xml"));
    if (!domain)
        return kvss_throw_libvirt(error, "cannot register %s again", detail(details, "name"));
    if (json_object_get_boolean_member_with_default(details, "autostart", FALSE)
        && virDomainSetAutostart(domain, 1) < 0)
        g_warning("%s: cannot set autostart again", detail(details, "name"));
    (void) virDomainFree(domain);
    return true;
}

bool
kvss_act_undo_stop(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(host, detail(details, "uuid"), error);
    bool paused = g_str_equal(detail(details, "prior"), "paused");
    KvssDomainState state;

    if (!domain || !kvss_domain_get_state(domain, &state, NULL, error))
        return false;
    if (state != KVSS_DOMAIN_OFF && state != KVSS_DOMAIN_SAVED)
        return true;
    return kvss_domain_start(domain, paused, error);
}

bool
kvss_act_undo_define(JsonObject *details, KvssHost *host, unsigned patience_s, GError **error)
{
    g_autoptr(KvssDomain) domain = kvss_host_find_domain(host, detail(details, "uuid"), NULL);
    unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        | VIR_DOMAIN_UNDEFINE_KEEP_TPM;

    if (!domain)
        return true;
    (void) virDomainDestroy(kvss_domain_handle(domain));
    if (virDomainUndefineFlags(kvss_domain_handle(domain), flags) == 0)
        return true;
    return kvss_throw_libvirt(error, "cannot take %s away again", detail(details, "name"));
}
