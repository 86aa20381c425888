/* train/loop.c */
#include "train/loop.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "core/stop.h"
#include "train/ckpt.h"
#include "train/metrics.h"

typedef struct loop {
    const dc_trainer *t;
    dc_train_options o; /* with totals filled in */
    dc_train_state s;
    dc_metrics metrics;
    dc_progress bar;
    dc_train_result *out;
    int64_t saved_step;  /* of the last checkpoint, -1: none */
    int64_t tokens_here; /* by this process */
    double began;
    dc_adamw_item *items; /* the parameters, each with its part of the moments */
} loop;

/* The micro-batches of one optimizer step. A step never crosses the end of an epoch: HF's Trainer closes it there as well. */
typedef struct window {
    int64_t n;
    double denominator;
} window;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void set_totals(loop *l)
{
    const int64_t a_step = l->o.gradient_accumulation_steps > 0 ? l->o.gradient_accumulation_steps : 1;
    l->o.gradient_accumulation_steps = a_step;
    if (l->o.max_steps <= 0) {
        const int64_t an_epoch =
            ceil_div(ceil_div(dc_loader_epoch_batches(l->t->loader), dc_comm_size(l->t->comm)), a_step);
        l->o.max_steps = (int64_t)ceil(l->o.num_train_epochs * (double)an_epoch);
    }
    l->o.schedule.total_steps = l->o.max_steps;
    if (!l->o.schedule.warmup_steps)
        l->o.schedule.warmup_steps = (int64_t)ceil((double)l->o.max_steps * l->o.warmup_ratio);
}

static int measure(loop *l, window *w, dc_error *err)
{
    const dc_trainer *t = l->t;
    const dc_position begin = dc_loader_position(t->loader);
    int ended = 0;
    *w = (window){0};
    while (w->n < l->o.gradient_accumulation_steps && !ended) {
        dc_packed batch;
        double weight;
        int rc = dc_loader_next(t->loader, &batch, &ended, err);
        if (rc == DC_OK) rc = t->objective->measure(t->objective, &batch, &weight, err);
        if (rc != DC_OK) return rc;
        w->denominator += weight;
        w->n++;
    }
    dc_loader_seek(t->loader, begin);
    const int rc = dc_comm_sum_doubles(t->comm, &w->denominator, 1, err);
    if (rc != DC_OK) return rc;
    if (!(w->denominator > 0))
        return dc_fail(err, DC_EMISMATCH, "step %" PRId64 ": the batch has no trained token", l->s.step + 1);
    return DC_OK;
}

/* `step` is counted from 1, as in metrics.jsonl. */
static int not_finite(loop *l, int64_t step, const char *found, dc_error *err)
{
    dc_str what = {0};
    char last[64] = "none";
    if (l->saved_step >= 0) snprintf(last, sizeof last, "step %" PRId64, l->saved_step);
    const int known = dc_plan_find_nonfinite(l->t->plan, &what);
    const int rc = dc_fail(err, DC_ENUMERIC,
                           "step %" PRId64
                           ": %s%s%s.\nLast good checkpoint: %s. Likely: learning_rate %g is high, or the data hold "
                           "something odd (see docs/troubleshooting.md#non-finite).",
                           step, found, known ? "; first non-finite value in " : "", known ? dc_str_text(&what) : "",
                           last, l->o.schedule.learning_rate);
    dc_str_release(&what);
    return rc;
}

/* A signal reaches the ranks at different moments: all stop, in front of the same step, when one of them was asked to. */
static int stop_agreed(const loop *l, dc_error *err)
{
    int number = dc_stop_requested();
    if (dc_comm_size(l->t->comm) == 1) return DC_OK; /* polled at every micro-batch */
    const int rc = dc_comm_max(l->t->comm, &number, err);
    if (rc != DC_OK || !number) return rc;
    dc_stop_request(number);
    return dc_stop_check(l->t->stage, err);
}

/* What the ranks did becomes one: gradients, losses, tokens. */
static int join_ranks(const loop *l, dc_losses *sums, int64_t *tokens, dc_error *err)
{
    const dc_params *p = l->t->params;
    double x[] = {sums->loss, sums->ce, sums->kd, sums->rows, sums->top1, sums->weight, (double)*tokens};
    if (dc_comm_size(l->t->comm) == 1) return DC_OK;
    const int flat = p->flat_grads.n > 0;
    int rc = dc_comm_sum(l->t->comm, flat ? &p->flat_grads : p->grads, flat ? 1 : p->n, err);
    if (rc == DC_OK) rc = dc_comm_sum_doubles(l->t->comm, x, sizeof x / sizeof *x, err);
    *sums = (dc_losses){x[0], x[1], x[2], x[3], x[4], x[5]};
    *tokens = (int64_t)x[6];
    return rc;
}

