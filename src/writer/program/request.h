/*
 * request.h - what a writer's program is told of the set
 *
 * Private to writer/program. Source: docs/writers.md.
 */
#pragma once

#include "writer/writer.h"

#include <json-glib/json-glib.h>

/** "prepare-for-snapshot": the program's argument. */
const char *request_event_name(KvssEvent event);

/**
 * request_new:
 * @set: NULL for Identify
 *
 * The document for one event, with the writer's chosen components as they are now.
 */
GBytes *request_new(const KvssWriter *writer, KvssEvent event, const KvssSnapshotSet *set);

/**
 * The chosen components as an act in the journal keeps them.
 * @status: (nullable) their restore_status there
 */
JsonArray *request_components_for_undo(const KvssWriter *writer, const char *status);
