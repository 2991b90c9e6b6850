/*
 * read-ahead.c - windows over packs
 *
 *   pack  ├── window ──┼── window ──┼── next ──┤
 *          read read read ▲           ▲ asked for when the one before it is first used
 *
 * Windows are few and used by age: memory is bounded, whatever is read. A pack
 * is believed to be read in order when a read begins near the end of another,
 * or at its beginning: several threads that take turns are near each other.
 */
#include "repository/backend/read-ahead.h"

#include <string.h>

#define WINDOWS_MAX 10u      /* 40 MiB */
#define AHEAD_THREADS 3

/* The packs whose last read is remembered, and how far from it a read may begin to follow it. */
#define PACKS_MAX 16u
#define NEAR_LENGTH ((uint64_t) 2 << 20)

/* Larger reads are worth a request of their own. */
#define READ_MAX (KVSS_READ_AHEAD_WINDOW / 2)

typedef enum { WINDOW_LOADING, WINDOW_READY, WINDOW_FAILED } WindowState;

typedef struct {
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint64_t offset;
    GBytes *bytes;          /* when ready; shorter than a window: the pack ends there */
    WindowState state;
    bool is_used;           /* a read was served from it, and the next was asked for */
    guint64 age;
} Window;

typedef struct {
    char name[KVSS_ID_HEX_LENGTH + 1];
    uint64_t end;           /* of the last read */
    guint64 age;
} Place;

struct KvssReadAhead {
    KvssBackend *backend;   /* borrowed */
    KvssReadAheadFetch fetch;
    GThreadPool *pool;      /* of Window *, one that is loading */

    GMutex lock;            /* guards what follows */
    GCond changed;
    GPtrArray *windows;
    Place places[PACKS_MAX];
    guint64 clock;
};

static void
window_free(gpointer data)
{
    Window *window = data;

    g_clear_pointer(&window->bytes, g_bytes_unref);
    g_free(window);
}

/* ---- windows; all under the lock but for the fetching itself ---- */

static bool
window_covers(const Window *window, const char *name, uint64_t offset)
{
    size_t length = window->state == WINDOW_READY ? g_bytes_get_size(window->bytes)
                                                  : KVSS_READ_AHEAD_WINDOW;

    return strcmp(window->name, name) == 0 && offset >= window->offset
        && offset - window->offset < length;
}

static Window *
find_window(KvssReadAhead *ahead, const char *name, uint64_t offset)
{
    for (guint i = 0; i < ahead->windows->len; i++) {
        Window *window = g_ptr_array_index(ahead->windows, i);

        if (window->state != WINDOW_FAILED && window_covers(window, name, offset))
            return window;
    }
    return NULL;
}

/* The oldest that nobody waits for goes. Returns: is there room for one more? */
static bool
make_room(KvssReadAhead *ahead)
{
    Window *oldest = NULL;

    if (ahead->windows->len < WINDOWS_MAX)
        return true;
    for (guint i = 0; i < ahead->windows->len; i++) {
        Window *window = g_ptr_array_index(ahead->windows, i);

        if (window->state != WINDOW_LOADING && (!oldest || window->age < oldest->age))
            oldest = window;
    }
    return oldest && g_ptr_array_remove_fast(ahead->windows, oldest);
}

/* A new one, loading; NULL when all are. */
static Window *
add_window(KvssReadAhead *ahead, const char *name, uint64_t offset)
{
    Window *window;

    if (!make_room(ahead))
        return NULL;
    window = g_new0(Window, 1);
    g_strlcpy(window->name, name, sizeof window->name);
    window->offset = offset;
    window->age = ++ahead->clock;
    g_ptr_array_add(ahead->windows, window);
    return window;
}

/* Without the lock: a window that is loading goes nowhere. */
static void
load_window(KvssReadAhead *ahead, Window *window)
{
    g_autoptr(GError) error = NULL;
    GBytes *bytes = ahead->fetch(ahead->backend, window->name, window->offset,
                                 KVSS_READ_AHEAD_WINDOW, &error);

    if (!bytes)
        g_debug("reading ahead: %s", error->message);
    g_mutex_lock(&ahead->lock);
    window->bytes = bytes;
    window->state = bytes ? WINDOW_READY : WINDOW_FAILED;
    g_cond_broadcast(&ahead->changed);
    g_mutex_unlock(&ahead->lock);
}

