/*
 * cmd-doctor.c - kvss doctor: find and undo what an interrupted run left
 */
#include "guardian/recovery.h"
#include "requester/output.h"
#include "requester/requester.h"

static JsonArray *
phrases_json(const GPtrArray *phrases)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; phrases && i < phrases->len; i++)
        json_array_add_string_element(array, g_ptr_array_index(phrases, i));
    return array;
}

static void
print_phrases(const GPtrArray *phrases, const char *before)
{
    for (guint i = 0; phrases && i < phrases->len; i++)
        kvss_print("%s: %s\n", before, (const char *) g_ptr_array_index(phrases, i));
}

static void
print_report(const KvssRecoveryReport *report, bool dry_run)
{
    print_phrases(report->found, "found");
    if (!dry_run)
        print_phrases(report->undone, "undone");
    print_phrases(report->left, "needs a person");
    if (report->alive)
        kvss_print("%u run%s of kvss %s at work: left alone\n", report->alive,
                   report->alive == 1 ? "" : "s", report->alive == 1 ? "is" : "are");
    if (report->found->len == 0 && report->left->len == 0)
        kvss_print("nothing was left behind\n");
}

static void
print_report_json(const KvssRecoveryReport *report)
{
    JsonObject *object = json_object_new();

    json_object_set_array_member(object, "found", phrases_json(report->found));
    json_object_set_array_member(object, "undone", phrases_json(report->undone));
    json_object_set_array_member(object, "left", phrases_json(report->left));
    json_object_set_int_member(object, "alive", report->alive);
    kvss_print_json_object(object);
}

/* Locks that dead kvss processes left in repositories, beside what they left on the host. */
static bool
drop_locks(const KvssRequester *requester, bool dry_run, KvssRecoveryReport *report,
           GError **error)
{
    const KvssConfig *config = requester->config;
    unsigned dropped = 0, dropped_remote = 0;

    if (!kvss_repository_drop_stale_locks(config->state_dir, dry_run, &dropped, error)
        || !kvss_repository_drop_remote_locks(config->state_dir,
                                              kvss_config_repository(config, requester->options),
                                              dry_run, &dropped_remote, report->left, error))
        return false;
    dropped += dropped_remote;
    if (dropped == 0)
        return true;
    g_ptr_array_add(report->found,
                    g_strdup_printf("%u lock%s of dead kvss processes in repositories", dropped,
                                    dropped == 1 ? "" : "s"));
    if (!dry_run)
        g_ptr_array_add(report->undone,
                        g_strdup_printf("%u lock%s removed", dropped, dropped == 1 ? "" : "s"));
    return true;
}

int
kvss_cmd_doctor(KvssRequester *requester, GError **error)
{
    bool dry_run = requester->options->dry_run;
    KvssRecoveryReport report = { 0 };
    int code = -1;

    if (!kvss_requester_check_local(requester, error) ||
        !kvss_recovery_run(requester->config->state_dir, dry_run, KVSS_RECOVERY_WAIT_S, &report,
                           error))
        return -1;
    if (drop_locks(requester, dry_run, &report, error)) {
        if (requester->options->json)
            print_report_json(&report);
        else
            print_report(&report, dry_run);
        for (guint i = 0; i < report.left->len; i++)
            kvss_say("needs a person: %s", (const char *) g_ptr_array_index(report.left, i));
        code = report.left->len > 0 ? KVSS_EXIT_REMARK : KVSS_EXIT_DONE;
    }
    kvss_recovery_report_clear(&report);
    return code;
}
