/*
 * fake-provider.h - shadow copies of nothing, for tests
 *
 * BeginPrepareSnapshot takes scratch space, CommitSnapshots makes a shadow copy
 * of each of its disks; the end takes all of it away. script_held() counts both.
 */
#pragma once

#include "provider/provider.h"
#include "vss/fake/script.h"

/**
 * fake_provider_new:
 * @script: (keeps a reference) what goes wrong; a refusal's index counts the set's components
 * @name: unique among providers
 * @target: (nullable) the only disk target it supports; NULL: any
 *
 * A disk's source reads as its component's name and target, "web-0/vda\n", over
 * and over. The script sees "Open" and each "Read" too.
 */
KvssProvider *fake_provider_new(Script *script, const char *name, const char *target);

/** It says that it cuts after the writers' own instants. Before the coordinator takes it. */
void fake_provider_set_needs_auto_recovery(KvssProvider *provider);

/** Other bytes than before: as after a day of work in the guest. */
void fake_provider_set_salt(KvssProvider *provider, guint salt);

/** The bytes that such a source gives, without salt. */
GBytes *fake_provider_content(const KvssComponent *component, const KvssDisk *disk);
