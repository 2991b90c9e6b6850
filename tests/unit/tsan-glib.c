/*
 * tsan-glib.c - tells ThreadSanitizer of GLib's locks, which it cannot see by itself
 *
 * GLib's mutexes are made of futexes, so that without this every use of one is
 * reported as a race. In a build with -Db_sanitize=thread:
 *
 *   gcc -shared -fPIC -o /tmp/tsan-glib.so tests/unit/tsan-glib.c $(pkg-config --cflags glib-2.0)
 *   LD_PRELOAD="$(gcc -print-file-name=libtsan.so) /tmp/tsan-glib.so" build-tsan/tests/unit/test-…
 */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define REAL(name, ...) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *) dlsym(RTLD_NEXT, #name); \
    __VA_ARGS__

#define LOCK(name, type) \
    void name(type *lock) \
    { \
        REAL(name, real(lock)); \
        __tsan_acquire(lock); \
    }

#define UNLOCK(name, type) \
    void name(type *lock) \
    { \
        __tsan_release(lock); \
        REAL(name, real(lock)); \
    }

#define RTLD_NEXT ((void *) -1l)

LOCK(g_mutex_lock, GMutex)
UNLOCK(g_mutex_unlock, GMutex)
LOCK(g_rw_lock_reader_lock, GRWLock)
UNLOCK(g_rw_lock_reader_unlock, GRWLock)
LOCK(g_rw_lock_writer_lock, GRWLock)
UNLOCK(g_rw_lock_writer_unlock, GRWLock)

void
g_cond_wait(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    REAL(g_cond_wait, real(cond, mutex));
    __tsan_acquire(mutex);
}

gboolean
g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    gboolean signalled;

    __tsan_release(mutex);
    REAL(g_cond_wait_until, signalled = real(cond, mutex, end_time));
    __tsan_acquire(mutex);
    return signalled;
}

/* A pool's function, as the pool calls it: what was pushed is seen, and what was done by who waits for the end. */
typedef struct {
    GFunc func;
    gpointer user;
} Pool;

static void
run_job(gpointer data, gpointer user)
{
    Pool *pool = user;

    __tsan_acquire(data);
    pool->func(data, pool->user);
    __tsan_release(pool);
}

GThreadPool *
g_thread_pool_new(GFunc func, gpointer user, gint max_threads, gboolean exclusive, GError **error)
{
    Pool *pool = g_new0(Pool, 1); /* stays: some job may still be about to end */
    GThreadPool *real_pool;

    pool->func = func;
    pool->user = user;
    REAL(g_thread_pool_new, real_pool = real(run_job, pool, max_threads, exclusive, error));
    return real_pool;
}

void
g_thread_pool_free(GThreadPool *real_pool, gboolean immediate, gboolean wait_)
{
    Pool *pool = real_pool->user_data;

    REAL(g_thread_pool_free, real(real_pool, immediate, wait_));
    if (wait_)
        __tsan_acquire(pool);
}

gboolean
g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    gboolean pushed;

    __tsan_release(data);
    REAL(g_thread_pool_push, pushed = real(pool, data, error));
    return pushed;
}
