/*
 * fixture.h - a coordinator with fakes on both sides
 */
#pragma once

#include "coordinator/coordinator.h"
#include "provider/fake/fake-provider.h"
#include "writer/fake/fake-writer.h"

#define FIXTURE_MAX 2

typedef struct {
    KvssCoordinator *c;      /* NULL after fixture_end() */
    KvssSnapshotSet *set;
    GCancellable *user;      /* the requester's */
    KvssLimits limits;       /* change, then fixture_apply_limits() */
    guint n_writers, n_components, n_providers; /* components: of the first writer */

    KvssWriter *writer[FIXTURE_MAX]; /* "web", "db"; valid while c is */
    Script *writer_script[FIXTURE_MAX];
    KvssProvider *provider[FIXTURE_MAX]; /* one: "any"; two: "left" for vda, "right" for vdb */
    Script *provider_script[FIXTURE_MAX];
} Fixture;

Fixture *fixture_new(guint n_writers, guint n_components, guint n_providers);

/** The same, with as many components for each writer as @n_components says. */
Fixture *fixture_new_uneven(guint n_writers, const guint *n_components, guint n_providers);

/** Ends the coordinator, lets every stuck call come back, and frees. */
void fixture_free(Fixture *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

void fixture_apply_limits(Fixture *f);

/** Gather, and select every component that is there. */
bool fixture_select_all(Fixture *f, GError **error);

/** From gather to the end of @last: a whole backup is KVSS_PHASE_COMPLETE. */
bool fixture_backup(Fixture *f, KvssPhase last, GError **error);

/** Frees the coordinator; stuck threads are left. */
void fixture_end(Fixture *f);

/**
 * Ends every stall and waits until all fakes are freed. After fixture_end(). What every
 * writer saw must obey the rules of Abort and BackupShutdown.
 */
void fixture_settle(Fixture *f);

/** What is held by all fakes together. */
guint fixture_held(Fixture *f);
