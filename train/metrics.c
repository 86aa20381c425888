/* train/metrics.c */
#include "train/metrics.h"

#include <math.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"

int dc_metrics_open(dc_metrics *m, const char *dir, int64_t bytes, dc_error *err)
{
    *m = (dc_metrics){0};
    m->path = dc_path_join(dir, "metrics.jsonl");
    if (!m->path) return dc_fail_memory(err, 0, "a path");
    const int64_t there = dc_file_size(m->path);
    m->file = fopen(m->path, there >= 0 ? "r+" : "w");
    m->bytes = there < bytes ? (there < 0 ? 0 : there) : bytes;
    if (!m->file || ftruncate(fileno(m->file), (off_t)m->bytes) || fseeko(m->file, (off_t)m->bytes, SEEK_SET)) {
        const int rc = dc_fail_errno(err, "write", m->path);
        dc_metrics_close(m);
        return rc;
    }
    return DC_OK;
}

static int put(dc_metrics *m, dc_str *line, dc_error *err)
{
    int rc = DC_OK;
    if (line->failed) rc = dc_fail_memory(err, line->n, "a line of metrics");
    else if (fwrite(line->data, 1, line->n, m->file) != line->n || fflush(m->file))
        rc = dc_fail_errno(err, "write", m->path);
    else m->bytes += (int64_t)line->n;
    dc_str_release(line);
    return rc;
}

/* A number as JSON has it: NaN and infinity are none there. */
static void put_number(dc_str *line, const char *key, double value)
{
    if (isfinite(value)) dc_str_putf(line, ", \"%s\": %.9g", key, value);
    else dc_str_putf(line, ", \"%s\": null", key);
}

int dc_metrics_step(dc_metrics *m, const dc_step_line *l, dc_error *err)
{
    dc_str line = {0};
    dc_str_putf(&line, "{\"step\": %lld", (long long)l->step);
    put_number(&line, "loss", l->sums.loss / l->denominator);
    put_number(&line, "ce", l->sums.ce / l->denominator);
    if (l->kd) put_number(&line, "kd", l->sums.kd / l->denominator);
    put_number(&line, "grad_norm", l->grad_norm);
    put_number(&line, "learning_rate", l->learning_rate);
    dc_str_putf(&line, ", \"tokens\": %lld, \"trained_tokens\": %.0f, \"seconds\": %.4f}\n", (long long)l->tokens,
                l->sums.rows, l->seconds);
    return put(m, &line, err);
}

int dc_metrics_eval(dc_metrics *m, int64_t step, const dc_losses *s, int kd, double seconds, dc_error *err)
{
    dc_str line = {0};
    const double w = s->weight > 0 ? s->weight : 1;
    dc_str_putf(&line, "{\"step\": %lld", (long long)step);
    put_number(&line, "eval_loss", s->loss / w);
    put_number(&line, "eval_ce", s->ce / w);
    if (kd) put_number(&line, "eval_kd", s->kd / w);
    dc_str_putf(&line, ", \"eval_accuracy\": %.6g, \"eval_tokens\": %.0f, \"eval_seconds\": %.4f}\n",
                s->top1 / (s->rows > 0 ? s->rows : 1), s->rows, seconds);
    return put(m, &line, err);
}

void dc_metrics_close(dc_metrics *m)
{
    if (m->file) fclose(m->file);
    dc_free(m->path);
    *m = (dc_metrics){0};
}
