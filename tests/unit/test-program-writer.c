/*
 * test-program-writer.c - writers that are executables: what they are told, what they
 * may say, what happens when they misbehave
 *
 * The programs are small shell scripts. Each notes what it is told and keeps a file for
 * what it holds; a piece of shell makes it misbehave at one event.
 */
#include "coordinator/coordinator.h"
#include "guardian/run.h"
#include "host/connection.h"
#include "provider/fake/fake-provider.h"
#include "writer/program/program-writer.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLASS_ID "7f0b6c1a-52f1-4c1e-9d7b-0c6f8a3f2d11"

static const char script[] =
    "#!/bin/sh\n"
    "D=${0%/writers/*}\n"
    "cat > $D/input-$1\n"
    "echo \"$1\" >> $D/told\n"
    "case $1 in\n"
    "identify) test -e $D/at-identify || cat $D/identify.json ;;\n"
    "prepare-for-snapshot | freeze | pre-restore) : > $D/held-$1 ;;\n"
    "thaw) rm -f $D/held-freeze ;;\n"
    "post-snapshot) rm -f $D/held-prepare-for-snapshot ;;\n"
    "abort | backup-shutdown | post-restore) rm -f $D/held-* ;;\n"
    "esac\n"
    "test ! -e $D/at-$1 || . $D/at-$1\n"
    "exit 0\n";

typedef struct {
    char *folder;
    char *path;           /* of the program */
    KvssWriter *writer;   /* the coordinator's */
    KvssCoordinator *c;
    KvssSnapshotSet *set;
    KvssLimits limits;
    Script *provider;
} Fixture;

/* ---- files ---- */

static void
put(Fixture *f, const char *name, const char *text, unsigned mode)
{
    g_autofree char *path = g_build_filename(f->folder, name, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_cmpint(g_chmod(path, (int) mode), ==, 0);
}

/* "" when it is not there. Free with g_free. */
static char *
get(Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->folder, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

static void
misbehave(Fixture *f, const char *event, const char *how)
{
    g_autofree char *name = g_strconcat("at-", event, NULL);

    put(f, name, how, 0644);
}

static guint
count_held(Fixture *f)
{
    g_autoptr(GDir) dir = g_dir_open(f->folder, 0, NULL);
    const char *name;
    guint n = 0;

    while ((name = g_dir_read_name(dir)))
        n += g_str_has_prefix(name, "held-");
    return n;
}

static void
remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    (void) g_remove(path);
}

static char *
identify_answer(guint n_components)
{
    GString *text = g_string_new("{\"version\":1,\"name\":\"The test's\",\"id\":\"" CLASS_ID "\","
                                 "\"components\":[");

    for (guint i = 0; i < n_components; i++)
        g_string_append_printf(text, "%s{\"name\":\"c%u\"}", i ? "," : "", i);
    g_string_append(text, "]}");
    return g_string_free(text, FALSE);
}

/* ---- the coordinator ---- */

static Fixture *
fixture_new(guint n_components)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *writers = NULL, *answer = identify_answer(n_components);

    f->folder = g_dir_make_tmp("kvss-program-XXXXXX", NULL);
    writers = g_build_filename(f->folder, "writers", NULL);
    g_assert_cmpint(g_mkdir(writers, 0755), ==, 0);
    f->path = g_build_filename(writers, "test", NULL);
    put(f, "writers/test", script, 0755);
    put(f, "identify.json", answer, 0644);

    f->c = kvss_coordinator_new();
    f->set = kvss_coordinator_set(f->c);
    f->writer = kvss_program_writer_new(f->path, NULL);
    f->provider = script_new();
    f->limits = kvss_limits_default();
    kvss_coordinator_take_writer(f->c, f->writer);
    kvss_coordinator_take_provider(f->c, fake_provider_new(f->provider, "any", NULL));
    return f;
}

