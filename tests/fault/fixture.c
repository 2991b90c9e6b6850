/*
 * fixture.c - a coordinator with fakes on both sides
 */
#include "fixture.h"

#include <string.h>

Fixture *
fixture_new(guint n_writers, guint n_components, guint n_providers)
{
    const guint each[FIXTURE_MAX] = { n_components, n_components };

    return fixture_new_uneven(n_writers, each, n_providers);
}

Fixture *
fixture_new_uneven(guint n_writers, const guint *n_components, guint n_providers)
{
    static const char *const writer_names[] = { "web", "db" };
    static const char *const provider_names[] = { "left", "right" };
    static const char *const targets[] = { "vda", "vdb" };
    Fixture *f = g_new0(Fixture, 1);

    f->c = kvss_coordinator_new();
    f->set = kvss_coordinator_set(f->c);
    f->user = g_cancellable_new();
    f->set->cancellable = f->user;
    f->limits = kvss_limits_default();
    f->n_writers = n_writers;
    f->n_components = n_components[0];
    f->n_providers = n_providers;

    for (guint i = 0; i < n_writers; i++) {
        f->writer_script[i] = script_new();
        f->writer[i] = fake_writer_new(f->writer_script[i], writer_names[i], n_components[i]);
        kvss_coordinator_take_writer(f->c, f->writer[i]);
    }
    for (guint i = 0; i < n_providers; i++) {
        bool alone = n_providers == 1;

        f->provider_script[i] = script_new();
        f->provider[i] = fake_provider_new(f->provider_script[i],
                                           alone ? "any" : provider_names[i],
                                           alone ? NULL : targets[i]);
        kvss_coordinator_take_provider(f->c, f->provider[i]);
    }
    return f;
}

void
fixture_apply_limits(Fixture *f)
{
    kvss_coordinator_set_limits(f->c, &f->limits);
}

void
fixture_end(Fixture *f)
{
    g_clear_pointer(&f->c, kvss_coordinator_free);
    f->set = NULL;
}

/*
 * Whatever happened: BackupShutdown exactly once to whoever took part in a set and last
 * of all, never in a restore; no Abort after PostSnapshot, none in a restore.
 */
static void
check_rules(Script *script)
{
    g_autofree char *history = script_history(script);
    const char *post_snapshot = strstr(history, "PostSnapshot");
    bool is_restore = script_count(script, "PreRestore") > 0;
    guint shutdowns = script_count(script, "BackupShutdown");

    g_assert_cmpuint(shutdowns, <=, 1);
    if (script_count(script, "PrepareForBackup") > 0)
        g_assert_cmpuint(shutdowns, ==, 1);
    if (shutdowns > 0)
        g_assert_true(g_str_has_suffix(history, "BackupShutdown"));
    if (post_snapshot)
        g_assert_null(strstr(post_snapshot, "Abort"));
    if (is_restore)
        g_assert_cmpuint(script_count(script, "Abort") + shutdowns, ==, 0);
}

/* All of them first: one stuck call keeps every fake of the coordinator. */
void
fixture_settle(Fixture *f)
{
    g_assert_null(f->c);
    for (guint i = 0; i < f->n_writers; i++)
        script_release(f->writer_script[i]);
    for (guint i = 0; i < f->n_providers; i++)
        script_release(f->provider_script[i]);

    for (guint i = 0; i < f->n_writers; i++)
        g_assert_true(script_wait_freed(f->writer_script[i]));
    for (guint i = 0; i < f->n_providers; i++)
        g_assert_true(script_wait_freed(f->provider_script[i]));
    for (guint i = 0; i < f->n_writers; i++)
        check_rules(f->writer_script[i]);
}

void
fixture_free(Fixture *f)
{
    fixture_end(f);
    fixture_settle(f);
    for (guint i = 0; i < FIXTURE_MAX; i++) {
        g_clear_pointer(&f->writer_script[i], script_unref);
        g_clear_pointer(&f->provider_script[i], script_unref);
    }
    g_object_unref(f->user);
    g_free(f);
}

bool
fixture_select_all(Fixture *f, GError **error)
{
    if (!kvss_coordinator_gather(f->c, error))
        return false;
    for (guint i = 0; i < f->n_writers; i++) {
        KvssWriter *writer = f->writer[i];

        for (guint k = 0; k < writer->components->len; k++) {
            const KvssComponent *component = g_ptr_array_index(writer->components, k);

            if (!kvss_coordinator_select(f->c, component->name, error))
                return false;
        }
    }
    return true;
}

bool
fixture_backup(Fixture *f, KvssPhase last, GError **error)
{
    if (!fixture_select_all(f, error))
        return false;
    if (last >= KVSS_PHASE_PREPARE && !kvss_coordinator_prepare_for_backup(f->c, error))
        return false;
    if (last >= KVSS_PHASE_SNAPSHOT && !kvss_coordinator_do_snapshot_set(f->c, error))
        return false;
    return last < KVSS_PHASE_COMPLETE || kvss_coordinator_backup_complete(f->c, error);
}

guint
fixture_held(Fixture *f)
{
    guint held = 0;

    for (guint i = 0; i < f->n_writers; i++)
        held += script_held(f->writer_script[i]);
    for (guint i = 0; i < f->n_providers; i++)
        held += script_held(f->provider_script[i]);
    return held;
}
