/*
 * undo.c - what must be taken back if we fail, remembered as it is done
 */
#include "base/undo.h"

typedef struct {
    KvssUndoFunc func;
    gpointer data;
    GDestroyNotify free_data;
} Act;

struct KvssUndo {
    GArray *acts; /* Act, oldest first */
};

KvssUndo *
kvss_undo_new(void)
{
    KvssUndo *undo = g_new0(KvssUndo, 1);

    undo->acts = g_array_new(FALSE, FALSE, sizeof(Act));
    return undo;
}

void
kvss_undo_push(KvssUndo *undo, KvssUndoFunc func, gpointer data)
{
    kvss_undo_push_full(undo, func, data, NULL);
}

void
kvss_undo_push_full(KvssUndo *undo, KvssUndoFunc func, gpointer data, GDestroyNotify free_data)
{
    Act act = { func, data, free_data };

    g_array_append_val(undo->acts, act);
}

static void
drop_last(KvssUndo *undo, gboolean run)
{
    Act act = g_array_index(undo->acts, Act, undo->acts->len - 1);

    g_array_set_size(undo->acts, undo->acts->len - 1);
    if (run)
        act.func(act.data);
    if (act.free_data)
        act.free_data(act.data);
}

void
kvss_undo_release(KvssUndo *undo)
{
    while (undo->acts->len > 0)
        drop_last(undo, FALSE);
}

void
kvss_undo_free(KvssUndo *undo)
{
    if (!undo)
        return;
    while (undo->acts->len > 0)
        drop_last(undo, TRUE);
    g_array_unref(undo->acts);
    g_free(undo);
}
