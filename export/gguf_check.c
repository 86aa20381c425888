/* export/gguf_check.c -- the written file, read back. */
#include <math.h>

#include "core/arena.h"
#include "core/stop.h"
#include "export/gguf_private.h"
#include "kernels/quant.h"

/* The largest |written - meant| a type may show in a row whose greatest magnitude is amax. A step of Q8_0 is d = amax / 127, of Q4_0 amax / 8;
 * half a step is lost by rounding (a whole one where Q4_0's range -8 .. 7 cuts one side), and the rounding of d itself, to half
 * precision, is multiplied by the quant. Halves below 2^-14 are subnormal: their error is 2^-25, whatever their size. */
static double allowed(dc_dtype type, double amax)
{
    const double half = 0x1p-11 * amax;
    switch (type) {
    case DC_F32: return 0;
    case DC_F16: return 1.01 * (half + 0x1p-25);
    case DC_BF16: return 1.01 * 0x1p-8 * amax;
    case DC_Q8_0: return 1.01 * (0.5 / 127 * amax + half + 127 * 0x1p-25);
    default: return 1.01 * (1.0 / 8 * amax + half + 8 * 0x1p-25);
    }
}

static int check_rows(const dc_gguf_tensor *t, const float *meant, float *read, int64_t row, int64_t n, int64_t cols,
                      const char *path, double *worst, dc_error *err)
{
    const int64_t row_bytes = dc_dtype_bytes(t->type, cols);
    for (int64_t i = 0; i < n; i++) {
        double amax = 0, error = 0;
        dc_row_reader(t->type, ~0u)(read, t->data + (row + i) * row_bytes, cols);
        for (int64_t c = 0; c < cols; c++) {
            const double m = (double)meant[i * cols + c], e = fabs((double)read[c] - m);
            amax = fabs(m) > amax ? fabs(m) : amax;
            error = e > error || isnan(e) ? e : error; /* a NaN stays */
        }
        if (!(error <= allowed(t->type, amax)))
            return dc_fail(err, DC_ENUMERIC,
                           "%s: row %lld of %s reads back with error %g (greatest value %g): the file is not used",
                           path, (long long)(row + i), t->name, error, amax);
        if (amax > 0 && error / amax > *worst) *worst = error / amax;
    }
    return DC_OK;
}

static int check_tensor(const dc_gguf_tensor *t, const dc_model *m, const dc_export_options *o, const dc_weight *w,
                        const char *path, double *worst, dc_error *err)
{
    int rc = DC_OK, fallback;
    int64_t rows, cols;
    dc_export_shape(&w->spec, &rows, &cols);
    const int64_t block = dc_export_rows(&w->spec);
    if (t->ne[0] != cols || t->ne[1] != rows || t->type != dc_export_tensor_type(m, &w->spec, o->type, &fallback))
        return dc_fail(err, DC_EFORMAT, "%s: %s has another shape or type than it was written with", path, t->name);
    float *meant = dc_malloc((size_t)(block * cols) * 2 * sizeof *meant),
          *read = dc_malloc((size_t)cols * sizeof *read);
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

/* What the file says of the model. Numbers went through float32; that rope's parameters come back as others that give the same
 * frequencies is fine. */
static int check_config(dc_gguf *g, const dc_model *m, const char *path, dc_error *err)
{
    dc_config c;
    const dc_config *d = &m->config;
    float read[DC_ROPE_PAIRS], meant[DC_ROPE_PAIRS];
    const int rc = dc_config_from_gguf(&c, g, err);
    if (rc != DC_OK) return rc;
    int same = c.family == d->family && c.C == d->C && c.L == d->L && c.H == d->H && c.K == d->K && c.D == d->D &&
               c.F == d->F && c.V == d->V && c.max_position == d->max_position && c.n_rot == d->n_rot &&
               c.window == d->window && c.tied == d->tied && c.qk_norm == d->qk_norm && c.q_bias == d->q_bias &&
               c.o_bias == d->o_bias && c.mlp_bias == d->mlp_bias && c.act == d->act;
    same = same && c.rms_eps == d->rms_eps && c.norm_offset == d->norm_offset && c.attn_scale == d->attn_scale &&
           c.attn_softcap == d->attn_softcap && c.final_softcap == d->final_softcap &&
           c.embed_scale == d->embed_scale && c.logit_scale == d->logit_scale;
    if (same) {
        dc_rope_frequencies(read, &c);
        dc_rope_frequencies(meant, d);
        for (int64_t i = 0; i < d->n_rot / 2; i++) same = same && fabsf(read[i] - meant[i]) <= 4e-6f * meant[i];
    }
    if (same) return DC_OK;
    return dc_fail(err, DC_EFORMAT, "%s: the config reads back otherwise than it was written: the file is not used",
                   path);
}

int dc_export_check(const char *path, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o,
                    double *worst, dc_error *err)
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
        if (!dc_export_has(m, w)) continue;
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
