/* model/config_gguf.c -- a GGUF's keys to dc_config and back. Sources: llama.cpp's src/llama-model.cpp (what its loader reads) and
 * conversion/ (what its converter writes). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "model/arch_table.h"

typedef struct reader {
    dc_gguf *g;
    const dc_family *f;
    char key[128]; /* the last key asked for, prefixed */
} reader;

static const char *keyed(reader *r, const char *key)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->f->gguf_arch, key);
    return r->key;
}

static int has_tensor(const dc_gguf *g, const char *name) { return dc_gguf_tensor_find(g, name) != NULL; }

/* ---- keys that nobody reads ---- */

static int is_number_key(const dc_family *f, const char *key)
{
    for (const dc_number_key *k = f->numbers; k->hf; k++)
        if (k->gguf && !strcmp(k->gguf, key)) return 1;
    return 0;
}

static int is_neutral(const dc_gguf *g, const dc_gguf_kv *kv, double neutral, dc_error *err)
{
    double real = 0;
    int64_t integer = 0;
    int on = 0;
    switch (kv->type) {
    case DC_GGUF_STRING: return kv->texts[0].n == 0;
    case DC_GGUF_ARRAY: return kv->n == 0;
    case DC_GGUF_BOOL: return dc_gguf_bool(&on, g, kv->key, 0, err) == DC_OK && (!on || neutral == 1);
    case DC_GGUF_F32:
    case DC_GGUF_F64: return dc_gguf_f64(&real, g, kv->key, 0, err) == DC_OK && real == neutral;
    default: return dc_gguf_i64(&integer, g, kv->key, 0, err) == DC_OK && (double)integer == neutral;
    }
}

static int check_keys(reader *r, dc_error *err)
{
    const size_t n = strlen(r->f->gguf_arch);
    for (int64_t i = 0; i < dc_gguf_n_kv(r->g); i++) {
        const dc_gguf_kv *kv = dc_gguf_kv_at(r->g, i);
        if (strncmp(kv->key, r->f->gguf_arch, n) || kv->key[n] != '.') continue;
        const char *key = kv->key + n + 1;
        if (dc_name_in(dc_config_harmless_gguf, key) || is_number_key(r->f, key)) continue;
        const dc_neutral_key *k = dc_config_neutral_gguf;
        while (k->key && strcmp(k->key, key)) k++;
        if (!k->key) {
            dc_log(DC_LOG_WARN, "%s: key '%s' is not known to decant and has no effect", dc_gguf_path(r->g), kv->key);
        } else if (!is_neutral(r->g, kv, k->value, err)) {
            return dc_fail(err, DC_EUNKNOWN,
                           "%s: key '%s' has a value that changes what the model computes, and decant does not "
                           "implement it for architecture '%s'",
                           dc_gguf_path(r->g), kv->key, r->f->gguf_arch);
        }
    }
    return DC_OK;
}

/* ---- parts ---- */

/* An integer, or an array with one and the same for all layers. */
static int read_uniform(int64_t *out, reader *r, const char *name, int64_t fallback, dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(r->g, keyed(r, name));
    if (!kv || kv->type != DC_GGUF_ARRAY) return dc_gguf_i64(out, r->g, r->key, fallback, err);
    if (kv->n < 1 || kv->item == DC_GGUF_STRING || kv->item == DC_GGUF_F32 || kv->item == DC_GGUF_F64)
        return dc_fail(err, DC_EFORMAT, "%s: key '%s' must hold integers", dc_gguf_path(r->g), r->key);
    *out = dc_gguf_item_i64(kv, 0);
    for (int64_t i = 1; i < kv->n; i++)
        if (dc_gguf_item_i64(kv, i) != *out)
            return dc_fail(err, DC_EUNKNOWN, "%s: key '%s' differs from layer to layer, which is not implemented",
                           dc_gguf_path(r->g), r->key);
    return DC_OK;
}

