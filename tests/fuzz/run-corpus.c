/*
 * run-corpus.c - every file of the corpus, and what becomes of it when it is cut or
 * a byte of it is changed, through its target: the fuzzers' findings as a test
 *
 * usage: run-corpus CORPUS-FOLDER
 */
#include "targets.h"

#include <glib.h>
#include <string.h>

/* Longer files are cut and changed at every so many bytes only. */
#define VARIANTS_MAX 400

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

static unsigned
feed_folder(const FuzzTarget *target, const char *corpus)
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
        n++;
    }
    return n;
}

int
main(int argc, char **argv)
{
    g_assert_cmpint(argc, ==, 2);
    for (const FuzzTarget *target = fuzz_targets; target->name; target++) {
        unsigned n = feed_folder(target, argv[1]);

        g_print("%s: %u files\n", target->name, n);
        if (n == 0)
            g_error("no corpus for %s in %s", target->name, argv[1]);
    }
    return 0;
}
