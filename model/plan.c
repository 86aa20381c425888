/* model/plan.c -- making and freeing a plan, and what it says about itself. */
#include "model/plan_private.h"

#include <string.h>

#include "core/arena.h"

static const char *const names[] = {
#define STEP_TEXT(name, text) text,
    DC_STEPS(STEP_TEXT)
#undef STEP_TEXT
};

const char *dc_step_name(dc_step_op op) { return names[op]; }

static int check_options(const dc_plan_options *o, dc_error *err)
{
    DC_ASSERT(o->max_tokens > 0 && o->max_docs > 0 && o->max_rows >= 0 && o->max_rows <= o->max_tokens);
    DC_ASSERT(o->adapter >= -1 && o->adapter < DC_ADAPTERS);
    if (o->max_tokens > INT32_MAX)
        return dc_fail(err, DC_EUSAGE, "%lld tokens in one pass: at most %d are possible", (long long)o->max_tokens,
                       INT32_MAX);
    return DC_OK;
}

/* A plan with its program and layout, without its arena. */
static int plan_compile(dc_plan **out, dc_model *m, const dc_plan_options *options, dc_error *err)
{
    int rc = DC_OK;
    dc_plan *p = dc_calloc(1, sizeof *p);
    if (!p) return dc_fail_memory(err, sizeof *p, "a plan");
    p->m = m, p->dev = m->dev, p->o = *options;
    if (!p->o.max_rows) p->o.max_rows = p->o.max_tokens;
    DC_TRY(check_options(&p->o, err));
    DC_TRY(dc_plan_build(p, err));
    if (p->o.backward) DC_TRY(dc_plan_mirror(p, err));
    DC_TRY(dc_plan_layout(p, err));
    *out = p, p = NULL;
done:
    dc_plan_free(p);
    return rc;
}

/* An allocation may be promised that is not there; a job that is too large is to fail here, not hours later. */
static int check_memory(const dc_plan *p, dc_error *err)
{
    const double have = (double)dc_dev_memory_bytes(p->dev);
    const double want = (double)p->arena_bytes + (double)dc_dev_scratch_bytes(p->dev);
    if (have <= 0 || want <= have) return DC_OK;
    char a[32], b[32];
    return dc_fail(err, DC_ENOMEM,
                   "a pass over %lld tokens takes %s, this device has %s: lower max_length or the batch size%s",
                   (long long)p->o.max_tokens, dc_human_bytes(a, sizeof a, want), dc_human_bytes(b, sizeof b, have),
                   p->o.backward && !p->o.checkpoint ? ", or set train.gradient_checkpointing" : "");
}

int dc_plan_new(dc_plan **out, dc_model *m, const dc_plan_options *options, dc_error *err)
{
    int rc = DC_OK;
    dc_plan *p = NULL;
    void *arena;
    DC_TRY(plan_compile(&p, m, options, err));
    DC_TRY(check_memory(p, err));
    p->cu_seqlens = dc_calloc((size_t)p->o.max_docs + 1, sizeof *p->cu_seqlens);
    if (!p->cu_seqlens) DC_TRY(dc_fail_memory(err, ((size_t)p->o.max_docs + 1) * sizeof *p->cu_seqlens, "a plan"));
    DC_TRY(dc_dev_alloc(p->dev, &arena, p->arena_bytes, "activations", err));
    p->arena = arena;
    dc_plan_record_init(p);
    *out = p, p = NULL;
done:
    dc_plan_free(p);
    return rc;
}

void dc_plan_free(dc_plan *p)
{
    if (!p) return;
    dc_plan_record_release(p);
    dc_dev_free(p->dev, p->arena);
    dc_free(p->cu_seqlens);
    dc_free(p->steps);
    dc_free(p->buffers);
    dc_free(p);
}

int dc_plan_forecast(size_t *bytes, dc_model *m, const dc_plan_options *options, dc_error *err)
{
    dc_plan *p = NULL;
    const int rc = plan_compile(&p, m, options, err);
    if (rc == DC_OK) *bytes = dc_plan_bytes(p);
    dc_plan_free(p);
    return rc;
}

dc_model *dc_plan_model(const dc_plan *p) { return p->m; }
const dc_plan_options *dc_plan_options_of(const dc_plan *p) { return &p->o; }
size_t dc_plan_bytes(const dc_plan *p) { return p->arena_bytes; }

static dc_view view(const dc_plan *p, int buffer)
{
    const dc_view v = {buffer >= 0 ? p->arena + p->buffers[buffer].offset : NULL, p->dev->activation};
    return v;
}

dc_view dc_plan_hidden(const dc_plan *p) { return view(p, p->hidden); }
dc_view dc_plan_hidden_grad(const dc_plan *p) { return view(p, p->hidden_grad); }

void dc_plan_profile(dc_plan *p, int on)
{
    p->profile = on;
    memset(p->times, 0, sizeof p->times);
}

size_t dc_plan_profile_rows(dc_plan *p, dc_profile_row *rows, size_t room)
{
    size_t n = 0;
    for (int op = 0; op < DC_STEP_OPS; op++) {
        const dc_step_time *t = &p->times[op];
        if (t->calls && n < room) rows[n++] = (dc_profile_row){names[op], t->seconds, t->flops, t->bytes, t->calls};
    }
    memset(p->times, 0, sizeof p->times);
    return n;
}
