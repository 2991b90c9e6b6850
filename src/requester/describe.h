/*
 * describe.h - one VM of a plan, a run or a stored set, for people and as JSON
 */
#pragma once

#include "vss/component.h"

#include <json-glib/json-glib.h>

typedef enum {
    KVSS_DESCRIBE_PLAN,   /* explain: nothing was done yet */
    KVSS_DESCRIBE_RESULT, /* backup, show */
} KvssDescribe;

/** A block of lines on stdout. */
void kvss_describe_print(const KvssComponent *component, KvssDescribe what);

/**
 * kvss_describe_json:
 *
 * name, uuid, state, method, reasons, conditions, not_covered, notes; for a result
 * also consistency, freeze_ms, pause_ms and disks with what was read and stored; for
 * a plan disks with kind and path. (transfer full)
 */
JsonObject *kvss_describe_json(const KvssComponent *component, KvssDescribe what);

/** True if the guest keeps data somewhere that the backup does not hold: exit code 3. */
bool kvss_describe_has_gap(const KvssComponent *component);
