/*
 * test-secrets.c - where keys and passwords are while a repository is open, and that they are nowhere after
 *
 * What is looked for is kept with every bit of it turned over, so that the search
 * does not find itself; memory is read where it lies, since a copy would be found.
 */
#include "base/secret.h"
#include "repository-fixture.h"
#include "repository/file/key.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NEEDLE_MAX 64u

typedef struct {
    const char *name;
    uint8_t turned[NEEDLE_MAX];
    size_t length;
} Needle;

enum { ENCRYPT, MAC_K, MAC_R, ENCRYPT_TEXT, MAC_R_TEXT, PASSWORD, N_NEEDLES };
static Needle needles[N_NEEDLES];

static void
needle_set(int which, const char *name, const void *secret, size_t length)
{
    g_assert_cmpuint(length, <=, NEEDLE_MAX);
    needles[which].name = name;
    needles[which].length = length;
    for (size_t i = 0; i < length; i++)
        needles[which].turned[i] = ((const uint8_t *) secret)[i] ^ 0xff;
}

/** Where it was found: in pages that are locked and not dumped, and in others. */
typedef struct {
    unsigned guarded, others;
} Found;

static bool
is_at(const Needle *needle, const uint8_t *at)
{
    for (size_t i = 0; i < needle->length; i++)
        if ((at[i] ^ needle->turned[i]) != 0xff)
            return false;
    return true;
}

static unsigned
count_in(const Needle *needle, const uint8_t *start, const uint8_t *end)
{
    unsigned n = 0;

    for (const uint8_t *at = start; at + needle->length <= end; at++)
        n += (*at ^ needle->turned[0]) == 0xff && is_at(needle, at);
    return n;
}

static char smaps[1 << 20]; /* read whole first: the search must not change what it walks through */

static void
read_smaps(void)
{
    int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t n;

    g_assert_cmpint(fd, >=, 0);
    while ((n = read(fd, smaps + length, sizeof smaps - 1 - length)) > 0)
        length += (size_t) n;
    smaps[length] = '\0';
    g_assert_cmpuint(length, <, sizeof smaps - 1);
    close(fd);
}

/* @needs_lock: whether this process may lock pages at all. */
static Found
find(const Needle *needle, bool needs_lock)
{
    uintptr_t start = 0, end = 0;
    Found found = { 0, 0 };
    bool is_ours = false;
    unsigned in_region = 0;

    read_smaps();
    for (char *line = smaps, *next; line && *line; line = next) {
        char perms[5];

        next = strchr(line, '\n');
        next = next ? next + 1 : NULL;
        if (sscanf(line, "%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x %4s", (guint64 *) &start,
                   (guint64 *) &end, perms) == 3) {
            is_ours = perms[0] == 'r' && perms[1] == 'w';
            in_region = is_ours ? count_in(needle, (const uint8_t *) start, (const uint8_t *) end)
                                : 0;
        } else if (g_str_has_prefix(line, "VmFlags:") && in_region > 0) {
            const char *stop = next ? next : line + strlen(line);
            bool is_dumped = !g_strstr_len(line, stop - line, " dd");
            bool is_locked = g_strstr_len(line, stop - line, " lo") != NULL;

            if (!is_dumped && (is_locked || !needs_lock))
                found.guarded += in_region;
            else
                found.others += in_region;
        }
    }
    return found;
}

static bool
can_lock(void)
{
    static char page[8192];
    bool ok = mlock(page, sizeof page) == 0;

    (void) munlock(page, sizeof page);
    return ok;
}

/* Its own pages: flags as they must be, and gone when freed. */
static void
test_memory(void)
{
    char *secret = kvss_secret_text("in the vault", 12);
    Found found;

    needle_set(PASSWORD, "text", secret, 12);
    g_assert_cmpstr(secret, ==, "in the vault");
    found = find(&needles[PASSWORD], can_lock());
    g_assert_cmpuint(found.guarded, ==, 1);
    kvss_secret_free(secret);
    found = find(&needles[PASSWORD], can_lock());
    g_assert_cmpuint(found.guarded, ==, 0);
    kvss_secret_free(NULL);

    secret = kvss_secret_new(10000); /* more than a page */
    for (size_t i = 0; i < 10000; i++)
        g_assert_cmpint(secret[i], ==, 0);
    memset(secret, 1, 10000);
    kvss_secret_free(secret);
}

