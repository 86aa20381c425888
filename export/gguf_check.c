/* export/gguf_check.c -- the written file, read back. */
#include <math.h>

#include "core/arena.h"
#include "core/stop.h"
#include "export/gguf_private.h"
#include "kernels/quant.h"

/* The largest |written - meant| a type may show, as a share of the row's greatest magnitude: half a step for rounding types, a whole step of
 * 1/8 for Q4_0, whose range -8 .. 7 cuts one side; for both the half that their step is stored as rounds by another 2^-11. */
static double allowed(dc_dtype type)
{
    switch (type) {
    case DC_F32: return 0;
    case DC_F16: return 0x1p-11 * 1.01;
    case DC_BF16: return 0x1p-8 * 1.01;
    case DC_Q8_0: return (0.5 / 127 + 0x1p-11) * 1.01;
    default: return (1.0 / 8 + 0x1p-11) * 1.01;
    }
}

/* Beside it: a subnormal half is off by up to 2^-25, whatever its size, and a step by as often that as it counts. */
static double allowed_near_zero(dc_dtype type)
{
    switch (type) {
    case DC_F16: return 0x1p-25;
    case DC_Q8_0: return 127 * 0x1p-25;
    case DC_Q4_0: return 8 * 0x1p-25;
    default: return 0;
    }
}

static int check_rows(const dc_gguf_tensor *t, const float *meant, float *read, int64_t row, int64_t n, int64_t cols, const char *path,
                      double *worst, dc_error *err)
{
    const int64_t row_bytes = dc_dtype_bytes(t->type, cols);
    for (int64_t i = 0; i < n; i++) {
        double amax = 0, error = 0;
        dc_row_reader(t->type, ~0u)(read, t->data + (row + i) * row_bytes, cols);
        for (int64_t c = 0; c < cols; c++) {
            const double m = (double)meant[i * cols + c], e = fabs((double)read[c] - m);
            amax = fabs(m) > amax ? fabs(m) : amax;
            error = !(e <= error) ? e : error; /* a NaN stays */
        }
        if (!(error <= allowed(t->type) * amax + allowed_near_zero(t->type)))
            return dc_fail(err, DC_ENUMERIC, "%s: row %lld of %s reads back with error %g (greatest value %g): the file is not used", path,
                           (long long)(row + i), t->name, error, amax);
        if (amax > 0 && error / amax > *worst) *worst = error / amax;
    }
    return DC_OK;
}

static int check_tensor(const dc_gguf_tensor *t, const dc_model *m, const dc_export_options *o, const dc_weight *w, const char *path,
                        double *worst, dc_error *err)
{
    int rc = DC_OK;
    const int64_t cols = w->spec.n_dims > 1 ? w->spec.shape[1] : w->spec.shape[0], rows = w->spec.n_dims > 1 ? w->spec.shape[0] : 1;
    const int64_t block = dc_export_rows(&w->spec);
    if (t->ne[0] != cols || t->ne[1] != rows)
        return dc_fail(err, DC_EFORMAT, "%s: %s has another shape than it was written with", path, t->name);
    float *meant = dc_malloc((size_t)(block * cols) * 2 * sizeof *meant), *read = dc_malloc((size_t)cols * sizeof *read);
    if (!meant || !read) {
        rc = dc_fail_memory(err, (size_t)(block * cols) * sizeof *meant, "rows of a tensor");
        goto done;
    }
    for (int64_t row = 0; row < rows; row += block) {
        const int64_t n = rows - row < block ? rows - row : block;
        DC_TRY(dc_stop_check("export", err));
        dc_export_read(m, o, w, meant, meant + block * cols, row, n);
        DC_TRY(check_rows(t, meant, read, row, n, cols, path, worst, err));
    }
done:
    dc_free(meant);
    dc_free(read);
    return rc;
}

static int check_config(dc_gguf *g, const dc_model *m, const char *path, dc_error *err)
{
    dc_config c;
    const dc_config *d = &m->config;
    const int rc = dc_config_from_gguf(&c, g, err);
    if (rc != DC_OK) return rc;
    if (c.family != d->family || c.C != d->C || c.L != d->L || c.H != d->H || c.K != d->K || c.D != d->D || c.F != d->F || c.V != d->V ||
        c.rms_eps != d->rms_eps || c.rope.theta != d->rope.theta || c.tied != d->tied)
        return dc_fail(err, DC_EFORMAT, "%s: the config reads back otherwise than it was written: the file is not used", path);
    return DC_OK;
}

int dc_export_check(const char *path, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o, double *worst, dc_error *err)
{
    int rc = DC_OK;
    dc_gguf *g = NULL;
    dc_tokenizer *read = NULL;
    *worst = 0;
    DC_TRY(dc_gguf_open(&g, path, err));
    DC_TRY(check_config(g, m, path, err));
    DC_TRY(dc_tokenizer_from_gguf(&read, g, err));
    DC_TRY(dc_tokenizer_same(t, read, "the model's tokenizer", path, err));
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_weight *w = &m->weights[i];
        if (!w->data.data || (m->config.tied && w->spec.role == DC_W_HEAD)) continue;
        const dc_gguf_tensor *tensor = dc_gguf_tensor_find(g, w->spec.gguf);
        if (!tensor) {
            rc = dc_fail(err, DC_EFORMAT, "%s: %s is not in the written file", path, w->spec.gguf);
            goto done;
        }
        DC_TRY(check_tensor(tensor, m, o, w, path, worst, err));
    }
done:
    dc_tokenizer_free(read);
    dc_gguf_close(g);
    return rc;
}
