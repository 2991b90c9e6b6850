/*
 * place.c - where clones and copies of files go, and how they get there
 */
#include "provider/files/place.h"
#include "base/beneath.h"
#include "base/fd.h"
#include "guardian/acts-restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_LENGTH (1024u * 1024)

void
place_free(Place *place)
{
    if (!place)
        return;
    kvss_fd_clear(&place->fd);
    g_free(place->path);
    g_free(place);
}

/* @above is open; what is made there must be ours alone. */
static Place *
place_make(int above, const char *name, const char *path, GError **error)
{
    Place *place;
    struct stat st;
    int fd;

    if (mkdirat(above, name, 0700) < 0) {
        kvss_throw_errno(error, errno, "make folder %s", path);
        return NULL;
    }
    fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0777) != 0700) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                   "folder %s is not what was made there", path);
        kvss_fd_clear(&fd);
        return NULL;
    }
    place = g_new0(Place, 1);
    place->path = g_strdup(path);
    place->fd = fd;
    return place;
}

Place *
place_new_in_run(KvssRun *run, GError **error)
{
    kvss_autofd int above = open(kvss_run_folder(run), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *path = g_build_filename(kvss_run_folder(run), "files", NULL);

    if (above < 0) {
        kvss_throw_errno(error, errno, "open work folder %s", kvss_run_folder(run));
        return NULL;
    }
    return place_make(above, "files", path, error);
}

int
place_make_file(Place *place, char **out_path, GError **error)
{
    g_autofree char *name = g_strdup_printf("%u", ++place->last);
    int fd;

    if (g_atomic_int_get(&place->is_closed)) {
        kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED, "the set was given up");
        return -1;
    }
    fd = openat(place->fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        kvss_throw_errno(error, errno, "create %s/%s", place->path, name);
        return -1;
    }
    *out_path = g_build_filename(place->path, name, NULL);
    return fd;
}

/* A file that was being made when the place was closed comes between at most once. */
bool
place_remove(Place *place, KvssRun *run, GError **error)
{
    g_atomic_int_set(&place->is_closed, 1);
    if (!kvss_act_remove_tree(place->path, NULL) && !kvss_act_remove_tree(place->path, error))
        return false;
    if (place->act && run)
        kvss_run_act_end(run, place->act);
    return true;
}

bool
place_is_on(const Place *place, dev_t device)
{
    struct stat st;

    return fstat(place->fd, &st) == 0 && st.st_dev == device;
}

bool
place_clone(int source, int target)
{
    return ioctl(target, FICLONE, source) == 0;
}

/* One file cloned into another, to see whether that works here. Both go with the folder. */
static bool
can_clone_in(Place *place)
{
    static const char content[4096] = "kvss";
    g_autofree char *from_path = NULL, *to_path = NULL;
    kvss_autofd int from = place_make_file(place, &from_path, NULL);
    kvss_autofd int to = place_make_file(place, &to_path, NULL);
    bool ok = from >= 0 && to >= 0 && kvss_write_exact(from, content, sizeof content, NULL)
              && place_clone(from, to);

    if (from_path)
        (void) unlink(from_path);
    if (to_path)
        (void) unlink(to_path);
    return ok;
}

Place *
place_new_beside(KvssRun *run, const char *folder, unsigned number, GError **error)
{
    g_autofree char *above_path = g_path_get_dirname(folder);
    g_autofree char *name = g_strdup_printf(".kvss-%.8s-%u", kvss_run_id(run), number);
    g_autofree char *path = g_build_filename(above_path, name, NULL);
    kvss_autofd int above = g_str_equal(above_path, "/")
        ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        : kvss_open_real(above_path, O_RDONLY | O_DIRECTORY, NULL);
    JsonObject *details;
    KvssActId act;
    Place *place;

    if (above < 0)
        return NULL;
    details = json_object_new();
    json_object_set_string_member(details, "path", path);
    act = kvss_run_act_begin(run, KVSS_ACT_FOLDER, details, error);
    if (!act)
        return NULL;
    place = place_make(above, name, path, NULL);
    if (place && can_clone_in(place)) {
        place->act = act;
        return place;
    }
    /* Without clones; or read-only, or taken by others: then nothing of ours is there. */
    if (place)
        (void) kvss_run_act_undo(run, act, NULL);
    else
        kvss_run_act_end(run, act);
    place_free(place);
    return NULL;
}

static bool
throw_too_slow(GError **error)
{
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                      "copying takes too long for a moment in which its writer holds still");
}

bool
place_copy(int source, int target, uint64_t *bytes_left, gint64 deadline_us,
           GCancellable *cancellable, GError **error)
{
    g_autofree char *buffer = g_malloc(BUFFER_LENGTH);
    struct stat st;
    uint64_t at = 0;

    if (fstat(source, &st) < 0)
        return kvss_throw_errno(error, errno, "look at the file");
    if ((uint64_t) st.st_size > *bytes_left)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                          "too large to be copied while its writer holds still");
    *bytes_left -= (uint64_t) st.st_size;
    while (at < (uint64_t) st.st_size) {
        size_t n = MIN(BUFFER_LENGTH, (uint64_t) st.st_size - at);

        if (!kvss_check_cancelled(cancellable, error))
            return false;
        if (g_get_monotonic_time() > deadline_us)
            return throw_too_slow(error);
        if (!kvss_pread_exact(source, buffer, n, at, error)
            || !kvss_write_exact(target, buffer, n, error))
            return false;
        at += n;
    }
    return true;
}
