/*
 * report.c - what people are told, and what set.json will say
 */
#include "coordinator/private.h"

G_DEFINE_QUARK(kvss-coordinator-error-quark, kvss_coordinator_error)

char *
report_code(KvssHresult code)
{
    return kvss_hresult_in_brackets(code);
}

static KvssHresult
result_of(const Call *call)
{
    KvssHresult result;

    if (!call->is_given_up)
        return call->result;
    if (call->to->writer)
        kvss_writer_status(call->to->writer, &result);
    else
        kvss_provider_status(call->to->provider, &result);
    return result;
}

void
report_record(KvssCoordinator *c, const Call *call)
{
    KvssEventRecord record = {
        .event = kvss_step(call->step)->name,
        .who = participant_name(call->to),
    };

    g_mutex_lock(&c->estate->lock);
    record.start_us = call->start_us;
    record.end_us = call->is_given_up ? g_get_real_time() : call->end_us;
    g_mutex_unlock(&c->estate->lock);
    record.result = result_of(call);
    g_array_append_val(c->history, record);
}

/* --- one receiver ----------------------------------------------------------- */

static void
append_limit(GString *text, gint64 us)
{
    if (us < G_USEC_PER_SEC)
        g_string_append_printf(text, "%" G_GINT64_FORMAT " ms", us / 1000);
    else
        g_string_append_printf(text, "%.0f s", (double) us / G_USEC_PER_SEC);
}

static bool
is_chosen(KvssCoordinator *c, const KvssComponent *component)
{
    return g_ptr_array_find(c->set->components, component, NULL);
}

/*
 * Which of its components hangs is not known, so all of them are named. Only what
 * does not change after Identify may be looked at: the stuck call owns the rest.
 */
static void
append_names(KvssCoordinator *c, const KvssWriter *writer, GString *text)
{
    const char *separator = ": ";

    for (guint i = 0; i < writer->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (!is_chosen(c, component))
            continue;
        g_string_append_printf(text, "%s%s", separator, component->display_name);
        separator = ", ";
    }
}

static void
append_who(const Call *call, GString *text)
{
    g_string_append_printf(text, "%s %s: %s", call->to->writer ? "writer" : "provider",
                           participant_name(call->to), kvss_step(call->step)->name);
}

static void
append_given_up(KvssCoordinator *c, const Call *call, GString *text)
{
    gint64 start_us;

    g_mutex_lock(&c->estate->lock);
    start_us = call->start_us;
    g_mutex_unlock(&c->estate->lock);

    append_who(call, text);
    g_string_append(text, ": no answer within ");
    append_limit(text, g_get_real_time() - start_us);
    if (call->to->writer && call->step != KVSS_STEP_IDENTIFY)
        append_names(c, call->to->writer, text);
}

/* A writer speaks of its own components, a provider of any. */
static bool
is_its_component(const Participant *p, const KvssComponent *component)
{
    return !p->writer || g_ptr_array_find(p->writer->components, component, NULL);
}

/* Returns: false if none of its components failed. */
static bool
append_components(KvssCoordinator *c, const Call *call, GString *text)
{
    bool any = false;

    for (guint i = 0; i < c->set->components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(c->set->components, i);

        if (!is_its_component(call->to, component) || component->failure == KVSS_S_OK)
            continue;
        if (!any)
            append_who(call, text);
        g_string_append_printf(text, "%s%s: %s", any ? "; " : ": ", component->display_name,
                               component->failure_message);
        any = true;
    }
    return any;
}

static void
append_call(KvssCoordinator *c, const Call *call, GString *text)
{
    g_autofree char *code = report_code(result_of(call));

    if (text->len > 0)
        g_string_append(text, "; ");
    if (call->is_given_up)
        append_given_up(c, call, text);
    else if (!append_components(c, call, text))
        g_string_append(text, call->error->message);
    g_string_append_printf(text, " %s", code);
}

/* --- one step ---------------------------------------------------------------- */

static bool
is_failure(const Call *call)
{
    return call->is_given_up || !call->ok;
}

