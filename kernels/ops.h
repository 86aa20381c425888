/* kernels/ops.h -- every operation a device can do, and its contract.
 *
 * Code above kernels/ calls `dev->op.NAME(dev, ...)` and never asks which device it is. A pointer belongs to that device, is 64-byte
 * aligned (weights in a mapped file: aligned to their element) and does not alias another argument unless the contract says so.
 * Sizes are positive and fit the plan's bounds; there are no other preconditions that a file or a recipe could break, so
 * ops return nothing; a device's own failures stick and come out of dc_dev_sync with the op's name. Sums run in an order
 * that depends on the shape alone: a rerun gives the same bits, with any number of threads.
 *
 * Shapes: B documents, T tokens, M rows with a loss, C model width, H heads, K kv heads, D head width, F ffn width, V vocabulary,
 * R rank. Row-major. Activations come as views in the device's own type, dev->activation (F32 on a CPU); weights come in any type that
 * kernels/quant.h reads. Statistics, logits, losses, parameters that are trained and their gradients are float. "accumulated" means
 * added to what is there. */
#ifndef DC_KERNELS_OPS_H
#define DC_KERNELS_OPS_H

#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"
#include "kernels/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_dev dc_dev;

/* c = alpha * op(a) * op(b) (+ c) (+ bias): see kernels/gemm.h. */
typedef void dc_gemm_fn(dc_dev *dev, const dc_gemm *g);

/* RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4), with the offset of Gemma's weights:
 *     y[t,c] = x[t,c] * rstd[t] * (offset + weight[c]),   rstd[t] = 1 / sqrt(mean_c(x[t,c]^2) + eps).
 * Rows may be parts of a wider row: ldx, ldy are the distances between rows in elements (C when packed), so that it serves the
 * norms of heads. y may be x. rstd may be NULL when no backward follows. */
typedef void dc_rmsnorm_fwd_fn(dc_dev *dev, dc_view y, /* [T, C], row distance ldy */
                               float *rstd,            /* [T] or NULL */
                               dc_cview x,             /* [T, C], row distance ldx */
                               dc_cview weight,        /* [C], F32, F16 or BF16 */
                               int64_t T, int64_t C, int64_t ldy, int64_t ldx, float eps, float offset);

/* Adds to dx and, unless it is NULL (a frozen norm), to dweight:
 *     g = dy * (offset + weight),   dx += rstd * (g - x * rstd^2 * mean_c(g * x)),   dweight += sum_t dy * x * rstd.
 * With `assign` dx is set, not added to; dx may then be dy. */
typedef void dc_rmsnorm_bwd_fn(dc_dev *dev, dc_view dx, /* [T, C], row distance ldx */
                               float *dweight,          /* [C], accumulated, or NULL */
                               dc_cview dy,             /* [T, C], row distance ldy */
                               dc_cview x,              /* [T, C], row distance ldx, as given to the forward */
                               const float *rstd,       /* [T], from the forward */
                               dc_cview weight,         /* [C] */
                               int64_t T, int64_t C, int64_t ldy, int64_t ldx, float offset, int assign);

/* Rotary embedding (Su et al. 2021, arXiv 2104.09864) in place on the first n_rot of D columns of each head:
 *     a = pos[t] * inv_freq[i],  (u, v) -> (u cos a - v sin a, u sin a + v cos a) * mscale,   0 <= i < n_rot / 2,
 * where (u, v) are columns (i, i + n_rot/2) (halves: HF's order), or (2i, 2i+1) when `interleaved`. sign -1 rotates back: the
 * backward (the transpose, so mscale is the same). Angles are formed in double: positions reach 10^6. */
typedef void dc_rope_fn(dc_dev *dev, dc_view x, /* [T, H, D] */
                        const int32_t *pos,     /* [T] */
                        const float *inv_freq,  /* [n_rot / 2] */
                        int64_t T, int64_t H, int64_t D, int64_t n_rot, int interleaved, float mscale, int sign);

