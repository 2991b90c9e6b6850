/*
 * job.h - a VM's backup job as a journaled act
 *
 * The one function that begins a job, whoever does it: the VM writer inside the
 * freeze (child-snapshot), the qemu provider at CommitSnapshots (saved-state).
 */
#pragma once

#include "guardian/run.h"

struct KvssComponent;

/** "FOLDER/N": the VM's own part of the work folder, where its socket and scratch files go. */
#define KVSS_JOB_SOCKET_NAME "nbd"

/** The socket that the job of a VM with work folder @folder would serve on. Free with g_free. */
char *kvss_job_socket(const char *folder);

/**
 * kvss_job_begin:
 * @component: its domain and disks; shadow_id, nbd_socket and nbd_export of each are set
 * @folder: the VM's work folder; QEMU can write there
 *
 * Journals, then cuts all of the component's disks in one transaction, and makes the
 * checkpoint of the component's stamp in it. Where the changes since an earlier one cannot
 * be had, or no checkpoint can be made, the cut comes all the same: since, or tracked_by,
 * of the disks is NULL afterwards, and reason says why.
 * Errors: KVSS_HOST_ERROR. Blocks: some 30 ms and 20 ms a disk; 50 ms for the checkpoint.
 */
bool kvss_job_begin(KvssRun *run, struct KvssComponent *component, const char *folder,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_job_track:
 * @component: its stamp, and the disks with tracked_by
 *
 * Journals the checkpoint that kvss_job_begin() is going to make: without a backup it goes.
 * Before a guest is frozen. No stamp, or no such disk: nothing. kvss_run_act_end() of the
 * component's track_act once the backup stands.
 */
bool kvss_job_track(KvssRun *run, struct KvssComponent *component, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Ends the component's job if it has one of ours. Sources on it must be closed. */
bool kvss_job_end(KvssRun *run, struct KvssComponent *component, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