/* Forward, loss and backward of the window's micro-batches. */
static int accumulate(loop *l, const window *w, dc_losses *sums, int64_t *tokens, dc_error *err)
{
    const dc_trainer *t = l->t;
    const int64_t ranks = dc_comm_size(t->comm), rank = dc_comm_rank(t->comm);
    dc_params_zero_grad(t->params);
    for (int64_t i = 0; i < w->n; i++) {
        dc_packed packed;
        int rc = ranks == 1 ? dc_stop_check(t->stage, err) : DC_OK;
        if (rc == DC_OK) rc = dc_loader_next(t->loader, &packed, NULL, err);
        if (rc != DC_OK) return rc;
        const dc_batch batch = dc_batch_of(&packed);
        const dc_run run = {
            .adapter = t->adapter, .training = 1, .seed = l->o.seed, .step = (uint32_t)(l->s.micro + i * ranks + rank)};
        dc_forward(t->plan, &batch, &run);
        rc = t->objective->run(t->objective, t->plan, &packed, &run, w->denominator, 1, sums, err);
        if (rc != DC_OK) return rc;
        if (!isfinite(sums->loss)) {
            char found[64];
            snprintf(found, sizeof found, "the loss is not finite (%g)", sums->loss);
            return not_finite(l, l->s.step + 1, found, err);
        }
        dc_backward(t->plan);
        *tokens += packed.T;
    }
    return join_ranks(l, sums, tokens, err);
}

/* AdamW over all parameters; the clipping factor is torch.nn.utils.clip_grad_norm_'s. */
static void update(loop *l, double norm, double rate)
{
    const dc_params *p = l->t->params;
    dc_adamw a = l->o.adamw;
    const double clip = l->o.max_grad_norm > 0 ? l->o.max_grad_norm / (norm + 1e-6) : 1;
    a.grad_scale = clip < 1 ? clip : 1;
    a.step = l->s.step + 1;
    a.lr = rate;
    p->dev->op.adamw(p->dev, l->items, p->n, &a);
}

static void show(loop *l, const dc_losses *sums, double denominator)
{
    char note[160];
    int n = snprintf(note, sizeof note, "step %" PRId64 "/%" PRId64 " · loss %.3f", l->s.step, l->o.max_steps,
                     sums->loss / denominator);
    if (l->t->objective->has_kd && n > 0 && n < (int)sizeof note)
        snprintf(note + n, sizeof note - (size_t)n, " (kd %.3f ce %.3f)", sums->kd / denominator,
                 sums->ce / denominator);
    dc_progress_update(&l->bar, l->s.step, note, (double)l->tokens_here / (dc_now() - l->began), "tok/s");
    if (l->o.logging_steps > 0 && l->s.step % l->o.logging_steps == 0)
        dc_log(DC_LOG_DEBUG, "%s  %s", l->t->stage, note);
}

static int step(loop *l, dc_error *err)
{
    window w;
    dc_losses sums = {0};
    double norm;
    dc_step_line line = {.step = l->s.step + 1, .kd = l->t->objective->has_kd};
    const double began = dc_now();
    int rc = stop_agreed(l, err);
    if (rc == DC_OK) rc = measure(l, &w, err);
    if (rc == DC_OK) rc = accumulate(l, &w, &sums, &line.tokens, err);
    if (rc != DC_OK) return rc;
    dc_error found = {0};
    rc = dc_params_grad_norm(l->t->params, &norm, &found);
    if (rc == DC_ENUMERIC) return not_finite(l, l->s.step + 1, found.message, err);
    if (rc != DC_OK) return dc_fail(err, rc, "%s", found.message);
    line.learning_rate = dc_schedule_rate(&l->o.schedule, l->s.step);
    update(l, norm, line.learning_rate);
    rc = dc_dev_sync(l->t->params->dev, err);
    if (rc != DC_OK) return rc;
    l->s.step++;
    l->s.micro += w.n * dc_comm_size(l->t->comm);
    l->s.tokens += line.tokens;
    l->s.trained_tokens += (int64_t)sums.rows;
    l->s.position = dc_loader_position(l->t->loader);
    l->tokens_here += line.tokens;
    line.denominator = w.denominator, line.grad_norm = norm, line.seconds = dc_now() - began, line.sums = sums;
    l->s.loss = sums.loss / w.denominator;
    if (dc_comm_rank(l->t->comm)) return DC_OK;
    rc = dc_metrics_step(&l->metrics, &line, err);
    if (rc == DC_OK) show(l, &sums, w.denominator);
    return rc;
}

