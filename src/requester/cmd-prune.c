/*
 * cmd-prune.c - kvss prune: frees what no backup needs
 */
#include "requester/output.h"
#include "requester/progress.h"
#include "requester/prune-run.h"

#include <string.h>

#define MAX_UNUSED_PERCENT 5 /* restic's default: the rest costs more to write anew than it frees */

static bool
parse_max_unused(const char *text, KvssPruneOptions *prune, GError **error)
{
    prune->max_unused_percent = -1;
    if (strcmp(text, "unlimited") == 0) {
        prune->max_unused_bytes = UINT64_MAX;
        return true;
    }
    if (g_str_has_suffix(text, "%"))
        return kvss_options_parse_percent(text, &prune->max_unused_percent, error);
    return kvss_options_parse_size(text, &prune->max_unused_bytes, error);
}

static bool
read_options(const KvssOptions *options, KvssPruneOptions *prune, GError **error)
{
    *prune = (KvssPruneOptions) {
        .dry_run = options->dry_run,
        .may_empty = options->allow_remove_all,
        .max_unused_percent = MAX_UNUSED_PERCENT,
        .max_repack_bytes = UINT64_MAX,
    };
    if (options->max_unused && !parse_max_unused(options->max_unused, prune, error)) {
        g_prefix_error(error, "--max-unused: ");
        return false;
    }
    if (options->max_repack
        && !kvss_options_parse_size(options->max_repack, &prune->max_repack_bytes, error)) {
        g_prefix_error(error, "--max-repack: ");
        return false;
    }
    return true;
}

bool
kvss_prune_check_usage(KvssRequester *requester, GError **error)
{
    KvssPruneOptions prune;

    return read_options(requester->options, &prune, error);
}

static void
on_progress(const char *step, uint64_t done, uint64_t total, gpointer data)
{
    kvss_progress_update(data, step, NULL, NULL, done, total);
}

/* ---- the result ---- */

static void
print_json(const KvssPruneResult *result, bool dry_run, double seconds)
{
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        { "backups", result->snapshots },
        { "blobs_used", result->blobs_used },
        { "blobs_unused", result->blobs_unused },
        { "blobs_duplicate", result->blobs_duplicate },
        { "packs", result->packs },
        { "packs_removed", result->packs_removed },
        { "packs_repacked", result->packs_repacked },
        { "packs_unknown", result->packs_unknown },
        { "packs_missing", result->packs_missing },
        { "bytes", result->bytes },
        { "bytes_repacked", result->bytes_repacked },
        { "bytes_freed", result->bytes_freed },
        { "bytes_unused", result->bytes_unused },
        { "indexes_removed", result->indexes_removed },
        { "indexes_written", result->indexes_written },
    };
    JsonObject *object = json_object_new();

    kvss_set_text(object, "type", "summary");
    json_object_set_boolean_member(object, "dry_run", dry_run);
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
        json_object_set_int_member(object, numbers[i].name, (gint64) numbers[i].value);
    kvss_set_seconds(object, "seconds", seconds);
    kvss_print_json_object(object);
}

static void
print_text(const KvssPruneResult *result, bool dry_run, double seconds)
{
    g_autofree char *bytes = kvss_size_text(result->bytes);
    g_autofree char *repacked = kvss_size_text(result->bytes_repacked);
    g_autofree char *freed = kvss_size_text(result->bytes_freed);
    g_autofree char *unused = kvss_size_text(result->bytes_unused);
    const char *would = dry_run ? "would be " : "";
    uint64_t gone = result->packs_removed + result->packs_unknown;

    kvss_print("%" G_GUINT64_FORMAT " backup%s need%s %" G_GUINT64_FORMAT " blobs; %"
               G_GUINT64_FORMAT " are unused, %" G_GUINT64_FORMAT " there twice\n",
               result->snapshots, result->snapshots == 1 ? "" : "s",
               result->snapshots == 1 ? "s" : "", result->blobs_used, result->blobs_unused,
               result->blobs_duplicate);
    kvss_print("of %" G_GUINT64_FORMAT " packs with %s: %" G_GUINT64_FORMAT " %sremoved whole",
               result->packs, bytes, gone, would);
    if (result->packs_unknown)
        kvss_print(" (%" G_GUINT64_FORMAT " in no index)", result->packs_unknown);
    kvss_print(", of %" G_GUINT64_FORMAT " what is needed %swritten anew (%s)\n",
               result->packs_repacked, would, repacked);
    if (result->packs_missing)
        kvss_print("%" G_GUINT64_FORMAT " packs that the index names are missing, and nobody "
                   "needs them\n", result->packs_missing);
    kvss_print("%sfreed: %s; unused and left: %s; %.1f s\n", would, freed, unused, seconds);
}

int
kvss_prune_run(KvssRequester *requester, KvssRepository *repository, const char *const *without,
               GError **error)
{
    const KvssOptions *options = requester->options;
    g_autoptr(KvssProgress)
        progress = kvss_progress_new(options->json, options->quiet, options->verbose);
    gint64 start_us = g_get_monotonic_time();
    KvssPruneResult result;
    KvssPruneOptions prune;
    double seconds;

    if (!read_options(options, &prune, error))
        return -1;
    prune.without = without;
    prune.progress = on_progress;
    prune.data = progress;
    prune.cancellable = requester->cancellable;
    if (!kvss_repository_prune(repository, &prune, &result, error)) {
        g_prefix_error(error, "prune: ");
        return -1;
    }
    g_clear_pointer(&progress, kvss_progress_free);
    seconds = (double) (g_get_monotonic_time() - start_us) / G_USEC_PER_SEC;
    if (options->json)
        print_json(&result, options->dry_run, seconds);
    else if (!options->quiet || options->dry_run)
        print_text(&result, options->dry_run, seconds);
    return KVSS_EXIT_DONE;
}

int
kvss_cmd_prune(KvssRequester *requester, GError **error)
{
    KvssRepositoryMode mode
        = requester->options->dry_run ? KVSS_REPOSITORY_LOOK : KVSS_REPOSITORY_REMOVE;
    g_autoptr(KvssRepository) repository = NULL;

    if (!kvss_prune_check_usage(requester, error)
        || !kvss_requester_recover(requester, false, error))
        return -1;
    repository = kvss_requester_open_repository(requester, mode, error);
    return repository ? kvss_prune_run(requester, repository, NULL, error) : -1;
}
