/* tests/fuzz/replay.c -- runs a fuzz target without libFuzzer: over every file of a folder, its beginnings, and copies with a few bytes
 * damaged, drawn by a fixed seed. usage: fuzz_x CORPUS [DAMAGED-COPIES-PER-FILE] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "tests/fuzz/fuzz.h"

enum { ALL_BEGINNINGS = 2048, COPIES = 300 };

static uint64_t state = 1;

static size_t draw(size_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % below;
}

/* In memory of exactly n bytes, so that a read behind the end is seen by the sanitizer. */
static void run(const char *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void damage(char *data, size_t n)
{
    static const unsigned char bytes[] = {0, 1, 0x7f, 0x80, 0xff, '"', '[', '{', ':', '\n'};
    for (size_t k = 1 + draw(4); k; k--) {
        const size_t at = draw(n);
        switch (draw(3)) {
        case 0: data[at] = (char)(data[at] ^ (1 << draw(8))); break;
        case 1: data[at] = (char)bytes[draw(sizeof bytes)]; break;
        default: data[at] = data[draw(n)];
        }
    }
}

static long replay(const char *text, size_t n, long copies)
{
    long runs = 0;
    run(text, n), runs++;
    for (size_t k = 0; k < n && n <= ALL_BEGINNINGS; k++) run(text, k), runs++;
    for (size_t k = 0; k < ALL_BEGINNINGS && n > ALL_BEGINNINGS; k++) run(text, draw(n)), runs++;
    char *copy = malloc(n + 1);
    if (!copy) abort();
    for (long i = 0; n && i < copies; i++, runs++) {
        memcpy(copy, text, n);
        damage(copy, n);
        run(copy, n);
    }
    free(copy);
    return runs;
}

int main(int argc, char **argv)
{
    char **names = NULL;
    size_t n = 0;
    long runs = 0;
    dc_error err = {0};
    if (argc < 2 || dc_dir_list(&names, &n, argv[1], &err)) {
        fprintf(stderr, "usage: %s CORPUS [COPIES]\n%s\n", argv[0], err.message);
        return 2;
    }
    for (size_t i = 0; i < n; i++) {
        dc_str text = {0};
        char *path = dc_path_join(argv[1], names[i]);
        if (!path || dc_file_read(&text, path, 1 << 22, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 2;
        }
        runs += replay(dc_str_text(&text), text.n, argc > 2 ? atol(argv[2]) : COPIES);
        dc_str_release(&text);
        free(path);
    }
    dc_names_free(names);
    printf("%zu inputs, %ld runs\n", n, runs);
    return n ? 0 : 1;
}
