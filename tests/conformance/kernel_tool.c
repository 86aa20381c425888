/* tests/conformance/kernel_tool.c -- kernels for outside judges: raw numbers in on stdin, out on stdout.
 *
 * kernel_tool read TYPE N FEATURES     N elements of TYPE -> N floats; FEATURES: 0 for plain C, 1 for what the
 * processor has kernel_tool write TYPE N FEATURES    N floats -> N elements of TYPE kernel_tool adamw N STEPS
 * FEATURES LR BETA1 BETA2 EPS WEIGHT_DECAY
 *                                        N parameters, then N gradients a step -> p, m, v after the last step */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/ops.h"
#include "kernels/quant.h"

static int take(void *to, size_t bytes) { return fread(to, 1, bytes, stdin) == bytes; }
static int give(const void *from, size_t bytes) { return fwrite(from, 1, bytes, stdout) == bytes; }

static int convert(char **args, int reading)
{
    const dc_dtype type = dc_dtype_by_name(args[0]);
    const int64_t n = strtoll(args[1], NULL, 10), bytes = dc_dtype_bytes(type, n);
    const unsigned features = args[2][0] == '1' ? dc_cpu_found() : 0;
    void *row = bytes > 0 ? malloc((size_t)bytes) : NULL;
    float *x = bytes > 0 ? malloc((size_t)n * sizeof *x) : NULL;
    int ok = row && x;
    if (ok && reading) {
        ok = take(row, (size_t)bytes);
        if (ok) dc_row_reader(type, features)(x, row, n);
        ok = ok && give(x, (size_t)n * sizeof *x);
    } else if (ok) {
        ok = take(x, (size_t)n * sizeof *x);
        if (ok) dc_row_writer(type, features)(row, x, n);
        ok = ok && give(row, (size_t)bytes);
    }
    free(row), free(x);
    return ok;
}

static int optimize(char **args)
{
    const int64_t n = strtoll(args[0], NULL, 10), steps = strtoll(args[1], NULL, 10);
    const size_t bytes = (size_t)n * sizeof(float);
    dc_ops ops;
    dc_cpu_ops(&ops, args[2][0] == '1' ? dc_cpu_found() : 0);
    dc_adamw a = {strtod(args[3], NULL),
                  strtod(args[4], NULL),
                  strtod(args[5], NULL),
                  strtod(args[6], NULL),
                  strtod(args[7], NULL),
                  1,
                  0};
    float *p = malloc(bytes), *m = calloc(1, bytes), *v = calloc(1, bytes), *g = malloc(bytes);
    int ok = p && m && v && g && take(p, bytes);
    for (a.step = 1; ok && a.step <= steps; a.step++) {
        ok = take(g, bytes);
        const dc_adamw_item items[] = {{p, m, v, g, n, 1, 1}};
        if (ok) ops.adamw(NULL, items, 1, &a);
    }
    ok = ok && give(p, bytes) && give(m, bytes) && give(v, bytes);
    free(p), free(m), free(v), free(g);
    return ok;
}

int main(int argc, char **argv)
{
    int ok = 0;
    if (argc == 5 && strcmp(argv[1], "read") == 0) ok = convert(argv + 2, 1);
    if (argc == 5 && strcmp(argv[1], "write") == 0) ok = convert(argv + 2, 0);
    if (argc == 10 && strcmp(argv[1], "adamw") == 0) ok = optimize(argv + 2);
    return !ok;
}