static void
fixture_free(Fixture *f)
{
    kvss_coordinator_free(f->c);
    script_unref(f->provider);
    remove_tree(f->folder);
    g_free(f->folder);
    g_free(f->path);
    g_free(f);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

static bool
select_all(Fixture *f, GError **error)
{
    if (!kvss_coordinator_gather(f->c, error))
        return false;
    for (guint i = 0; i < f->writer->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(f->writer->components, i);

        if (!kvss_coordinator_select_component(f->c, component, error))
            return false;
    }
    return true;
}

static bool
backup(Fixture *f, GError **error)
{
    return select_all(f, error) && kvss_coordinator_prepare_for_backup(f->c, error)
           && kvss_coordinator_do_snapshot_set(f->c, error)
           && kvss_coordinator_backup_complete(f->c, error);
}

static bool
restore(Fixture *f, GError **error)
{
    if (!select_all(f, error) || !kvss_coordinator_pre_restore(f->c, error))
        return false;
    for (guint i = 0; i < f->set->components->len; i++)
        ((KvssComponent *) g_ptr_array_index(f->set->components, i))->restore_status = KVSS_RS_ALL;
    return kvss_coordinator_post_restore(f->c, error);
}

static JsonObject *
input(Fixture *f, const char *event, JsonNode **out_root)
{
    g_autofree char *name = g_strconcat("input-", event, NULL);
    g_autofree char *text = get(f, name);

    *out_root = json_from_string(text, NULL);
    g_assert_nonnull(*out_root);
    return json_node_get_object(*out_root);
}

/* ---- a backup and a restore that go well ---- */

static void
test_events(void)
{
    g_autoptr(Fixture) f = fixture_new(2);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *told = NULL;
    const KvssComponent *component;
    JsonObject *object, *first;

    misbehave(f, "prepare-for-backup", "printf '{\"metadata\":{\"c1\":\"kept\"},\"message\":\"hi\"}'");
    g_assert_true(backup(f, &error));
    g_assert_no_error(error);
    (void) kvss_coordinator_abort(f->c);
    told = get(f, "told");
    g_assert_cmpstr(told, ==,
                    "identify\nprepare-for-backup\nprepare-for-snapshot\nfreeze\nthaw\n"
                    "post-snapshot\nbackup-complete\n");
    g_assert_cmpuint(count_held(f), ==, 0);
    g_assert_cmpstr(f->writer->ops->friendly_name, ==, "The test's");
    g_assert_cmpstr(f->writer->ops->class_id, ==, CLASS_ID);

    object = input(f, "freeze", &root);
    g_assert_cmpint(json_object_get_int_member(object, "version"), ==, 1);
    g_assert_cmpstr(json_object_get_string_member(object, "event"), ==, "freeze");
    g_assert_cmpstr(json_object_get_string_member(object, "set_id"), ==, f->set->id);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(object, "all")), ==, 2);
    first = json_array_get_object_element(json_object_get_array_member(object, "components"), 1);
    g_assert_cmpstr(json_object_get_string_member(first, "name"), ==, "c1");
    g_assert_cmpstr(json_object_get_string_member(first, "metadata"), ==, "kept");

    component = g_ptr_array_index(f->writer->components, 1);
    g_assert_cmpstr(component->display_name, ==, "test:c1");
    g_assert_cmpstr(g_ptr_array_index(component->notes, 0), ==, "hi");
    g_assert_cmpfloat(component->freeze_ms, >, 0);
    g_assert_cmpint(component->thawed_us, >=, component->frozen_us);
}

static void
test_shutdown_comes_once(void)
{
    Fixture *f = fixture_new(1);
    g_autofree char *folder = g_strdup(f->folder), *path = NULL, *told = NULL;

    g_assert_true(backup(f, NULL));
    misbehave(f, "backup-shutdown", "cp $D/told ${D}-told");
    fixture_free(f);
    path = g_strconcat(folder, "-told", NULL);
    g_assert_true(g_file_get_contents(path, &told, NULL, NULL));
    g_assert_true(g_str_has_suffix(told, "backup-complete\nbackup-shutdown\n"));
    (void) g_remove(path);
}

static void
test_restore(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *told = NULL;
    JsonObject *object;

    g_assert_true(restore(f, &error));
    told = get(f, "told");
    g_assert_cmpstr(told, ==, "identify\npre-restore\npost-restore\n");
    object = input(f, "post-restore", &root);
    object = json_array_get_object_element(json_object_get_array_member(object, "components"), 0);
    g_assert_cmpstr(json_object_get_string_member(object, "restore_status"), ==, "all");
}

/* It gets four variables, "/", and three descriptors; signals that we ignore it does not. */
static void
test_surroundings(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autofree char *seen = NULL, *expected = NULL;

    g_setenv("KVSS_SECRET", "x", TRUE);
    (void) signal(SIGTERM, SIG_IGN);
    misbehave(f, "freeze",
              "{ pwd; env | grep -v '^_=\\|^PWD=\\|^OLDPWD=\\|^SHLVL=' | sort; ls /proc/self/fd | wc -l;"
              " grep SigIgn /proc/self/status; } > $D/seen");
    g_assert_true(backup(f, NULL));
    (void) signal(SIGTERM, SIG_DFL);
    seen = get(f, "seen");
    /* ls has its folder open beside the three. */
    expected = g_strdup_printf("/\nKVSS_EVENT=freeze\nKVSS_SET_ID=%s\nLANG=C.UTF-8\n"
                               "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
                               "4\nSigIgn:\t0000000000000000\n",
                               f->set->id);
    g_assert_cmpstr(seen, ==, expected);
}

static bool
is_alive(Fixture *f, const char *pid_file)
{
    g_autofree char *pid = get(f, pid_file);
    g_autofree char *stat = NULL, *path = g_strdup_printf("/proc/%s/stat", g_strstrip(pid));

    g_assert_cmpstr(pid, !=, "");
    return g_file_get_contents(path, &stat, NULL, NULL) && !strstr(stat, ") Z ");
}

/* What it leaves behind is ended, but for what made itself a session of its own. */
static void
test_left_behind(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autofree char *holder = NULL;

    misbehave(f, "freeze", "sleep 100 &\necho $! > $D/child\n"
                           "setsid sh -c \"echo \\$\\$ > $D/holder; exec sleep 100\" &\n"
                           "while ! test -s $D/holder; do sleep 0.01; done\n");
    g_assert_true(backup(f, NULL));
    g_assert_false(is_alive(f, "child"));
    g_assert_true(is_alive(f, "holder"));
    holder = get(f, "holder");
    (void) kill((pid_t) g_ascii_strtoll(holder, NULL, 10), SIGKILL);
}

