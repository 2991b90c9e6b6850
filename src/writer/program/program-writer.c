/*
 * program-writer.c - a writer that is an executable of the host's administrator
 *
 * What must outlive us is the act in the journal. It is begun before the first event
 * by which the program may hold something, and says what undoes it:
 *
 *   PrepareForBackup ─────────────▶ PostSnapshot ─────────▶ the end of the run
 *        act: abort, backup-shutdown      act: backup-shutdown
 *
 *   PreRestore ───────────────────▶ the point of no return
 *        act: post-restore, "none"
 *             PostRestore ────────▶ the same, or PreRestore again
 *                  act: pre-restore
 *
 * Abort and BackupShutdown are that act undone, and nothing else: whoever comes first,
 * this writer, the end of the run or the guardian, the program hears it once.
 */
#include "writer/program/program-writer.h"
#include "base/test-point.h"
#include "guardian/run.h"
#include "host/program.h"
#include "writer/program/answer.h"
#include "writer/program/request.h"

#include <errno.h>
#include <string.h>

/* Until Identify has said which it is. */
#define NO_CLASS_ID "00000000-0000-0000-0000-000000000000"

typedef struct {
    KvssWriter writer;
    KvssWriterOps ops;      /* its own, for the names */
    char *path;
    char *file;             /* last part of the path */
    IdentifyAnswer identity; /* its names; its components are the writer's by then */
    KvssProgramWriterLimits limits;

    GMutex ending;          /* Abort may come from two threads */
    KvssRun *run;           /* (nullable) of the act */
    KvssActId act;          /* what ends the events; 0: none */
    KvssActId stop;         /* what lets go of restored files; 0: it uses none */
    bool is_armed;
    gint64 freeze_us;       /* monotonic: Freeze was sent */
} ProgramWriter;

/* ---- what it says by its end ---- */

static KvssHresult
code_of_status(int status)
{
    switch (status) {
    case 65: /* EX_DATAERR */
        return KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT;
    case 71: /* EX_OSERR: "cannot fork", ... */
        return KVSS_E_WRITERERROR_OUTOFRESOURCES;
    case 75: /* EX_TEMPFAIL */
        return KVSS_E_WRITERERROR_RETRYABLE;
    case 124: /* timeout(1) */
        return KVSS_E_WRITERERROR_TIMEOUT;
    default:
        return KVSS_E_WRITERERROR_NONRETRYABLE;
    }
}

/*
 * Which of several components it is about only its message says: all of them have
 * failed, and the message stands once.
 */
static void
fail_components(ProgramWriter *self, KvssHresult code, const char *message)
{
    const char *first = NULL;

    for (guint i = 0; i < self->writer.components->len; i++) {
        KvssComponent *component = g_ptr_array_index(self->writer.components, i);

        if (!component->is_selected)
            continue;
        if (first)
            kvss_component_fail(component, code, "as %s", first);
        else
            kvss_component_fail(component, code, "%s", message);
        first = first ? first : component->display_name;
    }
}

static bool
throw_end(ProgramWriter *self, const KvssProgramEnd *end, GError **error)
{
    g_autofree char *how = kvss_program_end_describe(end);
    KvssHresult code = code_of_status(end->status);

    /* It has said why: how it ended is a detail. */
    if (!end->signal && *end->words)
        kvss_set_string(&how, end->words);
    fail_components(self, code, how);
    return kvss_throw(error, KVSS_WRITER_ERROR,
                      code == KVSS_E_WRITERERROR_TIMEOUT ? KVSS_WRITER_ERROR_TIMEOUT
                                                         : KVSS_WRITER_ERROR_FAILED,
                      "%s", how);
}

/* Stopped because of somebody else, or not to be run at all: the first is not its failure. */
static bool
throw_call(ProgramWriter *self, GError *problem, GError **error)
{
    bool is_late = g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT);

    if (!g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        fail_components(self,
                        is_late ? KVSS_E_WRITERERROR_TIMEOUT : KVSS_E_WRITERERROR_NONRETRYABLE,
                        problem->message);
    g_propagate_error(error, problem);
    return false;
}

/* ---- events ---- */