/* What attention is over: B documents packed in T tokens, document b owning rows cu_seqlens[b] .. cu_seqlens[b+1]. */
typedef struct dc_attn {
    const int32_t *cu_seqlens; /* [B + 1], on the host */
    const int32_t *cu_device;  /* [B + 1], the same on the device */
    int64_t T, B, H, K, D;     /* H is a multiple of K: head h reads kv head h / (H / K) */
    float scale;               /* usually 1 / sqrt(D) */
    float softcap;             /* s -> softcap * tanh(s / softcap) before the mask; 0: none */
    int64_t window;            /* a token sees itself and the window - 1 before it; 0: all before it */
} dc_attn;

/* Causal attention within each document, by blocks with online softmax (Dao et al. 2022, arXiv 2205.14135):
 *     s[i,j] = scale * q_i . k_j,  p = softmax_j<=i(s),  o_i = sum_j p[i,j] v_j,  lse_i = log sum_j exp(s[i,j]).
 * lse may be NULL when no backward follows. */
typedef void dc_attn_fwd_fn(dc_dev *dev, dc_view o, /* [T, H, D] */
                            float *lse,             /* [T, H] or NULL */
                            dc_cview q,             /* [T, H, D] */
                            dc_cview k,             /* [T, K, D] */
                            dc_cview v,             /* [T, K, D] */
                            const dc_attn *a);

/* Sets dq, dk, dv from do: p recomputed from lse, delta_i = do_i . o_i, ds = p * (dp - delta). dq may be q's own gradient buffer only;
 * no aliasing with inputs. */
typedef void dc_attn_bwd_fn(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, /* as q, k, v */
                            dc_cview d_o,                                    /* [T, H, D] */
                            dc_cview o, const float *lse,                    /* from the forward */
                            dc_cview q, dc_cview k, dc_cview v, const dc_attn *a);

/* Decoding: n new tokens of S sequences attend to their caches, into which the new keys and values were already written. Sequence s has
 * rows cu_new[s] .. cu_new[s+1] of q, the last of which stands at position kv_len[s] - 1. Keys and values are in pages of
 * `page` tokens: token j of sequence s is row j % page of pages[s * max_pages + j / page], a page being [page, K, D] of activations. The tables
 * are on the host: ops copy what they need. */
typedef struct dc_attn_kv {
    int64_t S, H, K, D, page, max_pages;
    const int32_t *cu_new;      /* [S + 1] */
    const int32_t *kv_len;      /* [S], new tokens included */
    const void *const *k_pages; /* [S, max_pages] */
    const void *const *v_pages;
    float scale, softcap;
    int64_t window;
} dc_attn_kv;

typedef void dc_attn_decode_fn(dc_dev *dev, dc_view o /* [n, H, D] */, dc_cview q /* [n, H, D] */, const dc_attn_kv *a);

typedef enum dc_act { DC_ACT_SILU, DC_ACT_GELU_TANH, DC_ACT_GELU_ERF } dc_act;

/* Gated activation: y = act(gate) * up. Backward sets dgate and dup (each may be its input's buffer). */
typedef void dc_glu_fwd_fn(dc_dev *dev, dc_view y, dc_cview gate, dc_cview up, int64_t n, dc_act act);
typedef void dc_glu_bwd_fn(dc_dev *dev, dc_view dgate, dc_view dup, dc_cview dy, dc_cview gate, dc_cview up, int64_t n,
                           dc_act act);

/* y[t] = scale * table[ids[t]]; ids are in [0, V). Backward: dtable[ids[t]] += scale * dy[t], in the order of t. */
typedef void dc_embed_fwd_fn(dc_dev *dev, dc_view y /* [T, C] */, const int32_t *ids /* [T] */,
                             dc_cview table /* [V, C] */, int64_t T, int64_t C, int64_t V, float scale);
typedef void dc_embed_bwd_fn(dc_dev *dev, float *dtable /* [V, C], accumulated */, const int32_t *ids, dc_cview dy,
                             int64_t T, int64_t C, int64_t V, float scale);

