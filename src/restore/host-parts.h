/*
 * host-parts.h - what the files about components of host writers share
 *
 * Private to host*.c.
 */
#pragma once

#include "restore/host.h"

/** How people call it: "sqlite:inventory". */
const char *host_name(const PlanHost *host);

/** Does one of its file sets have this path? */
bool host_declares(const KvssComponent *live, const char *path) G_GNUC_WARN_UNUSED_RESULT;

/** Journals what is about to be done for @host; @details are taken. False: then do not do it. */
bool host_journal(Plan *plan, const PlanHost *host, KvssRun *run, KvssActKind kind,
                  JsonObject *details, KvssActId *out_act, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** A step of the plan, in plain words. */
void host_say(Plan *plan, const PlanHost *host, const char *format, ...) G_GNUC_PRINTF(3, 4);

/**
 * host_aside_all:
 * @run: NULL: it is only told what would be
 *
 * All that the writer declares now goes aside, each file in the journal before. Errors:
 * KVSS_RESTORE_ERROR_CONFLICT: a folder of ours is among it.
 */
bool host_aside_all(Plan *plan, const PlanHost *host, KvssRun *run, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** One file: @name in the open @folder, which is @path. */
bool host_aside_file(Plan *plan, const PlanHost *host, KvssRun *run, int folder, const char *name,
                     const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** The files of the set, after everything old is aside. */
bool host_write_component(Plan *plan, PlanHost *host, KvssRun *run, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
