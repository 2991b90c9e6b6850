/*
 * script.h - what a fake is told to do wrong, and what it has seen
 *
 * Only tests link this. A fake writer or provider plays a script: at the events
 * named it refuses, stalls or lies; everywhere else it does its duty. The script
 * outlives the fake, so that a test can look at it when the fake is gone.
 *
 * Events go by the name they have in the coordinator's table ("Freeze",
 * "CommitSnapshots"). All functions may be called from any thread.
 */
#pragma once

#include "vss/component.h"

#include <gio/gio.h>

typedef struct Script Script;

#define SCRIPT_FOR_EVER 0u /* until script_release() */

Script *script_new(void);
Script *script_ref(Script *script);
void script_unref(Script *script);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Script, script_unref)

/* --- for the test ----------------------------------------------------------- */

/** Does what it must for the first @index components, fails that one with @code, and stops. */
void script_refuse(Script *script, const char *event, guint index, KvssHresult code);

/** Fails without naming a component, with this error. @error is taken. */
void script_throw(Script *script, const char *event, GError *error);

/**
 * Waits, then does what it must, however late. A deaf one does not look at the
 * cancellable; another gives up with KVSS_IO_ERROR_CANCELLED, having done nothing.
 */
void script_stall(Script *script, const char *event, unsigned ms, bool is_deaf);

/** Says that all is well and does nothing. */
void script_lie(Script *script, const char *event);

/** Calls @func in the fake's thread when @event begins, before anything else. */
void script_on(Script *script, const char *event, void (*func)(gpointer data), gpointer data);

/** Ends every stall, now and from here on. */
void script_release(Script *script);

/** The events that came so far, in order, with a blank between. */
char *script_history(Script *script);
guint script_count(Script *script, const char *event);

/** Components that stand still, shadow copies that live: what must be 0 in the end. */
guint script_held(Script *script);

/** Waits up to 10 s until the fake has been freed. */
bool script_wait_freed(Script *script);

/* --- for the fake ------------------------------------------------------------ */

typedef struct {
    bool is_lie;        /* do nothing, say yes */
    bool is_refusal;    /* fail component number @index with @code */
    guint index;
    KvssHresult code;
} ScriptAct;

/** Notes the event and stalls as told. False: give up now, @error is set. */
bool script_play(Script *script, const char *event, GCancellable *cancellable,
                 ScriptAct *out_act, GError **error);
void script_set_held(Script *script, guint held);
void script_set_freed(Script *script);
