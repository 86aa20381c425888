/* tests/cuda/cuda_kit.c */
#include "cuda_kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quant.h"

/* Canaries on either side; 256 bytes, so that the data keep the alignment of the allocation. */
enum { CANARY = 256, CANARY_BYTE = 0x5b };

static uint64_t sequence = 1;

void ck_reset(void) { sequence = 1; }

static uint64_t draw(void)
{
    sequence = sequence * 6364136223846793005u + 1442695040888963407u;
    return sequence >> 11;
}

double ck_uniform(void) { return (double)draw() / 4503599627370496.0 - 1.0; }
int64_t ck_below(int64_t n) { return (int64_t)((double)draw() / 9007199254740992.0 * (double)n); }

double ck_eps(const dc_dev *dev) { return dev->activation == DC_BF16 ? 0x1p-7 : 0x1p-23; }

static void sound(dc_dev *dev)
{
    dc_error err = {0};
    if (dc_dev_sync(dev, &err)) fail_msg("%s", err.message);
}

static void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

static size_t bytes_of(const ck_array *a) { return (size_t)dc_dtype_bytes(a->type, a->n); }

/* Random blocks of a type that can be read and not written: any half whose upper byte is 0x2b is about 0.06. */
static void random_blocks(unsigned char *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) out[i] = i % 2 ? 0x2b : (unsigned char)ck_below(256);
}

/* `stored`, on the device between canaries; the twin is what the reference reader makes of it. */
static ck_array placed(dc_dev *dev, dc_dtype type, int64_t n, const void *stored)
{
    ck_array a = {dev, n, type, NULL, need((size_t)n * sizeof(double))};
    const size_t bytes = bytes_of(&a);
    float *values = need((size_t)n * sizeof *values);
    unsigned char *host = need(bytes + 2 * CANARY);
    memset(host, CANARY_BYTE, bytes + 2 * CANARY);
    memcpy(host + CANARY, stored, bytes);
    dc_row_reader(type, 0)(values, stored, n);
    for (int64_t i = 0; i < n; i++) a.d[i] = values[i];
    void *memory = NULL;
    dc_error err = {0};
    if (dc_dev_alloc(dev, &memory, bytes + 2 * CANARY, "a test's array", &err)) fail_msg("%s", err.message);
    dc_dev_upload(dev, memory, host, bytes + 2 * CANARY);
    a.data = (char *)memory + CANARY;
    free(host);
    free(values);
    return a;
}

ck_array ck_from(dc_dev *dev, dc_dtype type, int64_t n, const double *values)
{
    float *f = need((size_t)n * sizeof *f);
    void *stored = need((size_t)dc_dtype_bytes(type, n));
    for (int64_t i = 0; i < n; i++) f[i] = (float)values[i];
    assert_non_null(dc_row_writer(type, 0));
    dc_row_writer(type, 0)(stored, f, n);
    const ck_array a = placed(dev, type, n, stored);
    free(stored);
    free(f);
    return a;
}

ck_array ck_new(dc_dev *dev, dc_dtype type, int64_t n, double scale)
{
    if (!dc_row_writer(type, 0)) {
        unsigned char *stored = need((size_t)dc_dtype_bytes(type, n));
        random_blocks(stored, (size_t)dc_dtype_bytes(type, n));
        const ck_array a = placed(dev, type, n, stored);
        free(stored);
        return a;
    }
    double *values = need((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = scale * ck_uniform();
    const ck_array a = ck_from(dev, type, n, values);
    free(values);
    return a;
}

ck_array ck_activation(dc_dev *dev, int64_t n, double scale) { return ck_new(dev, dev->activation, n, scale); }

void ck_check(ck_array a)
{
    unsigned char edge[CANARY];
    for (int side = 0; side < 2; side++) {
        dc_dev_download(a.dev, edge, side ? (char *)a.data + bytes_of(&a) : (char *)a.data - CANARY, sizeof edge);
        sound(a.dev);
        for (int i = 0; i < CANARY; i++)
            if (edge[i] != CANARY_BYTE)
                fail_msg("a write %s an array of %lld %s", side ? "behind" : "before", (long long)a.n,
                         dc_dtype_get(a.type)->name);
    }
}

void ck_free(ck_array a)
{
    ck_check(a);
    dc_dev_free(a.dev, (char *)a.data - CANARY);
    free(a.d);
}

int32_t *ck_ints(dc_dev *dev, const int32_t *host, int64_t n)
{
    void *ints = NULL;
    dc_error err = {0};
    const size_t bytes = (size_t)n * sizeof *host;
    if (dc_dev_alloc(dev, &ints, bytes ? bytes : 1, "a test's table", &err)) fail_msg("%s", err.message);
    dc_dev_upload(dev, ints, host, bytes);
    return ints;
}

void ck_free_ints(dc_dev *dev, int32_t *ints) { dc_dev_free(dev, ints); }

void ck_get(ck_array a, double *out)
{
    void *stored = need(bytes_of(&a));
    float *values = need((size_t)a.n * sizeof *values);
    dc_dev_download(a.dev, stored, a.data, bytes_of(&a));
    sound(a.dev);
    dc_row_reader(a.type, 0)(values, stored, a.n);
    for (int64_t i = 0; i < a.n; i++) out[i] = values[i];
    free(values);
    free(stored);
}

double ck_worst(ck_array a)
{
    double worst = 0, *got = need((size_t)a.n * sizeof *got);
    ck_get(a, got);
    for (int64_t i = 0; i < a.n; i++) {
        if (isnan(got[i]) != isnan(a.d[i])) worst = INFINITY;
        if (!isnan(a.d[i]) && got[i] != a.d[i]) worst = fmax(worst, fabs(got[i] - a.d[i]));
    }
    free(got);
    return worst;
}

double ck_largest(ck_array a)
{
    double w = 0;
    for (int64_t i = 0; i < a.n; i++) w = fmax(w, fabs(a.d[i]));
    return w;
}