static bool
call(ProgramWriter *self, KvssEvent event, KvssSnapshotSet *set, GError **error)
{
    g_autoptr(GBytes) input = request_new(&self->writer, event, set);
    g_auto(KvssProgramEnd) end = { 0 };
    GError *problem = NULL;

    if (!kvss_program_call(self->path, request_event_name(event), set->id, input, 0,
                           g_atomic_pointer_get(&set->cancellable), &end, &problem))
        return throw_call(self, problem, error);
    if (end.status != 0)
        return throw_end(self, &end, error);
    if (event_answer_read(end.output, self->writer.components, &problem))
        return true;
    g_prefix_error(&problem, "its answer: ");
    return throw_call(self, problem, error);
}

/* Nothing of it can be vetoed any more: what goes wrong is told, and no more. */
static void
call_last(ProgramWriter *self, KvssEvent event, KvssSnapshotSet *set)
{
    g_autoptr(GBytes) input = request_new(&self->writer, event, set);
    const char *name = request_event_name(event);
    g_auto(KvssProgramEnd) end = { 0 };
    g_autoptr(GError) problem = NULL;
    g_autofree char *how = NULL;

    if (!kvss_program_call(self->path, name, set->id, input, KVSS_PROGRAM_UNDO_LIMIT_MS, NULL,
                           &end, &problem)) {
        g_warning("%s %s: %s", self->path, name, problem->message);
    } else if (end.status != 0) {
        how = kvss_program_end_describe(&end);
        g_warning("%s %s: %s", self->path, name, how);
    }
}

static bool
program_identify(KvssWriter *writer, GCancellable *cancellable, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;
    g_autoptr(GBytes) input = request_new(writer, KVSS_EVENT_IDENTIFY, NULL);
    g_auto(KvssProgramEnd) end = { 0 };

    if (!kvss_program_call(self->path, request_event_name(KVSS_EVENT_IDENTIFY), NULL, input, 0,
                           cancellable, &end, error))
        return false;
    if (end.status != 0)
        return throw_end(self, &end, error);
    if (!identify_answer_read(end.output, self->file, &self->identity, error)) {
        g_prefix_error(error, "its answer: ");
        return false;
    }
    writer->level = self->identity.level;
    self->ops.class_id = self->identity.class_id;
    self->ops.friendly_name = self->identity.friendly_name;
    for (guint i = 0; i < self->identity.components->len; i++)
        g_ptr_array_add(writer->components, g_ptr_array_index(self->identity.components, i));
    g_ptr_array_set_free_func(self->identity.components, NULL);
    g_ptr_array_set_size(self->identity.components, 0);
    return true;
}

/* ---- the act ---- */

static JsonObject *
details_new(ProgramWriter *self, KvssSnapshotSet *set, KvssEvent event)
{
    const char *status = event == KVSS_EVENT_POST_RESTORE ? "none" : NULL;
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "name", self->file);
    json_object_set_string_member(details, "path", self->path);
    json_object_set_string_member(details, "set_id", set->id);
    json_object_set_string_member(details, "event", request_event_name(event));
    json_object_set_string_member(details, "writer", self->writer.instance_id);
    json_object_set_array_member(details, "components",
                                 request_components_for_undo(&self->writer, status));
    return details;
}

/* From now on whoever undoes the run sends @event; what was to be sent before is not any more. */
static bool
keep_act(ProgramWriter *self, KvssSnapshotSet *set, KvssEvent event, GError **error)
{
    KvssActId before = self->act, act;

    if (!set->run)
        return true;
    act = kvss_run_act_begin(set->run, KVSS_ACT_PROGRAM, details_new(self, set, event), error);
    if (!act)
        return false; /* the one before stands */
    g_mutex_lock(&self->ending); /* Abort may have overtaken us */
    self->act = act;
    g_mutex_unlock(&self->ending);
    if (before)
        kvss_run_act_end(self->run, before);
    return true;
}

/*
 * Two sets over one component would let go of each other's hold, and a backup would
 * read what a restore writes. Whoever is refused holds nothing: with a run and no act
 * the program hears nothing more, or it would let go of what the other set holds.
 */
