/*
 * files-provider.c - files of the host as a provider of shadow copies
 *
 * The writers hold still while this works, so whatever can be found out or refused
 * earlier is: EndPrepareSnapshots makes the places for clones and goes through the
 * folders once, CommitSnapshots only clones.
 *
 * An abort may come while a commit hangs. It removes the places: a file that is made
 * after that has no folder to be made in. The abort that follows the late commit finds the rest.
 */
#include "provider/files/files-provider.h"
#include "base/beneath.h"
#include "base/fd.h"
#include "guardian/run.h"
#include "provider/files/place.h"
#include "provider/files/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COPY_BYTES (256u * 1024 * 1024)
#define COMMIT_MS 7000
#define FILES_MAX 100000

typedef struct {
    KvssProvider provider;
    KvssFilesLimits limits;

    GMutex lock;          /* guards places; never held over a walk */
    GPtrArray *places;    /* Place; the first is in the work folder; kept until the provider goes */

    /* Of the steps alone, which come one after the other. */
    GHashTable *beside;   /* KvssFileSet -> Place (borrowed) */
    GHashTable *skip;     /* see Walk */
    GHashTable *ours;     /* see Walk */
    GHashTable *taken;    /* component and path of each file so far */
    unsigned entries_left;
    uint64_t copy_left;
    gint64 deadline_us;
} FilesProvider;

/* ---- what is ours ---- */

static bool
is_ours(const KvssFileSet *files, bool is_stable)
{
    return files->is_stable == is_stable
           && g_strcmp0(files->provider, KVSS_FILES_PROVIDER_NAME) == 0;
}

static bool
has_sets(const KvssComponent *component, bool is_stable)
{
    for (guint i = 0; i < component->file_sets->len; i++)
        if (is_ours(g_ptr_array_index(component->file_sets, i), is_stable))
            return true;
    return false;
}

static bool
is_below_any(const char *path, const char *const *folders)
{
    for (; *folders; folders++) {
        size_t length = strlen(*folders);

        if (strncmp(path, *folders, length) == 0 && (path[length] == '/' || !path[length]))
            return true;
    }
    return false;
}

static bool
files_is_supported(KvssProvider *p, const KvssComponent *c, const KvssFileSet *s,
                   char **out_reason)
{
    static const char *const no_files[] = { "/proc", "/sys", "/dev", NULL };

    if (!kvss_is_plain_path(s->path))
        *out_reason = g_strdup("its folder is no plain absolute path");
    else if (is_below_any(s->path, no_files))
        *out_reason = g_strdup("what the kernel shows there are no files that can be kept");
    else if (!s->filespec || !*s->filespec || strchr(s->filespec, '/')
             || !g_utf8_validate(s->filespec, -1, NULL))
        *out_reason = g_strdup("its filespec is no pattern for a name");
    else
        return true;
    return false;
}

/* ---- failures ---- */

static KvssHresult
code_of(const GError *error)
{
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT))
        return KVSS_E_HOLD_WRITES_TIMEOUT;
    if (g_error_matches(error, KVSS_IO_ERROR, KVSS_IO_ERROR_NO_SPACE))
        return KVSS_E_INSUFFICIENT_STORAGE;
    return KVSS_E_PROVIDER_VETO;
}

/* Says whose files they were and, where time was the trouble, what to do. */
static bool
fail(KvssComponent *component, GError *problem, GError **error)
{
    KvssHresult code = code_of(problem);

    if (g_error_matches(problem, KVSS_IO_ERROR, KVSS_IO_ERROR_CANCELLED)) {
        g_propagate_error(error, problem);
        return false;
    }
    if (code == KVSS_E_HOLD_WRITES_TIMEOUT) {
        char *message = g_strconcat(problem->message,
                                    ": use a file system with reflinks (XFS, Btrfs) for these files "
                                    "and for scratch-dir, or let the writer make a copy of its own "
                                    "and call it stable", NULL);

        g_free(problem->message);
        problem->message = message;
    }
    kvss_component_fail(component, code, "%s", problem->message);
    g_propagate_prefixed_error(error, problem, "%s: ", component->display_name);
    return false;
}

/* ---- places ---- */

