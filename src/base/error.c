/*
 * error.c - how failures are told
 */
#include "base/error.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

G_DEFINE_QUARK(kvss-io-error-quark, kvss_io_error)

bool
kvss_throw(GError **error, GQuark domain, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(domain, code, format, args);
    va_end(args);
    return false;
}

static KvssIoError
code_from_errno(int errsv)
{
    switch (errsv) {
    case ENOENT:
        return KVSS_IO_ERROR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KVSS_IO_ERROR_NO_SPACE;
    case EBUSY:
    case EEXIST:
    case EWOULDBLOCK:
        return KVSS_IO_ERROR_BUSY;
    case ETIMEDOUT:
        return KVSS_IO_ERROR_TIMED_OUT;
    default:
        return KVSS_IO_ERROR_FAILED;
    }
}

bool
kvss_throw_errno(GError **error, int errsv, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    return kvss_throw(error, KVSS_IO_ERROR, code_from_errno(errsv), "%s: %s", what,
                      g_strerror(errsv));
}

bool
kvss_check_cancelled(GCancellable *cancellable, GError **error)
{
    if (!g_cancellable_is_cancelled(cancellable))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, "interrupted");
}
