/*
 * loss.h - what a backup has lost, for people and as JSON
 */
#pragma once

#include "catalogue/catalogue.h"

#include <json-glib/json-glib.h>

/**
 * kvss_loss_text:
 * @backup: (nullable) the backup whose it is, when it can be read
 *
 * "VM web, disk vda: bytes 65536 to 131071 (64.0 KiB) are lost". Free with g_free.
 */
char *kvss_loss_text(const KvssLoss *loss, const KvssBackup *backup);

/** backup, vm, uuid, disk, path, folder, bytes, ranges (pairs), more. (transfer full) */
JsonObject *kvss_loss_json(const KvssLoss *loss, const KvssBackup *backup);

/** The losses of a backup, as above. (transfer full) */
JsonArray *kvss_losses_json(const KvssBackup *backup);

/** The names of the VMs hit, each once, NULL-terminated; (element-type utf8), owned. */
GPtrArray *kvss_loss_vms(const KvssLoss *loss, const KvssBackup *backup);

/** The one of @backups (element-type KvssBackup, nullable) with this whole id; NULL: it cannot be read. Borrowed. */
const KvssBackup *kvss_loss_backup(const GPtrArray *backups, const char *snapshot_id);