static bool
claim(ProgramWriter *self, KvssSnapshotSet *set, GError **error)
{
    g_mutex_lock(&self->ending);
    self->run = set->run;
    g_mutex_unlock(&self->ending);
    for (guint i = 0; set->run && i < self->writer.components->len; i++) {
        KvssComponent *component = g_ptr_array_index(self->writer.components, i);
        g_autofree char *name = component_full_name(component);
        g_autofree char *id = g_strconcat(self->ops.class_id, ":", name, NULL);

        if (component->is_selected
            && !kvss_run_claim_component(set->run, id, component, error))
            return false;
    }
    return true;
}

/* The guardian lets it go when we hang. A second call moves the limit. */
static bool
arm(ProgramWriter *self, unsigned limit_ms, GError **error)
{
    if (!self->act)
        return true;
    self->is_armed = true;
    return kvss_run_arm(self->run, self->act, limit_ms, error);
}

static bool
disarm(ProgramWriter *self, GError **error)
{
    if (!self->is_armed)
        return true;
    self->is_armed = false;
    return kvss_run_disarm(self->run, self->act, error);
}

static bool
program_prepare_for_backup(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    if (!claim(self, set, error)
        || (set->run && !kvss_run_start_guardian(set->run, error)))
        return false;
    return keep_act(self, set, KVSS_EVENT_ABORT, error)
           && call(self, KVSS_EVENT_PREPARE_FOR_BACKUP, set, error);
}

static bool
program_prepare_for_snapshot(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    return arm(self, self->limits.prepared_ms, error)
           && call(self, KVSS_EVENT_PREPARE_FOR_SNAPSHOT, set, error);
}

static GPtrArray *
chosen(const KvssWriter *writer)
{
    GPtrArray *some = g_ptr_array_new();

    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (component->is_selected)
            g_ptr_array_add(some, component);
    }
    return some;
}

static bool
program_freeze(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;
    g_autoptr(GPtrArray) components = chosen(writer);

    self->freeze_us = g_get_monotonic_time();
    if (!arm(self, self->limits.frozen_ms, error) || !call(self, KVSS_EVENT_FREEZE, set, error))
        return false;
    for (guint i = 0; i < components->len; i++)
        ((KvssComponent *) g_ptr_array_index(components, i))->frozen_us = g_get_monotonic_time();
    kvss_test_point("writer-frozen");
    return true;
}

/* It was quiet until Thaw was sent; how long its users waited is known when that is over. */
static bool
program_thaw(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;
    g_autoptr(GPtrArray) components = chosen(writer);
    gint64 thaw_us = g_get_monotonic_time();
    g_autoptr(GError) late = NULL;

    if (!call(self, KVSS_EVENT_THAW, set, error))
        return false;
    for (guint i = 0; i < components->len; i++) {
        KvssComponent *component = g_ptr_array_index(components, i);

        component->thawed_us = thaw_us;
        component->freeze_ms = (double) (g_get_monotonic_time() - self->freeze_us) / 1000;
    }
    if (disarm(self, &late))
        return true;
    return throw_call(self, g_steal_pointer(&late), error);
}

static bool
program_post_snapshot(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    return keep_act(self, set, KVSS_EVENT_BACKUP_SHUTDOWN, error)
           && call(self, KVSS_EVENT_POST_SNAPSHOT, set, error);
}

static bool
program_backup_complete(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    return call((ProgramWriter *) writer, KVSS_EVENT_BACKUP_COMPLETE, set, error);
}

/* ---- the ways out ---- */

static void
end_by_act(ProgramWriter *self)
{
    g_autoptr(GError) problem = NULL;

    if (!kvss_run_act_undo(self->run, self->act, &problem))
        g_warning("%s; the guardian process goes on trying, and 'kvss doctor' tells",
                  problem->message);
}

static void
end(ProgramWriter *self, KvssEvent event, KvssSnapshotSet *set)
{
    g_mutex_lock(&self->ending);
    if (self->act)
        end_by_act(self);
    else if (!self->run)
        call_last(self, event, set);
    g_mutex_unlock(&self->ending);
}

static void
program_abort(KvssWriter *writer, KvssSnapshotSet *set)
{
    end((ProgramWriter *) writer, KVSS_EVENT_ABORT, set);
}

static void
program_backup_shutdown(KvssWriter *writer, KvssSnapshotSet *set)
{
    end((ProgramWriter *) writer, KVSS_EVENT_BACKUP_SHUTDOWN, set);
}

