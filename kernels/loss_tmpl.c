/* kernels/loss_tmpl.c -- cross-entropy and distillation in plain C, the specification of every faster one.
 *
 * Included by loss_ref.c (REAL float) and loss_oracle.c (REAL double), which define REAL and EXP. Sums over the vocabulary are in double.
 * With m the largest logit, t the temperature:  s1 = sum exp(z - m),  st = sum exp((z - m) / t),  log q_i = (z_i - m) / t - log st. */

enum { BLOCK = 2048 };

/* A row on its way from logits to results. */
typedef struct row {
    REAL *z;
    int64_t V, n;       /* n sparse entries */
    const int32_t *ids; /* [n] */
    const float *p;     /* [n] */
    const float *zt;    /* teacher, dense */
    double t;
    int32_t top1;
    REAL max, max_out, max_t;  /* of all logits, of those outside the k entries, of the teacher's */
    double s1, st, s_out, s_t; /* sums of exp relative to these, the last three at temperature t */
    double mass, p_tail;
} row;

static int masked(REAL z) { return z == -(REAL)INFINITY; }

/* inside[i] = 1 + the entry that has id lo + i, or 0. */
static void mark(int32_t *inside, const row *r, int64_t lo, int64_t hi)
{
    for (int64_t i = lo; i < hi; i++) inside[i - lo] = 0;
    for (int64_t e = 0; e < r->n; e++)
        if (r->ids[e] >= lo && r->ids[e] < hi) inside[r->ids[e] - lo] = (int32_t)(e + 1);
}

static void sum_all(row *r)
{
    r->max = -(REAL)INFINITY, r->top1 = 0, r->s1 = r->st = 0;
    for (int64_t i = 0; i < r->V && !isnan(r->max); i++) /* a NaN stays: a row of nothing else must not look masked */
        if (!(r->z[i] <= r->max)) r->max = r->z[i], r->top1 = (int32_t)i;
    if (masked(r->max)) return;
    for (int64_t i = 0; i < r->V; i++) {
        r->s1 += (double)EXP(r->z[i] - r->max);
        r->st += (double)EXP((r->z[i] - r->max) / (REAL)r->t);
    }
}

/* The sum over what is outside the k entries, added up alone: all minus the k entries would cancel when they hold nearly everything. */
static void sum_outside(row *r)
{
    int32_t inside[BLOCK];
    r->max_out = -(REAL)INFINITY, r->s_out = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t lo = 0; lo < r->V; lo += BLOCK) {
            const int64_t hi = lo + BLOCK < r->V ? lo + BLOCK : r->V;
            mark(inside, r, lo, hi);
            for (int64_t i = lo; i < hi; i++) {
                if (inside[i - lo] || masked(r->z[i])) continue;
                if (pass == 0 && r->z[i] > r->max_out) r->max_out = r->z[i];
                if (pass == 1) r->s_out += (double)EXP((r->z[i] - r->max_out) / (REAL)r->t);
            }
        }
}

/* KD of sparse targets without the teacher's entropy: sum p (log p - log q) when `with_log_p`, else sum -p log q. *total is sum p. */
static double kd_entries(row *r, int with_log_p, double *total)
{
    double kd = 0;
    *total = 0;
    r->mass = 0;
    for (int64_t e = 0; e < r->n; e++) {
        const REAL z = r->z[r->ids[e]];
        const double p = (double)r->p[e];
        *total += p;
        if (masked(z) || p <= 0) continue;
        r->mass += p;
        kd += p * ((with_log_p ? log(p) : 0) - ((double)z - (double)r->max) / r->t + log(r->st));
    }
    return kd;
}

static double kd_sampled(row *r, const dc_loss *l, int64_t m)
{
    double total;
    const double kd = kd_entries(r, 0, &total);
    return r->n && l->entropy && !isnan(l->entropy[m]) ? kd - (double)l->entropy[m] : kd;
}

static double kd_topk(row *r)
{
    sum_outside(r);
    double total, kd = kd_entries(r, 1, &total);
    r->p_tail = total < 1 && !masked(r->max_out) ? 1 - total : 0;
    if (r->p_tail > 0)
        kd += r->p_tail * (log(r->p_tail) - log(r->s_out) + log(r->st) - ((double)r->max_out - (double)r->max) / r->t);
    r->mass += r->p_tail;
    return kd;
}