/* ---- everything that can go wrong ---- */

static const struct {
    const char *name, *how;
    KvssHresult code;    /* KVSS_S_OK: the coordinator's verdict on one that hangs */
    const char *message; /* in the set's error */
} faults[] = {
    { "veto", "echo ignored >&2; printf 'no room in the \\033[1mcellar\\n' >&2; exit 75\n",
      KVSS_E_WRITERERROR_RETRYABLE, "test:c0: no room in the  [1mcellar" },
    { "veto-for-good", "exit 1\n", KVSS_E_WRITERERROR_NONRETRYABLE, "test:c0: ended with status 1" },
    { "stall", "exec sleep 600\n", KVSS_S_OK, "no answer within" },
    { "crash", "kill -9 $$\n", KVSS_E_WRITERERROR_NONRETRYABLE, "ended by signal 9 (Killed)" },
    { "two-answers", "echo '{}'; echo '{}'\n", KVSS_E_WRITERERROR_NONRETRYABLE,
      "its answer: byte 3 comes after its end" },
    { "garbage", "echo no JSON\n", KVSS_E_WRITERERROR_NONRETRYABLE, "its answer: " },
    { "flood", "head -c 3000000 /dev/zero\n", KVSS_E_WRITERERROR_NONRETRYABLE,
      "said more than 1048576 bytes" },
};

static const struct {
    const char *name;
    KvssEvent event;
    KvssStepId step;
    KvssWriterState state;
} places[] = {
    { "prepare-for-backup", KVSS_EVENT_PREPARE_FOR_BACKUP, KVSS_STEP_PREPARE_FOR_BACKUP,
      KVSS_WS_FAILED_AT_PREPARE_BACKUP },
    { "prepare-for-snapshot", KVSS_EVENT_PREPARE_FOR_SNAPSHOT, KVSS_STEP_PREPARE_FOR_SNAPSHOT,
      KVSS_WS_FAILED_AT_PREPARE_SNAPSHOT },
    { "freeze", KVSS_EVENT_FREEZE, KVSS_STEP_FREEZE, KVSS_WS_FAILED_AT_FREEZE },
    { "thaw", KVSS_EVENT_THAW, KVSS_STEP_THAW, KVSS_WS_FAILED_AT_THAW },
    { "post-snapshot", KVSS_EVENT_POST_SNAPSHOT, KVSS_STEP_POST_SNAPSHOT,
      KVSS_WS_FAILED_AT_POST_SNAPSHOT },
    { "backup-complete", KVSS_EVENT_BACKUP_COMPLETE, KVSS_STEP_BACKUP_COMPLETE,
      KVSS_WS_FAILED_AT_BACKUP_COMPLETE },
    { "pre-restore", KVSS_EVENT_PRE_RESTORE, KVSS_STEP_PRE_RESTORE, KVSS_WS_FAILED_AT_PRE_RESTORE },
    { "post-restore", KVSS_EVENT_POST_RESTORE, KVSS_STEP_POST_RESTORE,
      KVSS_WS_FAILED_AT_POST_RESTORE },
};

static void
check_codes(Fixture *f, KvssStepId step, KvssHresult expected)
{
    bool in_window = step == KVSS_STEP_FREEZE || step == KVSS_STEP_THAW;
    KvssHresult code;

    (void) kvss_writer_status(f->writer, &code);
    if (expected == KVSS_S_OK)
        expected = in_window ? KVSS_E_WRITERERROR_TIMEOUT : KVSS_E_WRITER_NOT_RESPONDING;
    g_assert_cmphex(code, ==, expected);
}

#define FAULT_LIMIT_MS 400
#define FAULT_LIMIT_MAX_MS (64 * FAULT_LIMIT_MS)

/* Returns: false if the machine was too slow for the limit: the shell had not come to what it lets go. */
static bool
try_fault(guint place, guint fault, guint n_components, guint limit_ms)
{
    g_autoptr(Fixture) f = fixture_new(n_components);
    g_autoptr(GError) error = NULL;
    bool is_restore = places[place].event >= KVSS_EVENT_PRE_RESTORE;

    g_test_message("%s, %s, %u components", places[place].name, faults[fault].name, n_components);
    misbehave(f, places[place].name, faults[fault].how);
    if (faults[fault].code == KVSS_S_OK)
        f->limits.step_ms[places[place].step] = limit_ms;
    kvss_coordinator_set_limits(f->c, &f->limits);

    g_assert_false(is_restore ? restore(f, &error) : backup(f, &error));
    g_assert_nonnull(strstr(error->message, faults[fault].message));
    g_assert_nonnull(strstr(error->message, "writer The test's: "));
    g_assert_nonnull(strstr(error->message, "test:c0"));
    g_assert_cmpint(kvss_writer_status(f->writer, NULL), ==, places[place].state);
    check_codes(f, places[place].step, faults[fault].code);
    kvss_coordinator_abort(f->c);
    if (faults[fault].code == KVSS_S_OK && limit_ms < FAULT_LIMIT_MAX_MS && count_held(f) > 0)
        return false;
    g_assert_cmpuint(count_held(f), ==, 0);
    return true;
}

