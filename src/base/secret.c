/*
 * secret.c - memory for keys and passwords
 *
 *   | length of the mapping | secret ... | zeroes up to the page's end |
 */
#include "base/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Before the secret; leaves it aligned for anything. */
#define HEAD 16u

G_STATIC_ASSERT(sizeof(size_t) <= HEAD);

static void
lock_pages(void *pages, size_t length)
{
    static gint is_told;

    (void) madvise(pages, length, MADV_DONTDUMP); /* refused by kernels without core dumps */
    if (mlock(pages, length) < 0 && g_atomic_int_compare_and_exchange(&is_told, 0, 1))
        g_debug("keys and passwords cannot be locked in memory: %s", g_strerror(errno));
}

void *
kvss_secret_new(size_t length)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    size_t all = (length + HEAD + page - 1) / page * page;
    char *pages = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        g_error("no memory for a secret of %zu bytes", length);
    lock_pages(pages, all);
    memcpy(pages, &all, sizeof all);
    return pages + HEAD;
}

char *
kvss_secret_text(const char *text, size_t length)
{
    char *copy = kvss_secret_new(length + 1);

    memcpy(copy, text, length);
    return copy;
}

void
kvss_secret_free(void *secret)
{
    char *pages = secret ? (char *) secret - HEAD : NULL;
    size_t all;

    if (!secret)
        return;
    memcpy(&all, pages, sizeof all);
    explicit_bzero(pages, all);
    (void) munmap(pages, all);
}

void
kvss_secret_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    g_free(text);
}