static int read_numbers(dc_config *c, reader *r, dc_error *err)
{
    const dc_gguf_tensor *embed = dc_gguf_tensor_find(r->g, "token_embd.weight");
    int64_t key_length, value_length;
    int rc = DC_OK;
    for (const dc_number_key *k = r->f->numbers; k->hf; k++) {
        if (!k->gguf) continue;
        const int derived =
            k->fallback >= 0 && k->offset == offsetof(dc_config, K); /* the loader's default is the head count */
        int64_t value;
        DC_TRY(read_uniform(&value, r, k->gguf, -1, err));
        if (!dc_gguf_find(r->g, r->key)) {
            if (!derived) return dc_fail(err, DC_EFORMAT, "%s: key '%s' is missing", dc_gguf_path(r->g), r->key);
            value = 0;
        } else if (value < 1) {
            return dc_fail(err, DC_EFORMAT, "%s: key '%s' is %lld, expected 1 or more", dc_gguf_path(r->g), r->key,
                           (long long)value);
        }
        *(int64_t *)((char *)c + k->offset) = value;
    }
    if (!c->K) c->K = c->H;
    DC_TRY(dc_gguf_i64(&key_length, r->g, keyed(r, "attention.key_length"), c->C / c->H, err));
    DC_TRY(dc_gguf_i64(&value_length, r->g, keyed(r, "attention.value_length"), c->C / c->H, err));
    if (key_length != value_length)
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: keys of %lld and values of %lld columns: different widths are not implemented",
                       dc_gguf_path(r->g), (long long)key_length, (long long)value_length);
    c->D = key_length;
    if (!embed) return dc_fail(err, DC_EFORMAT, "%s: tensor token_embd.weight is missing", dc_gguf_path(r->g));
    c->V = embed->ne[1];
done:
    return rc;
}

/* What HF's config says by keys is seen here by the first layer's tensors. */
static void read_switches(dc_config *c, const reader *r)
{
    c->qk_norm = r->f->qk_norm.key ? has_tensor(r->g, "blk.0.attn_q_norm.weight") : r->f->qk_norm.value;
    c->q_bias = r->f->q_bias.key ? has_tensor(r->g, "blk.0.attn_q.bias") : r->f->q_bias.value;
    c->o_bias = r->f->o_bias.key ? has_tensor(r->g, "blk.0.attn_output.bias") : r->f->o_bias.value;
    c->mlp_bias = r->f->mlp_bias.key ? has_tensor(r->g, "blk.0.ffn_gate.bias") : r->f->mlp_bias.value;
    c->tied = !has_tensor(r->g, "output.weight");
}

static int read_token(int32_t *out, const dc_gguf *g, const char *key, dc_error *err)
{
    int64_t id;
    const int rc = dc_gguf_i64(&id, g, key, -1, err);
    if (rc) return rc;
    if (id < -1 || id > INT32_MAX) return dc_fail(err, DC_EFORMAT, "%s: key '%s' is no token id", dc_gguf_path(g), key);
    *out = (int32_t)id;
    return DC_OK;
}

/* Type of the first tensor that is quantized, else of the embedding. */
static dc_dtype file_type(const dc_gguf *g)
{
    for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
        if (t->n_dims == 2 && t->type != DC_F32 && t->type != DC_F16 && t->type != DC_BF16) return t->type;
    }
    return dc_gguf_tensor_find(g, "token_embd.weight")->type;
}

/* ---- rope ---- */

/* Do these parameters give the file's divisors? Two formulas for one number differ by roundings: a few 1e-7. */
static int llama3_fits(const dc_config *c, const dc_rope_config *guess)
{
    for (int64_t i = 0; i < c->n_rot / 2; i++) {
        const float want = c->rope.factors[i], is = dc_llama3_factor(guess, dc_rope_base_frequency(c, i));
        if (!(fabsf(is - want) <= 2e-6f * want)) return 0;
    }
    return 1;
}

/* rope_freqs.weight holds what frequencies are divided by, not the parameters that made it. Between the bands the share that is not
 * divided is linear in 1/wavelength: share = original / (high - low) / wave - low / (high - low). All published files have low 1, so
 * the line's two coefficients give high and original. Without two points on it the values of Llama 3.1 are tried. */
static int recover_llama3(dc_rope_config *out, const dc_config *c)
{
    dc_rope_config guess = {.type = DC_ROPE_LLAMA3,
                            .theta = c->rope.theta,
                            .low_freq_factor = 1,
                            .high_freq_factor = 4,
                            .original_max_position = 8192};
    const float *f = c->rope.factors;
    const int64_t n = c->n_rot / 2;
    double x[DC_ROPE_PAIRS], share[DC_ROPE_PAIRS];
    int64_t points = 0;
    guess.factor = (double)f[n - 1];
    if (!(guess.factor > 1)) return 0;
    for (int64_t i = 0; i < n; i++) {
        if (f[i] <= 1.0f || (double)f[i] >= guess.factor) continue;
        x[points] = (double)dc_rope_base_frequency(c, i) / 6.283185307179586;
        share[points++] = (1 / (double)f[i] - 1 / guess.factor) / (1 - 1 / guess.factor);
    }
    if (points >= 2 && !llama3_fits(c, &guess)) {
        const double slope = (share[0] - share[points - 1]) / (x[0] - x[points - 1]), at0 = share[0] - slope * x[0];
        const double high = round(64 * (1 - 1 / at0)) / 64, original = round(slope * (high - 1));
        if (!(at0 < 0) || !(high > 1) || !(original >= 1) || original > 1e9) return 0;
        guess.high_freq_factor = high;
        guess.original_max_position = (int64_t)original;
    }
    if (!llama3_fits(c, &guess)) return 0;
    *out = guess;
    return 1;
}

