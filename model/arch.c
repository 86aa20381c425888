/* model/arch.c -- what follows from a config: its tensors and its rotary frequencies. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "model/arch_table.h"

enum { MAX_LAYERS = 4096, MAX_HEADS = 65536, MAX_HEAD_WIDTH = 4096 };
static const int64_t max_size = INT64_C(1) << 30; /* of a dimension: well inside int32, so that products fit in int64 */

unsigned dc_config_parts(const dc_config *c)
{
    return (c->qk_norm ? DC_HAS_QK_NORM : 0u) | (c->q_bias ? DC_HAS_Q_BIAS : 0u) | (c->o_bias ? DC_HAS_O_BIAS : 0u) |
           (c->mlp_bias ? DC_HAS_MLP_BIAS : 0u) | (c->tied ? 0u : DC_HAS_HEAD);
}

static int check_range(const char *where, const char *what, int64_t value, int64_t high, dc_error *err)
{
    if (value >= 1 && value <= high) return DC_OK;
    return dc_fail(err, DC_EFORMAT, "%s: %s is %lld, expected 1 to %lld", where, what, (long long)value,
                   (long long)high);
}

static int check_rope(const dc_config *c, const char *where, dc_error *err)
{
    const dc_rope_config *r = &c->rope;
    if (!(r->theta > 0) || !isfinite(r->theta))
        return dc_fail(err, DC_EFORMAT, "%s: rope theta is %g, expected above 0", where, r->theta);
    if ((r->type == DC_ROPE_LINEAR || r->type == DC_ROPE_LLAMA3) && (!(r->factor > 0) || !isfinite(r->factor)))
        return dc_fail(err, DC_EFORMAT, "%s: rope scaling factor is %g, expected above 0", where, r->factor);
    if (r->type == DC_ROPE_LLAMA3 && (!(r->low_freq_factor > 0) || !(r->high_freq_factor > r->low_freq_factor) ||
                                      !isfinite(r->high_freq_factor) || r->original_max_position < 1))
        return dc_fail(
            err, DC_EFORMAT,
            "%s: rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor and an original context of "
            "1 or more, found %g, %g and %lld",
            where, r->low_freq_factor, r->high_freq_factor, (long long)r->original_max_position);
    if (r->type == DC_ROPE_FACTORS)
        for (int64_t i = 0; i < c->n_rot / 2; i++)
            if (!(r->factors[i] > 0) || !isfinite(r->factors[i]))
                return dc_fail(err, DC_EFORMAT, "%s: rope factor %lld is %g, expected above 0", where, (long long)i,
                               (double)r->factors[i]);
    return DC_OK;
}

