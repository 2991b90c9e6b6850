/*
 * judge.c - what is a repository worth after a crash? Asked many times by one process
 *
 *   judge cheap REPO     a key that opens at once in place of the one there
 *   judge                answers questions, one a line on standard input, fields by tabs:
 *
 *     look REPO STATE    opens it; every snapshot that is there must verify, to the last byte
 *     add REPO STATE     the same, then a new backup is added, and that must verify; nothing that
 *                        dead processes left may stay
 *
 * STATE is the state folder of those who died. The answer is one line: "ok" and the ids of the
 * snapshots there; "none" and why it is no repository; or "bad" and what is wrong. The password
 * is in KVSS_PASSWORD.
 */
#include "cheap-key.h"
#include "repository/repository.h"

#include <stdio.h>
#include <string.h>

static void
note_damage(const char *what, char **snapshot_ids, char **paths, gpointer data)
{
    GString *found = data;

    g_string_append_printf(found, "%s%s", found->len > 0 ? "; " : "", what);
}

/* Appends the ids of all snapshots to @ids. */
static bool
verify_all(KvssRepository *repository, GString *ids, GError **error)
{
    g_autoptr(GString) found = g_string_new(NULL);
    KvssVerifyOptions options = { .read_data = true, .damage = note_damage, .data = found };
    g_autoptr(GPtrArray) list = kvss_repository_list_snapshots(repository, NULL, error);
    KvssVerifyResult result;

    if (!list || !kvss_repository_verify(repository, NULL, &options, &result, error))
        return false;
    if (result.damaged > 0)
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

static bool
add_backup(KvssRepository *repository, GError **error)
{
    static const char *const paths[] = { "/vms/after", NULL };
    KvssSnapshotInfo info = { "after", paths, paths, g_get_real_time() };
    g_autoptr(KvssUpload) upload = kvss_upload_new(repository, error);
    g_autofree uint8_t *noise = g_malloc(300000);
    g_autoptr(GBytes) bytes = NULL;
    char id[KVSS_ID_HEX_LENGTH + 1];

    for (unsigned i = 0; i < 300000; i++)
        noise[i] = (uint8_t) g_random_int();
    bytes = g_bytes_new_take(g_steal_pointer(&noise), 300000);
    return upload && kvss_upload_add_bytes(upload, "vms/after/disk", bytes, 0600, error)
        && kvss_upload_commit(upload, &info, id, error);
}

static bool
judge(bool add, const char *location, const char *state, GString *ids, GError **error)
{
    g_autoptr(KvssRepository) repository
        = kvss_repository_open(location, g_getenv("KVSS_PASSWORD"),
                               add ? KVSS_REPOSITORY_ADD : KVSS_REPOSITORY_LOOK, NULL, state, error);

    if (!repository || !check_empty(location, "locks", 1, error) || !verify_all(repository, ids, error))
        return false;
    if (!add)
        return true;
    if (!check_empty(location, "tmp", 0, error) || !add_backup(repository, error))
        return false;

    /* What was added is seen by somebody who opens anew. */
    kvss_repository_free(g_steal_pointer(&repository));
    g_string_truncate(ids, 0);
    return judge(false, location, state, ids, error);
}

static void
answer(char *line)
{
    g_auto(GStrv) fields = g_strsplit(g_strchomp(line), "\t", -1);
    g_autoptr(GString) ids = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    if (g_strv_length(fields) != 3)
        g_error("what is \"%s\"?", line);
    if (judge(strcmp(fields[0], "add") == 0, fields[1], fields[2], ids, &error))
        printf("ok%s\n", ids->str);
    else if (g_error_matches(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_MISSING))
        printf("none %s\n", error->message);
    else
        printf("bad %s\n", error->message);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    g_autofree char *line = g_malloc(16384);

    if (argc == 3 && strcmp(argv[1], "cheap") == 0) {
        cheap_key(argv[2], g_getenv("KVSS_PASSWORD"));
        return 0;
    }
    while (fgets(line, 16384, stdin))
        answer(line);
    return 0;
}