static int read_factors(dc_config *c, const reader *r, const dc_gguf_tensor *t, dc_error *err)
{
    if (t->type != DC_F32 || t->ne[0] != c->n_rot / 2 || t->bytes != c->n_rot / 2 * (int64_t)sizeof(float))
        return dc_fail(err, DC_EFORMAT, "%s: tensor %s has type %s and %lld values, expected F32 and %lld",
                       dc_gguf_path(r->g), t->name, dc_dtype_get(t->type)->name, (long long)t->ne[0],
                       (long long)(c->n_rot / 2));
    memcpy(c->rope.factors, t->data, (size_t)t->bytes);
    c->rope.type = DC_ROPE_FACTORS;
    dc_rope_config llama3;
    if (recover_llama3(&llama3, c)) c->rope = llama3;
    return DC_OK;
}

static int read_scaling(dc_config *c, reader *r, dc_error *err)
{
    dc_rope_config *rope = &c->rope;
    const char *type;
    double old;
    int rc = DC_OK;
    DC_TRY(dc_gguf_f64(&rope->theta, r->g, keyed(r, "rope.freq_base"), 10000.0, err));
    DC_TRY(dc_gguf_f64(&old, r->g, keyed(r, "rope.scale_linear"), 1.0, err));
    DC_TRY(dc_gguf_f64(&rope->factor, r->g, keyed(r, "rope.scaling.factor"), old, err));
    /* As llama.cpp: a factor without a type is linear. */
    DC_TRY(dc_gguf_str(&type, r->g, keyed(r, "rope.scaling.type"), "linear", err));
    if (strcmp(type, "linear") && strcmp(type, "none"))
        return dc_fail(err, DC_EUNKNOWN, "%s: rope scaling '%s' is not implemented; decant knows none and linear",
                       dc_gguf_path(r->g), type);
    rope->type = !strcmp(type, "linear") && rope->factor != 1 && rope->factor != 0 ? DC_ROPE_LINEAR : DC_ROPE_DEFAULT;
done:
    return rc;
}

static int read_rope(dc_config *c, reader *r, dc_error *err)
{
    const dc_gguf_tensor *freqs = r->f->gguf_rope_freqs ? dc_gguf_tensor_find(r->g, "rope_freqs.weight") : NULL;
    int rc = read_scaling(c, r, err);
    DC_TRY(rc);
    DC_TRY(dc_gguf_i64(&c->n_rot, r->g, keyed(r, "rope.dimension_count"), c->D, err));
    if (c->n_rot != c->D)
        return dc_fail(err, DC_EUNKNOWN, "%s: key '%s' is %lld, but decant rotates whole heads of %lld",
                       dc_gguf_path(r->g), r->key, (long long)c->n_rot, (long long)c->D);
    if (!freqs) return DC_OK;
    if (c->rope.type != DC_ROPE_DEFAULT)
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: both rope_freqs.weight and rope.scaling.type linear; that is not implemented",
                       dc_gguf_path(r->g));
    DC_TRY(dc_config_check(c, dc_gguf_path(r->g), err)); /* bounds n_rot before it is a size */
    rc = read_factors(c, r, freqs, err);
done:
    return rc;
}

/* ---- whole ---- */

static int find_family(reader *r, dc_error *err)
{
    const char *kind, *arch;
    char known[256];
    int rc = dc_gguf_str(&kind, r->g, "general.type", "model", err);
    if (rc == DC_OK) rc = dc_gguf_str(&arch, r->g, "general.architecture", "", err);
    if (rc) return rc;
    if (strcmp(kind, "model"))
        return dc_fail(err, DC_EMISMATCH, "%s: this is a GGUF of type '%s', not a model", dc_gguf_path(r->g), kind);
    if (!*arch) return dc_fail(err, DC_EFORMAT, "%s: key 'general.architecture' is missing", dc_gguf_path(r->g));
    r->f = dc_family_by_gguf(arch);
    if (r->f) return DC_OK;
    return dc_fail(err, DC_EUNKNOWN, "%s: architecture '%s' is not supported; decant knows %s", dc_gguf_path(r->g),
                   arch, dc_family_list(known, sizeof known, 1));
}

