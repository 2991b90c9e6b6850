/*
 * SHA-256 of several messages at once: in each way that this processor can, the same as OpenSSL's.
 */
#include "repository/format/lanes.h"

#include <glib.h>
#include <openssl/evp.h>
#include <string.h>

#define ALL_WAYS (KVSS_LANES_SHA_NI | KVSS_LANES_AVX512)
#define N_MAX 40

/* Each message stands alone in memory, so that a read past its end is seen by a sanitizer. */
typedef struct {
    KvssMessage messages[N_MAX];
    uint8_t *memory[N_MAX];
    uint8_t found[N_MAX][KVSS_LANES_DIGEST];
    size_t n;
} Messages;

static void
messages_add(Messages *self, size_t length, size_t skew)
{
    uint8_t *memory = g_malloc(skew + length + 1);
    uint32_t value = g_test_rand_int();

    g_assert_cmpuint(self->n, <, N_MAX);
    for (size_t i = 0; i < length; i++)
        memory[skew + i] = (uint8_t) (value = value * 1664525 + 1013904223, value >> 24);
    memory = g_realloc(memory, MAX(skew + length, 1));
    self->memory[self->n] = memory;
    self->messages[self->n] = (KvssMessage) {
        .data = memory + skew, .length = length, .out_digest = self->found[self->n] };
    self->n++;
}

static void
messages_clear(Messages *self)
{
    for (size_t i = 0; i < self->n; i++)
        g_free(self->memory[i]);
    memset(self, 0, sizeof *self);
}

static void
messages_check(Messages *self, unsigned ways)
{
    memset(self->found, 0xee, sizeof self->found);
    kvss_lanes_hash_by(ways, self->messages, self->n);
    for (size_t i = 0; i < N_MAX; i++) {
        uint8_t wanted[KVSS_LANES_DIGEST];

        if (i < self->n)
            g_assert_true(EVP_Digest(self->messages[i].data, self->messages[i].length, wanted,
                                     NULL, EVP_sha256(), NULL) == 1);
        else
            memset(wanted, 0xee, sizeof wanted); /* untouched */
        if (memcmp(self->found[i], wanted, sizeof wanted) != 0)
            g_error("ways %u, message %zu of %zu, %zu bytes: another digest than OpenSSL's", ways,
                    i, self->n, self->messages[i].length);
    }
}

static void
messages_check_all(Messages *self)
{
    for (unsigned ways = 0; ways <= ALL_WAYS; ways++)
        if ((ways & ~(unsigned) kvss_lanes_possible()) == 0)
            messages_check(self, ways);
    messages_clear(self);
}

/* The three that the standard gives, told apart from OpenSSL: here a mistake of both would be seen. */
static void
test_standard(void)
{
    static const char *const texts[] = {
        "abc", "", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
    };
    static const char *const digests[] = {
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    };

    for (unsigned ways = 0; ways <= ALL_WAYS; ways++) {
        uint8_t found[3][KVSS_LANES_DIGEST];
        KvssMessage messages[3];

        if (ways & ~(unsigned) kvss_lanes_possible())
            continue;
        for (int i = 0; i < 3; i++)
            messages[i] = (KvssMessage) { texts[i], strlen(texts[i]), found[i] };
        kvss_lanes_hash_by(ways, messages, 3);
        for (int i = 0; i < 3; i++) {
            g_autoptr(GString) hex = g_string_new(NULL);

            for (int k = 0; k < KVSS_LANES_DIGEST; k++)
                g_string_append_printf(hex, "%02x", found[i][k]);
            g_assert_cmpstr(hex->str, ==, digests[i]);
        }
    }
}

/* Each length around the ends of blocks, beside others and beside its own. */
static void
test_short_lengths(void)
{
    Messages messages = { 0 };

    for (size_t length = 0; length <= 300; length++) {
        for (size_t i = 0; i < 16; i++)
            messages_add(&messages, length, i);
        messages_check_all(&messages);
    }
    for (size_t first = 0; first <= 300; first += 20) {
        for (size_t i = 0; i < 20; i++)
            messages_add(&messages, first + i, (7 * i) % 64);
        messages_check_all(&messages);
    }
}

/* Full and half-empty lanes, and more messages than lanes. */
static void
test_numbers(void)
{
    Messages messages = { 0 };

    for (size_t n = 0; n <= N_MAX; n++) {
        for (size_t i = 0; i < n; i++)
            messages_add(&messages, 1000, i % 5);
        messages_check_all(&messages);
        for (size_t i = 0; i < n; i++)
            messages_add(&messages, (size_t) g_test_rand_int_range(0, 5000), i % 64);
        messages_check_all(&messages);
    }
}

/* As chunks and blobs are, some much longer than the rest. */
static void
test_long_lengths(void)
{
    Messages messages = { 0 };

    for (size_t i = 0; i < 16; i++)
        messages_add(&messages, 256 << 10, 0);
    messages_check_all(&messages);
    for (size_t i = 0; i < 19; i++)
        messages_add(&messages, (size_t) g_test_rand_int_range(0, 300 << 10), i);
    messages_add(&messages, (3 << 20) + 17, 3);
    messages_check_all(&messages);
}

/* What is chosen by itself, in more threads than one at once. */
static gpointer
hash_in_thread(gpointer data)
{
    Messages *messages = data;

    for (int i = 0; i < 50; i++)
        kvss_lanes_hash(messages->messages, messages->n);
    return NULL;
}

static void
test_threads(void)
{
    static Messages messages[3];
    GThread *threads[3];

    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < 16; i++)
            messages_add(&messages[k], 4096, i);
        threads[k] = g_thread_new("hash", hash_in_thread, &messages[k]);
    }
    for (int k = 0; k < 3; k++) {
        uint8_t found[N_MAX][KVSS_LANES_DIGEST];

        g_thread_join(threads[k]);
        memcpy(found, messages[k].found, sizeof found);
        messages_check(&messages[k], 0);
        g_assert_cmpmem(found, 16 * KVSS_LANES_DIGEST, messages[k].found, 16 * KVSS_LANES_DIGEST);
        messages_clear(&messages[k]);
    }
}

/* The switch of the environment, in a process of its own each: it is read once. */
static void
test_environment(void)
{
    static const char *const words[] = { "openssl", "sha-ni", "anything" };

    if (g_test_subprocess()) {
        Messages messages = { 0 };

        for (size_t i = 0; i < 16; i++)
            messages_add(&messages, 1000, i);
        kvss_lanes_hash(messages.messages, messages.n);
        {
            uint8_t found[N_MAX][KVSS_LANES_DIGEST];

            memcpy(found, messages.found, sizeof found);
            messages_check(&messages, 0);
            g_assert_cmpmem(found, 16 * KVSS_LANES_DIGEST, messages.found, 16 * KVSS_LANES_DIGEST);
        }
        messages_clear(&messages);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        g_setenv("KVSS_SHA256", words[i], TRUE);
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
    }
    g_unsetenv("KVSS_SHA256");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_message("ways that this processor can: %u", (unsigned) kvss_lanes_possible());
    g_test_add_func("/lanes/standard", test_standard);
    g_test_add_func("/lanes/short-lengths", test_short_lengths);
    g_test_add_func("/lanes/numbers", test_numbers);
    g_test_add_func("/lanes/long-lengths", test_long_lengths);
    g_test_add_func("/lanes/threads", test_threads);
    g_test_add_func("/lanes/environment", test_environment);
    return g_test_run();
}
