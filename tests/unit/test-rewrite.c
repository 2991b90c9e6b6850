/*
 * test-rewrite.c - disks written over in place: the roll-back log, and the act's way back
 */
#include "base/fd.h"
#include "guardian/acts.h"
#include "guardian/place.h"
#include "guardian/undo-log.h"
#include "host/image.h"
#include "host/nbd-sink.h"
#include "host/process.h"
#include "stream/sink.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN "11111111-2222-4333-8444-555555555555"
#define DISK_LENGTH (2u * 1024 * 1024)
#define GRAIN (64u * 1024)
#define UNIT 512u /* of the log */

/* ---- a disk in memory ---- */

typedef struct {
    KvssSink sink;
    uint8_t *bytes;
    unsigned writes;
} MemorySink;

static bool
memory_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    MemorySink *self = (MemorySink *) sink;

    memcpy(self->bytes + offset, buffer, length);
    self->writes++;
    return true;
}

static bool
memory_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    MemorySink *self = (MemorySink *) sink;

    memset(self->bytes + offset, 0, length);
    self->writes++;
    return true;
}

static const KvssSinkOps memory_ops = { .write = memory_write, .zero = memory_zero };

typedef struct {
    char *dir, *log, *image, *parked;
    uint8_t *old, *now;
    MemorySink disk;
} World;

static void
world_set_up(World *w, gconstpointer data)
{
    w->dir = g_dir_make_tmp("kvss-rewrite-XXXXXX", NULL);
    g_assert_nonnull(w->dir);
    w->log = g_build_filename(w->dir, "vda.kvss-undo", NULL);
    w->image = g_build_filename(w->dir, "vda.qcow2", NULL);
    w->parked = g_build_filename(w->dir, "vda.qcow2.parked", NULL);
    w->old = g_malloc0(DISK_LENGTH);
    for (uint32_t at = 0; at < DISK_LENGTH; at++)
        w->old[at] = (uint8_t) g_test_rand_int();
    memset(w->old + 4 * GRAIN, 0, 2 * GRAIN);
    w->now = g_memdup2(w->old, DISK_LENGTH);
    w->disk.sink = (KvssSink){ .ops = &memory_ops, .size = DISK_LENGTH, .block = GRAIN };
    w->disk.bytes = w->now;
}

static void
world_tear_down(World *w, gconstpointer data)
{
    const char *const names[] = { w->log, w->image, w->parked };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        (void) g_remove(names[i]);
    g_assert_cmpint(g_rmdir(w->dir), ==, 0);
    g_free(w->dir);
    g_free(w->log);
    g_free(w->image);
    g_free(w->parked);
    g_free(w->old);
    g_free(w->now);
}

static KvssUndoLog *
log_new(World *w)
{
    g_autoptr(GError) error = NULL;
    KvssUndoLog *log = kvss_undo_log_create(w->log, RUN, DISK_LENGTH, &error);

    g_assert_no_error(error);
    return log;
}

static void
log_add(World *w, KvssUndoLog *log, unsigned grain, unsigned n, bool is_zero)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_undo_log_add(log, (uint64_t) grain * GRAIN,
                                    is_zero ? NULL : w->old + grain * GRAIN, n * GRAIN, &error));
    g_assert_no_error(error);
}

static void
log_sync(KvssUndoLog *log)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(kvss_undo_log_sync(log, &error));
    g_assert_no_error(error);
}

static void
overwrite(World *w, unsigned grain, unsigned n)
{
    memset(w->now + grain * GRAIN, 0xee, n * GRAIN);
}

static bool
replay(World *w, GError **error)
{
    return kvss_undo_log_replay(w->log, RUN, &w->disk.sink, error);
}

static void
assert_old(World *w)
{
    g_assert_cmpmem(w->now, DISK_LENGTH, w->old, DISK_LENGTH);
}