static void
load_in_pool(gpointer data, gpointer user)
{
    load_window(user, data);
}

/* The first use of a window asks for the one behind it, unless the pack ends here. */
static void
use_window(KvssReadAhead *ahead, Window *window)
{
    uint64_t next = window->offset + KVSS_READ_AHEAD_WINDOW;
    Window *following;

    window->age = ++ahead->clock;
    if (window->is_used)
        return;
    window->is_used = true;
    if (g_bytes_get_size(window->bytes) < KVSS_READ_AHEAD_WINDOW
        || find_window(ahead, window->name, next))
        return;
    following = add_window(ahead, window->name, next);
    if (following)
        g_thread_pool_push(ahead->pool, following, NULL);
}

/* ---- order ---- */

/* Does this read follow one that we saw? Remembers it as well. */
static bool
follows(KvssReadAhead *ahead, const char *name, uint64_t offset, size_t length)
{
    Place *place = &ahead->places[0];
    bool does = offset == 0;

    for (guint i = 0; i < PACKS_MAX; i++) {
        if (strcmp(ahead->places[i].name, name) == 0) {
            place = &ahead->places[i];
            does |= MAX(offset, place->end) - MIN(offset, place->end) <= NEAR_LENGTH;
            break;
        }
        if (ahead->places[i].age < place->age)
            place = &ahead->places[i];
    }
    g_strlcpy(place->name, name, sizeof place->name);
    place->end = offset + length;
    place->age = ++ahead->clock;
    return does;
}

/* The window that has the byte at @offset, ready, under the lock; NULL: there is none to be had. */
static Window *
get_window(KvssReadAhead *ahead, const char *name, uint64_t offset, bool may_add)
{
    Window *window = find_window(ahead, name, offset);

    if (!window && may_add) {
        window = add_window(ahead, name, offset);
        if (!window)
            return NULL;
        g_mutex_unlock(&ahead->lock);
        load_window(ahead, window);
        g_mutex_lock(&ahead->lock);
        window = find_window(ahead, name, offset);
    }
    while (window && window->state == WINDOW_LOADING) {
        g_cond_wait(&ahead->changed, &ahead->lock);
        window = find_window(ahead, name, offset);
    }
    return window;
}

bool
kvss_read_ahead_serve(KvssReadAhead *ahead, const char *name, uint64_t offset, void *buffer,
                      size_t length)
{
    size_t done = 0;
    bool in_order;

    if (length == 0 || length > READ_MAX || strlen(name) != KVSS_ID_HEX_LENGTH)
        return false;
    g_mutex_lock(&ahead->lock);
    in_order = follows(ahead, name, offset, length);
    while (done < length) {
        Window *window = get_window(ahead, name, offset + done, in_order);
        size_t from, part;

        if (!window)
            break;
        from = (size_t) (offset + done - window->offset);
        part = MIN(length - done, g_bytes_get_size(window->bytes) - from);
        memcpy((char *) buffer + done, (const char *) g_bytes_get_data(window->bytes, NULL) + from,
               part);
        done += part;
        use_window(ahead, window);
    }
    g_mutex_unlock(&ahead->lock);
    return done == length;
}

/* ---- life ---- */

KvssReadAhead *
kvss_read_ahead_new(KvssBackend *backend, KvssReadAheadFetch fetch)
{
    KvssReadAhead *ahead = g_new0(KvssReadAhead, 1);

    ahead->backend = backend;
    ahead->fetch = fetch;
    ahead->windows = g_ptr_array_new_with_free_func(window_free);
    g_mutex_init(&ahead->lock);
    g_cond_init(&ahead->changed);
    ahead->pool = g_thread_pool_new(load_in_pool, ahead, AHEAD_THREADS, FALSE, NULL);
    return ahead;
}

void
kvss_read_ahead_free(KvssReadAhead *ahead)
{
    if (!ahead)
        return;
    g_thread_pool_free(ahead->pool, TRUE, TRUE); /* windows that nobody waits for stay unread */
    g_ptr_array_unref(ahead->windows);
    g_cond_clear(&ahead->changed);
    g_mutex_clear(&ahead->lock);
    g_free(ahead);
}
