/*
 * domain-config.h - what a domain's XML says, as far as a backup cares
 *
 * Parsed by libxml2 without network, entities or unbounded input: the text may
 * come from a stranger's repository.
 */
#pragma once

#include "host/error.h"

typedef struct {
    char *target;      /* "vda" */
    char *device;      /* "disk", "lun", "cdrom", "floppy" */
    char *type;        /* "file", "block", "network", "volume", "nvme", "vhostuser", ... */
    char *format;      /* driver type; "raw" when absent */
    char *source;      /* (nullable) path of file, device or pool/volume name, or protocol:name */
    char *protocol;    /* (nullable) network disks: "nbd", "rbd", "iscsi", ... */
    char *server;      /* (nullable) network disks: the first host, "name:port", or its socket */
    char *serial;      /* (nullable) */
    char *alias;       /* (nullable) live XML */
    char *address;     /* (nullable) where the guest finds it: see kvss_disk_address() */
    bool is_readonly, is_shareable, is_transient;
    bool has_backing;  /* live XML shows a backing chain */
    bool is_encrypted;
} KvssDiskConfig;

typedef struct {
    char *type;        /* "network", "bridge", "user", ... */
    char *source;      /* (nullable) network or bridge name */
    char *mac;
} KvssInterfaceConfig;

/** A device that the host can neither see into nor cut. */
typedef struct {
    char *name;        /* "hostdev0", "filesystem /srv" */
    char *kind;        /* "hostdev", "filesystem" */
    char *detail;
} KvssPassthroughConfig;

typedef struct {
    char *name;
    char *uuid;
    GPtrArray *disks;        /* KvssDiskConfig */
    GPtrArray *interfaces;   /* KvssInterfaceConfig */
    GPtrArray *passthrough;  /* KvssPassthroughConfig */
    char *nvram;             /* (nullable) path of the variable store */
    bool chooses_firmware;   /* <os firmware='efi'>: libvirt finds loader and store when it starts */
    char *loader, *nvram_template; /* (nullable) host paths */
    bool has_tpm;            /* emulated, with state of its own */
    bool has_agent_channel;  /* org.qemu.guest_agent.0 is there */
    bool agent_connected;    /* as the live XML says; may be stale */
    char *kernel, *initrd;   /* (nullable) host paths */
    long owner_uid, owner_gid; /* QEMU's, from the DAC label of the live XML; -1 unknown */
} KvssDomainConfig;

/** A PCI function, by its four numbers. */
typedef struct {
    unsigned domain, bus, slot, function;
} KvssPciAddress;

/**
 * kvss_disk_address:
 * @drive: (nullable) bus, target and unit behind a controller; NULL: the function is the disk
 *
 * One text for one place, so that what a guest says of its disks can be compared
 * with the definition: "0:4:0.0", "0:0:1f.2/0:0:1". Free with g_free.
 */
char *kvss_disk_address(const KvssPciAddress *pci, const unsigned drive[3]);

/** Errors: INVALID with the place that is wrong. */
KvssDomainConfig *kvss_domain_config_parse(const char *xml, GError **error);
/** The disk of this target, borrowed from @config; NULL: it has none. */
const KvssDiskConfig *kvss_domain_config_find_disk(const KvssDomainConfig *config,
                                                   const char *target);

void kvss_domain_config_free(KvssDomainConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssDomainConfig, kvss_domain_config_free)