/* KL(p || q) = sum p (zt - z) / t - log sum exp(zt / t) + log sum exp(z / t). */
static double kd_dense(row *r)
{
    double cross = 0;
    r->max_t = -(REAL)INFINITY, r->s_t = 0;
    for (int64_t i = 0; i < r->V; i++)
        if (!masked(r->z[i]) && (REAL)r->zt[i] > r->max_t) r->max_t = (REAL)r->zt[i];
    if (masked(r->max_t)) return 0;
    for (int64_t i = 0; i < r->V; i++) {
        if (masked(r->z[i]) || masked((REAL)r->zt[i])) continue;
        const double e = (double)EXP(((REAL)r->zt[i] - r->max_t) / (REAL)r->t);
        r->s_t += e;
        cross += e * (((double)r->zt[i] - (double)r->z[i]) / r->t);
    }
    return cross / r->s_t + ((double)r->max - (double)r->max_t) / r->t + log(r->st) - log(r->s_t);
}

/* The teacher's part of the gradient at entry i, which is e - 1 in the sparse list (0: outside). */
static double target(const row *r, dc_kd_kind kind, int64_t i, int32_t e)
{
    if (kind == DC_KD_DENSE)
        return masked(r->max_t) ? 0 : (double)EXP(((REAL)r->zt[i] - r->max_t) / (REAL)r->t) / r->s_t;
    if (e) return (double)r->p[e - 1];
    if (r->p_tail > 0) return r->p_tail * (double)EXP((r->z[i] - r->max_out) / (REAL)r->t) / r->s_out;
    return 0;
}

static void gradient(row *r, const dc_loss *l, int64_t label, double w_ce, double w_kd)
{
    int32_t inside[BLOCK];
    for (int64_t lo = 0; lo < r->V; lo += BLOCK) {
        const int64_t hi = lo + BLOCK < r->V ? lo + BLOCK : r->V;
        mark(inside, r, lo, hi);
        for (int64_t i = lo; i < hi; i++) {
            double g = 0;
            if (!masked(r->z[i])) {
                if (w_ce != 0) g += w_ce * ((double)EXP(r->z[i] - r->max) / r->s1 - (i == label));
                if (w_kd != 0)
                    g += w_kd * (r->mass * (double)EXP((r->z[i] - r->max) / (REAL)r->t) / r->st -
                                 target(r, l->kind, i, inside[i - lo]));
            }
            r->z[i] = (REAL)g;
        }
    }
}

static void loss_row(REAL *z, const dc_loss *l, int64_t m, double *ce, double *kd, double *lse)
{
    row r = {.z = z, .V = l->V, .t = (double)l->temperature, .mass = 1};
    if (l->kind == DC_KD_SAMPLED || l->kind == DC_KD_TOPK_TAIL) {
        r.n = l->first[m + 1] - l->first[m];
        r.ids = l->ids + l->first[m], r.p = l->p + l->first[m];
    } else if (l->kind == DC_KD_DENSE) {
        r.zt = l->teacher + m * l->V;
    }
    const int64_t label = l->labels ? l->labels[m] : -1;
    double w_ce = l->w_ce && label >= 0 ? (double)l->w_ce[m] : 0, w_kd = l->w_kd ? (double)l->w_kd[m] : 0;
    sum_all(&r);
    if (l->top1) l->top1[m] = r.top1;
    *lse = (double)r.max, *ce = label >= 0 ? INFINITY : 0, *kd = 0;
    if (masked(r.max)) {
        w_ce = w_kd = 0;
    } else {
        *lse += log(r.s1);
        if (label >= 0) *ce = log(r.s1) - ((double)z[label] - (double)r.max);
        if (l->kind == DC_KD_SAMPLED) *kd = kd_sampled(&r, l, m);
        if (l->kind == DC_KD_TOPK_TAIL) *kd = kd_topk(&r);
        if (l->kind == DC_KD_DENSE) *kd = kd_dense(&r);
        if (l->kind == DC_KD_NONE || (l->kind == DC_KD_DENSE && masked(r.max_t))) w_kd = 0;
    }
    *kd *= (double)l->kd_scale;
    if (!l->no_gradient) gradient(&r, l, label, w_ce, w_kd * (double)l->kd_scale / r.t);
}
