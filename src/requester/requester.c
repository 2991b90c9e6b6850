/*
 * requester.c - what the commands share: the repository, the host, the coordinator
 */
#include "requester/requester.h"
#include "catalogue/catalogue.h"
#include "guardian/recovery.h"
#include "host/connection.h"
#include "provider/files/files-provider.h"
#include "provider/qemu/qemu-provider.h"
#include "requester/output.h"
#include "vss/documents.h"
#include "writer/domain/vm-writer.h"

#include <string.h>

static KvssExit
repository_exit_code(int code)
{
    switch ((KvssRepositoryError) code) {
    case KVSS_REPOSITORY_ERROR_MISSING:
    case KVSS_REPOSITORY_ERROR_FORMAT:
    case KVSS_REPOSITORY_ERROR_UNSUPPORTED:
        return KVSS_EXIT_REPOSITORY;
    case KVSS_REPOSITORY_ERROR_PASSWORD:
        return KVSS_EXIT_PASSWORD;
    case KVSS_REPOSITORY_ERROR_LOCKED:
        return KVSS_EXIT_LOCKED;
    case KVSS_REPOSITORY_ERROR_CORRUPT:
        return KVSS_EXIT_DAMAGED;
    case KVSS_REPOSITORY_ERROR_NOT_FOUND:
    case KVSS_REPOSITORY_ERROR_EXISTS:
    case KVSS_REPOSITORY_ERROR_NO_SPACE:
    case KVSS_REPOSITORY_ERROR_AMBIGUOUS:
    case KVSS_REPOSITORY_ERROR_REFUSED:
        break;
    }
    return KVSS_EXIT_FAILED;
}

static KvssExit
usage_exit_code(int code)
{
    switch ((KvssUsageError) code) {
    case KVSS_USAGE_ERROR_WRONG:
    case KVSS_USAGE_ERROR_NOT_YET:
        return KVSS_EXIT_USAGE;
    case KVSS_USAGE_ERROR_PASSWORD:
        return KVSS_EXIT_PASSWORD;
    case KVSS_USAGE_ERROR_CONFIG:
    case KVSS_USAGE_ERROR_REFUSED:
        break;
    }
    return KVSS_EXIT_FAILED;
}

KvssExit
kvss_exit_code(const GError *error)
{
    if (error->domain == KVSS_USAGE_ERROR)
        return usage_exit_code(error->code);
    if (error->domain == KVSS_REPOSITORY_ERROR)
        return repository_exit_code(error->code);
    if (g_error_matches(error, KVSS_CATALOGUE_ERROR, KVSS_CATALOGUE_ERROR_CORRUPT))
        return KVSS_EXIT_DAMAGED;
    if (error->domain == KVSS_DOCUMENT_ERROR)
        return KVSS_EXIT_DAMAGED;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED))
        return KVSS_EXIT_INTERRUPTED;
    return KVSS_EXIT_FAILED;
}

/* ---- the repository ---- */

const char *
kvss_requester_repository(KvssRequester *requester, GError **error)
{
    const char *repository = kvss_config_repository(requester->config, requester->options);

    if (!repository)
        kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                   "no repository: give -r REPO, set KVSS_REPOSITORY, or put it into the "
                   "configuration");
    return repository;
}

/*
 * A backup waits by itself: it is mostly nobody's to try again by hand, and no
 * guest has been touched yet. An hour is more than a prune of a repository takes
 * that is pruned now and then, and less than the time to the next nightly run.
 */
#define BACKUP_WAIT_MS (60 * 60 * 1000)

static uint64_t
lock_wait_ms(const KvssRequester *requester, KvssRepositoryMode mode)
{
    uint64_t ms = mode == KVSS_REPOSITORY_ADD ? BACKUP_WAIT_MS : 0;

    if (requester->options->retry_lock
        && !kvss_options_parse_wait(requester->options->retry_lock, &ms, NULL))
        return 0; /* what makes no sense was refused when the options were read */
    return ms;
}

static void
say_waiting(const GError *in_the_way, gpointer data)
{
    const KvssLockWait *wait = data;

    kvss_say("%s; waiting, for up to %" G_GUINT64_FORMAT " s", in_the_way->message,
             wait->limit_ms / 1000);
}

void
kvss_requester_name_repository(const char *location, const char *word, GError **error)
{
    g_autofree char *text = kvss_repository_location_text(location);

    if (error && !strstr((*error)->message, text))
        g_prefix_error(error, "%s%s: ", word, text);
}

KvssRepository *
kvss_requester_open_repository(KvssRequester *requester, KvssRepositoryMode mode, GError **error)
{
    const KvssConfig *config = requester->config;
    const char *location = kvss_requester_repository(requester, error);
    KvssLockWait wait = {
        .limit_ms = lock_wait_ms(requester, mode),
        .cancellable = requester->cancellable,
        .begin = requester->options->quiet ? NULL : say_waiting,
        .data = &wait,
    };
    KvssRepository *repository;
    char *password;

    if (!location)
        return NULL;
    password = kvss_config_password(config, requester->options, false, true,
                                    requester->cancellable, error);
    if (!password)
        return NULL;
    repository = kvss_repository_open_patiently(location, password, mode, config->cache_dir,
                                                config->state_dir, &wait, error);
    kvss_config_password_free(password);
    if (!repository)
        kvss_requester_name_repository(location, "repository ", error);
    return repository;
}

/* ---- the host ---- */

struct KvssHost *
kvss_requester_open_host(KvssRequester *requester, GError **error)
{
    return kvss_host_open(kvss_config_uri(requester->options), error);
}

