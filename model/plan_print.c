/* model/plan_print.c -- the list for a person, and the search for the first number that is not finite. */
#include "model/plan_private.h"

#include <string.h>

/* The HF name of a weight without its ".weight". */
static void module_name(const dc_weight *w, dc_str *out)
{
    const char *hf = w->spec.hf, *dot = strrchr(hf, '.');
    dc_str_append(out, hf, dot ? (size_t)(dot - hf) : strlen(hf));
}

void dc_step_place(const dc_plan *p, const dc_step *s, dc_str *out)
{
    static const char *const words[DC_STEP_OPS] = {
        [DC_STEP_ROPE] = "rotary embedding",   [DC_STEP_ATTN] = "attention",      [DC_STEP_GLU] = "gated activation",
        [DC_STEP_GATHER] = "rows with a loss", [DC_STEP_OBJECTIVE] = "objective",
    };
    const dc_weight *w = s->linear ? s->linear->w : s->weight;
    if (w) {
        module_name(w, out);
        return;
    }
    /* The layer's name is what its norm's begins with: "model.layers.3" of "model.layers.3.input_layernorm". */
    if (s->layer >= 0) {
        dc_str name = {0};
        module_name(p->m->layers[s->layer].attn_norm, &name);
        const char *dot = name.data ? strrchr(name.data, '.') : NULL;
        if (dot) dc_str_append(out, name.data, (size_t)(dot - name.data));
        dc_str_putc(out, ' ');
        dc_str_release(&name);
    }
    dc_str_puts(out, words[s->op] ? words[s->op] : dc_step_name(s->op));
}

/* "d gate.3" is a gradient, "gate.3'" a value made again. */
static void print_buffer(const dc_plan *p, int number, dc_str *out)
{
    const dc_buffer *b = &p->buffers[number];
    dc_str_putf(out, " %s%s", b->kind == DC_BUFFER_GRADIENT ? "d_" : "", b->name);
    if (b->layer >= 0) dc_str_putf(out, ".%d", b->layer);
    if (b->kind == DC_BUFFER_AGAIN) dc_str_putc(out, '\'');
    if (b->kind != DC_BUFFER_TABLE)
        dc_str_putf(out, "[%c,%lld]", b->rows == DC_SYMBOL_T ? 'T' : 'M', (long long)b->width);
}

static void print_step(const dc_plan *p, int number, dc_str *out)
{
    const dc_step *s = &p->steps[number];
    dc_str place = {0};
    dc_step_place(p, s, &place);
    dc_str_putf(out, "%5d  %-10s %-6s %-38s", number, dc_step_name(s->op), s->again ? "again" : "",
                dc_str_text(&place));
    dc_str_release(&place);
    size_t kept = 0;
    for (int i = 0; i < DC_STEP_OUT; i++) {
        if (s->out[i] < 0) continue;
        const dc_buffer *b = &p->buffers[s->out[i]];
        if (number < p->objective && b->last > p->objective && b->first == number) kept += b->bytes;
        print_buffer(p, s->out[i], out);
    }
    dc_str_puts(out, s->accumulate ? " +=" : " <-");
    for (int i = 0; i < DC_STEP_IN; i++)
        if (s->in[i] >= 0) print_buffer(p, s->in[i], out);
    char text[32];
    if (kept) dc_str_putf(out, "  kept %s", dc_human_bytes(text, sizeof text, (double)kept));
    dc_str_putc(out, '\n');
}

void dc_plan_print(const dc_plan *p, dc_str *out)
{
    char arena[32], live[32];
    dc_str_putf(out, "%d steps, %d buffers; T <= %lld tokens, M <= %lld rows, %lld documents\n", p->n_steps,
                p->n_buffers, (long long)p->o.max_tokens, (long long)p->o.max_rows, (long long)p->o.max_docs);
    dc_str_putf(out, "arena %s, %s alive at the busiest step\n",
                dc_human_bytes(arena, sizeof arena, (double)p->arena_bytes),
                dc_human_bytes(live, sizeof live, (double)p->live_bytes));
    for (int i = 0; i < p->n_steps; i++) print_step(p, i, out);
}

/* Is one of the step's outputs not finite? Then says which. */
static int not_finite(dc_plan *p, const dc_step *s, dc_str *what)
{
    for (int i = 0; i < DC_STEP_OUT; i++) {
        if (s->out[i] < 0) continue;
        const dc_buffer *b = &p->buffers[s->out[i]];
        if (b->kind == DC_BUFFER_SCRATCH) continue;
        const int64_t rows = b->rows == DC_SYMBOL_T ? p->T : p->M;
        /* u is written only when a delta is active. */
        const int low = s->op == DC_STEP_JOINT || (s->op == DC_STEP_LINEAR && i > 0);
        if (!rows || (low && p->run.adapter < 0)) continue;
        int64_t index = -1;
        const dc_cview x = {p->arena + b->offset, b->type};
        p->dev->op.nonfinite(p->dev, &index, x, rows * b->width);
        dc_dev_sync(p->dev, NULL);
        if (index < 0) continue;
        int32_t row = (int32_t)(index / b->width);
        if (b->rows == DC_SYMBOL_M)
            dc_dev_download(p->dev, &row, p->arena + p->buffers[p->rows].offset + (size_t)row * sizeof row, sizeof row);
        dc_step_place(p, s, what);
        dc_str_putf(what, " output, row %d", row);
        return 1;
    }
    return 0;
}

int dc_plan_find_nonfinite(dc_plan *p, dc_str *what)
{
    DC_ASSERT(p->T > 0);
    if (p->kv) return not_finite(p, &p->steps[p->objective - 1], what);
    for (int i = 0; i < p->objective; i++) {
        dc_plan_step(p, &p->steps[i]);
        if (not_finite(p, &p->steps[i], what)) return 1;
    }
    return 0;
}
