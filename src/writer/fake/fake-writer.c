/*
 * fake-writer.c - a writer without anything behind it
 */
#include "writer/fake/fake-writer.h"

#define DISK_SIZE (64 * 1024)

enum { STANDS_STILL = 1, FROZEN = 2, ASIDE = 4 };

typedef struct {
    KvssWriter writer;
    KvssWriterOps ops; /* its own, for the name */
    char *name;
    Script *script;
    guint n_components;
    KvssComponent *declared; /* its file sets are the first component's */

    GMutex lock;       /* Abort may come while another event is stuck */
    GHashTable *flags; /* KvssComponent -> flags */
    bool had_post_snapshot;
} FakeWriter;

/* What an event sets and clears on each component. */
static const struct {
    int sets, clears;
} effects[KVSS_EVENT_N] = {
    [KVSS_EVENT_PREPARE_FOR_SNAPSHOT] = { STANDS_STILL, 0 },
    [KVSS_EVENT_FREEZE] = { FROZEN, 0 },
    [KVSS_EVENT_THAW] = { 0, FROZEN },
    [KVSS_EVENT_POST_SNAPSHOT] = { 0, STANDS_STILL },
    [KVSS_EVENT_ABORT] = { 0, STANDS_STILL | FROZEN },
    [KVSS_EVENT_BACKUP_SHUTDOWN] = { 0, STANDS_STILL | FROZEN },
    [KVSS_EVENT_PRE_RESTORE] = { ASIDE, 0 },
    [KVSS_EVENT_POST_RESTORE] = { 0, ASIDE },
};

static void
count_held(FakeWriter *self)
{
    GHashTableIter iter;
    gpointer value;
    guint held = 0;

    g_hash_table_iter_init(&iter, self->flags);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        held += GPOINTER_TO_INT(value) != 0;
    script_set_held(self->script, held);
}

static void
apply(FakeWriter *self, KvssEvent event, KvssComponent *component)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->lock);
    int flags = GPOINTER_TO_INT(g_hash_table_lookup(self->flags, component));

    flags = (flags | effects[event].sets) & ~effects[event].clears;
    g_hash_table_insert(self->flags, component, GINT_TO_POINTER(flags));
    count_held(self);
}

static bool
refuse(KvssEvent event, KvssComponent *component, const ScriptAct *act, GError **error)
{
    kvss_component_fail(component, act->code, "refuses %s", kvss_event_name(event));
    return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED, "%s refuses",
                      component->display_name);
}

/* The promise that the coordinator gives: what comes after PostSnapshot is no Abort. */
static void
check_promise(FakeWriter *self, KvssEvent event)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->lock);

    g_assert(event != KVSS_EVENT_ABORT || !self->had_post_snapshot);
    self->had_post_snapshot |= event == KVSS_EVENT_POST_SNAPSHOT;
}

static KvssComponent *
nth_selected(const KvssWriter *writer, guint n)
{
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (component->is_selected && n-- == 0)
            return component;
    }
    return NULL;
}

/* Goes through the chosen components as far as the script lets it. */
static bool
walk(FakeWriter *self, KvssEvent event, const ScriptAct *act, GError **error)
{
    KvssComponent *component;

    for (guint i = 0; (component = nth_selected(&self->writer, i)); i++) {
        if (act->is_refusal && i == act->index)
            return refuse(event, component, act, error);
        if (act->is_crash && i == act->index)
            return script_die(self->script, error);
        apply(self, event, component);
    }
    return !act->is_crash || script_die(self->script, error);
}

static bool
play(KvssWriter *writer, KvssEvent event, KvssSnapshotSet *set, GError **error)
{
    FakeWriter *self = (FakeWriter *) writer;
    bool cannot_fail = event == KVSS_EVENT_ABORT || event == KVSS_EVENT_BACKUP_SHUTDOWN;
    ScriptAct act;

    check_promise(self, event);
    if (!script_play(self->script, kvss_event_name(event),
                     cannot_fail ? NULL : g_atomic_pointer_get(&set->cancellable), &act, error))
        return false;
    if (act.is_lie)
        return true;
    return walk(self, event, &act, error)
        && script_say(&act, nth_selected(writer, act.index), error);
}

/* --- the table ---------------------------------------------------------------- */

static void
declare_disks(KvssComponent *component)
{
    static const char *const targets[] = { "vda", "vdb" };

    for (guint i = 0; i < G_N_ELEMENTS(targets); i++)
        kvss_component_add_disk(component, targets[i])->size = DISK_SIZE;
}

static void
declare_file_sets(KvssComponent *component, const KvssComponent *declared)
{
    for (guint i = 0; i < declared->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(declared->file_sets, i);

        kvss_component_add_file_set(component, files->path, files->filespec, files->is_recursive)
            ->is_stable = files->is_stable;
    }
}