/* The repository's own key, and a new password that nobody else has seen. */
static char *
learn(Fixture *f)
{
    g_autoptr(KvssBackend) backend = kvss_backend_open(f->location, NULL);
    g_autoptr(KvssKey) master = kvss_key_new();
    char *password = kvss_secret_new(41), *text = kvss_secret_new(100);
    gint state = 0, save = 0;
    gsize length;

    g_assert_true(kvss_key_open(backend, FIXTURE_PASSWORD, master, NULL));
    needle_set(ENCRYPT, "encryption key", master->encrypt, sizeof master->encrypt);
    needle_set(MAC_K, "MAC key k", master->mac_k, sizeof master->mac_k);
    needle_set(MAC_R, "MAC key r", master->mac_r, sizeof master->mac_r);
    length = g_base64_encode_step(master->encrypt, 30, FALSE, text, &state, &save);
    needle_set(ENCRYPT_TEXT, "encryption key as text", text, length);
    state = save = 0;
    length = g_base64_encode_step(master->mac_r, 15, FALSE, text, &state, &save);
    needle_set(MAC_R_TEXT, "MAC key r as text", text, length);
    for (int i = 0; i < 40; i++)
        password[i] = (char) g_random_int_range('a', 'z' + 1);
    needle_set(PASSWORD, "password", password, 40);
    kvss_secret_free(text);
    return password;
}

/* Gives the stack that calls used back as it was found: what they left there is theirs to wipe. */
static void
open_and_use(Fixture *f, char *password, const char *id)
{
    static const int only_guarded[] = { MAC_R, ENCRYPT_TEXT, MAC_R_TEXT, PASSWORD };
    g_autoptr(KvssRepository) repository = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) read = NULL;
    char key[KVSS_ID_HEX_LENGTH + 1];
    bool locks = can_lock();
    Found found;

    repository = fixture_open(f, KVSS_REPOSITORY_ADD);
    g_assert_true(kvss_repository_add_key(repository, password, key, &error));
    kvss_repository_free(g_steal_pointer(&repository));

    repository = kvss_repository_open(f->location, password, KVSS_REPOSITORY_LOOK, f->cache,
                                      f->state, &error);
    g_assert_no_error(error);
    kvss_secret_free(password);
    read = fixture_read_open(repository, id, "vms/a/vda.raw", &error);
    g_assert_no_error(error);

    found = find(&needles[ENCRYPT], locks); /* the search can find */
    g_assert_cmpuint(found.guarded, >=, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(only_guarded); i++) {
        found = find(&needles[only_guarded[i]], locks);
        if (found.others)
            g_test_message("%s: %u times outside", needles[only_guarded[i]].name, found.others);
        g_assert_cmpuint(found.others, ==, 0);
    }
    found = find(&needles[PASSWORD], locks);
    g_assert_cmpuint(found.guarded, ==, 0); /* not needed any more */
}

static void
test_repository(void)
{
    g_autoptr(Fixture) f = fixture_new();
    g_autoptr(GBytes) a = fixture_noise(1, 20 * 65536);
    char id[KVSS_ID_HEX_LENGTH + 1];

    fixture_backup(f, id, "vms/a/vda.raw", a, NULL);
    open_and_use(f, learn(f), id);
    for (int i = 0; i < N_NEEDLES; i++) {
        Found found = find(&needles[i], false);

        if (found.guarded + found.others)
            g_test_message("%s is still there", needles[i].name);
        g_assert_cmpuint(found.guarded + found.others, ==, 0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/secrets/memory", test_memory);
    g_test_add_func("/secrets/repository", test_repository);
    return g_test_run();
}
