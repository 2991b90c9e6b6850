/*
 * script.c - what a fake is told to do wrong, and what it has seen
 */
#include "vss/fake/script.h"

#include "base/error.h"

#include <string.h>

typedef struct {
    ScriptAct act;
    bool is_stall, is_deaf;
    unsigned stall_ms;
    GError *error;
    void (*func)(gpointer data);
    gpointer data;
} Line;

struct Script {
    GMutex lock;
    GCond changed;
    GHashTable *lines; /* event name -> Line */
    GPtrArray *seen;   /* event names */
    bool is_released, is_freed, is_dead;
    guint held;
};

static void
line_free(gpointer data)
{
    Line *line = data;

    g_clear_error(&line->error);
    g_free(line);
}

Script *
script_new(void)
{
    Script *script = g_atomic_rc_box_new0(Script);

    g_mutex_init(&script->lock);
    g_cond_init(&script->changed);
    script->lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, line_free);
    script->seen = g_ptr_array_new_with_free_func(g_free);
    return script;
}

Script *
script_ref(Script *script)
{
    return g_atomic_rc_box_acquire(script);
}

static void
script_clear(gpointer data)
{
    Script *script = data;

    g_hash_table_unref(script->lines);
    g_ptr_array_unref(script->seen);
    g_mutex_clear(&script->lock);
    g_cond_clear(&script->changed);
}

void
script_unref(Script *script)
{
    g_atomic_rc_box_release_full(script, script_clear);
}

/* --- for the test ----------------------------------------------------------- */

/* With the lock held. */
static Line *
line_of(Script *script, const char *event)
{
    Line *line = g_hash_table_lookup(script->lines, event);

    if (!line) {
        line = g_new0(Line, 1);
        g_hash_table_insert(script->lines, g_strdup(event), line);
    }
    return line;
}

void
script_refuse(Script *script, const char *event, guint index, KvssHresult code)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    Line *line = line_of(script, event);

    line->act.is_refusal = true;
    line->act.index = index;
    line->act.code = code;
}

void
script_throw(Script *script, const char *event, GError *error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    line_of(script, event)->error = error;
}

void
script_stall(Script *script, const char *event, unsigned ms, bool is_deaf)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    Line *line = line_of(script, event);

    line->is_stall = true;
    line->is_deaf = is_deaf;
    line->stall_ms = ms;
}

void
script_lie(Script *script, const char *event)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    line_of(script, event)->act.is_lie = true;
}

void
script_answer(Script *script, const char *event, ScriptAnswer answer, guint index,
              KvssHresult code)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    Line *line = line_of(script, event);

    line->act.answer = answer;
    line->act.index = index;
    line->act.code = code;
}

void
script_crash(Script *script, const char *event, guint index)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    Line *line = line_of(script, event);

    line->act.is_crash = true;
    line->act.index = index;
}

void
script_kill(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    script->is_dead = true;
    script->held = 0;
}

void
script_on(Script *script, const char *event, void (*func)(gpointer data), gpointer data)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    Line *line = line_of(script, event);

    line->func = func;
    line->data = data;
}

void
script_release(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    script->is_released = true;
    g_cond_broadcast(&script->changed);
}

char *
script_history(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < script->seen->len; i++)
        g_string_append_printf(text, "%s%s", i ? " " : "",
                               (const char *) g_ptr_array_index(script->seen, i));
    return g_string_free(g_steal_pointer(&text), FALSE);
}

guint
script_count(Script *script, const char *event)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    guint n = 0;

    for (guint i = 0; i < script->seen->len; i++)
        n += g_str_equal(g_ptr_array_index(script->seen, i), event);
    return n;
}

guint
script_held(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    return script->held;
}

bool
script_wait_freed(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);
    gint64 deadline_us = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (!script->is_freed)
        if (!g_cond_wait_until(&script->changed, &script->lock, deadline_us))
            break;
    return script->is_freed;
}

/* --- for the fake ------------------------------------------------------------ */

/* In slices, since a cancellable does not wake our condition. */
static bool
stall(Script *script, const Line *line, GCancellable *cancellable, GError **error)
{
    gint64 end_us = line->stall_ms == SCRIPT_FOR_EVER
                        ? G_MAXINT64
                        : g_get_monotonic_time() + (gint64) line->stall_ms * 1000;

    while (!script->is_released && g_get_monotonic_time() < end_us) {
        if (!line->is_deaf && !kvss_check_cancelled(cancellable, error))
            return false;
        g_cond_wait_until(&script->changed, &script->lock, g_get_monotonic_time() + 1000);
    }
    return true;
}

bool
script_play(Script *script, const char *event, GCancellable *cancellable, ScriptAct *out_act,
            GError **error)
{
    Line line = { 0 };
    bool ok = true;

    g_mutex_lock(&script->lock);
    g_ptr_array_add(script->seen, g_strdup(event));
    if (script->is_dead)
        ok = kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "has died");
    else if (g_hash_table_contains(script->lines, event))
        line = *line_of(script, event);
    g_mutex_unlock(&script->lock);

    if (line.func)
        line.func(line.data);

    g_mutex_lock(&script->lock);
    if (ok && script->is_dead) /* at the hand of func */
        ok = kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "died");
    if (ok && line.is_stall)
        ok = stall(script, &line, cancellable, error);
    if (ok && line.error) {
        g_propagate_error(error, g_error_copy(line.error));
        ok = false;
    }
    g_mutex_unlock(&script->lock);
    *out_act = line.act;
    return ok;
}

bool
script_die(Script *script, GError **error)
{
    script_kill(script);
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "died");
}

static void
mark_twice(KvssComponent *component, KvssHresult code)
{
    if (!component)
        return;
    kvss_component_fail(component, code, "fails");
    kvss_component_fail(component, KVSS_E_WRITERERROR_RECOVERY_FAILED, "fails otherwise");
}

bool
script_say(const ScriptAct *act, KvssComponent *component, GError **error)
{
    switch (act->answer) {
    case SCRIPT_ANSWER_YES_WITH_ERROR:
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "says yes and has an error");
        return true;
    case SCRIPT_ANSWER_NO_WITHOUT_ERROR:
        return false;
    case SCRIPT_ANSWER_YES_BUT_FAILED:
        if (component)
            kvss_component_fail(component, act->code, "fails");
        return true;
    case SCRIPT_ANSWER_TWO_FAILURES:
        mark_twice(component, act->code);
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE, "fails in a third way");
    default:
        return true;
    }
}

void
script_set_held(Script *script, guint held)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    script->held = script->is_dead ? 0 : held;
}

void
script_set_freed(Script *script)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&script->lock);

    script->is_freed = true;
    g_cond_broadcast(&script->changed);
}
