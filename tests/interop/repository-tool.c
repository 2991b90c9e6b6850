/*
 * repository-tool.c - the repository by itself, as a command, for tests against restic
 *
 *   repository-tool init REPO
 *   repository-tool make REPO                        init, with a key that costs nothing
 *   repository-tool cheap REPO                       such a key in place of the one that is there
 *   repository-tool backup REPO TAG PATH=FILE...     prints the snapshot's id
 *   repository-tool list REPO
 *   repository-tool dump REPO SNAPSHOT PATH          content to standard output
 *   repository-tool restore REPO SNAPSHOT PATH FILE  through the copy loop, as a disk
 *   repository-tool verify REPO [--read-data]
 *   repository-tool remove REPO snapshot|pack NAME   the file, by no way of ours to do so
 *   repository-tool hold REPO                        opens to add, and waits for the end of its input
 *
 * The password is in KVSS_PASSWORD, caches in KVSS_CACHE_DIR, state in
 * KVSS_STATE_DIR; KVSS_TEST_TIME is a backup's time, RFC 3339. A failure prints "CODE: message" and exits 1.
 */
#include "repository/backend/backend.h"
#include "repository/format/timestamp.h"
#include "repository/repository.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include "cheap-key.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static KvssRepository *
open_repository(const char *location, KvssRepositoryMode mode, GError **error)
{
    const char *password = g_getenv("KVSS_PASSWORD");
    const char *state = g_getenv("KVSS_STATE_DIR");

    return kvss_repository_open(location, password ? password : "", mode,
                                g_getenv("KVSS_CACHE_DIR"), state ? state : "/tmp/kvss-tool",
                                error);
}

static bool
cmd_init(char **args, GError **error)
{
    g_autofree char *id = NULL;

    if (!kvss_repository_init(args[0], g_getenv("KVSS_PASSWORD"), &id, error))
        return false;
    printf("%s\n", id);
    return true;
}

static bool
cmd_make(char **args, GError **error)
{
    return cheap_init(args[0], g_getenv("KVSS_PASSWORD"), error);
}

static bool
cmd_cheap(char **args, GError **error)
{
    cheap_key(args[0], g_getenv("KVSS_PASSWORD"));
    return true;
}

static bool
store_file(KvssUpload *upload, const char *arg, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(arg, "=", 2);
    g_autoptr(KvssSource) source = kvss_source_new_file(parts[1], error);
    g_autoptr(KvssSink) sink = NULL;

    if (!source)
        return false;
    sink = kvss_upload_open_file(upload, parts[0], source->size,
                                 kvss_upload_chunk_size(source->size), 0600, NULL, error);
    return sink && kvss_copy(source, sink, NULL, NULL, NULL, NULL, error);
}

static bool
cmd_backup(char **args, GError **error)
{
    const char *tags[] = { args[1], NULL }, *paths[] = { "/vms/test", NULL };
    KvssSnapshotInfo info = { "testhost", paths, tags, g_get_real_time() };
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_ADD, error);
    g_autoptr(KvssUpload) upload = repository ? kvss_upload_new(repository, error) : NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];
    KvssUploadStats stats;

    if (!upload)
        return false;
    if (g_getenv("KVSS_TEST_TIME"))
        g_assert_true(kvss_time_parse(g_getenv("KVSS_TEST_TIME"), &info.time_us));
    for (args += 2; *args; args++)
        if (!store_file(upload, *args, error))
            return false;
    if (!kvss_upload_commit(upload, &info, id, error))
        return false;
    id[KVSS_ID_HEX_LENGTH] = '\n';
    if (write(STDOUT_FILENO, id, sizeof id) != sizeof id) /* from here on somebody counts on it */
        g_error("no standard output");
    stats = kvss_upload_stats(upload);
    fprintf(stderr, "stored %" G_GUINT64_FORMAT " new %" G_GUINT64_FORMAT " chunks %"
            G_GUINT64_FORMAT " new %" G_GUINT64_FORMAT "\n", stats.bytes_stored, stats.bytes_new,
            stats.chunks, stats.chunks_new);
    return true;
}

static bool
cmd_list(char **args, GError **error)
{
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_LOOK, error);
    g_autoptr(GPtrArray) list
        = repository ? kvss_repository_list_snapshots(repository, NULL, error) : NULL;

    for (guint i = 0; list && i < list->len; i++) {
        const KvssSnapshot *snapshot = g_ptr_array_index(list, i);
        g_autofree char *tags = g_strjoinv(",", snapshot->tags);

        printf("%s %s %s %s\n", snapshot->id, snapshot->time, snapshot->hostname, tags);
    }
    return list != NULL;
}

static KvssNode *
find_node(KvssRepository *repository, const char *id, const char *path, GError **error)
{
    g_autoptr(KvssSnapshot) snapshot = kvss_repository_find_snapshot(repository, id, error);

    return snapshot ? kvss_repository_lookup(repository, snapshot->tree, path, error) : NULL;
}