/* Takes @place. */
static void
keep_place(FilesProvider *self, Place *place)
{
    struct stat st;

    g_mutex_lock(&self->lock);
    g_ptr_array_add(self->places, place);
    g_mutex_unlock(&self->lock);
    if (fstat(place->fd, &st) == 0)
        g_hash_table_add(self->skip, walk_folder_key(&st));
}

static Place *
work_place(FilesProvider *self)
{
    return g_ptr_array_index(self->places, 0);
}

static bool
make_work_place(FilesProvider *self, KvssRun *run, GError **error)
{
    Place *place;
    struct stat st;

    if (self->places->len > 0)
        return true;
    if (!run)
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_FAILED,
                          "there is no journal, and without one nothing is made");
    place = place_new_in_run(run, error);
    if (!place)
        return false;
    keep_place(self, place);
    if (stat(kvss_run_folder(run), &st) == 0)
        g_hash_table_add(self->skip, walk_folder_key(&st));
    /* Journals and locks as they are now would be wrong at any later time. */
    if (stat(kvss_run_state_dir(run), &st) == 0)
        g_hash_table_insert(self->ours, walk_folder_key(&st), (gpointer) "the state folder of kvss");
    return true;
}

/* Where the work folder is on another file system, perhaps beside the files themselves. */
static bool
make_place_beside(FilesProvider *self, KvssRun *run, const KvssFileSet *files, GError **error)
{
    g_autoptr(GError) problem = NULL;
    kvss_autofd int root = kvss_open_real(files->path, O_RDONLY | O_DIRECTORY, NULL);
    struct stat st;
    Place *place;

    if (root < 0 || fstat(root, &st) < 0 || place_is_on(work_place(self), st.st_dev))
        return true;
    place = place_new_beside(run, files->path, self->places->len, &problem);
    if (place) {
        keep_place(self, place);
        g_hash_table_insert(self->beside, (gpointer) files, place);
    } else if (problem) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    return true;
}

/* ---- before the freeze ---- */

/* Can this file be cloned? Tried with the file itself: that answers for its file system. */
static bool
can_clone(FilesProvider *self, const KvssFileSet *files, int folder, const char *name)
{
    Place *candidates[] = { work_place(self), g_hash_table_lookup(self->beside, files) };
    kvss_autofd int source = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool ok = false;

    for (guint i = 0; !ok && source >= 0 && i < G_N_ELEMENTS(candidates); i++) {
        g_autofree char *path = NULL;
        kvss_autofd int target = candidates[i] ? place_make_file(candidates[i], &path, NULL) : -1;

        ok = target >= 0 && place_clone(source, target);
        if (path)
            (void) unlink(path);
    }
    return ok;
}

/** What a look before the freeze finds out about one file set. */
typedef struct {
    FilesProvider *self;
    GHashTable *clones; /* device -> may be cloned, and was tried */
} Survey;

static bool
survey_file(Walk *walk, int folder, const char *name, const char *path, const struct stat *st,
            GError **error)
{
    Survey *survey = walk->data;
    gpointer key = GSIZE_TO_POINTER((gsize) st->st_dev), known;

    if (!g_hash_table_lookup_extended(survey->clones, key, NULL, &known)) {
        known = GINT_TO_POINTER(can_clone(survey->self, walk->files, folder, name));
        g_hash_table_insert(survey->clones, key, known);
    }
    if (known || (uint64_t) st->st_size <= survey->self->copy_left) {
        survey->self->copy_left -= known ? 0 : (uint64_t) st->st_size;
        return true;
    }
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_TIMED_OUT,
                      "%s: cannot be cloned, and is too large to be copied while its writer holds "
                      "still (%" G_GUINT64_FORMAT " MiB in all are possible)",
                      path, survey->self->limits.copy_bytes >> 20);
}

/* A folder that its writer makes later is looked at later. */
static bool
is_there(const KvssFileSet *files)
{
    struct stat st;

    return lstat(files->path, &st) == 0 || errno != ENOENT;
}

static bool
survey_set(FilesProvider *self, KvssSnapshotSet *set, const KvssFileSet *files, GError **error)
{
    g_autoptr(GHashTable) clones = g_hash_table_new(NULL, NULL);
    Survey survey = { self, clones };
    Walk walk = {
        .files = files,
        .cancellable = g_atomic_pointer_get(&set->cancellable),
        .entries_left = &self->entries_left,
        .skip = self->skip,
        .ours = self->ours,
        .found = survey_file,
        .data = &survey,
    };

    return !is_there(files)
           || (make_place_beside(self, set->run, files, error) && walk_run(&walk, error));
}

