/* kernels/attn_oracle.c -- the double oracle; linked into tests only. */
#include "kernels/attn.h"

#include <math.h>

#define REAL double
#define EXP  exp
#define LOG  log
#define TANH tanh
#include "kernels/attn_tmpl.c"

void dc_attn_fwd_oracle(double *o, double *lse, const double *q, const double *k, const double *v, const dc_attn *a)
{
    attn_fwd(o, lse, q, k, v, a);
}

void dc_attn_bwd_oracle(double *dq, double *dk, double *dv, const double *d_o, const double *o, const double *lse,
                        const double *q, const double *k, const double *v, const dc_attn *a)
{
    attn_bwd(dq, dk, dv, d_o, o, lse, q, k, v, a);
}

void dc_attn_decode_oracle(double *o, const double *q, const dc_attn_kv *a) { attn_decode(o, q, a); }
