/*
 * acts.h - what a run does to the world, and how each thing is taken back
 *
 * A table: kind, name in the journal, urgency, undo, forward way. Undo functions
 * may run twice, in any process, at any later time; they touch only what the
 * act's details name and what they recognise as ours.
 */
#pragma once

#include "host/connection.h"

#include <json-glib/json-glib.h>

typedef enum {
    KVSS_ACT_FREEZE,       /* uuid, name, socket (of the job that may hold the agent) */
    KVSS_ACT_STILL,        /* uuid, name: stands still, ran before */
    KVSS_ACT_JOB,          /* uuid, name, socket; for shadows.h: time, provider, attributes, disks */
    KVSS_ACT_MANAGED_SAVE, /* uuid, name, paused: saved by us, to be started again */
    KVSS_ACT_PROCESS,      /* pid, start (clock ticks, /proc/PID/stat field 22) */
    KVSS_ACT_FILE,         /* path: a file that we make; uuid: of the VM that is restored, see kvss_act_vm(); aside: what stood there before, "" if nothing did;
                              becomes (optional): its name, which nothing has, once there is only forward;
                              device, inode: which file it is that we made; folder: a folder, removed if empty;
                              writer (also of KVSS_ACT_ASIDE): of the host, whose file it is */
    KVSS_ACT_FOLDER,       /* path: our work folder, with all in it */
    KVSS_ACT_PROGRAM,      /* name, path, set_id, event, components: a host's writer that may hold its data;
                              event: the one that lets go, see acts-program.h; writer: see kvss_act_is_stop() */
    KVSS_ACT_CHECKPOINT,   /* uuid, name, checkpoint, images (list of paths): made by a backup that is not there yet */
    /* restore; "logs" of the first three: see kvss_act_check_whole() */
    KVSS_ACT_ASIDE,        /* from, to: renamed; place: of both, see place.h; forward: "to" is removed unless keep; memory (with uuid, name, run):
                              it is the VM's managed save image; saved: one that was there before us */
    KVSS_ACT_UNDEFINE,     /* uuid, name, run, xml, autostart, snapshots, checkpoints (lists of XML) */
    KVSS_ACT_STOP,         /* uuid, name, run, prior ("running", "paused"), image: stopped by us; image: where its
                              memory was saved, "" if it was not */
    KVSS_ACT_DEFINE,       /* uuid, name, run, autostart (set by forward): registered by us, with our mark in its metadata */
    KVSS_ACT_LINK,         /* path, target, uuid, disk: a link in the default location, see links.h; only forward makes
                              it, or takes it away if target is "" */
    KVSS_ACT_REWRITE,      /* path: a disk that is written over where it is; see acts-rewrite.h */
    KVSS_ACT_N
} KvssActKind;

/** An act as the journal holds it. */
typedef struct {
    uint64_t id;
    KvssActKind kind;
    JsonObject *details; /* owned */
} KvssAct;

void kvss_act_free(KvssAct *act);

const char *kvss_act_kind_name(KvssActKind kind);
bool kvss_act_kind_from_name(const char *name, KvssActKind *out_kind);

/** "web01 is frozen", for messages. Free with g_free. */
char *kvss_act_describe(const KvssAct *act);

/** 0 is undone first. */
unsigned kvss_act_urgency(const KvssAct *act);
/** True if a guest feels it while it stands: it is frozen, stands still, or writes more slowly. */
bool kvss_act_is_felt(const KvssAct *act);
/**
 * True if the undo is somebody else's program, which takes as long as it likes: it is
 * undone beside the others, and nobody waits for it. Not in a restore: see is_last.
 */
bool kvss_act_is_apart(const KvssAct *act);
/**
 * True if the act may be undone only when all others have been: a writer of the host
 * that is told that a restore was taken back may use its files again at once.
 */
bool kvss_act_is_last(const KvssAct *act);
/**
 * True if the undo asks a writer of the host to stop using restored files, before the old
 * ones come back: acts with the same "writer" in their details wait for its yes. Whoever
 * says no keeps the restored ones: see kvss_journal_write_stays().
 */
bool kvss_act_is_stop(const KvssAct *act);
/** The writer whose files the act is about; "" for none. */
const char *kvss_act_writer(const KvssAct *act);
/**
 * The UUID of the VM that a restore does this act for; "" for none. The acts of one are
 * a stack: where one cannot be undone the earlier ones wait, or the old VM would be
 * registered, or started, with what is left of the new one.
 */
const char *kvss_act_vm(const KvssAct *act);
/** True if the act needs libvirt to be undone. */
bool kvss_act_needs_host(const KvssAct *act);

/**
 * kvss_act_undo:
 * @host: may be NULL where the kind needs none
 * @patience_s: how long to wait for a guest that does not answer
 *
 * True: undone, or there was nothing to undo. Blocks: seconds.
 */
bool kvss_act_undo(const KvssAct *act, KvssHost *host, unsigned patience_s, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** After the point of no return. For kinds without a forward way: does nothing. */
bool kvss_act_forward(const KvssAct *act, KvssHost *host, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