int dc_config_check(const dc_config *c, const char *where, dc_error *err)
{
    const struct {
        const char *what;
        int64_t value, high;
    } sizes[] = {{"the hidden size", c->C, max_size},
                 {"the number of layers", c->L, MAX_LAYERS},
                 {"the number of attention heads", c->H, MAX_HEADS},
                 {"the number of key-value heads", c->K, MAX_HEADS},
                 {"the head width", c->D, MAX_HEAD_WIDTH},
                 {"the intermediate size", c->F, max_size},
                 {"the vocabulary size", c->V, max_size},
                 {"the context length", c->max_position, max_size}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (check_range(where, sizes[i].what, sizes[i].value, sizes[i].high, err)) return DC_EFORMAT;
    if (c->H % c->K)
        return dc_fail(
            err, DC_EFORMAT,
            "%s: %lld attention heads cannot share %lld key-value heads: the first must be a multiple of the second",
            where, (long long)c->H, (long long)c->K);
    if (c->n_rot < 2 || c->n_rot % 2 || c->n_rot > c->D || c->n_rot > 2 * DC_ROPE_PAIRS)
        return dc_fail(
            err, DC_EFORMAT,
            "%s: %lld of %lld columns of a head are rotated, expected an even number up to the head width and %d",
            where, (long long)c->n_rot, (long long)c->D, 2 * DC_ROPE_PAIRS);
    if (!(c->rms_eps > 0) || !isfinite(c->rms_eps))
        return dc_fail(err, DC_EFORMAT, "%s: the epsilon of RMSNorm is %g, expected above 0", where,
                       (double)c->rms_eps);
    return check_rope(c, where, err);
}

static int64_t dimension(const dc_config *c, char letter)
{
    switch (letter) {
    case 'C': return c->C;
    case 'F': return c->F;
    case 'V': return c->V;
    case 'D': return c->D;
    case 'Q': return c->H * c->D;
    case 'K': return c->K * c->D;
    default: return 0;
    }
}

/* `pattern` with its '*' replaced by the layer. */
static void expand(char *out, size_t room, const char *pattern, int64_t layer)
{
    const char *star = strchr(pattern, '*');
    if (star) snprintf(out, room, "%.*s%lld%s", (int)(star - pattern), pattern, (long long)layer, star + 1);
    else snprintf(out, room, "%s", pattern);
}

static void fill_spec(dc_tensor_spec *spec, const dc_config *c, const dc_tensor_row *row, int64_t layer)
{
    spec->role = row->role;
    spec->layer = layer;
    spec->shape[0] = dimension(c, row->out);
    spec->shape[1] = row->in ? dimension(c, row->in) : 1;
    spec->n_dims = row->in ? 2 : 1;
    expand(spec->hf, sizeof spec->hf, row->hf, layer);
    expand(spec->gguf, sizeof spec->gguf, row->gguf, layer);
    spec->permute_heads = 0;
    if (!c->family->gguf_interleaved) return;
    if (row->role == DC_W_Q || row->role == DC_W_Q_BIAS) spec->permute_heads = c->H;
    if (row->role == DC_W_K || row->role == DC_W_K_BIAS) spec->permute_heads = c->K;
}

int dc_config_tensors(dc_tensor_spec **specs, size_t *n, const dc_config *c, dc_error *err)
{
    const dc_family *f = c->family;
    const unsigned absent = ~dc_config_parts(c);
    const size_t room = f->n_tensors * (size_t)c->L;
    dc_tensor_spec *list = dc_calloc(room, sizeof *list);
    if (!list) return dc_fail_memory(err, room * sizeof *list, "tensor names");
    size_t count = 0;
    /* Rows of a layer stand together in the table: the block is repeated L times. */
    for (size_t i = 0; i < f->n_tensors;) {
        size_t end = i + 1;
        if (!strchr(f->tensors[i].hf, '*')) {
            if (!(f->tensors[i].needs & absent)) fill_spec(&list[count++], c, &f->tensors[i], -1);
            i = end;
            continue;
        }
        while (end < f->n_tensors && strchr(f->tensors[end].hf, '*')) end++;
        for (int64_t layer = 0; layer < c->L; layer++)
            for (size_t k = i; k < end; k++)
                if (!(f->tensors[k].needs & absent)) fill_spec(&list[count++], c, &f->tensors[k], layer);
        i = end;
    }
    *specs = list;
    *n = count;
    return DC_OK;
}

/* HF's _compute_default_rope_parameters works in float: the exponent 2i/n, the power and its inverse are rounded one after the other. */
float dc_rope_base_frequency(const dc_config *c, int64_t i)
{
    const float exponent = (float)(2 * i) / (float)c->n_rot;
    return 1.0f / (float)pow((double)(float)c->rope.theta, (double)exponent);
}

/* HF's _compute_llama3_parameters: a frequency whose wave is longer than the original context is divided by `factor` (share 0), a short
 * one stays (1), and those between are blended. */
static float llama3_share(const dc_rope_config *r, float f)
{
    const double original = (double)r->original_max_position;
    const float low_wave = (float)(original / r->low_freq_factor), high_wave = (float)(original / r->high_freq_factor);
    const float wave = (float)(2.0 * 3.14159265358979323846) / f;
    if (wave < high_wave) return 1;
    if (wave > low_wave) return 0;
    return ((float)original / wave - (float)r->low_freq_factor) / (float)(r->high_freq_factor - r->low_freq_factor);
}

static float llama3_frequency(const dc_rope_config *r, float f)
{
    const float share = llama3_share(r, f);
    return (1.0f - share) * f / (float)r->factor + share * f;
}

/* The same as a divisor, as llama.cpp's converter forms it. */
float dc_llama3_factor(const dc_rope_config *r, float f)
{
    const float share = llama3_share(r, f);
    return 1.0f / ((1.0f - share) / (float)r->factor + share);
}

void dc_rope_frequencies(float *inv_freq, const dc_config *c)
{
    for (int64_t i = 0; i < c->n_rot / 2; i++) {
        const float f = dc_rope_base_frequency(c, i);
        switch (c->rope.type) {
        case DC_ROPE_LINEAR: inv_freq[i] = f / (float)c->rope.factor; break;
        case DC_ROPE_LLAMA3: inv_freq[i] = llama3_frequency(&c->rope, f); break;
        case DC_ROPE_FACTORS: inv_freq[i] = f / c->rope.factors[i]; break;
        default: inv_freq[i] = f;
        }
    }
}

int dc_config_rope_freqs(float *factors, const dc_config *c)
{
    const dc_rope_config *r = &c->rope;
    if (!c->family->gguf_rope_freqs || (r->type != DC_ROPE_LLAMA3 && r->type != DC_ROPE_FACTORS)) return 0;
    for (int64_t i = 0; i < c->n_rot / 2; i++)
        factors[i] = r->type == DC_ROPE_FACTORS ? r->factors[i] : dc_llama3_factor(r, dc_rope_base_frequency(c, i));
    return 1;
}