/* Stopped because of somebody else: not the story. */
static bool
is_bystander(const Call *call)
{
    return !call->is_given_up && !call->ok
           && g_error_matches(call->error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED);
}

/* The failures worth telling, the earliest first. Those given up come last. */
static GPtrArray *
culprits(GPtrArray *calls)
{
    GPtrArray *failed = g_ptr_array_new();

    for (guint i = 0; i < calls->len; i++) {
        Call *call = g_ptr_array_index(calls, i);

        if (is_failure(call) && !is_bystander(call))
            g_ptr_array_add(failed, call);
    }
    for (guint i = 0; failed->len == 0 && i < calls->len; i++) {
        Call *call = g_ptr_array_index(calls, i);

        if (is_failure(call))
            g_ptr_array_add(failed, call);
    }
    return failed;
}

static gint
by_end(gconstpointer a, gconstpointer b)
{
    const Call *left = *(Call *const *) a, *right = *(Call *const *) b;

    if (left->is_given_up != right->is_given_up)
        return left->is_given_up ? 1 : -1;
    if (left->is_given_up || left->end_us == right->end_us)
        return 0;
    return left->end_us < right->end_us ? -1 : 1;
}

static void
remember_first(KvssCoordinator *c, KvssHresult code)
{
    if (c->failure == KVSS_S_OK)
        c->failure = code;
}

static int
error_code(const KvssStep *step, const Call *first)
{
    if (first->is_given_up)
        return KVSS_COORDINATOR_ERROR_TIMEOUT;
    return step->receiver == KVSS_RECEIVER_WRITERS ? KVSS_COORDINATOR_ERROR_WRITER_FAILED
                                                   : KVSS_COORDINATOR_ERROR_PROVIDER_FAILED;
}

/* Between commit and thaw a failure, or time, costs what the shadow copy was made for. */
static const char *
what_is_lost(const KvssCoordinator *c, KvssStepId id)
{
    bool is_over = c->window_end_us != 0 && g_get_monotonic_time() > c->window_end_us;

    return id == KVSS_STEP_THAW || (id == KVSS_STEP_POST_COMMIT && is_over)
               ? "shadow copy made, consistency lost: "
               : "";
}

bool
report_failure(KvssCoordinator *c, KvssStepId id, GPtrArray *calls, GError **error)
{
    g_autoptr(GPtrArray) failed = culprits(calls);
    g_autoptr(GString) text = g_string_new(NULL);
    const Call *first;

    g_ptr_array_sort(failed, by_end);
    first = g_ptr_array_index(failed, 0);
    remember_first(c, result_of(first));
    for (guint i = 0; i < failed->len; i++)
        append_call(c, g_ptr_array_index(failed, i), text);

    if (cancel_is_asked(c) && is_bystander(first))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, "interrupted during %s",
                          kvss_step(id)->name);
    if (cancel_is_asked(c))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, "interrupted: %s",
                          text->str);
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, error_code(kvss_step(id), first), "%s%s",
                      what_is_lost(c, id), text->str);
}

bool
report_late(KvssCoordinator *c, KvssStepId id, GError **error)
{
    g_autofree char *code = report_code(KVSS_E_WRITERERROR_TIMEOUT);
    g_autoptr(GString) names = g_string_new(NULL);
    GPtrArray *all = c->estate->participants;
    gint64 late_us = g_get_monotonic_time() - c->window_end_us;

    for (guint i = 0; i < all->len; i++) {
        Participant *p = g_ptr_array_index(all, i);

        if (!p->writer || !p->is_involved)
            continue;
        g_string_append_printf(names, "; writer %s", participant_name(p));
        append_names(c, p->writer, names);
    }
    remember_first(c, KVSS_E_WRITERERROR_TIMEOUT);
    return kvss_throw(error, KVSS_COORDINATOR_ERROR, KVSS_COORDINATOR_ERROR_TIMEOUT,
                      "%s%" G_GINT64_FORMAT " ms from Freeze to %s, the limit is %u ms%s %s",
                      what_is_lost(c, id), late_us / 1000 + c->limits.window_ms,
                      kvss_step(id)->name, c->limits.window_ms, names->str, code);
}
