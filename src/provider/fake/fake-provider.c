/*
 * fake-provider.c - shadow copies of nothing
 */
#include "provider/fake/fake-provider.h"

#include "stream/source.h"

typedef struct {
    KvssProvider provider;
    KvssProviderOps ops; /* its own, for the name */
    char *name, *target;
    Script *script;

    guint salt;

    GMutex lock;         /* abort may come while a step is stuck */
    guint scratch, copies;
} FakeProvider;

static void
change(FakeProvider *self, guint scratch, guint copies)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->lock);

    self->scratch = scratch;
    self->copies = copies;
    script_set_held(self->script, scratch + copies);
}

static guint
count_mine(const FakeProvider *self, const KvssComponent *component)
{
    guint n = 0;

    for (guint i = 0; i < component->disks->len; i++) {
        const KvssDisk *disk = g_ptr_array_index(component->disks, i);

        n += g_strcmp0(disk->provider, self->name) == 0;
    }
    return n;
}

static KvssComponent *
nth_component(const KvssSnapshotSet *set, guint n)
{
    return n < set->components->len ? g_ptr_array_index(set->components, n) : NULL;
}

static bool
refuse(KvssComponent *component, const ScriptAct *act, GError **error)
{
    kvss_component_fail(component, act->code, "cannot be cut");
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED, "%s cannot be cut",
                      component->display_name);
}

/* Goes through the set's components as far as the script lets it. */
static bool
walk(FakeProvider *self, KvssSnapshotSet *set, const ScriptAct *act, guint *out_disks,
     GError **error)
{
    KvssComponent *component;

    *out_disks = 0;
    for (guint i = 0; (component = nth_component(set, i)); i++) {
        if (act->is_refusal && act->index == i)
            return refuse(component, act, error);
        if (act->is_crash && act->index == i)
            return script_die(self->script, error);
        *out_disks += count_mine(self, component);
    }
    return !act->is_crash || script_die(self->script, error);
}

static bool
play(KvssProvider *p, KvssProviderStep step, KvssSnapshotSet *set, GError **error)
{
    FakeProvider *self = (FakeProvider *) p;
    ScriptAct act;
    guint disks;
    bool ok;

    if (!script_play(self->script, kvss_provider_step_name(step),
                     g_atomic_pointer_get(&set->cancellable), &act, error))
        return false;
    if (act.is_lie)
        return true;
    if (step == KVSS_PROVIDER_STEP_BEGIN_PREPARE)
        change(self, 1, 0);
    ok = walk(self, set, &act, &disks, error);
    if (step == KVSS_PROVIDER_STEP_COMMIT)
        change(self, 1, disks); /* also when it fails half-way */
    return ok && script_say(&act, nth_component(set, act.index), error);
}

/* --- the table ---------------------------------------------------------------- */

static bool
fake_is_supported(KvssProvider *p, const KvssComponent *c, const KvssDisk *d, char **out_reason)
{
    FakeProvider *self = (FakeProvider *) p;

    if (!self->target || g_str_equal(self->target, d->target))
        return true;
    *out_reason = g_strdup_printf("cuts %s only", self->target);
    return false;
}