/* Loss and gradient of M rows of logits, in place: logits go in, d(loss)/d(logits) comes out. Per row m
 *     loss = w_ce * CE + w_kd * KD,   CE = lse(z) - z[label]   (0 and no gradient when label < 0),
 * with z the logits (softcap and scale already applied) and one of these targets for KD, at temperature t = `temperature`:
 *   sparse, tail 0 (sampled targets, arXiv 2503.16870): targets p_i sum to 1;  KD = sum_i p_i (log p_i* - log q_i) where sum p_i log p_i*
 *     is -entropy[m], the teacher's own entropy when stored (NaN or NULL: that term is left out);  gradient q - p.
 *   sparse, tail 1 (top-k): targets sum to 1 - tail mass; KL over the k entries and one bucket for the rest,
 *     bucket gradient shared over outside tokens in proportion to q: for i outside q_i (1 - p_tail / q_tail).
 *   dense: teacher logits [M, V]: KD = KL(softmax(zt / t) || softmax(z / t)); gradient q - p.
 * q = softmax(z / t). The gradient of KD carries 1/t; `kd_scale` (t^2 or 1) multiplies KD and its gradient alike.
 * Everything is finite for finite logits, -inf excepted (a masked vocabulary entry: q = 0, gradient 0). */
typedef enum dc_kd_kind { DC_KD_NONE, DC_KD_SAMPLED, DC_KD_TOPK_TAIL, DC_KD_DENSE } dc_kd_kind;

typedef struct dc_loss {
    int64_t M, V, ld;      /* ld: distance between rows of logits, >= V */
    const int32_t *labels; /* [M], -1: none; NULL when no row has one */
    const float *w_ce;     /* [M] or NULL: 0 */
    const float *w_kd;     /* [M] or NULL: 0 */
    dc_kd_kind kind;
    float temperature, kd_scale;
    const int64_t *first; /* [M + 1]: row m has sparse entries first[m] .. first[m+1] */
    const int32_t *ids;   /* sparse ids, distinct within a row */
    const float *p;       /* their probabilities at `temperature` */
    const float *entropy; /* [M] teacher's entropy at `temperature`, or NULL */
    const float *teacher; /* [M, V], distance V: dense */
    /* results, each [M] or NULL */
    float *ce;       /* CE, not weighted */
    float *kd;       /* KD times kd_scale, not weighted by w_kd */
    float *lse;      /* log sum exp(z) at temperature 1 */
    int32_t *top1;   /* argmax of z, the lowest id of equals */
    int no_gradient; /* evaluation: logits are left as they are */
} dc_loss;

typedef void dc_loss_fn(dc_dev *dev, float *logits /* [M, V] in: z, out: gradient */, const dc_loss *loss);

/* AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), PyTorch's order of operations, step from 1:
 *     g = grad_scale * g,  p -= lr * weight_decay * p,  m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,
 *     p -= lr * (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps).
 * grad_scale is the clipping factor, as torch.nn.utils.clip_grad_norm_ gives it. The scalars are doubles, as in Python: 1 - 0.999f is
 * off by 1.3e-5 of its value. */
typedef struct dc_adamw {
    double lr, beta1, beta2, eps, weight_decay, grad_scale;
    int64_t step;
} dc_adamw;

/* A tensor of the list that one call updates: its rate is lr * lr_scale; without `decay` its weight_decay is 0. */
typedef struct dc_adamw_item {
    float *p, *m, *v; /* [n] */
    const float *g;
    int64_t n;
    double lr_scale;
    int decay;
} dc_adamw_item;

typedef void dc_adamw_fn(dc_dev *dev, const dc_adamw_item *items /* [n_items], on the host */, size_t n_items,
                         const dc_adamw *a);

/* out[i] = sum x^2 over item i in double, summed in blocks of fixed size. `out` is on the host and valid after dc_dev_sync. */
typedef struct dc_floats {
    const float *data;
    int64_t n;
} dc_floats;

typedef void dc_sumsq_fn(dc_dev *dev, double *out /* [n_items] */, const dc_floats *items /* on the host */,
                         size_t n_items);

