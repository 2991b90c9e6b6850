/*
 * error.h (host) - other people's errors, turned into ours
 */
#pragma once

#include "../base/error.h"

G_BEGIN_DECLS

typedef enum {
    KVSS_HOST_ERROR_FAILED,       /* anything not named below; the text is libvirt's */
    KVSS_HOST_ERROR_NO_CONNECTION,/* libvirt is not running, or does not answer any more */
    KVSS_HOST_ERROR_NOT_FOUND,    /* no such domain, network, ... */
    KVSS_HOST_ERROR_STATE,        /* the domain is in the wrong state for this */
    KVSS_HOST_ERROR_AGENT,        /* the guest agent did not answer: what it was asked may happen later */
    KVSS_HOST_ERROR_AGENT_REFUSED,/* the guest agent answered with an error */
    KVSS_HOST_ERROR_BUSY,         /* another job holds the domain or the image */
    KVSS_HOST_ERROR_UNSUPPORTED,  /* this libvirt, QEMU or domain cannot do it */
    KVSS_HOST_ERROR_EXISTS,       /* name or UUID is taken */
    KVSS_HOST_ERROR_INVALID,      /* a document or an answer is not what it must be */
    KVSS_HOST_ERROR_TIMED_OUT,
    KVSS_HOST_ERROR_UNTRACKED,    /* no such checkpoint, or its bitmap is broken or out of reach */
} KvssHostError;

#define KVSS_HOST_ERROR (kvss_host_error_quark())
GQuark kvss_host_error_quark(void);

/**
 * kvss_throw_libvirt:
 * @format: what was tried, a phrase without a full stop
 *
 * Turns this thread's last libvirt error into a KVSS_HOST_ERROR; the message ends
 * with ": " and libvirt's text. Returns: false always.
 */
bool kvss_throw_libvirt(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

G_END_DECLS
