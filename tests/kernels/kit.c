/* tests/kernels/kit.c */
#include "kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "kernels/table.h"

enum { CANARY = 16 }; /* 64 bytes, so that the floats stay aligned */
static const float canary = 12345.0f;

static uint64_t sequence = 1;

int kit_reset(void **state)
{
    (void)state;
    sequence = 1;
    return 0;
}

static uint64_t draw(void)
{
    sequence = sequence * 6364136223846793005u + 1442695040888963407u;
    return sequence >> 11;
}

double kit_uniform(void) { return (double)draw() / 4503599627370496.0 - 1.0; }
int64_t kit_below(int64_t n) { return (int64_t)((double)draw() / 9007199254740992.0 * (double)n); }

kit_array kit_new(int64_t n, double scale)
{
    kit_array a = {n, dc_alloc_aligned((size_t)(n + 2 * CANARY) * sizeof(float)), malloc((size_t)n * sizeof(double))};
    assert_non_null(a.f);
    assert_non_null(a.d);
    for (int64_t i = 0; i < n + 2 * CANARY; i++) a.f[i] = canary;
    a.f += CANARY;
    for (int64_t i = 0; i < n; i++) a.d[i] = a.f[i] = (float)(scale * kit_uniform());
    return a;
}

kit_array kit_like(kit_array a)
{
    kit_array b = kit_new(a.n, 0);
    for (int64_t i = 0; i < a.n; i++) b.d[i] = b.f[i] = a.f[i];
    return b;
}

void kit_check(kit_array a)
{
    for (int64_t i = 0; i < CANARY; i++) {
        assert_true(a.f[-1 - i] == canary);
        assert_true(a.f[a.n + i] == canary);
    }
}

void kit_free(kit_array a)
{
    kit_check(a);
    dc_free(a.f - CANARY);
    free(a.d);
}

double kit_worst(kit_array a)
{
    double w = 0;
    for (int64_t i = 0; i < a.n; i++) {
        if (isnan(a.f[i]) != isnan(a.d[i])) return INFINITY;
        if (!isnan(a.d[i]) && a.f[i] != a.d[i]) w = fmax(w, fabs((double)a.f[i] - a.d[i]));
    }
    return w;
}

double kit_largest(kit_array a)
{
    double w = 0;
    for (int64_t i = 0; i < a.n; i++) w = fmax(w, fabs(a.d[i]));
    return w;
}

size_t kit_paths(unsigned out[KIT_PATHS])
{
    const unsigned found = dc_cpu_found(), avx2 = DC_FEATURES_AVX2;
    size_t n = 0;
    out[n++] = 0;
    if ((found & avx2) == avx2) out[n++] = avx2;
    if (found & ~avx2) out[n++] = found;
    return n;
}

size_t kit_all_paths(unsigned out[KIT_PATHS])
{
    const size_t n = kit_paths(out);
    if ((dc_cpu_found() & DC_FEATURES_AVX2) != DC_FEATURES_AVX2) return n;
    out[n] = DC_FEATURES_AVX2 | KIT_PAIR;
    return n + 1;
}

dc_ops kit_ops(unsigned features)
{
    dc_ops ops;
    dc_cpu_ops(&ops, features & ~KIT_PAIR);
#if defined(__x86_64__)
    if (features & KIT_PAIR) {
        kit_attn_overlay_pair(&ops);
        kit_glu_overlay_pair(&ops);
        kit_loss_overlay_pair(&ops);
    }
#endif
    return ops;
}

void kit_same_bits(const float *a, const float *b, int64_t n) { assert_memory_equal(a, b, (size_t)n * sizeof *a); }

void kit_is_slope(double (*loss)(void *context), void *context, double *at, double slope, double tolerance)
{
    const double h = 1e-5, before = *at;
    *at = before + h;
    const double above = loss(context);
    *at = before - h;
    const double below = loss(context);
    *at = before;
    const double measured = (above - below) / (2 * h);
    if (!(fabs(measured - slope) <= tolerance))
        fail_msg("slope %.12g, but the difference quotient is %.12g", slope, measured);
}
