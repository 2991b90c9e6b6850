/*
 * requester.h - the kvss command: asks for backups and restores
 *
 * main() parses, loads the configuration, and calls one command with a
 * KvssRequester. A command prints its result and returns an exit code, or returns
 * -1 with an error, which main() turns into a sentence, a JSON object and a code.
 */
#pragma once

#include "coordinator/coordinator.h"
#include "repository/repository.h"
#include "requester/config.h"
#include "requester/options.h"

struct KvssHost;

/** Documented in kvss(1). Anything unknown is KVSS_EXIT_FAILED. */
typedef enum {
    KVSS_EXIT_DONE = 0,
    KVSS_EXIT_FAILED = 1,      /* nothing kept (backup), nothing changed (restore) */
    KVSS_EXIT_USAGE = 2,
    KVSS_EXIT_REMARK = 3,      /* done, but a person should know something */
    KVSS_EXIT_REPOSITORY = 4,  /* missing or unreadable */
    KVSS_EXIT_PASSWORD = 5,
    KVSS_EXIT_LOCKED = 6,
    KVSS_EXIT_DAMAGED = 7,
    KVSS_EXIT_INTERRUPTED = 130,
} KvssExit;

typedef struct KvssRequester {
    const KvssOptions *options;
    const KvssCommand *command;
    KvssConfig *config;
    GCancellable *cancellable; /* triggered by SIGINT, SIGTERM and a terminal's SIGHUP */

    /* What the error object says beside the message; set by the command that fails. */
    KvssHresult failure;
    char *failed_vm;           /* (nullable) */
    bool has_set;              /* a set or a restore was under way: every failure has a code */
    unsigned writers_refused;  /* files among the host's writers that are not run */
} KvssRequester;

/** The table in main.c. */
extern const KvssCommand kvss_commands[];

/** The exit code that an error stands for. */
KvssExit kvss_exit_code(const GError *error);

/** The repository meant, or a usage error. Borrowed. */
const char *kvss_requester_repository(KvssRequester *requester, GError **error);

/** Puts @word and the location before the message, without its credentials, unless it is named there already. */
void kvss_requester_name_repository(const char *location, const char *word, GError **error);

/** Opens it, with its password; waits for others as --retry-lock says, to add for an hour without it. */
KvssRepository *kvss_requester_open_repository(KvssRequester *requester, KvssRepositoryMode mode,
                                               GError **error);

struct KvssHost *kvss_requester_open_host(KvssRequester *requester, GError **error);

/** For commands that work on QEMU's own files and sockets: refuses a URI of another machine, naming it. */
bool kvss_requester_check_local(KvssRequester *requester, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_requester_recover:
 * @must: a failure to look is an error; otherwise it is a warning
 *
 * What every command does first: undoes what dead runs left, with a line on stderr
 * for each thing undone or left.
 */
bool kvss_requester_recover(KvssRequester *requester, bool must, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Values of --method and --provider: wrong ones are said before anything else is looked at. */
bool kvss_requester_check_options(KvssRequester *requester, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/**
 * kvss_requester_new_coordinator:
 * @names: (nullable) NULL-terminated: Identify looks at these VMs only
 *
 * A coordinator with the VM writer and the providers, by the options given.
 */
KvssCoordinator *kvss_requester_new_coordinator(KvssRequester *requester, struct KvssHost *host,
                                                const char *const *names, GError **error);

/**
 * kvss_requester_take_host_writers:
 * @names: (nullable) as above: what is not named "FILE:COMPONENT" here is not even asked
 *
 * Gives the coordinator the executables of the writers' folder (docs/writers.md), with a
 * line on stderr for each file there that is not run. Before gather. Errors: could not look.
 */
bool kvss_requester_take_host_writers(KvssRequester *requester, KvssCoordinator *coordinator,
                                      const char *const *names, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** After gather: says which writers cannot say what they have. Returns: how many. */
unsigned kvss_requester_say_dropped_writers(KvssCoordinator *coordinator);

/** The VMs named in --method VM=M. Free with g_strfreev. */
char **kvss_requester_method_vms(KvssRequester *requester);

/** Remembers the first failed component of @set for the error object. */
void kvss_requester_note_failure(KvssRequester *requester, KvssCoordinator *coordinator);

/* ---- the commands; each in cmd-NAME.c ---- */

int kvss_cmd_init(KvssRequester *requester, GError **error);
int kvss_cmd_list(KvssRequester *requester, GError **error);
int kvss_cmd_explain(KvssRequester *requester, GError **error);
int kvss_cmd_backup(KvssRequester *requester, GError **error);
int kvss_cmd_restore(KvssRequester *requester, GError **error);
int kvss_cmd_show(KvssRequester *requester, GError **error);
int kvss_cmd_verify(KvssRequester *requester, GError **error);
int kvss_cmd_forget(KvssRequester *requester, GError **error);
int kvss_cmd_prune(KvssRequester *requester, GError **error);
int kvss_cmd_export(KvssRequester *requester, GError **error);
int kvss_cmd_serve(KvssRequester *requester, GError **error);
int kvss_cmd_repair(KvssRequester *requester, GError **error);
int kvss_cmd_key(KvssRequester *requester, GError **error);
int kvss_cmd_doctor(KvssRequester *requester, GError **error);
