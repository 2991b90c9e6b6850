/*
 * manifest-json.h - parts that set.json and the command's own JSON share
 *
 * Every one returns (transfer full).
 */
#pragma once

#include "catalogue/manifest.h"

#include <json-glib/json-glib.h>

JsonArray *kvss_manifest_reasons(const KvssComponent *component);     /* id, detail */
JsonArray *kvss_manifest_conditions(const KvssComponent *component);  /* id, holds, detail */
JsonArray *kvss_manifest_not_covered(const KvssComponent *component); /* target, kind, reason, writable */
JsonArray *kvss_manifest_notes(const KvssComponent *component);       /* strings */
/* target, format, size, bytes_read, bytes_stored, incremental, reason */
JsonObject *kvss_manifest_disk(const KvssDisk *disk);
/* a time in ms, or null where it is negative: does not apply */
JsonNode *kvss_manifest_ms(double ms);