bool
kvss_requester_check_local(KvssRequester *requester, GError **error)
{
    const char *uri = kvss_config_uri(requester->options);
    /* Read as a URI and not asked of libvirt: doctor must work while it is down. */
    g_autoptr(GUri)
        parsed = g_uri_parse(uri, G_URI_FLAGS_NON_DNS | G_URI_FLAGS_PARSE_RELAXED, NULL);
    const char *server = parsed ? g_uri_get_host(parsed) : NULL;

    if (!server || !*server)
        return true;
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_REFUSED,
                      "%s is another machine: run 'kvss %s' on %s itself", uri,
                      requester->command->name, server);
}

static void
say_each(const GPtrArray *phrases, const char *before)
{
    for (guint i = 0; phrases && i < phrases->len; i++)
        kvss_say("%s: %s", before, (const char *) g_ptr_array_index(phrases, i));
}

bool
kvss_requester_recover(KvssRequester *requester, bool must, GError **error)
{
    g_autoptr(GError) trouble = NULL;
    KvssRecoveryReport report = { 0 };

    if (!kvss_recovery_run(requester->config->state_dir, false,
                           must ? KVSS_RECOVERY_WAIT_S : KVSS_RECOVERY_WAIT_SHORT_S, &report,
                           &trouble)) {
        if (must) {
            g_propagate_prefixed_error(error, g_steal_pointer(&trouble), "recovery: ");
            return false;
        }
        g_warning("recovery: %s", trouble->message);
        return true;
    }
    say_each(report.undone, "undone, left by an interrupted run");
    say_each(report.left, "left by an interrupted run, needs a person");
    kvss_recovery_report_clear(&report);
    return true;
}

/* ---- the coordinator ---- */

char **
kvss_requester_method_vms(KvssRequester *requester)
{
    g_autoptr(GStrvBuilder) vms = g_strv_builder_new();

    for (const char *const *wish = kvss_options_list(requester->options->method); *wish; wish++) {
        g_autofree char *vm = NULL;
        const char *method;

        if (kvss_options_split_method(*wish, &vm, &method, NULL) && vm)
            g_strv_builder_add(vms, vm);
    }
    return g_strv_builder_end(vms);
}

/* --method M and --method VM=M, each as often as wanted; the last word counts. */
static bool
read_methods(KvssRequester *requester, KvssVmWriterOptions *options, GError **error)
{
    for (const char *const *wish = kvss_options_list(requester->options->method); *wish; wish++) {
        char *vm = NULL;
        const char *method;

        if (!kvss_options_split_method(*wish, &vm, &method, error))
            return false;
        if (vm) {
            g_hash_table_insert(options->method_of, vm, g_strdup(method));
        } else {
            options->method = method;
            options->method_by = "--method";
        }
    }
    return true;
}

static bool
check_provider(const char *provider, GError **error)
{
    if (!provider || strcmp(provider, "qemu") == 0 || strcmp(provider, "auto") == 0)
        return true;
    if (strcmp(provider, "btrfs") == 0 || strcmp(provider, "reflink") == 0)
        return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_NOT_YET,
                          "provider %s is not there yet", provider);
    return kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_WRONG,
                      "there is no provider '%s': it is qemu or auto", provider);
}

bool
kvss_requester_check_options(KvssRequester *requester, GError **error)
{
    g_autoptr(GHashTable) of = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    KvssVmWriterOptions options = { .method_of = of };

    return check_provider(requester->options->provider, error) &&
           read_methods(requester, &options, error);
}

KvssCoordinator *
kvss_requester_new_coordinator(KvssRequester *requester, struct KvssHost *host,
                               const char *const *names, GError **error)
{
    const KvssOptions *given = requester->options;
    const KvssConfig *config = requester->config;
    g_autoptr(GHashTable) of = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    KvssVmWriterOptions options = {
        .method = config->method,
        .method_by = "the configuration",
        .method_of = of,
        .method_of_by = "--method",
        .snapshot_dir = given->snapshot_dir ? given->snapshot_dir : config->snapshot_dir,
        .strict_conditions = given->strict_conditions,
        .freeze_limit_ms = config->freeze_limit_ms,
    };
    KvssCoordinator *coordinator;
    KvssWriter *writer;

    if (!read_methods(requester, &options, error))
        return NULL;
    writer = kvss_vm_writer_new(host, &options);
    if (names)
        kvss_vm_writer_limit_to(writer, names);
    coordinator = kvss_coordinator_new();
    kvss_coordinator_set_limits(coordinator, &config->limits);
    kvss_coordinator_take_writer(coordinator, writer);
    kvss_coordinator_take_provider(coordinator, kvss_qemu_provider_new());
    kvss_coordinator_take_provider(coordinator, kvss_files_provider_new(NULL));
    kvss_coordinator_set(coordinator)->cancellable = requester->cancellable;
    if (given->provider && strcmp(given->provider, "auto") != 0)
        kvss_coordinator_demand_provider(coordinator, given->provider);
    return coordinator;
}

void
kvss_requester_note_failure(KvssRequester *requester, KvssCoordinator *coordinator)
{
    const GPtrArray *components = kvss_coordinator_set(coordinator)->components;

    requester->has_set = true;
    requester->failure = kvss_coordinator_failure(coordinator);
    for (guint i = 0; i < components->len; i++) {
        const KvssComponent *component = g_ptr_array_index(components, i);

        if (component->failure == KVSS_S_OK)
            continue;
        requester->failure = component->failure;
        kvss_set_string(&requester->failed_vm, component->display_name);
        return;
    }
}
