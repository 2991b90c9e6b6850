/*
 * undo.h - what must be taken back if we fail, remembered as it is done
 *
 *     g_autoptr(KvssUndo) undo = kvss_undo_new();
 *     ...do...            kvss_undo_push(undo, take_back, thing);
 *     kvss_undo_release(undo);      success: keep everything
 *
 * Freed without release, the list runs backwards: last done, first undone.
 */
#pragma once

#include <glib.h>

typedef struct KvssUndo KvssUndo;

/** Takes one act back. Cannot fail: it tries everything and logs. */
typedef void (*KvssUndoFunc)(gpointer data);

KvssUndo *kvss_undo_new(void);

/** Remembers one act. @data is kept, and must live until the list is gone. */
void kvss_undo_push(KvssUndo *undo, KvssUndoFunc func, gpointer data);

/** Like push, but @data is taken and freed with @free_data, run or released. */
void kvss_undo_push_full(KvssUndo *undo, KvssUndoFunc func, gpointer data,
                         GDestroyNotify free_data);

/** Forgets every act: from here on they stay done. */
void kvss_undo_release(KvssUndo *undo);

/** Runs what was not released, backwards, and frees. Accepts NULL. */
void kvss_undo_free(KvssUndo *undo);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssUndo, kvss_undo_free)
