/*
 * judge.c - what is a repository worth after a crash? Asked many times by one process
 *
 * It answers questions, one a line on standard input, with tabs between the fields:
 *
 *   look REPO STATE           opens it; every snapshot that is there must verify, to the last byte
 *   add REPO STATE [FILE...]  the same, then a backup of the files and of something new is added,
 *                             and everything must verify; nothing that dead processes left may stay
 *   repair REPO STATE         every snapshot that is there must verify but for damage that hits none;
 *                             after a repair nothing may be damaged
 *
 * STATE is the state folder of those who died. The answer is one line: "ok" and the ids of the
 * snapshots that were there; "none" and why it is no repository; or "bad" and what is wrong. The password
 * is in KVSS_PASSWORD.
 */
#include "repository/repository.h"
#include "stream/copy.h"
#include "stream/sink.h"
#include "stream/source.h"

#include <stdio.h>
#include <string.h>

static void
note_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    GString *found = data;

    g_string_append_printf(found, "%s%s", found->len > 0 ? "; " : "", what);
}

static void
note_hit(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    if (snapshot_ids && *snapshot_ids)
        note_damage(what, snapshot_ids, paths, data);
}

typedef void (*NoteFunc)(const char *what, char **snapshot_ids, char **paths, gpointer data);

/* Appends the ids of all snapshots to @ids. What @note says is wrong. */
static bool
verify_all(KvssRepository *repository, NoteFunc note, GString *ids, GError **error)
{
    g_autoptr(GString) found = g_string_new(NULL);
    KvssVerifyOptions options = { .read_data = true, .damage = note, .data = found };
    g_autoptr(GPtrArray) list = kvss_repository_list_snapshots(repository, NULL, error);
    KvssVerifyResult result;

    if (!list || !kvss_repository_verify(repository, NULL, &options, &result, error))
        return false;
    if (found->len > 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT, "%s",
                          found->str);
    for (guint i = 0; i < list->len; i++)
        g_string_append_printf(ids, " %s", ((const KvssSnapshot *) g_ptr_array_index(list, i))->id);
    return true;
}

static bool
check_empty(const char *repository, const char *folder, unsigned limit, GError **error)
{
    g_autofree char *path = g_build_filename(repository, folder, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n <= limit
        || kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                      "%u files of the dead stay in %s", n - limit, folder);
}

/* As a disk: cut as the backup that had it was. */
static bool
add_file(KvssUpload *upload, const char *path, unsigned number, GError **error)
{
    g_autofree char *name = g_strdup_printf("vms/after/disks/%u", number);
    g_autoptr(KvssSource) source = kvss_source_new_file(path, error);
    g_autoptr(KvssSink) sink = NULL;

    if (!source)
        return false;
    sink = kvss_upload_open_file(upload, name, source->size, kvss_upload_chunk_size(source->size),
                                 0600, NULL, error);
    return sink && kvss_copy(source, sink, NULL, NULL, NULL, NULL, error);
}

static bool
add_noise(KvssUpload *upload, GError **error)
{
    const size_t length = 300000;
    g_autofree uint8_t *noise = g_malloc(length);
    g_autoptr(GBytes) bytes = NULL;

    for (size_t i = 0; i < length; i++)
        noise[i] = (uint8_t) g_random_int();
    bytes = g_bytes_new_take(g_steal_pointer(&noise), length);
    return kvss_upload_add_bytes(upload, "vms/after/new", bytes, 0600, error);
}

static bool
add_backup(KvssRepository *repository, char **files, GError **error)
{
    static const char *const paths[] = { "/vms/after", NULL };
    KvssSnapshotInfo info = { "after", paths, paths, g_get_real_time() };
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, error);
    char id[KVSS_ID_HEX_LENGTH + 1];

    if (!upload || !add_noise(upload, error))
        return false;
    for (unsigned i = 0; files[i]; i++)
        if (!add_file(upload, files[i], i, error))
            return false;
    return kvss_upload_commit(upload, &info, id, error);
}

static bool
look(KvssRepositoryMode mode, NoteFunc note, char **fields, GString *ids, KvssRepository **out,
     GError **error)
{
    *out = kvss_repository_open(fields[1], g_getenv("KVSS_PASSWORD"), mode, NULL, fields[2], error);
    return *out && check_empty(fields[1], "locks", 1, error) && verify_all(*out, note, ids, error);
}

/* What was damaged before may be so until a repair has come to its end. */
static bool
repair(char **fields, GString *ids, GError **error)
{
    g_autoptr(GString) ids_after = g_string_new(NULL);
    g_autoptr(KvssRepository) repository = NULL, again = NULL;
    KvssRepairOptions options = { .read_data = true };
    KvssRepairResult result;

    if (!look(KVSS_REPOSITORY_LOOK, note_hit, fields, ids, &repository, error))
        return false;
    kvss_repository_free(g_steal_pointer(&repository));
    repository = kvss_repository_open(fields[1], g_getenv("KVSS_PASSWORD"), KVSS_REPOSITORY_REMOVE,
                                      NULL, fields[2], error);
    if (!repository || !kvss_repository_repair(repository, &options, &result, error))
        return false;
    kvss_repository_free(g_steal_pointer(&repository));
    return look(KVSS_REPOSITORY_LOOK, note_damage, fields, ids_after, &again, error);
}

static bool
judge(char **fields, GString *ids, GError **error)
{
    g_autoptr(GString) ids_after = g_string_new(NULL);
    g_autoptr(KvssRepository) repository = NULL, again = NULL;

    if (strcmp(fields[0], "look") == 0)
        return look(KVSS_REPOSITORY_LOOK, note_damage, fields, ids, &repository, error);
    if (strcmp(fields[0], "repair") == 0)
        return repair(fields, ids, error);
    if (!look(KVSS_REPOSITORY_ADD, note_damage, fields, ids, &repository, error)
        || !check_empty(fields[1], "tmp", 0, error)
        || !add_backup(repository, fields + 3, error))
        return false;

    /* What was added is seen by somebody who opens anew. */
    kvss_repository_free(g_steal_pointer(&repository));
    return look(KVSS_REPOSITORY_LOOK, note_damage, fields, ids_after, &again, error);
}

static void
answer(char *line)
{
    g_auto(GStrv) fields = g_strsplit(g_strchomp(line), "\t", -1);
    g_autoptr(GString) ids = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    if (g_strv_length(fields) < 3)
        g_error("what is \"%s\"?", line);
    if (judge(fields, ids, &error))
        printf("ok%s\n", ids->str);
    else if (g_error_matches(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING))
        printf("none %s\n", error->message);
    else
        printf("bad %s\n", error->message);
    fflush(stdout);
}

int
main(void)
{
    g_autofree char *line = g_malloc(16384);

    while (fgets(line, 16384, stdin))
        answer(line);
    return 0;
}
