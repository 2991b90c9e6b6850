/*
 * fake-writer.h - a writer without anything behind it, for tests
 *
 * It behaves as the VM writer does, only that its VMs are flags: a component
 * stands still from PrepareForSnapshot to PostSnapshot, is frozen from Freeze to
 * Thaw, and is set aside from PreRestore to PostRestore. Abort and BackupShutdown
 * undo all of it. script_held() counts the components of which something is left.
 */
#pragma once

#include "vss/fake/script.h"
#include "writer/writer.h"

/**
 * fake_writer_new:
 * @script: (keeps a reference) what goes wrong
 * @name: the friendly name; its components are NAME-0, NAME-1, ...
 * @n_components: each with the disks vda and vdb of 64 KiB
 */
KvssWriter *fake_writer_new(Script *script, const char *name, guint n_components);

/** It says it is the VM writer. Before gather. */
void fake_writer_be_vm_writer(KvssWriter *writer);

/**
 * fake_writer_add_file_set:
 *
 * Its first component will declare this too, at Identify. With one at least, its
 * components have no disks.
 */
void fake_writer_add_file_set(KvssWriter *writer, const char *path, const char *filespec,
                              bool is_recursive, bool is_stable);