static KvssSource *
open_source(KvssRepository *repository, char **args, GError **error)
{
    g_autoptr(KvssNode) node = find_node(repository, args[1], args[2], error);

    return node ? kvss_repository_open_file(repository, node, error) : NULL;
}

static bool
cmd_dump(char **args, GError **error)
{
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_LOOK, error);
    g_autoptr(KvssSource) source = repository ? open_source(repository, args, error) : NULL;
    g_autofree uint8_t *buffer = g_malloc(1000003); /* no multiple of any chunk */

    for (uint64_t at = 0; source && at < source->size;) {
        size_t part = MIN(source->size - at, 1000003);

        if (!kvss_source_read(source, at, buffer, part, error))
            return false;
        fwrite(buffer, 1, part, stdout);
        at += part;
    }
    return source != NULL;
}

/* ---- a plain file as a sink ---- */

typedef struct {
    KvssSink sink;
    int fd;
} FileSink;

static bool
sink_write(KvssSink *sink, uint64_t offset, const void *buffer, size_t length, GError **error)
{
    g_assert(pwrite(((FileSink *) sink)->fd, buffer, length, (off_t) offset) == (ssize_t) length);
    return true;
}

static bool
sink_zero(KvssSink *sink, uint64_t offset, uint64_t length, GError **error)
{
    return true;
}

static bool
sink_finish(KvssSink *sink, GError **error)
{
    return true;
}

static const KvssSinkOps sink_ops = { sink_write, sink_zero, sink_finish, NULL };

static bool
cmd_restore(char **args, GError **error)
{
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_LOOK, error);
    g_autoptr(KvssSource) source = repository ? open_source(repository, args, error) : NULL;
    FileSink sink = { .sink = { .ops = &sink_ops, .block = 65536, .is_parallel = true } };

    if (!source)
        return false;
    sink.sink.size = source->size;
    sink.fd = open(args[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
    g_assert(sink.fd >= 0 && ftruncate(sink.fd, (off_t) source->size) == 0);
    return kvss_copy(source, &sink.sink, NULL, NULL, NULL, NULL, error);
}

static void
print_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    g_autofree char *ids = snapshot_ids ? g_strjoinv(",", snapshot_ids) : NULL;
    g_autofree char *files = paths ? g_strjoinv(",", paths) : NULL;

    printf("damage: %s | %s | %s\n", what, ids ? ids : "-", files ? files : "-");
}

static bool
cmd_verify(char **args, GError **error)
{
    KvssVerifyOptions options = { .read_data = g_strcmp0(args[1], "--read-data") == 0,
                                  .damage = print_damage };
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_LOOK, error);
    KvssVerifyResult result;

    if (!repository || !kvss_repository_verify(repository, NULL, &options, &result, error))
        return false;
    printf("snapshots %" G_GUINT64_FORMAT " packs %" G_GUINT64_FORMAT " blobs %" G_GUINT64_FORMAT
           " read %" G_GUINT64_FORMAT " damaged %" G_GUINT64_FORMAT "\n", result.snapshots,
           result.packs, result.blobs, result.bytes_read, result.damaged);
    return true;
}

static bool
cmd_remove(char **args, GError **error)
{
    KvssFileType type = strcmp(args[1], "pack") == 0 ? KVSS_FILE_DATA : KVSS_FILE_SNAPSHOT;
    g_autoptr(KvssBackend) backend = kvss_backend_open(args[0], error);

    return backend && kvss_backend_remove(backend, type, args[2], error);
}

static bool
cmd_hold(char **args, GError **error)
{
    g_autoptr(KvssRepository) repository = open_repository(args[0], KVSS_REPOSITORY_ADD, error);

    if (!repository)
        return false;
    printf("holding\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return true;
}

static const struct {
    const char *name;
    int n_args; /* at least */
    bool (*run)(char **args, GError **error);
} commands[] = {
    { "init", 1, cmd_init },     { "make", 1, cmd_make },       { "cheap", 1, cmd_cheap },
    { "backup", 3, cmd_backup }, { "list", 1, cmd_list },       { "dump", 3, cmd_dump },
    { "verify", 1, cmd_verify }, { "restore", 4, cmd_restore }, { "remove", 3, cmd_remove },
    { "hold", 1, cmd_hold },
};

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    (void) signal(SIGHUP, SIG_IGN); /* restic unlock asks with it whether we live */
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0 || argc - 2 < commands[i].n_args)
            continue;
        if (commands[i].run(argv + 2, &error))
            return 0;
        fprintf(stderr, "%s %d: %s\n", g_quark_to_string(error->domain), error->code,
                error->message);
        return 1;
    }
    fprintf(stderr, "usage: see the head of repository-tool.c\n");
    return 2;
}
