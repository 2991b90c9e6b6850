/*
 * shadows.h - the shadow copies that exist on this host, told by the journals
 *
 * Looks only: no lock is taken, nothing is asked of a guest, of QEMU or of
 * libvirt. A live run's journal may grow while it is read; what was whole counts.
 */
#pragma once

#include "base/error.h"
#include "vss/vss.h"

typedef struct {
    char *id;            /* (nullable) GUID; journals of older versions have none */
    char *vm, *vm_uuid;
    char *target;        /* (nullable) "vda"; NULL where the journal does not say which disks */
    char *original;      /* (nullable) path of the image or device */
    char *device;        /* where it can be read: "nbd+unix:///vda?socket=..." */
    char *provider;
    gint64 time_us;      /* since 1970; 0: not known */
    uint32_t attributes; /* KVSS_ATTR_* */
} KvssShadow;

typedef struct {
    char *id;            /* of the set, and of its run */
    char *purpose;       /* "backup" */
    char *uri;
    gint64 pid;
    bool is_alive;       /* false: its process is gone, and recovery will take the copies away */
    gint64 start_us;     /* of the run, since 1970; 0: not known */
    GPtrArray *shadows;  /* (element-type KvssShadow), at least one */
} KvssShadowSet;

/**
 * kvss_shadows_list:
 * @state_dir: where journals lie; absent means there are none
 * @out_problems: (transfer full) char*: journals that could not be read, a phrase each
 *
 * (transfer full) (element-type KvssShadowSet) sets with shadow copies that exist
 * now, oldest run first: what a journal has begun counts when QEMU serves it.
 * Errors: could not look.
 */
GPtrArray *kvss_shadows_list(const char *state_dir, GPtrArray **out_problems, GError **error);