static void
declare(FakeWriter *self, guint number)
{
    g_autofree char *name = g_strdup_printf("%s-%u", self->name, number);
    KvssComponent *component = kvss_component_new(name, name);

    if (self->declared->file_sets->len == 0)
        declare_disks(component);
    else if (number == 0)
        declare_file_sets(component, self->declared);
    g_ptr_array_add(self->writer.components, component);
}

static bool
fake_identify(KvssWriter *writer, GCancellable *cancellable, GError **error)
{
    FakeWriter *self = (FakeWriter *) writer;
    ScriptAct act;

    if (!script_play(self->script, "Identify", cancellable, &act, error))
        return false;
    if (act.is_refusal)
        return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED, "refuses");
    for (guint i = 0; !act.is_lie && i < self->n_components; i++) {
        if (act.is_crash && i == act.index)
            return script_die(self->script, error);
        declare(self, i);
    }
    if (act.is_crash)
        return script_die(self->script, error);
    return script_say(&act, NULL, error);
}

#define EVENT(function, event)                                                  \
    static bool function(KvssWriter *writer, KvssSnapshotSet *set, GError **error) \
    {                                                                           \
        return play(writer, KVSS_EVENT_##event, set, error);                    \
    }

EVENT(fake_prepare_for_backup, PREPARE_FOR_BACKUP)
EVENT(fake_freeze, FREEZE)
EVENT(fake_thaw, THAW)
EVENT(fake_post_snapshot, POST_SNAPSHOT)
EVENT(fake_backup_complete, BACKUP_COMPLETE)
EVENT(fake_pre_restore, PRE_RESTORE)

static bool
fake_prepare_for_snapshot(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    if (!play(writer, KVSS_EVENT_PREPARE_FOR_SNAPSHOT, set, error))
        return false;
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        component->instant_us = g_get_monotonic_time();
    }
    return true;
}

/* As the specification has it: anything but ALL is put back, and told. */
static bool
fake_post_restore(KvssWriter *writer, KvssSnapshotSet *set, GError **error)
{
    if (!play(writer, KVSS_EVENT_POST_RESTORE, set, error))
        return false;
    if (*error)
        return true; /* it was told to answer in two ways */
    for (guint i = 0; i < writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(writer->components, i);

        if (component->is_selected && component->restore_status != KVSS_RS_ALL)
            return kvss_throw(error, KVSS_WRITER_ERROR, KVSS_WRITER_ERROR_FAILED,
                              "%s was not restored", component->display_name);
    }
    return true;
}

static void
fake_abort(KvssWriter *writer, KvssSnapshotSet *set)
{
    g_autoptr(GError) error = NULL;

    (void) play(writer, KVSS_EVENT_ABORT, set, &error);
}

static void
fake_backup_shutdown(KvssWriter *writer, KvssSnapshotSet *set)
{
    g_autoptr(GError) error = NULL;

    (void) play(writer, KVSS_EVENT_BACKUP_SHUTDOWN, set, &error);
}

static void
fake_free(KvssWriter *writer)
{
    FakeWriter *self = (FakeWriter *) writer;

    kvss_writer_clear(writer);
    g_hash_table_unref(self->flags);
    kvss_component_free(self->declared);
    g_mutex_clear(&self->lock);
    g_free(self->name);
    script_set_freed(self->script);
    script_unref(self->script);
    g_free(self);
}

static const KvssWriterOps fake_ops = {
    .class_id = "0b5e1d0c-6d3c-4a52-9c5e-4b6a7a6f5a01",
    .identify = fake_identify,
    .prepare_for_backup = fake_prepare_for_backup,
    .prepare_for_snapshot = fake_prepare_for_snapshot,
    .freeze = fake_freeze,
    .thaw = fake_thaw,
    .post_snapshot = fake_post_snapshot,
    .backup_complete = fake_backup_complete,
    .abort = fake_abort,
    .backup_shutdown = fake_backup_shutdown,
    .pre_restore = fake_pre_restore,
    .post_restore = fake_post_restore,
    .free = fake_free,
};

KvssWriter *
fake_writer_new(Script *script, const char *name, guint n_components)
{
    FakeWriter *self = g_new0(FakeWriter, 1);

    self->name = g_strdup(name);
    self->script = script_ref(script);
    self->n_components = n_components;
    self->declared = kvss_component_new(name, name);
    self->flags = g_hash_table_new(NULL, NULL);
    g_mutex_init(&self->lock);
    self->ops = fake_ops;
    self->ops.friendly_name = self->name;
    kvss_writer_init(&self->writer, &self->ops, "fake");
    return &self->writer;
}

void
fake_writer_be_vm_writer(KvssWriter *writer)
{
    ((FakeWriter *) writer)->ops.class_id = KVSS_VM_WRITER_CLASS_ID;
}

void
fake_writer_add_file_set(KvssWriter *writer, const char *path, const char *filespec,
                         bool is_recursive, bool is_stable)
{
    kvss_component_add_file_set(((FakeWriter *) writer)->declared, path, filespec, is_recursive)
        ->is_stable = is_stable;
}
