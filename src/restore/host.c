/*
 * host.c - components of writers that are not about VMs, put back
 *
 * What if we die here? Everything is in the journal before it is done: each old file
 * that is set aside, each folder and each file that is made. A new file is written
 * under a name of ours, and gets its own name by a rename that replaces nothing; the
 * journal knows it by its inode, so that undo never removes what somebody else put there.
 */
#include "restore/host-parts.h"
#include "base/test-point.h"
#include "writer/writer.h"

#include <errno.h>
#include <string.h>

bool
host_journal(Plan *plan, const PlanHost *host, KvssRun *run, KvssActKind kind, JsonObject *details,
             KvssActId *out_act, GError **error)
{
    PlanHostAct done = { .host = host };

    if (host->writer)
        json_object_set_string_member(details, "writer", host->writer->instance_id);
    *out_act = done.act = kvss_run_act_begin(run, kind, details, error);
    if (done.act)
        g_array_append_val(plan->host_acts, done);
    return done.act != 0;
}

/* ---- writing ---- */

typedef bool (*PartFunc)(Plan *plan, PlanHost *host, KvssRun *run, GError **error);

static bool
for_each(Plan *plan, KvssRun *run, PartFunc func, GError **error)
{
    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (func(plan, host, run, error))
            continue;
        g_prefix_error(error, "%s: ", host_name(host));
        return false;
    }
    return true;
}

static bool
aside_component(Plan *plan, PlanHost *host, KvssRun *run, GError **error)
{
    host->component->restore_status = KVSS_RS_FAILED;
    return host_aside_all(plan, host, run, error);
}

static void
set_status(Plan *plan, KvssRestoreStatus status)
{
    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (!host->stays)
            host->component->restore_status = status;
    }
}

static bool
make_to_dir(const char *to_dir, GError **error)
{
    if (!to_dir || g_mkdir_with_parents(to_dir, 0711) == 0)
        return true;
    return kvss_throw_errno(error, errno, "make folder %s", to_dir);
}

/* First all old files of all components, so that none of the new ones is taken for old. */
bool
host_write(Plan *plan, KvssRun *run, GError **error)
{
    if (plan->hosts->len == 0)
        return true;
    if (!make_to_dir(plan->options->to_dir, error)
        || !for_each(plan, run, aside_component, error)
        || !for_each(plan, run, host_write_component, error))
        return false;
    set_status(plan, KVSS_RS_ALL);
    kvss_test_point("restore-files");
    return true;
}

/* ---- what was kept ---- */

/* Told once for each folder: there may be thousands of files in it. */
static void
tell_kept(const Plan *plan, PlanHost *host)
{
    g_autoptr(GList) folders = g_list_sort(g_hash_table_get_keys(host->kept), (GCompareFunc) strcmp);

    for (GList *item = folders; item; item = item->next)
        g_ptr_array_add(host->result->notes,
                        g_strdup_printf("%s: the backup has no file of this folder: what was there "
                                        "was kept (files: %u), under names with .kvss-old-%.8s",
                                        (const char *) item->data,
                                        GPOINTER_TO_UINT(g_hash_table_lookup(host->kept, item->data)),
                                        plan->id));
}

char *
host_tell_kept(const Plan *plan)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (g_hash_table_size(host->kept) == 0)
            continue;
        tell_kept(plan, host);
        g_string_append_printf(names, "%s%s", names->len ? ", " : "", host_name(host));
    }
    if (names->len == 0)
        return NULL;
    return g_strdup_printf("the backup has no file of some folders of %s: what was in them was kept "
                           "there, under names with .kvss-old-%.8s", names->str, plan->id);
}

/* ---- the writers ---- */

static bool
has_writers(const Plan *plan)
{
    return plan->hosts->len > 0 && !plan->options->to_dir;
}

bool
host_pre_restore(Plan *plan, KvssRun *run, GError **error)
{
    KvssCoordinator *coordinator = plan->options->host_coordinator;

    if (!has_writers(plan))
        return true;
    kvss_coordinator_set(coordinator)->run = run;
    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        kvss_coordinator_take_component(coordinator, host->writer, host->component);
        host->component_is_taken = true;
    }
    return kvss_coordinator_pre_restore(coordinator, error);
}

bool
host_post_restore(Plan *plan, GError **error)
{
    return !has_writers(plan)
           || kvss_coordinator_post_restore(plan->options->host_coordinator, error);
}

/* ---- all of it taken back ---- */

/* What was restored for this writer stays, and the error says so. */
static void
let_stay(Plan *plan, const KvssWriter *writer, KvssRun *run, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *said = kvss_writer_failure_message((KvssWriter *) writer);
    g_autofree char *why = NULL;
    g_autoptr(GError) problem = NULL;

    for (guint i = 0; i < plan->hosts->len; i++) {
        PlanHost *host = g_ptr_array_index(plan->hosts, i);

        if (host->writer != writer)
            continue;
        host->stays = true;
        host->component->restore_status = KVSS_RS_ALL;
        g_string_append_printf(names, "%s%s", names->len ? ", " : "", host_name(host));
    }
    why = g_strdup_printf("%s: it does not stop using the restored files, so they stay, and the "
                          "old ones are kept beside them as NAME.kvss-old-%.8s: %s",
                          names->str, plan->id, said ? said : "it gave no reason");
    if (!kvss_run_let_stay(run, writer->instance_id, why, &problem))
        g_warning("%s", problem->message);
    g_prefix_error(error, "(%s) ", why);
}

/* A database may have begun to use its new files: it is asked to stop before they go. */
static void
stop_writers(Plan *plan, KvssRun *run, GError **error)
{
    g_autoptr(GPtrArray) stays = g_ptr_array_new();

    kvss_coordinator_pre_restore_again(plan->options->host_coordinator, stays);
    for (guint i = 0; i < stays->len; i++)
        let_stay(plan, g_ptr_array_index(stays, i), run, error);
}

/* Returns: true when the old files are back, but for those that stay. */
static bool
undo_acts(Plan *plan, KvssRun *run)
{
    bool ok = true;

    for (guint i = plan->host_acts->len; i-- > 0;) {
        const PlanHostAct *done = &g_array_index(plan->host_acts, PlanHostAct, i);
        g_autoptr(GError) problem = NULL;

        if (done->host->stays || kvss_run_act_undo(run, done->act, &problem))
            continue;
        ok = false;
        g_warning("%s", problem->message);
    }
    return ok;
}

void
host_take_back(Plan *plan, KvssRun *run, GError **error)
{
    if (plan->hosts->len == 0)
        return;
    if (has_writers(plan))
        stop_writers(plan, run, error);
    set_status(plan, undo_acts(plan, run) ? KVSS_RS_NONE : KVSS_RS_FAILED);
    if (has_writers(plan))
        kvss_coordinator_abort(plan->options->host_coordinator);
}
