/*
 * error.c - libvirt's errors, turned into ours, once
 */
#include "host/error.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

G_DEFINE_QUARK(kvss-host-error-quark, kvss_host_error)

static KvssHostError
code_from_libvirt(const virError *e)
{
    switch ((virErrorNumber) e->code) {
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_RPC:
    case VIR_ERR_INVALID_CONN:
        return KVSS_HOST_ERROR_NO_CONNECTION;
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NO_STORAGE_POOL:
    case VIR_ERR_NO_STORAGE_VOL:
    case VIR_ERR_NO_DOMAIN_BACKUP:
        return KVSS_HOST_ERROR_NOT_FOUND;
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
        return KVSS_HOST_ERROR_AGENT;
    case VIR_ERR_OPERATION_INVALID:
        return KVSS_HOST_ERROR_STATE;
    case VIR_ERR_OPERATION_TIMEOUT:
        return KVSS_HOST_ERROR_BUSY;
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
        return KVSS_HOST_ERROR_UNSUPPORTED;
    case VIR_ERR_NO_DOMAIN_CHECKPOINT:
    case VIR_ERR_CHECKPOINT_INCONSISTENT:
        return KVSS_HOST_ERROR_UNTRACKED;
    case VIR_ERR_DOM_EXIST:
        return KVSS_HOST_ERROR_EXISTS;
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
    case VIR_ERR_XML_INVALID_SCHEMA:
        return KVSS_HOST_ERROR_INVALID;
    default:
        return KVSS_HOST_ERROR_FAILED;
    }
}

bool
kvss_throw_libvirt(GError **error, const char *format, ...)
{
    const virError *e = virGetLastError();
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!e)
        return kvss_throw(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_FAILED,
                          "%s: libvirt gives no reason", what);
    return kvss_throw(error, KVSS_HOST_ERROR, code_from_libvirt(e), "%s: %s", what,
                      e->message ? e->message : "libvirt gives no reason");
}
