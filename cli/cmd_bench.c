/* cli/cmd_bench.c -- kernels and a whole training step on this machine, beside their measured ceilings. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/open.h"
#include "core/log.h"
#include "core/pool.h"

void dc_bench_group(dc_bench *b, const char *group)
{
    b->group = group;
    if (!b->json) printf("\n%-46s %10s %9s %8s %8s %8s\n", group, "time", "GFLOP/s", "of peak", "GB/s", "of peak");
}

static double time_of(dc_bench *b, void (*fn)(void *context), void *context, int64_t calls)
{
    const double began = dc_now();
    for (int64_t i = 0; i < calls; i++) fn(context);
    dc_error err = {0};
    const int rc = dc_dev_sync(b->dev, &err);
    if (rc != DC_OK && b->rc == DC_OK) b->rc = rc, b->err = err;
    return (dc_now() - began) / (double)calls;
}

double dc_bench_time(dc_bench *b, void (*fn)(void *context), void *context)
{
    enum { MOST_CALLS = 1000 };
    const double together = 2e-3; /* seconds */
    time_of(b, fn, context, 1);
    double best = time_of(b, fn, context, 1);
    int64_t calls = 1;
    if (b->queued && best < together)
        calls = best * MOST_CALLS > together ? (int64_t)(together / best) + 1 : MOST_CALLS;
    const double end = dc_now() + b->seconds;
    for (int i = 0; i < 3 || dc_now() < end; i++) {
        const double took = time_of(b, fn, context, calls);
        best = took < best ? took : best;
    }
    return best;
}

static void print_row(const dc_bench *b, const char *name, double seconds, double flops, double bytes)
{
    char time[32];
    if (seconds < 1e-3) snprintf(time, sizeof time, "%.1f us", seconds * 1e6);
    else if (seconds < 1) snprintf(time, sizeof time, "%.2f ms", seconds * 1e3);
    else snprintf(time, sizeof time, "%.3f s", seconds);
    printf("  %-44s %10s", name, time);
    if (flops > 0) printf(" %9.1f %6.0f %%", flops / seconds / 1e9, 100 * flops / seconds / b->peak.flops);
    if (flops <= 0 && bytes > 0) printf(" %9s %8s", "", "");
    if (bytes > 0)
        printf(" %8.1f %6.0f %%", bytes / seconds / 1e9,
               b->peak.read_bytes > 0 ? 100 * bytes / seconds / b->peak.read_bytes : 0.0);
    putchar('\n');
    fflush(stdout);
}

void dc_bench_row(dc_bench *b, const char *name, double seconds, double flops, double bytes)
{
    json_t *row = json_pack("{s:s, s:s, s:f}", "group", b->group, "name", name, "seconds", seconds);
    const double of_peak = flops / seconds / b->peak.flops;
    const double of_memory = b->peak.read_bytes > 0 ? bytes / seconds / b->peak.read_bytes : 0;
    if (row && flops > 0) {
        json_object_set_new(row, "flops", json_real(flops));
        json_object_set_new(row, "gflops", json_real(flops / seconds / 1e9));
        json_object_set_new(row, "of_peak", json_real(of_peak));
    }
    if (row && bytes > 0) {
        json_object_set_new(row, "bytes", json_real(bytes));
        json_object_set_new(row, "gbytes_per_second", json_real(bytes / seconds / 1e9));
        if (b->peak.read_bytes > 0) json_object_set_new(row, "of_memory", json_real(of_memory));
    }
    if (row && (flops > 0 || of_memory > 0))
        json_object_set_new(row, "of_ceiling", json_real(of_peak > of_memory ? of_peak : of_memory));
    json_array_append_new(b->rows, row);
    if (!b->json) print_row(b, name, seconds, flops, bytes);
}

static void warn_if_busy(void)
{
    double load;
    if (getloadavg(&load, 1) == 1 && load > dc_pool_threads())
        dc_log(DC_LOG_WARN, "the machine is busy (load %.1f on %d threads): the figures are lower than they should be",
               load, dc_pool_threads());
}

/* What the figures stand beside. */
static int find_ceilings(dc_bench *b, dc_error *err)
{
    if (b->queued) {
        const int rc = dc_bench_card(b, err);
        if (rc != DC_OK) return rc;
    } else {
        dc_peak_measure(&b->peak, b->quick ? 0.1 : 0.5, 1);
        b->fp32 = b->peak.flops;
    }
    if (b->json) return DC_OK;
    printf("decant %s · %s\nceilings, measured: %.0f GFLOP/s ", DC_VERSION, dc_dev_describe(b->dev),
           b->peak.flops / 1e9);
    if (b->queued)
        printf("in %s of %s, %.0f in fp32, %.1f GB/s copied in memory\n", b->peak.registers,
               dc_dtype_get(b->dev->activation)->name, b->fp32 / 1e9, b->peak.read_bytes / 1e9);
    else printf("fp32 on %s registers, %.1f GB/s read from memory\n", b->peak.registers, b->peak.read_bytes / 1e9);
    return DC_OK;
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    const int quick = dc_cli_get(cli, "--quick") != NULL;
    dc_bench b = {.name = dc_cli_get(cli, "--device"),
                  .quick = quick,
                  .seconds = quick ? 0.03 : 0.3,
                  .json = cli->json,
                  .rows = json_array()};
    if (!b.rows) return dc_fail_memory(err, 0, "a table");
    DC_TRY(dc_opened_device(&b.dev, cli, err));
    b.queued = dc_dev_stream(b.dev) != NULL;
    DC_TRY(dc_cli_int(&b.tokens, cli, "--tokens", b.queued ? 8192 : 512, 16, 1 << 20, err));
    DC_TRY(find_ceilings(&b, err));
    if (!b.queued) warn_if_busy();
    DC_TRY(dc_bench_kernels(&b, err));
    DC_TRY(dc_bench_rows(&b, err));
    if (!dc_cli_get(cli, "--kernels")) DC_TRY(dc_bench_step(&b, err));
    if (b.rc != DC_OK) DC_TRY(dc_fail(err, b.rc, "%s", b.err.message));
    if (cli->json)
        DC_TRY(dc_print_json(
            json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:O, s:O*}", "version", DC_VERSION, "device",
                      dc_dev_describe(b.dev), "compute", dc_dtype_get(b.dev->activation)->name, "tokens",
                      (json_int_t)b.tokens, "peak_gflops", b.peak.flops / 1e9, "fp32_gflops", b.fp32 / 1e9,
                      "read_gbytes_per_second", b.peak.read_bytes / 1e9, "rows", b.rows, "step", b.step),
            err));
done:
    json_decref(b.rows);
    json_decref(b.step);
    dc_dev_close(b.dev);
    return rc;
}

static const dc_flag flags[] = {
    {"--quick", NULL, "a tenth of the time for each figure, and a model of 6 layers instead of 30"},
    DC_FLAG_DEVICE,
    {"--tokens", "N", "tokens of a step, in documents of 2,048 at most (512; 8192 on a card)"},
    {"--kernels", NULL, "leave out the whole step"},
    {NULL, NULL, NULL}};

const dc_command dc_cmd_bench = {.name = "bench",
                                 .group = "look",
                                 .summary = "kernels and a whole LoRA step on this machine, beside their ceilings",
                                 .takes = DC_TAKES_NONE,
                                 .flags = flags,
                                 .examples = "  decant bench --quick\n  decant bench --json\n",
                                 .run = run};
