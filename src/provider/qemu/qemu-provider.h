/*
 * qemu-provider.h - QEMU's own block layer as a provider of shadow copies
 *
 * All disks of a VM are cut in one QEMU transaction, a pull-mode backup job, and
 * served as NBD on a Unix socket. A VM that is off is served read-only by QEMU's
 * tools under the image lock. For child-snapshot the VM writer has begun the job
 * already and the provider adopts it; for saved-state CommitSnapshots begins it.
 */
#pragma once

#include "../provider.h"

G_BEGIN_DECLS

/** Needs nothing: everything is found on the components. */
KvssProvider *kvss_qemu_provider_new(void);

G_END_DECLS