static void
check_fault(guint place, guint fault, guint n_components)
{
    for (guint limit_ms = FAULT_LIMIT_MS; !try_fault(place, fault, n_components, limit_ms);)
        limit_ms *= 4;
}

static void
test_faults(gconstpointer data)
{
    static const guint numbers[] = { 1, 2, 8 };
    guint fault = GPOINTER_TO_UINT(data);

    for (guint place = 0; place < G_N_ELEMENTS(places); place++)
        for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
            check_fault(place, fault, numbers[i]);
}

/* The last two cannot fail: whatever they do, the set ends, and nothing is held. */
static void
test_faulty_end(void)
{
    for (guint fault = 0; fault < G_N_ELEMENTS(faults); fault++) {
        g_autoptr(Fixture) f = fixture_new(2);

        misbehave(f, "abort", faults[fault].how);
        misbehave(f, "backup-shutdown", faults[fault].how);
        misbehave(f, "freeze", "exit 1\n");
        f->limits.step_ms[KVSS_STEP_ABORT] = f->limits.step_ms[KVSS_STEP_BACKUP_SHUTDOWN] = 700;
        f->limits.grace_ms = 300;
        kvss_coordinator_set_limits(f->c, &f->limits);
        g_assert_false(backup(f, NULL));
        g_assert_cmpuint(count_held(f), ==, 0);
    }
}

/* Each exit code that means something. */
static void
test_exit_codes(void)
{
    static const struct {
        int status;
        KvssHresult code;
    } codes[] = {
        { 1, KVSS_E_WRITERERROR_NONRETRYABLE },  { 3, KVSS_E_WRITERERROR_NONRETRYABLE },
        { 65, KVSS_E_WRITERERROR_INCONSISTENTSNAPSHOT },
        { 71, KVSS_E_WRITERERROR_OUTOFRESOURCES }, { 75, KVSS_E_WRITERERROR_RETRYABLE },
        { 124, KVSS_E_WRITERERROR_TIMEOUT },     { 127, KVSS_E_WRITERERROR_NONRETRYABLE },
    };

    for (guint i = 0; i < G_N_ELEMENTS(codes); i++) {
        g_autoptr(Fixture) f = fixture_new(1);
        g_autofree char *how = g_strdup_printf("exit %d\n", codes[i].status);
        KvssHresult code;

        misbehave(f, "freeze", how);
        g_assert_false(backup(f, NULL));
        (void) kvss_writer_status(f->writer, &code);
        g_assert_cmphex(code, ==, codes[i].code);
    }
}

/* A veto ends a neighbour's freeze: killed, it is no culprit, and is told to abort. */
static void
test_neighbour(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(Fixture) other = fixture_new(1);
    g_autoptr(GError) error = NULL;
    KvssWriter *writer = kvss_program_writer_new(other->path, NULL);
    gint64 start_us = g_get_monotonic_time();

    kvss_coordinator_take_writer(f->c, writer);
    misbehave(f, "freeze", "while ! test -e $D/../$(cat $D/other)/held-freeze; do sleep 0.01; done\n"
                           "echo never >&2; exit 1\n");
    put(f, "other", strrchr(other->folder, '/') + 1, 0644);
    misbehave(other, "freeze", "trap '' TERM; sleep 600; sleep 600\n");
    g_assert_true(kvss_coordinator_gather(f->c, &error));
    g_assert_true(kvss_coordinator_select_component(
        f->c, g_ptr_array_index(f->writer->components, 0), &error));
    g_assert_true(kvss_coordinator_select_component(
        f->c, g_ptr_array_index(writer->components, 0), &error));
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, &error));
    g_assert_false(kvss_coordinator_do_snapshot_set(f->c, &error));
    g_assert_nonnull(strstr(error->message, "never"));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 300 * G_USEC_PER_SEC);
    g_assert_cmpuint(count_held(f), ==, 0);
    g_assert_cmpuint(count_held(other), ==, 0);
}

/* ---- what it says to identify ---- */

#define ANSWER(rest) "{\"version\":1,\"id\":\"" CLASS_ID "\"" rest "}"
#define COMPONENT(rest) ANSWER(",\"components\":[{\"name\":\"c\"" rest "}]")
#define FILES(files) COMPONENT(",\"files\":[{" files "}]")