int dc_config_from_gguf(dc_config *out, dc_gguf *g, dc_error *err)
{
    dc_config c = {.attn_softcap = 0, .embed_scale = 1, .logit_scale = 1, .act = DC_ACT_SILU};
    reader r = {.g = g};
    double eps;
    int rc = DC_OK;
    DC_TRY(find_family(&r, err));
    c.family = r.f;
    DC_TRY(check_keys(&r, err));
    DC_TRY(read_numbers(&c, &r, err));
    read_switches(&c, &r);
    DC_TRY(dc_gguf_f64(&eps, g, keyed(&r, "attention.layer_norm_rms_epsilon"), -1, err));
    if (eps == -1) return dc_fail(err, DC_EFORMAT, "%s: key '%s' is missing", dc_gguf_path(g), r.key);
    c.rms_eps = (float)eps;
    DC_TRY(read_rope(&c, &r, err));
    c.attn_scale = (float)(1.0 / sqrt((double)c.D));
    c.dtype = file_type(g);
    DC_TRY(read_token(&c.bos, g, "tokenizer.ggml.bos_token_id", err));
    DC_TRY(read_token(&c.eos, g, "tokenizer.ggml.eos_token_id", err));
    DC_TRY(dc_config_check(&c, dc_gguf_path(g), err));
    *out = c;
done:
    return rc;
}

static int can_put(const dc_config *c, dc_error *err)
{
    static const struct {
        unsigned part;
        const char *name;
    } parts[] = {{DC_HAS_QK_NORM, "norms of q and k"},
                 {DC_HAS_Q_BIAS, "biases of q, k and v"},
                 {DC_HAS_O_BIAS, "a bias of o_proj"},
                 {DC_HAS_MLP_BIAS, "biases of the mlp"},
                 {DC_HAS_HEAD, "a head of its own"}};
    const dc_family *f = c->family;
    const unsigned missing = dc_config_parts(c) & ~f->gguf_parts;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (missing & parts[i].part)
            return dc_fail(err, DC_EUNKNOWN,
                           "a GGUF of architecture '%s' cannot have %s: export as an HF directory instead",
                           f->gguf_arch, parts[i].name);
    if ((c->rope.type == DC_ROPE_LLAMA3 || c->rope.type == DC_ROPE_FACTORS) && !f->gguf_rope_freqs)
        return dc_fail(err, DC_EUNKNOWN,
                       "a GGUF of architecture '%s' cannot have rope scaling by frequency (llama3): export as an HF "
                       "directory instead",
                       f->gguf_arch);
    if (c->act != DC_ACT_SILU)
        return dc_fail(err, DC_EUNKNOWN, "a GGUF of architecture '%s' cannot have an activation other than silu",
                       f->gguf_arch);
    if (!f->gguf_head_width && f->gguf_rope_dimensions == 0 && c->D * c->H != c->C)
        return dc_fail(err, DC_EUNKNOWN,
                       "a GGUF of architecture '%s' cannot have heads of %lld columns: hidden_size / heads is %lld",
                       f->gguf_arch, (long long)c->D, (long long)(c->C / c->H));
    return DC_OK;
}

int dc_config_put_gguf(const dc_config *c, dc_gguf_writer *w, dc_error *err)
{
    const dc_family *f = c->family;
    reader r = {.f = f};
    const int rc = can_put(c, err);
    if (rc) return rc;
    for (const dc_number_key *k = f->numbers; k->hf; k++) {
        const int64_t *value = (const int64_t *)((const char *)c + k->offset);
        if (k->gguf) dc_gguf_put_u32(w, keyed(&r, k->gguf), (uint32_t)*value);
    }
    dc_gguf_put_f32(w, keyed(&r, "rope.freq_base"), (float)c->rope.theta);
    dc_gguf_put_f32(w, keyed(&r, "attention.layer_norm_rms_epsilon"), c->rms_eps);
    if (f->gguf_head_width || c->D * c->H != c->C) {
        dc_gguf_put_u32(w, keyed(&r, "attention.key_length"), (uint32_t)c->D);
        dc_gguf_put_u32(w, keyed(&r, "attention.value_length"), (uint32_t)c->D);
    }
    if (f->gguf_vocab_size) dc_gguf_put_u32(w, keyed(&r, "vocab_size"), (uint32_t)c->V);
    if (f->gguf_rope_dimensions) dc_gguf_put_u32(w, keyed(&r, "rope.dimension_count"), (uint32_t)c->n_rot);
    if (c->rope.type == DC_ROPE_LINEAR) {
        dc_gguf_put_str(w, keyed(&r, "rope.scaling.type"), "linear");
        dc_gguf_put_f32(w, keyed(&r, "rope.scaling.factor"), (float)c->rope.factor);
    }
    return DC_OK;
}