/* Three batches: what the disk is after the third was written. */
static void
three_batches(World *w)
{
    g_autoptr(KvssUndoLog) log = log_new(w);

    log_add(w, log, 0, 1, false);
    log_sync(log);
    overwrite(w, 0, 1);
    log_add(w, log, 4, 2, true);
    log_add(w, log, 8, 3, false);
    log_sync(log);
    overwrite(w, 4, 2);
    overwrite(w, 8, 3);
    log_add(w, log, 31, 1, false);
    log_sync(log);
    overwrite(w, 31, 1);
}

/* ---- the log ---- */

static void
test_everything_back(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    three_batches(w);
    g_assert_true(replay(w, &error));
    g_assert_no_error(error);
    assert_old(w);
    /* Once more, as after a death in its middle. */
    overwrite(w, 8, 1);
    g_assert_true(replay(w, &error));
    assert_old(w);
}

static void
test_no_records(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    kvss_undo_log_free(log_new(w));
    g_assert_true(replay(w, &error));
    g_assert_cmpuint(w->disk.writes, ==, 0);
}

static void
test_length_is_told(World *w, gconstpointer data)
{
    g_autoptr(KvssUndoLog) log = log_new(w);

    log_add(w, log, 0, 3, false);
    log_add(w, log, 8, 2, true);
    g_assert_cmpuint(kvss_undo_log_length(log), <=, kvss_undo_log_bytes(3 * GRAIN, 2));
    g_assert_cmpuint(kvss_undo_log_length(log), >=, 3 * GRAIN);
    g_assert_cmpuint(kvss_undo_log_length(log), <, 4 * GRAIN);
}