static const struct {
    const char *answer, *complaint; /* NULL: it is good */
} answers[] = {
    { ANSWER(""), NULL },
    { "{\"version\":1,\"id\":\"7F0B6C1A-52F1-4C1E-9D7B-0C6F8A3F2D11\",\"unknown\":[1]}", NULL },
    { FILES("\"path\":\"/srv/db\",\"filespec\":\"*.db\",\"recursive\":true,\"stable\":true"), NULL },
    { COMPONENT(",\"logical_path\":\"app\\\\main\",\"selectable\":false"), NULL },
    { "", "is not UTF-8 text" },
    { "\xff{}", "is not UTF-8 text" },
    { ANSWER("") ANSWER(""), "comes after its end" },
    { ANSWER(",\"version\":1"), "has a member twice" },
    { "{\"id\":\"" CLASS_ID "\"}", "version is missing" },
    { "{\"version\":2,\"id\":\"" CLASS_ID "\"}", "version is 2, this kvss knows 1" },
    { "{\"version\":1}", "id is missing" },
    { "{\"version\":1,\"id\":\"one\"}", "id is 'one', no GUID" },
    { "{\"version\":1,\"id\":\"66841CD4-6ded-4f4b-8f17-fd23f8ddc3de\"}", "the VM writer's" },
    { ANSWER(",\"level\":\"cellar\""), "level is 'cellar'" },
    { ANSWER(",\"name\":\"\\u001b[2J\""), "name has a control character" },
    { ANSWER(",\"name\":\"\""), "name is empty" },
    { ANSWER(",\"components\":[{}]"), "components[0]: name is missing" },
    { ANSWER(",\"components\":[{\"name\":\"a/b\"}]"), "name is 'a/b', with a separator" },
    { ANSWER(",\"components\":[{\"name\":\"a\\\\b\"}]"), "with a separator" },
    { ANSWER(",\"components\":[{\"name\":\"a\\u0000b\"}]"), "a NUL in it" },
    { ANSWER(",\"components\":[{\"name\":\"" CLASS_ID "\"}]"), "those are the names of VMs" },
    { ANSWER(",\"components\":[{\"name\":\"a\"},{\"name\":\"a\"}]"), "'test:a' is there twice" },
    { COMPONENT(",\"logical_path\":\"a\\\\\\\\b\""), "logical_path has an empty name" },
    { COMPONENT(",\"logical_path\":\"a/b\""), "with a separator" },
    { COMPONENT(",\"selectable\":\"yes\""), "selectable is neither true nor false" },
    { FILES("\"filespec\":\"*\""), "path is missing" },
    { FILES("\"path\":\"srv\""), "path is 'srv', no plain absolute path" },
    { FILES("\"path\":\"/srv/../etc\""), "no plain absolute path" },
    { FILES("\"path\":\"/srv/\""), "no plain absolute path" },
    { FILES("\"path\":\"//srv\""), "no plain absolute path" },
    { FILES("\"path\":\"/srv\",\"filespec\":\"../x\""), "filespec is '../x', no name of a file" },
    { FILES("\"path\":\"/srv\",\"filespec\":\"..\""), "no name of a file" },
    { FILES("\"path\":\"/srv\",\"filespec\":\"\""), "filespec is empty" },
};

static void
test_identify(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(Fixture) f = fixture_new(1);
        g_autoptr(GError) error = NULL;

        g_test_message("%s", answers[i].answer);
        put(f, "identify.json", answers[i].answer, 0644);
        if (kvss_coordinator_gather(f->c, &error) != (answers[i].complaint == NULL))
            g_error("%s: %s", answers[i].answer, error ? error->message : "taken");
        if (answers[i].complaint && !strstr(error->message, answers[i].complaint))
            g_error("'%s' where '%s' was expected", error->message, answers[i].complaint);
        if (answers[i].complaint)
            g_assert_cmpuint(f->writer->components->len, ==, 0);
    }
}

static void
check_refused(const char *answer, const char *complaint)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;

    put(f, "identify.json", answer, 0644);
    g_assert_false(kvss_coordinator_gather(f->c, &error));
    g_assert_nonnull(strstr(error->message, complaint));
    g_assert_cmpint(kvss_writer_status(f->writer, NULL), ==, KVSS_WS_FAILED_AT_IDENTIFY);
}

static void
test_identify_too_much(void)
{
    g_autofree char *components = identify_answer(1001);
    g_autofree char *deep = g_strnfill(100, '[');
    g_autofree char *nested = g_strconcat("{\"a\":", deep, NULL);
    g_autofree char *letters = g_strnfill(256, 'n');
    g_autofree char *name = g_strdup_printf(ANSWER(",\"name\":\"%s\""), letters);
    g_autofree char *large = g_strnfill(1024 * 1024 + 1, ' ');

    check_refused(components, "components has more than 1000 elements");
    check_refused(nested, "nested deeper");
    check_refused(name, "name is longer than 255 bytes");
    check_refused(large, "said more than 1048576 bytes");
}

