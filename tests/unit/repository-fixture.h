/*
 * repository-fixture.h - a repository in a temporary folder, for unit tests
 */
#pragma once

#include "repository/repository.h"

#define FIXTURE_PASSWORD "correct horse"
#define GOLDEN_PASSWORD "golden"

typedef struct {
    char *dir;               /* all of it, removed at the end */
    char *location;          /* dir/repository */
    char *state, *cache;     /* dir/state, dir/cache */
} Fixture;

/** A new repository; one program makes it once and copies it from then on. */
Fixture *fixture_new(void);

/** A copy of the one that restic wrote: tests/golden/restic-0.14. */
Fixture *fixture_new_golden(void);
void fixture_free(Fixture *fixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

/** Must work. */
KvssRepository *fixture_open(Fixture *fixture, KvssRepositoryMode mode);

/** Bytes that are the same for the same @seed and do not compress. */
GBytes *fixture_noise(uint32_t seed, size_t length);

/** A snapshot of the files @path = @bytes, NULL-terminated, cut into 64 KiB. */
void fixture_backup(Fixture *fixture, char out_id[KVSS_ID_HEX_LENGTH + 1], const char *path,
                    GBytes *bytes, ...) G_GNUC_NULL_TERMINATED;

/** The content of a file in a snapshot, or NULL and the error. */
GBytes *fixture_read(Fixture *fixture, const char *id, const char *path, GError **error);

/** The same from a repository that is open. */
GBytes *fixture_read_open(KvssRepository *repository, const char *id, const char *path,
                          GError **error);

/** The only (or @n-th, in order of name) file of a folder of the repository: "index", "data", ... */
char *fixture_file(Fixture *fixture, const char *folder, unsigned n);
unsigned fixture_count(Fixture *fixture, const char *folder);

/** Changes one byte; negative offsets count from the end. */
void fixture_flip(const char *path, gint64 offset);

void fixture_copy_tree(const char *from, const char *to);
