/*
 * kvss.h - all of the library: for requesters, writers and providers
 *
 * Each header can be included by itself as well. What is promised of them, and a
 * way in: docs/library.md.
 */
#pragma once

/* For all three. */
#include <kvss/base/error.h>
#include <kvss/vss/vss.h>
#include <kvss/vss/component.h>
#include <kvss/vss/snapshot-set.h>
#include <kvss/vss/documents.h>

/* To write a writer, or to use the one for virtual machines. */
#include <kvss/writer/writer.h>
#include <kvss/writer/domain/vm-writer.h>

/* To write a provider, or to use QEMU's. */
#include <kvss/provider/provider.h>
#include <kvss/provider/files/files-provider.h>
#include <kvss/provider/qemu/qemu-provider.h>

/* A requester: one that keeps its backups elsewhere needs no more than these. */
#include <kvss/coordinator/events.h>
#include <kvss/coordinator/coordinator.h>
#include <kvss/guardian/recovery.h>
#include <kvss/guardian/run-life.h>
#include <kvss/host/error.h>
#include <kvss/host/host.h>
#include <kvss/stream/source.h>
#include <kvss/stream/sink.h>
#include <kvss/stream/copy.h>

/* A requester that keeps them as kvss does. */
#include <kvss/repository/repository.h>
#include <kvss/catalogue/manifest.h>
#include <kvss/catalogue/catalogue.h>
#include <kvss/catalogue/summary.h>
#include <kvss/backup/backup.h>
#include <kvss/restore/export.h>
#include <kvss/restore/restore.h>
#include <kvss/serve/serve.h>