static void
test_identify_tells_all(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    const KvssComponent *component;
    const KvssFileSet *files;

    put(f, "identify.json",
        "{\"version\":1,\"id\":\"" CLASS_ID "\",\"level\":\"system\",\"components\":[{\"name\":\"c\","
        "\"logical_path\":\"app\\\\main\",\"caption\":\"C\",\"selectable\":false,"
        "\"selectable_for_restore\":false,\"notify\":true,\"metadata\":\"m\",\"files\":[{\"path\":"
        "\"/srv/db\",\"filespec\":\"*.db\",\"recursive\":true,\"stable\":true},{\"path\":\"/\"}]}]}", 0644);
    g_assert_true(kvss_coordinator_gather(f->c, NULL));
    g_assert_cmpint(f->writer->level, ==, KVSS_LEVEL_SYSTEM);
    g_assert_cmpstr(f->writer->ops->friendly_name, ==, "test");
    component = g_ptr_array_index(f->writer->components, 0);
    g_assert_cmpstr(component->name, ==, "c");
    g_assert_cmpstr(component->logical_path, ==, "app\\main");
    g_assert_cmpstr(component->display_name, ==, "test:app\\main\\c");
    g_assert_cmpstr(component->caption, ==, "C");
    g_assert_cmpstr(component->metadata, ==, "m");
    g_assert_false(component->is_selectable || component->is_selectable_for_restore);
    g_assert_true(component->is_notified);
    files = g_ptr_array_index(component->file_sets, 0);
    g_assert_cmpstr(files->path, ==, "/srv/db");
    g_assert_cmpstr(files->filespec, ==, "*.db");
    g_assert_true(files->is_recursive && files->is_stable);
    files = g_ptr_array_index(component->file_sets, 1);
    g_assert_cmpstr(files->path, ==, "/");
    g_assert_cmpstr(files->filespec, ==, "*");
    g_assert_false(files->is_recursive || files->is_stable);
}

/* A bad answer changes no component, not even those before the bad one in it. */
static void
test_bad_metadata(void)
{
    g_autoptr(Fixture) f = fixture_new(2);
    g_autoptr(GError) error = NULL;

    misbehave(f, "freeze", "printf '{\"metadata\":{\"c0\":\"x\",\"c7\":\"x\"}}'");
    g_assert_false(backup(f, &error));
    g_assert_nonnull(strstr(error->message, "there is no chosen component 'c7'"));
    g_assert_null(((KvssComponent *) g_ptr_array_index(f->writer->components, 0))->metadata);
}

/* ---- which files are run ---- */

static void
note(const char *reason, gpointer data)
{
    g_ptr_array_add(data, g_strdup(reason));
}

static void
check_found(Fixture *f, guint expected, const char *complaint)
{
    g_autoptr(GPtrArray) reasons = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *folder = g_build_filename(f->folder, "writers", NULL);
    g_autoptr(GPtrArray) found = kvss_program_writers_find(folder, note, reasons, NULL);

    g_assert_cmpuint(found->len, ==, expected);
    g_assert_cmpuint(reasons->len, ==, complaint ? 1 : 0);
    if (complaint && !strstr(g_ptr_array_index(reasons, 0), complaint))
        g_error("'%s' where '%s' was expected", (char *) g_ptr_array_index(reasons, 0), complaint);
}

