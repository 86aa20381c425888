/* cli/bench.h -- the parts of decant bench: timing, rows of the table; private to cli/bench_*.c and cmd_bench.c. */
#ifndef DC_CLI_BENCH_H
#define DC_CLI_BENCH_H

#include <jansson.h>
#include <stdint.h>

#include "kernels/peak.h"
#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_bench {
    dc_dev *dev;
    int queued;       /* ops return before their work is done: a card */
    long long tokens; /* of a step, and of the rows of kernels */
    dc_peak peak;     /* of the device, in its own type */
    double fp32;      /* operations a second in fp32; where that is the device's type, peak.flops */
    const char *name; /* of the device, as --device has it; NULL: auto */
    int rc;           /* of the first failure of a queued op, told in `err` */
    dc_error err;
    double seconds; /* for each figure */
    int quick, json;
    json_t *
        rows; /* list of {"group", "name", "seconds", "flops", "gflops", "of_peak", "bytes", "gbytes_per_second", "of_memory", "of_ceiling"}; what
                   * a row has none of is not there */
    json_t *step; /* what dc_bench_step adds of its own */
    const char *group;
} dc_bench;

/* Begins a group of rows with its heading. */
void dc_bench_group(dc_bench *b, const char *group);
/* The fastest of the calls that fit into b->seconds, three at least, after one that does not count. Where work is queued, so many calls are
 * timed together that waiting for them does not count. */
double dc_bench_time(dc_bench *b, void (*fn)(void *context), void *context);
/* The ceilings of a card: a large product in its own type and in fp32, a large copy. */
int dc_bench_card(dc_bench *b, dc_error *err);
/* Memory of the device with normal numbers (standard deviation 0.05) of the type, keyed by `key`; caller frees. */
int dc_bench_numbers(dc_bench *b, dc_view *out, dc_dtype type, int64_t n, uint32_t key, dc_error *err);
/* A host table's copy on the device; caller frees. */
int dc_bench_table(dc_bench *b, void **out, const void *host, size_t bytes, dc_error *err);
/* One row: operations (0: none to speak of) and bytes that pass through memory when no cache helps (0: likewise). Of its ceiling, the roofline
 * (Williams et al. 2009), it has the larger of its shares of both peaks: above 1 where caches do help. */
void dc_bench_row(dc_bench *b, const char *name, double seconds, double flops, double bytes);

/* Matrix products, attention, losses, each alone; norms, gates and whatever else passes over rows. */
int dc_bench_kernels(dc_bench *b, dc_error *err);
int dc_bench_rows(dc_bench *b, dc_error *err);
/* A whole step of LoRA training on a model of SmolLM2-135M's shape with random weights. */
int dc_bench_step(dc_bench *b, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
