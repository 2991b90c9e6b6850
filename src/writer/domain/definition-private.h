/*
 * definition-private.h - what the files of definition.h share
 */
#pragma once

#include "host/xml.h"
#include "writer/domain/definition.h"

#include <json-glib/json-glib.h>

typedef struct {
    const KvssComponent *component;
    struct KvssHost *host;        /* (nullable) */
    KvssDefinitionReport *report;
    JsonObject *wishes;           /* (nullable) the component's restore_options */
    JsonObject *copy;             /* (nullable) wish "copy": it becomes another VM */
    bool allows_host_access;
    GHashTable *present;          /* (nullable) char*: what the VM that is replaced has */
} Correction;

void definition_note(Correction *c, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- definition-access.c: what reaches into the host ---- */

/** Learns from the definition @xml what the host's administrator has given this VM already. */
void definition_access_learn(Correction *c, const char *xml);

/**
 * definition_may_stay:
 * @node: a part of the definition that reaches into the host
 * @what: in words, for the report
 *
 * True where it was asked for, or is on this host for this VM already. False: it was
 * noted as left out, and the caller takes it away.
 */
bool definition_may_stay(Correction *c, xmlNodePtr node, const char *what);

/** As before, and takes it away with all in it. True: it stays. */
bool definition_leave_out(Correction *c, xmlNodePtr node, const char *what);

/** Devices other than disks and interfaces. May take @node away. */
void definition_access_device(Correction *c, xmlNodePtr node);

/** What stands outside <devices>, and the emulator. */
void definition_access_root(Correction *c, xmlNodePtr root);

/* ---- definition-character.c ---- */

/** A serial or parallel port, console or channel: what it is connected to. @node stays. */
void definition_character(Correction *c, xmlNodePtr node);

/* ---- definition-files.c: files of the host that a definition may name ---- */

/** Where a path really leads is what counts. @but: folders of the system that are fine, ends with NULL. */
bool definition_leads_into(const char *path, const char *folder);
bool definition_leads_into_system(const char *path, const char *const *but);

/** What a disk has below its image and beside it: libvirt looks for itself where there is any. */
void definition_drop_chain(xmlNodePtr disk);

/** Media, kernel, firmware: looked at, and left out where it is not what it says it is. */
void definition_media(Correction *c, xmlNodePtr disk, const char *target);
void definition_boot_files(Correction *c, xmlNodePtr os);

/* ---- definition-networks.c ---- */

/** One interface. May take @node away. */
void definition_interface(Correction *c, xmlNodePtr node);

/* ---- definition-identity.c ---- */

/** An interface of a copy gets the MAC that was chosen for it. */
void definition_interface_identity(Correction *c, xmlNodePtr interface);

/** A copy becomes another VM than the one it is of; its interfaces have their MACs. */
void definition_identity(Correction *c, xmlNodePtr root);