static void
test_one_log_only(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    kvss_undo_log_free(log_new(w));
    g_assert_null(kvss_undo_log_create(w->log, RUN, DISK_LENGTH, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_BUSY);
}

static void
test_absent(World *w, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(replay(w, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
}

/* Cut anywhere in the last batch, which was not written over then: all is as it was. */
static void
test_torn_tail(World *w, gconstpointer data)
{
    struct stat st;
    uint64_t before = UNIT + (UNIT + GRAIN) + UNIT + (UNIT + 3 * GRAIN);

    three_batches(w);
    g_assert_cmpint(stat(w->log, &st), ==, 0);
    memcpy(w->now + 31 * GRAIN, w->old + 31 * GRAIN, GRAIN);
    for (off_t length = st.st_size - 1; length >= (off_t) before; length -= 7001) {
        g_autoptr(GError) error = NULL;

        overwrite(w, 0, 1);
        overwrite(w, 4, 2);
        overwrite(w, 8, 3);
        g_assert_cmpint(truncate(w->log, length), ==, 0);
        g_assert_true(replay(w, &error));
        g_assert_no_error(error);
        assert_old(w);
    }
}

/* A torn header: not one byte of the disk was written over. */
static void
test_torn_header(World *w, gconstpointer data)
{
    kvss_undo_log_free(log_new(w));
    for (off_t length = UNIT; length >= 0; length -= 100) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(truncate(w->log, length), ==, 0);
        g_assert_true(replay(w, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(w->disk.writes, ==, 0);
    }
}

static void
flip(World *w, off_t at)
{
    kvss_autofd int fd = open(w->log, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    g_assert_cmpint(pread(fd, &byte, 1, at), ==, 1);
    byte ^= 0x10;
    g_assert_cmpint(pwrite(fd, &byte, 1, at), ==, 1);
}

/* One bit anywhere in a batch that others follow: told, and all else is written back. */
static void
test_flipped_bits(World *w, gconstpointer data)
{
    const off_t first = UNIT, second = first + UNIT + GRAIN, third = second + UNIT;
    const off_t places[] = { first + 9, first + 60, first + UNIT - 1, first + UNIT, second - 1,
                             second + 70, third + 300, third + UNIT + 5000 };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GError) error = NULL;

        three_batches(w);
        flip(w, places[i]);
        g_assert_false(replay(w, &error));
        g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT);
        g_assert_cmpmem(w->now + 31 * GRAIN, GRAIN, w->old + 31 * GRAIN, GRAIN);
        if (places[i] < second)
            g_assert_cmpmem(w->now + 4 * GRAIN, 7 * GRAIN, w->old + 4 * GRAIN, 7 * GRAIN);
        else
            g_assert_cmpmem(w->now, GRAIN, w->old, GRAIN);
        memcpy(w->now, w->old, DISK_LENGTH);
        g_assert_cmpint(g_remove(w->log), ==, 0);
    }
}

/* A record of another run in the old content of a guest that has seen such logs. */
static void
test_content_that_looks_like_a_record(World *w, gconstpointer data)
{
    g_autofree char *other = g_build_filename(w->dir, "other", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(KvssUndoLog) log = NULL;
    g_autofree char *text = NULL;
    gsize length;

    log = kvss_undo_log_create(other, "22222222-2222-4333-8444-555555555555", DISK_LENGTH, &error);
    g_assert_no_error(error);
    log_add(w, log, 2, 1, true);
    g_assert_true(g_file_get_contents(other, &text, &length, NULL));
    g_assert_cmpint(g_remove(other), ==, 0);
    g_clear_pointer(&log, kvss_undo_log_free);

    memcpy(w->old, text, length);
    memcpy(w->now, w->old, DISK_LENGTH);
    log = log_new(w);
    log_add(w, log, 0, 1, false);
    log_sync(log);
    flip(w, UNIT + 60);
    g_assert_true(replay(w, &error));
    g_assert_no_error(error);
    assert_old(w);
}

/* ---- the act ---- */

static JsonObject *
details_new(World *w)
{
    JsonObject *details = json_object_new();

    json_object_set_string_member(details, "path", w->image);
    json_object_set_string_member(details, "parked", w->parked);
    json_object_set_string_member(details, "log", w->log);
    json_object_set_string_member(details, "run", RUN);
    json_object_set_string_member(details, "kind", "file");
    json_object_set_string_member(details, "format", "qcow2");
    json_object_set_int_member(details, "size", DISK_LENGTH);
    json_object_set_string_member(details, "folder", w->dir);
    return details;
}

static void
image_fill(World *w, const char *path, const uint8_t *content, bool is_new)
{
    g_autofree char *socket = g_build_filename(w->dir, "s", NULL);
    KvssImageServerOptions options = { .path = path, .format = "qcow2", .socket = socket,
                                       .export_name = "x", .is_writable = true };
    g_autoptr(KvssImageServer) server = NULL;
    g_autoptr(KvssSink) sink = NULL;
    g_autoptr(GError) error = NULL;

    if (is_new)
        g_assert_true(kvss_image_create(path, "qcow2", DISK_LENGTH, NULL, &error));
    server = kvss_image_server_start(&options, &error);
    g_assert_no_error(error);
    sink = kvss_nbd_sink_new(socket, "x", DISK_LENGTH, false, &error);
    g_assert_no_error(error);
    g_assert_true(kvss_sink_write(sink, 0, content, DISK_LENGTH, &error));
    g_assert_true(kvss_sink_finish(sink, &error));
    g_clear_pointer(&sink, kvss_sink_free);
    g_assert_true(kvss_image_server_finish(server, &error));
}

static void
assert_image_is(World *w, const uint8_t *content)
{
    g_autofree char *raw = g_build_filename(w->dir, "raw", NULL);
    const char *const argv[] = { "qemu-img", "convert", "-f", "qcow2", "-O", "raw", w->image, raw,
                                 NULL };
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gsize length;

    g_assert_true(kvss_process_run(argv, 30000, NULL, NULL, &error));
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(raw, &text, &length, NULL));
    g_assert_cmpint(g_remove(raw), ==, 0);
    g_assert_cmpmem(text, length, content, DISK_LENGTH);
}

static void
undo(World *w, bool forward)
{
    KvssAct act = { .id = 1, .kind = KVSS_ACT_REWRITE, .details = details_new(w) };
    g_autoptr(GError) error = NULL;

    g_assert_true(forward ? kvss_act_forward(&act, NULL, &error)
                          : kvss_act_undo(&act, NULL, 1, &error));
    g_assert_no_error(error);
    json_object_unref(act.details);
    g_assert_false(g_file_test(w->log, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(w->parked, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(w->image, G_FILE_TEST_EXISTS));
}

/* Died at each step: the old content stands at its place, and once more does no harm. */
static void
test_undo_at_each_step(World *w, gconstpointer data)
{
    /* Nothing was done yet. */
    image_fill(w, w->image, w->old, true);
    undo(w, false);
    assert_image_is(w, w->old);
    /* Parked, no log. */
    g_assert_cmpint(g_rename(w->image, w->parked), ==, 0);
    undo(w, false);
    assert_image_is(w, w->old);
    /* Parked, half written. */
    three_batches(w);
    g_assert_cmpint(g_rename(w->image, w->parked), ==, 0);
    image_fill(w, w->parked, w->now, false);
    undo(w, false);
    assert_image_is(w, w->old);
    undo(w, false);
    assert_image_is(w, w->old);
    /* All written, and back at its place. */
    three_batches(w);
    image_fill(w, w->image, w->now, false);
    undo(w, false);
    assert_image_is(w, w->old);
}

static void
test_forward(World *w, gconstpointer data)
{
    three_batches(w);
    image_fill(w, w->parked, w->now, true);
    undo(w, true);
    assert_image_is(w, w->now);
    undo(w, true);
}

static bool
may_come_back(KvssActKind kind, JsonObject *details, GError **error)
{
    KvssAct act = { .id = 1, .kind = kind, .details = details };

    return kvss_act_undo(&act, NULL, 1, error);
}

/* While a disk is half new, nothing that makes its VM startable is undone. */
static void
test_others_wait(World *w, gconstpointer data)
{
    g_autofree char *aside = g_build_filename(w->dir, "aside", NULL);
    g_autoptr(JsonObject) details = json_object_new();
    JsonArray *logs = json_array_new();
    const KvssActKind kinds[] = { KVSS_ACT_ASIDE, KVSS_ACT_UNDEFINE, KVSS_ACT_STOP };

    json_array_add_string_element(logs, w->log);
    json_object_set_array_member(details, "logs", logs);
    json_object_set_string_member(details, "name", "web01");
    json_object_set_string_member(details, "from", w->image);
    json_object_set_string_member(details, "to", aside);
    g_assert_true(g_file_set_contents(aside, "x", 1, NULL));
    kvss_undo_log_free(log_new(w));
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(may_come_back(kinds[i], details, &error));
        g_assert_error(error, KVSS_HOST_ERROR, KVSS_HOST_ERROR_STATE);
        g_assert_nonnull(strstr(error->message, w->log));
    }
    g_assert_cmpint(g_remove(w->log), ==, 0);
    g_assert_true(may_come_back(KVSS_ACT_ASIDE, details, NULL));
}

/* An empty folder where a file system is not mounted yet; what was in it is not gone. */
static void
dismount(World *w, bool back)
{
    g_autofree char *away = g_strconcat(w->dir, ".away", NULL);

    if (back) {
        g_assert_cmpint(g_rmdir(w->dir), ==, 0);
        g_assert_cmpint(g_rename(away, w->dir), ==, 0);
    } else {
        g_assert_cmpint(g_rename(w->dir, away), ==, 0);
        g_assert_cmpint(g_mkdir(w->dir, 0700), ==, 0);
    }
}

static JsonObject *
details_of_places(World *w, const char *parked)
{
    JsonObject *details = json_object_new();
    JsonArray *logs = json_array_new(), *places = json_array_new();

    json_array_add_string_element(logs, w->log);
    json_array_add_int_element(places, kvss_place_number(w->log));
    json_object_set_array_member(details, "logs", logs);
    json_object_set_array_member(details, "log-places", places);
    json_object_set_string_member(details, "name", "web01");
    json_object_set_string_member(details, "from", w->image);
    json_object_set_string_member(details, "to", w->parked);
    json_object_set_string_member(details, "path", w->image);
    json_object_set_string_member(details, "parked", parked);
    json_object_set_string_member(details, "log", w->log);
    json_object_set_int_member(details, "place", kvss_place_number(w->image));
    json_object_set_int_member(details, "log-place", kvss_place_number(w->log));
    return details;
}

static void
assert_waits(const KvssAct *act, bool forward)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(forward ? kvss_act_forward(act, NULL, &error)
                           : kvss_act_undo(act, NULL, 1, &error));
    g_assert_error(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "mount"));
}

/* Nothing of an act is there: that is no proof that it was undone. */
static void
test_not_mounted(World *w, gconstpointer data)
{
    const KvssActKind kinds[] = { KVSS_ACT_REWRITE, KVSS_ACT_ASIDE };

    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(JsonObject) details = details_of_places(w, w->parked);
        KvssAct act = { .id = 1, .kind = kinds[i], .details = details };
        g_autofree char *text = NULL;

        g_assert_true(g_file_set_contents(w->parked, "old", 3, NULL));
        dismount(w, false);
        assert_waits(&act, false);
        assert_waits(&act, true);
        dismount(w, true);
        g_assert_true(kvss_act_undo(&act, NULL, 1, NULL));
        g_assert_true(g_file_get_contents(w->image, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, "old");
        /* Undone, and its end was not written any more: once again. A person may remove it then. */
        g_assert_true(kvss_act_undo(&act, NULL, 1, NULL));
        g_assert_cmpint(g_remove(w->image), ==, 0);
        g_assert_true(kvss_act_undo(&act, NULL, 1, NULL));
    }
}

/* A new disk gets its name when there is only forward; until then nothing has it. */
static void
test_file_becomes(World *w, gconstpointer data)
{
    g_autoptr(JsonObject) details = json_object_new();
    KvssAct act = { .id = 1, .kind = KVSS_ACT_FILE, .details = details };
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    json_object_set_string_member(details, "path", w->parked);
    json_object_set_string_member(details, "aside", "");
    json_object_set_string_member(details, "becomes", w->image);
    g_assert_true(g_file_set_contents(w->parked, "new", 3, NULL));
    g_assert_true(kvss_act_undo(&act, NULL, 1, NULL));
    g_assert_false(g_file_test(w->parked, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_set_contents(w->parked, "new", 3, NULL));
    g_assert_true(g_file_set_contents(w->image, "stranger", 8, NULL));
    g_assert_false(kvss_act_forward(&act, NULL, &error));
    g_assert_cmpint(g_remove(w->image), ==, 0);
    for (int i = 0; i < 2; i++)
        g_assert_true(kvss_act_forward(&act, NULL, NULL));
    g_assert_true(g_file_get_contents(w->image, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "new");
}

/* A device is always there: whether it is half new is known where its log is. */
static void
test_log_not_mounted(World *w, gconstpointer data)
{
    g_autoptr(JsonObject) details = details_of_places(w, "");
    const KvssActKind kinds[] = { KVSS_ACT_REWRITE, KVSS_ACT_UNDEFINE, KVSS_ACT_STOP };

    dismount(w, false);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        KvssAct act = { .id = 1, .kind = kinds[i], .details = details };

        assert_waits(&act, false);
    }
    dismount(w, true);
}

#define TEST(name, function) g_test_add(name, World, NULL, world_set_up, function, world_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/undo-log/everything-back", test_everything_back);
    TEST("/undo-log/no-records", test_no_records);
    TEST("/undo-log/length-is-told", test_length_is_told);
    TEST("/undo-log/one-log-only", test_one_log_only);
    TEST("/undo-log/absent", test_absent);
    TEST("/undo-log/torn-tail", test_torn_tail);
    TEST("/undo-log/torn-header", test_torn_header);
    TEST("/undo-log/flipped-bits", test_flipped_bits);
    TEST("/undo-log/content-that-looks-like-a-record", test_content_that_looks_like_a_record);
    TEST("/rewrite/undo-at-each-step", test_undo_at_each_step);
    TEST("/rewrite/forward", test_forward);
    TEST("/rewrite/others-wait", test_others_wait);
    TEST("/rewrite/not-mounted", test_not_mounted);
    TEST("/rewrite/log-not-mounted", test_log_not_mounted);
    TEST("/rewrite/file-becomes", test_file_becomes);
    return g_test_run();
}
