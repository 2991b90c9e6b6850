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

/** What it says when it is asked once and answers twice, or in two ways. */
typedef enum {
    SCRIPT_ANSWER_PLAIN,
    SCRIPT_ANSWER_YES_WITH_ERROR,   /* true, and an error set */
    SCRIPT_ANSWER_NO_WITHOUT_ERROR, /* false, and not a word */
    SCRIPT_ANSWER_YES_BUT_FAILED,   /* true, but a component is marked as failed */
    SCRIPT_ANSWER_TWO_FAILURES,     /* marks a component twice, and has a third code in its error */
} ScriptAnswer;

/**
 * Does its work, then answers like that. Marks are on the component that has number
 * @index, with @code first.
 */
void script_answer(Script *script, const char *event, ScriptAnswer answer, guint index,
                   KvssHresult code);

/**
 * Dies in @event, having done its work for @index components: lets go of everything,
 * as a process does. This call fails; so does every later one, and does nothing.
 */
void script_crash(Script *script, const char *event, guint index);
/** Dies now. */
void script_kill(Script *script);
#define SCRIPT_AFTER_ALL G_MAXUINT /* an @index: when its work is done, before it answers */

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
    bool is_crash;      /* script_die() before component number @index */
    ScriptAnswer answer; /* script_say() in the end */
    guint index;
    KvssHresult code;
} ScriptAct;

/** Notes the event and stalls as told. False: give up now, @error is set. The dead do. */
bool script_play(Script *script, const char *event, GCancellable *cancellable,
                 ScriptAct *out_act, GError **error);

/** script_kill(), and an error that says so. Returns: false. */
bool script_die(Script *script, GError **error);

/** The answer to an event whose work is done. @component: (nullable) the one to mark. */
bool script_say(const ScriptAct *act, KvssComponent *component, GError **error);

/** What the dead hold is nothing, whatever is said here. */
void script_set_held(Script *script, guint held);
void script_set_freed(Script *script);