#define STEP(function, step)                                                        \
    static bool function(KvssProvider *p, KvssSnapshotSet *set, GError **error)       \
    {                                                                               \
        return play(p, KVSS_PROVIDER_STEP_##step, set, error);                      \
    }

STEP(fake_begin_prepare, BEGIN_PREPARE)
STEP(fake_end_prepare, END_PREPARE)
STEP(fake_pre_commit, PRE_COMMIT)
STEP(fake_commit, COMMIT)
STEP(fake_post_commit, POST_COMMIT)
STEP(fake_pre_final_commit, PRE_FINAL_COMMIT)
STEP(fake_post_final_commit, POST_FINAL_COMMIT)

static GBytes *
content(const KvssComponent *component, const KvssDisk *disk, guint salt)
{
    g_autofree char *mark = salt ? g_strdup_printf("%s/%s, %u\n", component->name, disk->target, salt)
                                 : g_strdup_printf("%s/%s\n", component->name, disk->target);
    GString *text = g_string_sized_new(disk->size);

    while (text->len < disk->size)
        g_string_append(text, mark);
    g_string_truncate(text, disk->size);
    return g_string_free_to_bytes(text);
}

GBytes *
fake_provider_content(const KvssComponent *component, const KvssDisk *disk)
{
    return content(component, disk, 0);
}

void
fake_provider_set_salt(KvssProvider *provider, guint salt)
{
    ((FakeProvider *) provider)->salt = salt;
}

/* --- a disk of a shadow copy: it is gone when its provider is ----------------- */

typedef struct {
    KvssSource source;
    KvssSource *bytes;
    Script *script;
} FakeSource;

static bool
fake_source_read(KvssSource *source, uint64_t offset, void *buffer, size_t length, GError **error)
{
    FakeSource *self = (FakeSource *) source;
    ScriptAct act;

    return script_play(self->script, "Read", NULL, &act, error)
        && kvss_source_read(self->bytes, offset, buffer, length, error);
}

static void
fake_source_free(KvssSource *source)
{
    FakeSource *self = (FakeSource *) source;

    kvss_source_free(self->bytes);
    script_unref(self->script);
    g_free(self);
}

static const KvssSourceOps fake_source_ops = {
    .read = fake_source_read,
    .free = fake_source_free,
};

static struct KvssSource *
fake_source_new(Script *script, GBytes *bytes)
{
    FakeSource *self = g_new0(FakeSource, 1);

    self->source.ops = &fake_source_ops;
    self->source.size = g_bytes_get_size(bytes);
    self->source.is_parallel = true;
    self->bytes = kvss_source_new_bytes(bytes);
    self->script = script_ref(script);
    return &self->source;
}

static struct KvssSource *
fake_open(KvssProvider *p, KvssComponent *c, KvssDisk *d, GError **error)
{
    FakeProvider *self = (FakeProvider *) p;
    g_autoptr(GBytes) bytes = content(c, d, self->salt);
    ScriptAct act;

    if (!script_play(self->script, "Open", NULL, &act, error) || !script_say(&act, NULL, error))
        return NULL;
    if (self->copies > 0)
        return fake_source_new(self->script, bytes);
    kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND, "there is no shadow copy");
    return NULL;
}

static void
end(KvssProvider *p, const char *event)
{
    FakeProvider *self = (FakeProvider *) p;
    g_autoptr(GError) error = NULL;
    ScriptAct act;

    if (!script_play(self->script, event, NULL, &act, &error) || act.is_lie)
        return;
    if (act.is_crash)
        (void) script_die(self->script, &error);
    else
        change(self, 0, 0);
}

static void
fake_delete_copies(KvssProvider *p, KvssSnapshotSet *set)
{
    end(p, "DeleteSnapshots");
}

static void
fake_abort(KvssProvider *p, KvssSnapshotSet *set)
{
    end(p, "AbortSnapshots");
}

static void
fake_free(KvssProvider *p)
{
    FakeProvider *self = (FakeProvider *) p;

    kvss_provider_clear(p);
    g_mutex_clear(&self->lock);
    g_free(self->name);
    g_free(self->target);
    script_set_freed(self->script);
    script_unref(self->script);
    g_free(self);
}

static const KvssProviderOps fake_ops = {
    .id = "0b5e1d0c-6d3c-4a52-9c5e-4b6a7a6f5a02",
    .version = "1",
    .type = "software",
    .is_supported = fake_is_supported,
    .begin_prepare = fake_begin_prepare,
    .end_prepare = fake_end_prepare,
    .pre_commit = fake_pre_commit,
    .commit = fake_commit,
    .post_commit = fake_post_commit,
    .pre_final_commit = fake_pre_final_commit,
    .post_final_commit = fake_post_final_commit,
    .open = fake_open,
    .delete_copies = fake_delete_copies,
    .abort = fake_abort,
    .free = fake_free,
};

KvssProvider *
fake_provider_new(Script *script, const char *name, const char *target)
{
    FakeProvider *self = g_new0(FakeProvider, 1);

    self->name = g_strdup(name);
    self->target = g_strdup(target);
    self->script = script_ref(script);
    g_mutex_init(&self->lock);
    self->ops = fake_ops;
    self->ops.name = self->name;
    kvss_provider_init(&self->provider, &self->ops);
    return &self->provider;
}

void
fake_provider_set_needs_auto_recovery(KvssProvider *provider)
{
    ((FakeProvider *) provider)->ops.needs_auto_recovery = true;
}