/* y = a + b (y may be either). y += alpha * x. y = value everywhere. */
typedef void dc_add_fn(dc_dev *dev, dc_view y, dc_cview a, dc_cview b, int64_t n);
typedef void dc_axpy_fn(dc_dev *dev, float *y, const float *x, float alpha, int64_t n);
typedef void dc_fill_fn(dc_dev *dev, dc_view y /* F32 or activations */, float value, int64_t n);

/* y = x, rounded to the type of activations. */
typedef void dc_narrow_fn(dc_dev *dev, dc_view y, const float *x, int64_t n);

/* Capped logits, in place: x = cap * tanh(x / cap). Backward, from the capped y: dx *= 1 - (y / cap)^2. */
typedef void dc_softcap_fwd_fn(dc_dev *dev, float *x, int64_t n, float cap);
typedef void dc_softcap_bwd_fn(dc_dev *dev, float *dx, const float *y, int64_t n, float cap);

/* Dropout with a mask that is a function of (seed, step, place, element) alone (core/rng.h, stream DC_RNG_DROPOUT, a = element / 4 with the
 * upper bits from step, b = place): y = x * keep / (1 - p), or y += with `accumulate`, which serves the backward. y may be x. */
typedef struct dc_dropout {
    float p;
    uint64_t seed;
    uint32_t place;
    const uint32_t *step; /* on the device: work that was recorded finds another number there each time */
} dc_dropout;

typedef void dc_dropout_fn(dc_dev *dev, dc_view y, dc_cview x, int64_t n, const dc_dropout *d, int accumulate);

/* y[m] = x[rows[m]];  and back: y[rows[m]] += x[m], rows distinct. */
typedef void dc_gather_fn(dc_dev *dev, dc_view y /* [M, C] */, dc_cview x /* [T, C] */, const int32_t *rows, int64_t M,
                          int64_t C);
typedef void dc_scatter_add_fn(dc_dev *dev, dc_view y /* [T, C] */, dc_cview x /* [M, C] */, const int32_t *rows,
                               int64_t M, int64_t C);

/* out[c] += sum_t x[t,c]: the gradient of a bias. */
typedef void dc_colsum_fn(dc_dev *dev, float *out /* [C] */, dc_cview x /* [T, C] */, int64_t T, int64_t C);

/* The index of the first value that is not finite, or -1; *out is on the host and valid after dc_dev_sync. */
typedef void dc_nonfinite_fn(dc_dev *dev, int64_t *out, dc_cview x, int64_t n);

/* Rows of a stored weight as float: out[r] = row rows[r] (or row r when rows is NULL). */
typedef void dc_dequant_fn(dc_dev *dev, float *out /* [n, C] */, dc_cview w /* [*, C] */, const int32_t *rows,
                           int64_t n, int64_t C);

/* The list. Everything that must exist once per op is made from it: table, reference table, test registry. */
/* clang-format off */
#define DC_OPS(X) \
    X(gemm) \
    X(rmsnorm_fwd) \
    X(rmsnorm_bwd) \
    X(rope) \
    X(attn_fwd) X(attn_bwd) X(attn_decode) X(glu_fwd) X(glu_bwd) X(embed_fwd) X(embed_bwd) X(loss) X(adamw) X(sumsq) \
        X(add) X(axpy) X(fill) X(narrow) X(softcap_fwd) X(softcap_bwd) X(dropout) X(gather) X(scatter_add) X(colsum) X(nonfinite) X(dequant)
/* clang-format on */

typedef struct dc_ops {
#define DC_OPS_FIELD(name) dc_##name##_fn *name;
    DC_OPS(DC_OPS_FIELD)
#undef DC_OPS_FIELD
} dc_ops;

/* Fills *ops for a CPU: the reference first, then each overlay whose bits are all in `features` (kernels/cpu.h). Asking for more than
 * dc_cpu_found() is allowed: the code is there, calling it is not. */
void dc_cpu_ops(dc_ops *ops, unsigned features);

#ifdef __cplusplus
}
#endif
#endif
