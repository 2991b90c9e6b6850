/*
 * work.h - what the parts of the middle of a restore share
 *
 * Private to files.c and in-place.c.
 */
#pragma once

#include "guardian/run.h"
#include "restore/plan.h"

struct KvssImageServer;

typedef struct {
    Plan *plan;
    KvssRun *run;         /* NULL while it is only looked */
    const PlanVm *vm;
    const char *target;
    uint64_t done_before; /* bytes of the disks behind us */
    KvssActId server;     /* of the image under way */
} Work;

/** A KvssCopyProgress; @data is the Work. */
void work_tell_progress(uint64_t done, uint64_t size, gpointer data);

/** The undo ends what is left of the server before it touches the image. Sets work->server; @data is the Work. */
bool work_journal_server(const struct KvssImageServer *server, gpointer data, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** The one of the disk under way. */
KvssRestoredDisk *work_result(const Work *work);