static int save(loop *l, dc_error *err)
{
    if (l->saved_step == l->s.step) return DC_OK;
    if (dc_comm_rank(l->t->comm)) {
        l->saved_step = l->s.step;
        return DC_OK;
    }
    l->s.metrics_lines = l->metrics.lines;
    const int rc = dc_ckpt_save(l->t->dir, &l->s, l->t->params, l->t->recipe, l->o.save_total_limit, err);
    if (rc == DC_OK) l->saved_step = l->s.step;
    return rc;
}

static int evaluate(loop *l, dc_error *err)
{
    const dc_trainer *t = l->t;
    if (!t->eval_loader || (l->s.step > 0 && l->s.evaluated == l->s.step)) return DC_OK;
    dc_objective *o = t->eval_objective ? t->eval_objective : t->objective;
    dc_losses sums = {0};
    const double began = dc_now();
    int rc = dc_evaluate(t->plan, o, t->eval_loader, t->adapter, NULL, t->comm, &sums, err);
    if (rc != DC_OK) return rc;
    if (!isfinite(sums.loss)) return not_finite(l, l->s.step, "the evaluation's loss is not finite", err);
    const double w = sums.weight > 0 ? sums.weight : 1;
    l->s.eval_loss = sums.loss / w;
    l->s.eval_kd = o->has_kd ? sums.kd / w : (double)NAN;
    l->s.evaluated = l->s.step;
    if (!dc_comm_rank(t->comm)) rc = dc_metrics_eval(&l->metrics, l->s.step, &sums, o->has_kd, dc_now() - began, err);
    l->began += dc_now() - began; /* the rate is of training alone */
    return rc;
}

static int due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

static int run(loop *l, dc_error *err)
{
    int rc = DC_OK;
    /* A step is saved before it is evaluated: a checkpoint then has the same bytes whether or not its evaluation was stopped, which the
     * resumed run does again. */
    if (l->s.step > 0 ? due(l->s.step, l->o.eval_steps) : l->o.eval_on_start) DC_TRY(evaluate(l, err));
    while (l->s.step < l->o.max_steps) {
        DC_TRY(step(l, err));
        if (due(l->s.step, l->o.save_steps) || l->s.step == l->o.max_steps) DC_TRY(save(l, err));
        if (due(l->s.step, l->o.eval_steps)) DC_TRY(evaluate(l, err));
    }
    DC_TRY(evaluate(l, err));
done:
    if (rc == DC_ESTOPPED && l->s.step > 0) {
        dc_error failed = {0};
        if (save(l, &failed) != DC_OK) dc_log(DC_LOG_ERROR, "no checkpoint at the stop: %s", failed.message);
        else
            dc_log(DC_LOG_INFO, "%s  saved step %" PRId64 " of %" PRId64 " in %s; the same command goes on from there",
                   l->t->stage, l->s.step, l->o.max_steps, l->t->dir);
    }
    return rc;
}

static int list_items(loop *l, dc_error *err)
{
    const dc_params *p = l->t->params;
    l->items = dc_calloc(p->n ? p->n : 1, sizeof *l->items);
    if (!l->items) return dc_fail_memory(err, p->n * sizeof *l->items, "the optimizer's list");
    int64_t at = 0;
    for (size_t i = 0; i < p->n; i++) {
        const dc_param *q = &p->items[i];
        l->items[i] = (dc_adamw_item){q->data, l->s.m + at, l->s.v + at, q->grad, q->n, (double)q->lr_scale, q->decay};
        at += q->n;
    }
    return DC_OK;
}