/* ---- restore ---- */

/* What it uses is taken from it. That it keeps it, where it says no, is the requester's to note. */
static bool
stop(ProgramWriter *self, GError **error)
{
    KvssActId act = self->stop;
    GError *problem = NULL;

    self->stop = 0;
    return kvss_run_act_undo(self->run, act, &problem) || throw_call(self, problem, error);
}

static bool
program_pre_restore(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    if (self->stop)
        return stop(self, error);
    return claim(self, set, error) && keep_act(self, set, KVSS_EVENT_POST_RESTORE, error)
           && call(self, KVSS_EVENT_PRE_RESTORE, set, error);
}

static guint
count_status(const KvssWriter *writer, KvssRestoreStatus status)
{
    g_autoptr(GPtrArray) components = chosen(writer);
    guint n = 0;

    for (guint i = 0; i < components->len; i++)
        n += ((KvssComponent *) g_ptr_array_index(components, i))->restore_status == status;
    return n;
}

static bool
gets_files(const KvssWriter *writer)
{
    return count_status(writer, KVSS_RS_ALL) > 0;
}

/* The old files are back, all of them. */
static bool
is_taken_back(const KvssWriter *writer)
{
    g_autoptr(GPtrArray) components = chosen(writer);

    return count_status(writer, KVSS_RS_NONE) == components->len;
}

/* Whoever comes first, this or the undo of the run, the program hears it once. */
static bool
end_restore(ProgramWriter *self, GError **error)
{
    GError *problem = NULL;

    return kvss_run_act_undo(self->run, self->act, &problem) || throw_call(self, problem, error);
}

/*
 * The act stays: when this fails, when another writer does, or when we die before the
 * point of no return, the old files come back, and the undo of the run says "none". Who
 * has taken the new ones into use must let go of them before; who says no has not.
 */
static bool
program_post_restore(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    if (is_taken_back(writer) && self->act)
        return end_restore(self, error);
    if (set->run && gets_files(writer)) {
        self->stop = kvss_run_act_begin(set->run, KVSS_ACT_PROGRAM,
                                        details_new(self, set, KVSS_EVENT_PRE_RESTORE), error);
        if (!self->stop)
            return false;
    }
    if (call(self, KVSS_EVENT_POST_RESTORE, set, error))
        return true;
    if (self->stop)
        kvss_run_act_end(self->run, self->stop);
    self->stop = 0;
    return false;
}

/* ---- making ---- */

static void
program_free(KvssWriter *writer)
{
    ProgramWriter *self = (ProgramWriter *) writer;

    kvss_writer_clear(writer);
    identify_answer_clear(&self->identity);
    g_mutex_clear(&self->ending);
    g_free(self->path);
    g_free(self->file);
    g_free(self);
}

static const KvssWriterOps program_ops = {
    .class_id = NO_CLASS_ID,
    .identify = program_identify,
    .prepare_for_backup = program_prepare_for_backup,
    .prepare_for_snapshot = program_prepare_for_snapshot,
    .freeze = program_freeze,
    .thaw = program_thaw,
    .post_snapshot = program_post_snapshot,
    .backup_complete = program_backup_complete,
    .abort = program_abort,
    .backup_shutdown = program_backup_shutdown,
    .pre_restore = program_pre_restore,
    .post_restore = program_post_restore,
    .free = program_free,
};

KvssWriter *
kvss_program_writer_new(const char *path, const KvssProgramWriterLimits *limits)
{
    ProgramWriter *self = g_new0(ProgramWriter, 1);
    g_autofree char *instance = g_strdup_printf("host writer %s", path);

    g_assert(g_path_is_absolute(path));
    self->path = g_strdup(path);
    self->file = g_path_get_basename(path);
    self->limits = limits ? *limits
                          : (KvssProgramWriterLimits) { KVSS_PROGRAM_PREPARED_LIMIT_MS,
                                                        KVSS_PROGRAM_FROZEN_LIMIT_MS };
    g_mutex_init(&self->ending);
    self->ops = program_ops;
    self->ops.friendly_name = self->file;
    kvss_writer_init(&self->writer, &self->ops, instance);
    return &self->writer;
}
