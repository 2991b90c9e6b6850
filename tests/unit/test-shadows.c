/*
 * test-shadows.c - shadow copies as journals tell of them
 *
 * A run of this very process, and sockets of its own in place of QEMU's.
 */
#include "guardian/journal.h"
#include "guardian/run.h"
#include "guardian/shadows.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ID "11111111-2222-4333-8444-555555555555"

typedef struct {
    char *state;
    KvssHost *host;
    KvssRun *run;
    char *socket;
    int fd; /* somebody listens on the socket */
} Fixture;

static void
listen_on(Fixture *f)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, f->socket, sizeof address.sun_path);
    g_assert_cmpint(bind(f->fd, (struct sockaddr *) &address, sizeof address), ==, 0);
    g_assert_cmpint(listen(f->fd, 1), ==, 0);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->state = g_dir_make_tmp("kvss-shadows-XXXXXX", &error);
    g_assert_no_error(error);
    f->host = kvss_host_open("test:///default", &error);
    g_assert_no_error(error);
    f->run = kvss_run_begin(f->state, NULL, f->host, ID, "backup", &error);
    g_assert_no_error(error);
    f->socket = g_build_filename(f->state, "a b.nbd", NULL);
    listen_on(f);
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

static void
tear_down(Fixture *f, gconstpointer data)
{
    kvss_run_free(f->run);
    kvss_host_free(f->host);
    if (f->fd >= 0)
        (void) close(f->fd);
    remove_tree(f->state);
    g_free(f->state);
    g_free(f->socket);
}

static void
begin_job(Fixture *f, const char *more)
{
    g_autofree char *text = g_strdup_printf("{\"uuid\":\"u\",\"name\":\"web\",\"socket\":\"%s\"%s}",
                                            f->socket, more);
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    g_assert_cmpuint(kvss_run_act_begin(f->run, KVSS_ACT_JOB, json_node_dup_object(node), NULL), >,
                     0);
}

static GPtrArray *
list(Fixture *f, guint n_problems)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) problems = NULL;
    GPtrArray *sets = kvss_shadows_list(f->state, &problems, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(problems->len, ==, n_problems);
    return sets;
}

static void
assert_none(Fixture *f)
{
    g_autoptr(GPtrArray) sets = list(f, 0);

    g_assert_cmpuint(sets->len, ==, 0);
}

static void
test_alive(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) sets = NULL;
    const KvssShadowSet *set;
    const KvssShadow *shadow;

    assert_none(f);
    begin_job(f, ",\"time\":\"2026-01-31T12:00:00.5Z\",\"provider\":\"qemu\",\"attributes\":131072,"
                 "\"disks\":[{\"target\":\"vda\",\"shadow_id\":\"s1\",\"path\":\"/a\"},"
                 "{\"target\":\"vdb\",\"shadow_id\":\"s2\"}]");
    sets = list(f, 0);
    g_assert_cmpuint(sets->len, ==, 1);
    set = g_ptr_array_index(sets, 0);
    g_assert_cmpstr(set->id, ==, ID);
    g_assert_cmpstr(set->purpose, ==, "backup");
    g_assert_cmpstr(set->uri, ==, "test:///default");
    g_assert_cmpint(set->pid, ==, getpid());
    g_assert_true(set->is_alive);
    g_assert_cmpint(ABS(g_get_real_time() - set->start_us), <, 60 * G_USEC_PER_SEC);
    g_assert_cmpuint(set->shadows->len, ==, 2);
    shadow = g_ptr_array_index(set->shadows, 0);
    g_assert_cmpstr(shadow->id, ==, "s1");
    g_assert_cmpstr(shadow->vm, ==, "web");
    g_assert_cmpstr(shadow->target, ==, "vda");
    g_assert_cmpstr(shadow->original, ==, "/a");
    g_assert_cmpstr(shadow->provider, ==, "qemu");
    g_assert_cmpint(shadow->time_us, ==, 1769860800500000);
    g_assert_cmphex(shadow->attributes, ==, KVSS_ATTR_DIFFERENTIAL);
    g_assert_true(g_str_has_prefix(shadow->device, "nbd+unix:///vda?socket=/"));
    g_assert_null(((const KvssShadow *) g_ptr_array_index(set->shadows, 1))->original);
}

/* The act alone is no shadow copy: QEMU may never have begun, or be gone. */
static void
test_not_served(Fixture *f, gconstpointer data)
{
    begin_job(f, ",\"disks\":[{\"target\":\"vda\",\"shadow_id\":\"s1\"}]");
    (void) close(f->fd);
    f->fd = -1;
    g_assert_true(g_file_test(f->socket, G_FILE_TEST_EXISTS));
    assert_none(f);
}

static void
test_ended(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) sets = NULL;

    begin_job(f, ",\"disks\":[{\"target\":\"vda\",\"shadow_id\":\"s1\"}]");
    begin_job(f, ",\"disks\":[{\"target\":\"vdb\",\"shadow_id\":\"s2\"}]");
    kvss_run_act_end(f->run, 2); /* act 1 is the work folder */
    sets = list(f, 0);
    g_assert_cmpuint(sets->len, ==, 1);
    g_assert_cmpuint(((KvssShadowSet *) g_ptr_array_index(sets, 0))->shadows->len, ==, 1);
}

/* A journal that an older version wrote: a job is told, and no disks. */
static void
test_old_journal(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->state, "journals", "old.journal", NULL);
    g_autofree char *text = g_strdup_printf(
        "{\"run\":\"old\",\"version\":1,\"purpose\":\"backup\",\"uri\":\"u\",\"pid\":%d}\n"
        "{\"act\":1,\"kind\":\"job\",\"details\":{\"uuid\":\"u\",\"name\":\"db\",\"socket\":\"%s\"}}\n"
        "{\"act\":2,\"ki",
        getpid(), f->socket);
    g_autoptr(GPtrArray) sets = NULL;
    const KvssShadowSet *set;
    const KvssShadow *shadow;

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    sets = list(f, 0);
    g_assert_cmpuint(sets->len, ==, 1);
    set = g_ptr_array_index(sets, 0);
    g_assert_false(set->is_alive); /* the process lives, and is not this run's */
    g_assert_cmpint(set->start_us, ==, 0);
    shadow = g_ptr_array_index(set->shadows, 0);
    g_assert_null(shadow->id);
    g_assert_null(shadow->target);
    g_assert_cmpstr(shadow->provider, ==, "qemu");
}

static void
test_damaged(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->state, "journals", "x.journal", NULL);
    g_autoptr(GPtrArray) sets = NULL;

    begin_job(f, ",\"disks\":[{\"target\":\"vda\",\"shadow_id\":\"s1\"}]");
    g_assert_true(g_file_set_contents(path, "nonsense\n", -1, NULL));
    sets = list(f, 1);
    g_assert_cmpuint(sets->len, ==, 1); /* the other one is told all the same */
}

static void
test_no_folder(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) sets = kvss_shadows_list("/nonexistent", &problems, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(sets->len, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/shadows/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("alive", test_alive);
    ADD("not-served", test_not_served);
    ADD("ended", test_ended);
    ADD("old-journal", test_old_journal);
    ADD("damaged", test_damaged);
    ADD("no-folder", test_no_folder);
    return g_test_run();
}
