/*
 * run-corpus.c - every file of the corpus, and what becomes of it when it is cut or
 * a byte of it is changed, through its target: the fuzzers' findings as a test
 *
 * Then each file with changes at random: pieces doubled, dropped, put elsewhere, numbers made
 * large. The seed is printed; KVSS_TEST_SEED does the same again, KVSS_TEST_ROUNDS more of it.
 *
 * usage: run-corpus CORPUS-FOLDER
 */
#include "targets.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

/* Longer files are cut and changed at every so many bytes only. */
#define VARIANTS_MAX 400

/* With changes at random, for each file: a few seconds in all. */
#define ROUNDS 1000u

static void
feed_variants(const FuzzTarget *target, const uint8_t *data, size_t length)
{
    size_t step = length / VARIANTS_MAX + 1;

    target->feed(data, length);
    for (size_t i = 0; i < length; i += step) {
        g_autofree uint8_t *copy = g_memdup2(data, length);
        g_autofree uint8_t *cut = g_malloc(MAX(i, 1));

        memcpy(cut, data, i);
        target->feed(cut, i); /* a copy of its own: reading past it is noticed */
        for (int bit = 0; bit < 8; bit++) {
            copy[i] ^= (uint8_t) (1 << bit);
            target->feed(copy, length);
            copy[i] ^= (uint8_t) (1 << bit);
        }
    }
}

static guint
place_in(GRand *rand, const GByteArray *bytes)
{
    return bytes->len > 0 ? (guint) g_rand_int_range(rand, 0, (gint32) bytes->len) : 0;
}

static void
insert(GByteArray *bytes, guint at, const uint8_t *piece, guint length)
{
    guint rest = bytes->len - at;

    g_byte_array_set_size(bytes, bytes->len + length);
    memmove(bytes->data + at + length, bytes->data + at, rest);
    memcpy(bytes->data + at, piece, length);
}

static void
change_once(GRand *rand, GByteArray *bytes)
{
    static const char *const words[] = {
        "\"", "[", "{", "}", "]", ",", "null", "-1", "1e999", "18446744073709551615", "\\u0000",
        "\\ud800", "../", "\xff\xff\xff\xff", "\xed\xa0\x80",
    };
    guint at = place_in(rand, bytes), wish = place_in(rand, bytes) % 64;
    guint length = MIN(wish, bytes->len - at);

    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        if (bytes->len > 0)
            bytes->data[at] = (uint8_t) g_rand_int(rand);
        break;
    case 1:
        if (length > 0)
            g_byte_array_remove_range(bytes, at, length);
        break;
    case 2: {
        g_autofree uint8_t *piece = g_memdup2(bytes->data + at, length);

        insert(bytes, place_in(rand, bytes), piece, length);
        break;
    }
    default: {
        const char *word = words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))];

        insert(bytes, at, (const uint8_t *) word, (guint) strlen(word));
    }
    }
}

/* Through a copy of its own: reading past it is noticed. */
static void
feed_random(const FuzzTarget *target, const uint8_t *data, size_t length, GRand *rand,
            unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autofree uint8_t *copy = NULL;

        g_byte_array_append(bytes, data, (guint) length);
        for (int n = g_rand_int_range(rand, 1, 9); n > 0; n--)
            change_once(rand, bytes);
        copy = g_malloc(MAX(bytes->len, 1));
        memcpy(copy, bytes->data, bytes->len);
        target->feed(copy, bytes->len);
    }
}

static GRand *
make_rand(void)
{
    const char *wish = g_getenv("KVSS_TEST_SEED");
    guint32 seed = wish ? (guint32) g_ascii_strtoull(wish, NULL, 10) : g_random_int();

    g_print("KVSS_TEST_SEED=%u\n", seed);
    return g_rand_new_with_seed(seed);
}

static unsigned
feed_folder(const FuzzTarget *target, const char *corpus, GRand *rand, unsigned rounds)
{
    g_autofree char *folder = g_build_filename(corpus, target->name, NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    unsigned n = 0;

    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *content = NULL;
        gsize length;

        g_assert_true(g_file_get_contents(path, &content, &length, NULL));
        feed_variants(target, (const uint8_t *) content, length);
        feed_random(target, (const uint8_t *) content, length, rand, rounds);
        n++;
    }
    return n;
}

int
main(int argc, char **argv)
{
    const char *rounds = g_getenv("KVSS_TEST_ROUNDS");
    g_autoptr(GRand) rand = make_rand();

    g_assert_cmpint(argc, ==, 2);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
    for (const FuzzTarget *target = fuzz_targets; target->name; target++) {
        unsigned n = feed_folder(target, argv[1], rand,
                                 rounds ? (unsigned) atoi(rounds) : ROUNDS);

        g_print("%s: %u files\n", target->name, n);
        if (n == 0)
            g_error("no corpus for %s in %s", target->name, argv[1]);
    }
    return 0;
}