static bool
survey_component(FilesProvider *self, KvssSnapshotSet *set, KvssComponent *component,
                 GError **error)
{
    GError *problem = NULL;
    bool ok = make_work_place(self, set->run, &problem);

    for (guint i = 0; ok && i < component->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(component->file_sets, i);

        if (is_ours(files, false))
            ok = survey_set(self, set, files, &problem);
    }
    return ok || fail(component, problem, error);
}

static void
reset_limits(FilesProvider *self)
{
    self->entries_left = self->limits.files;
    self->copy_left = self->limits.copy_bytes;
}

static bool
files_end_prepare(KvssProvider *p, KvssSnapshotSet *set, GError **error)
{
    FilesProvider *self = (FilesProvider *) p;

    reset_limits(self);
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (has_sets(component, false) && !survey_component(self, set, component, error))
            return false;
    }
    return true;
}

/* ---- files of the component ---- */

/* Two file sets of a component may mean the same file: it is carried once. */
static bool
take(FilesProvider *self, const KvssComponent *component, const char *path)
{
    return g_hash_table_add(self->taken, g_strdup_printf("%p%s", (const void *) component, path));
}

static void
add_file(KvssComponent *component, const char *original, const char *path,
         const struct stat *owner, const struct stat *st)
{
    g_autofree char *name = g_strconcat("files", original, NULL);
    KvssFile *file = kvss_component_add_file(component, name, path, owner->st_mode & 07777);

    kvss_set_string(&file->original, original);
    file->uid = owner->st_uid;
    file->gid = owner->st_gid;
    file->is_identified = true;
    file->device = st->st_dev;
    file->inode = st->st_ino;
    file->size = (uint64_t) st->st_size;
    file->mtime_ns = (gint64) st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    file->ctime_ns = (gint64) st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

/* ---- inside the window ---- */

static bool
is_same(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec
           && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool
copy_file(FilesProvider *self, const Walk *walk, int source, int target, const struct stat *before,
          GError **error)
{
    struct stat after;

    if (!place_copy(source, target, &self->copy_left, self->deadline_us, walk->cancellable, error))
        return false;
    if (fstat(source, &after) == 0 && is_same(before, &after))
        return true;
    return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                      "changed while its writer should hold still");
}

/* A clone beside the source, or in the work folder, or a copy there: the first that works. */
static int
clone_file(FilesProvider *self, const Walk *walk, int source, const struct stat *st,
           char **out_path, GError **error)
{
    Place *beside = g_hash_table_lookup(self->beside, walk->files);
    kvss_autofd int target = -1;

    if (beside) {
        target = place_make_file(beside, out_path, NULL);
        if (target >= 0 && place_clone(source, target))
            return kvss_fd_steal(&target);
        kvss_fd_clear(&target);
        g_clear_pointer(out_path, g_free);
    }
    target = place_make_file(work_place(self), out_path, error);
    if (target < 0 || (!place_clone(source, target)
                       && !copy_file(self, walk, source, target, st, error)))
        return -1;
    return kvss_fd_steal(&target);
}

static bool
cut_file(Walk *walk, int folder, const char *name, const char *path, const struct stat *seen,
         GError **error)
{
    FilesProvider *self = walk->data;
    kvss_autofd int source = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    kvss_autofd int target = -1;
    g_autofree char *clone = NULL;
    struct stat st, made;

    if (!take(self, walk->component, path))
        return true;
    if (source < 0 || fstat(source, &st) < 0)
        return kvss_throw_errno(error, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return kvss_throw(error, KVSS_IO_ERROR, KVSS_IO_ERROR_CORRUPT,
                          "%s: changed while its writer should hold still", path);
    target = clone_file(self, walk, source, &st, &clone, error);
    if (target < 0) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (fstat(target, &made) < 0)
        return kvss_throw_errno(error, errno, "look at the clone of %s", path);
    add_file(walk->component, path, clone, &st, &made);
    return true;
}

static bool
walk_sets(FilesProvider *self, KvssSnapshotSet *set, KvssComponent *component, bool is_stable,
          WalkFound found, GError **error)
{
    GError *problem = NULL;

    for (guint i = 0; i < component->file_sets->len; i++) {
        const KvssFileSet *files = g_ptr_array_index(component->file_sets, i);
        Walk walk = {
            .component = component,
            .files = files,
            .cancellable = g_atomic_pointer_get(&set->cancellable),
            .deadline_us = is_stable ? 0 : self->deadline_us,
            .entries_left = &self->entries_left,
            .skip = self->skip,
            .ours = self->ours,
            .found = found,
            .data = self,
        };

        if (is_ours(files, is_stable) && !walk_run(&walk, &problem))
            return fail(component, problem, error);
    }
    return true;
}

static bool
files_commit(KvssProvider *p, KvssSnapshotSet *set, GError **error)
{
    FilesProvider *self = (FilesProvider *) p;

    reset_limits(self);
    self->deadline_us = g_get_monotonic_time() + (gint64) self->limits.commit_ms * 1000;
    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (!has_sets(component, false))
            continue;
        if (component->instant_us < 0)
            component->instant_us = g_get_monotonic_time();
        if (!walk_sets(self, set, component, false, cut_file, error))
            return false;
    }
    return true;
}

/* ---- after the thaw ---- */

static bool
note_stable_file(Walk *walk, int folder, const char *name, const char *path,
                 const struct stat *st, GError **error)
{
    if (take(walk->data, walk->component, path))
        add_file(walk->component, path, path, st, st);
    return true;
}

static bool
files_post_final_commit(KvssProvider *p, KvssSnapshotSet *set, GError **error)
{
    FilesProvider *self = (FilesProvider *) p;

    for (guint i = 0; i < set->components->len; i++) {
        KvssComponent *component = g_ptr_array_index(set->components, i);

        if (!walk_sets(self, set, component, true, note_stable_file, error))
            return false;
    }
    return true;
}

/* ---- the end ---- */

static void
remove_place(KvssRun *run, Place *place)
{
    g_autoptr(GError) problem = NULL;

    if (!place_remove(place, run, &problem))
        g_warning("%s", problem->message);
}

static void
files_delete_copies(KvssProvider *p, KvssSnapshotSet *set)
{
    FilesProvider *self = (FilesProvider *) p;
    g_autoptr(GPtrArray) places = g_ptr_array_new();

    g_mutex_lock(&self->lock);
    for (guint i = 0; i < self->places->len; i++)
        g_ptr_array_add(places, g_ptr_array_index(self->places, i));
    g_mutex_unlock(&self->lock);
    for (guint i = 0; i < places->len; i++)
        remove_place(set->run, g_ptr_array_index(places, i));
}

static void
files_free(KvssProvider *p)
{
    FilesProvider *self = (FilesProvider *) p;

    kvss_provider_clear(p);
    g_mutex_clear(&self->lock);
    g_ptr_array_unref(self->places);
    g_hash_table_unref(self->beside);
    g_hash_table_unref(self->skip);
    g_hash_table_unref(self->ours);
    g_hash_table_unref(self->taken);
    g_free(self);
}

static const KvssProviderOps files_ops = {
    .name = KVSS_FILES_PROVIDER_NAME,
    .id = "7d3e1b52-94c8-4f0a-8b6d-2a51c90e7f36",
    .version = KVSS_VERSION,
    .type = "software",
    .is_file_set_supported = files_is_supported,
    .end_prepare = files_end_prepare,
    .commit = files_commit,
    .post_final_commit = files_post_final_commit,
    .delete_copies = files_delete_copies,
    .abort = files_delete_copies,
    .free = files_free,
};

KvssProvider *
kvss_files_provider_new(const KvssFilesLimits *limits)
{
    FilesProvider *self = g_new0(FilesProvider, 1);

    if (limits)
        self->limits = *limits;
    self->limits.copy_bytes = self->limits.copy_bytes ? self->limits.copy_bytes : COPY_BYTES;
    self->limits.commit_ms = self->limits.commit_ms ? self->limits.commit_ms : COMMIT_MS;
    self->limits.files = self->limits.files ? self->limits.files : FILES_MAX;
    g_mutex_init(&self->lock);
    self->places = g_ptr_array_new_with_free_func((GDestroyNotify) place_free);
    self->beside = g_hash_table_new(NULL, NULL);
    self->skip = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    kvss_provider_init(&self->provider, &files_ops);
    return &self->provider;
}
