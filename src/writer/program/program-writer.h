/*
 * program-writer.h - a writer that is an executable of the host's administrator
 *
 * Each executable in a folder is one writer. It gets every event that the coordinator
 * sends, answers Identify with its components, and can veto. It needs no C, and it is
 * run as the user that kvss is: see host/program.h for who may have written it.
 *
 * In a run with a journal there is an act from PrepareForBackup on, so that the program
 * is told "abort" when kvss dies, and the guardian tells it when kvss hangs.
 *
 * Source: docs/writers.md.
 */
#pragma once

#include "writer/writer.h"

/** How long the guardian lets it hold its data, in a run with a journal. */
typedef struct {
    unsigned prepared_ms; /* from PrepareForSnapshot on */
    unsigned frozen_ms;   /* from Freeze on */
} KvssProgramWriterLimits;

/** The table's limits and a minute for what comes between. */
#define KVSS_PROGRAM_PREPARED_LIMIT_MS 660000u
#define KVSS_PROGRAM_FROZEN_LIMIT_MS 60000u

/**
 * kvss_program_writer_new:
 * @path: absolute; its last part is the writer's name until Identify, and stands in
 *     front of the names of its components for good: "sqlite:inventory"
 * @limits: (nullable) copied
 *
 * What the program says by its end: 0 is yes. 1 and whatever is not named here:
 * VSS_E_WRITERERROR_NONRETRYABLE. 65: INCONSISTENTSNAPSHOT. 71: OUTOFRESOURCES.
 * 75: RETRYABLE. 124: TIMEOUT. A signal, and an answer that is none: NONRETRYABLE. The last
 * line of its standard error is the message.
 */
KvssWriter *kvss_program_writer_new(const char *path, const KvssProgramWriterLimits *limits);

/** Called for each file that is not run, with the reason. */
typedef void (*KvssProgramRefused)(const char *reason, gpointer data);

/**
 * kvss_program_writers_find:
 * @folder: absolute
 *
 * The paths of the programs in @folder, by name; hidden files, and names with anything
 * but letters, digits, '.', '_' and '-', are refused like files that may not be run.
 * Errors: KVSS_IO_ERROR_NOT_FOUND (no such folder), others: could not look.
 * Returns: (transfer full) (element-type filename)
 */
GPtrArray *kvss_program_writers_find(const char *folder, KvssProgramRefused refused, gpointer data,
                                     GError **error);
