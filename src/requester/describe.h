/*
 * describe.h - one VM of a plan, a run or a stored set, for people and as JSON
 */
#pragma once

#include "catalogue/manifest.h"
#include "vss/component.h"

#include <json-glib/json-glib.h>

typedef enum {
    KVSS_DESCRIBE_RESULT, /* backup, show */
} KvssDescribe;

/** A block of lines on stdout. */
void kvss_describe_print(const KvssComponent *component, KvssDescribe what);

/**
 * kvss_describe_json:
 *
 * name, uuid, state, method, reasons, conditions, consistency, freeze_ms, pause_ms,
 * disks with what was read and stored, not_covered, notes. (transfer full)
 */
JsonObject *kvss_describe_json(const KvssComponent *component, KvssDescribe what);

struct KvssCoordinator;

/**
 * kvss_describe_plan_print, kvss_describe_plan_json:
 * @coordinator: gathered; says which provider each disk would get
 *
 * What would be done, before anything is. JSON: name, uuid, state, method, reasons,
 * demanded_by, consistency, conditions, disks with kind, path, volume, provider and
 * (where none can) provider_reason, not_covered, notes. (transfer full)
 */
void kvss_describe_plan_print(KvssComponent *component, struct KvssCoordinator *coordinator);
JsonObject *kvss_describe_plan_json(KvssComponent *component,
                                    struct KvssCoordinator *coordinator);

/** True if the guest keeps data somewhere that the backup does not hold: exit code 3. */
bool kvss_describe_has_gap(const KvssComponent *component);

/** A component of another writer than the VM writer. */
void kvss_describe_print_host(const KvssManifestVm *component);
/** The same as JSON (transfer full): name, writer, writer_name, files, bytes, not_covered, notes. */
JsonObject *kvss_describe_host_json(const KvssManifestVm *component);
