/* tests/fuzz/fuzz_h5.c -- any bytes as a token shard and as a store; what opens is read to its last document. The inputs of corpus/h5 are
 * what `store_tool DIR` (tests/conformance) writes. */
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/shard.h"
#include "distill/store.h"
#include "tests/fuzz/fuzz.h"

static char folder[] = "/tmp/decant-fuzz-XXXXXX";

static void remove_folder(void) { dc_remove_tree(folder, NULL); }

/* A folder whose only file is the one in memory. */
static void prepare(const uint8_t *data, size_t n)
{
    static int ready;
    const char *target = fuzz_file(data, n);
    char link[64];
    if (ready) return;
    if (!mkdtemp(folder) || atexit(remove_folder)) abort();
    snprintf(link, sizeof link, "%s/train-00000.h5", folder);
    if (symlink(target, link)) abort();
    ready = 1;
}

static void check(int rc, const void *opened, const dc_error *err)
{
    if (rc != err->code || !rc != !!opened || (rc && !err->message[0])) abort();
}

static void read_set(void)
{
    dc_error err = {0};
    dc_set *s = NULL;
    check(dc_set_open(&s, folder, "train", &err), s, &err);
    for (int64_t d = 0; s && d < dc_set_docs(s); d++) {
        const size_t n = (size_t)dc_set_doc_length(s, d);
        int32_t *ids = dc_malloc(n * sizeof *ids);
        uint8_t *mask = dc_malloc(n);
        float weight;
        if (!ids || !mask) abort();
        dc_set_read(s, d, ids, mask, &weight, NULL);
        dc_free(ids);
        dc_free(mask);
    }
    dc_set_close(s);
}

static void read_store(void)
{
    dc_error err = {0};
    dc_store *s = NULL;
    dc_rows rows = {0};
    check(dc_store_open(&s, folder, "train", NULL, &err), s, &err);
    for (int64_t d = 0; s && d < dc_store_docs(s); d++)
        for (int64_t M = 0; M < 4; M++) {
            rows.M = 0;
            dc_store_read(s, &rows, d, M, NULL);
        }
    dc_rows_release(&rows);
    dc_store_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prepare(data, n);
    read_set();
    read_store();
    return 0;
}