static int start(loop *l, dc_error *err)
{
    int rc = DC_OK, found = 0;
    const dc_trainer *t = l->t;
    const size_t bytes = (size_t)dc_params_count(t->params) * sizeof(float);
    void *memory = NULL;
    DC_TRY(dc_dev_alloc(t->params->dev, &memory, bytes, "AdamW's first moments", err));
    l->s.m = memory;
    DC_TRY(dc_dev_alloc(t->params->dev, &memory, bytes, "AdamW's second moments", err));
    l->s.v = memory;
    const int64_t n = dc_params_count(t->params);
    t->params->dev->op.fill(t->params->dev, dc_floats_view(l->s.m), 0, n);
    t->params->dev->op.fill(t->params->dev, dc_floats_view(l->s.v), 0, n);
    DC_TRY(list_items(l, err));
    set_totals(l);
    if (!dc_comm_rank(t->comm)) {
        DC_TRY(dc_mkdirs(t->dir, err));
        if (t->restart) DC_TRY(dc_ckpt_clear(t->dir, err));
    }
    DC_TRY(dc_comm_barrier(t->comm, err));
    DC_TRY(dc_ckpt_load(t->dir, &found, &l->s, t->params, t->recipe, t->recipe_stages, err));
    for (size_t i = 0; i < t->params->n; i++) {
        const dc_floats one = {t->params->items[i].data, t->params->items[i].n};
        DC_TRY(dc_comm_share(t->comm, &one, 1, err));
    }
    l->out->resumed = found;
    l->saved_step = found ? l->s.step : -1;
    l->s.position = found ? l->s.position : (dc_position){0};
    dc_loader_seek(t->loader, l->s.position);
    if (found)
        dc_log(DC_LOG_INFO, "%s  goes on behind step %" PRId64 " of %" PRId64, t->stage, l->s.step, l->o.max_steps);
    if (!dc_comm_rank(t->comm)) DC_TRY(dc_metrics_open(&l->metrics, t->dir, l->s.metrics_lines, err));
done:
    return rc;
}

int dc_train(const dc_trainer *t, dc_train_result *out, dc_error *err)
{
    int rc = DC_OK;
    loop l = {.t = t, .o = t->options, .out = out};
    *out = (dc_train_result){0};
    l.s.loss = l.s.eval_loss = l.s.eval_kd = (double)NAN;
    DC_TRY(start(&l, err));
    const double began = dc_now();
    l.began = began;
    dc_progress_begin(&l.bar, t->stage, l.o.max_steps);
    rc = run(&l, err);
    dc_progress_end(&l.bar);
    out->seconds = dc_now() - began;
    out->steps = l.s.step, out->tokens = l.s.tokens, out->trained_tokens = l.s.trained_tokens;
    out->loss = l.s.loss, out->eval_loss = l.s.eval_loss, out->eval_kd = l.s.eval_kd;
done:
    dc_metrics_close(&l.metrics);
    dc_dev_free(t->params->dev, l.s.m);
    dc_dev_free(t->params->dev, l.s.v);
    dc_free(l.items);
    return rc;
}

int dc_evaluate(dc_plan *plan, dc_objective *objective, dc_loader *loader, int adapter, const char *stage,
                dc_comm *comm, dc_losses *out, dc_error *err)
{
    int rc = DC_OK, ended = 0;
    dc_progress bar;
    const int64_t all = dc_loader_epoch_batches(loader), ranks = dc_comm_size(comm);
    if (stage) dc_progress_begin(&bar, stage, all);
    dc_loader_seek(loader, (dc_position){0});
    for (int64_t i = dc_comm_rank(comm); !ended; i += ranks) {
        dc_packed packed;
        const dc_run run = {.adapter = adapter};
        if (ranks == 1) DC_TRY(dc_stop_check("evaluation", err));
        DC_TRY(dc_loader_next(loader, &packed, &ended, err));
        if (i >= all) break; /* the last round does not suffice for all ranks */
        const dc_batch batch = dc_batch_of(&packed);
        dc_forward(plan, &batch, &run);
        DC_TRY(objective->run(objective, plan, &packed, &run, 1, 0, out, err));
        if (stage) dc_progress_update(&bar, i + 1, NULL, 0, NULL);
    }
    double x[] = {out->loss, out->ce, out->kd, out->rows, out->top1, out->weight};
    DC_TRY(dc_comm_sum_doubles(comm, x, sizeof x / sizeof *x, err));
    *out = (dc_losses){x[0], x[1], x[2], x[3], x[4], x[5]};
done:
    if (stage) dc_progress_end(&bar);
    return rc;
}
