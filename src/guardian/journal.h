/*
 * journal.h - the acts of one run on disk, in order, each synced before it happens
 *
 * One JSON object a line:
 *
 *   {"run":ID,"version":1,"purpose":"backup","uri":"qemu:///system","pid":123,"time":"..."}
 *   {"act":1,"kind":"freeze","details":{"uuid":"...","name":"web01"}}
 *   {"end":1}
 *   {"claim":"6f1c...","name":"web01"}
 *   {"stays":"0a1b...","why":"writer sqlite ..."}
 *   {"forward":true}
 *
 * The process and its guardian append to it. A last line without its newline
 * was never acknowledged and is not there.
 */
#pragma once

#include "guardian/acts.h"

/**
 * Acts and claims are refused beyond this: some hundred thousand files of a restore. A
 * journal may be read at twice this length: each act's end is shorter than the act.
 */
#define KVSS_JOURNAL_ACTS_MAX (256 * 1024 * 1024)

typedef struct KvssJournal KvssJournal;

/** Makes @folder/@id.journal, exclusive, mode 0600, and locks it. */
KvssJournal *kvss_journal_create(const char *folder, const char *id, const char *purpose,
                                 const char *uri, GError **error);

/** A journal that is already open (the guardian's inherited descriptor). Takes @fd. */
KvssJournal *kvss_journal_from_fd(int fd, const char *path);

/** Opens an existing one; BUSY when its run, or its guardian, holds the lock. */
KvssJournal *kvss_journal_open_dead(const char *path, GError **error);

/** Opens one only to read it, whoever holds it: a live run's journal grows. */
KvssJournal *kvss_journal_open_look(const char *path, GError **error);

/** Does somebody hold the lock of this file? For journals and the sign of life beside them. */
bool kvss_journal_is_held(const char *path);

void kvss_journal_free(KvssJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssJournal, kvss_journal_free)

int kvss_journal_fd(const KvssJournal *journal);
const char *kvss_journal_path(const KvssJournal *journal);

/**
 * Each returns when the line is on disk. Threads: any. Errors: KVSS_IO_ERROR; NO_SPACE also
 * when the journal has its greatest length: then do not act, and what was done can be undone.
 */
bool kvss_journal_write_act(KvssJournal *journal, const KvssAct *act, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_journal_write_end(KvssJournal *journal, uint64_t act, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool kvss_journal_write_forward(KvssJournal *journal, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/**
 * What was restored for this writer stays: no open act with that "writer" (acts.h) is undone
 * any more, by anybody. @why: a sentence for people.
 */
bool kvss_journal_write_stays(KvssJournal *journal, const char *writer, const char *why,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvss_journal_write_claim(KvssJournal *journal, const char *id, const char *name,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** What a journal says. */
typedef struct {
    char *id, *purpose, *uri;
    gint64 pid;
    gint64 start_us; /* since 1970; 0: not told */
    bool is_forward;
    GPtrArray *open; /* (element-type KvssAct) acts without an end, in the order they began */
    GPtrArray *stays; /* (element-type char*) what was restored for a writer and stays, and why */
    GPtrArray *claims; /* (element-type char*) ids of what no other run may use meanwhile */
} KvssJournalContent;

/** A line that is no JSON, or of an unknown kind, is KVSS_IO_ERROR_CORRUPT: better a person looks. */
bool kvss_journal_read(KvssJournal *journal, KvssJournalContent *out, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void kvss_journal_content_clear(KvssJournalContent *content);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvssJournalContent, kvss_journal_content_clear)

/** True if one of the open acts needs libvirt. */
bool kvss_journal_needs_host(const KvssJournalContent *content);

/** The member "time" of a header or of an act's details, since 1970; 0: not told. */
gint64 kvss_journal_time(JsonObject *object);

/**
 * kvss_journal_alive_path:
 * @path: of a journal
 *
 * The file beside it that is flock()ed by the run's own process alone, while the
 * journal's lock is shared with the guardian: tells a run from a guardian that
 * cleans up after one. Free with g_free.
 */
char *kvss_journal_alive_path(const char *path);

/** Removes the file and the sign of life beside it. The run is over. */
bool kvss_journal_remove(KvssJournal *journal, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/** Called for each act: undone (@problem NULL) or not. One at a time for a journal, in several threads. */
typedef void (*KvssUndoTold)(const KvssAct *act, bool forward, const GError *problem,
                             gpointer data);

/**
 * kvss_journal_undo:
 * @host: (nullable) where acts need libvirt
 * @patience_s: how long to wait for a guest that does not answer
 * @skip: (nullable) ids (as pointers) of acts to leave open
 * @told: (nullable)
 *
 * Undoes what is open, most urgent first, then last first; or, after the point
 * of no return, completes it. Ends each act that worked. Acts apart are left to
 * kvss_journal_start_apart(). True if nothing else is left; a writer that does not stop
 * (kvss_act_is_stop) is told of as a problem, and what was restored for it stays.
 */
bool kvss_journal_undo(KvssJournal *journal, KvssHost *host, unsigned patience_s,
                       GHashTable *skip, KvssUndoTold told, gpointer data, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_journal_settle:
 * @host: (nullable) then nothing is done
 *
 * Before the first kvss_journal_undo() for a process that has died: what it asked libvirt
 * for last may be carried out only now, and after the undo nobody would look again. Guests
 * do not wait: what they feel is undone at once, and is looked at again by the undo. Blocks:
 * about a second, longer for guests that do not answer; see kvss_host_settle().
 */
void kvss_journal_settle(KvssJournal *journal, KvssHost *host, unsigned patience_s);

typedef struct KvssApart KvssApart;

/**
 * kvss_journal_start_apart:
 * @skip: (nullable) as above; looked at before this returns only
 *
 * Begins to undo the open acts that are apart (acts.h), in threads of their own.
 * What they are told by must live until kvss_apart_wait().
 */
KvssApart *kvss_journal_start_apart(KvssJournal *journal, GHashTable *skip, KvssUndoTold told,
                                    gpointer data);

/** Waits for the end of it, and frees. True if none of them is left. */
bool kvss_apart_wait(KvssApart *apart, GError **error) G_GNUC_WARN_UNUSED_RESULT;