static void
test_folder(void)
{
    static const struct {
        const char *name;
        unsigned mode;
        const char *complaint;
    } files[] = {
        { "b-1.x_Y", 0700, NULL },
        { "b", 0644, "is not executable" },
        { "b", 0775, "can be written by others" },
        { "b", 0757, "can be written by others" },
        { ".hidden", 0755, "it is hidden" },
        { "test~", 0755, "other characters than" },
        { "a b", 0755, "other characters than" },
    };
    g_autoptr(Fixture) f = fixture_new(1);
    g_autofree char *link = g_build_filename(f->folder, "writers", "link", NULL);
    g_autofree char *folder = g_build_filename(f->folder, "writers", NULL);
    g_autofree char *nowhere = g_build_filename(f->folder, "nowhere", NULL);
    g_autoptr(GError) error = NULL;

    check_found(f, 1, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_build_filename("writers", files[i].name, NULL);
        g_autofree char *path = g_build_filename(f->folder, name, NULL);

        put(f, name, script, files[i].mode);
        check_found(f, files[i].complaint ? 1 : 2, files[i].complaint);
        g_assert_cmpint(g_remove(path), ==, 0);
    }

    g_assert_cmpint(symlink(f->path, link), ==, 0);
    check_found(f, 1, "is no regular file but a link");
    g_assert_cmpint(g_remove(link), ==, 0);
    g_assert_cmpint(g_mkdir(link, 0755), ==, 0);
    check_found(f, 1, "is no regular file");
    g_assert_cmpint(g_rmdir(link), ==, 0);

    if (geteuid() == 0) {
        g_assert_cmpint(chown(f->path, 12345, 0), ==, 0);
        check_found(f, 0, "belongs to user 12345");
        g_assert_cmpint(chown(f->path, 0, 0), ==, 0);
    }
    g_assert_cmpint(g_chmod(folder, 0777), ==, 0);
    check_found(f, 0, "can be written by others");

    g_assert_null(kvss_program_writers_find(nowhere, note, NULL, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
}

/* Looked at again before each call: it may have changed hands in the middle of a set. */
static void
test_changed_hands(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL;

    misbehave(f, "prepare-for-snapshot", "chmod 777 $0");
    g_assert_false(backup(f, &error));
    g_assert_nonnull(strstr(error->message, "Freeze: test:c0: "));
    g_assert_nonnull(strstr(error->message, "can be written by others"));
    told = get(f, "told");
    g_assert_true(g_str_has_suffix(told, "prepare-for-snapshot\n"));
}

/* ---- with a journal ---- */

typedef struct {
    KvssHost *host;
    KvssRun *run;
    char *state;
} Journal;

static void
journal_begin(Journal *j, Fixture *f)
{
    g_autoptr(GError) error = NULL;

    j->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    j->state = g_build_filename(f->folder, "state", NULL);
    j->run = kvss_run_begin(j->state, NULL, j->host, f->set->id, "backup", &error);
    g_assert_no_error(error);
    f->set->run = j->run;
}

static void
journal_end(Journal *j)
{
    kvss_run_free(j->run);
    kvss_host_free(j->host);
    g_free(j->state);
}

/* The end of the run is the last event; the coordinator's own comes too late to be told. */
static void
test_journal(void)
{
    Fixture *f = fixture_new(2);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL;
    Journal j;

    journal_begin(&j, f);
    g_assert_true(backup(f, &error));
    g_assert_true(kvss_run_finish(j.run, &error));
    g_assert_no_error(error);
    told = get(f, "told");
    g_assert_true(g_str_has_suffix(told, "post-snapshot\nbackup-complete\nbackup-shutdown\n"));
    g_clear_pointer(&f->c, kvss_coordinator_free);
    g_clear_pointer(&told, g_free);
    told = get(f, "told");
    g_assert_true(g_str_has_suffix(told, "backup-complete\nbackup-shutdown\n"));
    journal_end(&j);
    f->c = kvss_coordinator_new();
    fixture_free(f);
}

static void
test_journal_failure(void)
{
    Fixture *f = fixture_new(2);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL;
    Journal j;

    journal_begin(&j, f);
    misbehave(f, "freeze", "exit 75\n");
    g_assert_false(backup(f, &error));
    g_assert_true(kvss_run_finish(j.run, NULL));
    g_clear_pointer(&f->c, kvss_coordinator_free);
    told = get(f, "told");
    g_assert_cmpstr(told, ==,
                    "identify\nprepare-for-backup\nprepare-for-snapshot\nfreeze\nabort\n"
                    "backup-shutdown\n");
    g_assert_cmpuint(count_held(f), ==, 0);
    journal_end(&j);
    f->c = kvss_coordinator_new();
    fixture_free(f);
}

/* kvss stood still beyond the limit: the guardian let go, so the instant is none. */
static void
test_journal_late(void)
{
    Fixture *f = fixture_new(1);
    KvssProgramWriterLimits limits = { 60000, 200 };
    g_autoptr(GError) error = NULL;
    KvssHresult code;
    Journal j;

    kvss_coordinator_free(f->c);
    f->c = kvss_coordinator_new();
    f->set = kvss_coordinator_set(f->c);
    f->writer = kvss_program_writer_new(f->path, &limits);
    kvss_coordinator_take_writer(f->c, f->writer);
    journal_begin(&j, f);
    misbehave(f, "freeze", "while test -e $D/held-freeze; do sleep 0.05; done\n");
    g_assert_false(backup(f, &error));
    g_assert_nonnull(strstr(error->message, "the guardian released"));
    (void) kvss_writer_status(f->writer, &code);
    g_assert_cmphex(code, ==, KVSS_E_WRITERERROR_TIMEOUT);
    g_assert_true(kvss_run_finish(j.run, NULL));
    g_clear_pointer(&f->c, kvss_coordinator_free);
    journal_end(&j);
    f->c = kvss_coordinator_new();
    fixture_free(f);
}

/* The component is another run's: this one fails, and the program hears nothing of its end. */
static void
test_in_use(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL;
    KvssRun *other;
    Journal j;

    journal_begin(&j, f);
    other = kvss_run_begin(j.state, NULL, j.host, "another-run", "restore", &error);
    g_assert_no_error(error);
    g_assert_true(kvss_run_claim(other, CLASS_ID ":c0", "test:c0", &error));
    g_assert_false(backup(f, &error));
    g_assert_nonnull(strstr(error->message, "test:c0: test:c0 is in use by another run (restore"));
    g_assert_cmphex(kvss_coordinator_failure(f->c), ==, KVSS_E_SNAPSHOT_SET_IN_PROGRESS);
    g_assert_true(kvss_run_finish(j.run, NULL));
    g_clear_pointer(&f->c, kvss_coordinator_free);
    told = get(f, "told");
    g_assert_cmpstr(told, ==, "identify\n");
    g_assert_true(kvss_run_finish(other, NULL));
    kvss_run_free(other);
    journal_end(&j);
    f->c = kvss_coordinator_new();
}

/* A file of a restore, for a writer. */
static char *
new_file(Journal *j, const char *name, const char *writer)
{
    char *path = g_build_filename(j->state, name, NULL);
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "path", path);
    json_object_set_string_member(details, "writer", writer);
    g_assert_cmpuint(kvss_run_act_begin(j->run, KVSS_ACT_FILE, details, NULL), !=, 0);
    g_assert_true(g_file_set_contents(path, "new", -1, NULL));
    return path;
}

/* A restore that was taken back after "all": the program must stop first, and is told so last. */
static void
test_restore_taken_back(gconstpointer data)
{
    bool is_final = GPOINTER_TO_INT(data);
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL, *last = NULL;
    Journal j;

    journal_begin(&j, f);
    g_assert_true(restore(f, &error));
    if (is_final)
        g_assert_true(kvss_run_point_of_no_return(j.run, &error));
    g_assert_true(kvss_run_finish(j.run, &error));
    g_assert_no_error(error);
    told = get(f, "told");
    last = get(f, "input-post-restore");
    g_assert_cmpstr(told, ==, is_final ? "identify\npre-restore\npost-restore\n"
                                       : "identify\npre-restore\npost-restore\n"
                                         "pre-restore\npost-restore\n");
    g_assert_nonnull(strstr(last, is_final ? "\"restore_status\":\"all\""
                                           : "\"restore_status\":\"none\""));
    f->set->run = NULL;
    g_clear_pointer(&f->c, kvss_coordinator_free);
    journal_end(&j);
    f->c = kvss_coordinator_new();
}

/* It does not stop: what was restored for it stays, for good, and what is another's goes. */
static void
test_restore_stays(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    g_autofree char *told = NULL;
    g_autofree char *its = NULL, *other = NULL;
    Journal j;

    journal_begin(&j, f);
    g_assert_true(restore(f, &error));
    its = new_file(&j, "its", f->writer->instance_id);
    other = new_file(&j, "other", "another");
    misbehave(f, "pre-restore", "echo in use >&2\nexit 75\n");
    g_test_expect_message("kvss-guardian", G_LOG_LEVEL_WARNING, "*keeps the restored files*in use*");
    g_assert_true(kvss_run_finish(j.run, &error));
    g_test_assert_expected_messages();
    g_assert_no_error(error);
    told = get(f, "told");
    g_assert_cmpstr(told, ==, "identify\npre-restore\npost-restore\npre-restore\n");
    g_assert_true(g_file_test(its, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
    (void) g_unlink(its);
    f->set->run = NULL;
    g_clear_pointer(&f->c, kvss_coordinator_free);
    journal_end(&j);
    f->c = kvss_coordinator_new();
}

/* Where the process ignores SIGCHLD how a program ended is lost: never a success, and no wait. */
static void
test_end_unseen(void)
{
    g_autoptr(Fixture) f = fixture_new(1);
    g_autoptr(GError) error = NULL;
    gint64 start_us;

    g_assert_true(select_all(f, &error));
    g_assert_true(kvss_coordinator_prepare_for_backup(f->c, &error));
    misbehave(f, "prepare-for-snapshot", "exit 75\n");
    start_us = g_get_monotonic_time();
    (void) signal(SIGCHLD, SIG_IGN);
    g_assert_false(kvss_coordinator_do_snapshot_set(f->c, &error));
    (void) signal(SIGCHLD, SIG_DFL);
    g_assert_nonnull(strstr(error->message, "SIGCHLD"));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 20 * G_USEC_PER_SEC);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* What cannot fail warns. */
    g_log_set_always_fatal((GLogLevelFlags) (G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK));
    g_test_add_func("/program-writer/events", test_events);
    g_test_add_func("/program-writer/shutdown-comes-once", test_shutdown_comes_once);
    g_test_add_func("/program-writer/restore", test_restore);
    g_test_add_func("/program-writer/surroundings", test_surroundings);
    g_test_add_func("/program-writer/left-behind", test_left_behind);
    for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autofree char *name = g_strconcat("/program-writer/fault/", faults[i].name, NULL);

        g_test_add_data_func(name, GUINT_TO_POINTER(i), test_faults);
    }
    g_test_add_func("/program-writer/faulty-end", test_faulty_end);
    g_test_add_func("/program-writer/exit-codes", test_exit_codes);
    g_test_add_func("/program-writer/neighbour", test_neighbour);
    g_test_add_func("/program-writer/identify", test_identify);
    g_test_add_func("/program-writer/identify-too-much", test_identify_too_much);
    g_test_add_func("/program-writer/identify-tells-all", test_identify_tells_all);
    g_test_add_func("/program-writer/bad-metadata", test_bad_metadata);
    g_test_add_func("/program-writer/folder", test_folder);
    g_test_add_func("/program-writer/changed-hands", test_changed_hands);
    g_test_add_func("/program-writer/journal", test_journal);
    g_test_add_func("/program-writer/journal-failure", test_journal_failure);
    g_test_add_func("/program-writer/journal-late", test_journal_late);
    g_test_add_func("/program-writer/in-use", test_in_use);
    g_test_add_data_func("/program-writer/restore-final", GINT_TO_POINTER(true),
                         test_restore_taken_back);
    g_test_add_data_func("/program-writer/restore-taken-back", GINT_TO_POINTER(false),
                         test_restore_taken_back);
    g_test_add_func("/program-writer/restore-stays", test_restore_stays);
    g_test_add_func("/program-writer/end-unseen", test_end_unseen);
    return g_test_run();
}
